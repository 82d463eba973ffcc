"""The campaigns of a ledger, in its database: what is to be done next, and by whom.

Each method is one transaction and blocks for as long as the disk takes. What was paid is read of the ledger's
entries and never written here.
"""

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, and_, case, insert, or_, select, update

from sync_mcp.campaigns.again import AGAIN, begin_again, has_request, key_of, why_not_again
from sync_mcp.campaigns.report import is_report
from sync_mcp.campaigns.rows import Campaign, CampaignState, Money, Row, RowState
from sync_mcp.campaigns.tables import (
    CAMPAIGNS,
    GOES_ON,
    IS_BEGUN,
    MAKE,
    ROWS,
    RUNNERS,
    SAVE,
    Counts,
    Step,
    change_campaign,
    change_row,
    check_free,
    check_plan,
    count_begun,
    count_rows,
    count_running,
    end_if_done,
    find_campaigns,
    find_left,
    find_rows,
    get_campaign,
    has_rows_left,
    leave_taken,
    next_row,
    place_anew,
    sum_money,
)
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.rows import ENTRIES
from sync_mcp.payments.stores.store import Store
from sync_mcp.texts import clean

LEASE_SECONDS = 30.0
"""How long an account's runner counts as alive after it was last heard of."""
_SHORTEST_BEGINNING = 4
MOST_BEGUN = 3
"""So often a row may end its runner before somebody has to look at it."""
_LONGEST_WAIT_SECONDS = 90_000.0
_LISTED = 50
_SHOWN = 60


class LeaseLost(Exception):
    """Another runner has the account by now, and what this one had."""


class CampaignBook:
    """The campaigns of a ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Plans

    def keep(self, campaign: Campaign, rows: Sequence[Row], *, keep_going: bool = False) -> Campaign:
        """Write a plan down, whole; return it, or the one that is the same.

        Of that one it is said anew where its rows and their clips lie, and as long as nobody has agreed to it
        what may be spent. With `keep_going` a row whose file is there already is left as that is.

        Raises:
            InvalidRequestError: a file that a new plan would write is there, or is to be another campaign's.
        """
        there = _list_folder(Path(campaign.folder))
        same = (
            CAMPAIGNS.c.account == campaign.account,
            CAMPAIGNS.c.base_url == campaign.base_url,
            CAMPAIGNS.c.digest == campaign.digest,
            CAMPAIGNS.c.folder == campaign.folder,
        )
        with self.store.transaction() as connection:
            for known in find_campaigns(connection, and_(*same)):
                place_anew(connection, known, rows)
                # Its prices are those of now.
                said = _SAID_ANEW if known.state == "planned" else ("source",)
                return change_campaign(connection, known, **{name: getattr(campaign, name) for name in said})
            if keep_going:
                rows = leave_taken(connection, campaign, rows, there)
            else:
                check_free(connection, campaign, rows, there)
            connection.execute(insert(CAMPAIGNS), asdict(campaign))
            connection.execute(insert(ROWS), [_without_cost(row) for row in rows])
        return campaign

    def get(self, named: str) -> Campaign:
        """Return a campaign by its id, the beginning of one, or its name, where that is one campaign's alone.

        Raises:
            InvalidRequestError: there is none, or there are several.
        """
        found = self.find(named)
        shown = clean(named, _SHOWN)
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

    def find(self, named: str) -> Sequence[Campaign]:
        """Return the campaigns that are meant by an id, the beginning of one (four letters), or a name."""
        text = named.strip()
        with self.store.reading() as connection:
            if exact := find_campaigns(connection, CAMPAIGNS.c.id == text):
                return exact
            is_meant = CAMPAIGNS.c.name == text
            if len(text) >= _SHORTEST_BEGINNING:
                is_meant = or_(is_meant, CAMPAIGNS.c.id.istartswith(text, autoescape=True))
            return find_campaigns(connection, is_meant)

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
            return count_rows(connection, campaign.id)

    def money(self, campaign: Campaign) -> Money:
        """Return what it comes to: two rows with one digest are one job."""
        with self.store.reading() as connection:
            return sum_money(connection, campaign)

    def check_plan(self, named: str) -> None:
        """Check that a campaign can be agreed to now: nobody need be asked about one that cannot.

        Raises:
            InvalidRequestError: as `approve`.
        """
        campaign = self.get(named)
        there = _list_folder(Path(campaign.folder))
        with self.store.reading() as connection:
            check_plan(connection, campaign, there, self.store.now())

    def approve(self, named: str, *, budget_usd: Decimal | None = None) -> Campaign:
        """Note that the user agrees to a plan, and to no more than a budget where they name one.

        Raises:
            InvalidRequestError: it is not there to be agreed to, or no longer; or a file that it would write
                is there by now, or is to be another campaign's.
        """
        campaign = self.get(named)
        there = _list_folder(Path(campaign.folder))
        with self.store.transaction() as connection:
            now = self.store.now()
            campaign = get_campaign(connection, campaign.id)
            check_plan(connection, campaign, there, now)
            return change_campaign(
                connection,
                campaign,
                state="approved",
                reason=None,
                resumes_at=None,
                approved_at=campaign.approved_at or now,
                budget_usd=campaign.budget_usd if budget_usd is None else budget_usd,
            )

    def set_state(
        self, id: str, state: CampaignState, reason: str | None = None, resumes_at: float | None = None
    ) -> None:
        """Have a campaign that goes on wait or pause; what was stopped or has ended stays so.

        What is paused waits for the user, whatever another row has found.
        """
        with self.store.transaction() as connection:
            campaign = get_campaign(connection, id)
            if campaign.state in ("approved", "waiting"):
                change_campaign(connection, campaign, state=state, reason=reason, resumes_at=resumes_at)

    def go_on(self, named: str) -> Campaign:
        """Return a campaign, which goes on where it was stopped, is paused or waits."""
        campaign = self.get(named)
        with self.store.transaction() as connection:
            campaign = get_campaign(connection, campaign.id)
            if campaign.approved_at is None or campaign.state not in ("stopped", "paused", "waiting"):
                return campaign
            return change_campaign(connection, campaign, state="approved", reason=None, resumes_at=None)

    def stop(self, named: str) -> tuple[Campaign, int]:
        """Skip the rows that wait for their turn; return how many.

        What was begun is made, paid and fetched: what was sent cannot be called back.
        """
        campaign = self.get(named)
        with self.store.transaction() as connection:
            skipped = connection.execute(
                update(ROWS)
                .where(ROWS.c.campaign == campaign.id, ROWS.c.state == "planned", ~IS_BEGUN)
                .values(state="skipped", changed_at=self.store.now())
            ).rowcount
            campaign = get_campaign(connection, campaign.id)
            if campaign.state != "ended":
                campaign = change_campaign(
                    connection, campaign, state="stopped", reason=None, resumes_at=None
                )
            return end_if_done(connection, campaign), skipped

    def retry(self, named: str, numbers: Sequence[int] = ()) -> tuple[Campaign, list[int]]:
        """Have rows made after all that were not: those of these numbers, or all. Return which.

        What was or may have been charged is made and paid again as another take; what cost more than planned
        goes at the price that was told; what was made is fetched, and not made again. So is, by its number
        alone, what was saved and is not there any more. A campaign that nobody has agreed to waits for that.

        Raises:
            InvalidRequestError: there is no such row, or it needs no retry.
        """
        campaign = self.get(named)
        with self.store.transaction() as connection:
            campaign = get_campaign(connection, campaign.id)
            rows = {row.number: row for row in find_rows(connection, campaign)}
            wanted = sorted(set(numbers))
            faults = [
                f"row {number}: {why}." for number in wanted if (why := why_not_again(rows.get(number)))
            ]
            if faults:
                raise InvalidRequestError(faults).advise(
                    next_step=f"`sync-mcp campaign show {campaign.id}` lists those that need you."
                )
            chosen = wanted or [
                number for number, row in rows.items() if row.state in AGAIN and has_request(row)
            ]
            left = find_left(connection, campaign)
            takes: dict[str, int] = {}
            for row in rows.values():
                key = key_of(row)
                takes[key] = max(row.take, takes.get(key, 0))
            now = self.store.now()
            for number in chosen:
                row = rows[number]
                new = {"attempts": 0, "begun": 0, "looks": 0, "not_before": 0.0, "changed_at": now}
                next_take = takes.get(key_of(row), row.take) + 1
                new |= begin_again(campaign, row, next_take, is_left=number in left)
                change_row(connection, row, new)
            if chosen:
                state: CampaignState = "planned" if campaign.approved_at is None else "approved"
                campaign = change_campaign(connection, campaign, state=state, reason=None, resumes_at=None)
            return campaign, chosen

    # Turns

    def take_row(
        self, account: str, base_url: str, holder: str, lane: str, step: Step
    ) -> tuple[Campaign, Row] | None:
        """Give a lane the next row of an account's campaigns for a step; None where none is due now.

        It is one of the campaign with the fewest that run. A row that has ended its runner three times, the
        last time by itself, is left to the user, a campaign whose budget is used up pauses, and one of which
        nothing is left ends. The lane's name begins with its holder's and a hyphen.

        Raises:
            LeaseLost: the account is another holder's by now.
        """
        with self.store.transaction() as connection:
            now = self.store.now()
            if not _is_held(connection, account, base_url, holder):
                raise LeaseLost
            due = _due(connection, account, base_url, step, now)
            begun, most_begun = count_begun(connection, due, step)
            if most_begun >= MOST_BEGUN:
                return None
            for campaign in due:
                while (row := next_row(connection, campaign, step, now)) is not None:
                    if row.begun >= MOST_BEGUN:
                        change_row(connection, row, {"state": "stuck", "error": _STUCK, "changed_at": now})
                        continue
                    if row.begun == MOST_BEGUN - 1 and begun:
                        # The deaths that it met may be another's: what the next one shows, it shows alone.
                        break
                    new = {"state": step.under_way, "lane": lane, "begun": row.begun + 1, "changed_at": now}
                    return campaign, change_row(connection, row, new)
                else:
                    end_if_done(connection, campaign)
        return None

    def list_next(self, account: str, base_url: str, limit: int) -> list[tuple[Campaign, Row]]:
        """Return some of the rows that are to be made next, of campaigns that are made now."""
        mine = (CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
        found: list[tuple[Campaign, Row]] = []
        with self.store.reading() as connection:
            for campaign in find_campaigns(connection, and_(*mine, CAMPAIGNS.c.state == "approved")):
                query = (
                    select(ROWS)
                    .where(ROWS.c.campaign == campaign.id, ROWS.c.state == "planned")
                    .order_by(ROWS.c.begun, ROWS.c.number)
                    .limit(limit)
                )
                found += [(campaign, Row(**row)) for row in connection.execute(query).mappings()]
        return found

    def note(self, row: Row, **changes: Any) -> Row | None:
        """Write what came of a row, as long as the lane has it that took it; None where another has by now,
        or the ledger was begun anew without it.

        A state other than the one that it has lets the lane go of it. Once there is a job, its runner ends
        for other reasons than this row. What is to be made of a campaign that was stopped meanwhile, and is
        not begun, is skipped.
        """
        with self.store.transaction() as connection:
            now = self.store.now()
            found = (
                connection.execute(
                    select(ROWS).where(ROWS.c.campaign == row.campaign, ROWS.c.number == row.number)
                )
                .mappings()
                .first()
            )
            if found is None or (found["state"], found["lane"]) != (row.state, row.lane):
                return None
            if changes.get("generation_id") is not None:
                changes["begun"] = 0
            if changes.get("state", row.state) != row.state:
                changes |= {"lane": None, "begun": 0, "changed_at": now}
                if changes["state"] == MAKE.due:
                    generation_id = changes.get("generation_id", found["generation_id"])
                    is_begun = generation_id is not None or changes.get("is_begun", found["is_begun"])
                    if not is_begun and get_campaign(connection, row.campaign).state == "stopped":
                        changes["state"] = "skipped"
            return change_row(connection, Row(**found), changes)

    def end_if_done(self, id: str) -> Campaign:
        """Return a campaign; it has ended where none of its rows is left to do."""
        with self.store.transaction() as connection:
            return end_if_done(connection, get_campaign(connection, id))

    def has_nothing_left(self, account: str, base_url: str) -> bool:
        """Return whether none of an account's rows is made or will be due, unless the user does something."""
        mine = (CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
        with self.store.reading() as connection:
            found = find_campaigns(connection, and_(*mine, CAMPAIGNS.c.state.in_((*GOES_ON, "paused"))))
            return not any(has_rows_left(connection, campaign) for campaign in found)

    # Runners

    def hold_runner(self, account: str, base_url: str, holder: str, place: str) -> str | None:
        """Have an account's rows made by this holder for half a minute; return who has them made, if another.

        Who takes them over from a runner that is gone puts back what that one had.
        """
        key = (RUNNERS.c.account == account, RUNNERS.c.base_url == base_url)
        with self.store.transaction() as connection:
            now = self.store.now()
            lease = {"holder": holder, "place": place, "leased_until": now + LEASE_SECONDS}
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
        key = (RUNNERS.c.account == account, RUNNERS.c.base_url == base_url)
        with self.store.reading() as connection:
            living = select(RUNNERS).where(*key, RUNNERS.c.leased_until > self.store.now())
            found = connection.execute(living).mappings().first()
        return None if found is None or _is_gone(found["holder"]) else str(found["place"])

    def let_go_runner(self, account: str, base_url: str, holder: str) -> None:
        """Let the next runner begin at once, with what this one's lanes had."""
        key = (RUNNERS.c.account == account, RUNNERS.c.base_url == base_url, RUNNERS.c.holder == holder)
        with self.store.transaction() as connection:
            _put_back(connection, account, base_url, holder=holder)
            connection.execute(update(RUNNERS).where(*key).values(leased_until=0.0, holder=""))


def _list_folder(folder: Path) -> dict[str, str]:
    """Return what a folder holds by folded names, but for reports: those are written anew."""
    try:
        return {path.name.casefold(): path.name for path in folder.iterdir() if not is_report(path)}
    except OSError:
        # One that is not there yet has nothing; one that cannot be read says so when it is written to.
        return {}


def _without_cost(row: Row) -> dict[str, Any]:
    """Return what of a row stands in its table: what it did cost is the ledger's."""
    return {name: value for name, value in asdict(row).items() if name != "cost_usd"}


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


_STUCK = (
    "Its runner ended three times while it had this row, at last it alone: look at its clip, then retry it."
)


_SAID_ANEW = ("created_at", "budget_usd", "max_usd_per_row", "total_usd", "name", "source")


def _is_held(connection: Connection, account: str, base_url: str, holder: str) -> bool:
    query = select(RUNNERS.c.holder).where(RUNNERS.c.account == account, RUNNERS.c.base_url == base_url)
    return connection.execute(query).scalar() == holder


def _due(connection: Connection, account: str, base_url: str, step: Step, now: float) -> list[Campaign]:
    """Return the campaigns whose rows may be taken now, the one with the fewest that run first."""
    mine = and_(CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
    # What is to wait longer than until the next day was written under another clock.
    is_time = or_(CAMPAIGNS.c.resumes_at <= now, CAMPAIGNS.c.resumes_at > now + _LONGEST_WAIT_SECONDS)
    is_over = and_(mine, CAMPAIGNS.c.state == "waiting", is_time)
    for campaign in find_campaigns(connection, is_over):
        change_campaign(connection, campaign, state="approved", reason=None, resumes_at=None)
    # What was made is saved, whatever its campaign waits for.
    states: tuple[CampaignState, ...] = ("approved", "waiting", "stopped")
    states = states if step is MAKE else (*states, "paused")
    found = find_campaigns(connection, and_(mine, CAMPAIGNS.c.state.in_(states)))
    running = {each.id: count_running(connection, each.id) for each in found} if len(found) > 1 else {}
    return sorted(found, key=lambda each: (running.get(each.id, 0), each.created_at))


def _put_back(connection: Connection, account: str, base_url: str, *, holder: str | None = None) -> None:
    """Put back what lanes had: those of a runner that ended in order, or all that died."""
    mine = select(CAMPAIGNS.c.id).where(CAMPAIGNS.c.account == account, CAMPAIGNS.c.base_url == base_url)
    for step in (MAKE, SAVE):
        query = update(ROWS).where(ROWS.c.campaign.in_(mine), ROWS.c.state == step.under_way)
        if holder is not None:
            query = query.where(ROWS.c.lane.startswith(f"{holder}-", autoescape=True))
            # It was not the row that ended it; one whose job is known had not counted as begun.
            query = query.values(begun=case((ROWS.c.begun > 0, ROWS.c.begun - 1), else_=0))
        connection.execute(query.values(state=step.due, lane=None, is_begun=True))
