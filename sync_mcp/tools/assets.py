"""The tool for files: into the account's storage, from this machine or from the network."""

from functools import partial

from sync_mcp.api.assets import Asset
from sync_mcp.errors import InvalidRequestError
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.suitability import notes_on_upload
from sync_mcp.texts import FILE_NAME_LIMIT, ID_LIMIT, WORD_LIMIT, plain_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import UploadAnswer, UploadArguments
from sync_mcp.tools.input_files import UNSEEN
from sync_mcp.tools.lookups import find_url_fault
from sync_mcp.tools.progress import transfer_reporter


async def upload_asset(context: CallContext, arguments: UploadArguments) -> UploadAnswer:
    if (arguments.path is None) == (arguments.url is None):
        raise InvalidRequestError("Give path or url, and not both.")
    if arguments.path is not None:
        return await _from_path(context, arguments, arguments.path)
    return await _from_url(context, arguments, str(arguments.url).strip())


async def _from_path(context: CallContext, arguments: UploadArguments, path: str) -> UploadAnswer:
    reader, until = context.account.local_reader, context.answer_at
    progress_of = partial(transfer_reporter, context)
    media = await reader.read(path, arguments.type, until=until, progress_of=progress_of)
    asset = await reader.upload(
        context.account.client,
        media,
        until=until,
        name=arguments.name,
        on_progress=progress_of(media.name),
    )
    return _answer(asset, media.info)


async def _from_url(context: CallContext, arguments: UploadArguments, url: str) -> UploadAnswer:
    client = context.account.client
    fault = await find_url_fault(context.account, url, "url")
    if fault is not None:
        raise InvalidRequestError(fault)
    asset, info = await context.account.local_reader.copy(
        client,
        url,
        kind=arguments.type,
        name=arguments.name,
        until=context.answer_at,
        on_progress=transfer_reporter(context, "the file"),
    )
    return _answer(asset, info)


def _answer(asset: Asset, info: MediaInfo | None) -> UploadAnswer:
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
