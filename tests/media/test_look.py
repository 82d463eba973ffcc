import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from sync_mcp.errors import FileRefused
from sync_mcp.media.decoding import look as looking
from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.media.decoding.look import contact_sheet, examine, is_available, look
from sync_mcp.media.decoding.probe import probe
from sync_mcp.sandbox.media.samples import sample
from tests.media.clips import frozen, make_media

pytestmark = pytest.mark.anyio

CLIP = sample("speaker.mp4")
_START = looking._start  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def starts_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each worker where that is what is tested: elsewhere a forked one answers the same, sooner."""
    monkeypatch.setattr(looking, "_start", _START)


class Started:
    """The processes that were started, and with what."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.environments: list[dict[str, str]] = []
        self.first = anyio.Event()


@pytest.fixture
async def started(starts_workers: None, monkeypatch: pytest.MonkeyPatch) -> Started:
    seen = Started()
    really = anyio.open_process

    async def open_process(command: list[str], **more: Any) -> Process:
        process = await really(command, **more)
        seen.processes.append(process)
        seen.environments.append(more["env"])
        seen.first.set()
        return process

    monkeypatch.setattr(anyio, "open_process", open_process)
    return seen


@pytest.mark.usefixtures("starts_workers")
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_look_tells_what_a_file_holds() -> None:
    info = await look(CLIP)
    assert (info.kind, info.duration_seconds, info.fps, info.width, info.height) == (
        "video",
        5.0,
        25.0,
        360,
        360,
    )
    assert (info.has_video, info.has_audio, info.video_codec, info.audio_codec) == (True, False, "h264", None)
    assert info == probe(CLIP)


@pytest.mark.usefixtures("starts_workers")
async def test_an_open_file_is_looked_at_from_its_beginning_wherever_it_stands() -> None:
    with CLIP.open("rb", buffering=0) as file:
        file.seek(0, io.SEEK_END)
        assert (await look(file)).kind == "video"
        assert (await look(file)).kind == "video"


@pytest.mark.parametrize(
    ("name", "picture", "sound", "kind"),
    [
        ("clip.mov", "mpeg4", "pcm_s16le", "video"),
        ("clip.webm", "libvpx-vp9", "libopus", "video"),
        ("clip.avi", "mpeg4", "libmp3lame", "video"),
        ("voice.m4a", None, "alac", "audio"),
        ("voice.wma", None, "wmav2", "audio"),
        ("voice.flac", None, "flac", "audio"),
    ],
)
async def test_codecs_are_told_by_their_usual_names(
    name: str, picture: str | None, sound: str, kind: str, tmp_path: Path
) -> None:
    format = {".m4a": "ipod", ".wma": "asf"}.get(Path(name).suffix)
    info = await look(make_media(tmp_path / name, picture=picture, sound=sound, format=format))
    usual = {"libvpx-vp9": "vp9", "libopus": "opus", "libmp3lame": "mp3"}
    assert info.kind == kind
    assert info.video_codec == (usual.get(picture, picture) if picture else None)
    assert info.audio_codec == usual.get(sound, sound)


async def test_what_cannot_be_decoded_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("This is no video.")
    with pytest.raises(FileRefused, match=r"notes\.mp4 cannot be decoded") as refused:
        await look(path)
    assert refused.value.code == "file_damaged"


def _playlist(clip: Path) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", f"file://{clip}", "#EXT-X-ENDLIST", ""]
    return "\n".join(lines).encode()


def _concat(clip: Path) -> bytes:
    # By its name alone, in the current folder: FFmpeg takes other paths for unsafe by itself.
    return f"ffconcat version 1.0\nfile {clip.name}\n".encode()


@pytest.mark.parametrize("make", [_playlist, _concat])
@pytest.mark.parametrize("ending", ["m3u8", "mp4", "ffconcat"])
async def test_a_list_of_other_files_is_no_video(
    make: Callable[[Path], bytes], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = make_media(tmp_path / "private.mp4", picture="libx264")
    path = tmp_path / f"list.{ending}"
    path.write_bytes(make(target))
    with pytest.raises(FileRefused):
        await look(path)
    # Nor where nothing but the decoder itself stands in between.
    with pytest.raises(MediaError):
        probe(path)


async def test_a_name_that_is_a_pattern_means_the_file_of_that_name(tmp_path: Path) -> None:
    make_media(tmp_path / "photo-001.jpg", picture="mjpeg", pixels="yuvj420p", frames=1, format="image2")
    (tmp_path / "photo-%03d.jpg").write_text("no photo")
    with pytest.raises(MediaError):
        probe(tmp_path / "photo-%03d.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_the_process_that_decodes_can_open_nothing(tmp_path: Path) -> None:
    program = (
        "import errno, socket, sys\n"
        "from sync_mcp.media.decoding import worker\n"
        "worker._give_up_rights(10)\n"
        "path = sys.argv[1]\n"
        "for attempt in (lambda: open(path), lambda: open(path + '.new', 'w'), socket.socket):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError as error:\n"
        "        print(errno.errorcode[error.errno])\n"
    )
    secret = tmp_path / "secret"
    secret.write_text("secret")
    done = subprocess.run(
        [sys.executable, "-c", program, str(secret)], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.split() == ["EMFILE"] * 3


async def test_the_process_that_decodes_does_not_get_the_key(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_API_KEY", "sk-secret")
    await look(CLIP)
    [environment] = started.environments
    assert "SYNC_API_KEY" not in environment
    assert "sk-secret" not in environment.values()


@pytest.mark.usefixtures("starts_workers")
async def test_a_module_in_the_current_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert (await look(CLIP)).kind == "video"
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_look_that_takes_too_long_ends_with_its_process(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "LOOK_SECONDS", 0.001)
    with pytest.raises(FileRefused, match="could not be decoded within") as refused:
        await look(CLIP)
    assert refused.value.code == "file_too_slow"
    assert all(process.returncode is not None for process in started.processes)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_look_that_is_cancelled_leaves_no_process(started: Started) -> None:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look, CLIP)
            await started.first.wait()
            tasks.cancel_scope.cancel()
    [process] = started.processes
    assert process.returncode is not None


@pytest.fixture(params=["", "import os; os.close(1)"], ids=["saying_nothing", "having_closed_its_output"])
def hanging(request: pytest.FixtureRequest, started: Started, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Put a process in the decoder's place that goes on for longer than anybody waits."""
    really = anyio.open_process

    async def open_process(command: list[str], **more: Any) -> Process:
        return await really([command[0], "-c", f"{request.param}\nimport time; time.sleep(20)"], **more)

    monkeypatch.setattr(anyio, "open_process", open_process)
    return started


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_decoder_that_hangs_is_killed_in_its_time(
    hanging: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "LOOK_SECONDS", 0.3)
    with pytest.raises(FileRefused) as refused:
        await look(CLIP)
    assert refused.value.code == "file_too_slow"
    [process] = hanging.processes
    # Had it ended by itself, it would be 0.
    assert process.returncode


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_decoder_that_hangs_is_killed_when_its_look_is_cancelled(hanging: Started) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, CLIP)
        await hanging.first.wait()
        tasks.cancel_scope.cancel()
    [process] = hanging.processes
    assert process.returncode


@pytest.mark.usefixtures("starts_workers")
async def test_a_decoder_that_dies_is_told_as_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    really = anyio.open_process

    async def dying(command: list[str], **more: Any) -> Process:
        program = "import os; os.write(1, b'ready\\n'); os.abort()"
        return await really([command[0], "-c", program], **more)

    monkeypatch.setattr(anyio, "open_process", dying)
    with pytest.raises(FileRefused, match="broke the decoder off") as refused:
        await look(CLIP)
    assert refused.value.code == "file_damaged"


@pytest.mark.usefixtures("starts_workers")
@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"result": {"kind": "video"}}', b'{"result": 1}', b"\xff", b"{" * 2_000_000],
)
async def test_an_answer_that_cannot_be_read_is_refused(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = anyio.open_process

    async def lying(command: list[str], **more: Any) -> Process:
        begin, times = answer[:40], max(1, len(answer) // 40)
        program = f"import sys; sys.stdout.buffer.write(b'ready\\n' + {begin!r} * {times} + b'\\n')"
        return await really([command[0], "-c", program], **more)

    monkeypatch.setattr(anyio, "open_process", lying)
    with anyio.fail_after(20), pytest.raises(FileRefused) as refused:
        await look(CLIP)
    assert refused.value.code in ("file_damaged", "media_worker_failed")


@pytest.mark.usefixtures("starts_workers")
@pytest.mark.parametrize("python", ["", "/no/such/python", os.devnull, "/bin/true"])
async def test_without_a_python_to_start_it_says_what_is_wrong(
    python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(FileRefused) as refused:
        await look(CLIP)
    assert refused.value.code == "media_worker_failed"
    assert python in refused.value.message


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_EXTRA", ("av", "no_such_module"))
    assert not is_available()
    for way in (look, examine, contact_sheet):
        with pytest.raises(FileRefused) as refused:
            await way(CLIP)
        assert refused.value.code == "media_extra_missing"
        assert "sync-mcp[media]" in refused.value.next_step


def test_importing_the_module_imports_no_decoder() -> None:
    program = (
        "import sys, sync_mcp.media.decoding.look, sync_mcp.media.suitability\n"
        "assert sync_mcp.media.decoding.look.is_available()\n"
        "print([name for name in ('av', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_what_is_no_file_of_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as refused:
        await look(io.BytesIO(CLIP.read_bytes()))
    assert refused.value.code == "file_not_readable"
    with pytest.raises(FileRefused) as refused:
        await look(tmp_path / "missing.mp4")
    assert refused.value.code == "file_not_found"
    with pytest.raises(FileRefused) as refused:
        await look(tmp_path)
    assert refused.value.code == "file_not_readable"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with anyio.fail_after(5), pytest.raises(FileRefused) as refused:
        await look(tmp_path / "pipe.mp4")
    assert refused.value.code == "file_not_readable"


async def test_a_good_result_passes_its_examination(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", sound="aac", frames=30)
    examined = await examine(clip)
    assert examined.info == await look(clip)
    assert examined.counted_seconds == pytest.approx(3.0, abs=0.01)
    assert (examined.decodes_to_end, examined.decoded_whole) == (True, True)
    assert (examined.picture_moves, examined.sound_is_heard) == (True, True)


async def test_a_frozen_and_silent_result_is_found_out(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", sound="aac", draw=frozen, silent=True)
    examined = await examine(clip)
    assert (examined.picture_moves, examined.sound_is_heard) == (False, False)
    assert examined.decodes_to_end


async def test_lips_alone_are_movement(tmp_path: Path) -> None:
    def face(number: int, width: int, height: int) -> bytes:
        pixels = bytearray(frozen(number, width, height))
        for row in range(100, 104 + number % 3 * 2):
            start = (row * width + 150) * 3
            pixels[start : start + 48] = b"\xc0\x20\x20" * 16
        return bytes(pixels)

    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=(320, 240), draw=face)
    assert (await examine(clip)).picture_moves


async def test_lips_far_away_are_movement(tmp_path: Path) -> None:
    def distant(number: int, width: int, height: int) -> bytes:
        pixels = bytearray(b"\x64" * (width * height * 3))
        for row in range(460, 467):
            start = (row * width + 940) * 3
            pixels[start : start + 42] = bytes([100 + number % 2 * 20]) * 42
        return bytes(pixels)

    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=(1920, 1080), frames=3, draw=distant)
    assert (await examine(clip)).picture_moves


async def test_a_still_picture_of_much_detail_does_not_move(tmp_path: Path) -> None:
    grain = random.Random(1).randbytes(1280 * 720 * 3)

    def grainy(number: int, width: int, height: int) -> bytes:
        del number, width, height
        return grain

    clip = make_media(tmp_path / "clip.mp4", picture="libx264", size=(1280, 720), frames=5, draw=grainy)
    assert (await examine(clip)).picture_moves is False


async def test_where_the_sound_ends_is_told(tmp_path: Path) -> None:
    clip = make_media(tmp_path / "clip.mp4", picture="libx264", sound="aac", frames=30, seconds=1.0)
    assert (await examine(clip)).sound_seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
async def test_a_last_picture_that_is_held_counts_to_the_length(tmp_path: Path, codec: str) -> None:
    for times, seconds in (([*range(15), 44], 4.5), ([*range(9), *range(30, 39)], 3.9)):
        clip = make_media(tmp_path / "clip.mp4", picture=codec, sound="aac", times=times, seconds=5)
        assert (await look(clip)).duration_seconds == pytest.approx(seconds, abs=0.05)
        assert (await examine(clip)).counted_seconds == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("damage", ["none", "cut off", "hole"])
async def test_what_there_was_no_time_to_decode_is_told_by_its_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    from sync_mcp.media.decoding import examine as examining

    def too_late(findings: Any, *_: object) -> bool:
        findings.out_of_time = True
        return False

    clip = make_media(
        tmp_path / "clip.mp4",
        picture="libx264",
        sound="aac",
        frames=60,
        seconds=4.0,
        options={"movflags": "+faststart"},
    )
    content = clip.read_bytes()
    middle = len(content) // 2
    if damage == "cut off":
        clip.write_bytes(content[:middle])
    elif damage == "hole":
        clip.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])
    monkeypatch.setattr("sync_mcp.media.decoding.examine._Viewer.decode", too_late)
    with clip.open("rb") as file:
        examined = examining.examine(file, deadline=time.monotonic() + 60)
    assert examined.decodes_to_end is (damage == "none")
    assert not examined.decoded_whole
    if damage == "none":
        assert examined.counted_seconds == pytest.approx(6.0, abs=0.05)
        assert examined.sound_seconds == pytest.approx(4.0, abs=0.1)


async def test_a_result_that_was_cut_off_does_not_decode_to_its_end(tmp_path: Path) -> None:
    clip = make_media(
        tmp_path / "clip.mp4", picture="mpeg4", sound="aac", frames=60, options={"movflags": "+faststart"}
    )
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    examined = await examine(clip)
    assert not examined.decodes_to_end
    assert examined.counted_seconds < 5
    assert examined.info.duration_seconds == pytest.approx(6.0, abs=0.1)


async def test_what_is_not_there_is_neither_moving_nor_heard(tmp_path: Path) -> None:
    single = await examine(make_media(tmp_path / "single.mp4", picture="libx264", frames=1))
    assert (single.picture_moves, single.sound_is_heard) == (None, None)
    voice = await examine(sample("speech.wav"))
    assert (voice.picture_moves, voice.sound_is_heard) == (None, True)
    assert voice.counted_seconds == pytest.approx(4.5, abs=0.01)


async def test_a_film_too_long_to_decode_whole_is_looked_at_from_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sync_mcp.media.decoding import examine as examining

    clip = make_media(tmp_path / "clip.mp4", picture="mpeg4", frames=200, size=(160, 120))
    monkeypatch.setattr(examining, "_SEQUENTIAL_SHARE", 0.0)
    with clip.open("rb") as file:
        examined = examining.examine(file, deadline=anyio.current_time() + 60)
    assert not examined.decoded_whole
    assert examined.decodes_to_end
    assert examined.counted_seconds == pytest.approx(20.0, abs=0.01)
    assert examined.picture_moves
