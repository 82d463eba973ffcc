"""How this very installation is started again: by its own path, or by what has put it into a cache."""

import json
import os
import re
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

_NAME = "sync-mcp"
_UV_CACHE = re.compile(r"(?:archive|environments|builds)-v\d+")


def this_command() -> tuple[str, ...]:
    """Return the command that starts this installation from any folder, now and later."""
    script = shutil.which(_NAME, path=str(Path(sys.executable).parent))
    return (
        _runner()
        or ((_linked(script),) if script else None)
        or (sys.executable, "-m", __name__.partition(".")[0])
    )


def called_by() -> str:
    """Return what a user types to run this command where they are."""
    typed = sys.argv[0]
    if Path(typed).stem != _NAME:
        return shlex.join([sys.executable, "-m", __name__.partition(".")[0]])
    # Who runs it out of a cache puts that on the PATH as well, for as long as it runs.
    runner = _runner()
    if runner:
        return shlex.join(runner)
    found = shutil.which(_NAME)
    return _NAME if found is not None and _is_same(found, typed) else shlex.quote(typed)


def ledger_command(*words: str) -> str:
    """Return what a user types for a command on the ledger, from any folder: a server's is not theirs."""
    command, typed = called_by(), Path(sys.argv[0])
    if command == shlex.quote(sys.argv[0]) and typed.name != sys.argv[0]:
        command = shlex.quote(str(typed.absolute()))
    return f"{command} {shlex.join(['ledger', *words])}"


def media_install() -> str:
    """Return the command that brings the extra for media into this installation, or starts it with that."""
    extra = f"{_NAME}[media]"
    runner = _runner()
    if not runner:
        return f"pip install {shlex.quote(extra)}"
    return shlex.join([*runner[:-2], _source(has_media=True), _NAME])


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


def _source(*, has_media: bool = False) -> str:
    """Return where this was installed from, as a requirement, with the extra if `has_media` or it is here."""
    extra = "[media]" if has_media or find_spec("av") else ""
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


def _linked(script: str) -> str:
    """Return the name on the PATH that leads to `script`, where tools have put one, else `script`."""
    found = shutil.which(_NAME)
    return str(Path(found).absolute()) if found is not None and _is_same(found, script) else script


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
