"""An environment of its own for each host, made once and kept for as long as its pins stay."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.hosts.pins import HERE, Host

# The Node of most machines is too old for some of them.
_NODE = "node@22.23.3"
_LIMIT_SECONDS = 540
_SHOWN = 300
_PLAYERS = HERE / "players"


class NotInstalled(Exception):
    """The host cannot be had here; the message is the installer's own last word."""


def install(host: Host, folder: Path) -> list[str]:
    """Return the command that runs the player of `host`, with what it needs installed into `folder`.

    Raises:
        NotInstalled: pip, uv or npm failed.
    """
    packages = [*host.packages, _NODE] if host.of_npm else host.packages
    ready = folder / ".ready"
    wanted = "\n".join([*packages, "" if host.of_npm else sys.version])
    if not ready.exists() or ready.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for command in _installers(host, packages, folder):
            _run(command)
        ready.write_text(wanted, encoding="utf-8")
    if host.player.endswith(".mjs"):
        # Node looks for modules beside the script.
        for script in ("player.mjs", host.player):
            shutil.copy(_PLAYERS / script, folder)
        return [str(folder / "node_modules" / ".bin" / "node"), str(folder / host.player)]
    # A host that is a program is found on the path.
    python = sys.executable if host.of_npm else str(folder / "bin" / "python")
    return [python, str(_PLAYERS / host.player)]


def _installers(host: Host, packages: list[str], folder: Path) -> list[list[str]]:
    if host.of_npm:
        quiet = ["--no-package-lock", "--no-fund", "--no-audit", "--loglevel=error"]
        return [["npm", "install", "--prefix", str(folder), *quiet, *packages]]
    python = str(folder / "bin" / "python")
    if shutil.which("uv"):
        return [
            [
                "uv",
                "venv",
                "--quiet",
                "--no-project",
                "--allow-existing",
                "--python",
                sys.executable,
                str(folder),
            ],
            ["uv", "pip", "install", "--quiet", "--python", python, *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    ]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode:
        # The reason comes last; npm alone then names its log.
        said = [
            line.strip() for line in done.stdout.splitlines() if line.strip() and "complete log" not in line
        ]
        raise NotInstalled(" ".join(said[-2:])[-_SHOWN:] or f"{command[0]} ended with {done.returncode}")
