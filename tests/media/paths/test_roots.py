import ctypes
import gc
import os
import socket
import struct
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.paths.typed import display_text
from sync_mcp.media.paths.usual import usual_download_folder, usual_roots

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"\x00\x00\x00\x08free" * 600
SECRET = b"the canary is dead"
CANARY = MP4 + SECRET
QUICK_SECONDS = 5.0

posix_alone = pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and sockets of the disk")


@dataclass
class Disk:
    """A home folder with one allowed folder, and around it what must stay unread."""

    home: Path
    root: Path
    outside: Path
    watched: list[Path]
    """What must not be opened or read: files, or folders with all files in them."""

    @property
    def roots(self) -> MediaRoots:
        return MediaRoots([self.root], None)

    def path(self, text: str) -> str:
        names = {"{home}": self.home, "{root}": self.root, "{outside}": self.outside}
        for name, place in names.items():
            text = text.replace(name, str(place))
        return text


def _write(path: Path, content: bytes = CANARY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    base = tmp_path.resolve()
    disk = Disk(base / "home", base / "home" / "Movies", base / "outside", [])
    _write(disk.root / "talk.mp4", MP4)
    _write(disk.root / "Sub" / "clip.mp4", MP4)
    disk.watched = [
        _write(disk.outside / "canary.mp4").parent,
        _write(disk.outside / "sub" / "canary.mp4").parent,
        _write(disk.home / ".ssh" / "id_rsa").parent,
        _write(disk.home / ".config" / "clip.mp4").parent,
        _write(disk.home / "Movies2" / "clip.mp4").parent,
        _write(disk.root / ".secret" / "clip.mp4").parent,
        _write(disk.root / "Sub" / ".git" / "clip.mp4").parent,
        _write(disk.home / "private.mp4"),
        _write(disk.home / ".bashrc"),
        _write(disk.root / ".hidden.mp4"),
    ]
    monkeypatch.setenv("HOME", str(disk.home))
    monkeypatch.setenv("USERPROFILE", str(disk.home))
    monkeypatch.chdir(disk.root)
    return disk


LINKS = {
    "link_file.mp4": "{outside}/canary.mp4",
    "link_relative.mp4": "../../outside/canary.mp4",
    "link_folder": "{outside}",
    "link_chain.mp4": "link_file.mp4",
    "link_chain_folder": "link_folder",
    "link_loop.mp4": "link_loop_back.mp4",
    "link_loop_back.mp4": "link_loop.mp4",
    "link_itself.mp4": "link_itself.mp4",
    "link_up": "..",
    "link_top": "/",
    "link_ssh": "{home}/.ssh",
    "link_hidden.mp4": ".hidden.mp4",
    "link_hidden_folder": ".secret",
    "link_dangling.mp4": "{outside}/absent.mp4",
    "link_empty_hope.mp4": "absent.mp4",
    "link_environ.mp4": "/proc/self/environ",
    "link_memory.mp4": "/proc/self/mem",
    "link_descriptors": "/proc/self/fd",
    "link_process": "/proc/self",
    "link_zero.mp4": "/dev/zero",
    "link_stdin.mp4": "/dev/stdin",
    "link_terminal.mp4": "/dev/tty",
    "link_passwords.mp4": "/etc/passwd",
    "link_pipe.mp4": "pipe.mp4",
    "link_pipe_outside.mp4": "{outside}/pipe.mp4",
    "link_socket.mp4": "socket.mp4",
    "Sub/link_up_twice.mp4": "../../private.mp4",
    "Sub/link_of_link.mp4": "../link_folder/sub/canary.mp4",
}


@pytest.fixture
def hostile(disk: Disk) -> Iterator[Disk]:
    """A disk whose allowed folder has been filled by somebody who wants out of it."""
    for name, target in LINKS.items():
        (disk.root / name).symlink_to(disk.path(target))
    for number in range(10):
        (disk.root / f"step{number}.mp4").symlink_to(f"step{number + 1}.mp4")
    (disk.root / "step10.mp4").symlink_to(disk.outside / "canary.mp4")
    (disk.root / "folder.mp4").mkdir()
    os.mkfifo(disk.root / "pipe.mp4")
    os.mkfifo(disk.outside / "pipe.mp4")
    disk.watched.append(disk.root / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = Path.cwd()
        os.chdir(disk.root)
        listening.bind("socket.mp4")
        os.chdir(folder)
        yield disk


class Witness:
    """What the kernel saw: every file of `paths`, or in them, that was opened or read."""

    _OPEN, _ACCESS = 0x20, 0x1

    def __init__(self, paths: list[Path]) -> None:
        system = ctypes.CDLL(None, use_errno=True)
        self._descriptor = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0
        for path in paths:
            watch = system.inotify_add_watch(self._descriptor, os.fsencode(path), self._OPEN | self._ACCESS)
            assert watch >= 0, path

    def close(self) -> list[str]:
        """End watching and return what was seen."""
        try:
            events = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            events = b""
        finally:
            os.close(self._descriptor)
        found: list[str] = []
        while events:
            _, mask, _, length = struct.unpack_from("iIII", events)
            name = events[16 : 16 + length].rstrip(b"\0").decode()
            found.append(f"{'opened' if mask & self._OPEN else 'read'} {name}")
            events = events[16 + length :]
        return found


@contextmanager
def nothing_is_read(disk: Disk) -> Generator[None]:
    """Fail where a canary is opened or read, or anything by a path that is not below the allowed folder."""
    opened: list[Path] = []

    def noted(call: Callable[..., object]) -> Callable[..., object]:
        def noting(path: str | os.PathLike[str] | int = ".", *arguments: object, **named: object) -> object:
            if not isinstance(path, int) and named.get("dir_fd") is None:
                opened.append(Path(path))
            return call(path, *arguments, **named)

        return noting

    witness = Witness(disk.watched) if sys.platform == "linux" else None
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "scandir", "listdir"):
            patch.setattr(os, name, noted(getattr(os, name)))
        try:
            yield
        finally:
            elapsed = time.monotonic() - began
            seen = witness.close() if witness else []
    assert seen == []
    assert [path for path in opened if not path.absolute().is_relative_to(disk.root)] == []
    assert elapsed < QUICK_SECONDS


def _refused(call: Callable[[], object]) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        call()
    refused = caught.value
    assert refused.money_spent == "no"
    assert refused.message.isprintable()
    assert refused.next_step
    assert SECRET.decode() not in f"{refused.message} {refused.next_step}"
    return refused


def _open(roots: MediaRoots, path: str) -> Path:
    with roots.open(path) as media:
        return media.path


OUTSIDE = [
    *("{outside}/canary.mp4", "{outside}/sub/canary.mp4", "{outside}", "{outside}/absent.mp4", "/", "/etc"),
    *("/etc/passwd", "/etc/shadow", "/etc/passwd/", "/etc/absent", "{home}", "{home}/", "~", "~/"),
    *("{home}/private.mp4", "~/private.mp4", "~/.bashrc", "~/.ssh/id_rsa", "~/.config/clip.mp4"),
    *("{home}/Movies2/clip.mp4", "{root}2/clip.mp4", "{root}2/../Movies2/clip.mp4"),
    *("~root/.bashrc", "~nobody/clip.mp4", "~+/private.mp4", "~~/private.mp4", "~/~/private.mp4"),
]
BACKWARDS = [
    *("{root}/../private.mp4", "{root}/./../private.mp4", "{root}//..//private.mp4", "..", "../"),
    *("{root}/Sub/../../private.mp4", "{root}/absent/../../private.mp4", "{root}/talk.mp4/../../private.mp4"),
    *("{root}/../../outside/canary.mp4", "../private.mp4", "./../private.mp4", "../../outside/canary.mp4"),
    *("~/Movies/../private.mp4", "~/Movies/../.ssh/id_rsa", "~/../outside/canary.mp4"),
    *("/../../../../etc/passwd", "{root}/../../../../../../../../../../../etc/passwd"),
    *(
        "{root}/.../private.mp4",
        "{root}/..;/private.mp4",
        "{root}/.. /private.mp4",
        "{root}/..\t/private.mp4",
    ),
    *("{root}\\..\\private.mp4", "..\\private.mp4", "{root}/\\../private.mp4", "{root}/.\\./private.mp4"),
    *("{root}/link_folder/../private.mp4", "{root}/link_folder/../outside/canary.mp4"),
]
THROUGH_LINKS = [
    *(f"{{root}}/{name}" for name in LINKS),
    *("{root}/link_folder/canary.mp4", "{root}/link_folder/sub/canary.mp4", "link_folder/canary.mp4"),
    *("{root}/link_chain_folder/canary.mp4", "{root}/link_up/private.mp4", "{root}/link_up/.bashrc"),
    *("{root}/link_top/etc/passwd", "{root}/link_top/proc/self/environ", "{root}/link_ssh/id_rsa"),
    *("{root}/link_hidden_folder/clip.mp4", "{root}/link_descriptors/0", "{root}/link_process/environ"),
    *("{root}/link_process/root/etc/passwd", "{root}/link_process/cwd/../private.mp4", "{root}/step0.mp4"),
    *("{root}/link_up/Movies/link_file.mp4", "{root}/link_up/Movies2/clip.mp4", "{root}/link_folder/absent"),
]
HIDDEN = [
    *("{root}/.hidden.mp4", ".hidden.mp4", "./.hidden.mp4", "{root}/.secret/clip.mp4", "{root}/.secret"),
    *(
        "{root}/Sub/.git/clip.mp4",
        "{root}/.absent.mp4",
        "{root}/.ssh/id_rsa",
        "{root}/.",
        "{root}/Sub/./.git",
    ),
    *("{root}/.secret/../.hidden.mp4", "~/Movies/.hidden.mp4", "{root}/.", "{root}/.HIDDEN.mp4"),
]
NO_FILES = [
    *("{root}/pipe.mp4", "pipe.mp4", "{root}/socket.mp4", "{root}/folder.mp4", "{root}/Sub", "{root}", "."),
    *("{root}/talk.mp4/clip.mp4", "{root}/pipe.mp4/clip.mp4", "{root}/socket.mp4/", "-", "*.mp4", "?alk.mp4"),
    *("{outside}/pipe.mp4", "{root}/absent.mp4", "{root}/absent/clip.mp4", "{root}/folder.mp4/talk.mp4"),
]
DEVICES = [
    *(
        "/dev/zero",
        "/dev/random",
        "/dev/stdin",
        "/dev/fd/0",
        "/dev/tty",
        "/dev/null",
        "/dev/full",
        "/dev/mem",
    ),
    *("/dev/shm", "/dev/shm/clip.mp4", "/dev/ptmx", "/dev/../dev/zero", "/dev//zero", "/DEV/zero"),
    *("/proc/self/environ", "/proc/self/mem", "/proc/self/fd/0", "/proc/self/cmdline", "/proc/1/environ"),
    *("/proc/self/root/etc/passwd", "/proc/self/cwd/../private.mp4", "/proc/self/cwd/talk.mp4", "/proc"),
    *("/proc/thread-self/environ", "/proc/kcore", "//proc/self/environ", "/./proc/self/environ"),
    *("/proc/self/root/{root}/talk.mp4", "/etc/../proc/self/environ", "/sys/kernel/uevent_seqnum"),
    *("{root}/../../../../../../../../../../../proc/self/environ", "/net/server/share/clip.mp4"),
]
OTHER_MACHINES = [
    *(
        "\\\\server\\share\\talk.mp4",
        "//server/share/talk.mp4",
        "\\/server/share/talk.mp4",
        "/\\server\\share",
    ),
    *(
        "\\\\.\\PhysicalDrive0",
        "\\\\.\\pipe\\clip",
        "\\\\?\\C:\\talk.mp4",
        "\\\\?\\UNC\\server\\share\\x.mp4",
    ),
    *("\\\\localhost\\c$\\talk.mp4", "//?/C:/talk.mp4", "//./COM1", "//127.0.0.1/c$/talk.mp4", "\\??\\C:\\x"),
    *(
        "//{root}/talk.mp4",
        "\\\\{root}\\talk.mp4",
        '"\\\\server\\share\\talk.mp4"',
        "\\\\server@SSL\\dav\\x.mp4",
    ),
    *(
        "C:\\Windows\\win.ini",
        "C:talk.mp4",
        "C:/Windows/win.ini",
        "CON",
        "NUL",
        "nul.mp4",
        "COM1",
        "LPT1.mp4",
    ),
    *("aux", "PRN", "CONIN$", "{root}/NUL", "{root}/con.mp4", "talk.mp4::$DATA", "talk.mp4:stream"),
]
IMPOSSIBLE = [
    *("", " ", "\t\n", '""', "''", "' '", "\0", "talk.mp4\0", "{root}/talk.mp4\0.png", "\0{root}/talk.mp4"),
    *("{outside}/canary.mp4\0{root}/talk.mp4", "{root}/\0/talk.mp4", "\x01", "{root}/talk\n.mp4", "\x1b[31m"),
    *("{root}/\ud800.mp4", "\udcff", "{root}/talk\udc00.mp4", "a" * 5_000, "{root}/" + "a" * 300 + ".mp4"),
    *("{root}" + "/a" * 3_000, "../" * 1_000 + "etc/passwd", "{root}" + "/Sub/.." * 300 + "/../private.mp4"),
    *("/" * 4_000 + "etc/passwd", "{root}/" + "é" * 200 + ".mp4", "~" + "/" * 200 + "private.mp4"),
]
URLS = [
    *(
        "file:///etc/passwd",
        "file://{outside}/canary.mp4",
        "file://localhost/etc/passwd",
        "FILE:///etc/passwd",
    ),
    *(
        "file://server/share/talk.mp4",
        "file:////server/share/talk.mp4",
        "file:///proc/self/environ",
        "file://",
    ),
    *("file://{root}/%2e%2e/private.mp4", "file://{root}/..%2fprivate.mp4", "file://{root}/%252e%252e/x.mp4"),
    *(
        "file://{root}/talk.mp4%00.png",
        "file://{root}/.hidden.mp4",
        "file://{root}/%2ehidden.mp4",
        "file:///",
    ),
    *(
        "file://{root}/link_file.mp4",
        "file://user@server{root}/talk.mp4",
        "file://{root}/talk.mp4?x",
        "file:",
    ),
    *(
        "file:///%5c%5cserver%5cshare",
        "file://~/private.mp4",
        "http://127.0.0.1/talk.mp4",
        "ftp://host/x.mp4",
    ),
    *(
        "https://example.com/talk.mp4",
        "s3://bucket/talk.mp4",
        "data:video/mp4;base64,AAAA",
        "gopher://host/1",
    ),
    *(
        "concat:/etc/passwd|/etc/group",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "pipe:0",
        "fd:0",
        "cache:talk",
    ),
]
LOOK_ALIKES = [
    *("{root}/%2e%2e/private.mp4", "{root}/..%2fprivate.mp4", "%2fetc%2fpasswd", "{root}/talk.mp4%00"),
    *(
        "{root}/\u2025/private.mp4",
        "\uff0e\uff0e/private.mp4",
        "{root}\u2215..\u2215private.mp4",
        "\uff5e/x.mp4",
    ),
    *("\uff0fetc\uff0fpasswd", "/etc\u2044passwd", "{root}/t\u0430lk.mp4", "{root}/\uff54alk.mp4"),
    *("{root}/\u202etalk.mp4", "{root}/ta\u200blk.mp4", "{root}/ta\u00adlk.mp4", "{root}/talk\uff0emp4"),
    *("{root}/\uff0ehidden.mp4", "{root}/\u2024hidden.mp4", "{root}/tal\u212a.mp4", "{root}/talk.mp\u2074"),
    *("$HOME/private.mp4", "${HOME}/private.mp4", "%USERPROFILE%/private.mp4", "$(cat /etc/passwd)"),
    *("`cat /etc/passwd`", "|cat /etc/passwd", "{root}/{talk,x}.mp4", "{root}/*.mp4", "'/etc/passwd'"),
    *('"{outside}/canary.mp4"', "\\/etc/passwd", "/etc\\/passwd", "'~/.ssh/id_rsa", "~/.ssh/id\\_rsa"),
    *("{root}\\ /../../private.mp4", "{root}/talk.mp4 {outside}/canary.mp4", "{root}/talk.mp4;{outside}"),
]
HOSTILE = {
    "outside": OUTSIDE,
    "backwards": BACKWARDS,
    "through links": THROUGH_LINKS,
    "hidden": HIDDEN,
    "no files": NO_FILES,
    "devices": DEVICES,
    "other machines": OTHER_MACHINES,
    "impossible": IMPOSSIBLE,
    "URLs": URLS,
    "look-alikes": LOOK_ALIKES,
}
OTHER_CASE = (
    "{root}/TALK.MP4",
    "{root}/Talk.mp4",
    "{home}/MOVIES/talk.mp4",
    "~/movies/talk.mp4",
    "sub/CLIP.mp4",
)


def test_there_are_more_than_a_hundred_hostile_paths() -> None:
    assert len({path for paths in HOSTILE.values() for path in paths}) > 200


def _check_each(paths: Iterable[str], check: Callable[[str], None]) -> None:
    """Check each path on the same disk, which none of them changes; fail with all that are wrong, by path."""
    wrong: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        try:
            check(path)
        except (AssertionError, OSError, ValueError, pytest.fail.Exception) as error:
            wrong[path] = repr(error)
    assert wrong == {}


@posix_alone
@pytest.mark.parametrize("sort", HOSTILE)
def test_a_hostile_path_is_refused_and_nothing_is_read(hostile: Disk, sort: str) -> None:
    roots = hostile.roots

    def check(path: str) -> None:
        with nothing_is_read(hostile):
            refused = _refused(lambda: roots.open(hostile.path(path)))
        assert refused.code in ("file_not_allowed", "file_not_found", "file_not_readable")
        assert not refused.retryable

    _check_each(HOSTILE[sort], check)


@posix_alone
def test_what_is_read_or_opened_does_not_go_unseen(hostile: Disk) -> None:
    for path in (
        hostile.outside / "canary.mp4",
        hostile.root / ".hidden.mp4",
        hostile.root / "link_file.mp4",
    ):
        with pytest.raises(AssertionError), nothing_is_read(hostile):
            path.read_bytes()
    with pytest.raises(AssertionError), nothing_is_read(hostile):
        os.close(os.open(hostile.root / "pipe.mp4", os.O_RDONLY | os.O_NONBLOCK))


@posix_alone
@pytest.mark.parametrize("path", OTHER_CASE)
def test_another_spelling_is_another_file_where_the_disk_tells_them_apart(hostile: Disk, path: str) -> None:
    if (hostile.home / "MOVIES").exists():
        with hostile.roots.open(hostile.path(path)) as media:
            assert media.path.name in ("talk.mp4", "clip.mp4")
        return
    with nothing_is_read(hostile):
        refused = _refused(lambda: hostile.roots.open(hostile.path(path)))
    assert "; did you mean '~/Movies/" in refused.message


@posix_alone
@pytest.mark.parametrize(
    ("there", "not_there"),
    [
        ("{outside}/canary.mp4", "{outside}/absent.mp4"),
        ("{outside}/sub/canary.mp4", "{outside}/nix/canary.mp4"),
        ("{outside}/sub", "{outside}/nix"),
        ("{outside}/pipe.mp4", "{outside}/absent.mp4"),
        ("{outside}/canary.mp4/x", "{outside}/absent.mp4/x"),
        ("~/.ssh/id_rsa", "~/.ssh/id_dsa"),
        ("../private.mp4", "../another.mp4"),
        ("{root}/link_file.mp4", "{root}/link_dangling.mp4"),
        ("{root}/link_folder/canary.mp4", "{root}/link_folder/absent.mp4"),
        ("{root}/link_up/private.mp4", "{root}/link_up/another.mp4"),
        ("{root}/.hidden.mp4", "{root}/.absent.mp4"),
        ("{root}/.secret/clip.mp4", "{root}/.absent/clip.mp4"),
        ("/proc/self/environ", "/proc/self/absent"),
        ("/etc/passwd", "/etc/absent"),
        ("{outside}/link/../../home/Movies/absent.mp4", "{outside}/nix/../../home/Movies/absent.mp4"),
    ],
)
def test_whether_something_is_there_outside_or_hidden_cannot_be_told(
    hostile: Disk, there: str, not_there: str
) -> None:
    (hostile.outside / "link").symlink_to("/usr/share")

    def answer(path: str) -> tuple[str, str, str]:
        text = hostile.path(path)
        refused = _refused(lambda: hostile.roots.open(text))
        return refused.code, refused.message.replace(display_text(text), "X"), refused.next_step

    assert answer(there) == answer(not_there)


def _relinked(path: Path, target: Path) -> Callable[[], None]:
    def swap() -> None:
        path.rename(path.with_name("moved"))
        path.symlink_to(target)

    return swap


def _becomes_a_pipe(path: Path) -> Callable[[], None]:
    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    return swap


SWAPS: dict[str, Callable[[Disk], Callable[[], None]]] = {
    "file to a file outside": lambda disk: _relinked(
        disk.root / "Sub" / "clip.mp4", disk.outside / "canary.mp4"
    ),
    "file to a file inside": lambda disk: _relinked(disk.root / "Sub" / "clip.mp4", disk.root / "talk.mp4"),
    "file to a hidden file": lambda disk: _relinked(
        disk.root / "Sub" / "clip.mp4", disk.root / ".hidden.mp4"
    ),
    "file to the environment": lambda disk: _relinked(
        disk.root / "Sub" / "clip.mp4", Path("/proc/self/environ")
    ),
    "file to a device": lambda disk: _relinked(disk.root / "Sub" / "clip.mp4", Path("/dev/zero")),
    "file by a pipe": lambda disk: _becomes_a_pipe(disk.root / "Sub" / "clip.mp4"),
    "folder to one outside": lambda disk: _relinked(disk.root / "Sub", disk.home / "Other"),
    "folder above to one outside": lambda disk: _relinked(disk.root, disk.home / "Others"),
}


@posix_alone
@pytest.mark.parametrize("moment", ["lexists", "stat", "open"])
@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_in_between_the_check_and_the_opening_is_refused_unread(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, swap: str, moment: str
) -> None:
    _write(disk.home / "Other" / "clip.mp4")
    _write(disk.home / "Others" / "Sub" / "clip.mp4")
    disk.watched = [
        disk.outside,
        disk.home / "Other",
        disk.home / "Others" / "Sub",
        disk.root / ".hidden.mp4",
    ]
    swapped: list[bool] = []
    act = SWAPS[swap](disk)
    if moment in ("stat", "open") and swap.startswith("folder"):
        # The folder is open by then: what its name leads to does not matter any more.
        moment = "lexists"

    def first(call: Callable[..., object], *, name: str | None) -> Callable[..., object]:
        def swapping(path: str | Path, *arguments: object, **named: object) -> object:
            if not swapped and (name is None or path == name):
                swapped.append(True)
                result = call(path, *arguments, **named) if moment != "open" else None
                act()
                return call(path, *arguments, **named) if moment == "open" else result
            return call(path, *arguments, **named)

        return swapping

    if moment == "lexists":
        monkeypatch.setattr("os.path.lexists", first(os.path.lexists, name=None))
    else:
        monkeypatch.setattr(os, moment, first(getattr(os, moment), name="clip.mp4"))
    with nothing_is_read(disk):
        refused = _refused(lambda: disk.roots.open("Sub/clip.mp4"))
    assert swapped
    assert refused.code in ("file_not_allowed", "file_not_found", "file_not_readable")


@posix_alone
def test_a_folder_swapped_while_it_is_walked_through_leads_nowhere_else(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(disk.home / "Other" / "clip.mp4")
    disk.watched.append(disk.home / "Other")
    real_stat = os.stat

    def swapping(path: str | Path, *arguments: object, **named: object) -> os.stat_result:
        if path == "clip.mp4":
            monkeypatch.setattr(os, "stat", real_stat)
            _relinked(disk.root / "Sub", disk.home / "Other")()
        return real_stat(path, *arguments, **named)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(os, "stat", swapping)
    with nothing_is_read(disk), disk.roots.open("Sub/clip.mp4") as media:
        assert media.read() == MP4


@posix_alone
@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("notes.mp4", b"only text, whatever the name\n" * 100, "file_not_media"),
        ("key.mp4", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "file_not_media"),
        ("page.mp4", b"<html><body>not found</body></html>", "file_not_media"),
        ("zip.mp4", b"PK\x03\x04" + bytes(100), "file_not_media"),
        ("program.mp4", b"\x7fELF" + bytes(100), "file_not_media"),
        ("database.mp4", b"SQLite format 3\x00" + bytes(100), "file_not_media"),
        ("zeros.mp4", bytes(5_000), "file_not_media"),
        ("empty.mp4", b"", "file_empty"),
        ("talk.mkv", b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", "file_not_media"),
    ],
)
def test_what_is_no_media_by_its_content_is_refused_whatever_its_name(
    disk: Disk, name: str, content: bytes, code: str
) -> None:
    _write(disk.root / name, content)
    refused = _refused(lambda: disk.roots.open(name))
    assert refused.code == code
    assert name in refused.message


def test_a_file_that_is_not_media_is_not_offered_as_a_near_miss(disk: Disk) -> None:
    _write(disk.root / "passwords.txt", b"hunter2\n")
    _write(disk.root / ".passwords.mp4")
    refused = _refused(lambda: disk.roots.open("passwords"))
    assert refused.message == "passwords is not there. Allowed folders: ~/Movies."


@pytest.mark.parametrize(
    "name", ["talk.mp4", "clip.txt", "clip", "Übung 1 (neu).mp4", "it's.mp4", "a\\ b.mp4"]
)
def test_a_file_below_a_root_is_opened_at_its_beginning_whatever_its_name(disk: Disk, name: str) -> None:
    path = _write(disk.root / "A folder" / name, MP4)
    if name == "a\\ b.mp4":
        path = path.rename(path.with_name("a b.mp4"))
    with disk.roots.open(str(path.with_name(name))) as media:
        assert media.path == path
        assert media.tell() == 0
        assert media.read() == MP4
        assert media.name == str(path)
        assert os.fstat(media.fileno()).st_ino == path.stat().st_ino
    assert media.closed


def test_an_open_file_is_closed_with_the_last_one_who_knows_of_it(disk: Disk) -> None:
    path = _write(disk.root / "talk.mp4", MP4)
    media = disk.roots.open(str(path))
    descriptor = media.fileno()
    with warnings.catch_warnings():
        # What somebody forgot to close would be complained of.
        warnings.simplefilter("error")
        del media
        gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@posix_alone
@pytest.mark.parametrize(
    "text",
    [
        "{root}/my talk.mp4",
        "~/Movies/my talk.mp4",
        "my talk.mp4",
        "./Sub/../my talk.mp4",
        "  {root}/my talk.mp4\n",
        '"{root}/my talk.mp4"',
        "'~/Movies/my talk.mp4'",
        "{root}/my\\ talk.mp4",
        "`{root}/my talk.mp4`",
        "</home/../{root}/my talk.mp4>",
        "\u201c{root}/my talk.mp4\u201d",
        "[my talk.mp4]({root}/my talk.mp4)",
        "![a clip](<file://{root}/my%20talk.mp4>)",
        "file://{root}/my%20talk.mp4",
        "file://localhost{root}/my talk.mp4",
        "FILE://{root}/my%20talk.mp4",
        "{home}/link/my talk.mp4",
        "{root}/link.mp4",
        "{root}/hard.mp4",
        "{root}/my\u202ftalk.mp4",
    ],
)
def test_a_path_is_understood_as_users_and_their_systems_write_it(disk: Disk, text: str) -> None:
    path = _write(disk.root / "my talk.mp4", MP4)
    (disk.home / "link").symlink_to(disk.root)
    (disk.root / "link.mp4").symlink_to("my talk.mp4")
    (disk.root / "hard.mp4").hardlink_to(path)
    with disk.roots.open(disk.path(text)) as media:
        assert media.path.samefile(path)
        assert not media.path.is_symlink()


@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("Screen 3.14\u202fPM.mp4", "Screen 3.14 PM.mp4"),
        (unicodedata.normalize("NFD", "Übung.mp4"), "Übung.mp4"),
        (unicodedata.normalize("NFD", "Übung") + "\u00a01/talk.mp4", "Übung 1/talk.mp4"),
    ],
)
def test_spaces_and_accents_that_a_copy_has_changed_still_find_the_file(
    disk: Disk, name: str, copied: str
) -> None:
    path = _write(disk.root / name, MP4)
    assert _open(disk.roots, copied).samefile(path)
    second = path.with_name(path.name.replace("\u202f", "\u2009").replace("\u0308", "\u0308\u0308"))
    if path.name.startswith("Screen"):
        _write(second, MP4)
        assert _refused(lambda: disk.roots.open(copied)).code == "file_not_found"


@posix_alone
def test_opening_leaves_no_file_open_behind(hostile: Disk) -> None:
    if sys.platform != "linux":
        pytest.skip("counts the open files that /proc shows")
    _write(hostile.root / "notes.mp4", b"text")
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    roots = hostile.roots
    for path in (
        "talk.mp4",
        "notes.mp4",
        "pipe.mp4",
        "absent.mp4",
        "talk.mp5",
        "link_file.mp4",
        "Sub/x",
        "Sub",
    ):
        try:
            roots.open(path).close()
        except FileRefused:
            continue
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("{root}/talk.MP4", "~/Movies/talk.mp4"),
        ("{root}/talk", "~/Movies/talk.mp4"),
        ("{root}/talk.mov", "~/Movies/talk.mp4"),
        ("{root}/tlak.mp4", "~/Movies/talk.mp4"),
        ("{root}/Sbu/clip.mp4", "~/Movies/Sub/clip.mp4"),
        ("{root}/Sub/talk.mp4", "~/Movies/talk.mp4"),
        ("/mnt/user-data/uploads/talk.mp4", "~/Movies/talk.mp4"),
        ("/Sub/clip.mp4", "~/Movies/Sub/clip.mp4"),
        ("Movies/talk.mp4", "~/Movies/talk.mp4"),
        ("C:\\Users\\me\\Videos\\talk.mp4", "~/Movies/talk.mp4"),
        ("{root}/ta%6ck.mp4", "~/Movies/talk.mp4"),
    ],
)
def test_a_near_miss_is_told_by_a_path_that_can_be_opened(disk: Disk, asked: str, meant: str) -> None:
    if disk.path(asked) != asked and Path(disk.path(asked)).exists():
        pytest.skip("this disk takes both spellings for the same")
    refused = _refused(lambda: disk.roots.open(disk.path(asked)))
    assert f"; did you mean {meant!r}? Allowed folders: " in refused.message
    assert _open(disk.roots, meant).is_relative_to(disk.root)


@pytest.mark.parametrize(
    "path",
    [
        "/mnt/user-data/uploads/holiday.mp4",
        "/mnt/data/holiday.mp4",
        "sandbox:/mnt/data/holiday.mp4",
        "`/mnt/data/holiday.mp4`",
        "[holiday](sandbox:/mnt/data/holiday.mp4)",
        "attachment://holiday.mp4",
    ],
)
def test_a_file_of_the_chat_is_told_as_that_and_asked_for_on_this_computer(disk: Disk, path: str) -> None:
    refused = _refused(lambda: disk.roots.open(path))
    assert refused.code == "file_not_found"
    assert "is a file of the chat" in refused.message
    assert refused.next_step.startswith("Ask the user where it is on this computer")


def test_a_folder_that_is_allowed_is_no_folder_of_a_chat_whatever_it_is_called(disk: Disk) -> None:
    path = _write(disk.home / "mnt" / "data" / "talk.mp4", MP4)
    assert _open(MediaRoots([path.parent], None), str(path)) == path


@posix_alone
def test_a_path_of_windows_is_told_as_that_elsewhere(disk: Disk) -> None:
    for path in ("C:\\Videos\\holiday.mp4", '"d:/Videos/holiday.mp4"'):
        refused = _refused(lambda path=path: disk.roots.open(path))
        assert "is a path of Windows, and this server runs on another system." in refused.message
        assert "path on this computer" in refused.next_step


def test_a_folder_in_the_place_of_a_file_tells_up_to_ten_media_files_in_it(disk: Disk) -> None:
    folder = disk.root / "Clips"
    for name in ("b.mp4", "A.mp4", "notes.txt", ".hidden.mp4", "it's.mp4"):
        _write(folder / name, MP4)
    _write(folder / "text.mp4", b"text")
    refused = _refused(lambda: disk.roots.open(str(folder)))
    assert refused.code == "file_not_readable"
    assert refused.message == ("~/Movies/Clips is a folder, and holds 'A.mp4', 'b.mp4', \"it's.mp4\".")
    assert refused.next_step == "Name a file in it."
    for number in range(20):
        _write(folder / f"{number:02}.mp4", MP4)
    refused = _refused(lambda: disk.roots.open("Clips/"))
    assert refused.message.count(".mp4'") == 10
    assert refused.message.endswith("'09.mp4' and more.")


def test_a_folder_without_media_is_told_as_that(disk: Disk) -> None:
    (disk.root / "Empty").mkdir()
    refused = _refused(lambda: disk.roots.open("Empty"))
    told = "~/Movies/Empty is a folder, and holds no media file. Allowed folders: ~/Movies."
    assert refused.message == told
    assert refused.next_step == "Name another file, or ask the user where the file lies."


@posix_alone
def test_what_is_told_of_a_folder_says_nothing_of_what_lies_outside(hostile: Disk) -> None:
    with nothing_is_read(hostile):
        refused = _refused(lambda: hostile.roots.open(str(hostile.root)))
    assert "talk.mp4" in refused.message
    assert "link" not in refused.message


def test_a_folder_full_of_files_is_searched_for_a_near_miss_within_a_moment(disk: Disk) -> None:
    for number in range(3_000):
        (disk.root / f"{number:04}{'clip' * 40}.mp4").touch()
    began = time.monotonic()
    _refused(lambda: disk.roots.open("9999" + "pilc" * 40 + ".mp4"))
    assert time.monotonic() - began < QUICK_SECONDS


def test_a_refusal_names_the_allowed_folders_shortly(disk: Disk) -> None:
    folders = [disk.home / f"folder{number}" for number in range(12)]
    for folder in folders[1:]:
        folder.mkdir()
    refused = _refused(lambda: MediaRoots(folders, None).open("/etc/passwd"))
    assert refused.code == "file_not_allowed"
    named = ", ".join(f"~/folder{number}" for number in range(1, 9))
    assert refused.message.endswith(f"Allowed folders: {named} and 3 more.")
    assert named not in refused.next_step


def test_a_folder_that_is_missing_is_offered_once_it_is_there(disk: Disk) -> None:
    later = disk.home / "Later"
    roots = MediaRoots([later], None)
    assert "None of the allowed folders exists." in _refused(lambda: roots.open(f"{later}/talk.mp4")).message
    _write(later / "talk.mp4", MP4)
    assert _open(roots, "~/Later/talk.mp4") == later / "talk.mp4"


@posix_alone
def test_a_root_may_be_a_link_and_stays_where_it_led_first(disk: Disk) -> None:
    (disk.home / "Clips").symlink_to(disk.root)
    roots = MediaRoots([Path("~/Clips")], None)
    assert _open(roots, "~/Clips/talk.mp4") == disk.root / "talk.mp4"
    (disk.home / "Clips").unlink()
    (disk.home / "Clips").symlink_to(disk.outside)
    assert _refused(lambda: roots.open("~/Clips/canary.mp4")).code == "file_not_allowed"


@posix_alone
def test_a_root_within_a_hidden_folder_is_as_good_as_any_and_the_disk_is_no_way_to_devices(
    disk: Disk,
) -> None:
    assert _open(MediaRoots([disk.root / ".secret"], None), str(disk.root / ".secret" / "clip.mp4"))
    everything = MediaRoots([Path("/")], None)
    assert _open(everything, str(disk.outside / "canary.mp4"))
    for path in ("/proc/self/environ", "/dev/zero", "/sys/kernel/uevent_seqnum", "~/.ssh/id_rsa"):
        assert _refused(lambda path=path: everything.open(path)).code == "file_not_allowed"


@pytest.mark.parametrize(
    "path", ["talk.mp4", "/etc/passwd", "", "\0", "file:///etc/passwd", "//server/share/x"]
)
def test_without_folders_every_local_path_is_refused_and_the_reason_told(disk: Disk, path: str) -> None:
    nowhere = MediaRoots([], None)
    refused = _refused(lambda: nowhere.open(path))
    assert refused.code == "file_not_allowed"
    assert "over HTTP they can be used only if SYNC_MCP_MEDIA_ROOTS names folders" in refused.message
    assert "url or an asset_id" in refused.next_step
    for unsaved in (
        _refused(lambda: nowhere.destination(path, "talk.mp4")),
        _refused(lambda: nowhere.destination(None, "talk.mp4")),
    ):
        assert unsaved.code == "file_not_allowed"
        assert "over HTTP only where SYNC_MCP_DOWNLOAD_DIR or SYNC_MCP_MEDIA_ROOTS" in unsaved.message
        assert "get_generation tells output_url" in unsaved.next_step


def test_a_relative_path_without_a_working_folder_is_not_there(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert _refused(lambda: disk.roots.open("talk.mp4")).code == "file_not_found"


@posix_alone
def test_the_usual_roots_are_the_working_folder_and_the_folders_of_a_users_media(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DESKTOP", "DOCUMENTS", "DOWNLOAD", "VIDEOS", "MUSIC", "PICTURES"):
        monkeypatch.delenv(f"XDG_{variable}_DIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    project = disk.home / "project"
    project.mkdir()
    videos = "Movies" if sys.platform == "darwin" else "Videos"
    names = ("project", "Desktop", "Documents", "Downloads", videos, "Music", "Pictures")
    assert usual_roots(project) == [disk.home / name for name in names]
    assert usual_download_folder() == disk.home / "Downloads"


@posix_alone
@pytest.mark.parametrize(
    "folder",
    [
        *("/", "/etc", "/usr", "/usr/bin", "/usr/share", "/bin", "/dev", "/proc", "/sys", "/tmp", "/var"),
        *("/proc/self", "{home}", "{home}/..", "{home}/.config", "{home}/Library/x", "{home}/snap/x"),
        *("{home}/link", "{home}/project/.git"),
    ],
)
def test_a_working_folder_of_the_system_or_above_the_home_is_no_root(disk: Disk, folder: str) -> None:
    (disk.home / "link").symlink_to("/usr/share")
    assert Path(disk.path(folder)) not in usual_roots(Path(disk.path(folder)))
    assert all(root.parent == disk.home for root in usual_roots(Path(disk.path(folder))))


@posix_alone
@pytest.mark.parametrize(
    "folder",
    [
        *("/var/log", "/var/log/x", "/var/lib", "/var/lib/x", "/var/mail", "/var/www", "/run/user/1000"),
        *("/run/x", "/home/other", "/home/other/work", "/Users/other", "/Users/other/work", "/root"),
        *("/root/work", "/mnt/c", "/mnt/d", "/mnt/c/Windows", "/mnt/c/windows/System32", "/mnt/c/Users"),
        *("/mnt/c/Users/other", "/mnt/c/Users/me/AppData/Local", "/mnt/c/Program Files (x86)/x"),
    ],
)
@pytest.mark.usefixtures("disk")
def test_a_working_folder_of_a_service_another_user_or_windows_is_no_root(folder: str) -> None:
    assert Path(folder) not in usual_roots(Path(folder))


@posix_alone
@pytest.mark.parametrize(
    "folder",
    [
        *("/srv/work", "/opt/work", "/data", "/workspace", "/tmp/work", "/var/tmp/work", "/mnt/disk"),
        *("/mnt/c/work", "/mnt/c/Users/me/work", "/run/media/me/disk", "/home/me/work"),
    ],
)
def test_a_working_folder_for_work_is_a_root(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    if sys.platform == "darwin" and folder.startswith(("/tmp", "/var", "/home")):
        pytest.skip("is a link there")
    assert Path(folder) in usual_roots(Path(folder))


@posix_alone
@pytest.mark.parametrize(
    ("home", "folder", "is_root"),
    [
        ("/root", "/root/work", True),
        ("/root", "/root", False),
        ("/var/lib/builder", "/var/lib/builder/work", True),
        ("/", "/etc/ssl", False),
        ("/", "/var/log", False),
        ("/", "/home/other/work", False),
        ("/", "/work", True),
    ],
)
def test_what_lies_in_the_home_folder_is_the_users_wherever_that_is(
    monkeypatch: pytest.MonkeyPatch, home: str, folder: str, is_root: bool
) -> None:
    monkeypatch.setenv("HOME", home)
    assert (Path(os.path.realpath(folder)) in usual_roots(Path(folder))) is is_root


@posix_alone
def test_a_media_folder_that_is_the_home_itself_or_the_systems_is_no_root(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "darwin":
        pytest.skip("the folders of a user cannot be moved by variables")
    monkeypatch.setenv("XDG_DESKTOP_DIR", str(disk.home))
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", "/")
    monkeypatch.setenv("XDG_MUSIC_DIR", "/etc")
    roots = usual_roots(Path("/"))
    assert roots == [disk.home / name for name in ("Documents", "Videos", "Pictures")]
    assert usual_download_folder() is None


def test_the_usual_roots_can_be_read_and_written(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(disk.home / "Downloads"))
    roots = MediaRoots.usual()
    assert _open(roots, "talk.mp4") == disk.root / "talk.mp4"
    assert roots.destination(None, "dubbed.mp4") == disk.home / "Downloads" / "dubbed.mp4"
    assert (disk.home / "Downloads").is_dir()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (None, "{home}/Saved/job.mp4"),
        ("{root}", "{root}/job.mp4"),
        ("~/Movies/", "{root}/job.mp4"),
        (".", "{root}/job.mp4"),
        ("~/Movies/Sub", "{root}/Sub/job.mp4"),
        ("Sub/", "{root}/Sub/job.mp4"),
        ("dubbed.mp4", "{home}/Saved/dubbed.mp4"),
        ("dubbed.MP4", "{home}/Saved/dubbed.MP4"),
        ("dubbed", "{home}/Saved/dubbed.mp4"),
        ("dubbed.v1.2", "{home}/Saved/dubbed.v1.2.mp4"),
        ("dubbed.exe", "{home}/Saved/dubbed.exe.mp4"),
        ("./dubbed.mp4", "{root}/dubbed.mp4"),
        ("Sub/dubbed.mp4", "{root}/Sub/dubbed.mp4"),
        ("Sub", "{home}/Saved/Sub.mp4"),
        ("~/Saved/dubbed.mp4", "{home}/Saved/dubbed.mp4"),
        ("'~/Movies/Sub/my dub.mp4'", "{root}/Sub/my dub.mp4"),
        ("file://{root}/my%20dub.mp4", "{root}/my dub.mp4"),
        ("talk.mp4", "{home}/Saved/talk.mp4"),
        ("Sub/../dubbed.mp4", "{root}/dubbed.mp4"),
    ],
)
def test_a_destination_is_a_file_or_a_folder_with_the_files_own_name(
    disk: Disk, path: str | None, wanted: str
) -> None:
    roots = MediaRoots([disk.root], disk.home / "Saved")
    told = None if path is None else disk.path(path)
    assert roots.destination(told, "job.mp4") == Path(disk.path(wanted))


def test_a_bare_name_is_saved_in_the_download_folder_from_any_working_directory(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = MediaRoots([disk.root], disk.home / "Saved")
    for folder in (disk.root, disk.root / "Sub", disk.home, disk.outside):
        monkeypatch.chdir(folder)
        assert roots.destination("dubbed.mp4", "job.mp4") == disk.home / "Saved" / "dubbed.mp4"
    monkeypatch.chdir(disk.root)
    assert MediaRoots([disk.root], None).destination("dubbed.mp4", "job.mp4") == disk.root / "dubbed.mp4"


WRITING_ELSEWHERE = [
    *("{root}/link_folder", "{root}/link_folder/", "{root}/link_folder/new.mp4", "{root}/link_file.mp4"),
    *("{root}/link_up/new.mp4", "{root}/link_up", "{root}/link_top", "{root}/link_hidden_folder/new.mp4"),
    *(
        "{root}/link_dangling.mp4",
        "{root}/link_chain_folder/new.mp4",
        "{root}/link_ssh/",
        "{root}/link_zero.mp4",
    ),
    *("{root}/pipe.mp4", "{root}/socket.mp4", "{root}/link_pipe.mp4", "{root}/talk.mp4/new.mp4", "step0.mp4"),
    *("{root}/absent/new.mp4", "{root}/absent/", "{root}/new.mp4/", "{root}/link_loop.mp4/new.mp4", "", "\0"),
    *("{root}/.new.mp4", "{root}/.new/", "{root}/.secret/new.mp4", "{outside}/new.mp4", "~/new.mp4"),
]
WRITING_OUTSIDE = {
    "outside": OUTSIDE,
    "backwards": BACKWARDS,
    "hidden": HIDDEN,
    "devices": DEVICES,
    "URLs": URLS,
    "other machines": OTHER_MACHINES[:18],
    "elsewhere": WRITING_ELSEWHERE,
}
HARMLESS = {"{root}/link_folder/../private.mp4", "{root}/."}
"""These lead nowhere but into the allowed folder, where there is nothing to read."""


def _everything(disk: Disk) -> set[tuple[Path, float]]:
    return {(path, path.lstat().st_mtime) for path in disk.home.parent.rglob("*")}


@posix_alone
@pytest.mark.parametrize("sort", WRITING_OUTSIDE)
def test_a_destination_never_leads_out_of_the_allowed_folders(hostile: Disk, sort: str) -> None:
    before = _everything(hostile)
    roots = hostile.roots

    def check(path: str) -> None:
        if path in HARMLESS:
            assert roots.destination(hostile.path(path), "job.mp4").parent == hostile.root
            return
        with nothing_is_read(hostile):
            refused = _refused(lambda: roots.destination(hostile.path(path), "job.mp4"))
        assert refused.code in ("file_not_allowed", "folder_not_found", "file_not_writable")
        assert _everything(hostile) == before

    _check_each(WRITING_OUTSIDE[sort], check)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a:b.mp4",
            "a?.mp4",
            "a*.mp4",
            "<a>.mp4",
            "a|b.mp4",
            'a"b.mp4',
            "a\\b.mp4",
            "a\nb.mp4",
            "a\x7f.mp4",
        ),
        *(
            "con.mp4",
            "NUL",
            "lpt1.mp4",
            "COM¹.mp4",
            "\u202e4pm.mp4",
            "a\u2066.mp4",
            "x" * 300,
            "é" * 130 + ".mp4",
        ),
    ],
)
def test_a_name_that_some_system_forbids_or_shows_wrongly_is_refused(disk: Disk, name: str) -> None:
    before = _everything(disk)
    refused = _refused(lambda: disk.roots.destination(f"{disk.root}/{name}", "job.mp4"))
    assert refused.code in ("file_not_writable", "file_not_allowed")
    assert _refused(lambda: disk.roots.destination(str(disk.root), name)).code == "file_not_writable"
    assert _everything(disk) == before


@pytest.mark.parametrize("name", [".job.mp4", "../job.mp4", "Sub/job.mp4", "", " ", "job.mp4 ", "job."])
def test_a_files_own_name_is_checked_like_any(disk: Disk, name: str) -> None:
    assert _refused(lambda: disk.roots.destination(None, name)).code == "folder_not_found"
    saving = MediaRoots([], disk.root)
    assert _refused(lambda: saving.destination(None, name)).code == "file_not_writable"


@posix_alone
def test_what_is_there_by_a_destinations_name_is_a_file_or_it_is_refused(disk: Disk) -> None:
    (disk.root / "link.mp4").symlink_to("talk.mp4")
    (disk.root / "away.mp4").symlink_to(disk.outside / "canary.mp4")
    (disk.root / "folder.mp4").mkdir()
    os.mkfifo(disk.root / "pipe.mp4")
    assert disk.roots.destination("link.mp4", "job.mp4") == disk.root / "talk.mp4"
    assert disk.roots.destination("folder.mp4", "job.mp4") == disk.root / "folder.mp4" / "job.mp4"
    for name, code in (
        *(("away", "file_not_writable"), ("away.mp4", "file_not_allowed"), ("link", "file_not_writable")),
        *(("pipe", "file_not_writable"), ("pipe.mp4", "file_not_writable"), ("folder", "file_not_writable")),
    ):
        assert _refused(lambda name=name: disk.roots.destination(name, "job.mp4")).code == code, name
    assert _refused(lambda: disk.roots.destination(".", "away.mp4")).code == "file_not_writable"


def test_a_missing_folder_is_told_with_the_one_that_was_meant(disk: Disk) -> None:
    for path in ("~/Movies/Sbu/job.mp4", "~/Movies/sub2/"):
        refused = _refused(lambda path=path: disk.roots.destination(path, "job.mp4"))
        assert refused.code == "folder_not_found"
        assert refused.message.endswith(
            " is not there; did you mean '~/Movies/Sub'? Allowed folders: ~/Movies."
        )


def test_the_download_folder_alone_is_made_where_it_is_missing_and_not_the_one_above(disk: Disk) -> None:
    saved = disk.home / "Saved"
    assert MediaRoots([], Path("~/Saved")).destination(str(saved / "a.mp4"), "job.mp4") == saved / "a.mp4"
    assert list(saved.iterdir()) == []
    refused = _refused(lambda: MediaRoots([], saved / "a" / "b").destination(None, "job.mp4"))
    assert refused.code == "folder_not_found"
    assert "SYNC_MCP_DOWNLOAD_DIR" in refused.next_step
    _write(saved / "file")
    assert _refused(lambda: MediaRoots([], saved / "file").destination(None, "job.mp4")).code == refused.code


def test_the_download_folder_is_for_writing_alone(disk: Disk) -> None:
    roots = MediaRoots([disk.root], disk.outside)
    assert roots.destination(None, "job.mp4") == disk.outside / "job.mp4"
    assert _refused(lambda: roots.open(str(disk.outside / "canary.mp4"))).code == "file_not_allowed"
    assert _refused(lambda: MediaRoots([], disk.outside).open("talk.mp4")).code == "file_not_allowed"


@posix_alone
def test_a_file_that_was_opened_for_writing_elsewhere_than_it_seems_is_found_out(disk: Disk) -> None:
    part = disk.roots.destination("Sub/", "job.mp4").with_name(".0123.part")
    with part.open("xb") as writing:
        disk.roots.check_open(writing.fileno(), part)
        other = _write(disk.outside / ".0123.part")
        with other.open("rb") as elsewhere:
            assert (
                _refused(lambda: disk.roots.check_open(elsewhere.fileno(), part)).code == "file_not_allowed"
            )
            _relinked(disk.root / "Sub", disk.outside)()
            assert part.samefile(other)
            assert (
                _refused(lambda: disk.roots.check_open(elsewhere.fileno(), part)).code == "file_not_allowed"
            )
        assert _refused(lambda: disk.roots.check_open(writing.fileno(), part)).code == "file_not_allowed"
    with other.open("rb") as elsewhere:
        assert _refused(lambda: disk.roots.check_open(elsewhere.fileno(), other)).code == "file_not_allowed"
