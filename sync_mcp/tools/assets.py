"""The tool for files: into the account's storage, from this machine or from the network."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import FILE_NAME_LIMIT, ID_LIMIT, WORD_LIMIT, plain_id, safe
from sync_mcp.tools.answers import Answer, finite
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.backend import CallContext
from sync_mcp.tools.input_files import UNSEEN
from sync_mcp.tools.progress import reporting_transfers
from sync_mcp.tools.registry import CHANGES, Tool, Tools

if TYPE_CHECKING:
    from sync_mcp.api.assets import Asset
    from sync_mcp.media.decoding.probe import MediaInfo


class UploadArguments(Arguments):
    path: str | None = Field(None, description="Local file.")
    url: str | None = Field(None, description="Or a public https URL to copy.")
    type: Literal["video", "audio", "image"] | None = Field(
        None, description="What it has to be; default: as it is."
    )
    name: str | None = Field(None, description="What to call it.")


class UploadAnswer(Answer):
    asset_id: str
    type: str
    name: str | None = None
    bytes: int | None = None
    duration_seconds: float | None = None
    width: int | None = None
    height: int | None = None
    note: str | None = None


async def _upload_asset(context: CallContext, arguments: UploadArguments) -> UploadAnswer:
    if (arguments.path is None) == (arguments.url is None):
        raise InvalidRequestError("Give path or url, and not both.")
    if arguments.path is not None:
        return await _from_path(context, arguments, arguments.path)
    return await _from_url(context, arguments, str(arguments.url).strip())


async def _from_path(context: CallContext, arguments: UploadArguments, path: str) -> UploadAnswer:
    reader, until = context.backend.local_reader, context.answer_at
    progress_of = partial(reporting_transfers, context)
    media = await reader.read(path, arguments.type, until=until, progress_of=progress_of)
    asset = await reader.upload(
        context.backend.client,
        media,
        until=until,
        name=arguments.name,
        on_progress=progress_of(media.name),
    )
    return _answer(asset, media.info)


async def _from_url(context: CallContext, arguments: UploadArguments, url: str) -> UploadAnswer:
    client = context.backend.client
    fault = await context.backend.url_fault(url, "url")
    if fault is not None:
        raise InvalidRequestError(fault)
    asset, info = await context.backend.local_reader.copy(
        client,
        url,
        kind=arguments.type,
        name=arguments.name,
        until=context.answer_at,
        on_progress=reporting_transfers(context, "the file"),
    )
    return _answer(asset, info)


def _answer(asset: "Asset", info: "MediaInfo | None") -> UploadAnswer:
    from sync_mcp.media.suitability import notes_on_upload

    kind = safe(asset.type or "", WORD_LIMIT).lower()
    asset_id = safe(asset.id, ID_LIMIT)
    notes = ["Already uploaded: it is the same asset."] if asset.was_there else []
    notes.extend([UNSEEN] if info is None else notes_on_upload(info))
    seconds = finite(asset.duration_seconds) if info is None else info.duration_seconds
    return UploadAnswer(
        asset_id=asset_id,
        type=kind,
        name=safe(asset.name, FILE_NAME_LIMIT) if asset.name else None,
        bytes=asset.size,
        # As a price that is counted by it shows it.
        duration_seconds=None if seconds is None else round(seconds, 2),
        width=info.width if info else asset.width,
        height=info.height if info else asset.height,
        note=" ".join(notes) or None,
        next_step=_next_step(kind, asset_id),
    )


def _next_step(kind: str, asset_id: str) -> str:
    if kind not in ("video", "audio", "image") or not plain_id(asset_id):
        return "Give its type and asset_id to estimate_cost and create_generation."
    return (
        f'Give it to estimate_cost and create_generation as {{"type": "{kind}", "asset_id": "{asset_id}"}}.'
    )


TOOLS: Tools = (
    Tool(
        name="upload_asset",
        title="Upload a file",
        description=(
            "Put a video, audio or image file into the account's storage, free; the same content is not sent "
            "twice. create_generation takes a path by itself."
        ),
        arguments=UploadArguments,
        answer=UploadAnswer,
        annotations=CHANGES,
        run=_upload_asset,
    ),
)
