"""Refuses a release that cannot be one: its address is a placeholder, or its tag is not its version.

python -m tests.package.release TAG
"""

import sys

from tests.package.facts import PLACEHOLDER, Facts


def main() -> None:
    [tag] = sys.argv[1:]
    facts = Facts.read()
    faults: list[str] = []
    if facts.owner == PLACEHOLDER:
        faults.append(
            f"The project's address is still a placeholder, {facts.repository}: put the true one into "
            "pyproject.toml (tool.hatch.metadata.hooks.custom) and run make docs."
        )
    if tag != f"v{facts.version}":
        faults.append(f"The tag {tag} is not v{facts.version}, the version in sync_mcp/_version.py.")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
