"""Outputs on the disk: whole, checked, and never over what is good."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from anyio.to_thread import run_sync

from sync_mcp import AsyncSync, Audio, FileRefused, GenerationOptions, Image, NoOutput, Text, Transfer, Video
from sync_mcp.api.models import Generation
from sync_mcp.errors import APIResponseError
from sync_mcp.machine.scratch import LOCK_NAME
from sync_mcp.media import saving as saving_module, temporary as temporary_module
from sync_mcp.media.decoding import look as look_module
from sync_mcp.media.decoding.findings import Examination
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.saving import Saved, file_name, preview, save
from sync_mcp.media.temporary import temporary_folder
from sync_mcp.sandbox import Fault, Sandbox

from .clips import frozen, make_media
from .outputs import KEY, completed, completed_with, names_in

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

CHECKS = ["length", "container", "decodes", "duration", "voice", "picture", "sound", "movement"]
ALL_OK = dict.fromkeys(CHECKS, "ok")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.api.retry._FIRST_BACKOFF_SECONDS", 0.005)


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key=KEY, base_url=sandbox.url, timeout=20) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    return made


async def saved(
    sync: AsyncSync, generation: Generation, destination: Path, *, overwrite: bool = False
) -> Saved:
    roots = MediaRoots([destination.parent], None)
    return await save(sync, generation, destination, roots, overwrite=overwrite)


def clip(folder: Path, *, frames: int = 45, **more: object) -> bytes:
    """Return an MP4 of 4.5 seconds, as long as the sample's voice, unless it is to be otherwise."""
    path = folder / "made.mp4"
    make_media(path, frames=frames, **{"picture": "libx264", "sound": "aac", **more})  # pyright: ignore[reportArgumentType]
    content = path.read_bytes()
    path.unlink()
    return content


@both_backends
async def test_an_output_is_saved_whole_under_its_name_and_every_check_is_told(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    seen: list[Transfer] = []

    async def note(transfer: Transfer) -> None:
        seen.append(transfer)

    generation = await completed(sandbox)
    made = await save(sync, generation, folder / "out.mp4", MediaRoots([folder], None), on_progress=note)
    content = (folder / "out.mp4").read_bytes()
    assert (made.path, made.size) == (folder / "out.mp4", len(content))
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    assert (made.checks, made.failures, made.note, made.was_there) == (ALL_OK, [], None, False)
    assert made.duration_seconds == pytest.approx(generation.output_duration, abs=0.1)
    assert names_in(folder) == {"out.mp4"}
    assert {transfer.step for transfer in seen} == {"fetch", "hash"}
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(content)


@pytest.mark.parametrize(
    ("more", "failing"),
    [
        pytest.param({"sound": None}, {"sound": "it has none"}, id="no sound"),
        pytest.param({"silent": True}, {"sound": "it is silent throughout"}, id="silence"),
        pytest.param({"seconds": 1.0}, {"sound": "it ends at 1.0 s, the picture at 4.5 s"}, id="sound ends"),
        pytest.param({"draw": frozen}, {"movement": "the picture stands still"}, id="still"),
        pytest.param(
            {"frames": 90},
            {
                "duration": "9.0 s, but the API tells 4.5 s",
                "voice": "9.0 s, but the voice has 4.5 s",
            },
            id="too long",
        ),
    ],
)
async def test_a_failed_check_is_named_and_the_file_is_kept_under_another_name(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, more: dict[str, object], failing: dict[str, str]
) -> None:
    bad = clip(folder, **more)  # pyright: ignore[reportArgumentType]
    generation = await completed_with(sandbox, bad, folder)
    made = await saved(sync, generation, folder / "out.mp4")
    assert {name: made.checks[name] for name in made.failures} == {
        name: f"failed: {why}" for name, why in failing.items()
    }
    assert made.path == folder / "out.failed-check.mp4"
    assert made.path.read_bytes() == bad
    assert names_in(folder) == {"out.failed-check.mp4"}


async def test_sound_that_ends_early_is_no_failure_where_the_voice_is_not_known(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed_with(sandbox, clip(folder, seconds=1.0), folder)
    generation.input = [Video(url=sandbox.samples.video), Audio(url=None)]
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks["sound"] == "not checked: it ends at 1.0 s, the picture at 4.5 s"
    assert (made.failures, made.path.name) == ([], "out.mp4")


async def test_the_sound_of_a_short_voice_may_end_before_the_picture(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed_with(sandbox, clip(folder, frames=80, seconds=4.4), folder)
    generation.options = GenerationOptions(sync_mode="silence")
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks["sound"] == "ok"


async def test_a_silent_result_of_a_silent_voice_is_no_failure(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    voice = make_media(folder / "voice.wav", sound="pcm_s16le", frames=45, silent=True)
    asset = await sync.assets.upload(voice)
    voice.unlink()
    generation = await completed_with(sandbox, clip(folder, silent=True), folder)
    for silent in ([Audio(asset_id=asset.id)], []):
        generation.input = [Video(url=sandbox.samples.video), *silent]
        made = await saved(sync, generation, folder / "out.mp4")
        assert made.checks["sound"] == "not checked: it is silent throughout; the voice may be so"
        assert (made.failures, made.path.name) == ([], "out.mp4")


async def test_what_was_not_decoded_in_time_is_neither_good_nor_bad(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def examine_the_beginning(file: BinaryIO | Path) -> Examination:
        return replace(await look_module.examine(file), decoded_whole=False)

    monkeypatch.setattr(saving_module, "examine", examine_the_beginning)
    generation = await completed_with(sandbox, clip(folder, draw=frozen, silent=True), folder)
    made = await saved(sync, generation, folder / "out.mp4")
    assert {name: made.checks[name] for name in made.not_checked} == {
        "decodes": "not checked: only its beginning and its last seconds were decoded in time",
        "sound": "not checked: what was decoded in time is silent",
        "movement": "not checked: in what was decoded in time nothing moves",
    }
    assert (made.failures, made.path.name) == ([], "out.mp4")


async def test_a_picture_that_is_held_at_the_end_counts_to_the_length(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    held = clip(folder, times=[*range(15), 44], seconds=4.5)
    generation = await completed_with(sandbox, held, folder)
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks == ALL_OK
    assert made.duration_seconds == pytest.approx(4.5, abs=0.05)


async def test_sound_alone_has_no_picture(sandbox: Sandbox, sync: AsyncSync, folder: Path) -> None:
    bad = clip(folder, picture=None, seconds=4.5)
    generation = await completed_with(sandbox, bad, folder)
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks["picture"] == "failed: it has none"


async def test_a_video_cut_off_and_a_page_of_text_fail_their_checks(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    whole = clip(folder, options={"movflags": "faststart"})
    generation = await completed_with(sandbox, whole[: len(whole) // 2], folder)
    made = await saved(sync, generation, folder / "out.mp4")
    assert "decodes" in made.failures
    page = await completed_with(sandbox, b"<html>not today</html>", folder, output_file_name="page")
    made = await saved(sync, page, folder / "page.mp4")
    assert made.checks["container"] == "failed: it is no MP4"
    assert made.checks["decodes"] == "failed: no picture or sound can be decoded"
    assert {made.checks[name] for name in CHECKS[3:]} == {"not checked"}


async def test_a_failed_check_never_takes_a_good_files_place_nor_an_earlier_failures(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    (folder / "out.mp4").write_bytes(b"good")
    (folder / "out.failed-check.mp4").write_bytes(b"earlier")
    generation = await completed_with(sandbox, clip(folder, sound=None), folder)
    made = await saved(sync, generation, folder / "out.mp4", overwrite=True)
    assert made.path == folder / "out.failed-check-2.mp4"
    assert (folder / "out.mp4").read_bytes() == b"good"
    assert (folder / "out.failed-check.mp4").read_bytes() == b"earlier"


async def test_the_same_failure_again_makes_no_second_copy(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed_with(sandbox, clip(folder, sound=None), folder)
    (folder / "out.failed-check.mp4").write_bytes(b"another")
    first = await saved(sync, generation, folder / "out.mp4")
    again = await saved(sync, generation, folder / "out.mp4")
    assert (again.path, again.identity) == (first.path, first.identity)
    assert (first.was_there, again.was_there) == (False, True)
    assert names_in(folder) == {"out.failed-check.mp4", "out.failed-check-2.mp4"}


async def test_the_longest_name_still_has_room_for_a_failed_check(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed_with(sandbox, clip(folder, sound=None), folder)
    made = await saved(sync, generation, folder / f"{'ü' * 118}.mp4")
    assert made.path.name.endswith("ü.failed-check.mp4")


@both_backends
async def test_the_same_content_under_the_name_already_is_the_answer(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    first = await saved(sync, generation, folder / "out.mp4")
    again = await saved(sync, generation, folder / "out.mp4")
    assert (again.was_there, again.checks, again.identity) == (True, ALL_OK, first.identity)
    assert names_in(folder) == {"out.mp4"}


@pytest.mark.parametrize("same_length", [True, False])
async def test_another_file_by_that_name_stays_unless_it_may_be_overwritten(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, same_length: bool
) -> None:
    generation = await completed(sandbox)
    place = folder / "out.mp4"
    size = (await saved(sync, generation, folder / "first.mp4")).size if same_length else 5
    place.write_bytes(b"x" * size)
    with pytest.raises(FileRefused) as caught:
        await saved(sync, generation, place)
    assert (caught.value.code, place.read_bytes()) == ("file_exists", b"x" * size)
    assert not [name for name in names_in(folder) if name.startswith(".")]
    made = await saved(sync, generation, place, overwrite=True)
    assert hashlib.sha256(place.read_bytes()).hexdigest() == made.sha256


async def test_the_same_content_that_gets_the_name_meanwhile_is_the_answer(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    first, place = folder / "first.mp4", folder / "out.mp4"
    content = (await saved(sync, generation, first)).path.read_bytes()

    async def put_it_there(transfer: Transfer) -> None:
        await run_sync(place.write_bytes, content)

    made = await save(sync, generation, place, MediaRoots([folder], None), on_progress=put_it_there)
    assert (made.path, made.was_there, made.failures) == (place, True, [])
    assert names_in(folder) == {"first.mp4", "out.mp4"}


async def test_a_file_that_comes_to_be_there_meanwhile_stays(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    place = folder / "out.mp4"

    async def put_one_there(transfer: Transfer) -> None:
        await run_sync(place.write_bytes, b"mine")

    with pytest.raises(FileRefused) as caught:
        await save(sync, generation, place, MediaRoots([folder], None), on_progress=put_one_there)
    assert (caught.value.code, place.read_bytes()) == ("file_exists", b"mine")
    assert names_in(folder) == {"out.mp4"}


@both_backends
async def test_a_cut_download_goes_on_by_a_fresh_url(sandbox: Sandbox, sync: AsyncSync, folder: Path) -> None:
    generation = await completed(sandbox)
    sandbox.add_fault(Fault(method="GET", path="/outputs/*", cut_body=True))
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks == ALL_OK
    fetches = [one for one in sandbox.requests if one.path.startswith("/outputs/")]
    assert [one.headers.get("range") for one in fetches] == [None, f"bytes={made.size // 2}-"]
    assert fetches[0].query != fetches[1].query


async def test_a_folder_that_goes_away_meanwhile_is_told(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    elsewhere = folder.with_name("elsewhere")

    async def take_away(transfer: Transfer) -> None:
        if transfer.step == "fetch":
            await run_sync(folder.rename, elsewhere)

    with pytest.raises(FileRefused) as caught:
        await save(sync, generation, folder / "out.mp4", MediaRoots([folder], None), on_progress=take_away)
    assert (caught.value.code, names_in(elsewhere)) == ("file_not_writable", set())


@pytest.mark.parametrize("target", ["itself", "another"])
async def test_a_folder_that_becomes_a_link_to_elsewhere_gets_nothing(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, target: str
) -> None:
    generation = await completed(sandbox)
    elsewhere, another = folder.with_name("elsewhere"), folder.with_name("another")
    another.mkdir()

    def put_a_link_there() -> None:
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere if target == "itself" else another)

    async def swap(transfer: Transfer) -> None:
        if transfer.step == "hash":
            await run_sync(put_a_link_there)

    with pytest.raises(FileRefused) as caught:
        await save(sync, generation, folder / "out.mp4", MediaRoots([folder], None), on_progress=swap)
    assert caught.value.code == "file_not_allowed"
    assert names_in(elsewhere) | names_in(another) == set()


async def test_a_full_disk_is_told_and_leaves_nothing(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sync_mcp.api.downloads.os.write", full)
        with pytest.raises(FileRefused, match="No space left") as caught:
            await saved(sync, generation, folder / "out.mp4")
    assert (caught.value.code, names_in(folder)) == ("file_not_writable", set())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root")
async def test_a_folder_that_may_not_be_written_to_is_told(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    await run_sync(folder.chmod, 0o555)
    with pytest.raises(FileRefused) as caught:
        await saved(sync, generation, folder / "out.mp4")
    assert caught.value.code == "file_not_writable"


async def test_a_folder_that_refuses_a_new_file_is_told_before_anything_is_fetched(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    real_open = os.open

    def refusing(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(path).endswith(".part"):
            raise OSError(30, "Read-only file system")
        return real_open(path, flags, mode, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr("sync_mcp.api.downloads.os.open", refusing)
        # The set of what takes a folder's descriptor knows functions by identity.
        patch.setattr("sync_mcp.api.downloads.os.supports_dir_fd", {refusing, os.unlink})
        with pytest.raises(FileRefused, match="Read-only file system") as caught:
            await saved(sync, generation, folder / "out.mp4")
    assert (caught.value.code, names_in(folder)) == ("file_not_writable", set())
    assert not [one for one in sandbox.requests if one.path.startswith("/outputs/")]


async def test_without_the_extra_the_file_is_saved_and_says_what_was_not_checked(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    monkeypatch.setattr(look_module, "is_available", lambda: False)
    made = await saved(sync, generation, folder / "out.mp4")
    known = {"length": "ok", "container": "ok"}
    assert made.checks == dict.fromkeys(CHECKS, "not checked") | known
    assert (made.duration_seconds, made.path.name) == (None, "out.mp4")
    assert made.note is not None
    assert "sync-mcp[media]" in made.note


async def test_an_empty_output_is_an_error(sandbox: Sandbox, sync: AsyncSync, folder: Path) -> None:
    generation = await completed_with(sandbox, b"", folder)
    with pytest.raises(APIResponseError, match="is empty"):
        await saved(sync, generation, folder / "out.mp4")
    assert names_in(folder) == set()


@pytest.mark.parametrize(
    ("mode", "frames", "outcome"),
    [
        ("cut_off", 30, "ok"),
        ("cut_off", 60, "failed"),
        ("loop", 45, "ok"),
        ("remap", 30, "failed"),
        ("silence", 60, "ok"),
        ("silence", 30, "not checked"),
        ("bounce", 60, "failed"),
        ("newest", 60, "not checked"),
    ],
)
async def test_the_voices_length_is_held_against_the_output_as_sync_mode_says(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, mode: str, frames: int, outcome: str
) -> None:
    generation = await completed_with(sandbox, clip(folder, frames=frames), folder)
    generation.options = GenerationOptions(sync_mode=mode)
    made = await saved(sync, generation, folder / "out.mp4")
    assert made.checks["voice"].partition(":")[0] == outcome


async def test_a_still_speaker_lasts_as_long_as_the_voice_and_moves(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    media = [Image(url=sandbox.samples.image), Audio(url=sandbox.samples.audio)]
    generation = await completed(sandbox, model="sync-3", input=media)
    assert (await saved(sync, generation, folder / "out.mp4")).checks == ALL_OK


async def test_the_speech_made_of_a_script_is_the_voice(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    [voice, *_] = await sync.voices.list()
    media = [Video(url=sandbox.samples.video), Text(script="Hello there.", voice_id=voice.id)]
    generation = await completed(sandbox, input=media)
    assert (await saved(sync, generation, folder / "out.mp4")).checks == ALL_OK


async def test_a_voice_that_cannot_be_had_is_not_checked(
    sandbox: Sandbox, sync: AsyncSync, folder: Path
) -> None:
    generation = await completed(sandbox)
    for url, said in (
        ("https://127.0.0.1:1/private.wav", "not checked: "),
        (f"{sandbox.url}/samples/none.wav", "not checked: "),
        (None, "not checked: the voice's length is not known"),
    ):
        generation.input = [Video(url=sandbox.samples.video), Audio(url=url)]
        made = await saved(sync, generation, folder / "out.mp4")
        assert made.checks["voice"].startswith(said)
        assert made.failures == []


async def test_a_preview_shows_nine_frames_and_leaves_nothing_behind(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    killed, nameless = (temporary / name for name in ("sync-mcp-output-k1lled_0", "x"))
    for place in (killed, nameless):
        place.mkdir(parents=True)
        (place / LOCK_NAME).touch()
        (place / f".sync-mcp-{16 * '0'}.part").write_bytes(b"left by a killed process")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    sheet = await preview(sync, await completed(sandbox))
    assert (len(sheet.frame_seconds), sheet.jpeg[:2]) == (9, b"\xff\xd8")
    assert names_in(temporary) == {nameless.name}


async def test_a_preview_of_a_large_output_is_refused_before_it_is_fetched(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving_module, "LARGEST_PREVIEWED_BYTES", 1000)
    with pytest.raises(FileRefused) as caught:
        await preview(sync, await completed(sandbox))
    assert caught.value.code == "file_too_large"


async def test_all_that_lies_in_the_temporary_folder_has_one_bound_together(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await completed(sandbox)
    async with temporary_folder() as other:
        await other.count()(Transfer("fetch", 1000, 9_999_000))
        monkeypatch.setattr(temporary_module, "MOST_BYTES", 10_000_000)
        for _ in range(2):
            with pytest.raises(FileRefused) as caught:
                await preview(sync, generation)
            assert "9,999,000 bytes of other files" in caught.value.message
            assert "call again" in caught.value.next_step
            assert caught.value.retryable
        # Who was there first goes on.
        await other.count()(Transfer("fetch", 9_999_000, 9_999_000))
    assert (await preview(sync, generation)).frame_seconds


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest", "http://localhost/x", "file:///etc/passwd"]
)
async def test_an_output_at_a_private_address_is_not_fetched(
    sandbox: Sandbox, sync: AsyncSync, folder: Path, address: str
) -> None:
    generation = await completed(sandbox)
    generation.output_url = address
    with pytest.raises(APIResponseError) as caught:
        await saved(sync, generation, folder / "out.mp4")
    assert (caught.value.code, names_in(folder)) == ("url_refused", set())


async def test_a_job_without_an_output_saves_nothing(sandbox: Sandbox, sync: AsyncSync, folder: Path) -> None:
    generation = await completed(sandbox)
    generation.output_url = None
    with pytest.raises(NoOutput):
        await saved(sync, generation, folder / "out.mp4")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("My talk", "My talk.mp4"),
        ("talk.mp4", "talk.mp4"),
        ("../../etc/passwd", "etc_passwd.mp4"),
        ("a/b\\c:d", "a_b_c_d.mp4"),
        (".hidden", "hidden.mp4"),
        ("CON", "sync-g1.mp4"),
        ("\u202egpj.exe\x00", "gpj.exe.mp4"),
        ("", "sync-g1.mp4"),
        (None, "sync-g1.mp4"),
        ("...", "sync-g1.mp4"),
        ("x" * 400, "x" * 99 + ".mp4"),
        ("Größe 1", "Größe 1.mp4"),
    ],
)
def test_a_name_of_the_accounts_becomes_a_plain_files_name(asked: str | None, name: str) -> None:
    generation = Generation(id="g1", status="COMPLETED", output_file_name=asked)
    assert file_name(generation) == name
