"""`make package`: the wheel, the sdist, the bundle for Claude Desktop and server.json, in dist/.

    python -m tests.package.build MCPB

MCPB is the command that packs bundles. What each file holds is compared with what it must hold.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from sync_mcp.tools.core import TOOLS
from sync_mcp.tools.prompts import PROMPTS
from tests.package.facts import ROOT, SOURCES, Facts

DIST = ROOT / "dist"
BUNDLE_FILES = ("icon.png", "main.py", "manifest.json", "pyproject.toml")
SDIST_ROOTS = (
    *("sync_mcp", "tests", "examples", "docs", ".package"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
    *("Makefile", "constraints.txt", "Dockerfile", "pyproject.toml", ".gitignore"),
)
MOST_BUNDLE_BYTES = 5_000
MOST_WHEEL_BYTES = 890_000
"""With the sets of tools that are off at first, and the sandbox."""
WAIT_SECONDS = 120


def build(folder: Path, mcpb: str) -> None:
    """Build every part of the package into `folder`; what lies there already goes.

    Raises:
        ValueError: a part holds other files than it must, or is too big.
        subprocess.CalledProcessError: a tool failed.
    """
    facts = Facts.read()
    if folder.exists():
        shutil.rmtree(folder)
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder))
    with tempfile.TemporaryDirectory() as place:
        write_bundle(Path(place), facts)
        _run(mcpb, "validate", place)
        _run(mcpb, "pack", place, str(folder / facts.bundle))
    write_server(folder, facts)
    check(folder, facts)


def write_bundle(folder: Path, facts: Facts) -> None:
    """Write the files of the bundle into `folder`."""
    for name in BUNDLE_FILES:
        source = SOURCES / "bundle" / name
        if not source.exists():
            # Tools read what is called pyproject.toml, and stumble over what is still to be filled in.
            source = source.with_name(f"{name}.in")
        if source.suffix == ".png":
            shutil.copy(source, folder)
        else:
            text = facts.fill(source.read_text(encoding="utf-8"))
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    place = folder / "manifest.json"
    manifest: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    # The tools change with the product; what they are for is told by their own first sentence.
    manifest["tools"] = [
        {"name": tool.name, "description": f"{tool.description.partition('. ')[0].rstrip('.')}."}
        for tool in TOOLS
        if tool.toolset.is_default
    ]
    # So do the prompts: a host that shows the bundle's fills in what the server would.
    manifest["prompts"] = [
        {
            "name": prompt.name,
            "description": prompt.description,
            "arguments": [argument.name for argument in prompt.arguments],
            "text": prompt.fill(
                {argument.name: f"${{arguments.{argument.name}}}" for argument in prompt.arguments}
            ),
        }
        for prompt in PROMPTS.values()
    ]
    place.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8", newline="\n")


def write_server(folder: Path, facts: Facts) -> None:
    """Write the registry's entry, server.json, into `folder`, where the bundle lies."""
    digest = hashlib.sha256((folder / facts.bundle).read_bytes()).hexdigest()
    template = (SOURCES / "server.json").read_text(encoding="utf-8")
    text = facts.fill(template, bundle_sha256=digest)
    (folder / "server.json").write_text(text, encoding="utf-8", newline="\n")


def check(folder: Path, facts: Facts) -> None:
    """Compare what was built with what it must hold.

    Raises:
        ValueError: with what is too much, missing or too big.
    """
    built = {path.name for path in folder.iterdir()} - {".gitignore"}
    _compare("dist", built, {facts.wheel, facts.sdist, facts.bundle, "server.json"})

    about = f"sync_mcp-{facts.version}.dist-info"
    told = {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    with zipfile.ZipFile(folder / facts.wheel) as wheel:
        _compare(
            facts.wheel,
            set(wheel.namelist()),
            {*_tracked("sync_mcp"), *told, f"{about}/licenses/LICENSE"},
        )
    with tarfile.open(folder / facts.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
        _compare(facts.sdist, names, {*_tracked(*SDIST_ROOTS), "PKG-INFO"})
    with zipfile.ZipFile(folder / facts.bundle) as bundle:
        _compare(facts.bundle, set(bundle.namelist()), set(BUNDLE_FILES))
    for name, most in ((facts.bundle, MOST_BUNDLE_BYTES), (facts.wheel, MOST_WHEEL_BYTES)):
        size = (folder / name).stat().st_size
        if size > most:
            raise ValueError(f"{name} has {size:,} bytes, more than {most:,}")


def _compare(what: str, there: set[str], wanted: set[str]) -> None:
    if there != wanted:
        raise ValueError(
            f"{what}: too much: {sorted(there - wanted) or 'nothing'}; "
            f"missing: {sorted(wanted - there) or 'nothing'}"
        )


def _tracked(*places: str) -> list[str]:
    """Return the files of the repository in these places, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *places],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name]


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    done.check_returncode()


def main() -> None:
    [mcpb] = sys.argv[1:]
    try:
        build(DIST, mcpb)
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    for path in sorted(DIST.iterdir()):
        print(f"dist/{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
