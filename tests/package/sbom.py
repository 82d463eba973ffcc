"""Writes what the package brings with it, in CycloneDX 1.6: each pinned requirement, with its hashes.

python -m tests.package.sbom FILE
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.package.facts import SOURCES, Facts

_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>(?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)


def describe(facts: Facts, pins: str) -> dict[str, Any]:
    """Return the list as CycloneDX has it; `pins` is a requirements file with exact versions and hashes."""
    parts = [
        {
            "type": "library",
            "bom-ref": _reference(pin["name"], pin["version"]),
            "name": pin["name"],
            "version": pin["version"],
            "purl": _reference(pin["name"], pin["version"]),
            # One for each file that may be installed, of which one will be.
            "properties": [
                {"name": "sha256", "value": digest}
                for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", pin["rest"])
            ],
        }
        for pin in _PIN.finditer(pins)
    ]
    own = _reference("sync-mcp", facts.version)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "sync-mcp",
                "version": facts.version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": parts,
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name.lower()}@{version}"


def main() -> None:
    [file] = sys.argv[1:]
    pins = (SOURCES / "runtime.txt").read_text(encoding="utf-8")
    Path(file).write_text(json.dumps(describe(Facts.read(), pins), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
