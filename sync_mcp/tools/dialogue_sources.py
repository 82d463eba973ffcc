"""What a dialogue tool is asked about: a video or recording that becomes an asset, and its words."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Protocol, TypeVar

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.assets import Asset
from sync_mcp.api.models import LocalMedia
from sync_mcp.api.polling import PolledJob
from sync_mcp.api.transcriptions import Transcript, Transcription
from sync_mcp.errors import FileRefused, InvalidRequestError, SyncError
from sync_mcp.media.small_files import SmallFile, save_text
from sync_mcp.payments.files import content_of
from sync_mcp.requests.lookups import find_url_fault
from sync_mcp.texts import FAULT_LIMIT, clean, plain_id, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.jobs import report_during
from sync_mcp.tools.progress import transfer_reporter

TEXT_ENDINGS = (".srt", ".vtt", ".txt")
_PATH_LIMIT = 4096
_PROGRESS_SECONDS = 4.0
_SHOWN = 40

PolledT = TypeVar("PolledT", bound=PolledJob)

logger = logging.getLogger("sync_mcp.tools")


class _Jobs(Protocol[PolledT]):
    """Jobs of a kind, as far as they are waited for."""

    async def wait(self, id: str, timeout: float, *, known: PolledT | None = None) -> PolledT: ...


class SourceArguments(Protocol):
    """Where a source lies: in one of these places."""

    path: str | None
    url: str | None
    asset_id: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A video or recording in the account's storage."""

    asset: Asset
    known_by: str | None
    """What it holds, or the URL that it was fetched from: a call in another process may have another asset
    of the same. None where the caller named the asset."""


async def find_source(context: CallContext, arguments: SourceArguments) -> Source:
    """Return a source; a file is uploaded unless the account has it already.

    Raises:
        InvalidRequestError: not exactly one place is given, or it is neither video nor sound.
        UnderWay: it is not uploaded yet; that goes on.
        SyncError: it cannot be had.
    """
    places = (arguments.path, arguments.url, arguments.asset_id)
    if sum(place is not None for place in places) != 1:
        raise InvalidRequestError("Give one of path, url and asset_id.")
    client, until = context.account.client, context.answer_at
    reader, progress_of = context.account.local_reader, partial(transfer_reporter, context)
    known_by: str | None = None
    if arguments.path is not None:
        media = await reader.read(arguments.path, None, until=until, progress_of=progress_of)
        asset = await reader.upload(client, media, until=until, on_progress=progress_of(media.name))
        known_by = content_of(LocalMedia(type="video", sha256=media.sha256, name=media.name))
    elif arguments.url is not None:
        known_by = url = arguments.url.strip()
        fault = await find_url_fault(context.account, url, "url")
        if fault is not None:
            raise InvalidRequestError(fault)
        asset, _ = await reader.copy(
            client, url, kind=None, name=None, until=until, on_progress=progress_of("the file")
        )
    else:
        asset_id = str(arguments.asset_id).strip()
        if not plain_id(asset_id):
            raise InvalidRequestError(
                f"asset_id {clean(asset_id, _SHOWN)!r} can be no id: copy it from upload_asset, or give path."
            )
        asset = await client.assets.get(asset_id, request_options=context.reading)
    if asset.type not in ("VIDEO", "AUDIO") or not asset.url:
        raise InvalidRequestError("Only a video or a recording says anything: this asset is neither.")
    return Source(asset, known_by)


async def find_transcription(context: CallContext, asset: Asset, wait_seconds: float) -> Transcription:
    """Return the transcription of all of a source, as it is at its end or after so long."""
    client = context.account.client
    is_video = asset.type == "VIDEO"
    made = await client.transcriptions.create(
        source_video_url=asset.url if is_video else None,
        source_audio_url=None if is_video else asset.url,
        request_options=context.reading,
    )
    return await wait_for(context, client.transcriptions, made, wait_seconds)


async def wait_for(context: CallContext, jobs: _Jobs[PolledT], known: PolledT, seconds: float) -> PolledT:
    """Return a job at its end, or as it is after `seconds`, reporting progress meanwhile.

    What goes wrong meanwhile is logged alone: the job is there, and the answer is its handle.
    """
    if known.finished or not seconds:
        return known
    latest, started_at = known, anyio.current_time()

    async def report() -> None:
        while True:
            elapsed = anyio.current_time() - started_at
            await context.report_progress(f"{clean(known.status, _SHOWN)}, {elapsed:.0f} s waited")
            await anyio.sleep(_PROGRESS_SECONDS)

    async def wait(seconds: float) -> None:
        nonlocal latest
        latest = await jobs.wait(known.id, seconds, known=known)

    try:
        await report_during(context, seconds, report, wait, lambda: True)
    except SyncError as error:
        logger.warning("the wait for a job ended: %s", safe(str(error), FAULT_LIMIT))
    return latest


async def save_transcript(context: CallContext, transcript: Transcript, save_as: str) -> SmallFile:
    """Save what is said in the form that the file's ending says.

    Raises:
        FileRefused: it cannot be written there.
    """
    ending = PurePath(save_as).suffix.lower()
    forms = {".srt": transcript.to_srt, ".vtt": transcript.to_vtt, ".txt": transcript.to_text}
    roots = context.account.roots
    destination = await run_sync(roots.destination, save_as, f"dialogue{ending}")
    with advise_another_name():
        return await save_text(forms[ending](), destination, roots)


@contextmanager
def advise_another_name() -> Generator[None]:
    """Have a name that another file has say what to do where none is overwritten."""
    try:
        yield
    except FileRefused as error:
        if error.code == "file_exists":
            error.advise(next_step="Name another file in save_as, or ask the user to move that one away.")
        raise


def check_ending(save_as: str | None, *endings: str) -> None:
    """Refuse a file to save in whose ending says nothing of what is to be in it.

    Raises:
        InvalidRequestError: which endings do.
    """
    if save_as is not None and PurePath(save_as.strip()).suffix.lower() not in endings:
        raise InvalidRequestError(f"save_as {clean(save_as, _SHOWN)!r} must end in {', '.join(endings)}.")


def tell_saved(saved: SmallFile | None) -> str | None:
    """Return where a file was saved, as an answer tells it."""
    return None if saved is None else clean(str(saved.path), _PATH_LIMIT)
