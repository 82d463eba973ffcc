"""`make hosts`: start hosts and frameworks on the sandbox, and compare what they show with docs/hosts.md.

python -m tests.hosts [NAME...]

Each is installed at its pinned version under build/hosts, and plays the same flow: list the tools, a price
for a local file, a create, a wait, a preview, and a create with an argument that does not exist. A scripted
stand-in takes the place of the model. It ends with 0 where at least eight did all that the page says of them.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tests.hosts.driver import drive
from tests.hosts.environments import NotInstalled, install
from tests.hosts.flow import FlowBroken, Sight
from tests.hosts.pins import Host, Transport, read_hosts

ENOUGH: Final = 8
_BUILT: Final = Path(__file__).parents[2] / "build" / "hosts"


@dataclass
class Outcome:
    """What became of one host."""

    host: Host
    seen: dict[Transport, Sight | str] = field(default_factory=dict[Transport, Sight | str])
    """By transport; a reason where the flow broke off."""
    not_installed: str | None = None

    @property
    def kept_its_promises(self) -> bool:
        return bool(self.seen) and all(sight == self.host.promised for sight in self.seen.values())


def main(names: list[str]) -> int:
    """Return the exit code."""
    hosts = read_hosts()
    if unknown := set(names) - set(hosts):
        sys.exit(f"No such host: {', '.join(sorted(unknown))}. There are {', '.join(hosts)}.")
    outcomes: list[Outcome] = []
    for name in names or hosts:
        print(f"{name} ...", file=sys.stderr)
        outcomes.append(_try(hosts[name], _BUILT / name))
    _show(outcomes)
    good = sum(outcome.kept_its_promises for outcome in outcomes)
    wanted = min(ENOUGH, len(outcomes)) if names else ENOUGH
    print(f"{good} of {len(outcomes)} did all that docs/hosts.md says of them; {wanted} are needed.")
    return 0 if good >= wanted else 1


def _try(host: Host, folder: Path) -> Outcome:
    outcome = Outcome(host)
    try:
        player = install(host, folder)
    except NotInstalled as error:
        outcome.not_installed = str(error)
        return outcome
    for transport in host.transports:
        with tempfile.TemporaryDirectory(prefix="sync-mcp-hosts-", ignore_cleanup_errors=True) as work:
            try:
                outcome.seen[transport] = drive(
                    host, transport, player, folder / "node_modules" / ".bin", Path(work).resolve()
                )
            except (FlowBroken, OSError, ValidationError) as error:
                outcome.seen[transport] = " ".join(str(error).split())
    return outcome


def _show(outcomes: list[Outcome]) -> None:
    table = Table(title="What the model gets of an answer, and how an error arrives")
    for heading in (
        "Host",
        "Version",
        "Over",
        "Whole flow",
        "Text",
        "Structured",
        "Picture",
        "Error",
        "As said",
    ):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        named = (outcome.host.title, outcome.host.version)
        if outcome.not_installed is not None:
            table.add_row(*named, "-", f"not installed: {outcome.not_installed}", *[""] * 4, "does not count")
        for transport, sight in outcome.seen.items():
            as_said = "yes" if sight == outcome.host.promised else "NO"
            if isinstance(sight, str):
                table.add_row(*named, transport, sight, *[""] * 4, as_said)
            else:
                table.add_row(
                    *named,
                    transport,
                    "yes",
                    sight.text,
                    sight.structured,
                    sight.picture,
                    sight.error,
                    as_said,
                )
    console = Console()
    # A log has no width of its own.
    (console if console.is_terminal else Console(width=180)).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
