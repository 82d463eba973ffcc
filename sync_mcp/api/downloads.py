"""Files on their way from a storage to the disk: streamed, resumed after a cut, named when they are whole."""

import os
import re
import secrets
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.file_size import LARGEST_BYTES, check_size_to_fetch
from sync_mcp.api.http import OpenReply, Transport
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.retry import Budget
from sync_mcp.api.storage import download, read_chunks, transfer_budget
from sync_mcp.api.uploads import OnProgress
from sync_mcp.errors import APIConnectionError, APIResponseError, APITimeoutError, FileRefused, Transfer

FreshURL = Callable[[], Awaitable[str]]
"""Returns a URL of the file whose signature has just begun to hold."""

_LONGEST_SECONDS = 12 * 3600.0
_MOST_TRIES = 1000
_WRITTEN_AT_ONCE = 1024 * 1024
_LEFT_BEHIND = re.compile(r"\.sync-mcp-[0-9a-f]{16}\.part")
_LEFT_BEHIND_SECONDS = 24 * 3600.0
"""After so long without a change nobody writes to it any more."""
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")


@asynccontextmanager
async def fetch_file(
    transport: Transport,
    fresh_url: FreshURL,
    folder: Path,
    *,
    limit_bytes: int = LARGEST_BYTES,
    on_progress: OnProgress | None = None,
    request_options: RequestOptions | None = None,
) -> AsyncGenerator[Path]:
    """Fetch a whole file into `folder` under a temporary name; it is gone afterwards unless it was moved.

    Raises:
        FileRefused: it is too large, or cannot be written.
        APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries, or in half a
            day.
    """
    part = folder / f".sync-mcp-{secrets.token_hex(8)}.part"
    descriptor, holder = await run_sync(_create, part)
    try:
        fetch = _Fetch(transport, fresh_url, descriptor, limit_bytes, on_progress)
        try:
            with anyio.move_on_after(_LONGEST_SECONDS) as scope:
                await fetch.run(transfer_budget(transport, request_options))
            if scope.cancelled_caught:
                raise APITimeoutError(f"The download did not end within {_LONGEST_SECONDS / 3600:g} hours.")
            await run_sync(_finish, descriptor, fetch.done)
        finally:
            os.close(descriptor)
        yield part
    finally:
        _remove(part, holder)


async def save_file(
    fetch: Callable[[Path], AbstractAsyncContextManager[Path]],
    destination: str | os.PathLike[str],
    *,
    overwrite: bool,
) -> Path:
    """Give what `fetch` fetches into the folder of `destination` that name, and return where it is.

    Raises:
        FileRefused: there is a file by that name already, or it cannot be written.
        SyncError: as `fetch`.
    """
    path = Path(os.fspath(destination))
    await run_sync(lambda: check_destination(path, overwrite=overwrite))
    async with fetch(path.parent) as part:
        await run_sync(lambda: move_into_place(part, path, overwrite=overwrite))
    return path


def _remove_left_behind(folder: Path | int) -> None:
    """Remove from `folder`, a path or an open descriptor, what a killed process had begun to fetch into it.

    What has changed within a day stays: another process may be at it.
    """
    before = time.time() - _LEFT_BEHIND_SECONDS
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                is_ours = _LEFT_BEHIND.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if not is_ours or entry.stat(follow_symlinks=False).st_mtime >= before:
                    continue
                if isinstance(folder, int):
                    os.unlink(entry.name, dir_fd=folder)
                else:
                    Path(entry.path).unlink()


def move_into_place(part: Path, destination: Path, *, overwrite: bool) -> None:
    """Give a fetched file its name, at once and whole, so that it has it after a failure of power too.

    Raises:
        FileRefused: there is a file by that name, or it cannot be written.
    """
    try:
        if overwrite:
            part.replace(destination)
            _keep_names(destination.parent)
            return
        try:
            # Unlike a rename, a link never takes the place of what is there.
            destination.hardlink_to(part)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links.
            if destination.exists():
                raise FileExistsError from None
            part.rename(destination)
        _keep_names(destination.parent)
    except FileExistsError:
        raise _already_there(destination) from None
    except OSError as error:
        raise _unwritable(destination, error) from error


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Check that a fetched file could get this name.

    Raises:
        FileRefused: there is a folder by that name, or a file that must stay, or it is no name at all.
    """
    try:
        mode = os.lstat(destination).st_mode
    except FileNotFoundError:
        return
    except ValueError:
        raise FileRefused("A path cannot have a NUL in it.", code="file_not_writable") from None
    except OSError as error:
        raise _unwritable(destination, error) from error
    if stat.S_ISDIR(mode):
        raise FileRefused(
            f"{destination.name or destination} is a folder.",
            code="file_not_writable",
            next_step="Name the file to write, not its folder.",
        )
    if not overwrite:
        raise _already_there(destination)


@dataclass(frozen=True, slots=True)
class _Announced:
    """What a storage tells of a file before it sends it, or a part of it."""

    starts_at: int
    size: int | None
    """Of the whole file."""
    etag: str | None


class _Fetch:
    """One file on its way into a temporary one."""

    def __init__(
        self,
        transport: Transport,
        fresh_url: FreshURL,
        descriptor: int,
        limit_bytes: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._transport = transport
        self._fresh_url = fresh_url
        self._descriptor = descriptor
        self._limit = limit_bytes
        self._on_progress = on_progress
        self.done = 0
        """How many bytes have come and been written."""
        self._size: int | None = None
        self._etag: str | None = None

    async def run(self, budget: Budget) -> None:
        """Fetch all of it, in as many tries as `budget` has without a step forward."""
        tries = budget.retries_left
        for number in count(1):
            before = self.done
            try:
                await self._once()
                return
            except (APIConnectionError, APITimeoutError, APIResponseError) as error:
                if isinstance(error, APIResponseError) and error.status == 416:
                    # There is no such part any more: from the beginning.
                    self._forget()
                elif not error.retryable:
                    raise
                if self.done - before >= _WRITTEN_AT_ONCE:
                    budget.retries_left = tries
                if number >= _MOST_TRIES or not await budget.pause(error.retry_after_seconds):
                    raise

    async def _once(self) -> None:
        if self._etag is None:
            # Nothing would tell whether a second part is of the same file.
            self._forget()
        headers: Mapping[str, str] = {}
        if self.done and self._etag:
            headers = {"range": f"bytes={self.done}-", "if-range": self._etag}
        async with download(self._transport, await self._fresh_url(), headers) as answer:
            told = _read_announcement(answer)
            if told != _Announced(self.done, self._size, self._etag):
                self._forget()
                if told.starts_at:
                    raise APIResponseError("The file changed between two parts of its download.")
            self._size, self._etag = told.size, told.etag
            check_size_to_fetch(told.size, self._limit)
            await self._save(answer)
        if self._size is not None and self.done != self._size:
            raise APIResponseError(f"The download ended after {self.done:,} of {self._size:,} bytes.")

    async def _save(self, answer: OpenReply) -> None:
        room = (self._limit if self._size is None else self._size) - self.done
        waiting = bytearray()
        try:
            async with aclosing(read_chunks(answer, room)) as chunks:
                async for chunk in chunks:
                    waiting += chunk
                    if len(waiting) >= _WRITTEN_AT_ONCE:
                        await self._write(waiting)
        except (APITimeoutError, APIResponseError):
            # What came before a cut need not come again.
            await self._write(waiting)
            raise
        await self._write(waiting)

    async def _write(self, waiting: bytearray) -> None:
        if not waiting:
            return
        await run_sync(_write, self._descriptor, bytes(waiting), self.done)
        self.done += len(waiting)
        waiting.clear()
        if self._on_progress is not None:
            await self._on_progress(Transfer("fetch", self.done, self._size))

    def _forget(self) -> None:
        self.done, self._size, self._etag = 0, None, None


def _read_announcement(answer: OpenReply) -> _Announced:
    told = answer.headers.get("etag", "")
    # A weak one does not vouch for each byte.
    etag = told if told.startswith('"') else None
    if answer.status == 206:
        part = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if part is None:
            raise APIResponseError("The storage does not say which part of the file it sends.")
        return _Announced(int(part[1]), int(part[2]), etag)
    length = answer.headers.get("content-length", "")
    if length.isdecimal():
        return _Announced(0, int(length), etag)
    if "transfer-encoding" in answer.headers:
        return _Announced(0, None, etag)
    raise APIResponseError("The storage does not say how long the file is.")


def _create(part: Path) -> tuple[int, int | None]:
    """Return the new file and, where the system can, its folder, open: it stays in reach if it is moved."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    holder: int | None = None
    if {os.open, os.unlink} <= os.supports_dir_fd:
        # A folder may be one to write to and not to read.
        with suppress(OSError):
            holder = os.open(part.parent, os.O_RDONLY | os.O_DIRECTORY)
    _remove_left_behind(holder if holder is not None and os.scandir in os.supports_fd else part.parent)
    try:
        if holder is None:
            return os.open(part, flags, 0o666), None
        return os.open(part.name, flags, 0o666, dir_fd=holder), holder
    except OSError as error:
        if holder is not None:
            os.close(holder)
        raise _unwritable(part.parent, error) from error


def _remove(part: Path, holder: int | None) -> None:
    with suppress(OSError):
        if holder is None:
            part.unlink()
        else:
            os.unlink(part.name, dir_fd=holder)
    if holder is not None:
        os.close(holder)


def _write(descriptor: int, data: bytes, at: int) -> None:
    try:
        os.lseek(descriptor, at, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise _unwritable(None, error) from error


def _finish(descriptor: int, size: int) -> None:
    try:
        # A try from the beginning may have begun when more was there.
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    except OSError as error:
        raise _unwritable(None, error) from error


def _keep_names(folder: Path) -> None:
    """Have the disk keep which names are in `folder`, where the system can be told to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _already_there(destination: Path) -> FileRefused:
    return FileRefused(
        f"{destination.name} is there already.",
        code="file_exists",
        next_step="Name another file; overwrite only if the user says so.",
    )


def _unwritable(place: Path | None, error: OSError) -> FileRefused:
    shown = place.name or str(place) if place else "The file"
    return FileRefused(
        f"{shown} cannot be written: {error.strerror or type(error).__name__}.",
        code="file_not_writable",
        next_step="Check that the folder is there, may be written to, and has room.",
    )
