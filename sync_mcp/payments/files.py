"""Local files of a create: in its digest by what they hold, in what is sent by the assets they became."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Audio, GenerationRequest, Image, Input, LocalMedia, Video
from sync_mcp.errors import InvalidRequestError, SyncError

_CONTENT = "sha256:"
"""Begins what stands for a local file in a digest, on which digests rest: it never changes."""
_KINDS = {"video": Video, "image": Image, "audio": Audio}


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

    async def find_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:
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


def asset_key(kind: str, sha256: str) -> str:
    """Return what tells apart the assets of local files: one content may be a video and a sound."""
    return f"{kind}:{sha256}"


def content_of(media: LocalMedia) -> str:
    """Return what stands in a digest for the asset of a local file: what the file holds."""
    return f"{_CONTENT}{media.sha256}"


def with_assets(request: GenerationRequest, assets: Mapping[str, str]) -> GenerationRequest:
    """Return a request with the asset of each local file, by its `asset_key`, in its place.

    Raises:
        KeyError: a file has none.
    """
    if not request.local_media:
        return request
    items = [
        _KINDS[item.type](asset_id=assets[_key_of(item)], ref_id=item.ref_id)
        if isinstance(item, LocalMedia)
        else item
        for item in request.input
    ]
    return request.with_fields({"input": items})


def by_content(request: GenerationRequest) -> GenerationRequest:
    """Return a request as it is digested: with what each local file holds in the place of its asset's id.

    Raises:
        InvalidRequestError: an `asset_id` of the caller's would be taken for that of a local file.
    """
    if any(_content_of(item) is not None for item in request.input):
        raise InvalidRequestError(f"An asset_id that begins with {_CONTENT} is no asset's: give its own id.")
    return with_assets(request, {_key_of(media): content_of(media) for media in request.local_media})


def with_local_media(request: GenerationRequest, media: Sequence[LocalMedia]) -> GenerationRequest:
    """Return a request that `by_content` named with its local files again."""
    if not media:
        return request
    known = {_key_of(each): each for each in media}

    def local(item: Input) -> Input:
        content = _content_of(item)
        if content is None:
            return item
        # Where no segment refers to it, a name for segments is gone by now.
        return known[asset_key(item.type, content)].model_copy(
            update={"ref_id": getattr(item, "ref_id", None)}
        )

    return request.with_fields({"input": [local(item) for item in request.input]})


def _key_of(media: LocalMedia) -> str:
    return asset_key(media.type, media.sha256)


def _content_of(item: Input) -> str | None:
    """Return the hash of the content for which an asset's id stands, or None where it is an id."""
    asset_id = item.asset_id if isinstance(item, Video | Image | Audio) else None
    if asset_id is None or not asset_id.startswith(_CONTENT):
        return None
    return asset_id.removeprefix(_CONTENT)
