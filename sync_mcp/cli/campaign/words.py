"""Campaigns as people read them."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from sync_mcp.campaigns.again import has_request, is_gone
from sync_mcp.campaigns.campaigns import Progress
from sync_mcp.campaigns.plan import Plan
from sync_mcp.campaigns.rows import NEEDS_USER, ROW_WORDS, Campaign, Money, Row, RowState
from sync_mcp.campaigns.tables import Counts
from sync_mcp.payments.limits import dollars
from sync_mcp.texts import count_of, visible

_ROWS_SHOWN = 10
_NEEDING_SHOWN = 20


def tell_plan(plan: Plan) -> str:
    """Return what the user agrees to: how many videos, into which languages, and what they come to."""
    campaign, rows = plan.campaign, [row for row in plan.rows if has_request(row)]
    sandbox = "SANDBOX: no real money. " if campaign.is_sandbox else ""
    lines = [
        f"{sandbox}Campaign {campaign.id} ({campaign.name}): {count_of(len(rows), 'video')} for about "
        f"{dollars(campaign.total_usd)}.",
        *_tell_languages(rows),
        *(f"  {row.about}: {_price(row)}" for row in rows[:_ROWS_SHOWN]),
    ]
    if len(rows) > _ROWS_SHOWN:
        lines.append(f"  and {len(rows) - _ROWS_SHOWN} more")
    lines += plan.notes
    lines.append(f"The videos and the report go into {_folder(campaign)}.")
    if campaign.budget_usd is not None:
        lines.append(f"At most {dollars(campaign.budget_usd)} is spent on it.")
    return "\n".join(lines)


def tell_dearer(rows: Sequence[Row]) -> str:
    """Return what the user is asked once at the end: rows whose prices have risen since they were planned."""
    planned = sum((row.price_usd or Decimal(0) for row in rows), Decimal(0))
    now = sum((row.dearer_usd or Decimal(0) for row in rows), Decimal(0))
    lines = [
        f"{count_of(len(rows), 'row costs', 'rows cost')} more than planned, {dollars(now)} in place of "
        f"{dollars(planned)}, and nothing was sent for them:",
        *(
            f"  row {row.number} ({row.about}): {dollars(row.dearer_usd or Decimal(0))}"
            for row in rows[:_ROWS_SHOWN]
        ),
    ]
    if len(rows) > _ROWS_SHOWN:
        lines.append(f"  and {len(rows) - _ROWS_SHOWN} more")
    return "\n".join(lines)


def tell_progress(progress: Progress) -> str:
    """Return how a campaign stands, in a few lines."""
    return "\n".join(_stands(progress.campaign, progress.counts, progress.money))


def tell_known(progress: Progress) -> str:
    """Return how a campaign stands that was agreed to, or stopped, before it was planned once more."""
    campaign = progress.campaign
    lines = [*_stands(campaign, progress.counts, progress.money), "These rows are planned already."]
    if campaign.state in ("ended", "stopped"):
        lines += _tell_skipped(campaign, progress.counts)
    else:
        lines.append(
            f"`sync-mcp campaign run {campaign.id}` goes on with it, with --budget-usd at another budget."
        )
    return "\n".join(lines)


def tell_others(others: Iterable[tuple[Campaign, int]]) -> str:
    """Return which other campaigns a run goes on with, and how many rows each has left."""
    return "\n".join(
        f"Campaign {campaign.id} ({campaign.name}) goes on too, with {count_of(left, 'row')} left: "
        f"`sync-mcp campaign stop {campaign.id}` ends it."
        for campaign, left in others
    )


def tell_next(campaign: Campaign, rows: Sequence[Row]) -> list[str]:
    """Return what the user can do about what a run has left, a line for each thing."""
    counts = _count(rows)
    lines: list[str] = []
    if counts.of(NEEDS_USER):
        lines.append(
            f"`sync-mcp campaign show {campaign.id}` tells what needs you, and `sync-mcp campaign retry "
            f"{campaign.id}` has it made after all."
        )
    lines += _tell_skipped(campaign, counts)
    if gone := [str(row.number) for row in rows if is_gone(row)]:
        numbers = " ".join(gone[:_NEEDING_SHOWN])
        lines.append(
            f"{count_of(len(gone), 'saved video is', 'saved videos are')} not there any more: `sync-mcp "
            f"campaign retry {campaign.id} {numbers}` has them fetched again, and pays nothing."
        )
    return lines


def _tell_skipped(campaign: Campaign, counts: Counts) -> list[str]:
    if not counts.of(["skipped"]):
        return []
    return [f"It was stopped: `sync-mcp campaign retry {campaign.id}` has what was skipped made after all."]


def tell_campaign(campaign: Campaign, rows: Sequence[Row], money: Money, runner: str | None) -> str:
    """Return one campaign, and what needs its user."""
    counts = _count(rows)
    lines = list(_stands(campaign, counts, money))
    if runner is not None and campaign.state == "approved":
        lines.append(f"It is made by {runner}.")
    lines.append(f"Folder: {_folder(campaign)}")
    needing = [row for row in rows if row.state in NEEDS_USER]
    if needing:
        lines += ["", "What needs you:"]
        lines += [
            f"  row {row.number} ({row.about}): {ROW_WORDS[row.state]}. {row.error or ''}".rstrip()
            for row in needing[:_NEEDING_SHOWN]
        ]
        if len(needing) > _NEEDING_SHOWN:
            lines.append(f"  and {len(needing) - _NEEDING_SHOWN} more: see its report")
        lines.append(f"`sync-mcp campaign retry {campaign.id} ROW ...` has rows made again.")
    return "\n".join(lines)


def list_campaigns(found: Iterable[tuple[Campaign, Counts, Money]]) -> str:
    """Return a line for each campaign."""
    lines = [
        f"{campaign.id}  {_moment(campaign.created_at)}  {campaign.state:8}  "
        f"{counts.of(['saved'])} of {counts.all} saved  {dollars(money.spent + money.held)} of "
        f"{dollars(money.planned)}  {campaign.name}"
        for campaign, counts, money in found
    ]
    return "\n".join(lines) or "There is no campaign yet: `sync-mcp campaign plan FILE.csv` makes one."


def tell_row(row: Row) -> str:
    """Return what became of a row, in a line."""
    told = f"row {row.number}: {row.about}: {ROW_WORDS[row.state]}"
    if row.state == "saved":
        return f"{told} as {row.output}"
    return f"{told}. {row.error}" if row.error else told


def _stands(campaign: Campaign, counts: Counts, money: Money) -> Iterator[str]:
    sandbox = "SANDBOX: no real money. " if campaign.is_sandbox else ""
    told = ", ".join(
        f"{number:,} {ROW_WORDS[state]}" for state in ROW_WORDS if (number := counts.by_state.get(state, 0))
    )
    yield f"{sandbox}Campaign {campaign.id} ({campaign.name}) is {campaign.state}: {told or 'no rows'}."
    if campaign.reason:
        yield campaign.reason
    yield (
        f"{dollars(money.planned)} planned, {dollars(money.spent)} spent, {dollars(money.held)} held."
        + (f" Budget: {dollars(campaign.budget_usd)}." if campaign.budget_usd is not None else "")
    )


def _count(rows: Sequence[Row]) -> Counts:
    states: dict[RowState, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    return Counts(states)


def _tell_languages(rows: Sequence[Row]) -> list[str]:
    counted: dict[str, int] = {}
    for row in rows:
        if row.language:
            counted[row.language] = counted.get(row.language, 0) + 1
    return (
        [f"Dubbed into {', '.join(f'{to} ({count})' for to, count in counted.items())}."] if counted else []
    )


def _price(row: Row) -> str:
    return "price not known" if row.price_usd is None else dollars(row.price_usd)


def _folder(campaign: Campaign) -> str:
    return visible(campaign.folder)


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
