"""The tool that holds the ledger against the bill."""

from sync_mcp.payments.bill import Comparison, Difference
from sync_mcp.payments.limits import dollars, minute
from sync_mcp.texts import ID_LIMIT, count_of, plain_id, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.costs import read_cursor, read_for_pages
from sync_mcp.tools.periods import read_period
from sync_mcp.tools.usage import CompareAnswer, CompareArguments, DifferenceRow

_ROWS = 20


async def compare_ledger(context: CallContext, arguments: CompareArguments) -> CompareAnswer:
    account, guard = context.account, context.process.guard
    period = read_period(arguments.period, account.client.api_time)
    key = ("compared", account.client.key_fingerprint, period)

    async def compare() -> Comparison:
        return await guard.compare(account.client, period.start, period.end)

    found = await read_for_pages(context, key, compare, is_first_page=arguments.cursor is None)
    rows = [_row(what, difference) for what, difference in found.differences]
    begin = read_cursor(arguments.cursor, len(rows))
    cursor = str(begin + _ROWS) if len(rows) > begin + _ROWS else None
    return CompareAnswer(
        period_from=minute(period.start),
        period_until=minute(period.end),
        agrees=not rows and not found.open and not found.unresolved,
        bill_usd=float(found.bill_usd),
        ledger_usd=float(found.ledger_usd),
        agreeing=found.agreeing,
        differing=len(found.differing),
        missing_in_ledger=len(found.missing_here),
        missing_in_bill=len(found.missing_there),
        open=found.open or None,
        unresolved=found.unresolved or None,
        not_in_bill=found.untold or None,
        differences=rows[begin : begin + _ROWS],
        next_cursor=cursor,
        next_step=_next_step(found, cursor),
    )


def _row(what: str, difference: Difference) -> DifferenceRow:
    id = difference.generation_id
    return DifferenceRow(
        generation_id=plain_id(id) or safe(id, ID_LIMIT),
        what=what,
        ledger_usd=None if difference.ledger_usd is None else float(difference.ledger_usd),
        bill_usd=None if difference.bill_usd is None else float(difference.bill_usd),
        about=difference.entry.title or None if difference.entry else None,
    )


def _next_step(found: Comparison, cursor: str | None) -> str:
    steps: list[str] = []
    if found.differing:
        steps.append("Tell the user which costs differ: the bill counts, and Sync's support can explain it.")
    if found.missing_here:
        steps.append(
            "What is missing in the ledger was made with the same account elsewhere, or under another ledger."
        )
    if found.missing_there:
        steps.append(
            "What is missing in the bill may still come, some minutes after a job's end: ask again later."
        )
    if found.open:
        steps.append(
            f"Of {count_of(found.open, 'job')} the cost is not known on both sides yet: call compare_ledger "
            "again in a while."
        )
    if found.unresolved:
        steps.append(
            f"Of {count_of(found.unresolved, 'create')} nobody knows the outcome: list_generations shows "
            "what to do."
        )
    if not steps:
        total = dollars(found.bill_usd)
        steps.append(
            f"Tell the user that ledger and bill agree on {count_of(found.agreeing, 'job')}: {total}."
            if found.agreeing
            else "Tell the user that neither the bill nor the ledger has a job that ended then."
        )
    if found.untold:
        steps.append(
            f"{count_of(found.untold, 'job')} of speech or a cloned voice could not be compared: the bill "
            "does not tell what these cost."
        )
    if cursor:
        steps.append(f"For more differences, the same call with cursor {cursor}.")
    return " ".join(steps)
