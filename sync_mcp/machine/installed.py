"""How this very installation is started again: by its own path, or by what has put it into a cache."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

_NAME = "sync-mcp"
# What neither cmd nor PowerShell takes for anything else where it stands without quotes.
_PLAIN_ON_WINDOWS = re.compile(r"[\w./\\:+-]+")
_UV_CACHE = re.compile(r"(?:archive|environments|builds)-v\d+")
_EXTRAS = {"media": "av", "postgres": "psycopg"}
"""The extras that a server may need, and a module that each brings."""


_homes: list[Path] = []
"""The folders of ledgers in use here that no terminal of the user's would look in; the last one counts."""


def this_command() -> tuple[str, ...]:
    """Return the command that starts this installation from any folder, now and later."""
    script = shutil.which(_NAME, path=str(Path(sys.executable).parent))
    return (
        _runner()
        or ((_link_to(script),) if script else None)
        or (sys.executable, "-m", __name__.partition(".")[0])
    )


def command_here() -> str:
    """Return what a user types to run this command where they are."""
    typed = sys.argv[0]
    if Path(typed).stem != _NAME:
        return join_words([sys.executable, "-m", __name__.partition(".")[0]])
    # Who runs it out of a cache puts that on the PATH as well, for as long as it runs.
    runner = _runner()
    if runner:
        return join_words(runner)
    found = shutil.which(_NAME)
    return _NAME if found is not None and _is_same(found, typed) else join_words([typed])


def ledger_command(*words: str) -> str:
    """Return what a user types for a command on the ledger, from any folder: a server's is not theirs.

    It names the folder of the ledger where one is in use that a terminal would not look in: see `name_home`.
    """
    return _spell("ledger", *words)


def campaign_command(*words: str) -> str:
    """Return what a user types for a command on campaigns, as `ledger_command` does."""
    return _spell("campaign", *words)


def _spell(*words: str) -> str:
    command, typed = command_here(), Path(sys.argv[0])
    if command == join_words([sys.argv[0]]) and typed.name != sys.argv[0]:
        command = join_words([str(typed.absolute())])
    home = ["--home", str(_homes[-1])] if _homes else []
    return f"{command} {join_words([*words, *home])}"


@contextmanager
def name_home(folder: Path) -> Generator[None]:
    """Have `ledger_command` name `folder` meanwhile; by default the user's terminal finds the ledger itself.

    It holds for the process, which uses one ledger. `folder` is absolute.
    """
    _homes.append(folder)
    try:
        yield
    finally:
        _homes.remove(folder)


def media_install() -> str:
    """Return the command that brings the extra for media into this installation, or starts it with that."""
    return _install("media")


def postgres_install() -> str:
    """Return the command that brings the extra for a ledger in PostgreSQL, as `media_install` does."""
    return _install("postgres")


def _install(extra: str) -> str:
    runner = _runner()
    if not runner:
        return join_words(["pip", "install", f"{_NAME}[{extra}]"])
    return join_words([*runner[:-2], _source(extra), _NAME])


def join_words(words: Sequence[str], *, is_windows: bool = os.name == "nt") -> str:
    """Return a command line of these words, the program first, as a user's shell reads it.

    On Windows both cmd and PowerShell read it so. Of what no quotes keep from being replaced, `%NAME%` in the
    one and `$NAME` in the other, nothing is escaped: no one spelling is right for both.
    """
    if not is_windows:
        return shlex.join(words)
    program, *arguments = words
    return " ".join([_program_on_windows(program), *map(_argument_on_windows, arguments)])


def _program_on_windows(path: str) -> str:
    # What begins with a quote is a text for PowerShell, and no program: each folder is quoted by itself.
    parts = [part if _is_plain(part) else f'"{part}"' for part in path.split("\\")]
    return ("" if _is_plain(parts[0]) else ".\\") + "\\".join(parts)


def _argument_on_windows(word: str) -> str:
    if word and _is_plain(word):
        return word
    # The rule of programs, not of shells: a quote needs a backslash, and those before a quote are doubled.
    inner = re.sub(r'(\\*)"', r'\1\1\\"', word)
    last = re.sub(r".*[^\\]", "", inner)
    return f'"{inner}{last}"'


def _is_plain(word: str) -> bool:
    return not word or _PLAIN_ON_WINDOWS.fullmatch(word) is not None


def _runner() -> tuple[str, ...] | None:
    """Return the command of the program that runs this out of a cache, which may be emptied at any time."""
    place = Path(sys.prefix)
    if _UV_CACHE.fullmatch(place.parent.name):
        return (*_uvx(), "--from", _source(), _NAME)
    # What pipx installs lies in `venvs`, and stays.
    if (place / "pipx_metadata.json").exists() and place.parent.name != "venvs":
        return (shutil.which("pipx") or "pipx", "run", "--spec", _source(), _NAME)
    return None


def _uvx() -> tuple[str, ...]:
    uvx = shutil.which("uvx")
    uv = os.environ.get("UV") or shutil.which("uv")
    if uvx is None and uv is not None:
        return (uv, "tool", "run")
    # By its whole path: a host that is no terminal has another PATH.
    return (uvx or "uvx",)


def _source(wanted: str | None = None) -> str:
    """Return where this was installed from, as a requirement, with the extras that are wanted or are here."""
    extras = [name for name, brings in _EXTRAS.items() if name == wanted or find_spec(brings)]
    extra = f"[{','.join(extras)}]" if extras else ""
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:
        return f"{_NAME}{extra}"
    origin = _origin(installed.read_text("direct_url.json"))
    return f"{_NAME}{extra} @ {origin}" if origin else f"{_NAME}{extra}=={installed.version}"


def _origin(told: str | None) -> str | None:
    """Return the URL that the installer has noted, without credentials; None for a package index."""
    try:
        noted: object = json.loads(told or "")
    except ValueError:
        return None
    fields = cast(dict[str, object], noted) if isinstance(noted, dict) else {}
    url, version = fields.get("url"), fields.get("vcs_info")
    if not isinstance(url, str):
        return None
    place = urlsplit(url)
    user, at, host = place.netloc.rpartition("@")
    if at and user != "git":
        place = place._replace(netloc=host)
    origin = place.geturl()
    if isinstance(version, dict):
        found = cast(dict[str, object], version)
        origin = f"{found.get('vcs', 'git')}+{origin}@{found.get('commit_id', '')}".removesuffix("@")
    folder = fields.get("subdirectory")
    return f"{origin}#subdirectory={folder}" if folder else origin


def _link_to(script: str) -> str:
    """Return the name on the PATH that leads to `script`, where tools have put one, else `script`."""
    found = shutil.which(_NAME)
    return str(Path(found).absolute()) if found is not None and _is_same(found, script) else script


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
