"""The routes of assets: presigned uploads, their register, and what was registered (API §6)."""

import hashlib
import re
import secrets
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.api.answers import (
    api_key,
    as_json,
    page_limit,
    page_start,
    plain,
    query_values,
    require_key,
)
from sync_mcp.sandbox.api.bodies import Body, read_body
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import OptionalText, is_uuid
from sync_mcp.sandbox.api.files import UPLOAD_BYTES
from sync_mcp.sandbox.media.measure import measure
from sync_mcp.sandbox.world import Asset, World

_UPLOAD_SECONDS = 3600
_DEFAULT_PAGE = 20
_SHA256 = r"^[0-9a-f]{64}$"

AssetType = Literal["VIDEO", "AUDIO", "IMAGE"]
Visibility = Literal["USER", "ORGANIZATION"]


class _UploadBody(Body):
    file_name: Annotated[str, Field(min_length=1)]
    content_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+")]
    size: Annotated[int, Field(ge=1, le=UPLOAD_BYTES)]


class _RegisterBody(Body):
    url: str
    type: AssetType
    name: OptionalText = None
    visibility: Visibility = "USER"
    project_id: OptionalText = None
    content_sha256: Annotated[str, Field(pattern=_SHA256)] | None = None


class _BatchBody(Body):
    ids: str | Annotated[list[str], Field(min_length=1, max_length=100)]


class _EditBody(Body):
    name: str | None = None
    visibility: Visibility | None = None
    duration_seconds: float | None = None
    size: int | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None


class Assets:
    """Takes uploads and keeps the list of what was registered."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes, the more special paths first."""
        return [
            Route("/v2/assets/upload", require_key(self.start_upload), methods=["POST"]),
            Route("/v2/assets", require_key(self.register), methods=["POST"]),
            Route("/v2/assets", require_key(self.index), methods=["GET"]),
            Route("/v2/assets/batch", require_key(self.batch), methods=["POST"]),
            Route("/v2/assets/count", require_key(self.count), methods=["GET"]),
            Route("/v2/assets/uploaded", require_key(self.find_uploaded), methods=["GET"]),
            Route("/v2/assets/{id}", require_key(self.get), methods=["GET"]),
            Route("/v2/assets/{id}", require_key(self.edit), methods=["PATCH"]),
            Route("/v2/assets/{id}", require_key(self.delete), methods=["DELETE"]),
            Route("/v2/assets/{id}/download", require_key(self.download), methods=["GET"]),
        ]

    async def start_upload(self, request: Request) -> Response:
        """Answer a presigned URL for one file (API §6.2)."""
        body = await read_body(request, _UploadBody)
        if body.size > self._world.settings.limits.file_bytes:
            raise refusal("file_size_exceeds_plan_limit", field="size")
        world = self._world
        # It can be read without a key, so it must not be guessed.
        place = f"/storage/{secrets.token_hex(16)}/{re.sub(r'[^A-Za-z0-9._-]', '_', body.file_name)}"
        world.storage.reserve(place, body.content_type)
        query = world.signer.query(place, _UPLOAD_SECONDS, body.content_type)
        url = world.base_url + place
        return as_json({"uploadUrl": f"{url}?{query}", "url": url, "expiresIn": _UPLOAD_SECONDS}, 201)

    async def register(self, request: Request) -> Response:
        """Make an asset of an uploaded file."""
        body = await read_body(request, _RegisterBody)
        world = self._world
        if body.project_id is not None and body.project_id not in world.contents.projects:
            raise refusal("project_not_found", field="projectId")
        asset = await world.in_worker(lambda: self._asset(body, api_key(request)))
        asset.id = world.new_id("asset")
        world.contents.assets[asset.id] = asset
        if body.project_id is not None:
            world.contents.projects[body.project_id].asset_ids.add(asset.id)
        return as_json(asset.to_json(world.base_url), 201)

    async def index(self, request: Request) -> Response:
        """List assets in pages, newest first unless `sortBy` says otherwise (API §6.3)."""
        limit = page_limit(request) or _DEFAULT_PAGE
        assets = self._filter(request)
        start = page_start(request, [asset.id for asset in assets])
        page = assets[start : start + limit]
        answer: dict[str, JsonValue] = {
            "items": [asset.to_json(self._world.base_url) for asset in page],
            "totalCount": len(assets),
        }
        if start + limit < len(assets):
            answer["nextCursor"] = page[-1].id
        return as_json(answer)

    async def batch(self, request: Request) -> Response:
        """Show several assets; those that are not there are left out."""
        body = await read_body(request, _BatchBody)
        ids = [body.ids] if isinstance(body.ids, str) else body.ids
        if not all(is_uuid(id) for id in ids):
            raise refusal("invalid_asset_id_format", field="ids")
        assets = self._world.contents.assets
        found = [assets[id.lower()] for id in ids if id.lower() in assets]
        return as_json([asset.to_json(self._world.base_url) for asset in found])

    async def count(self, request: Request) -> Response:
        """Answer the number of assets, bare."""
        return as_json(len(self._filter(request)))

    async def find_uploaded(self, request: Request) -> Response:
        """Find the newest asset that the same key has registered with this hash."""
        sha256 = request.query_params.get("contentSha256", "")
        kind = request.query_params.get("type")
        faults: list[str] = []
        if not re.fullmatch(_SHA256, sha256):
            faults.append("contentSha256 must be 64 hexadecimal digits in lower case")
        if kind not in (None, *get_args(AssetType)):
            faults.append(f"type must be one of: {', '.join(get_args(AssetType))}")
        if faults:
            raise bare_refusal(400, faults)
        found = [
            asset
            for asset in self._world.contents.assets.values()
            if asset.sha256 == sha256
            and asset.owner_key == api_key(request)
            and kind in (None, asset.fields["type"])
        ]
        return as_json({"asset": found[-1].to_json(self._world.base_url) if found else None})

    async def get(self, request: Request) -> Response:
        """Show an asset."""
        return as_json(self._find(request).to_json(self._world.base_url))

    async def edit(self, request: Request) -> Response:
        """Change what is said of an asset."""
        asset = self._find(request)
        body = await read_body(request, _EditBody)
        asset.fields |= body.model_dump(by_alias=True, exclude_none=True)
        asset.updated_at = self._world.clock.now()
        return as_json(asset.to_json(self._world.base_url))

    async def delete(self, request: Request) -> Response:
        """Delete an asset; jobs that use it keep its file."""
        asset = self._find(request)
        if asset.owner_key != api_key(request):
            raise refusal("asset_forbidden")
        del self._world.contents.assets[asset.id]
        return as_json({"id": asset.id})

    async def download(self, request: Request) -> Response:
        """Answer a signed URL of an asset's file as bare text."""
        return plain(self._world.sign_url(self._find(request).url_path))

    def _asset(self, body: _RegisterBody, key: str) -> Asset:
        place = body.url.partition("?")[0].removeprefix(self._world.base_url)
        stored = self._world.storage.uploads.get(place)
        if stored is None:
            raise refusal("file_not_in_org_storage", field="url")
        if not stored.uploaded:
            raise refusal("uploaded_file_not_found", field="url")
        size = stored.path.stat().st_size
        if size > self._world.settings.limits.file_bytes:
            raise refusal("file_size_exceeds_plan_limit", field="url")
        now = self._world.clock.now()
        fields: dict[str, JsonValue] = {
            "name": body.name or Path(place).name,
            "size": size,
            "format": Path(place).suffix.removeprefix(".").lower() or None,
            "type": body.type,
            "inputType": "UPLOAD",
            "visibility": body.visibility,
            "projectId": body.project_id,
            **_measure(stored.path),
        }
        shown: dict[str, JsonValue] = {label: value for label, value in fields.items() if value is not None}
        # The API keeps the hash that it is told; that it is the right one is looked at here alone.
        if body.content_sha256 not in (None, _digest(stored.path)):
            raise bare_refusal(400, ["contentSha256 must be the hash of the file"])
        return Asset("", now, now, place, key, body.content_sha256, shown)

    def _find(self, request: Request) -> Asset:
        asset_id = cast(str, request.path_params["id"])
        if not is_uuid(asset_id):
            raise refusal("invalid_asset_id_format")
        asset = self._world.contents.assets.get(asset_id.lower())
        if asset is None:
            raise refusal("asset_not_found")
        return asset

    def _filter(self, request: Request) -> list[Asset]:
        types = query_values(request, "types")
        search = request.query_params.get("searchQuery", "").casefold()
        project = request.query_params.get("projectId")
        inside = self._world.contents.projects.get(project) if project is not None else None
        assets = [
            asset
            for asset in self._world.contents.assets.values()
            if (not types or asset.fields["type"] in types)
            and search in str(asset.fields["name"]).casefold()
            and (project is None or (inside is not None and asset.id in inside.asset_ids))
        ]
        return _sort(assets, request.query_params.get("sortBy", "dateDesc"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _measure(path: Path) -> dict[str, JsonValue]:
    try:
        info = measure(path)
    except MediaError:
        return {}
    return {"durationSeconds": info.duration_seconds, "width": info.width, "height": info.height}


_SORT_FIELDS = {"name": "name", "duration": "durationSeconds", "size": "size", "kind": "type"}


def _sort(assets: list[Asset], order: str) -> list[Asset]:
    name, descending = (order[:-4], True) if order.endswith("Desc") else (order.removesuffix("Asc"), False)
    field = _SORT_FIELDS.get(name)
    if field is not None:
        assets.sort(key=lambda asset: _sort_key(asset.fields.get(field)))
    elif name != "date":
        raise bare_refusal(400, ["sortBy must be name, date, duration, size or kind with Asc or Desc"])
    return assets[::-1] if descending else assets


def _sort_key(value: JsonValue) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0, str(value or "").casefold())
