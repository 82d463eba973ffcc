"""Assets: files in the account's storage, uploaded, listed, fetched, renamed and deleted (API §6)."""

import builtins
import logging
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError

from sync_mcp.api.downloads import fetch_file, save_file
from sync_mcp.api.formats import MediaFormat, MediaKind
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.models import CamelModel, Figure, Moment
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.storage import transfer_budget
from sync_mcp.api.uploads import LocalFile, OnProgress, Source, name_to_send, open_file
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SyncError,
)
from sync_mcp.texts import clean

logger = logging.getLogger("sync_mcp.api")

AssetType = Literal["VIDEO", "AUDIO", "IMAGE"] | str
Visibility = Literal["USER", "ORGANIZATION"] | str
AssetOrder = (
    Literal[
        "nameAsc",
        "nameDesc",
        "dateAsc",
        "dateDesc",
        "durationAsc",
        "durationDesc",
        "sizeAsc",
        "sizeDesc",
        "kindAsc",
        "kindDesc",
    ]
    | str
)

_PAGE_LIMIT = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME_LIMIT = 255


class Asset(CamelModel):
    """A file in the account's storage (API §6.1)."""

    id: str
    """What the `asset_id` of a `Video`, `Audio` or `Image` takes."""
    created_at: Moment | None = None
    updated_at: Moment | None = None
    name: str | None = None
    url: str | None = None
    size: int | None = None
    """Bytes."""
    format: str | None = None
    type: AssetType | None = None
    input_type: Literal["UPLOAD", "URL", "RECORD", "TTS", "EXTRACT", "PLATFORM_IMPORT"] | str | None = None
    duration_seconds: Figure | None = None
    thumbnail_url: str | None = None
    visibility: Visibility | None = None
    width: int | None = None
    height: int | None = None
    project_id: str | None = None
    _was_there: bool = PrivateAttr(default=False)

    @property
    def was_there(self) -> bool:
        """Whether its content was uploaded before the upload that returned it."""
        return self._was_there

    def as_there_before(self) -> "Asset":
        """Return it as one that was there before."""
        found = self.model_copy()
        found._was_there = True
        return found


class AssetPage(CamelModel):
    """A page of assets; `next_cursor` asks for the next one, and is None on the last."""

    items: list[Asset] = Field(default_factory=list[Asset])
    next_cursor: str | None = None
    total_count: int | None = None


class _Place(CamelModel):
    upload_url: str
    """Signed; takes the file."""
    url: str
    """By which the file is registered."""


class Assets:
    """The assets of an account; reached as `AsyncSync.assets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self,
        *,
        search_query: str | None = None,
        types: Sequence[AssetType] | None = None,
        sort_by: AssetOrder | None = None,
        project_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> AssetPage:
        """Return one page of assets.

        `limit` runs from 1 to 100. `cursor` is the `next_cursor` of the page before.
        """
        if not 1 <= limit <= _PAGE_LIMIT:
            raise InvalidRequestError(f"limit must lie between 1 and {_PAGE_LIMIT}.")
        query = {
            "searchQuery": search_query,
            "types": types if isinstance(types, str) else ",".join(types or ()),
            "sortBy": sort_by,
            "projectId": project_id,
            "limit": str(limit),
            "cursor": cursor,
        }
        given = {name: value for name, value in query.items() if value}
        call = Call("GET", "/v2/assets", query=given, is_list=True)
        reply = await self._transport.read(call, request_options)
        items, _ = reply.read_list(Asset, "list of assets", under="items")
        return AssetPage.from_wire({**reply.fields, "items": items})

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Asset:
        """Return one asset.

        Raises:
            NotFoundError: the account has no asset by this id.
        """
        reply = await self._transport.read(Call("GET", _path(id)), request_options)
        return reply.read_as(Asset, "asset")

    async def batch_get(
        self, ids: Sequence[str], *, request_options: RequestOptions | None = None
    ) -> builtins.list[Asset]:
        """Return the assets of these 1 to 100 ids, without those that the account has not.

        Their order is the API's.
        """
        if not 1 <= len(ids) <= _PAGE_LIMIT:
            raise InvalidRequestError(f"ids must hold 1 to {_PAGE_LIMIT}.")
        body = {"ids": [check_id(id, "An asset") for id in ids]}
        call = Call("POST", "/v2/assets/batch", body=body, is_list=True)
        reply = await self._transport.read(call, request_options)
        return reply.read_list(Asset, "list of assets")[0]

    async def count(self, *, request_options: RequestOptions | None = None) -> int:
        """Return how many assets there are."""
        reply = await self._transport.read(Call("GET", "/v2/assets/count"), request_options)
        return reply.read_count()

    async def update(
        self,
        id: str,
        *,
        name: str | None = None,
        visibility: Visibility | None = None,
        request_options: RequestOptions | None = None,
    ) -> Asset:
        """Change an asset's name or who sees it, and return it; what is left out stays.

        Raises:
            NotFoundError: the account has no asset by this id.
        """
        fields = {"name": name, "visibility": visibility}
        body = {label: value for label, value in fields.items() if value is not None}
        if not body:
            raise InvalidRequestError("There is nothing to change: give name or visibility.")
        reply = await self._transport.read(Call("PATCH", _path(id), body=body), request_options)
        return reply.read_as(Asset, "asset")

    async def delete(self, id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete an asset; with an API key, one of the key's owner.

        Raises:
            PermissionDeniedError: it belongs to another member of the organization.
            NotFoundError: the account has no asset by this id.
        """
        await self._transport.read(Call("DELETE", _path(id)), request_options)

    async def download(
        self,
        id: str,
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        request_options: RequestOptions | None = None,
    ) -> Path:
        """Fetch an asset's file and return where it is, which is `destination`.

        It comes under a temporary name in the same folder, goes on where it was cut, and gets its name when
        it is whole. `request_options` hold for what is asked of the API; the file may take as long as it
        comes.

        Raises:
            NotFoundError: the account has no asset by this id.
            FileRefused: there is a file by that name already, or it cannot be written.
            APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries.
        """
        call = Call("GET", f"{_path(id)}/download", plain=True)

        async def fresh_url() -> str:
            reply = await self._transport.read(call, request_options)
            return str(reply.data).strip()

        fetch = partial(
            fetch_file, self._transport, fresh_url, on_progress=on_progress, request_options=request_options
        )
        return await save_file(fetch, destination, overwrite=overwrite)

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        kind: MediaKind | None = None,
        sha256: str | None = None,
        project_id: str | None = None,
        on_progress: OnProgress | None = None,
        request_options: RequestOptions | None = None,
    ) -> Asset:
        """Put a local video, audio or image file into the account's storage and return it as an asset.

        A file with the same content that this key has uploaded before is not sent again: its asset says
        `was_there`. A cut upload and one whose URL has expired start again from a fresh URL, `max_retries`
        times.

        Args:
            source: a path, or a file open for reading bytes.
            name: what the file and the asset are called; by default as the source says.
            kind: what it has to be, and what an MP4 is that may be either; by default as its content says.
            sha256: the hash of the content where it is known already; sending checks it.
            on_progress: awaited with each step forward.
            request_options: hold for what is asked of the API; the file may take as long as it goes on.

        Raises:
            FileRefused: it cannot be read, is no media that the API takes, or changed meanwhile.
            APIStatusError: the API refused it, such as a file too large for the plan.
            APIConnectionError, APITimeoutError, APIResponseError: it could not be sent.
        """
        if kind not in (None, *get_args(MediaKind)):
            raise InvalidRequestError(f"kind must be one of: {', '.join(get_args(MediaKind))}.")
        if sha256 is not None and not _SHA256.fullmatch(sha256):
            raise InvalidRequestError("sha256 must be 64 hexadecimal digits in lower case.")
        async with open_file(source, name or "") as file:
            format = file.format(kind)
            digest = sha256 or await file.sha256(on_progress)
            known = await self._find_same(digest, format, file.size, request_options)
            if known is not None:
                return known.as_there_before()
            sent = name_to_send(file.name, format)
            url = await self._send(file, format, digest, sent, on_progress, request_options)
        body = {
            "url": url,
            "type": format.kind.upper(),
            "name": clean(name or "", _NAME_LIMIT) or sent,
            "contentSha256": digest,
            **({"projectId": project_id} if project_id else {}),
        }
        return await self._register(body, digest, format, file.size, request_options)

    async def find_uploaded(
        self, sha256: str, kind: MediaKind, *, request_options: RequestOptions | None = None
    ) -> Asset | None:
        """Return the newest asset that this key has uploaded with that content, or None where there is none.

        An API that keeps no hashes knows none.
        """
        query = {"contentSha256": sha256, "type": kind.upper()}
        try:
            reply = await self._transport.read(
                Call("GET", "/v2/assets/uploaded", query=query), request_options
            )
        except (RequestRejectedError, NotFoundError, ServerError) as error:
            # It only saves an upload: an API that cannot tell gets the file.
            logger.warning("whether a file was uploaded before cannot be told: %s", error)
            return None
        try:
            return Asset.from_wire(reply.fields.get("asset"))
        except ValidationError:
            return None

    async def _find_same(
        self, sha256: str, format: MediaFormat, size: int, options: RequestOptions | None
    ) -> Asset | None:
        """Return the newest asset of this key with the content of a file."""
        found = await self.find_uploaded(sha256, format.kind, request_options=options)
        return found if found is not None and found.size in (None, size) else None

    async def _send(
        self,
        file: LocalFile,
        format: MediaFormat,
        sha256: str,
        name: str,
        on_progress: OnProgress | None,
        options: RequestOptions | None,
    ) -> str:
        """Send a file to the storage and return the URL by which it is registered."""
        body = {"fileName": name, "contentType": format.content_type, "size": file.size}
        tries = transfer_budget(self._transport, options)
        while True:
            # A fresh one each time: the last may be used up, or out of time.
            reply = await self._transport.read(Call("POST", "/v2/assets/upload", body=body), options)
            place = reply.read_as(_Place, "place to upload to")
            try:
                await file.send(
                    self._transport,
                    place.upload_url,
                    content_type=format.content_type,
                    sha256=sha256,
                    on_progress=on_progress,
                )
                return place.url
            except (APIConnectionError, APITimeoutError, APIResponseError) as error:
                if not error.retryable or not await tries.pause(error.retry_after_seconds):
                    raise
                logger.warning("an upload starts again: %s", error)

    async def _register(
        self,
        body: Mapping[str, object],
        sha256: str,
        format: MediaFormat,
        size: int,
        options: RequestOptions | None,
    ) -> Asset:
        """Make an asset of what was sent; not sent again before it is known that there is none."""
        budget = self._transport.budget(options)
        while True:
            try:
                reply = await self._transport.send(Call("POST", "/v2/assets", body=body), budget, options)
                if reply.ok and reply.data is not None:
                    return reply.read_as(Asset, "asset")
                raise self._transport.error_from(reply)
            except SyncError as error:
                if isinstance(error, RequestRejectedError) and "contentSha256" in body and _names_hash(error):
                    # An API that keeps no hashes takes the file without one.
                    body = {key: value for key, value in body.items() if key != "contentSha256"}
                    continue
                if not error.retryable:
                    raise
                if not isinstance(error, APIConnectionError | RateLimitError):
                    made = await self._find_same(sha256, format, size, options)
                    if made is not None:
                        return made
                if not await budget.pause(error.retry_after_seconds):
                    raise


def _path(id: str) -> str:
    return f"/v2/assets/{check_id(id, 'An asset')}"


def _names_hash(error: RequestRejectedError) -> bool:
    return error.status == 400 and "contentsha256" in f"{error.api_says} {error.field}".lower()
