"""What a call names, looked for before anything is paid: files by their URLs, voices by their names."""

import logging
from collections.abc import Iterable

import anyio

from sync_mcp.api.links import link_fault
from sync_mcp.api.voices import Voice, find_voices
from sync_mcp.errors import ConfigurationError, NotFoundError, SyncError
from sync_mcp.texts import clean, did_you_mean, plain_id
from sync_mcp.tools.backend import CATALOGUE_TIMEOUT_SECONDS, Backend
from sync_mcp.tools.own_outputs import SIGNATURE_IS_MISSING

_SHORTEST_PART_OF_NAME = 3
_VOICES_NAMED = 2
_VOICE_SHOWN = 60

logger = logging.getLogger("sync_mcp.tools")


async def find_url_fault(backend: Backend, url: str, place: str, *, takes_path: bool = True) -> str | None:
    """Return what is wrong with a URL of a file that the API is to fetch; None if nothing is.

    Nothing is fetched to find out. `place` and `takes_path` are as in `link_fault`.
    """
    fault = link_fault(url, place, base_url=backend.base_url, takes_path=takes_path)
    if fault is None and await backend.outputs.lacks_signature(url):
        return f"{place} is a job's output, and {SIGNATURE_IS_MISSING}"
    return fault


async def match_voices(backend: Backend, wanted: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Return for each of `wanted` the id of the voice that is called so, and what is wrong with it.

    An id stands for itself. Where the voices cannot be listed, nothing is known to be wrong.
    """
    names = dict.fromkeys(wanted)
    # The list is waited for once, and not for each of them.
    voices = await _voices_soon(backend) if names else None
    if voices is None:
        return {name: (name, None) for name in names}
    return {name: await _find_voice(backend, name, voices) for name in names}


async def _voices_soon(backend: Backend) -> list[Voice] | None:
    """Return the account's voices; None where they cannot be listed soon."""
    try:
        with anyio.move_on_after(CATALOGUE_TIMEOUT_SECONDS):
            return await backend.voices()
    except ConfigurationError:
        raise
    except SyncError as error:
        logger.info("whether there is such a voice is not known: %s", error)
    return None


async def _find_voice(backend: Backend, wanted: str, voices: list[Voice]) -> tuple[str, str | None]:
    asked = wanted.strip()
    if any(asked in (voice.id, voice.voice_id, voice.internal_voice_id) for voice in voices):
        return wanted, None
    ids = list(dict.fromkeys(voice.id for voice in voices if _is_called(voice, asked)))
    if len(ids) == 1:
        return ids[0], None
    shown = clean(asked, _VOICE_SHOWN)
    if ids:
        some = ", ".join(clean(id, _VOICE_SHOWN) for id in ids[:_VOICES_NAMED])
        return wanted, f"{shown!r} is the name of {len(ids)} voices: give the id of one ({some})."
    if plain_id(asked) and await _may_have_voice(backend, asked):
        return wanted, None
    # A letter or two stand in many names.
    found = find_voices(voices, asked) if len(asked) >= _SHORTEST_PART_OF_NAME else []
    nearest = [clean(voice.name or "", _VOICE_SHOWN) for voice in found[:_VOICES_NAMED]]
    meant = did_you_mean(*nearest)
    return wanted, f"{shown!r} is no voice of this account{meant} list_voices tells their ids."


async def _may_have_voice(backend: Backend, voice_id: str) -> bool:
    """Return whether there may be a voice that the list does not show, such as a new one."""
    try:
        await backend.client.voices.get(
            voice_id, request_options={"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
        )
    except NotFoundError:
        return False
    except SyncError as error:
        logger.info("whether there is such a voice is not known: %s", error)
    return True


def _is_called(voice: Voice, name: str) -> bool:
    return bool(name) and (voice.name or "").casefold().split() == name.casefold().split()
