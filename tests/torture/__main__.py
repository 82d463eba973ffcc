"""`make torture`: nothing lost, nothing paid twice, no budget passed, whatever breaks."""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.torture.run import Outcome, Torture
from tests.torture.verdict import judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--creates", type=int, default=2000, help="how many are intended (default: 2000)")
    parser.add_argument("--seed", type=int, default=4, help="decides what is drawn (default: 4)")
    arguments = parser.parse_args()
    # What the sandbox's server says of connections that were cut is what was asked for.
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    _say(f"{arguments.creates} creates, seed {arguments.seed}")
    outcome = asyncio.run(Torture(arguments.creates, arguments.seed, folder, say=_say).run())
    verdict = judge(outcome)
    _say(verdict.table())
    for line in (*verdict.in_doubt, *verdict.faults):
        _say(line)
    if verdict.holds:
        shutil.rmtree(folder)
    else:
        _keep_creates(outcome, folder)
        _say(f"The ledger, the servers' logs and the creates as the API got them are kept in {folder}")
    return 0 if verdict.holds else 1


def _keep_creates(outcome: Outcome, folder: Path) -> None:
    lines = [json.dumps(request.to_json()) for request in outcome.creates]
    (folder / "creates.jsonl").write_text("\n".join(lines), encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
