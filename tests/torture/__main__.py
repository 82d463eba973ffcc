"""`make torture`: nothing lost, nothing paid twice or unasked, no budget passed, whatever breaks."""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.torture.record import Records
from tests.torture.run import Outcome, Torture
from tests.torture.verdict import Verdict, judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--creates", type=int, default=2000, help="how many are intended (default: 2000)")
    parser.add_argument("--seed", type=int, default=4, help="decides what is drawn (default: 4)")
    parser.add_argument("--record", type=Path, help="file for every outcome (default: in a temporary folder)")
    arguments = parser.parse_args()
    # What the sandbox's server says of connections that were cut is what was asked for.
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    record = arguments.record or folder / "record.jsonl"
    _say(f"{arguments.creates} creates, seed {arguments.seed}")
    with Records.into(record) as records:
        records.write("run", creates=arguments.creates, seed=arguments.seed)
        outcome = asyncio.run(
            Torture(arguments.creates, arguments.seed, folder / "run", records, say=_say).run()
        )
        verdict = judge(outcome)
        _record(outcome, verdict, records)
    _say(verdict.table())
    for line in (*verdict.in_doubt, *verdict.faults):
        _say(line)
    if verdict.holds:
        shutil.rmtree(folder / "run")
    else:
        _keep_creates(outcome, folder / "run")
        _say(
            f"The ledger, the servers' logs and the creates as the API got them are kept in {folder / 'run'}"
        )
    _say(f"Every outcome stands in {record}")
    return 0 if verdict.holds else 1


def _record(outcome: Outcome, verdict: Verdict, records: Records) -> None:
    for charge in outcome.charges:
        records.write("charge", **charge.to_json())
    for entry in outcome.entries:
        records.write(
            "entry",
            id=entry.id,
            take=entry.take,
            attempt=entry.attempt,
            state=entry.state,
            status=entry.status,
            generation_id=entry.generation_id,
            idempotency_key=entry.idempotency_key,
            counted_usd=entry.counted_usd,
            charged=entry.charged,
        )
    for fault in verdict.faults:
        records.write("fault", text=fault)
    records.write(
        "verdict",
        holds=verdict.holds,
        lost=verdict.lost,
        doubled=verdict.doubled,
        over_budget_usd=verdict.over_budget_usd,
        asked=verdict.asking.asked,
        had_to_be_asked=verdict.asking.must,
        could_be_asked=verdict.asking.may,
        seconds=round(verdict.seconds),
    )


def _keep_creates(outcome: Outcome, folder: Path) -> None:
    lines = [json.dumps(request.to_json()) for request in outcome.creates]
    (folder / "creates.jsonl").write_text("\n".join(lines), encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
