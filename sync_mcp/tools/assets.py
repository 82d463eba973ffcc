"""The tools for files: into the account's storage, from this machine or the network; listed, and renamed."""

from functools import partial

from sync_mcp.api.assets import Asset
from sync_mcp.errors import InvalidRequestError
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.suitability import notes_on_upload
from sync_mcp.payments.limits import minute
from sync_mcp.requests.input_files import UNSEEN
from sync_mcp.requests.lookups import find_url_fault
from sync_mcp.texts import FILE_NAME_LIMIT, ID_LIMIT, WORD_LIMIT, clean, plain_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import UploadAnswer, UploadArguments
from sync_mcp.tools.library import (
    AssetAnswer,
    AssetRow,
    AssetsAnswer,
    ListAssetsArguments,
    UpdateAssetArguments,
)
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


async def list_assets(context: CallContext, arguments: ListAssetsArguments) -> AssetsAnswer:
    page = await context.account.client.assets.list(
        search_query=arguments.search,
        types=arguments.types,
        sort_by=arguments.sort_by,
        project_id=arguments.project_id,
        limit=arguments.limit,
        cursor=arguments.cursor,
        request_options=context.reading,
    )
    # What is no id is text of a stranger's.
    rows = [_row(asset) for asset in page.items if plain_id(asset.id)]
    cursor = plain_id(page.next_cursor or "") or None
    if cursor:
        step = f"For more, the same call with cursor {cursor}."
    elif rows:
        step = "create_generation takes an asset_id; update_asset renames, delete_assets removes for good."
    elif arguments.project_id is not None:
        step = "None was found in this project: list_projects tells which there are, update_asset files one."
    else:
        step = "None was found: upload_asset puts files there."
    return AssetsAnswer(total=page.total_count, assets=rows, next_cursor=cursor, next_step=step)


async def update_asset(context: CallContext, arguments: UpdateAssetArguments) -> AssetAnswer:
    client, options = context.account.client, context.reading
    asset_id, name = arguments.asset_id.strip(), clean(arguments.name or "", FILE_NAME_LIMIT) or None
    changes = (name, arguments.visibility, arguments.project_id, arguments.leave_project_id)
    if not any(changes):
        raise InvalidRequestError(
            "There is nothing to change: give name, visibility, project_id or leave_project_id."
        )
    before = asset = await client.assets.get(asset_id, request_options=options)
    if arguments.project_id is not None:
        await client.projects.add_asset(arguments.project_id.strip(), asset_id, request_options=options)
    if arguments.leave_project_id is not None:
        await client.projects.remove_asset(
            arguments.leave_project_id.strip(), asset_id, request_options=options
        )
    if name or arguments.visibility:
        asset = await client.assets.update(
            asset_id, name=name, visibility=arguments.visibility, request_options=options
        )
    renamed = before.name and before.name != asset.name
    return AssetAnswer(
        asset_id=safe(asset.id, ID_LIMIT),
        name=safe(asset.name or "", FILE_NAME_LIMIT) or None,
        visibility=safe(asset.visibility or "", WORD_LIMIT) or None,
        before=safe(before.name or "", FILE_NAME_LIMIT) if renamed else None,
        next_step="Done. list_assets shows it; with a project_id, what is in a project.",
    )


def _row(asset: Asset) -> AssetRow:
    return AssetRow(
        asset_id=asset.id,
        type=safe(asset.type or "", WORD_LIMIT) or None,
        name=safe(asset.name or "", FILE_NAME_LIMIT) or None,
        bytes=asset.size,
        duration_seconds=finite(asset.duration_seconds),
        width=asset.width,
        height=asset.height,
        visibility=safe(asset.visibility or "", WORD_LIMIT) or None,
        created_at=minute(asset.created_at) if asset.created_at else None,
    )


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
