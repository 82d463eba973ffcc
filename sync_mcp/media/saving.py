"""A generation's output on the disk: fetched whole, checked as far as it can be, and only then named."""

import hashlib
import os
import re
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.to_thread import run_sync

from sync_mcp.api.assets import Asset
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.downloads import check_destination, move_into_place
from sync_mcp.api.formats import HEAD_BYTES, media_format
from sync_mcp.api.models import Audio, Generation, Image, Text, Video
from sync_mcp.api.uploads import OnProgress, Transfer, open_file
from sync_mcp.errors import APIResponseError, APITimeoutError, FileRefused, SyncError
from sync_mcp.media.decoding.findings import ContactSheet, Examination
from sync_mcp.media.decoding.look import contact_sheet, examine, look
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.temporary import temporary_copy, temporary_folder
from sync_mcp.texts import clean, safe

OK = "ok"
_FAILED = "failed"
_NOT_CHECKED = "not checked"
_BY_DECODING = ("decodes", "duration", "voice", "picture", "sound", "movement")
_BY_LOOKING = ("decodes", "picture", "sound", "movement")

LARGEST_PREVIEWED_BYTES = 2 * 1024**3
_PREVIEW_SECONDS = 600.0
_LARGEST_INPUT_BYTES = 100 * 1024**2
_VOICE_SECONDS = 15.0
_LOUDER = 4
"""By how much a voice has to be louder than a silent output for that to be a fault."""

_TOLERANCE_SECONDS = 0.5
_TOLERANCE_SHARE = 0.02
_REASON_LIMIT = 160
_WORD_LIMIT = 40
_NAME_LIMIT = 100
_STEM_BYTES = 200
_MOST_FAILED = 100

_NOT_IN_NAMES = re.compile(r"[^\w .()+-]+")
_DEVICE = re.compile(r"(?i)(?:con|prn|aux|nul|conin|conout|com\d|lpt\d)\s*(?:\..*)?")


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was saved, and what is known of it."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    duration_seconds: float | None
    """None where it could not be measured."""
    checks: Mapping[str, str]
    """By name: `ok`, `failed: why` or `not checked: why`."""
    note: str | None
    """Why it could not be decoded on this machine."""
    was_there: bool
    """Whether the same content had the name already."""
    identity: tuple[int, ...]

    @property
    def failures(self) -> list[str]:
        """The names of the checks that failed."""
        return [name for name, outcome in self.checks.items() if outcome.startswith(_FAILED)]

    @property
    def not_checked(self) -> list[str]:
        """The names of the checks of picture and sound that could not be made."""
        return [name for name in _BY_LOOKING if self.checks[name].startswith(_NOT_CHECKED)]

    def is_still_there(self) -> bool:
        """Return whether nobody has moved or changed the file since; blocks."""
        try:
            return _identity(self.path) == self.identity
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class _Checked:
    """The outcome of the checks of an output."""

    checks: dict[str, str]
    duration_seconds: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Voice:
    seconds: float
    is_sound_alone: bool
    """Whether it is known to be no video."""


def file_name(generation: Generation) -> str:
    """Return what the output is called where the caller names a folder alone."""
    asked = clean(generation.output_file_name or "", _NAME_LIMIT).removesuffix("…")
    stem = _NOT_IN_NAMES.sub("_", asked).removesuffix(".mp4").strip(" ._")
    if not stem or _DEVICE.fullmatch(stem):
        stem = f"sync-{generation.id}"
    return f"{stem}.mp4"


async def save(
    sync: AsyncSync,
    generation: Generation,
    destination: Path,
    roots: MediaRoots,
    *,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Saved:
    """Save the output of a completed job as `destination`, which `roots` has given.

    A file that fails a check is kept beside it as `NAME.failed-check.mp4`, and what has the name stays. Where
    the same content has the name already, that is the answer.

    Raises:
        NoOutput: the job has no output.
        FileRefused: another file has the name and may not be overwritten, or it cannot be written.
        APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries.
    """
    size_there = None if overwrite else await run_sync(_size_of, destination)
    told_bytes: int | None = None

    async def note(transfer: Transfer) -> None:
        nonlocal told_bytes
        told_bytes = transfer.total_bytes
        if size_there is not None and told_bytes not in (None, size_there):
            # Another length is another content: no need to fetch all of it.
            await run_sync(lambda: check_destination(destination, overwrite=False))
        if on_progress is not None:
            await on_progress(transfer)

    async with sync.generations.fetch(
        generation.id, destination.parent, known=generation, on_progress=note
    ) as part:
        async with _open(part) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise APIResponseError(f"The output of generation {generation.id} is empty.")
            sha256 = await _sha256(file, destination.name, on_progress)
            was_there = size_there == size and await _has_content(destination, sha256)
            if size_there is not None and not was_there:
                await run_sync(lambda: check_destination(destination, overwrite=False))
            checked = await _check(sync, generation, file, told_bytes)
            await run_sync(roots.check_open, file.fileno(), part)
        # On some systems what is open cannot be renamed.
        failed = any(outcome.startswith(_FAILED) for outcome in checked.checks.values())
        path = destination
        if failed and not was_there:
            path, was_there = await run_sync(_keep_as_failed, part, destination, size, sha256)
        elif not was_there:
            was_there = await _move(part, destination, size, sha256, overwrite=overwrite)
    return Saved(
        path=path,
        size=size,
        sha256=sha256,
        duration_seconds=checked.duration_seconds,
        checks=checked.checks,
        note=checked.note,
        was_there=was_there,
        identity=await run_sync(_identity, path),
    )


async def _move(part: Path, destination: Path, size: int, sha256: str, *, overwrite: bool) -> bool:
    """Give a fetched file its name; return whether the same content got it meanwhile.

    Raises:
        FileRefused: another content has it, or it cannot be written.
    """
    try:
        await run_sync(lambda: move_into_place(part, destination, overwrite=overwrite))
    except FileRefused as error:
        is_there = error.code == "file_exists" and await run_sync(_size_of, destination) == size
        if not (is_there and await _has_content(destination, sha256)):
            raise
        return True
    return False


async def preview(
    sync: AsyncSync, generation: Generation, *, on_progress: OnProgress | None = None
) -> ContactSheet:
    """Return frames from the whole length of a completed job's output; the output itself is not kept.

    Raises:
        NoOutput: the job has no output.
        FileRefused: it is too large, cannot be decoded, or there is no room for it.
        APIConnectionError, APITimeoutError, APIResponseError: it could not be had in all tries.
    """
    try:
        with anyio.fail_after(_PREVIEW_SECONDS):
            async with (
                temporary_folder() as folder,
                sync.generations.fetch(
                    generation.id,
                    folder.path,
                    known=generation,
                    limit_bytes=LARGEST_PREVIEWED_BYTES,
                    on_progress=folder.count(on_progress),
                ) as part,
            ):
                return await contact_sheet(part)
    except TimeoutError:
        raise APITimeoutError(
            f"The output of generation {generation.id} did not come in {_PREVIEW_SECONDS:.0f} s."
        ) from None


async def _check(sync: AsyncSync, generation: Generation, file: BinaryIO, told_bytes: int | None) -> _Checked:
    checks = {
        # A length that differs from what was told is no end, and the fetch goes on or fails.
        "length": OK if told_bytes is not None else f"{_NOT_CHECKED}: the storage tells none",
        "container": await run_sync(_container, file),
    }
    try:
        examined = await examine(file)
    except FileRefused as error:
        unknown = dict.fromkeys(_BY_DECODING, _NOT_CHECKED)
        if error.code != "file_damaged":
            return _Checked(checks | unknown, note=f"{error.message} {error.next_step}")
        return _Checked(checks | unknown | {"decodes": f"{_FAILED}: no picture or sound can be decoded"})
    info = examined.info
    # A header may tell too little; what was seen is there.
    seconds = max(info.duration_seconds or 0.0, examined.counted_seconds)
    voice = await _find_voice(sync, generation)
    if checks["container"] == OK and "mp4" not in info.format_name.split(","):
        checks["container"] = f"{_FAILED}: it is {clean(info.format_name, _WORD_LIMIT)}"
    checks["decodes"] = _decodes(examined)
    checks["duration"] = _as_told(seconds, generation.output_duration)
    checks["voice"] = voice if isinstance(voice, str) else _as_voice(generation, seconds, voice.seconds)
    checks["picture"] = OK if info.has_video else f"{_FAILED}: it has none"
    checks["sound"] = (
        await _silence(sync, generation, examined)
        if examined.sound_is_heard is False
        else _sound(examined, seconds, None if isinstance(voice, str) else voice)
    )
    checks["movement"] = await _movement(sync, generation, examined)
    return _Checked(checks, duration_seconds=round(seconds, 3))


def _container(file: BinaryIO) -> str:
    file.seek(0)
    try:
        found = media_format(file.read(HEAD_BYTES), "output.mp4")
    except FileRefused:
        return f"{_FAILED}: it is no MP4"
    return OK if found.content_type == "video/mp4" else f"{_FAILED}: it is {found.content_type}"


def _as_told(seconds: float, told: float | None) -> str:
    if told is None or told <= 0:
        return f"{_NOT_CHECKED}: the API tells none"
    if abs(seconds - told) <= _tolerance(told):
        return OK
    return f"{_FAILED}: {seconds:.1f} s, but the API tells {told:.1f} s"


def _decodes(examined: Examination) -> str:
    if not examined.decodes_to_end:
        return f"{_FAILED}: it breaks off before its end"
    if not examined.decoded_whole:
        return f"{_NOT_CHECKED}: only its beginning and its last seconds were decoded in time"
    return OK


async def _find_voice(sync: AsyncSync, generation: Generation) -> _Voice | str:
    """Return the voice that the whole output speaks with, or why it is not known."""
    item = _only_voice(generation)
    if item is None:
        has_one = any(isinstance(item, Audio | Text) for item in generation.input)
        return f"{_NOT_CHECKED}: it has {'segments' if has_one else 'no voice input'}"
    try:
        voice = await _voice(sync, generation, item)
    except SyncError as error:
        return f"{_NOT_CHECKED}: {safe(error.message, _REASON_LIMIT)}"
    return voice or f"{_NOT_CHECKED}: the voice's length is not known"


def _only_voice(generation: Generation) -> Audio | Text | None:
    voices = [item for item in generation.input if isinstance(item, Audio | Text)]
    return None if generation.segments or len(voices) != 1 else voices[0]


def _as_voice(generation: Generation, seconds: float, voice: float) -> str:
    """Compare the output's length with the voice's as `sync_mode` says that they relate (API §3.1.2)."""
    still = any(isinstance(item, Image) for item in generation.input)
    mode = (generation.options and generation.options.sync_mode) or "bounce"
    lengths = f"{seconds:.1f} s, but the voice has {voice:.1f} s"
    if still or mode in ("bounce", "loop", "remap"):
        return OK if abs(seconds - voice) <= _tolerance(voice) else f"{_FAILED}: {lengths}"
    if mode == "cut_off":
        return OK if seconds <= voice + _tolerance(voice) else f"{_FAILED}: {lengths}"
    if mode == "silence" and seconds >= voice - _tolerance(voice):
        return OK
    return f"{_NOT_CHECKED}: {lengths}, and sync_mode {clean(mode, _WORD_LIMIT)} does not tell which counts"


async def _voice(sync: AsyncSync, generation: Generation, item: Audio | Text) -> _Voice | None:
    """Return how long the voice is, None where it is nowhere told.

    Raises:
        SyncError: it cannot be had, or not be decoded.
    """
    with anyio.move_on_after(_VOICE_SECONDS):
        url, asset = await _source_of_voice(sync, generation, item)
        if asset is not None and asset.duration_seconds:
            return _Voice(asset.duration_seconds, is_sound_alone=asset.type == "AUDIO")
        if not url:
            return None
        async with temporary_copy(sync, url, limit_bytes=_LARGEST_INPUT_BYTES) as path:
            info = await look(path)
        if not info.duration_seconds:
            return None
        return _Voice(info.duration_seconds, is_sound_alone=not info.has_video)
    raise APITimeoutError(f"the voice could not be had in {_VOICE_SECONDS:.0f} s")


async def _source_of_voice(
    sync: AsyncSync, generation: Generation, item: Audio | Text
) -> tuple[str | None, Asset | None]:
    if not isinstance(item, Audio):
        return generation.synthesized_audio_url, None
    return await _source(sync, item)


async def _source(sync: AsyncSync, item: Audio | Video) -> tuple[str | None, Asset | None]:
    asset = await sync.assets.get(item.asset_id) if item.asset_id else None
    return (asset.url if asset is not None else item.url), asset


async def _silence(sync: AsyncSync, generation: Generation, examined: Examination) -> str:
    """Tell whether an output without a sound to be heard should have one: the voice may be silence too."""
    if not examined.decoded_whole:
        return f"{_NOT_CHECKED}: what was decoded in time is silent"
    item = _only_voice(generation)
    with suppress(SyncError), anyio.move_on_after(_VOICE_SECONDS):
        url = (await _source_of_voice(sync, generation, item))[0] if item is not None else None
        if url:
            async with temporary_copy(sync, url, limit_bytes=_LARGEST_INPUT_BYTES) as path:
                voice = await examine(path)
            if voice.sound_is_heard and voice.sound_peak > _LOUDER * examined.sound_peak:
                return f"{_FAILED}: it is silent throughout"
    return f"{_NOT_CHECKED}: it is silent throughout; the voice may be so"


def _sound(examined: Examination, seconds: float, voice: _Voice | None) -> str:
    if not examined.info.has_audio:
        return f"{_FAILED}: it has none"
    if not examined.info.has_video:
        return OK
    ends = examined.sound_seconds
    if ends is None:
        return f"{_NOT_CHECKED}: its end was not reached in time"
    # In a video that serves as the voice, the sound may end before the picture.
    known = voice is not None and voice.is_sound_alone
    due = min(seconds, voice.seconds) if voice is not None and known else seconds
    if ends >= due - _tolerance(due):
        return OK
    outcome = _FAILED if known else _NOT_CHECKED
    return f"{outcome}: it ends at {ends:.1f} s, the picture at {seconds:.1f} s"


async def _movement(sync: AsyncSync, generation: Generation, examined: Examination) -> str:
    if not examined.info.has_video:
        return f"{_NOT_CHECKED}: it has no picture"
    if examined.picture_moves:
        return OK
    if not examined.decoded_whole:
        return f"{_NOT_CHECKED}: in what was decoded in time nothing moves"
    if await _source_stands_still(sync, generation):
        return f"{_NOT_CHECKED}: the picture stands still, and so does its video where it was looked at"
    return f"{_FAILED}: the picture stands still"


async def _source_stands_still(sync: AsyncSync, generation: Generation) -> bool:
    """Return whether the video that a job was made of can be had, and nothing moves in it either."""
    video = next((item for item in generation.input if isinstance(item, Video)), None)
    with suppress(SyncError), anyio.move_on_after(_VOICE_SECONDS):
        url, _ = await _source(sync, video) if video is not None else (None, None)
        if url:
            async with temporary_copy(sync, url, limit_bytes=_LARGEST_INPUT_BYTES) as path:
                return (await look(path)).stands_still
    return False


def _tolerance(seconds: float) -> float:
    return _TOLERANCE_SECONDS + _TOLERANCE_SHARE * seconds


@asynccontextmanager
async def _open(part: Path) -> AsyncGenerator[BinaryIO]:
    def open_part() -> BinaryIO:
        try:
            return part.open("rb", buffering=0)
        except OSError as error:
            raise FileRefused(
                f"The folder {part.parent.name or part.parent} changed while a file was written to it: "
                f"{error.strerror or type(error).__name__}.",
                code="file_not_writable",
                next_step="Name a folder that stays, and call again.",
            ) from error

    file = await run_sync(open_part)
    try:
        yield file
    finally:
        file.close()


async def _sha256(file: BinaryIO | Path, name: str, on_progress: OnProgress | None) -> str:
    async with open_file(file, name) as local:
        return await local.sha256(on_progress)


async def _has_content(path: Path, sha256: str) -> bool:
    try:
        return await _sha256(path, path.name, None) == sha256
    except FileRefused:
        # It went away or changed meanwhile; whether its name is free is seen when the name is given.
        return False


def _keep_as_failed(part: Path, destination: Path, size: int, sha256: str) -> tuple[Path, bool]:
    """Return the name that a fetched file now has beside `destination`, and whether it was there already."""
    stem = os.fsencode(destination.stem)[:_STEM_BYTES].decode("utf-8", "ignore")
    for number in range(1, _MOST_FAILED):
        which = "" if number == 1 else f"-{number}"
        path = destination.with_name(f"{stem}.failed-check{which}{destination.suffix}")
        if _is_file_of(path, size, sha256):
            return path, True
        try:
            move_into_place(part, path, overwrite=False)
        except FileRefused as error:
            if error.code != "file_exists":
                raise
            continue
        return path, False
    raise FileRefused(
        f"There are {_MOST_FAILED - 1} files of failed checks for {destination.name} already.",
        code="file_exists",
        next_step="Ask the user to remove them, or name another file.",
    )


def _is_file_of(path: Path, size: int, sha256: str) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _size_of(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
