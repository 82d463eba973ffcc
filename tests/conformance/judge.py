"""Hold what the conformance suite wrote against the list of expected failures, and print a summary.

The suite judges only the scenarios that it scores, and does not miss an entry that no scenario needs.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

EXPECTED_FAILURES = Path(__file__).with_name("expected_failures.yml")

_ENTRY = re.compile(r"^ *- (\S+)$", re.MULTILINE)
_FOLDER = re.compile(r"server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")


def main(folders: list[str]) -> int:
    """Return the exit code; each folder holds the results of one requirement set."""
    entries = set(_ENTRY.findall(EXPECTED_FAILURES.read_text(encoding="utf-8")))
    needed = set[str]()
    complaints: list[str] = []
    for folder in map(Path, folders):
        passed, failed = _results(folder)
        excused = {check for check in failed if not entries.isdisjoint(_names(check))}
        needed.update(name for check in excused for name in _names(check))
        complaints += [f"{folder.name}: {check} failed" for check in failed - excused]
        if not passed:
            complaints.append(f"{folder.name}: nothing passed")
        print(f"{folder.name}: {len(passed)} checks passed, {len(excused)} failed as expected")  # noqa: T201
    complaints += [f"{EXPECTED_FAILURES.name}: {entry} is not needed" for entry in entries - needed]
    for complaint in sorted(complaints):
        print(complaint, file=sys.stderr)  # noqa: T201
    return 1 if complaints else 0


def _results(folder: Path) -> tuple[set[str], set[str]]:
    """Return the checks that passed and those that failed, as `scenario:check`; a warning is a failure."""
    by_status: dict[str, set[str]] = {}
    for check, status in _checks(folder):
        by_status.setdefault(status, set()).add(check)
    failed = by_status.get("FAILURE", set[str]()) | by_status.get("WARNING", set[str]())
    return by_status.get("SUCCESS", set[str]()) - failed, failed


def _checks(folder: Path) -> Iterator[tuple[str, str]]:
    for file in folder.glob("*/checks.json"):
        match = _FOLDER.fullmatch(file.parent.name)
        scenario = match[1] if match else file.parent.name
        for check in json.loads(file.read_text(encoding="utf-8")):
            yield f"{scenario}:{check['id']}", check["status"]


def _names(check: str) -> tuple[str, str]:
    """Return the entries that would excuse a check: itself, or its whole scenario."""
    return check, check.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
