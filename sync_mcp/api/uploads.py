"""Local files on their way to the API: opened once, hashed, streamed, and watched for changes (API §6.2)."""

import hashlib
import io
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.to_thread import run_sync

from sync_mcp.api.file_size import check_size_to_send
from sync_mcp.api.formats import HEAD_BYTES, MediaFormat, MediaKind, media_format
from sync_mcp.api.http import Transport
from sync_mcp.api.storage import put
from sync_mcp.errors import FileRefused, Transfer
from sync_mcp.texts import FILE_NAME_LIMIT, clean

Source = str | os.PathLike[str] | BinaryIO
"""A path, or a file that is open for reading bytes; it is read from its beginning, and its position moves."""

_PIECE = 256 * 1024
_PIECES_AT_ONCE = 4
_HASHED_AT_ONCE = 16 * 1024 * 1024
_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


OnProgress = Callable[[Transfer], Awaitable[None]]


@asynccontextmanager
async def open_file(source: Source, name: str = "") -> AsyncGenerator["LocalFile"]:
    """Open a file for one upload; `name` is what it is called, by default as the source says.

    Raises:
        FileRefused: it cannot be read, is no regular file, is empty or too large.
    """
    file = await run_sync(open_regular, source)
    try:
        yield await run_sync(LocalFile, file, name or _name_of(source))
    finally:
        file.close()


class LocalFile:
    """An open regular file that must stay as it was when it was opened."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        self.name = name
        """Its name without folders; "" where that is not known."""
        self._file = file
        self._before = os.fstat(file.fileno())
        self.size = self._before.st_size
        check_size_to_send(self._label, self.size)
        self.head = self._read(min(HEAD_BYTES, self.size), from_start=True)

    def format(self, kind: MediaKind | None = None) -> MediaFormat:
        """Return the format by which the file is sent.

        Raises:
            FileRefused: it is no media that the API takes, or not of this kind.
        """
        return media_format(self.head, self.name, kind)

    async def sha256(self, on_progress: OnProgress | None = None) -> str:
        """Return the SHA-256 of the whole content, in lower-case hexadecimal.

        Raises:
            FileRefused: it changed meanwhile, or cannot be read any more.
        """
        digest = hashlib.sha256()
        done = 0
        while done < self.size:
            done += await run_sync(self._hash, digest, done)
            if on_progress is not None:
                await on_progress(Transfer("hash", done, self.size))
        await run_sync(self._check)
        return digest.hexdigest()

    async def send(
        self,
        transport: Transport,
        url: str,
        *,
        content_type: str,
        sha256: str,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Send the whole content to a signed URL, once.

        The last piece is held back until all of it is known to have the hash, so that no storage ever has the
        whole of a file that changed.

        Raises:
            FileRefused: it changed meanwhile, or cannot be read any more.
            APIConnectionError, APITimeoutError, APIResponseError: as `storage.put`.
        """
        pieces, arriving = anyio.create_memory_object_stream[bytes](_PIECES_AT_ONCE)
        body = _Body(arriving, self.size, on_progress)
        try:
            with arriving:
                async with anyio.create_task_group() as tasks:
                    # Read and hashed ahead, while the piece before is on its way.
                    tasks.start_soon(self._feed, pieces, body, sha256)
                    await put(transport, url, body, size=self.size, content_type=content_type)
                    tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            # What goes wrong in reading comes out of the body: there is one error at a time.
            error = group.exceptions[0]
            raise error from error.__cause__

    async def _feed(self, pieces: MemoryObjectSendStream[bytes], body: "_Body", sha256: str) -> None:
        with pieces:
            digest = hashlib.sha256()
            done = 0
            try:
                while done < self.size:
                    read = await run_sync(self._pieces, digest, done)
                    done += sum(map(len, read))
                    if done == self.size:
                        await run_sync(self._check)
                        if digest.hexdigest() != sha256:
                            raise self._change_error()
                    for piece in read:
                        await pieces.send(piece)
            except FileRefused as refused:
                body.failure = refused
            except anyio.BrokenResourceError:
                # Nobody takes any more: the storage has answered before it had everything.
                pass

    def _hash(self, digest: _Hash, done: int) -> int:
        """Hash what follows on `done` bytes, and return how much that was."""
        most = min(_HASHED_AT_ONCE, self.size - done)
        hashed = 0
        while hashed < most:
            piece = self._read(min(_PIECE, most - hashed), from_start=done + hashed == 0)
            digest.update(piece)
            hashed += len(piece)
        return hashed

    def _pieces(self, digest: _Hash, done: int) -> list[bytes]:
        """Return the next pieces, which may be fewer than the file has but are never none."""
        read: list[bytes] = []
        for _ in range(_PIECES_AT_ONCE):
            piece = self._read(min(_PIECE, self.size - done), from_start=not done)
            digest.update(piece)
            read.append(piece)
            done += len(piece)
            if done == self.size:
                break
        return read

    def _read(self, size: int, *, from_start: bool) -> bytes:
        try:
            if from_start:
                self._file.seek(0)
            piece = self._file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error
        if not piece:
            raise self._change_error()
        return piece

    def _check(self) -> None:
        after = os.fstat(self._file.fileno())
        before = self._before
        # A file may get its old size and time back, but not its last change.
        if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (
            before.st_size,
            before.st_mtime_ns,
            before.st_ctime_ns,
        ):
            raise self._change_error()

    @property
    def _label(self) -> str:
        return self.name or "The file"

    def _unreadable(self, error: OSError) -> FileRefused:
        return _unreadable(self._label, error)

    def _change_error(self) -> FileRefused:
        return FileRefused(
            f"{self._label} changed while it was read, and was not uploaded.",
            code="file_changed",
            next_step="Wait until nothing writes to the file any more, then call again.",
        ).advise(retryable=True)


class _Body:
    """The pieces of a file as a request takes them, and the failure of reading them in their place."""

    def __init__(
        self, pieces: MemoryObjectReceiveStream[bytes], size: int, on_progress: OnProgress | None
    ) -> None:
        self._pieces = pieces
        self._size = size
        self._on_progress = on_progress
        self._taken = 0
        self._sent = 0
        self.failure: FileRefused | None = None

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        if self._on_progress is not None and self._taken > self._sent:
            # Asked for the next one, the connection has taken the last.
            self._sent = self._taken
            await self._on_progress(Transfer("send", self._sent, self._size))
        try:
            piece = await self._pieces.receive()
        except anyio.EndOfStream:
            if self.failure is not None:
                raise self.failure from self.failure.__cause__
            raise StopAsyncIteration from None
        self._taken += len(piece)
        return piece


def name_to_send(name: str, format: MediaFormat) -> str:
    """Return a file's name as the API is told it: clean, and with an ending that fits the content."""
    shown = PurePath(clean(name.replace("\\", "/"), 4 * FILE_NAME_LIMIT))
    stem, ending = shown.stem[:FILE_NAME_LIMIT].strip() or format.kind, shown.suffix
    if ending.lower() in format.endings:
        return stem + ending
    return f"{stem}{ending[:20]}{format.endings[0]}"


def open_regular(source: Source) -> io.FileIO:
    """Open a regular file of a disk for reading, apart from whoever else has it open; blocks.

    Raises:
        FileRefused: `file_not_found`, `file_not_readable`.
    """
    if isinstance(source, str | os.PathLike):
        return _regular(*_descriptor_of_path(source))
    try:
        number = source.fileno()
    except (AttributeError, OSError, ValueError):
        raise FileRefused(
            "The source is no open file of a disk.",
            code="file_not_readable",
            next_step="Give a path, or a file that is open for reading bytes.",
        ) from None
    return _regular(os.dup(number), _name_of(source))


def _descriptor_of_path(source: str | os.PathLike[str]) -> tuple[int, str]:
    name = _name_of(source)
    try:
        # Not blocking: nobody may ever write to a pipe that is taken for a file.
        return os.open(source, os.O_RDONLY | _NOT_BLOCKING | _BINARY), name
    except ValueError:
        raise FileRefused("A path cannot have a NUL in it.", code="file_not_found") from None
    except OSError as error:
        raise _unreadable(name or "The path", error) from error


def _regular(descriptor: int, name: str) -> io.FileIO:
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise FileRefused(f"{name or 'The source'} is {what}.", code="file_not_readable")
        return io.FileIO(descriptor, "rb")
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise


def _unreadable(shown: str, error: OSError) -> FileRefused:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return FileRefused(
        f"{shown} cannot be read: {error.strerror or type(error).__name__}.",
        code="file_not_found" if missing else "file_not_readable",
        next_step="Check the path." if missing else "Check the file and who may read it.",
    )


def _name_of(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return Path(os.fspath(source)).name
    name = getattr(source, "name", None)
    return Path(name).name if isinstance(name, str) else ""
