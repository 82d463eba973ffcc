"""Local files of a create: in its intention by what they hold, in what is sent by the assets they became."""

from collections.abc import Mapping
from typing import Protocol, cast

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import GenerationRequest, Json
from sync_mcp.errors import SyncError

_CONTENT = "sha256:"


class LocalFiles(Protocol):
    """The local files of one create, and how they come into the account's storage."""

    @property
    def output_seconds(self) -> float | None:
        """How long the output will be, where that is known of the files."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second of the picture, where they are known."""
        ...

    @property
    def names(self) -> Mapping[str, str]:
        """What each file is called, by the hash of its content."""
        ...

    @property
    def length_note(self) -> str | None:
        """On what the length stands, or why it is not known."""
        ...

    @property
    def hint_helps(self) -> bool:
        """Whether a length that the caller tells says something where none is known."""
        ...

    async def upload(self, sync: AsyncSync) -> Mapping[str, str]:
        """Return the asset of each file, by its `asset_key`; what is not there yet is uploaded.

        Raises:
            SyncError: one cannot be; nothing was made or charged.
        """
        ...

    async def known_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:
        """Return the asset of each file, as `upload` does, where all are there already; nothing is uploaded.

        Raises:
            SyncError: the API cannot tell.
        """
        ...

    async def report(self) -> None:
        """Tell who waits for it how far the upload is."""
        ...

    def forget(self) -> None:
        """Have the next upload ask the API again: an asset is gone."""
        ...

    def under_way(self) -> SyncError:
        """Return what a call is told whose time is up before all files are uploaded."""
        ...


def content_id(sha256: str) -> str:
    """Return what stands for an asset whose content is known and whose id is not."""
    return f"{_CONTENT}{sha256}"


def asset_key(kind: str, sha256: str) -> str:
    """Return what tells apart the assets of local files: one content may be a video and a sound."""
    return f"{kind}:{sha256}"


def is_content_id(asset_id: str) -> bool:
    """Return whether this stands for an asset that is not known yet."""
    return asset_id.startswith(_CONTENT)


def has_contents(request: GenerationRequest) -> bool:
    """Return whether local files are to be uploaded before a request can be sent."""
    return any(_content_of(item) is not None for item in _items(request.to_wire()))


def with_assets(request: GenerationRequest, assets: Mapping[str, str]) -> GenerationRequest:
    """Return a request with the asset of each local file in its place.

    Raises:
        KeyError: a file has none.
    """
    wire = request.to_wire()
    for item in _items(wire):
        content = _content_of(item)
        if content is not None:
            item["assetId"] = assets[asset_key(str(item.get("type")), content)]
    return GenerationRequest.from_wire(wire)


def _items(wire: Json) -> list[Json]:
    return cast(list[Json], wire.get("input", []))


def _content_of(item: Json) -> str | None:
    asset_id = item.get("assetId")
    if isinstance(asset_id, str) and is_content_id(asset_id):
        return asset_id.removeprefix(_CONTENT)
    return None
