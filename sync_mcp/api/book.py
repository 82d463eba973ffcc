"""Books: what is known of the creates that were sent, and whose each job is.

Whose job is this? It is asked of a book, in `claim`, of a job that looks like a create's (`Create.match`),
and the answer is one of three. *Another's*: a create is known to have made it. *Unclear*: none is known to
have, and another create like this one may still be told that it has. *Mine*: neither; the job is taken. An
answer to a create says more than any book: the job that it shows is the create's.

There are two books. `MemoryBook` is what one client remembers of all that it sent. The ledger's book, in
`payments`, is of one attempt; it begins with that memory, and goes on where the memory ends: at other
processes, and at those that have died.
"""

import time
from collections import OrderedDict
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import anyio

from sync_mcp.api.http import Transport
from sync_mcp.api.kinds import Job, JobKind
from sync_mcp.api.matching import Likeness, Verdict
from sync_mcp.api.models import Json
from sync_mcp.api.news import News
from sync_mcp.texts import plain_id

Claim = Literal["mine", "another's", "unclear"]
Step = Literal["sends", "made nothing", "looks"]
"""What happens to a create: it is about to be sent; that send made nothing; it is looked for."""

_LOOK_BACK = timedelta(hours=1)
_TWIN_LOOK_BACK = timedelta(minutes=2)
_CLOCK_TOLERANCE = timedelta(seconds=2)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED = 10_000


class Book(Protocol):
    """What is kept of a create beyond one call: asked before each step of it, and told each."""

    @property
    def is_lasting(self) -> bool:
        """Whether creates are looked for long after.

        By then others may have asked for what a job does not show; and between two such creates the book
        decides, however long one of them has been in doubt.
        """
        ...

    @property
    def repeats_made_job(self) -> bool:
        """Whether the key is of a job that was made and that nobody sees.

        Whose key it is, is known then: a 409 says that nothing was made by this send.
        """
        ...

    def recall(self, kind: JobKind[Job], key: str) -> "Sends | None":
        """Return what is known of earlier sends of unknown outcome under this key, or None for none."""
        ...

    def comparable(self, body: Json) -> Json:
        """Return a body without what may differ in a repeat of the same create."""
        ...

    async def is_permitted(self) -> bool:
        """Return whether the create may go out if it is not found; nothing is changed by asking."""
        ...

    async def permit(self) -> bool:
        """Return whether the create may go out now, which it does then; else it is only looked for."""
        ...

    async def note(self, step: Step) -> None:
        """Note a step before it is taken; one that made nothing, after it."""
        ...

    async def claim(self, create: "Create", job: Job, seconds: float) -> Claim:
        """Return whose job it is that looks like this create's; it may take so many seconds to know."""
        ...

    async def find_others(self, create: "Create", job_ids: Sequence[str]) -> Collection[str]:
        """Return which of these jobs other creates are known to have made.

        Raises:
            SyncError: the book cannot be read.
        """
        ...


@dataclass(slots=True)
class Sends:
    """What is known of the sends of one create, and what the API has told of its job.

    Attributes:
        first_sent_at: when it first went out.
        is_by_the_apis_clock: whether that is by the API's clock, and not by this machine's.
        last_sent_at: when it last went out, by the API's clock; None where that is not kept.
        sent_at: when it last went out in this process, on the machine's clock that is never set.
        named_id: the job that the API named when the outcome was unknown.
        may_go_despite_named: whether the user agreed that it goes out again, under its key, although the API
            named a job that it does not show.
        was_received: whether the API has had its key from somebody else, nobody knows when.
        maybes: jobs that may be this one's, of all searches: a list may leave out what it showed before.
    """

    first_sent_at: datetime
    is_by_the_apis_clock: bool
    last_sent_at: datetime | None = None
    sent_at: float | None = None
    named_id: str | None = None
    may_go_despite_named: bool = False
    was_received: bool = False
    maybes: dict[str, Job] = field(default_factory=dict[str, Job])


class Create:
    """One create as its job is looked for: what was sent, when, and what the API has told of it since.

    Args:
        kind: what it makes.
        key: what it is sent under, each time.
        body: what goes out, with what the caller added to it: that is what the API's list shows.
        book: where it is kept.
        transport: what knows the API's time.
    """

    def __init__(self, kind: JobKind[Job], key: str, body: Json, book: Book, transport: Transport) -> None:
        self.kind = kind
        self.key = key
        self.body = body
        self.book = book
        self._transport = transport
        recalled = book.recall(kind, key)
        self.was_sent = recalled is not None
        """Whether it went out before this call, and what came of it is unknown."""
        # Where the API has told no time yet, it is found out when the list is read.
        self.sends = recalled or Sends(transport.api_time, transport.has_heard_time)
        self.api_is_ahead = timedelta(0)
        """How far the API's clock is ahead of this machine's, as its list told it."""

    def note_named(self, named: object) -> None:
        """Note the job that an answer of unknown outcome names, in whatever form of an id."""
        if isinstance(named, str) and named:
            self.sends.named_id = named
            # The user agreed to one more send after another answer.
            self.sends.may_go_despite_named = False

    @property
    def seconds_since_send(self) -> float:
        """How long ago it last went out, for all that is known."""
        if self.sends.sent_at is not None:
            return time.monotonic() - self.sends.sent_at
        last = self.sends.last_sent_at or self.sends.first_sent_at
        return (self._transport.api_time - last).total_seconds()

    @property
    def sent_by_the_apis_clock(self) -> datetime:
        """When it was first sent, by the API's clock; long ago where the API has had it from another call."""
        if self.sends.was_received:
            return _LONG_AGO + _LOOK_BACK
        ahead = timedelta(0) if self.sends.is_by_the_apis_clock else self.api_is_ahead
        return self.sends.first_sent_at + ahead

    @property
    def earliest(self) -> datetime:
        """What was made before this moment is not its job."""
        return self.sent_by_the_apis_clock - _LOOK_BACK

    def match(self, job: Job) -> Verdict:
        """Return whether this looks like the job that this create made, as far as the API shows it.

        Whose it is then, the book tells.
        """
        likeness = self._likeness(job)
        if likeness == "other":
            return "no"
        if job.id == self.sends.named_id or (likeness == "same" and self._is_told_by_name):
            return "yes"
        if job.created_at is not None and job.created_at < self.earliest:
            return "no"
        # A job of no usable id could never be asked for again.
        if likeness == "possible" or not plain_id(job.id):
            return "maybe"
        if not _is_created_since(job, self.sent_by_the_apis_clock - _CLOCK_TOLERANCE):
            return "maybe"
        return "maybe" if likeness == "hidden" and self.book.is_lasting else "yes"

    def may_have_made(self, job: Job) -> bool:
        """Return whether this create may be told that the job is its own, while another looks for one."""
        return self._likeness(job) in ("same", "hidden") and _is_created_since(
            job, self.sent_by_the_apis_clock - _TWIN_LOOK_BACK
        )

    @property
    def _is_told_by_name(self) -> bool:
        return self.kind.listed is not None and self.kind.listed.is_told_by_name

    def _likeness(self, job: Job) -> Likeness:
        if self.kind.listed is None:
            # It is looked for by the name that the API gave it alone.
            return "same"
        sent, shown = self.book.comparable(self.body), self.book.comparable(job.to_wire())
        return self.kind.listed.compare(sent, shown)


@dataclass(frozen=True, slots=True)
class _Maker:
    """The create that made a job, and since when that is known, by the API's clock."""

    key: str
    since: datetime


class MemoryBook:
    """What one client remembers of its creates: the book of a client alone, and where any other begins."""

    is_lasting = False
    repeats_made_job = False

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # By kind and id, since two kinds may number their jobs alike. A job belongs to the create that made
        # it, never to a second one like it.
        self._makers: OrderedDict[tuple[str, str], _Maker] = OrderedDict()
        # By kind and key, those that ended in doubt: a repeat starts with a search.
        self._in_doubt: OrderedDict[tuple[str, str], Create] = OrderedDict()
        self._unanswered: list[Create] = []
        self._answered = News()
        self._kept_seconds: dict[str, float] = {}

    # As a book

    def recall(self, kind: JobKind[Job], key: str) -> Sends | None:
        """Return what is known of an earlier call under this key that ended in doubt."""
        earlier = self._in_doubt.get((kind.path, key))
        if earlier is None:
            return None
        return replace(earlier.sends, maybes=dict(earlier.sends.maybes))

    def comparable(self, body: Json) -> Json:
        """Return the body as it is: the call that repeats it is the same."""
        return body

    async def is_permitted(self) -> bool:
        """Return True, as `permit` does."""
        return True

    async def permit(self) -> bool:
        """Return True: who calls a client without a guard wants it sent."""
        return True

    async def note(self, step: Step) -> None:
        """Note nothing: what is remembered of a send is its answer, or that there is none."""

    async def claim(self, create: Create, job: Job, seconds: float) -> Claim:
        """Return whose job it is, once those of this client that may have made it are answered.

        One that ended in doubt may have made it, and never learn of it. What the API named for this create
        waits for nobody.
        """
        is_named = job.id == create.sends.named_id
        if not self._is_anothers(create, job.id) and not is_named:
            with anyio.move_on_after(seconds) as patience:
                while self._any_may_have_made(job, self._unanswered, create):
                    await self._answered.wait()
            in_doubt = [
                other
                for other in self._in_doubt.values()
                if not (other.book.is_lasting and create.book.is_lasting)
            ]
            if patience.cancelled_caught or self._any_may_have_made(job, in_doubt, create):
                return "unclear"
        # An answer of those that were waited for may have named it.
        return "another's" if self._is_anothers(create, job.id) else "mine"

    async def find_others(self, create: Create, job_ids: Sequence[str]) -> Collection[str]:
        """Return which of these jobs other creates of this client have made."""
        return [id for id in job_ids if self._is_anothers(create, id)]

    # As a client's memory, whichever book is kept

    @contextmanager
    def expect_answer(self, create: Create) -> Generator[None]:
        """Note that an answer to `create` is on its way."""
        self._unanswered.append(create)
        try:
            yield
        finally:
            self._unanswered.remove(create)
            self._answered.spread()

    def note_answer(self, create: Create, job_id: str, seconds_since_send: float) -> None:
        """Note the job that an answer names as the create's, and what that shows of its key."""
        if job_id == create.sends.named_id:
            self.note_kept(create.kind, seconds_since_send)
        maker = self._makers.get((create.kind.path, job_id))
        if maker is not None and maker.key == create.key:
            self.note_kept(create.kind, (self._transport.api_time - maker.since).total_seconds())
        self.note_made(create, job_id)

    def note_made(self, create: Create, job_id: str) -> None:
        """Note that a create made this job."""
        self._makers.setdefault((create.kind.path, job_id), _Maker(create.key, self._transport.api_time))
        _forget_oldest(self._makers)

    def leave_in_doubt(self, create: Create) -> None:
        """Note that a create ended in doubt."""
        self._in_doubt[create.kind.path, create.key] = create
        _forget_oldest(self._in_doubt)

    def resolve(self, create: Create) -> None:
        """Note that it is known what came of a create."""
        self._in_doubt.pop((create.kind.path, create.key), None)

    def keeps_keys_for(self, kind: JobKind[Job], seconds: float) -> bool:
        """Return whether the API has shown that it knows a key of this kind again after so long a time."""
        return 0 < self._kept_seconds.get(kind.path, 0.0) >= seconds

    def note_kept(self, kind: JobKind[Job], seconds: float) -> None:
        """Note that the API knew a key again that it had seen so long before."""
        shown = seconds - _CLOCK_TOLERANCE.total_seconds()
        self._kept_seconds[kind.path] = max(self._kept_seconds.get(kind.path, 0.0), shown)

    def _is_anothers(self, create: Create, job_id: str) -> bool:
        maker = self._makers.get((create.kind.path, job_id))
        return maker is not None and maker.key != create.key

    def _any_may_have_made(self, job: Job, others: Iterable[Create], create: Create) -> bool:
        return any(
            other.kind is create.kind
            and other.key != create.key
            and other.may_have_made(job)
            and not self._is_anothers(other, job.id)
            for other in others
        )


def _forget_oldest(entries: OrderedDict[Any, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)


def _is_created_since(job: Job, moment: datetime) -> bool:
    return job.created_at is not None and job.created_at >= moment
