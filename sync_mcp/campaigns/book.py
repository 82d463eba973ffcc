"""The tables of campaigns, in the ledger's database: what is to be done next, and by whom.

Each method is one transaction and blocks for as long as the disk takes. What was paid is read of the ledger's
entries and never written here.
"""

import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    String,
    Table,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)

from sync_mcp.campaigns.rows import (
    HOLDS_MONEY,
    NEEDS_USER,
    TO_DO,
    Campaign,
    CampaignState,
    Money,
    Row,
    RowState,
)
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.limits import dollars
from sync_mcp.payments.rows import ENTRIES, METADATA, columns_of
from sync_mcp.payments.stores.store import Store
from sync_mcp.texts import clean

APPROVED_WITHIN_SECONDS = 3600.0
"""How long after it was planned a campaign can be agreed to: prices are those of then."""
LEASE_SECONDS = 30.0
"""How long an account's runner counts as alive after it was last heard of."""
MOST_BEGUN = 3
"""So often a row may end its runner before somebody has to look at it."""
_LISTED = 50
_SHOWN = 60

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

_GOES_ON: tuple[CampaignState, ...] = ("approved", "waiting", "stopped")
"""What may come to its end without the user."""


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


class CampaignBook:
    """The campaigns of a ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Plans

    def keep(self, campaign: Campaign, rows: Sequence[Row]) -> Campaign:
        """Write a plan down, whole; return it, or the one that is it and has something left to do."""
        written = [{name: value for name, value in asdict(row).items() if name != "cost_usd"} for row in rows]
        same = (
            CAMPAIGNS.c.account == campaign.account,
            CAMPAIGNS.c.base_url == campaign.base_url,
            CAMPAIGNS.c.digest == campaign.digest,
            CAMPAIGNS.c.folder == campaign.folder,
        )
        with self.store.transaction() as connection:
            for known in _campaigns(connection, and_(*same)):
                if known.state == "planned":
                    # Its prices are those of now.
                    new = {"created_at": campaign.created_at, "budget_usd": campaign.budget_usd}
                    return _change(connection, known, new)
                if known.state != "stopped":
                    return known
            connection.execute(insert(CAMPAIGNS), asdict(campaign))
            connection.execute(insert(ROWS), written)
        return campaign

    def get(self, named: str) -> Campaign:
        """Return a campaign by its id, the beginning of one, or its name, where that is one campaign's alone.

        Raises:
            InvalidRequestError: there is none, or there are several.
        """
        text = named.strip()
        with self.store.reading() as connection:
            if exact := _campaigns(connection, CAMPAIGNS.c.id == text):
                return exact[0]
            begins = CAMPAIGNS.c.id.startswith(text, autoescape=True)
            found = _campaigns(connection, or_(begins, CAMPAIGNS.c.name == text)) if text else []
        shown = clean(text, _SHOWN)
        if not found:
            raise InvalidRequestError(f"There is no campaign {shown!r}.").advise(
                next_step="`sync-mcp campaign list` tells their ids."
            )
        if len(found) > 1:
            ids = ", ".join(each.id for each in found[:5])
            raise InvalidRequestError(f"{shown!r} is {len(found)} campaigns: {ids}.").advise(
                next_step="Give the whole id of one."
            )
        return found[0]

    def list_campaigns(self, limit: int = _LISTED) -> list[Campaign]:
        """Return the newest campaigns."""
        query = select(CAMPAIGNS).order_by(CAMPAIGNS.c.created_at.desc()).limit(limit)
        with self.store.reading() as connection:
            return [Campaign(**row) for row in connection.execute(query).mappings()]

    def rows(self, campaign: Campaign, states: Collection[RowState] | None = None) -> list[Row]:
        """Return its rows in their order, with what they did cost as far as the ledger knows it."""
        joined = ROWS.outerjoin(
            ENTRIES,
            and_(
                ENTRIES.c.generation_id == ROWS.c.generation_id,
                ENTRIES.c.base_url == campaign.base_url,
            ),
        )
        query = (
            select(ROWS, ENTRIES.c.cost_usd)
            .select_from(joined)
            .where(ROWS.c.campaign == campaign.id)
            .order_by(ROWS.c.number)
        )
        if states is not None:
            query = query.where(ROWS.c.state.in_(states))
        with self.store.reading() as connection:
            # A job that two entries name, such as one that was found again, is one row.
            found = {row["number"]: Row(**row) for row in connection.execute(query).mappings()}
        return list(found.values())

    def count(self, campaign: Campaign) -> Counts:
        """Return how many of its rows are in which state."""
        with self.store.reading() as connection:
            return _count(connection, campaign.id)

    def money(self, campaign: Campaign) -> Money:
        """Return what it comes to: two rows with one digest are one job."""
        with self.store.reading() as connection:
            return _money(connection, campaign)

    def approve(self, named: str, *, budget_usd: Decimal | None = None) -> Campaign:
        """Note that the user agrees to a plan, and to no more than a budget where they name one.

        Raises:
            InvalidRequestError: it is not there to be agreed to, or no longer.
        """
        campaign = self.get(named)
        now = self.store.now()
        with self.store.transaction() as connection:
            campaign = _one(connection, campaign.id)
            if campaign.state in ("ended", "stopped"):
                raise InvalidRequestError(f"Campaign {campaign.id} has {_HAS[campaign.state]}.").advise(
                    next_step=f"`sync-mcp campaign retry {campaign.id}` has rows made that were not."
                )
            if campaign.state == "planned" and not 0 <= now - campaign.created_at <= APPROVED_WITHIN_SECONDS:
                raise InvalidRequestError(
                    f"Campaign {campaign.id} was planned more than an hour ago: its prices are those of then."
                ).advise(next_step="Plan it again: nothing of it was paid.")
            new: dict[str, Any] = {"state": "approved", "reason": None, "resumes_at": None}
            new["approved_at"] = campaign.approved_at or now
            if budget_usd is not None:
                new["budget_usd"] = budget_usd
            return _change(connection, campaign, new)

    def set_state(
        self, id: str, state: CampaignState, reason: str | None = None, resumes_at: float | None = None
    ) -> None:
        """Have a campaign that goes on wait or pause; what was stopped or has ended stays so."""
        with self.store.transaction() as connection:
            campaign = _one(connection, id)
            if campaign.state in ("approved", "waiting", "paused"):
                _change(connection, campaign, {"state": state, "reason": reason, "resumes_at": resumes_at})

    def stop(self, named: str) -> tuple[Campaign, int]:
        """Skip the rows that wait for their turn; return how many. What runs is made, paid and fetched."""
        campaign = self.get(named)
        with self.store.transaction() as connection:
            skipped = connection.execute(
                update(ROWS)
                .where(
                    ROWS.c.campaign == campaign.id, ROWS.c.state == "planned", ROWS.c.generation_id.is_(None)
                )
                .values(state="skipped", changed_at=self.store.now())
            ).rowcount
            campaign = _one(connection, campaign.id)
            if campaign.state != "ended":
                campaign = _change(
                    connection, campaign, {"state": "stopped", "reason": None, "resumes_at": None}
                )
            return _end_if_done(connection, campaign), skipped

    def retry(self, named: str, numbers: Sequence[int] = ()) -> tuple[Campaign, list[int]]:
        """Have rows made after all that were not: those of these numbers, or all. Return which.

        Raises:
            InvalidRequestError: there is no such row, or it needs no retry.
        """
        campaign = self.get(named)
        again: tuple[RowState, ...] = (*NEEDS_USER, "skipped")
        with self.store.transaction() as connection:
            wanted = select(ROWS.c.number, ROWS.c.state).where(ROWS.c.campaign == campaign.id)
            states = dict(connection.execute(wanted).tuples().all())
            faults = [
                f"row {number}: {'there is none' if number not in states else 'it is ' + states[number]}."
                for number in numbers
                if states.get(number) not in again
            ]
            if faults:
                raise InvalidRequestError(faults).advise(
                    next_step=f"`sync-mcp campaign show {campaign.id}` lists those that need you."
                )
            chosen = sorted(numbers or (number for number, state in states.items() if state in again))
            if chosen:
                which = (ROWS.c.campaign == campaign.id, ROWS.c.number.in_(chosen))
                # What was or may have been charged is made once more, as another take, and paid again.
                connection.execute(
                    update(ROWS)
                    .where(*which, ROWS.c.state == "charged")
                    .values(take=ROWS.c.take + 1, digest=ROWS.c.digest + "+", generation_id=None)
                )
                connection.execute(
                    update(ROWS)
                    .where(*which)
                    .values(state="planned", attempts=0, begun=0, not_before=0.0, changed_at=self.store.now())
                )
                new = {"state": "approved", "reason": None, "resumes_at": None}
                campaign = _change(connection, _one(connection, campaign.id), new)
            return campaign, chosen

    # Turns

    def take_row(self, account: str, base_url: str, lane: str, step: Step) -> tuple[Campaign, Row] | None:
        """Give a lane the next row of an account's campaigns for a step; None where none is due now.

        It is one of the campaign with the fewest that run. A row that has ended its runner three times is
        left to the user, and a campaign whose budget is used up pauses.
        """
        now = self.store.now()
        with self.store.transaction() as connection:
            for campaign in _due(connection, account, base_url, now):
                while (row := _next_row(connection, campaign, step, now)) is not None:
                    if row.begun >= MOST_BEGUN:
                        _change_row(connection, row, {"state": "stuck", "error": _STUCK, "changed_at": now})
                        continue
                    if step is MAKE and not _is_within_budget(connection, campaign, row):
                        break
                    new = {"state": step.under_way, "lane": lane, "begun": row.begun + 1, "changed_at": now}
                    return campaign, _change_row(connection, row, new)
        return None

    def list_next(self, account: str, base_url: str, limit: int) -> list[tuple[Campaign, Row]]:
        """Return some of the rows that are to be made next, of campaigns that are made now."""
        mine = (CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
        found: list[tuple[Campaign, Row]] = []
        with self.store.reading() as connection:
            for campaign in _campaigns(connection, and_(*mine, CAMPAIGNS.c.state == "approved")):
                query = (
                    select(ROWS)
                    .where(ROWS.c.campaign == campaign.id, ROWS.c.state == "planned")
                    .order_by(ROWS.c.number)
                    .limit(limit)
                )
                found += [(campaign, Row(**row)) for row in connection.execute(query).mappings()]
        return found

    def note(self, row: Row, **changes: Any) -> Row | None:
        """Write what came of a row, as long as the lane has it that took it; None where another has by now.

        A state other than the one that it has lets the lane go of it.
        """
        now = self.store.now()
        with self.store.transaction() as connection:
            found = (
                connection.execute(
                    select(ROWS).where(ROWS.c.campaign == row.campaign, ROWS.c.number == row.number)
                )
                .mappings()
                .one()
            )
            if (found["state"], found["lane"]) != (row.state, row.lane):
                return None
            if changes.get("state", row.state) != row.state:
                changes |= {"lane": None, "begun": 0, "changed_at": now}
            return _change_row(connection, Row(**found), changes)

    def end_if_done(self, id: str) -> Campaign:
        """Return a campaign; it has ended where none of its rows is left to do."""
        with self.store.transaction() as connection:
            return _end_if_done(connection, _one(connection, id))

    def has_nothing_left(self, account: str, base_url: str) -> bool:
        """Return whether none of an account's rows will be due, unless the user does something."""
        mine = (CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
        to_do = (
            select(ROWS.c.number)
            .join(CAMPAIGNS, ROWS.c.campaign == CAMPAIGNS.c.id)
            .where(*mine, CAMPAIGNS.c.state.in_(_GOES_ON), ROWS.c.state.in_(TO_DO))
            .limit(1)
        )
        with self.store.reading() as connection:
            return connection.execute(to_do).first() is None

    # Runners

    def hold_runner(self, account: str, base_url: str, holder: str, place: str) -> str | None:
        """Have an account's rows made by this holder for half a minute; return who has them made, if another.

        Who takes them over from a runner that is gone puts back what that one had.
        """
        now = self.store.now()
        key = (RUNNERS.c.account == account, RUNNERS.c.base_url == base_url)
        lease = {"holder": holder, "place": place, "leased_until": now + LEASE_SECONDS}
        with self.store.transaction() as connection:
            found = connection.execute(select(RUNNERS).where(*key)).mappings().first()
            if found is not None and found["holder"] == holder:
                connection.execute(update(RUNNERS).where(*key).values(lease))
                return None
            # A lease that ends later was written under another clock.
            is_leased = found is not None and now < found["leased_until"] <= now + 10 * LEASE_SECONDS
            if found is not None and is_leased and not _is_gone(found["holder"]):
                return str(found["place"])
            if found is None:
                connection.execute(
                    insert(RUNNERS).values({"account": account, "base_url": base_url, **lease})
                )
            else:
                connection.execute(update(RUNNERS).where(*key).values(lease))
            _put_back(connection, account, base_url)
            return None

    def find_runner(self, account: str, base_url: str) -> str | None:
        """Return who has an account's rows made now, as people are told it; None where nobody has."""
        now = self.store.now()
        query = select(RUNNERS.c.place).where(
            RUNNERS.c.account == account, RUNNERS.c.base_url == base_url, RUNNERS.c.leased_until > now
        )
        with self.store.reading() as connection:
            return connection.execute(query).scalar()

    def let_go_runner(self, account: str, base_url: str, holder: str) -> None:
        """Let the next runner begin at once."""
        with self.store.transaction() as connection:
            connection.execute(
                update(RUNNERS)
                .where(
                    RUNNERS.c.account == account, RUNNERS.c.base_url == base_url, RUNNERS.c.holder == holder
                )
                .values(leased_until=0.0, holder="")
            )


def new_holder() -> str:
    """Return a name for a runner of this process: another one on this machine sees by it that it is gone."""
    return f"{platform.node()} {os.getpid()} {token_hex(4)}"


def _is_gone(holder: str) -> bool:
    """Return whether a runner was a process of this machine that is no more, as far as that can be told."""
    node, _, rest = holder.rpartition(" ")[0].rpartition(" ")
    if os.name != "posix" or not node or node != platform.node() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


_STUCK = "Its runner ended three times while it had this row: look at its clip, then retry it."
_HAS: Mapping[CampaignState, str] = {"ended": "ended", "stopped": "been stopped"}


def _campaigns(connection: Connection, which: Any) -> list[Campaign]:
    query = select(CAMPAIGNS).where(which).order_by(CAMPAIGNS.c.created_at.desc())
    return [Campaign(**row) for row in connection.execute(query).mappings()]


def _one(connection: Connection, id: str) -> Campaign:
    [campaign] = _campaigns(connection, CAMPAIGNS.c.id == id)
    return campaign


def _change(connection: Connection, campaign: Campaign, new: Mapping[str, Any]) -> Campaign:
    connection.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign.id).values(new))
    return replace(campaign, **new)


def _change_row(connection: Connection, row: Row, new: Mapping[str, Any]) -> Row:
    if new:
        which = (ROWS.c.campaign == row.campaign, ROWS.c.number == row.number)
        connection.execute(update(ROWS).where(*which).values(new))
    return replace(row, **new)


def _count(connection: Connection, id: str) -> Counts:
    query = select(ROWS.c.state, func.count()).where(ROWS.c.campaign == id).group_by(ROWS.c.state)
    return Counts(dict(connection.execute(query).tuples().all()))


def _end_if_done(connection: Connection, campaign: Campaign) -> Campaign:
    if campaign.state not in _GOES_ON or _count(connection, campaign.id).of(TO_DO):
        return campaign
    return _change(connection, campaign, {"state": "ended", "reason": None, "resumes_at": None})


def _due(connection: Connection, account: str, base_url: str, now: float) -> list[Campaign]:
    """Return the campaigns whose rows may be taken now, the one with the fewest that run first."""
    mine = and_(CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
    connection.execute(
        update(CAMPAIGNS)
        .where(mine, CAMPAIGNS.c.state == "waiting", CAMPAIGNS.c.resumes_at <= now)
        .values(state="approved", reason=None, resumes_at=None)
    )
    found = _campaigns(connection, and_(mine, CAMPAIGNS.c.state.in_(("approved", "stopped"))))
    running = (
        {each.id: _count(connection, each.id).of(["running"]) for each in found} if len(found) > 1 else {}
    )
    return sorted(found, key=lambda each: (running.get(each.id, 0), each.created_at))


def _next_row(connection: Connection, campaign: Campaign, step: Step, now: float) -> Row | None:
    """Return the next row of a campaign for a step; of rows with one digest one is made at a time."""
    others = ROWS.alias()
    is_made_now = (
        select(others.c.number)
        .where(
            others.c.campaign == ROWS.c.campaign,
            others.c.state == "running",
            others.c.digest == ROWS.c.digest,
        )
        .exists()
    )
    query = (
        select(ROWS)
        .where(
            ROWS.c.campaign == campaign.id,
            ROWS.c.state == step.due,
            ROWS.c.not_before <= now,
            *([~is_made_now] if step is MAKE else []),
        )
        .order_by(ROWS.c.number)
        .limit(1)
    )
    found = connection.execute(query).mappings().first()
    return None if found is None else Row(**found)


def _is_within_budget(connection: Connection, campaign: Campaign, row: Row) -> bool:
    """Return whether a campaign's budget has room for a row; it pauses where none can come any more."""
    budget = campaign.budget_usd
    if budget is None or row.generation_id is not None:
        return True
    money = _money(connection, campaign)
    price = row.price_usd or campaign.max_usd_per_row or Decimal(0)
    if money.spent + money.held + price <= budget:
        return True
    if not _count(connection, campaign.id).of(["running"]):
        reason = (
            f"Its budget of {dollars(budget)} has no room for row {row.number} ({dollars(price)}): "
            f"{dollars(money.spent)} is spent and {dollars(money.held)} held."
        )
        _change(connection, campaign, {"state": "paused", "reason": reason, "resumes_at": None})
    return False


def _put_back(connection: Connection, account: str, base_url: str) -> None:
    mine = select(CAMPAIGNS.c.id).where(CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
    for step in (MAKE, SAVE):
        connection.execute(
            update(ROWS)
            .where(ROWS.c.campaign.in_(mine), ROWS.c.state == step.under_way)
            .values(state=step.due, lane=None)
        )


def _money(connection: Connection, campaign: Campaign) -> Money:
    most = campaign.max_usd_per_row or Decimal(0)
    query = (
        select(
            ROWS.c.digest,
            ROWS.c.state,
            ROWS.c.price_usd,
            func.max(ENTRIES.c.cost_usd).label("cost_usd"),
            func.max(ENTRIES.c.counted_usd).label("counted_usd"),
        )
        .select_from(
            ROWS.outerjoin(
                ENTRIES,
                and_(
                    ENTRIES.c.generation_id == ROWS.c.generation_id,
                    ENTRIES.c.base_url == campaign.base_url,
                ),
            )
        )
        .where(ROWS.c.campaign == campaign.id)
        .group_by(ROWS.c.number)
        .order_by(ROWS.c.number)
    )
    planned: dict[str, Decimal] = {}
    spent: dict[str, Decimal] = {}
    held: dict[str, Decimal] = {}
    for row in connection.execute(query).mappings():
        digest, price = row["digest"], row["price_usd"] or most
        planned.setdefault(digest, price)
        if row["cost_usd"] is not None:
            spent.setdefault(digest, row["cost_usd"])
        elif row["counted_usd"] is not None:
            held.setdefault(digest, row["counted_usd"])
        elif row["state"] in HOLDS_MONEY:
            held.setdefault(digest, price)
    return Money(
        planned=_sum(planned), spent=_sum(spent), held=_sum({k: v for k, v in held.items() if k not in spent})
    )


def _sum(amounts: Mapping[str, Decimal]) -> Decimal:
    return sum(amounts.values(), Decimal(0))
