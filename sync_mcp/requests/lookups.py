"""What a call names, looked for before anything is paid: files by their URLs, models and voices by names."""

import logging
from collections.abc import Iterable

import anyio

from sync_mcp.api.links import link_fault
from sync_mcp.api.voices import Voice, find_voices
from sync_mcp.errors import ConfigurationError, NotFoundError, SyncError
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.kept_lists import CATALOGUE_TIMEOUT_SECONDS
from sync_mcp.requests.model_purposes import MODEL_PURPOSES
from sync_mcp.requests.own_outputs import SIGNATURE_IS_MISSING
from sync_mcp.texts import clean, did_you_mean, near, plain_id

TELL_VOICES = " list_voices tells their ids."
"""What an assistant does about a voice that there is not."""
_MODELS_NAMED = 20
_SHORTEST_PART_OF_NAME = 3
_VOICES_NAMED = 2
_VOICE_SHOWN = 60

logger = logging.getLogger("sync_mcp.tools")


async def find_url_fault(
    account: AccountFacts, url: str, place: str, *, takes_path: bool = True
) -> str | None:
    """Return what is wrong with a URL of a file that the API is to fetch; None if nothing is.

    Nothing is fetched to find out. `place` and `takes_path` are as in `link_fault`.
    """
    fault = link_fault(url, place, base_url=account.base_url, takes_path=takes_path)
    if fault is None and await account.outputs.lacks_signature(url):
        return f"{place} is a job's output, and {SIGNATURE_IS_MISSING}"
    return fault


async def find_model_faults(account: AccountFacts, name: str) -> list[str]:
    """Return what is wrong with a model: nothing if it is known here, or stands in the account's own list.

    Raises:
        SyncError: it is not known here, and the list could not be read.
    """
    if name in MODEL_PURPOSES:
        return []
    shown = clean(name, 60)
    try:
        listed = {model.name for model in await account.lists.models()}
    except ConfigurationError:
        raise
    except SyncError as error:
        again = f"Call again, or take one of {', '.join(MODEL_PURPOSES)}."
        error.advise(
            message=f"Whether there is a model {shown!r} cannot be told: the API's own list could not be "
            f"read ({error.code}). {error.message}",
            next_step=again if error.retryable else None,
        )
        raise
    if name in listed:
        return []
    # What is no plain name is text of a stranger's.
    others = [other for other in sorted(listed - MODEL_PURPOSES.keys()) if other == clean(other, 60)]
    known = [*MODEL_PURPOSES, *others]
    named = ", ".join(known[:_MODELS_NAMED])
    return [f"There is no model {shown!r}{near(name[:80], known)} Models: {named}."]


async def match_voices(account: AccountFacts, wanted: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Return for each of `wanted` the id of the voice that is called so, and what is wrong with it.

    An id stands for itself. Where the voices cannot be listed, nothing is known to be wrong.
    """
    names = dict.fromkeys(wanted)
    # The list is waited for once, and not for each of them.
    voices = await _voices_soon(account) if names else None
    if voices is None:
        return {name: (name, None) for name in names}
    return {name: await _find_voice(account, name, voices) for name in names}


async def _voices_soon(account: AccountFacts) -> list[Voice] | None:
    """Return the account's voices; None where they cannot be listed soon."""
    try:
        with anyio.move_on_after(CATALOGUE_TIMEOUT_SECONDS):
            return await account.lists.voices()
    except ConfigurationError:
        raise
    except SyncError as error:
        logger.info("whether there is such a voice is not known: %s", error)
    return None


async def _find_voice(account: AccountFacts, wanted: str, voices: list[Voice]) -> tuple[str, str | None]:
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
    if plain_id(asked) and await _may_have_voice(account, asked):
        return wanted, None
    # A letter or two stand in many names.
    found = find_voices(voices, asked) if len(asked) >= _SHORTEST_PART_OF_NAME else []
    nearest = [clean(voice.name or "", _VOICE_SHOWN) for voice in found[:_VOICES_NAMED]]
    meant = did_you_mean(*nearest)
    return wanted, f"{shown!r} is no voice of this account{meant}{TELL_VOICES}"


async def _may_have_voice(account: AccountFacts, voice_id: str) -> bool:
    """Return whether there may be a voice that the list does not show, such as a new one."""
    try:
        await account.client.voices.get(
            voice_id, request_options={"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
        )
    except NotFoundError:
        return False
    except SyncError as error:
        logger.info("whether there is such a voice is not known: %s", error)
    return True


def _is_called(voice: Voice, name: str) -> bool:
    return bool(name) and (voice.name or "").casefold().split() == name.casefold().split()
