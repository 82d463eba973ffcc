"""Looking at media files, in a process of limited time and memory that a hostile file may crash.

Each function takes a path or an open file of a disk. Of an open file the position moves, and is anywhere
afterwards; two looks at the same open file must not overlap. Nothing is decoded in this process.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import anyio
from anyio.abc import Process
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from pydantic import TypeAdapter, ValidationError

from sync_mcp.api.uploads import open_regular
from sync_mcp.errors import Code, FileRefused
from sync_mcp.media.decoding.findings import SHEET_BYTES, ContactSheet, Examination, MediaInfo
from sync_mcp.media.decoding.fork_servers import ForkServers, can_fork
from sync_mcp.texts import FILE_NAME_LIMIT, REASON_LIMIT, clean

LOOK_SECONDS = 10.0
EXAMINE_SECONDS = 20.0
SHEET_SECONDS = 20.0

_WORKER = "sync_mcp.media.decoding.worker"
_FORK_SERVER = "sync_mcp.media.decoding.fork_server"
_READY = b"ready\n"
_PROCESSES_AT_ONCE = 2
_ANSWER_BYTES = SHEET_BYTES + 64 * 1024
_EXTRA = ("av", "PIL")
_DAMAGED: tuple[Code, str] = (
    "file_damaged",
    "Name another file, or make this one anew with the program it comes from.",
)
_REFUSALS: Mapping[str, tuple[Code, str]] = {
    "cut short": (
        "file_damaged",
        "Copy, download or export it again, until all of it is there, and name that file.",
    ),
    "not decoded here": (
        "file_not_media",
        "Convert it (video: MP4 with H.264 and AAC; sound: WAV or MP3; picture: JPEG) and name that file.",
    ),
}
# What a program needs to start and to find its libraries. Whatever else is set, such as the API key, is not
# for a process that opens files of unknown origin.
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "SYSTEMDRIVE", "PYTHONHOME"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
)

Look = Callable[[BinaryIO | Path], Coroutine[object, object, MediaInfo]]
"""What looks at a file as `look` does."""
_Decode = Callable[[str, int, float], Awaitable[bytes]]
"""What has a task done with an open file, in so many seconds: it returns what the worker has written."""

T = TypeVar("T")
_slots: RunVar[anyio.CapacityLimiter] = RunVar("sync_mcp.media.decoding.look")


@dataclass(frozen=True, slots=True)
class _Answer:
    fields: dict[str, object]
    rest: bytes


def is_available() -> bool:
    """Return whether the extra `sync-mcp[media]` is installed, without importing any of it."""
    return all(map(_is_installed, _EXTRA))


@cache
def _is_installed(name: str) -> bool:
    return find_spec(name) is not None


def require_extra() -> None:
    """Say what to install where the extra `sync-mcp[media]` is missing.

    Raises:
        FileRefused: `media_extra_missing`.
    """
    if not is_available():
        raise FileRefused(
            "Media files cannot be looked at here: PyAV and Pillow are not installed.",
            code="media_extra_missing",
            next_step="Install sync-mcp[media] and restart the server.",
        )


async def look(file: BinaryIO | Path) -> MediaInfo:
    """Return what `file` holds, having decoded the first frame of each kind; takes ten seconds at most.

    Raises:
        FileRefused: `file_damaged` where it cannot be decoded or is cut short, `file_not_media` where only
            other programs decode it, `file_too_slow` where that took too long,
            `media_extra_missing` and `media_worker_failed` where nothing can be decoded on this machine,
            `file_not_found` and `file_not_readable`.
    """
    return await _look(file, _output_of_worker)


@asynccontextmanager
async def look_at_many() -> AsyncGenerator[Look]:
    """Yield what looks at each of many files as `look` does, and sooner: decoders are imported once."""
    if not can_fork():
        yield look
        return
    servers = ForkServers(lambda channel: _start([_FORK_SERVER], channel))

    async def look_at_one(file: BinaryIO | Path) -> MediaInfo:
        return await _look(file, partial(servers.decode, most_bytes=_ANSWER_BYTES))

    try:
        yield look_at_one
    finally:
        await servers.end()


async def examine(file: BinaryIO | Path) -> Examination:
    """Return whether `file` is a video as it should be, having decoded it; takes twenty seconds at most.

    Raises:
        FileRefused: as `look`.
    """
    answer = await _ask("examine", file, EXAMINE_SECONDS, _output_of_worker)
    return _read(Examination, answer.fields)


async def contact_sheet(file: BinaryIO | Path) -> ContactSheet:
    """Return frames from the whole length of a video as one JPEG; takes twenty seconds at most.

    Raises:
        FileRefused: as `look`; `file_damaged` too where it has no picture.
    """
    return await _sheet("contact_sheet", file)


async def small_sheet(file: BinaryIO | Path) -> ContactSheet:
    """Return three frames of a video side by side as one small JPEG; takes twenty seconds at most.

    Raises:
        FileRefused: as `contact_sheet`.
    """
    return await _sheet("small_sheet", file)


async def _sheet(task: str, file: BinaryIO | Path) -> ContactSheet:
    answer = await _ask(task, file, SHEET_SECONDS, _output_of_worker)
    return _read(ContactSheet, {**answer.fields, "jpeg": answer.rest})


async def _look(file: BinaryIO | Path, decode: _Decode) -> MediaInfo:
    answer = await _ask("look", file, LOOK_SECONDS, decode)
    return _read(MediaInfo, answer.fields)


async def _ask(task: str, file: BinaryIO | Path, seconds: float, decode: _Decode) -> _Answer:
    require_extra()
    name = _name_of(file)
    async with _slot(), _descriptor_of(file) as descriptor:
        try:
            with anyio.fail_after(seconds):
                output = await decode(task, descriptor, seconds)
        except TimeoutError:
            raise FileRefused(
                f"{name} could not be decoded within {seconds:g} seconds.",
                code="file_too_slow",
                next_step="Convert it to a smaller MP4 (H.264) and name that file.",
            ) from None
    return _read_answer(output, name)


async def _output_of_worker(task: str, descriptor: int, seconds: float) -> bytes:
    """Return what the worker has written when it has ended, however it ended, or when that was too much."""
    async with _worker(task, descriptor, seconds) as process:
        output = b""
        if process.stdout is not None:
            async for piece in process.stdout:
                output += piece
                if len(output) > _ANSWER_BYTES:
                    return output
        await process.wait()
        return output


@asynccontextmanager
async def _worker(task: str, descriptor: int, seconds: float) -> AsyncGenerator[Process]:
    # Cancelled half way, starting would leave a process that nobody knows of.
    with anyio.CancelScope(shield=True) as scope:
        process = await _start([_WORKER, task, str(seconds)], descriptor)
        scope.shield = False
        try:
            yield process
        finally:
            scope.shield = True
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.aclose()


async def _start(program: Sequence[str], stdin: int) -> Process:
    if not sys.executable:
        raise _no_worker("this program has no Python to start it with")
    # Not from the current folder, which may be anybody's; by the paths of this process instead.
    command = [sys.executable, "-P", "-m", *program]
    try:
        return await anyio.open_process(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        raise _no_worker(f"{sys.executable}: {error.strerror or type(error).__name__}") from error


def _environment() -> dict[str, str]:
    kept = {name: value for name in _ENVIRONMENT if (value := os.environ.get(name)) is not None}
    # An entry that is no absolute path means another place in another process.
    paths = [path for path in sys.path if path and Path(path).is_absolute()]
    # An allocator's arena for each thread would count against the limit of memory.
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "MALLOC_ARENA_MAX": "2"}


def _read_answer(output: bytes, name: str) -> _Answer:
    if not output.startswith(_READY):
        raise _no_worker(f"{sys.executable} does not run it")
    if len(output) > _ANSWER_BYTES:
        # Whoever says so much is not the worker any more.
        output = _READY
    line, _, rest = output.removeprefix(_READY).partition(b"\n")
    try:
        answer: object = json.loads(line)
    except ValueError:
        answer = None
    fields: Mapping[str, object] = cast(dict[str, object], answer) if isinstance(answer, dict) else {}
    match fields:
        case {"result": dict()}:
            return _Answer(cast(dict[str, object], fields["result"]), rest)
        case {"error": str(reason)}:
            raise _refusal(f"{name} {clean(reason, REASON_LIMIT)}", str(fields.get("why")))
        case _:
            message = f"{name} broke the decoder off: it is damaged, or too large to be decoded here."
    raise _refusal(message)


def _refusal(message: str, why: str = "") -> FileRefused:
    # The step is this server's own: whoever answers for the worker only chooses among them.
    code, next_step = _REFUSALS.get(why, _DAMAGED)
    return FileRefused(message, code=code, next_step=next_step)


def _read(kind: type[T], fields: Mapping[str, object]) -> T:
    try:
        return _reader_of(kind).validate_python(fields)
    except ValidationError as error:
        raise _no_worker("its answer cannot be read") from error


@cache
def _reader_of(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


def _no_worker(why: str) -> FileRefused:
    return FileRefused(
        f"The program that decodes media could not be used: {why}.",
        code="media_worker_failed",
        next_step="Install sync-mcp[media] anew in the Python that runs the server, and restart it.",
    )


@asynccontextmanager
async def _slot() -> AsyncGenerator[None]:
    # A limiter belongs to one event loop.
    try:
        limiter = _slots.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_PROCESSES_AT_ONCE)
        _slots.set(limiter)
    # Borrowed by an object of its own: a task may look at a second file while it looks at one.
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


@asynccontextmanager
async def _descriptor_of(file: BinaryIO | Path) -> AsyncGenerator[int]:
    opened = await run_sync(open_regular, file)
    try:
        yield opened.fileno()
    finally:
        opened.close()


def _name_of(file: BinaryIO | Path) -> str:
    name: object = getattr(file, "name", None)
    return (clean(Path(name).name, FILE_NAME_LIMIT) if isinstance(name, str) else "") or "The file"
