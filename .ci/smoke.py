"""A smoke test on any system that has Python: install, the quick tests, and one session over stdio.

It needs neither make nor a POSIX shell; `.ci/run` is the whole.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*arguments: str) -> None:
    print(">", *arguments, flush=True)
    subprocess.run([str(PYTHON), *arguments], cwd=ROOT, check=True, timeout=1200)


def main() -> None:
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--require-hashes", "--requirement", "constraints.txt")
    run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")
    run("-m", "pytest", "-n", "auto", "--maxprocesses", "4", "-m", "not slow and not alone")
    run("-m", "pytest", "-m", "not slow and alone")
    run("-m", "sync_mcp", "demo", "--output", "demo-output")


if __name__ == "__main__":
    sys.exit(main())
