"""Temporary folders: what a killed process left is removed by the next one, and nothing else is."""

import errno
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_mcp.machine import scratch
from sync_mcp.machine.scratch import LOCK_NAME, ScratchFolder, sweep
from sync_mcp.sandbox import Sandbox
from tests.serving.stdio.process import started

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
HOLDER = (
    "import sys; from sync_mcp.machine.scratch import ScratchFolder; folder = ScratchFolder('output');"
    "(folder.path / 'part').write_bytes(b'half'); print(folder.path, flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@contextmanager
def _holding() -> Generator[tuple[subprocess.Popen[str], Path]]:
    """Yield another process that uses a folder, and the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def _left(folder: Path, *, lock: bool = True) -> Path:
    """Make what a killed process has left."""
    (folder / "uploads").mkdir(parents=True)
    (folder / "uploads" / "1").write_bytes(b"video")
    if lock:
        (folder / LOCK_NAME).touch()
    return folder


@pytest.mark.skipif(os.name != "posix", reason="the temporary folder has another variable elsewhere")
@pytest.mark.parametrize("command", ["server", "sandbox"])
def test_the_folders_of_a_killed_server_are_swept_at_the_next_start(temporary: Path, command: str) -> None:
    with started([sys.executable, "-m", "sync_mcp", "--sandbox"], {}) as killed:
        killed.initialize()
        [left] = temporary.iterdir()
        assert (left.stat().st_mode & 0o777, (left / LOCK_NAME).is_file()) == (0o700, True)
    assert left.is_dir()
    if command == "sandbox":
        with Sandbox() as sandbox:
            assert list(temporary.iterdir()) == [sandbox.folder]
    else:
        with started([sys.executable, "-m", "sync_mcp"], {"SYNC_API_KEY": "sk_of_nobody"}) as server:
            server.initialize()
            assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("use", ["ledger", "output", "sandbox"])
def test_a_folder_of_each_use_is_swept(temporary: Path, use: str) -> None:
    left = _left(temporary / f"sync-mcp-{use}-0ld_0ld_")
    sweep()
    assert not left.exists()


def test_a_folder_in_use_by_a_living_process_is_never_swept(temporary: Path) -> None:
    own = ScratchFolder("ledger")
    with _holding() as (process, folder):
        os.utime(folder, (0, 0))
        sweep()
        assert (folder / "part").read_bytes() == b"half"
        process.kill()
        process.wait(SECONDS)
        sweep()
        assert not folder.exists()
    assert list(temporary.iterdir()) == [own.path]


def test_a_folder_that_is_cleared_keeps_its_folders_and_no_file(temporary: Path) -> None:
    with ScratchFolder("output") as folder:
        parts = folder.path / "parts"
        parts.mkdir()
        for place in (folder.path, parts):
            (place / "part").write_bytes(b"half")
        folder.clear()
        assert sorted(folder.path.rglob("*")) == sorted([folder.path / LOCK_NAME, parts])
    assert list(temporary.iterdir()) == []


def test_a_folder_is_gone_once_it_is_removed_and_when_its_process_ends(temporary: Path) -> None:
    with ScratchFolder("output") as folder:
        (folder.path / "part").write_bytes(b"half")
    folder.remove()
    assert list(temporary.iterdir()) == []
    with _holding() as (process, left):
        assert left.is_dir()
        process.communicate("", timeout=SECONDS)
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_is_never_swept(temporary: Path, tmp_path: Path) -> None:
    mine = _left(tmp_path / "mine")
    others = [
        _left(temporary / "sync-mcp-output-nolock00", lock=False),
        _left(temporary / "sync-mcp-holiday-photos00"),
        _left(temporary / "sync-mcp-output-toolonganame"),
        _left(temporary / "another-0ld_0ld_"),
    ]
    linked_lock = _left(temporary / "sync-mcp-output-l1nked_0", lock=False)
    (linked_lock / LOCK_NAME).symlink_to(mine / LOCK_NAME)
    link = temporary / "sync-mcp-output-l1nk_000"
    link.symlink_to(mine, target_is_directory=True)
    sweep()
    for place in (mine, *others, linked_lock, link):
        assert (place / "uploads" / "1").read_bytes() == b"video"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_of_another_user_is_never_swept(temporary: Path) -> None:
    left = _left(temporary / "sync-mcp-output-0ther_00")
    os.chown(left, 65534, 65534)
    sweep()
    assert left.is_dir()


def test_what_a_left_folder_links_to_stays(temporary: Path, tmp_path: Path) -> None:
    mine = _left(tmp_path / "mine")
    left = _left(temporary / "sync-mcp-sandbox-0ld_0ld_")
    (left / "link").symlink_to(mine, target_is_directory=True)
    (left / "uploads" / "link").symlink_to(mine, target_is_directory=True)
    sweep()
    assert not left.exists()
    assert (mine / "uploads" / "1").exists()


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = scratch._take  # pyright: ignore[reportPrivateUsage]
    swept: list[Path] = []

    def swept_first(lock: int) -> bool:
        monkeypatch.setattr(scratch, "_take", take)
        swept.extend(temporary.iterdir())
        sweep()
        assert list(temporary.iterdir()) == []
        return take(lock)

    monkeypatch.setattr(scratch, "_take", swept_first)
    made = ScratchFolder("output")
    assert swept
    assert (list(temporary.iterdir()), made.path in swept) == ([made.path], False)


@pytest.mark.skipif(sys.platform == "win32", reason="there every file system has locks")
def test_where_a_file_system_has_no_locks_a_folder_is_made_and_never_swept(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", flock)
        made = ScratchFolder("output")
        sweep()
    sweep()
    assert list(temporary.iterdir()) == [made.path]
    made.remove()
    assert list(temporary.iterdir()) == []
