"""The ledger as the book of the resolver of doubt: one attempt, whether it may go out, and whose a job is.

It begins with what the client remembers of its creates, and goes on where that ends: at other processes, and
at those that have died.
"""

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

from sync_mcp.api.book import Claim, Create, Sends, Step
from sync_mcp.api.kinds import Job, JobKind
from sync_mcp.api.models import Json
from sync_mcp.background.work import do_in_thread
from sync_mcp.errors import LedgerError, LimitReached
from sync_mcp.payments.acts.act import WEBHOOK, Job as ActJob
from sync_mcp.payments.attempt import Instant, Token
from sync_mcp.payments.call import PaidCall
from sync_mcp.payments.export import hindrance_in_export
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import utc_midnight
from sync_mcp.payments.price import Price
from sync_mcp.payments.rows import RENEWAL_SECONDS, Entry
from sync_mcp.payments.settling import Settling
from sync_mcp.payments.spelling import in_one_spelling
from sync_mcp.payments.usage_export import Hindrance

logger = logging.getLogger("sync_mcp.payments")

LIMIT_NOW = "a limit stands against it by now"
TOO_LATE = "too much time has passed since its first send"
NO_KEY = "the API takes no key with it, so that a second send could be paid too"


class LedgerBook:
    """The ledger's book of one attempt; see `sync_mcp.api.book.Book`.

    Args:
        ledger: where the attempt is written down.
        settling: what is asked for jobs that have finished.
        call: the call that sends it.
        entry: the attempt.
        resend_seconds: how long after its first send it may be sent again.
        is_new: whether this call is the first that sends it.
        obstacle: why it is only looked for, the end of a sentence; None where it may be sent.
        despite_named: whether the user agreed to send it again though the API named its job.
        is_repeat: whether it goes out under the key of a job that was made and that nobody sees.
        token: what this call used to be allowed to send it.
    """

    is_lasting = True

    def __init__(
        self,
        ledger: Ledger,
        settling: Settling,
        call: PaidCall[ActJob],
        entry: Entry,
        resend_seconds: float,
        *,
        is_new: bool,
        obstacle: str | None = None,
        despite_named: bool = False,
        is_repeat: bool = False,
        token: Token | None = None,
    ) -> None:
        self.repeats_made_job = is_repeat
        self.token = token
        self.ledger = ledger
        self.is_new = is_new
        self.entry = entry
        """The attempt, as it stands by what was sent of it."""
        self.went_out = False
        """Whether this call sent it."""
        self.refusal: LimitReached | None = None
        """Which limit stands against the day on which it would be sent."""
        self._settling = settling
        self._memory = call.sync.memory
        self._kind = call.act.kind_of_send
        self._call = call
        self._resend_seconds = resend_seconds
        self._obstacle = obstacle
        self._despite_named = despite_named
        self._renewed_at = time.time()
        self._sent_before = entry.last_sent_at
        self._may_have_arrived = False
        """Whether a send of this call may have made a job."""
        self._has_asked_export = False
        """Whether the export was asked since the last send."""
        self._in_export: Hindrance | None = None

    # What was sent before

    def recall(self, kind: JobKind[Job], key: str) -> Sends | None:  # noqa: ARG002 - it is of one attempt
        """Return what the entry tells of earlier sends; None of an attempt that was just written down."""
        if self.is_new:
            return None
        return Sends(
            datetime.fromtimestamp(self.entry.first_sent_at, UTC),
            is_by_the_apis_clock=True,
            last_sent_at=datetime.fromtimestamp(self.entry.last_sent_at, UTC),
            named_id=self.entry.named_id,
            may_go_despite_named=self._despite_named,
        )

    def comparable(self, body: Json) -> Json:
        """Return a body without the signatures of its links: a repeat by another call has others.

        Nor does a webhook count where an earlier call sent it: the API may show it in a form of its own, and
        a job that is not known again for that would be paid twice.
        """
        if not self.is_new:
            body = {name: value for name, value in body.items() if name != WEBHOOK}
        return cast(Json, in_one_spelling(body))

    # Whether it goes out

    async def is_permitted(self) -> bool:
        """Return whether it may be sent if it is not found: who takes it over has looked at the limits."""
        return await self.hindrance() is None

    async def permit(self) -> bool:
        """Return whether it may be sent now; then its money counts on this day."""
        if await self.hindrance() is not None:
            return False
        # What waited for a slot, or for its repeat, may have waited over midnight.
        self.refusal = await self._move_to_today()
        if self.refusal is not None:
            self._obstacle = LIMIT_NOW
        else:
            self.entry = replace(self.entry, created_at=self._call.now.seconds)
        return self.refusal is None

    async def note(self, step: Step) -> None:
        """Write a step down; the first send of a new attempt was written down with it."""
        if step == "sends":
            self._sent_before = self.entry.last_sent_at
            self.entry = replace(self.entry, last_sent_at=self._call.now.seconds, is_on_its_way=True)
            is_written = self.is_new and not self.went_out
            self.went_out = self._may_have_arrived = True
            # Its job may have finished by the time of a repeat.
            self._has_asked_export = False
            if not is_written:
                await self._write_send()
        elif step == "made nothing":
            self._may_have_arrived = False
            self.entry = replace(self.entry, last_sent_at=self._sent_before)
        elif self.entry.is_on_its_way:
            self.entry = replace(self.entry, is_on_its_way=False)
            try:
                await self._write_send()
            except LedgerError as error:
                # It is taken for one that is on its way, and those like it wait.
                logger.warning("create key=%s: %s", self.entry.idempotency_key, error)

    async def hindrance(self) -> Hindrance | None:
        """Return why the attempt is not sent, or None where it may be."""
        if self._obstacle is not None:
            return Hindrance(self._obstacle)
        if self._call.gone.is_set():
            return Hindrance("nobody waits for it any more")
        # Whoever slept through its lease has lost the attempt to another.
        if not 0 <= time.time() - self._renewed_at < RENEWAL_SECONDS:
            if not await do_in_thread(self.ledger.renew, self.entry.id, self._call.owner):
                return Hindrance("another call goes on with it")
            self._renewed_at = time.time()
        if self.is_new and not self.went_out:
            return None
        if not self._kind.has_keys:
            return Hindrance(NO_KEY) if self._may_have_arrived or not self.is_new else None
        if not self.is_new and is_too_late(self._call.now, self.entry, self._resend_seconds):
            return Hindrance(TOO_LATE)
        # The export backs up a list; where there is none, or the key is kept, a repeat is answered.
        return None if not self._kind.is_exported or self._is_key_kept else await self._hindrance_in_export()

    @property
    def _is_key_kept(self) -> bool:
        """Whether the API has shown that it keeps a key so long: then it answers a repeat with the job."""
        age = self._call.now.seconds - self.entry.first_sent_at
        return self._memory.keeps_keys_for(self._kind, age)

    async def _hindrance_in_export(self) -> Hindrance | None:
        if not self._has_asked_export:
            self._in_export = await hindrance_in_export(self.ledger, self._settling, self._call, self.entry)
            self._has_asked_export = True
        return self._in_export

    async def _move_to_today(self) -> LimitReached | None:
        """Have the attempt count on this day; return which limit forbids that."""
        attempt = self._call.attempt(self.entry.attempt, price=Price(self.entry.estimate_usd))
        if utc_midnight(self.entry.created_at) == utc_midnight(attempt.now.seconds):
            return None
        return await do_in_thread(self.ledger.move_to_today, self.entry.id, attempt)

    async def _write_send(self) -> None:
        """Write down when the attempt last went out, and whether an answer to it is to come."""
        entry = self.entry
        await do_in_thread(
            partial(
                self.ledger.note_send,
                entry.id,
                self._call.owner,
                entry.last_sent_at,
                is_on_its_way=entry.is_on_its_way,
            )
        )

    # Whose a job is

    async def claim(self, create: Create, job: Job, seconds: float) -> Claim:
        """Return whose job it is: as the client remembers, and by all attempts of all processes then."""
        whose = await self._memory.claim(create, job, seconds)
        return await do_in_thread(self.ledger.claim, self.entry.id, job.id) if whose == "mine" else whose

    async def find_others(self, create: Create, job_ids: Sequence[str]) -> Collection[str]:
        """Return which of these jobs other creates of the client, or other attempts, have made.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        known = set(await self._memory.find_others(create, job_ids))
        rest = [id for id in job_ids if id not in known]
        if rest:
            known |= await do_in_thread(self.ledger.find_known_to_others, self.entry.id, rest)
        return known


def is_too_late(now: Instant, entry: Entry, resend_seconds: float) -> bool:
    """Return whether an attempt may not be sent again for its age."""
    return now.seconds - entry.first_sent_at > resend_seconds
