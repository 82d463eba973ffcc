"""The local files among a create's inputs: read and measured first, uploaded once it is to be made."""

import logging
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import MediaKind
from sync_mcp.api.models import Audio, GenerationRequest, Image, Input, LocalMedia, Video
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.errors import FileRefused, InvalidRequestError, NotFoundError, SyncError, UnderWay
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.media.lengths import clip_length, missing_lengths, output_length
from sync_mcp.media.links import Unseen, peek, why_unseen
from sync_mcp.media.suitability import faults_of_media, notes_on_media
from sync_mcp.payments.files import asset_key
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_arguments import InputItem
from sync_mcp.tools.progress import transfer_reporter

UNSEEN = "What the files hold could not be checked: the user can install sync-mcp[media] for that."
_LOOK_SECONDS = 20.0

logger = logging.getLogger("sync_mcp.tools")


class InputFiles:
    """The local files of one create, each by the number of its input.

    How long the output will be is set once the whole request is known.
    """

    def __init__(
        self,
        sync: AsyncSync,
        reader: LocalReader,
        media: Mapping[int, InputFile],
    ) -> None:
        self.media = media
        self.on_progress: OnProgress | None = None
        """Is told how far an upload is, as long as there is a call that waits for it."""
        self.output_seconds: float | None = None
        self.fps: float | None = None
        self.length_note: str | None = None
        self.notes: list[str] = []
        """What should be known of the files before they are paid for."""
        self.gone: list[str] = []
        """Which other inputs cannot be had where they are said to lie, and why."""
        self._sync = sync
        self._reader = reader

    @property
    def names(self) -> Mapping[str, str]:
        """What each file is called, by the hash of its content."""
        return {media.sha256: media.name for media in self.media.values()}

    @property
    def hint_helps(self) -> bool:
        """Whether a length that the caller tells says something where none is known."""
        return not self.gone

    @property
    def note_on_unseen(self) -> str | None:
        """What could not be checked of the files, and why."""
        return UNSEEN if any(media.info is None for media in self.media.values()) else None

    async def upload(self, sync: AsyncSync) -> Mapping[str, str]:
        """Return the asset of each file, by its key; what is not there yet is uploaded."""
        assets: dict[str, str] = {}
        for media in self.media.values():
            asset = await self._reader.upload(sync, media, until=math.inf, on_progress=self._note)
            assets[asset_key(media.kind, media.sha256)] = asset.id
        return assets

    async def find_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:
        """Return the asset of each file, by its key, where all are there already."""
        assets: dict[str, str] = {}
        for media in self.media.values():
            asset = await sync.assets.find_uploaded(media.sha256, media.kind)
            if asset is None:
                return None
            assets[asset_key(media.kind, media.sha256)] = asset.id
        return assets

    async def report(self) -> None:
        """Tell the client how far the upload is, which goes on elsewhere in this process."""
        for media in self.media.values():
            transfer = self._reader.how_far(self._sync, media)
            if transfer is not None:
                await self._note(transfer)

    async def _note(self, transfer: Transfer) -> None:
        if self.on_progress is not None:
            try:
                await self.on_progress(transfer)
            except Exception as error:  # noqa: BLE001 - whoever is gone must not hold up an upload
                logger.debug("progress could not be told: %r", error)
                self.on_progress = None

    def under_way(self) -> SyncError:
        """Return what a call is told whose time is up before all files are uploaded."""
        error = self._reader.under_way(self._sync, list(self.media.values()))
        return error.advise(
            next_step="Make exactly this call again: it joins the upload, after which the job is made by "
            "itself. Do not upload the files another way."
        )

    def forget(self) -> None:
        """Have the next upload ask the API again: an asset is gone."""
        for media in self.media.values():
            self._reader.forget(self._sync, media)


@asynccontextmanager
async def input_files(
    context: CallContext, items: Sequence[InputItem], request: GenerationRequest
) -> AsyncGenerator[InputFiles | None]:
    """Open and read the local files among inputs, and put what they hold into `request`; None without any.

    Raises:
        FileRefused: one cannot be used.
        InvalidRequestError: the model or the plan cannot do this with them.
        UnderWay: one could not be read whole in this call's time; that goes on.
    """
    paths = {number: item.path for number, item in enumerate(items) if item.path is not None}
    if not paths:
        yield None
        return
    reader = context.account.local_reader
    media: dict[int, InputFile] = {}
    failures: list[FileRefused | UnderWay] = []
    for number, path in paths.items():
        kind = items[number].type
        try:
            media[number] = await reader.read(
                path,
                None if kind == "text" else kind,
                until=context.answer_at,
                progress_of=partial(transfer_reporter, context),
            )
        except FileRefused as error:
            failures.append(error.advise(message=f"input[{number}]: {error.message}"))
        except UnderWay as error:
            failures.append(error)
    if failures:
        raise _join_failures(failures)
    files = InputFiles(context.account.client, reader, media)
    _place(request, media)
    await _measure(context, request, files)
    files.on_progress = transfer_reporter(context, ", ".join(files.names.values()))
    try:
        yield files
    finally:
        files.on_progress = None


def _join_failures(failures: Sequence[FileRefused | UnderWay]) -> SyncError:
    """Return one error that says what is wrong with all files; what only takes its time comes last."""
    refused = [error for error in failures if isinstance(error, FileRefused)]
    if not refused:
        return failures[0]
    return refused[0].advise(
        message=" ".join(error.message for error in refused),
        next_step=" ".join(dict.fromkeys(error.next_step for error in refused)),
    )


def _place(request: GenerationRequest, media: Mapping[int, InputFile]) -> None:
    for number, each in media.items():
        item = request.input[number]
        if isinstance(item, Video | Image | Audio):
            request.input[number] = LocalMedia(
                type=item.type, sha256=each.sha256, name=each.name, ref_id=item.ref_id
            )


async def _measure(context: CallContext, request: GenerationRequest, files: InputFiles) -> None:
    """Find out how long the output will be, and whether the model and the plan can make it of these files."""
    infos = {number: each.info for number, each in files.media.items() if each.info is not None}
    lengths: dict[int, MediaInfo | float | None] = {**infos}
    reasons: list[str] = []
    for number in missing_lengths(request, lengths):
        lengths[number], unseen = await _length_elsewhere(context, request.input[number])
        if unseen is not None:
            reasons.append(f"input[{number}]: {unseen.reason}")
            files.gone.extend(reasons[-1:] if unseen.is_gone else [])
    expected = output_length(request, lengths)
    files.output_seconds = expected.seconds
    files.length_note = (
        "; ".join([expected.note, *reasons]) if expected.seconds is None else f"the output is {expected.note}"
    )
    files.fps = next((info.fps for info in infos.values() if info.has_video and info.fps), None)
    faults = faults_of_media(
        request,
        infos,
        plan=await context.account.lists.plan(),
        output_seconds=expected.seconds,
        clip_seconds=clip_length(request, lengths),
    )
    if faults:
        raise InvalidRequestError(faults)
    files.notes = notes_on_media(request, infos)


async def find_gone_links(context: CallContext, request: GenerationRequest) -> list[str]:
    """Return which files of a request cannot be had from their URLs, and why, as far as one look tells."""
    gone: dict[int, str] = {}

    async def look(number: int, url: str, kind: MediaKind) -> None:
        unseen = await peek(context.account.client, url, kind)
        if unseen is not None and unseen.is_gone:
            gone[number] = f"input[{number}].url: {unseen.reason}"

    with anyio.move_on_after(max(0.0, context.answer_at - anyio.current_time())):
        async with anyio.create_task_group() as task_group:
            for number, item in enumerate(request.input):
                if isinstance(item, Video | Image | Audio) and item.url and not item.asset_id:
                    task_group.start_soon(look, number, item.url, item.type)
    return [reason for _, reason in sorted(gone.items())]


async def _length_elsewhere(
    context: CallContext, item: Input
) -> tuple[MediaInfo | float | None, Unseen | None]:
    """Return the length of what is not on this machine; or why it cannot be told soon."""
    account = context.account
    until = min(context.answer_at, anyio.current_time() + _LOOK_SECONDS)
    asset_id, url = getattr(item, "asset_id", None), getattr(item, "url", None)
    try:
        if asset_id:
            seconds = max(1.0, until - anyio.current_time())
            asset = await account.client.assets.get(asset_id, request_options={"timeout_in_seconds": seconds})
            return asset.duration_seconds, None
        if url:
            return await account.local_reader.look_at_url(account.client, url, until=until), None
    except SyncError as error:
        logger.info("the length of an input is not known: %s", error)
        if isinstance(error, NotFoundError):
            return None, Unseen("the account has no asset by this id", is_gone=True)
        return None, why_unseen(error, url, account.client) if url and not asset_id else None
    return None, None
