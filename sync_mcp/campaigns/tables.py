"""The tables of campaigns, and what several transactions read or write of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from sync_mcp.campaigns.outputs import CSV_NAME, HTML_NAME
from sync_mcp.campaigns.rows import TO_DO, Campaign, CampaignState, Money, Row, RowState, count_usd
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.acts.act import COMPLETED
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.rows import ENTRIES, METADATA, OPEN_STATES, columns_of
from sync_mcp.texts import clean

CAMPAIGNS = Table("campaigns", METADATA, *columns_of(Campaign))
ROWS = Table(
    "campaign_rows",
    METADATA,
    *(column for column in columns_of(Row, ("campaign", "number")) if column.name != "cost_usd"),
)
RUNNERS = Table(
    "runners",
    METADATA,
    Column("account", String, primary_key=True),
    Column("base_url", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("place", String, nullable=False),
    Column("leased_until", Double, nullable=False),
)
"""Who has an account's rows made now: `holder` by a name of its own, `place` as people are told it."""

IS_BEGUN = or_(ROWS.c.generation_id.is_not(None), ROWS.c.is_begun)
"""Of a row that is to be made: it was, or may have been, and is seen to whatever becomes of its campaign."""
_IS_PAID = or_(
    ROWS.c.generation_id.is_not(None),
    exists().where(
        ENTRIES.c.digest == ROWS.c.digest,
        or_(
            ENTRIES.c.state.in_(OPEN_STATES),
            and_(ENTRIES.c.state == "ended", ENTRIES.c.status == COMPLETED),
        ),
    ),
)
"""Of a row: its money is spent, or held by the ledger already; to go on with it costs nothing more."""
GOES_ON: tuple[CampaignState, ...] = ("approved", "waiting", "stopped")
"""What makes rows still, or sees to those that it has begun."""
LONGEST_WAIT_SECONDS = 3600.0
"""The longest that a row is left alone before it takes another turn."""
APPROVED_WITHIN_SECONDS = 3600.0
"""How long after it was planned a campaign can be agreed to: prices are those of then."""
_HAS: Mapping[CampaignState, str] = {"ended": "ended", "stopped": "been stopped"}
_SHOWN = 20
_FOLDER_LIMIT = 60
_ON_THE_WAY: tuple[RowState, ...] = ("running", "made", "saving")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a campaign are in which state."""

    by_state: Mapping[RowState, int]

    def of(self, states: Collection[RowState]) -> int:
        """Return how many are in one of these."""
        return sum(self.by_state.get(state, 0) for state in states)

    @property
    def all(self) -> int:
        return sum(self.by_state.values())


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a row's way, which lanes of its own do: a slot of the account need not wait for the disk.

    Attributes:
        due: the state of a row that is due for it.
        under_way: the state while a lane has it.
    """

    due: RowState
    under_way: RowState


MAKE = Step("planned", "running")
SAVE = Step("made", "saving")


def find_campaigns(connection: Connection, which: ColumnElement[bool]) -> list[Campaign]:
    """Return campaigns, the newest first."""
    query = select(CAMPAIGNS).where(which).order_by(CAMPAIGNS.c.created_at.desc())
    return [Campaign(**row) for row in connection.execute(query).mappings()]


def get_campaign(connection: Connection, id: str) -> Campaign:
    """Return a campaign that is to be there."""
    [campaign] = find_campaigns(connection, CAMPAIGNS.c.id == id)
    return campaign


def change_campaign(connection: Connection, campaign: Campaign, **new: Any) -> Campaign:
    """Write into a campaign; return it as it stands then."""
    connection.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign.id).values(new))
    return replace(campaign, **new)


def find_rows(connection: Connection, campaign: Campaign, states: Collection[RowState] = ()) -> list[Row]:
    """Return a campaign's rows in their order, those in these states or all, without what they did cost."""
    query = select(ROWS).where(ROWS.c.campaign == campaign.id).order_by(ROWS.c.number)
    if states:
        query = query.where(ROWS.c.state.in_(states))
    return [Row(**row) for row in connection.execute(query).mappings()]


def place_anew(connection: Connection, campaign: Campaign, rows: Sequence[Row]) -> None:
    """Write where a campaign's rows stand in its file by now, and where their clips lie."""
    query = update(ROWS).where(ROWS.c.campaign == campaign.id, ROWS.c.number == bindparam("row"))
    new = [{"row": row.number, "line": row.line, "request": row.request, "about": row.about} for row in rows]
    connection.execute(query, new)


def change_row(connection: Connection, row: Row, new: Mapping[str, Any]) -> Row:
    """Write into a row; return it as it stands then."""
    if new:
        which = (ROWS.c.campaign == row.campaign, ROWS.c.number == row.number)
        connection.execute(update(ROWS).where(*which).values(new))
    return replace(row, **new)


def count_rows(connection: Connection, id: str) -> Counts:
    """Return how many of a campaign's rows are in which state."""
    query = (
        select(ROWS.c.state, func.count().label("number")).where(ROWS.c.campaign == id).group_by(ROWS.c.state)
    )
    return Counts({row.state: row.number for row in connection.execute(query)})


def count_running(connection: Connection, id: str) -> int:
    """Return how many of a campaign's rows are made now."""
    query = select(func.count()).where(ROWS.c.campaign == id, ROWS.c.state == MAKE.under_way)
    return connection.execute(query).scalar_one()


def end_if_done(connection: Connection, campaign: Campaign) -> Campaign:
    """Return a campaign; it has ended where nothing of it is left to do."""
    if campaign.state not in (*GOES_ON, "paused"):
        return campaign
    to_do = select(ROWS.c.number).where(ROWS.c.campaign == campaign.id, ROWS.c.state.in_(TO_DO)).limit(1)
    if connection.execute(to_do).first() is not None:
        return campaign
    return change_campaign(connection, campaign, state="ended", reason=None, resumes_at=None)


@dataclass(frozen=True, slots=True)
class Taken:
    """A row whose name in its campaign's folder is another video's.

    Attributes:
        row: it.
        file: the name of the file that is there; None where another campaign is to make one.
        owner: that campaign.
        generation_id: the job that the file there is of, where an earlier campaign has saved it.
    """

    row: Row
    file: str | None = None
    owner: str | None = None
    generation_id: str | None = None

    def tell(self, folder: str) -> str:
        """Return what stands against the row, with the folder as it is shown."""
        if self.file is not None:
            return f"{self.row.output} is in {folder} already, and is no video of it."
        return f"{self.row.output} in {folder} is to be another video, of campaign {self.owner}."


def find_taken(
    connection: Connection, campaign: Campaign, rows: Sequence[Row], there: Mapping[str, str]
) -> list[Taken]:
    """Return the rows that cannot have their names; `there` are the folder's files by their folded names.

    A file may be the same row's own, of an earlier campaign, and so may what another one is to make still.
    """
    others = (
        select(ROWS.c.output, ROWS.c.digest, ROWS.c.state, ROWS.c.generation_id, CAMPAIGNS.c.id)
        .join(CAMPAIGNS, ROWS.c.campaign == CAMPAIGNS.c.id)
        .where(
            CAMPAIGNS.c.folder == campaign.folder,
            CAMPAIGNS.c.id != campaign.id,
            or_(
                ROWS.c.state == "saved",
                and_(CAMPAIGNS.c.state.in_((*GOES_ON, "paused")), ROWS.c.state.in_(TO_DO)),
            ),
        )
    )
    own: set[tuple[str, str]] = set()
    jobs: dict[str, str | None] = {}
    due: dict[str, tuple[str, str]] = {}
    for output, digest, state, generation_id, id in connection.execute(others.order_by(ROWS.c.changed_at)):
        name = output.casefold()
        if state == "saved":
            own.add((name, digest))
            jobs[name] = generation_id
        else:
            due[name] = digest, id
    taken: list[Taken] = []
    for row in rows:
        name = row.output.casefold()
        digest, owner = due.get(name, (row.digest, ""))
        if name in there and (name, row.digest) not in own:
            taken.append(Taken(row, file=there[name], generation_id=jobs.get(name)))
        elif digest != row.digest:
            taken.append(Taken(row, owner=owner))
    return taken


def _find_foreign_reports(campaign: Campaign, there: Collection[str]) -> list[str]:
    """Return which files a campaign's report would be written over that are none."""
    folder = clean(campaign.folder, _FOLDER_LIMIT)
    return [
        f"{name} is in {folder} already, and is no report of a campaign."
        for name in (CSV_NAME, HTML_NAME)
        if name in there
    ]


def check_free(
    connection: Connection, campaign: Campaign, rows: Sequence[Row], there: Mapping[str, str]
) -> None:
    """Check that rows can have their names in their campaign's folder.

    Raises:
        InvalidRequestError: which cannot: their videos would be paid, and could not be saved.
    """
    folder = clean(campaign.folder, _FOLDER_LIMIT)
    faults = _find_foreign_reports(campaign, there)
    in_the_way: list[str] = []
    for taken in find_taken(connection, campaign, rows, there):
        row = taken.row
        place = f"row {row.number}" if row.line is None else f"line {row.line}"
        faults.append(f"{place}: {taken.tell(folder)}")
        if taken.owner is not None:
            in_the_way.append(taken.owner)
    if faults:
        more = len(faults) - _SHOWN
        ways = ["Take another folder (--output)"]
        if len(faults) > len(in_the_way):
            ways.append("move away what is there")
        if in_the_way:
            ways.append(f"end what is left of that campaign (`sync-mcp campaign stop {in_the_way[0]}`)")
        raise InvalidRequestError([*faults[:_SHOWN], *([f"and {more} more."] if more > 0 else [])]).advise(
            next_step=f"{', or '.join(ways)}: nothing was uploaded or paid."
        )


def check_plan(connection: Connection, campaign: Campaign, there: Mapping[str, str], now: float) -> None:
    """Check that a campaign can be agreed to now; `there` are its folder's files by their folded names.

    Raises:
        InvalidRequestError: it has ended or been stopped, its plan is too old, or as `check_free`.
    """
    if campaign.state in ("ended", "stopped"):
        raise InvalidRequestError(f"Campaign {campaign.id} has {_HAS[campaign.state]}.").advise(
            next_step=f"`sync-mcp campaign retry {campaign.id}` has rows made that were not."
        )
    if campaign.state != "planned":
        return
    if not 0 <= now - campaign.created_at <= APPROVED_WITHIN_SECONDS:
        raise InvalidRequestError(
            f"Campaign {campaign.id} was planned more than an hour ago: its prices are those of then."
        ).advise(next_step="Plan it again: nothing of it was paid.")
    check_free(connection, campaign, find_rows(connection, campaign, ["planned"]), there)


def leave_taken(
    connection: Connection, campaign: Campaign, rows: Sequence[Row], there: Mapping[str, str]
) -> list[Row]:
    """Return rows as they are kept where none stops another.

    One whose file is there already is left as that is, and one that is to be another campaign's is refused.

    Raises:
        InvalidRequestError: the report would be written over a file of the user's.
    """
    if faults := _find_foreign_reports(campaign, there):
        raise InvalidRequestError(faults).advise(
            next_step="Move it away, or take another folder (--output): nothing was uploaded or paid."
        )
    folder = clean(campaign.folder, _FOLDER_LIMIT)
    wanted = [row for row in rows if row.state == "planned"]
    left: dict[int, Row] = {}
    for taken in find_taken(connection, campaign, wanted, there):
        row = taken.row
        if taken.file is None:
            left[row.number] = replace(row, state="refused", error=taken.tell(folder))
        else:
            path = str(Path(campaign.folder) / taken.file)
            left[row.number] = replace(row, state="saved", saved_as=path, generation_id=taken.generation_id)
    return [left.get(row.number, row) for row in rows]


def find_left(connection: Connection, campaign: Campaign) -> set[int]:
    """Return the numbers of rows that count as saved, and whose files are of other requests."""
    is_own = exists().where(
        ENTRIES.c.generation_id == ROWS.c.generation_id, ENTRIES.c.digest == ROWS.c.digest
    )
    is_others = exists().where(ENTRIES.c.generation_id == ROWS.c.generation_id)
    is_left = or_(ROWS.c.generation_id.is_(None), and_(is_others, ~is_own))
    query = select(ROWS.c.number).where(ROWS.c.campaign == campaign.id, ROWS.c.state == "saved", is_left)
    return set(connection.execute(query).scalars())


def next_row(connection: Connection, campaign: Campaign, step: Step, now: float) -> Row | None:
    """Return the next row of a campaign for a step; of rows with one digest one is made at a time.

    A campaign that is not approved now makes only what it has begun, and one whose budget has no room for
    the next row only what is paid already; it pauses where nothing of that can come any more.
    """
    row = _first_row(connection, next_row_query(campaign, step, now))
    if row is None or step is not MAKE or _is_within_budget(connection, campaign, row):
        return row
    return _first_row(connection, next_row_query(campaign, step, now).where(_IS_PAID))


def count_begun(connection: Connection, campaigns: Sequence[Campaign], step: Step) -> tuple[int, int]:
    """Return how many rows are at what can end their runner, and how often one of them was at the most."""
    query = select(func.count(), func.coalesce(func.max(ROWS.c.begun), 0)).where(
        ROWS.c.campaign.in_([campaign.id for campaign in campaigns]),
        ROWS.c.state == step.under_way,
        ROWS.c.begun > 0,
    )
    count, most = connection.execute(query).one()
    return count, most


def _first_row(connection: Connection, query: Select[Any]) -> Row | None:
    found = connection.execute(query).mappings().first()
    return None if found is None else Row(**found)


def next_row_query(campaign: Campaign, step: Step, now: float) -> Select[Any]:
    """Return the query by which `next_row` looks first."""
    # What is to wait longer than any row does was written under another clock.
    is_time = or_(ROWS.c.not_before <= now, ROWS.c.not_before > now + LONGEST_WAIT_SECONDS)
    query = select(ROWS).where(ROWS.c.campaign == campaign.id, ROWS.c.state == step.due, is_time)
    if step is MAKE:
        others = ROWS.alias()
        # As it stands in the index, which holds those that run alone.
        is_made_now = exists().where(
            others.c.campaign == ROWS.c.campaign,
            others.c.digest == ROWS.c.digest,
            others.c.state == literal_column("'running'"),
        )
        query = query.where(~is_made_now)
        if campaign.state != "approved":
            query = query.where(IS_BEGUN)
    # What a runner's death has met goes behind the rest: it is not met by the next one too.
    return query.order_by(ROWS.c.begun, ROWS.c.number).limit(1)


def has_rows_left(connection: Connection, campaign: Campaign) -> bool:
    """Return whether rows come to something without the user: while it is paused, those on the way."""
    states = TO_DO if campaign.state in GOES_ON else _ON_THE_WAY
    left = select(ROWS.c.number).where(ROWS.c.campaign == campaign.id, ROWS.c.state.in_(states)).limit(1)
    return connection.execute(left).first() is not None


def _is_within_budget(connection: Connection, campaign: Campaign, row: Row) -> bool:
    """Return whether a campaign's budget has room for a row; it pauses where none can come any more."""
    budget = campaign.budget_usd
    if budget is None or _is_paid(connection, row):
        return True
    spent, held = sum_paid(connection, campaign)
    price = count_usd(row.price_usd, campaign.max_usd_per_row)
    if spent + held + price <= budget:
        return True
    if not count_running(connection, campaign.id) and not _has_paid_rows(connection, campaign):
        reason = (
            f"Its budget of {dollars(budget)} has no room for row {row.number} ({dollars(price)}): "
            f"{dollars(spent)} is spent and {dollars(held)} held. A higher one (--budget-usd) goes on."
        )
        change_campaign(connection, campaign, state="paused", reason=reason, resumes_at=None)
    return False


def _is_paid(connection: Connection, row: Row) -> bool:
    which = (ROWS.c.campaign == row.campaign, ROWS.c.number == row.number, _IS_PAID)
    return connection.execute(select(ROWS.c.number).where(*which)).first() is not None


def _has_paid_rows(connection: Connection, campaign: Campaign) -> bool:
    which = (ROWS.c.campaign == campaign.id, ROWS.c.state == MAKE.due, _IS_PAID)
    return connection.execute(select(ROWS.c.number).where(*which).limit(1)).first() is not None


def sum_paid(connection: Connection, campaign: Campaign) -> tuple[Decimal, Decimal]:
    """Return what a campaign has spent, and what is held for it."""
    paid = connection.execute(sum_paid_query(campaign)).mappings().one()
    begun = connection.execute(
        select(ROWS.c.digest, ROWS.c.price_usd).where(
            ROWS.c.campaign == campaign.id,
            ROWS.c.state == MAKE.under_way,
            ~_IS_PAID,
        )
    )
    # What a lane has and the ledger does not know yet.
    on_the_way = {digest: count_usd(price, campaign.max_usd_per_row) for digest, price in begun}
    spent: Decimal = paid["spent"] or Decimal(0)
    held: Decimal = paid["held"] or Decimal(0)
    return spent, held + sum(on_the_way.values(), Decimal(0))


def sum_paid_query(campaign: Campaign) -> Select[Any, Any]:
    """Return the query of what the ledger tells of `sum_paid`: read of its index alone."""
    columns = ENTRIES.c
    # Of a price that nobody knows the ledger holds nothing.
    is_unpriced = and_(columns.estimate_usd.is_(None), columns.charged != "no")
    dollars_type = columns.counted_usd.type
    held = case(
        (is_unpriced, literal(count_usd(None, campaign.max_usd_per_row), dollars_type)),
        else_=columns.counted_usd,
    )
    return select(
        func.sum(columns.cost_usd).label("spent"),
        func.sum(case((columns.cost_usd.is_(None), held)), type_=dollars_type).label("held"),
    ).where(columns.campaign == campaign.id)


def sum_money(connection: Connection, campaign: Campaign) -> Money:
    """Return what a campaign comes to: two rows with one digest are one job."""
    query = select(ROWS.c.digest, ROWS.c.price_usd).where(ROWS.c.campaign == campaign.id)
    planned = {
        digest: count_usd(price, campaign.max_usd_per_row) for digest, price in connection.execute(query)
    }
    spent, held = sum_paid(connection, campaign)
    return Money(planned=sum(planned.values(), Decimal(0)), spent=spent, held=held)
