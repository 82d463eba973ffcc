"""Whose job it is: what this process knows of the creates that it sent, and of the jobs that they made."""

import time
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio

from sync_mcp.api.attempt import Attempt
from sync_mcp.api.http import Transport
from sync_mcp.api.kinds import Job, JobKind
from sync_mcp.api.matching import Likeness, Verdict
from sync_mcp.api.models import Json
from sync_mcp.texts import plain_id

_LOOK_BACK = timedelta(hours=1)
_TWIN_LOOK_BACK = timedelta(minutes=2)
_CLOCK_TOLERANCE = timedelta(seconds=2)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Owner:
    """The create that made a job, and since when that is known, by the API's clock."""

    key: str
    since: datetime


class Sought:
    """A create as its job is looked for: what was sent, when, and what the API has told of it since."""

    def __init__(
        self,
        owners: "Owners",
        transport: Transport,
        *,
        kind: JobKind[Job],
        key: str,
        body: Json,
        in_doubt_since: datetime | None,
        attempt: Attempt | None,
    ) -> None:
        self._owners = owners
        self._transport = transport
        self.kind = kind
        self.key = key
        self.body = body
        """What goes out, with what the caller added to it: that is what the API's list shows."""
        self.attempt = attempt
        self.first_sent_at = in_doubt_since or transport.api_time
        self.named_id = attempt.named_id if attempt else None
        """The job that the API named when the outcome was unknown."""
        self.resend_despite_named = attempt is not None and attempt.resend_despite_named
        self._is_resumed = attempt is not None and attempt.sent_at is not None
        # Where the API has told no time yet, it is found out when the list is read.
        self._has_apis_time = self._is_resumed or (in_doubt_since is None and transport.has_heard_time)
        self.was_received = False
        """Whether the API has had its key from somebody else, nobody knows when."""
        self.api_is_ahead = timedelta(0)
        """How far the API's clock is ahead of this machine's, as its list told it."""
        self.sent_at: float | None = None
        """When it last went out in this process, on the machine's clock that is never set."""
        self.maybes: dict[str, Job] = {}
        """Jobs that may be this one's, of all searches: a list may leave out what it showed before."""

    @property
    def is_booked(self) -> bool:
        """Whether somebody keeps book of it."""
        return self.attempt is not None

    def learn_from(self, earlier: "Sought") -> None:
        """Take over what an earlier call under this key found out."""
        self.named_id = earlier.named_id
        self.was_received = earlier.was_received
        self._has_apis_time = earlier._has_apis_time
        self.sent_at = earlier.sent_at
        self.maybes = dict(earlier.maybes)

    def note_named(self, named: object) -> None:
        """Note the job that an answer of unknown outcome names, in whatever form of an id."""
        if isinstance(named, str) and named:
            self.named_id = named
            # The user agreed to one more send after another answer.
            self.resend_despite_named = False

    @property
    def seconds_since_send(self) -> float:
        """How long ago it last went out, for all that is known."""
        if self.sent_at is not None:
            return time.monotonic() - self.sent_at
        kept = self.attempt.last_sent_at if self.attempt else None
        return (self._transport.api_time - (kept or self.first_sent_at)).total_seconds()

    @property
    def sent_by_the_apis_clock(self) -> datetime:
        """When it was first sent, by the API's clock; long ago where the API has had it from another call."""
        if self.was_received:
            return _LONG_AGO + _LOOK_BACK
        return self.first_sent_at + (timedelta(0) if self._has_apis_time else self.api_is_ahead)

    @property
    def earliest(self) -> datetime:
        """What was made before this moment is not its job."""
        return self.sent_by_the_apis_clock - _LOOK_BACK

    def match(self, generation: Job) -> Verdict:
        """Return whether this is the job that this create made, as far as the API shows it."""
        likeness = self._likeness(generation)
        if likeness == "other" or self._owners.is_owned_by_another(generation.id, self.key):
            return "no"
        if generation.id == self.named_id:
            return "yes"
        if generation.created_at is not None and generation.created_at < self.earliest:
            return "no"
        # A job of no usable id could never be asked for again.
        if likeness == "possible" or not plain_id(generation.id):
            return "maybe"
        if not _is_created_since(generation, self.sent_by_the_apis_clock - _CLOCK_TOLERANCE):
            return "maybe"
        # What is kept book of is looked for long after, when others may have asked for what is hidden.
        return "maybe" if likeness == "hidden" and self.is_booked else "yes"

    def may_have_made(self, generation: Job) -> bool:
        """Return whether this create may be told that the job is its own, while another looks for one."""
        return (
            self._likeness(generation) in ("same", "hidden")
            and _is_created_since(generation, self.sent_by_the_apis_clock - _TWIN_LOOK_BACK)
            and not self._owners.is_owned_by_another(generation.id, self.key)
        )

    def _likeness(self, generation: Job) -> Likeness:
        if self.kind.listed is None:
            # It is looked for by its name alone.
            return "same"
        sent, shown = self.body, generation.to_wire()
        if self._is_resumed:
            # The webhook of the first call holds, and is not known here.
            sent = {name: value for name, value in sent.items() if name != "webhookUrl"}
        unsigned = self.attempt.unsigned if self.attempt else None
        if unsigned is not None:
            sent, shown = cast(Json, unsigned(sent)), cast(Json, unsigned(shown))
        return self.kind.listed.compare(sent, shown)


class Owners:
    """Which create made which job, as far as this process has seen it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # A job found in the list belongs to the create that made it, never to a second one like it.
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        # By key, the creates that ended in doubt: a repeat starts with a search.
        self._unresolved: OrderedDict[str, Sought] = OrderedDict()
        self._unanswered: list[Sought] = []
        self._answered = anyio.Event()
        self._kept_seconds = 0.0

    def find_unresolved(self, key: str) -> Sought | None:
        """Return the create under this key that ended in doubt, if any."""
        return self._unresolved.get(key)

    def leave_unresolved(self, create: Sought) -> None:
        """Note that a create ended in doubt."""
        self._unresolved[create.key] = create
        _forget_oldest(self._unresolved)

    def resolve(self, key: str) -> None:
        """Note that it is known what came of the create under this key."""
        self._unresolved.pop(key, None)

    @contextmanager
    def expect_answer(self, create: Sought) -> Generator[None]:
        """Note that an answer to `create` is on its way."""
        self._unanswered.append(create)
        try:
            yield
        finally:
            self._unanswered.remove(create)
            self._answered.set()
            self._answered = anyio.Event()

    async def wait_for_others(self, generation: Job, create: Sought, seconds: float) -> bool:
        """Wait for the answers of other creates that may have made this job; return False if none is to come.

        One that ended in doubt may have made it, and never learn of it; between two that are kept book of,
        the book decides.
        """
        with anyio.move_on_after(seconds):
            while _any_may_have_made(generation, self._unanswered, create):
                await self._answered.wait()
            in_doubt = [
                other for other in self._unresolved.values() if not (other.is_booked and create.is_booked)
            ]
            return not _any_may_have_made(generation, in_doubt, create)
        return False

    def is_owned_by_another(self, generation_id: str, key: str) -> bool:
        """Return whether another create made this job."""
        owner = self._owners.get(generation_id)
        return owner is not None and owner.key != key

    def claim(self, generation_id: str, key: str) -> None:
        """Note that the create under `key` made this job."""
        self._owners.setdefault(generation_id, _Owner(key, self._transport.api_time))
        _forget_oldest(self._owners)

    def seconds_since_made(self, generation_id: str, key: str) -> float:
        """Return how long it has been known that the create under `key` made this job; 0 where it is not."""
        owner = self._owners.get(generation_id)
        if owner is None or owner.key != key:
            return 0.0
        return (self._transport.api_time - owner.since).total_seconds()

    def keeps_keys_for(self, seconds: float) -> bool:
        """Return whether the API has shown that it knows a key again after so long a time."""
        return 0 < self._kept_seconds >= seconds

    def note_kept(self, seconds: float) -> None:
        """Note that the API knew a key again that it had seen so long before."""
        self._kept_seconds = max(self._kept_seconds, seconds - _CLOCK_TOLERANCE.total_seconds())


def _any_may_have_made(generation: Job, others: Iterable[Sought], create: Sought) -> bool:
    return any(
        other.kind is create.kind and other.key != create.key and other.may_have_made(generation)
        for other in others
    )


def _forget_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)


def _is_created_since(generation: Job, moment: datetime) -> bool:
    return generation.created_at is not None and generation.created_at >= moment
