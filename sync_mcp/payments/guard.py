"""One intention, one job: what stands between a paid call and the money.

Each create is written into the ledger before it is sent, and what came of it after. A call that means what an
earlier one meant gets that one's job. Budgets hold for all processes that share the ledger.
"""

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from sync_mcp.api.batches import Batch, BatchRequest
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.dialogue_edits import DialogueEdit
from sync_mcp.api.models import Generation, GenerationRequest, Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.speech import Speech, SpeechRequest
from sync_mcp.api.voices import ClonedVoice, CloneRequest
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.errors import InvalidRequestError, LedgerError, NotVisibleYet, SyncError
from sync_mcp.payments.accounts import Accounts
from sync_mcp.payments.acts.act import COMPLETED, FIRST_KIND, Job
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.asking import Asking
from sync_mcp.payments.attempt import Account, Token
from sync_mcp.payments.bill import Comparison, compare_with_bill
from sync_mcp.payments.bounds import Bounds
from sync_mcp.payments.call import LOOK_SECONDS, Foresight, Made, PaidCall
from sync_mcp.payments.costs import Cost, FinalCosts, find_costs
from sync_mcp.payments.deleting import Deleting
from sync_mcp.payments.history import History, not_visible
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Limits, Spending
from sync_mcp.payments.paying import Payer
from sync_mcp.payments.price import Price
from sync_mcp.payments.pricing import Pricing
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import SETTLE_SECONDS, Settling, instant
from sync_mcp.payments.together import Together
from sync_mcp.payments.told import contradicts
from sync_mcp.texts import ID_LIMIT, safe

logger = logging.getLogger("sync_mcp.payments")

RESEND_HOURS = 12.0
_BUSY = "Another call of this server asks the user about this very create, or is sending it."

JobT = TypeVar("JobT", bound=Job)


class Guard:
    """Makes paid calls, each once, within the user's limits.

    Args:
        ledger: where they are written down.
        limits: how much may be spent; by default without limit.
        resend_hours: how long after its first send a create of unknown outcome may be sent again.
        task_group: where a create goes on when its caller is cancelled, until the group is; without one it
            holds its caller up.
        unpriced_usd: what to hold for an act for which the API publishes no price; by default nothing, and
            where a limit is set it is refused.
    """

    def __init__(
        self,
        ledger: Ledger,
        limits: Limits | None = None,
        *,
        resend_hours: float = RESEND_HOURS,
        task_group: TaskGroup | None = None,
        unpriced_usd: Decimal | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self.ledger = ledger
        self.pricing = Pricing()
        self._settling = Settling(ledger)
        self._final_costs = FinalCosts()
        self._accounts = Accounts(ledger)
        self._history = History(ledger, self._settling)
        self._deleting = Deleting(ledger, self._settling, self._accounts)
        self._bounds = Bounds(ledger, self._settling)
        self._asking = Asking(ledger, self._bounds)
        self._owner = secrets.token_hex(8)
        self._work = Work(task_group)
        self._payer = Payer(
            ledger,
            self._settling,
            self.pricing,
            self._history,
            self._bounds,
            self._asking,
            self._work,
            resend_hours * 3600,
            unpriced_usd,
        )
        self.together = Together(ledger, self._history, self._payer, self._bounds, self._asking, self._open)

    @property
    def limits(self) -> Limits:
        """How much may be spent."""
        return self._limits

    async def create_for(
        self, sync: AsyncSync, request: GenerationRequest, options: RequestOptions | None, take: int
    ) -> Generation:
        """Make a request's job, or return the one that it made before.

        Raises:
            LimitReached, LedgerError: nothing was sent.
            ApprovalRequired: it would be paid again for what was or may have been charged; nothing was sent.
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: as of a create without a guard.
        """
        call = PaidCall(sync, GenerationAct.of(request), take, options or RequestOptions())
        return (await self.create(call)).job

    async def speech_for(
        self, sync: AsyncSync, request: SpeechRequest, options: RequestOptions | None, take: int
    ) -> Speech:
        """Have a script said, or return the speech that it made before.

        Raises:
            LimitReached, LedgerError, ApprovalRequired, NotVisibleYet: as `create_for`.
            SyncError: as of speech without a guard.
        """
        act = SpeechAct.of(request, sync)
        call = PaidCall(sync, act, take, options or RequestOptions(), tool="create_speech")
        return (await self.create(call)).job

    async def clone_for(
        self, sync: AsyncSync, request: CloneRequest, consent: str, options: RequestOptions | None
    ) -> ClonedVoice:
        """Clone a voice, or return the one that it cloned before.

        Raises:
            LimitReached, LedgerError, ApprovalRequired, NotVisibleYet: as `create_for`.
            SyncError: as of a clone without a guard.
        """
        act = CloneAct.of(request, consent)
        call = PaidCall(sync, act, options=options or RequestOptions(), tool="clone_voice")
        return (await self.create(call)).job

    async def dialogue_edit_for(
        self, sync: AsyncSync, body: Json, options: RequestOptions | None, take: int
    ) -> DialogueEdit:
        """Have words of a video said anew, or return the dialogue edit that did it before.

        Raises:
            LimitReached, LedgerError, ApprovalRequired, NotVisibleYet: as `create_for`.
            SyncError: as of a dialogue edit without a guard.
        """
        call = PaidCall(sync, DialogueEditAct(body), take, options or RequestOptions(), tool="edit_dialogue")
        return (await self.create(call)).job

    async def batch_for(
        self, sync: AsyncSync, request: BatchRequest, options: RequestOptions | None, take: int
    ) -> Batch:
        """Make a batch, or return the one that it made before.

        Raises:
            LimitReached, LedgerError, ApprovalRequired, NotVisibleYet: as `create_for`.
            SyncError: as of a batch without a guard.
        """
        act = BatchAct.of(request)
        call = PaidCall(sync, act, take, options or RequestOptions(), tool="create_batch")
        return (await self.create(call)).job

    async def create(self, call: PaidCall[JobT]) -> Made[JobT]:
        """Make a call's job, or return the one that it made before.

        Raises:
            LimitReached, LedgerError, QuoteRefused, ApprovalRequired, ApprovalDenied: nothing was sent.
            UnderWay: another call or process is busy with it.
            NotVisibleYet: its job was made, and the API does not show it yet.
            SyncError: as of a create without a guard.
        """
        call = await self._open(call)
        busy = partial(call.under_way, _BUSY)
        async with self._work.turn(call.intention.digest, until=call.ends_at, busy=busy):
            # An act finds and makes jobs of its own type alone.
            made = cast("Made[JobT]", await self._payer.pay(call))
        if made.job.finished and made.how != "was there" and not call.act.kind_of_send.is_exported:
            # It was there at once: nobody is going to look for its end.
            await self._note_end(call, made.job)
        return made

    async def _note_end(self, call: PaidCall[Job], job: Job) -> None:
        try:
            entry = await do_in_thread(self.ledger.maker_of, job.id, call.sync.base_url)
            if entry is not None and entry.generation_id == job.id:
                await self._settling.settle_job(call.sync, entry, job, call.reading())
        except LedgerError as error:
            # It is made and paid: its handle must reach the caller whatever the disk does.
            logger.error("how job %s ended cannot be written down: %s", safe(job.id, ID_LIMIT), error)

    async def foresee(self, call: PaidCall[Job], price: Price, *, wants_quote: bool) -> Foresight:
        """Say what a create of this price would meet with; nothing is sent.

        The quote is written down, and what is seen of how jobs ended.

        Raises:
            LedgerError: the ledger cannot be read.
            SyncError: whose money it is cannot be told now.
        """
        call = await self._open(call)
        try:
            found = await self._history.find(call)
            if isinstance(found, Made):
                return Foresight("was there", job=found.job)
            if isinstance(found, Entry) and found.is_leased(self.ledger.store.now()):
                return Foresight("under way", ledger_id=found.id)
            if isinstance(found, Entry):
                _, is_whole = call.act.with_first_extras(found.extras)
                attempt = await self._payer.find_unseen_repeat(call, found) if is_whole else None
                if attempt is None:
                    hindrance = await self._payer.foresee_hindrance(call, found, is_whole=is_whole)
                    return Foresight("in doubt", ledger_id=found.id, hindrance=hindrance)
                # Its money is held already: no limit stands in its own way.
                price, refusal, most_usd = Price(found.estimate_usd), None, None
            else:
                attempt = found
                refusal = await self._bounds.standing_refusal(call, price)
                most_usd = await self._bounds.most_usd(call)
        except LedgerError:
            raise
        except SyncError as error:
            course = "not visible" if isinstance(error, NotVisibleYet) else "not readable"
            return Foresight(course, failure=error)
        attempt = await self._asking.note_newest(replace(attempt, price=price))
        reasons = await self._asking.reasons_for(call, attempt)
        token = None
        if reasons and refusal is None and wants_quote:
            token = await self._asking.hand_out(call, attempt)
        note = attempt.note if attempt.paid_before is None else None
        return Foresight(
            "new attempt", note=note, refusal=refusal, most_usd=most_usd, reasons=reasons, token=token
        )

    async def agree(self, calls: Sequence[PaidCall[Job]]) -> Token | None:
        """Have the user agree at once to several calls of one account, with their total; nothing is sent.

        The token goes into each of the calls. It is good once for each, as long as that
        costs no more than its price of now. None where nobody need be asked. What was made before is not in
        it, nor is what is in doubt or another call is busy with: a create finds those. How the user is asked
        follows from the first call.

        Raises:
            LimitReached: one of them, or all together, would pass a limit.
            QuoteRefused, ApprovalRequired, ApprovalDenied: the user has not agreed.
            LedgerError, SyncError: as of a create.
        """
        outlook = await self.together.look(calls)
        for failure in outlook.failures.values():
            raise failure
        return await self.together.ask(outlook)

    async def question_age(self, token_id: str, caller: str | None) -> float | None:
        """Return how many seconds ago a question was put to a caller, or None where there was none."""
        return await do_in_thread(self.ledger.question_age, token_id, caller)

    async def revoke(self, call: PaidCall[Job]) -> None:
        """Take back every quote and question of what a call is for: the user said no to it."""
        await self._asking.revoke(await self._open(call))

    async def delete_for(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a job that the ledger may know: what it cost is read first, and stays spent.

        Raises:
            LedgerError: the ledger cannot be written; nothing was deleted.
            SyncError: as of a delete without a guard.
        """
        await self._deleting.delete_job(sync, id, delete)

    async def delete_project_for(
        self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]
    ) -> None:
        """Delete a project with jobs that the ledger may know: what they cost is read first, and stays spent.

        Raises:
            LedgerError: the ledger cannot be written; nothing was deleted.
            SyncError: its jobs cannot be listed, and nothing was deleted; or as of a delete without a guard.
        """
        await self._deleting.delete_project(sync, id, delete)

    async def delete_jobs(
        self, sync: AsyncSync, jobs: Sequence[Generation]
    ) -> Mapping[str, SyncError | None]:
        """Delete jobs that have ended, what they cost read first; return what came of each by its id.

        None stands for one that is gone.

        Raises:
            LedgerError: the ledger cannot be read or written; of what it knows nothing was deleted.
        """
        return await self._deleting.delete_jobs(sync, jobs)

    async def compare(self, sync: AsyncSync, start: datetime, end: datetime) -> Comparison:
        """Hold the ledger against the API's bill of the jobs that ended from `start` on and before `end`.

        Raises:
            LedgerError: the ledger cannot be read.
            SyncError: the bill cannot be read whole, or whose it is cannot be told now.
        """
        account = await self._accounts.get(sync)
        names = {f"key:{sync.key_fingerprint}", account.name}
        return await compare_with_bill(self.ledger, self._settling, sync, names, start, end)

    async def delete_voice_for(self, sync: AsyncSync, id: str, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a voice that the ledger may know: what it cost stays spent.

        Raises:
            LedgerError: the ledger cannot be read, and nothing was deleted; or it cannot be written.
            SyncError: as of a delete without a guard.
        """
        entry = await self._maker_of(sync, id)
        await delete()
        if entry is not None and entry.generation_id == id:
            now = instant(sync).seconds
            await do_in_thread(partial(self.ledger.delete_job, entry.id, generation_id=id, now=now))

    async def explain_missing(
        self, sync: AsyncSync, generation_id: str, kind: str = FIRST_KIND
    ) -> NotVisibleYet | None:
        """Return what the ledger says of this account's job of a kind that the API does not show, if any."""
        entry = await self._maker_of(sync, generation_id)
        if entry is None or entry.kind != kind or entry.state in ("deleted", "refused"):
            return None
        return not_visible(entry, instant(sync).seconds) if await self._is_own(sync, entry) else None

    async def find_entries(self, sync: AsyncSync, jobs: Sequence[Generation]) -> Mapping[str, Entry]:
        """Return the ledger's entries of these jobs, where it knows them, with their costs as far as told."""
        if not jobs or not self.ledger.exists():
            return {}
        ids = [job.id for job in jobs]
        known = await do_in_thread(self.ledger.makers_of, ids, sync.base_url)
        shown = [(known[job.id], job) for job in jobs if job.finished and job.id in known]
        if any(entry.cost_usd is None or contradicts(entry, job) for entry, job in shown):
            account, options = (
                await self._accounts.get(sync),
                RequestOptions(timeout_in_seconds=SETTLE_SECONDS),
            )
            await self._settling.settle_account(sync, account, options)
            known = await do_in_thread(self.ledger.makers_of, ids, sync.base_url)
            shown = [(known[job.id], job) for _, job in shown if job.id in known]
            contradicted = [(entry, job) for entry, job in shown if contradicts(entry, job)]
            if contradicted:
                await self._settling.settle_contradicted(sync, account, contradicted, options)
                known = await do_in_thread(self.ledger.makers_of, ids, sync.base_url)
        return known

    async def note_saved(self, sync: AsyncSync, generation_id: str, path: str) -> None:
        """Note where a job's result was saved, where the ledger knows the job."""
        if self.ledger.exists():
            await do_in_thread(self.ledger.note_saved, generation_id, sync.base_url, path)

    async def note_asset(self, sync: AsyncSync, job_id: str, name: str, asset_id: str) -> None:
        """Note under a name which asset a job's result was kept as, where the ledger knows the job."""
        if self.ledger.exists():
            await do_in_thread(self.ledger.note_asset, job_id, sync.base_url, name, asset_id)

    async def settle_failure(self, sync: AsyncSync, job: Job) -> Entry | None:
        """Write down how a job without a result ended, where the ledger knows it; return its entry then."""
        entry = await self._maker_of(sync, job.id)
        if entry is None or entry.generation_id != job.id or not job.finished:
            return entry
        account = await self._accounts.get(sync)
        options = RequestOptions(timeout_in_seconds=SETTLE_SECONDS)
        await self._settling.settle_failure(sync, account, entry, job, options)
        return await do_in_thread(self.ledger.entry, entry.id)

    async def find_costs(self, sync: AsyncSync, jobs: Sequence[Generation]) -> Mapping[str, Cost]:
        """Return what finished jobs did cost that the ledger does not know, by their ids.

        Those are missing of which the API tells nothing now. Nothing is written down.
        """
        remembered = self._final_costs.find(sync, jobs)
        finished = [job for job in jobs if job.finished and job.id not in remembered]
        if not finished:
            return remembered
        own = self._accounts.recall(sync)
        if any(job.status != COMPLETED for job in finished):
            # Whether a failure was charged decides what is done next.
            await self._settling.await_turn(own, math.inf)
        options = RequestOptions(timeout_in_seconds=SETTLE_SECONDS)
        account = self._settling.account_of(own)
        costs = await find_costs(account, sync, finished, instant(sync), options)
        self._final_costs.note(sync, finished, costs)
        return remembered | costs

    async def account(self, sync: AsyncSync) -> Account:
        """Return whose money the client's key spends; the API is asked once for each key.

        Raises:
            SyncError: it is not known yet, and the API cannot tell it now.
        """
        return await self._accounts.get(sync)

    async def spending(self, sync: AsyncSync, *, seconds: float = math.inf) -> Spending:
        """Return what has been spent by all accounts of the ledger, after asking what has ended.

        What the API does not tell within `seconds` counts as it stands in the ledger.
        """
        known = await do_in_thread(self.ledger.account_of, sync.key_fingerprint, sync.base_url)
        is_sandbox = known is not None and known[1]
        with anyio.move_on_after(seconds):
            account = await self._accounts.get(sync)
            is_sandbox = account.is_sandbox
            # Who asks for the sum is told what is known of it by now; the requests a second bound that too.
            options: RequestOptions = {"timeout_in_seconds": LOOK_SECONDS}
            await self._settling.settle_account(sync, account, options, is_due=True)
        is_sandbox = is_sandbox or sync.sandboxed
        return await do_in_thread(partial(self.ledger.spending, is_sandbox=is_sandbox, now=instant(sync)))

    async def sum_unasked(self, sync: AsyncSync) -> Decimal:
        """Return what was paid within a day without anybody's consent."""
        account = await self._accounts.get(sync)
        is_sandbox = account.is_sandbox or sync.sandboxed
        return await do_in_thread(partial(self.ledger.sum_unasked, is_sandbox=is_sandbox, now=instant(sync)))

    async def list_unresolved(self, sync: AsyncSync) -> list[Entry]:
        """Return the attempts of unknown outcome, newest first; nothing is asked of the API.

        Where there is no ledger yet, none is made.
        """
        if not self.ledger.exists():
            return []
        known = await do_in_thread(self.ledger.account_of, sync.key_fingerprint, sync.base_url)
        names = {f"key:{sync.key_fingerprint}", *([known[0]] if known else [])}
        return await do_in_thread(self.ledger.list_unresolved, names, sync.base_url)

    async def _maker_of(self, sync: AsyncSync, generation_id: str) -> Entry | None:
        """Return the attempt that made a job, where there is a ledger and it knows the job."""
        if not self.ledger.exists():
            return None
        return await do_in_thread(self.ledger.maker_of, generation_id, sync.base_url)

    async def _is_own(self, sync: AsyncSync, entry: Entry) -> bool:
        """Return whether an attempt is of the client's account; not where that cannot be told now."""
        if entry.account == f"key:{sync.key_fingerprint}":
            return True
        try:
            return entry.account == (await self._accounts.get(sync)).name
        except SyncError:
            return False

    async def _open(self, call: PaidCall[JobT]) -> PaidCall[JobT]:
        """Return a call with all that the guard knows: whose money it is, who pays, and the limits.

        Raises:
            SyncError: it cannot be sent as it is, or whose money it is cannot be told now.
        """
        given = dict(call.options)
        if "idempotency_key" in given:
            raise InvalidRequestError(
                "With a guard the idempotency key follows from the request: leave it out."
            )
        if call.files is None:
            call.act.check_is_sendable()
        more = cast(Mapping[str, object], given.pop("additional_body_parameters", {}))
        account = await call.look_patiently(
            lambda: self._accounts.get(call.sync, call.options, seconds=call.seconds_left)
        )
        return replace(
            call,
            act=call.act.with_body_parameters(more) if more else call.act,
            options=cast(RequestOptions, given),
            account=account,
            # Who went away from an earlier create of the same call did not go away from this one.
            gone=anyio.Event(),
            owner=self._owner,
            limits=self._limits,
        )
