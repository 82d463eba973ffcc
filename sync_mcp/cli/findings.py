"""What a report finds: a line for a person each, and the same for a program."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from sync_mcp.cli.documents import timestamp
from sync_mcp.texts import safe

_SHOWN = 200
_OURS_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report; `code` and `remedy` are there only where something is wrong."""

    name: str
    state: str
    remedy: str | None = None
    code: str | None = None
    """A stable word for what is wrong: that of the error, where one says it."""
    is_ours: bool = False
    """Whether the state is in our words alone: it may name a command, which is told whole."""
    facts: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """The same for a program: ours alone, and bounded."""

    def __str__(self) -> str:
        line = f"{self.name:<10} {self._state_line()}"
        return line if self.remedy is None else f"{line}\n  WRONG -> {safe(self.remedy, _OURS_SHOWN)}"

    def describe(self) -> dict[str, JsonValue]:
        """Return the finding for a program."""
        remedy = None if self.remedy is None else safe(self.remedy, _OURS_SHOWN)
        return {
            "name": self.name,
            "state": self._state_line(),
            "code": self.code,
            "remedy": remedy,
            "facts": dict(self.facts),
        }

    def _state_line(self) -> str:
        # Much of it is the API's own words: they must not make lines of their own.
        return safe(self.state, _OURS_SHOWN if self.is_ours else _SHOWN)


def describe(findings: Sequence[Finding], version: str) -> dict[str, JsonValue]:
    """Return the report for a program."""
    return {
        "version": version,
        "checked_at": timestamp(time.time()),
        "fault_count": faults(findings),
        "findings": [finding.describe() for finding in findings],
    }


def report(findings: Sequence[Finding]) -> str:
    """Return the findings as text, ending in how many of them are wrong."""
    wrong = faults(findings)
    last = "All is well." if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong."
    return "\n".join([*map(str, findings), last])


def faults(findings: Sequence[Finding]) -> int:
    """Return how many things are wrong."""
    return sum(finding.remedy is not None for finding in findings)
