"""The embedded runner: each slot of an account is a lane, which does one row's turn after another.

Another engine would take the place of `Runner` alone, which gives lanes their turns; what a turn does is in
`turns`. The runner's lease protects speed, not money: twice held, nothing is paid twice.
"""

import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.news import News
from sync_mcp.background.work import do_in_thread
from sync_mcp.campaigns.book import LEASE_SECONDS, LeaseLost, new_holder
from sync_mcp.campaigns.rows import TO_DO, Campaign, Row
from sync_mcp.campaigns.tables import MAKE, SAVE, Step
from sync_mcp.campaigns.turns import Turn, Workplace, make_row, prepare_row, save_row
from sync_mcp.errors import LedgerError
from sync_mcp.payments.attempt import Account
from sync_mcp.texts import FAULT_LIMIT, safe

logger = logging.getLogger("sync_mcp.campaigns")

_POLL_SECONDS = 1.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 15.0, 900.0
"""How long a campaign waits that the API took nothing of: twice as long each time."""

_SAVING_LANES = 4
"""So many videos are fetched and looked at, at once, beside those that are made."""

_AHEAD_SECONDS = 0.5
"""How often it is looked after that the next rows, as many as are made at once, have their files ready."""

OnTurn = Callable[[Campaign, Row], None]


class Runner:
    """Has the rows of one account made, as long as there are any.

    Args:
        place: what its turns need.
        account: whose rows they are.
        lanes: how many are made at once.
        on_turn: is told of each row that has begun or ended a turn.
        on_wait: is told who has the account, where another runner does.
    """

    def __init__(
        self,
        place: Workplace,
        account: Account,
        lanes: int,
        *,
        on_turn: OnTurn | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._place = place
        self._account = account
        self._lanes = lanes
        self._on_turn = on_turn
        self._on_wait = on_wait
        self._holder = new_holder()
        self._is_lost = False
        self._is_over = False
        self._closed = 0
        self._closed_until = 0.0
        self._news = News()

    async def run(self) -> None:
        """Return once nothing of the account is left to do: rows that wait for a later time are waited for.

        Where another runner has the account, it is waited until that has ended; and again where it was lost.
        What its lanes had when it is cancelled, the next runner goes on with.

        Raises:
            LedgerError: the ledger cannot be used, and that will not pass.
        """
        while True:
            await self._take_hold()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep_hold, tasks)
                    tasks.start_soon(self._prepare_ahead)
                    async with anyio.create_task_group() as lanes:
                        for step, count in ((MAKE, self._lanes), (SAVE, _SAVING_LANES)):
                            turnstile = anyio.Lock()
                            for number in range(count):
                                lane = f"{self._holder}-{step.under_way}-{number + 1}"
                                lanes.start_soon(self._drive, lane, step, turnstile, tasks)
                    tasks.cancel_scope.cancel()
                if not self._is_lost:
                    return
            finally:
                with anyio.CancelScope(shield=True), suppress(LedgerError):
                    await self._in_book(self._place.book.let_go_runner, self._holder)

    async def _take_hold(self) -> None:
        self._is_lost = self._is_over = False
        told: str | None = None
        while True:
            try:
                other = await self._hold()
            except LedgerError as error:
                if not error.retryable:
                    raise
                logger.warning("the account's runner cannot be read: %s", error)
            else:
                if other is None:
                    return
                if other != told and self._on_wait is not None:
                    told = other
                    self._on_wait(other)
            await anyio.sleep(_POLL_SECONDS)

    async def _hold(self) -> str | None:
        here = f"process {os.getpid()} on {platform.node() or 'this machine'}"
        return await self._in_book(self._place.book.hold_runner, self._holder, here)

    async def _keep_hold(self, tasks: TaskGroup) -> None:
        while True:
            await anyio.sleep(LEASE_SECONDS / 3)
            try:
                is_lost = await self._hold() is not None
            except LedgerError as error:
                logger.warning("the runner's lease cannot be renewed: %s", error)
                continue
            if is_lost:
                self._end_lanes(tasks)

    def _end_lanes(self, tasks: TaskGroup) -> None:
        """End all lanes of a runner that has lost the account: what it had is another's to go on with.

        What is on its way to the API is the guard's, and goes on.
        """
        self._is_lost = True
        tasks.cancel_scope.cancel()

    async def _prepare_ahead(self) -> None:
        """Have the files of the next rows ready before their turns."""
        ready: set[tuple[str, int]] = set()
        while True:
            with suppress(LedgerError):
                for campaign, row in await do_in_thread(
                    self._place.book.list_next, self._account.name, self._account.base_url, self._lanes
                ):
                    if (row.campaign, row.number) not in ready:
                        ready.add((row.campaign, row.number))
                        try:
                            await prepare_row(self._place, campaign, row)
                        except Exception as error:  # noqa: BLE001 - its turn says what is wrong with it
                            reason = safe(repr(error), FAULT_LIMIT)
                            logger.info("row %s of %s is not ready: %s", row.number, campaign.id, reason)
            await anyio.sleep(_AHEAD_SECONDS)

    async def _in_book(self, act: Callable[..., str | None], *arguments: str) -> str | None:
        return await do_in_thread(partial(act, self._account.name, self._account.base_url, *arguments))

    async def _drive(self, lane: str, step: Step, turnstile: anyio.Lock, tasks: TaskGroup) -> None:
        """Give a lane its turns.

        Of the lanes of a step one looks for a row at a time: while there is none, the others do not ask too.
        """
        while True:
            try:
                async with turnstile:
                    taken = await self._next_turn(lane, step)
            except LeaseLost:
                self._end_lanes(tasks)
                return
            if taken is None:
                return
            await self._do(step, *taken)
            self._news.spread()

    async def _next_turn(self, lane: str, step: Step) -> tuple[Campaign, Row] | None:
        """Return the next row for a lane, as soon as one is due; None once none can be.

        Then none is for any other: of lanes that save alone, what is agreed to meanwhile would not be made.
        """
        book, account = self._place.book, self._account
        while not self._is_over:
            take = partial(book.take_row, account.name, account.base_url, self._holder, lane, step)
            try:
                taken = await do_in_thread(take)
                if taken is not None:
                    return taken
                if await do_in_thread(book.has_nothing_left, account.name, account.base_url):
                    self._is_over = True
                    self._news.spread()
                    return None
            except LedgerError as error:
                logger.warning("the next row cannot be read: %s", error)
            await self._news.wait(_POLL_SECONDS)
        return None

    async def _do(self, step: Step, campaign: Campaign, row: Row) -> None:
        self._tell(campaign, row)
        try:
            turn = await (make_row if step is MAKE else save_row)(self._place, campaign, row)
        except Exception as error:
            reason = safe(repr(error), FAULT_LIMIT)
            logger.exception("row %s of %s failed unexpectedly", row.number, campaign.id)
            told = f"It failed in an unexpected way: {reason}. Retry it; if it stays so, report it."
            turn = Turn({"state": "unknown" if step is MAKE else "unsaved", "error": told})
        await self._write(campaign, row, turn)

    async def _write(self, campaign: Campaign, row: Row, turn: Turn) -> None:
        """Write down what came of a turn, however long the ledger takes."""
        while True:
            try:
                noted = await do_in_thread(partial(self._note, campaign, row, turn))
            except LedgerError as error:
                logger.warning("what came of a row cannot be written: %s", error)
                await anyio.sleep(_POLL_SECONDS)
            else:
                if noted is not None:
                    self._tell(*noted)
                return

    def _note(self, campaign: Campaign, row: Row, turn: Turn) -> tuple[Campaign, Row] | None:
        book, changes = self._place.book, dict(turn.row)
        if turn.is_closed:
            # What is begun goes on in a campaign that waits, and is not to ask more often.
            changes["not_before"] = self._pause()
        written = book.note(row, **changes)
        if written is None:
            return None
        if turn.is_closed:
            book.set_state(campaign.id, "waiting", turn.reason, changes["not_before"])
        elif turn.campaign is not None:
            book.set_state(campaign.id, turn.campaign, turn.reason, turn.resumes_at)
        elif written.state == "made":
            self._closed = 0
        # With a row on its way it has not ended; to look is to wait for the ledger.
        return (campaign if written.state in TO_DO else book.end_if_done(campaign.id)), written

    def _pause(self) -> float:
        """Return until when nothing is asked of an API that takes nothing: each time twice as long.

        All lanes that find it closed at once wait for the same time.
        """
        now = self._place.book.store.now()
        if not now < self._closed_until <= now + _LONGEST_PAUSE_SECONDS:
            pause = min(_SHORTEST_PAUSE_SECONDS * 2 ** min(self._closed, 10), _LONGEST_PAUSE_SECONDS)
            self._closed += 1
            self._closed_until = now + pause
        return self._closed_until

    def _tell(self, campaign: Campaign, row: Row) -> None:
        if self._on_turn is not None:
            try:
                self._on_turn(campaign, row)
            except Exception as error:  # noqa: BLE001 - who only listens ends no night's work
                logger.warning("progress cannot be told: %s", safe(repr(error), FAULT_LIMIT))
