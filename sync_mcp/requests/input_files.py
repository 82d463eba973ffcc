"""The local files among a create's inputs: measured first, uploaded once it is to be made."""

import logging
import math
from collections.abc import Mapping

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.formats import MediaKind
from sync_mcp.api.models import Audio, GenerationRequest, Image, Input, LocalMedia, Video
from sync_mcp.api.uploads import OnProgress, Transfer
from sync_mcp.errors import InvalidRequestError, NotFoundError, SyncError
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.inputs import InputFile, LocalReader
from sync_mcp.media.lengths import clip_length, missing_lengths, output_length
from sync_mcp.media.links import Unseen, peek, why_unseen
from sync_mcp.media.suitability import faults_of_media, notes_on_media
from sync_mcp.payments.files import asset_key
from sync_mcp.requests.account_facts import AccountFacts

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
        self.reader = reader

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
            asset = await self.reader.upload(sync, media, until=math.inf, on_progress=self._note)
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
            transfer = self.reader.how_far(self._sync, media)
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
        error = self.reader.under_way(self._sync, list(self.media.values()))
        return error.advise(
            next_step="Make exactly this call again: it joins the upload, after which the job is made by "
            "itself. Do not upload the files another way."
        )

    def forget(self) -> None:
        """Have the next upload ask the API again: an asset is gone."""
        for media in self.media.values():
            self.reader.forget(self._sync, media)


def put_files(request: GenerationRequest, media: Mapping[int, InputFile]) -> None:
    """Put what the files hold in place of the inputs that they are for."""
    for number, each in media.items():
        item = request.input[number]
        if isinstance(item, Video | Image | Audio):
            request.input[number] = LocalMedia(
                type=item.type, sha256=each.sha256, name=each.name, ref_id=item.ref_id
            )


async def measure(
    account: AccountFacts, request: GenerationRequest, files: InputFiles, *, until: float
) -> None:
    """Find out how long the output will be, and whether the model and the plan can make it of these files.

    What is not on this machine is looked at until a time, on anyio's clock.

    Raises:
        InvalidRequestError: they cannot.
    """
    infos = {number: each.info for number, each in files.media.items() if each.info is not None}
    lengths: dict[int, MediaInfo | float | None] = {**infos}
    reasons: list[str] = []
    for number in missing_lengths(request, lengths):
        lengths[number], unseen = await _length_elsewhere(account, files.reader, request.input[number], until)
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
        plan=await account.lists.plan(),
        output_seconds=expected.seconds,
        clip_seconds=clip_length(request, lengths),
    )
    if faults:
        raise InvalidRequestError(faults)
    files.notes = notes_on_media(request, infos)


async def find_gone_links(account: AccountFacts, request: GenerationRequest, *, until: float) -> list[str]:
    """Return which files of a request cannot be had from their URLs, and why, as far as one look tells."""
    gone: dict[int, str] = {}

    async def look(number: int, url: str, kind: MediaKind) -> None:
        unseen = await peek(account.client, url, kind)
        if unseen is not None and unseen.is_gone:
            gone[number] = f"input[{number}].url: {unseen.reason}"

    with anyio.move_on_after(max(0.0, until - anyio.current_time())):
        async with anyio.create_task_group() as task_group:
            for number, item in enumerate(request.input):
                if isinstance(item, Video | Image | Audio) and item.url and not item.asset_id:
                    task_group.start_soon(look, number, item.url, item.type)
    return [reason for _, reason in sorted(gone.items())]


async def _length_elsewhere(
    account: AccountFacts, reader: LocalReader, item: Input, until: float
) -> tuple[MediaInfo | float | None, Unseen | None]:
    """Return the length of what is not on this machine; or why it cannot be told soon."""
    until = min(until, anyio.current_time() + _LOOK_SECONDS)
    asset_id, url = getattr(item, "asset_id", None), getattr(item, "url", None)
    try:
        if asset_id:
            seconds = max(1.0, until - anyio.current_time())
            asset = await account.client.assets.get(asset_id, request_options={"timeout_in_seconds": seconds})
            return asset.duration_seconds, None
        if url:
            return await reader.look_at_url(account.client, url, until=until), None
    except SyncError as error:
        logger.info("the length of an input is not known: %s", error)
        if isinstance(error, NotFoundError):
            return None, Unseen("the account has no asset by this id", is_gone=True)
        return None, why_unseen(error, url, account.client) if url and not asset_id else None
    return None, None
