"""The paid create: sent until its outcome is known, and never under a second key.

Every answer falls into one of three. *Not sent*: the API has not seen the request. *Refused*: the API
said no in its own JSON, and nothing was made. *Unknown*: anything else; the job may exist. After an
unknown the API's own list is searched before the same request goes out again under the same key, and it goes
out again only where the whole list shows no job that may be this one, and has had the time to show it: who
knows that the API keeps the key need not wait for that. Where the API named a job, and does not
show it, the list says nothing: then nothing goes out again unless the user agreed to it.
"""

import logging
import math
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import quote

import anyio
from pydantic import ValidationError

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.listing import Reading
from sync_mcp.api.matching import Likeness, Verdict, compare
from sync_mcp.api.models import Generation, GenerationRequest, Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.replies import Reply
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConcurrencyLimitError,
    ConflictError,
    DoubtReason,
    InvalidRequestError,
    NotSent,
    OutcomeUnknown,
    RateLimitError,
    RequestRejectedError,
    SyncError,
    is_unknown_id,
)
from sync_mcp.texts import plain_id, safe

logger = logging.getLogger("sync_mcp.api")

IDEMPOTENCY_HEADER = "Idempotency-Key"
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
LISTED_WITHIN_SECONDS = 60.0
"""How long after a send its job may be missing in the API's list: half of that it may be on its way, and the
list may lag behind for as long."""
_LOOK_BACK = timedelta(hours=1)
_TWIN_LOOK_BACK = timedelta(minutes=2)
_CLOCK_TOLERANCE = timedelta(seconds=2)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_SENDS = 2
"""In one call: what two sends under one key did not bring about, a third would not."""
_PAGE = 100
_PAGES_SEARCHED = 100
"""Of a busy account, whose pages may be short."""
_PAGES_SEARCHED_OF_ANY_AGE = 5
"""Where the job may be as old as the account, there is no end to come to."""
_PAGE_TRIES = 2
_PAGE_PAUSE_SECONDS = 0.5
_PAGES_THAT_SHIFT = 3
"""After so many pages the first one may have changed."""
_ATTEMPT_SECONDS = 30.0
_SEARCH_SECONDS = 8.0
_LAST_SECONDS = 1.0
_REMEMBERED = 10_000
_ID_SHOWN = 128


Claim = Literal["mine", "another's", "unclear"]
Step = Literal["sends", "made nothing", "looks"]
"""What happens to an attempt: it is about to be sent; that send made nothing; it is looked for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A create as somebody keeps book of it, beyond this process.

    Attributes:
        idempotency_key: what it is sent under, each time.
        sent_at: when it was first sent, by the API's clock; None where it never was.
        named_id: the job that the API named when its outcome was unknown.
        may_send: is asked before each send whether it is still this caller's to send; else it is only looked
            for.
        claim: is asked, before a job of the API's list is taken for this attempt's, whether it can be.
        unsigned: returns JSON without what may differ in a repeat, such as the signature of a link: without
            it the repeat would not know the job that the first call made.
        knows: is asked which of these jobs the book knows as those of other attempts.
        resend_despite_named: whether the user agreed that it goes out again, under its key, although the API
            named a job that it does not show.
        last_sent_at: when it last went out, by the API's clock; None where that is not kept.
        tell: is told each step of it, before it is taken.
        is_repeat: whether it goes out under the key of a job that was made and that nobody sees: then a 409
            says that nothing was made by it.
    """

    idempotency_key: str
    claim: Callable[[str], Awaitable[Claim]]
    sent_at: datetime | None = None
    named_id: str | None = None
    may_send: Callable[[], Awaitable[bool]] | None = None
    unsigned: Callable[[object], object] | None = None
    knows: Callable[[Sequence[str]], Awaitable[Collection[str]]] | None = None
    resend_despite_named: bool = False
    last_sent_at: datetime | None = None
    tell: Callable[[Step], Awaitable[None]] | None = None
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class _Search:
    """What a search brought: the job, or the reason why it did not."""

    found: Generation | None = None
    reason: DoubtReason = "not_found"
    failure: str = ""
    """Why the API could not be asked."""
    maybe_ids: Sequence[str] = ()


def new_idempotency_key() -> str:
    """Return a key that no other create has."""
    return f"sync-mcp-{uuid.uuid4()}"


def take_idempotency_key(options: RequestOptions) -> tuple[str, RequestOptions]:
    """Return the create's one key, the caller's or a new one, and the options without it.

    Raises:
        InvalidRequestError: two different keys, or one that the API would refuse.
    """
    headers = dict(options.get("additional_headers", {}))
    given = [str(headers.pop(name)) for name in list(headers) if name.lower() == IDEMPOTENCY_HEADER.lower()]
    own = options.get("idempotency_key")
    if own is not None:
        given.append(own)
    if len(set(given)) > 1:
        raise InvalidRequestError("request_options names two different idempotency keys: keep one.")
    key = given[0] if given else new_idempotency_key()
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequestError("An idempotency key has 1 to 128 letters, digits and . _ ~ -")
    rest: RequestOptions = {**options, "additional_headers": headers}
    rest.pop("idempotency_key", None)
    return key, rest


class Creator:
    """Makes creates over one transport, and remembers which jobs they made."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # A job found in the list belongs to the create that made it, never to a second one like it.
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        # By key, the creates that ended in doubt: a repeat starts with a search.
        self._unresolved: OrderedDict[str, _Create] = OrderedDict()
        self._unanswered: list[_Create] = []
        self._answered = anyio.Event()
        self._kept_seconds = 0.0

    async def create(self, request: GenerationRequest, options: RequestOptions | None) -> Generation:
        """Send `request` and return the job that it made.

        Raises:
            APIConnectionError: nothing was sent.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and the budget ended before the outcome was known.
        """
        key, rest = take_idempotency_key(options or RequestOptions())
        earlier = self._unresolved.get(key)
        since = earlier.first_sent_at if earlier else None
        create = _Create(self, self._transport, request.to_wire(), key, rest, since)
        if earlier is not None:
            create.learn_from(earlier)
        return await self._finish(create)

    async def create_as(self, attempt: Attempt, body: Json, options: RequestOptions | None) -> Generation:
        """Make a create of this JSON that is kept book of; one that was sent before is looked for first.

        Raises:
            SyncError: as `create`.
        """
        key = attempt.idempotency_key
        _, rest = take_idempotency_key({**(options or RequestOptions()), "idempotency_key": key})
        create = _Create(self, self._transport, body, key, rest, attempt.sent_at, attempt)
        return await self._finish(create)

    async def _finish(self, create: "_Create") -> Generation:
        key = create.key
        try:
            generation = await create.run()
        except BaseException as error:
            if isinstance(error, SyncError) and not isinstance(error, OutcomeUnknown):
                self._unresolved.pop(key, None)
            else:
                # One that was cancelled on its way is in doubt too.
                self._unresolved[key] = create
                _forget_oldest(self._unresolved)
            raise
        self._unresolved.pop(key, None)
        shown = safe(generation.id, _ID_SHOWN)
        logger.info("create key=%s accepted as generation %s%s", key, shown, self._mark())
        return generation

    @contextmanager
    def awaiting(self, create: "_Create") -> Generator[None]:
        """Note that an answer to `create` is on its way."""
        self._unanswered.append(create)
        try:
            yield
        finally:
            self._unanswered.remove(create)
            self._answered.set()
            self._answered = anyio.Event()

    async def settled(self, generation: Generation, create: "_Create", seconds: float) -> bool:
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

    def owned_by_another(self, generation_id: str, key: str) -> bool:
        """Whether another create made this job."""
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
        """Whether the API has shown that it knows a key again after so long a time."""
        return 0 < self._kept_seconds >= seconds

    def note_kept(self, seconds: float) -> None:
        """Note that the API knew a key again that it had seen so long before."""
        self._kept_seconds = max(self._kept_seconds, seconds - _CLOCK_TOLERANCE.total_seconds())

    def _mark(self) -> str:
        return " (SANDBOX)" if self._transport.sandboxed else ""


@dataclass(frozen=True, slots=True)
class _Owner:
    """The create that made a job, and since when that is known, by the API's clock."""

    key: str
    since: datetime


class _Create:
    """One create on its way."""

    def __init__(
        self,
        creator: Creator,
        transport: Transport,
        body: Json,
        key: str,
        options: RequestOptions,
        in_doubt_since: datetime | None,
        attempt: Attempt | None = None,
    ) -> None:
        self._creator = creator
        self._transport = transport
        self._options = options
        self._budget = transport.budget(options)
        self.key = key
        # With what the caller added to it: that is what goes out, and what the API's list shows.
        self.body = {**body, **options.get("additional_body_parameters", {})}
        self._call = Call("POST", "/v2/generate", body=body, headers={IDEMPOTENCY_HEADER: key})
        self.first_sent_at = in_doubt_since or transport.api_time
        self._in_doubt = in_doubt_since is not None
        if self._in_doubt:
            # The first send of this call is no repeat of its own.
            self._budget.retries_left += 1
        self._attempt = attempt
        self._named_id = attempt.named_id if attempt else None
        self._resend_despite_named = attempt is not None and attempt.resend_despite_named
        self._is_resumed = attempt is not None and attempt.sent_at is not None
        # Where the API has told no time yet, it is found out when the list is read.
        self._has_apis_time = self._is_resumed or (in_doubt_since is None and transport.has_heard_time)
        self._was_received = False
        self._api_is_ahead = timedelta(0)
        self._sends = 0
        self._sent_at: float | None = None
        """When it last went out in this process, on the machine's clock that is never set."""
        self._maybes: dict[str, Generation] = {}
        """Jobs that may be this one's, of all searches: a list may leave out what it showed before."""

    @property
    def is_booked(self) -> bool:
        """Whether somebody keeps book of it."""
        return self._attempt is not None

    def learn_from(self, earlier: "_Create") -> None:
        """Take over what an earlier call under this key found out."""
        self._named_id = earlier._named_id
        self._was_received = earlier._was_received
        self._has_apis_time = earlier._has_apis_time
        self._sent_at = earlier._sent_at
        self._maybes = dict(earlier._maybes)

    async def run(self) -> Generation:
        logger.info("create key=%s model=%s sending", self.key, self.body.get("model"))
        if self._in_doubt:
            if not await self._may_send():
                self._budget.retries_left = 0
            found = await self._find_or_pause(APITimeoutError("An earlier send was not clearly answered."))
            if found is not None:
                return found
        while True:
            was_in_doubt = self._in_doubt
            try:
                return await self._send()
            except SyncError as error:
                failure = error
            if isinstance(failure, ConflictError) and not was_in_doubt:
                # Its key was used before, by whom and when only the API knows.
                self._was_received = True
            if self._in_doubt:
                logger.warning("create key=%s outcome unknown: %s", self.key, failure)
                if _is_refusal(failure) and not isinstance(failure, RateLimitError | ConcurrencyLimitError):
                    # It would be refused again under this key.
                    self._budget.retries_left = 0
                found = await self._find_or_pause(failure)
                if found is not None:
                    return found
            elif not isinstance(failure, APIConnectionError) or not await self._budget.pause():
                raise failure

    async def _send(self) -> Generation:
        if not await self._may_send():
            self._budget.retries_left = 0
            raise NotSent("It may not be sent any more by this call.")
        await self._tell("sends")
        left = self._budget.seconds_left
        # From here on the API may have it, even if the call is cancelled on the way.
        self._sends += 1
        before, since = self._sent_at, self._seconds_since_send
        self._sent_at = time.monotonic()
        try:
            with self._creator.awaiting(self):
                reply = await self._transport.attempt(
                    self._call,
                    self._budget,
                    self._options,
                    # A create in doubt needs time for a look at the list.
                    attempt_seconds=min(_ATTEMPT_SECONDS, max(left - _SEARCH_SECONDS, left / 2)),
                )
        except APIConnectionError:
            self._sends -= 1
            self._sent_at = before
            await self._tell("made nothing")
            raise
        except (APITimeoutError, APIResponseError):
            self._in_doubt = True
            raise
        try:
            return self._accepted(reply, since)
        except APIStatusError as error:
            if _is_refusal(error):
                self._sent_at = before
                await self._tell("made nothing")
            raise

    async def _tell(self, step: Step) -> None:
        if self._attempt is not None and self._attempt.tell is not None:
            await self._attempt.tell(step)

    async def _may_send(self) -> bool:
        hook = self._attempt.may_send if self._attempt else None
        return hook is None or await hook()

    def _accepted(self, reply: Reply, since_last_send: float) -> Generation:
        body = reply.fields
        if reply.ok and body:
            try:
                generation = Generation.from_wire(body)
            except ValidationError:
                pass
            else:
                if plain_id(generation.id):
                    if generation.id == self._named_id:
                        self._creator.note_kept(since_last_send)
                    self._creator.note_kept(self._creator.seconds_since_made(generation.id, self.key))
                    self._creator.claim(generation.id, self.key)
                    return generation
            self._in_doubt = True
            self._note_named(body.get("generationId"))
            self._note_named(body.get("id"))
            raise APIResponseError(
                f"The API's answer to the create (HTTP {reply.status}) is no generation.", status=reply.status
            )
        error = self._transport.error_from(reply)
        if _is_refusal(error) and not _is_the_apis_own(reply):
            # A gateway says so too, of a request that went through it.
            error = APIResponseError(
                f"HTTP {reply.status} is not the API's own refusal.", status=reply.status
            )
        if self._in_doubt and _knows_the_key(error) and _is_the_apis_own(reply):
            self._creator.note_kept(since_last_send)
        is_repeat = self._attempt is not None and self._attempt.is_repeat
        if is_repeat and is_of_the_key(error) and _is_the_apis_own(reply):
            # Whose key it is, is known: nothing was made by this send.
            raise error
        if not _is_refusal(error):
            self._in_doubt = True
            self._note_named(body.get("generationId"))
        # A refusal of a repeat says nothing about the attempt before it: the doubt stays.
        raise error

    def _note_named(self, named: object) -> None:
        """Note the job that an answer of unknown outcome names, in whatever form of an id."""
        if isinstance(named, str) and named:
            self._named_id = named
            # The user agreed to one more send after another answer.
            self._resend_despite_named = False

    async def _find_or_pause(self, failure: SyncError) -> Generation | None:
        """Return the job that was made after all, or None when the same request may go out again."""
        search = await self._search()
        while search.found is None:
            if not await self._budget.pause(failure.retry_after_seconds):
                raise self._unknown(failure, search) from failure
            # Looked for once more: it may have come into the list during the pause.
            search = await self._search()
            may_repeat = self._sends < _SENDS and self._seconds_to_wait <= 0
            if search.found is None and search.reason == "not_found" and may_repeat:
                return None
        return search.found

    @property
    def _seconds_since_send(self) -> float:
        """How long ago it last went out, for all that is known."""
        if self._sent_at is not None:
            return time.monotonic() - self._sent_at
        kept = self._attempt.last_sent_at if self._attempt else None
        return (self._transport.api_time - (kept or self.first_sent_at)).total_seconds()

    @property
    def _seconds_to_wait(self) -> float:
        """How long the list may still come to show the job of the last send; 0 where the key is kept."""
        age = (self._transport.api_time - self._sent_by_the_apis_clock).total_seconds()
        if self._creator.keeps_keys_for(age):
            return 0.0
        return max(0.0, min(LISTED_WITHIN_SECONDS, LISTED_WITHIN_SECONDS - self._seconds_since_send))

    def _unknown(self, failure: SyncError, search: _Search) -> OutcomeUnknown:
        is_missing = search.reason == "not_found"
        used_up = is_missing and self._sends >= _SENDS
        wait = self._seconds_to_wait if is_missing else 0.0
        # The API tells its time in whole seconds: the call that comes then must not be early.
        seconds = math.ceil(wait) + 1 if wait else 0
        return OutcomeUnknown(
            failure.message,
            idempotency_key=self.key,
            sent_at=self.first_sent_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            generation_id=self._named_id,
            advice=failure.next_step if _is_refusal(failure) else "",
            reason="sends_used_up" if used_up else search.reason,
            maybe_ids=search.maybe_ids,
            search_failure=search.failure,
            retry_after_seconds=seconds or None,
            api_code=failure.api_code,
            api_says=failure.api_says,
        )

    # The search

    async def _search(self) -> _Search:
        """Look for the job by the name that the API gave it, and in the API's list."""
        await self._tell("looks")
        failure = ""
        named: Generation | DoubtReason | None = None
        try:
            named = await self._named()
            found = named if isinstance(named, Generation) else await self._listed()
            if found is not None:
                self._creator.claim(found.id, self.key)
                return _Search(found)
        except SyncError as error:
            logger.warning("create key=%s: the job cannot be searched for: %s", self.key, error)
            failure = error.message
        maybe_ids = await self._maybe_ids()
        if isinstance(named, str) and not self._resend_despite_named:
            return _Search(reason=named, maybe_ids=maybe_ids)
        if maybe_ids:
            return _Search(reason="maybe_seen", maybe_ids=maybe_ids)
        return _Search(reason="list_unreadable" if failure else "not_found", failure=failure)

    async def _named(self) -> "Generation | DoubtReason | None":
        """Return the job that the API named, or why it is not taken; None where it named none."""
        if self._named_id is None:
            return None
        if not plain_id(self._named_id):
            return "named_not_visible"
        reply = await self._ask(f"/v2/generate/{quote(self._named_id, safe='')}", {})
        if is_unknown_id(reply.status):
            return "named_not_visible"
        found = Generation.list_from_wire([reply.data]) if reply.ok else []
        if not found:
            raise self._transport.error_from(reply)
        job = found[0]
        if job.id != self._named_id:
            raise APIResponseError("The API was asked for one generation and shows another.")
        claim = await self._claim_in_book(job) if self.match(job) != "no" else "another's"
        if claim == "unclear":
            self._maybes[job.id] = job
            return "maybe_seen"
        return job if claim == "mine" else "named_is_anothers"

    async def _listed(self) -> Generation | None:
        """Return the job where the API's list shows it; what may be it is noted.

        Raises:
            SyncError: the list cannot be read as far as the job may stand in it.
        """
        reading = Reading()
        is_readable = True
        while reading.state == "goes on":
            if reading.pages >= self._most_pages:
                raise APIResponseError(f"The API's list goes on after {reading.pages} pages.")
            page, length = await self._next_page(reading)
            is_readable = is_readable and len(page) == length
            found = await self._own_of(reading.add(page, self._earliest))
            if found is not None:
                return found
        if not is_readable:
            raise APIResponseError("The API's list has an entry that cannot be read.")
        if reading.state == "stuck" and await self._count() != reading.length:
            raise APIResponseError("The API's list repeats itself, and has more jobs than it shows.")
        if reading.pages >= _PAGES_THAT_SHIFT:
            page, _ = await self._page({})
            return await self._own_of(reading.add(page, self._earliest))
        return None

    async def _own_of(self, jobs: Sequence[Generation]) -> Generation | None:
        """Return which of these jobs this create made; note those that it may have made."""
        for generation in jobs:
            verdict = self.match(generation)
            claim = await self._claim(generation) if verdict == "yes" else "unclear"
            if verdict == "no" or claim == "another's":
                self._maybes.pop(generation.id, None)
            elif claim == "mine":
                return generation
            else:
                self._maybes[generation.id] = generation
        return None

    async def _claim(self, generation: Generation) -> Claim:
        """Return whose job it is that looks like this create's."""
        patience = self._budget.seconds_left - _LAST_SECONDS
        if not await self._creator.settled(generation, self, patience):
            return "unclear"
        if self.match(generation) == "no":
            # It was that of another, as its answer told.
            return "another's"
        return await self._claim_in_book(generation)

    async def _claim_in_book(self, generation: Generation) -> Claim:
        return await self._attempt.claim(generation.id) if self._attempt else "mine"

    async def _maybe_ids(self) -> Sequence[str]:
        """Return the jobs seen that may be this one's, as far as nobody knows whose they are."""
        ids = [name for name, job in self._maybes.items() if self.match(job) != "no"]
        if not ids or self._attempt is None or self._attempt.knows is None:
            return ids
        try:
            known = await self._attempt.knows(ids)
        except SyncError as error:
            logger.warning("create key=%s: the book cannot be asked: %s", self.key, error)
            return ids
        return [name for name in ids if name not in known]

    async def _next_page(self, reading: Reading) -> tuple[list[Generation], int]:
        query = {"cursor": reading.cursor} if reading.cursor else {}
        # What was read before would have to be read again: a later page is worth some tries.
        for _ in range(_PAGE_TRIES if reading.pages else 0):
            try:
                return await self._page(query)
            except SyncError as error:
                seconds = error.retry_after_seconds or _PAGE_PAUSE_SECONDS
                if not error.retryable or seconds + _LAST_SECONDS > self._budget.seconds_left:
                    raise
            await anyio.sleep(seconds)
        return await self._page(query)

    async def _page(self, query: Mapping[str, str]) -> tuple[list[Generation], int]:
        """Return a page of the API's list, and how many entries it has, readable or not."""
        reply = await self._ask("/v2/generations", {"limit": str(_PAGE), **query}, is_list=True)
        if not reply.ok or reply.entries is None:
            raise self._transport.error_from(reply)
        told = reply.server_time
        if told is not None:
            # The times in the list are the API's own, and this machine's clock may be wrong.
            self._api_is_ahead = told - datetime.now(UTC)
        return Generation.list_from_wire(reply.entries), len(reply.entries)

    async def _count(self) -> object:
        """Return how many jobs the API says there are."""
        reply = await self._ask("/v2/generations/count", {})
        return reply.fields.get("count") if reply.ok else None

    async def _ask(self, path: str, query: Mapping[str, str], *, is_list: bool = False) -> Reply:
        # The caller's headers too: they may say in which organization the job is made.
        options: RequestOptions = {"additional_headers": self._options.get("additional_headers", {})}
        call = Call("GET", path, query=query, is_list=is_list)
        return await self._transport.attempt(call, self._budget, options, attempt_seconds=_SEARCH_SECONDS)

    # Whose job it is

    @property
    def _most_pages(self) -> int:
        return _PAGES_SEARCHED_OF_ANY_AGE if self._was_received else _PAGES_SEARCHED

    @property
    def _sent_by_the_apis_clock(self) -> datetime:
        if self._was_received:
            return _LONG_AGO + _LOOK_BACK
        return self.first_sent_at + (timedelta(0) if self._has_apis_time else self._api_is_ahead)

    @property
    def _earliest(self) -> datetime:
        return self._sent_by_the_apis_clock - _LOOK_BACK

    def match(self, generation: Generation) -> Verdict:
        """Return whether this is the job that this create made, as far as the API shows it."""
        likeness = self._likeness(generation)
        if likeness == "other" or self._creator.owned_by_another(generation.id, self.key):
            return "no"
        if generation.id == self._named_id:
            return "yes"
        if generation.created_at is not None and generation.created_at < self._earliest:
            return "no"
        # A job of no usable id could never be asked for again.
        if likeness == "possible" or not plain_id(generation.id):
            return "maybe"
        if not _created_since(generation, self._sent_by_the_apis_clock - _CLOCK_TOLERANCE):
            return "maybe"
        # What is kept book of is looked for long after, when others may have asked for what is hidden.
        return "maybe" if likeness == "hidden" and self.is_booked else "yes"

    def may_have_made(self, generation: Generation) -> bool:
        """Return whether this create may be told that the job is its own, while another looks for one."""
        return (
            self._likeness(generation) in ("same", "hidden")
            and _created_since(generation, self._sent_by_the_apis_clock - _TWIN_LOOK_BACK)
            and not self._creator.owned_by_another(generation.id, self.key)
        )

    def _likeness(self, generation: Generation) -> Likeness:
        sent, shown = self.body, generation.to_wire()
        if self._is_resumed:
            # The webhook of the first call holds, and is not known here.
            sent = {name: value for name, value in sent.items() if name != "webhookUrl"}
        unsigned = self._attempt.unsigned if self._attempt else None
        if unsigned is not None:
            sent, shown = cast(Json, unsigned(sent)), cast(Json, unsigned(shown))
        return compare(sent, shown)


def _any_may_have_made(generation: Generation, others: Iterable[_Create], create: _Create) -> bool:
    return any(other.key != create.key and other.may_have_made(generation) for other in others)


def _is_refusal(error: SyncError) -> bool:
    return isinstance(error, APIStatusError) and error.status in _REFUSALS


def _knows_the_key(error: SyncError) -> bool:
    return isinstance(error, ConflictError) and _names_the_key(error)


def is_of_the_key(error: SyncError) -> bool:
    """Return whether a repeat was refused for its key, in whatever status the API says so."""
    return isinstance(error, ConflictError) or (
        isinstance(error, RequestRejectedError) and _names_the_key(error)
    )


def _names_the_key(error: SyncError) -> bool:
    return (error.api_code or "").casefold().startswith("idempotency")


def _is_the_apis_own(reply: Reply) -> bool:
    body = reply.fields
    return body.get("statusCode") == reply.status or any(
        isinstance(body.get(name), str) for name in ("errorCode", "error_code")
    )


def _forget_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)


def _created_since(generation: Generation, moment: datetime) -> bool:
    return generation.created_at is not None and generation.created_at >= moment
