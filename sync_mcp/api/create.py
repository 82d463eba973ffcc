"""The paid create: sent until its outcome is known, and never under a second key.

Every answer falls into one of three. *Not sent*: the API has not seen the request. *Refused*: the API
said no in its own JSON, and nothing was made. *Unknown*: anything else; the job may exist. After an
unknown the API's own list is searched before the same request goes out again under the same key.
"""

import logging
import re
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import quote

import anyio
from pydantic import ValidationError

from sync_mcp.api.models import GENERATION_ID, Generation, GenerationRequest, Json
from sync_mcp.api.transport import Call, Reply, RequestOptions, Transport
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConcurrencyLimitError,
    ConflictError,
    CreateUnderWay,
    InvalidRequestError,
    OutcomeUnknown,
    RateLimitError,
    SyncError,
)
from sync_mcp.text import safe

logger = logging.getLogger("sync_mcp.api")

IDEMPOTENCY_HEADER = "Idempotency-Key"
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_LOOK_BACK = timedelta(minutes=2)
_CLOCK_TOLERANCE = timedelta(seconds=2)
_TELLING = ("options", "segments", "dubParams")
_PAGE = 100
_PAGES_SEARCHED = 5
_PAGES_SEARCHED_LATER = 50
"""For an attempt that a busy account may have made thousands of jobs after."""
_ATTEMPT_SECONDS = 30.0
_SEARCH_SECONDS = 8.0
_LAST_SECONDS = 1.0
_REMEMBERED = 10_000
_ID_SHOWN = 128


Claim = Literal["mine", "another's", "unclear"]


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
    """

    idempotency_key: str
    claim: Callable[[str], Awaitable[Claim]]
    sent_at: datetime | None = None
    named_id: str | None = None
    may_send: Callable[[], Awaitable[bool]] | None = None
    unsigned: Callable[[object], object] | None = None


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
        self._owners: OrderedDict[str, str] = OrderedDict()
        # By key, the creates that ended in doubt: a repeat starts with a search.
        self._unresolved: OrderedDict[str, _Create] = OrderedDict()
        self._unanswered: list[_Create] = []
        self._answered = anyio.Event()

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
        return await self._finish(_Create(self, self._transport, request.to_wire(), key, rest, since))

    async def create_as(
        self, attempt: Attempt, request: GenerationRequest, options: RequestOptions | None
    ) -> Generation:
        """Make a create that is kept book of; one that was sent before is looked for first.

        Raises:
            SyncError: as `create`.
        """
        key = attempt.idempotency_key
        _, rest = take_idempotency_key({**(options or RequestOptions()), "idempotency_key": key})
        create = _Create(self, self._transport, request.to_wire(), key, rest, attempt.sent_at, attempt)
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
        return self._owners.get(generation_id, key) != key

    def claim(self, generation_id: str, key: str) -> None:
        """Note that the create under `key` made this job."""
        self._owners.setdefault(generation_id, key)
        _forget_oldest(self._owners)

    def _mark(self) -> str:
        return " (SANDBOX)" if self._transport.sandboxed else ""


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
        self.first_sent_at = in_doubt_since or datetime.now(UTC)
        self._in_doubt = in_doubt_since is not None
        if self._in_doubt:
            # The first send of this call is no repeat of its own.
            self._budget.retries_left += 1
        self._attempt = attempt
        self._named_id = attempt.named_id if attempt else None
        self._told_by_api = attempt is not None and attempt.sent_at is not None
        self._was_received = False
        self._api_is_ahead = timedelta(0)

    @property
    def is_booked(self) -> bool:
        """Whether somebody keeps book of it."""
        return self._attempt is not None

    async def run(self) -> Generation:
        logger.info("create key=%s model=%s sending", self.key, self.body.get("model"))
        if self._in_doubt:
            if not await self._may_send():
                self._budget.retries_left = 0
            found = await self._find_or_pause(APITimeoutError("An earlier attempt was never answered."))
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
            raise CreateUnderWay("The create is no longer this call's to send.")
        left = self._budget.seconds_left
        try:
            with self._creator.awaiting(self):
                reply = await self._transport.attempt(
                    self._call,
                    self._budget,
                    self._options,
                    # A create in doubt needs time for a look at the list.
                    attempt_seconds=min(_ATTEMPT_SECONDS, max(left - _SEARCH_SECONDS, left / 2)),
                )
        except (APITimeoutError, APIResponseError):
            self._in_doubt = True
            raise
        return self._accepted(reply)

    async def _may_send(self) -> bool:
        hook = self._attempt.may_send if self._attempt else None
        return hook is None or await hook()

    def _accepted(self, reply: Reply) -> Generation:
        body = reply.fields
        if reply.ok and body:
            try:
                generation = Generation.from_wire(body)
            except ValidationError:
                self._named_id = _word(body.get("id")) or self._named_id
            else:
                # By another kind of id it could never be asked for again.
                if GENERATION_ID.fullmatch(generation.id):
                    self._creator.claim(generation.id, self.key)
                    return generation
        error = self._transport.error_from(reply)
        if _is_refusal(error) and not _is_the_apis_own(reply):
            # A gateway says so too, of a request that went through it.
            error = APIResponseError(
                f"HTTP {reply.status} is not the API's own refusal.", status=reply.status
            )
        if not _is_refusal(error):
            self._in_doubt = True
            self._named_id = _word(body.get("generationId")) or self._named_id
        # A refusal of a repeat says nothing about the attempt before it: the doubt stays.
        raise error

    async def _find_or_pause(self, failure: SyncError) -> Generation | None:
        """Return the job that was made after all, or None when the same request may go out again."""
        _, found = await self._search()
        while found is None:
            if not await self._budget.pause(failure.retry_after_seconds):
                raise OutcomeUnknown(
                    failure.message,
                    idempotency_key=self.key,
                    sent_at=self.first_sent_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
                    generation_id=self._named_id,
                    advice=failure.next_step if _is_refusal(failure) else "",
                ) from failure
            # Looked for once more: it may have come into the list during the pause.
            searched, found = await self._search()
            if searched and found is None:
                return None
        return found

    async def _search(self) -> tuple[bool, Generation | None]:
        """Look for the job; the first value says whether the API's list could be read to its end."""
        try:
            named = await self._named()
            if named is not None:
                self._creator.claim(named.id, self.key)
                return True, named
            cursor: dict[str, str] = {}
            for _ in range(self._most_pages):
                page, length = await self._page({"limit": str(_PAGE), **cursor})
                for generation in page:
                    matches = self.match(generation)
                    if matches == "no" or (matches == "maybe" and self._attempt is not None):
                        # What is kept book of goes out again under its key, and the API knows what is whose.
                        continue
                    patience = self._budget.seconds_left - _LAST_SECONDS
                    if matches == "maybe" or not await self._creator.settled(generation, self, patience):
                        return False, None
                    if self.match(generation) == "no":
                        # It was that of another, as its answer told.
                        continue
                    claim = await self._attempt.claim(generation.id) if self._attempt else "mine"
                    if claim == "another's":
                        continue
                    if claim == "unclear":
                        return False, None
                    self._creator.claim(generation.id, self.key)
                    return True, generation
                if len(page) < length:
                    # What cannot be read may be the job.
                    return False, None
                if length < _PAGE or not _created_since(page[-1], self._earliest):
                    return True, None
                cursor = {"cursor": page[-1].id}
            return False, None
        except SyncError as error:
            logger.warning("create key=%s: the list cannot be searched: %s", self.key, error)
            return False, None

    async def _named(self) -> Generation | None:
        """Return the job that the API named, where it named one that it knows."""
        if self._named_id is None:
            return None
        reply = await self._ask(f"/v2/generate/{quote(self._named_id, safe='')}", {})
        if reply.status == 404:
            return None
        found = readable_generations([reply.data]) if reply.ok else []
        if not found:
            raise self._transport.error_from(reply)
        return found[0]

    async def _page(self, query: Mapping[str, str]) -> tuple[list[Generation], int]:
        """Return a page of the API's list, and how many entries it has, readable or not."""
        reply = await self._ask("/v2/generations", query)
        if not reply.ok or reply.entries is None:
            raise self._transport.error_from(reply)
        told = reply.server_time
        if told is not None:
            # The times in the list are the API's own, and this machine's clock may be wrong.
            self._api_is_ahead = told - datetime.now(UTC)
        return readable_generations(reply.entries), len(reply.entries)

    async def _ask(self, path: str, query: Mapping[str, str]) -> Reply:
        # The caller's headers too: they may say in which organization the job is made.
        options: RequestOptions = {"additional_headers": self._options.get("additional_headers", {})}
        call = Call("GET", path, query=query)
        return await self._transport.attempt(call, self._budget, options, attempt_seconds=_SEARCH_SECONDS)

    @property
    def _most_pages(self) -> int:
        # Where it may be of any age, there is no end to come to.
        goes_on = self._attempt is not None and not self._was_received
        return _PAGES_SEARCHED_LATER if goes_on else _PAGES_SEARCHED

    @property
    def _earliest(self) -> datetime:
        if self._was_received:
            return datetime.min.replace(tzinfo=UTC) + _LOOK_BACK
        ahead = timedelta(0) if self._told_by_api else self._api_is_ahead
        return self.first_sent_at + ahead - _LOOK_BACK

    def match(self, generation: Generation) -> Literal["yes", "maybe", "no"]:
        """Return whether this is the job that this create made, as far as the API shows it."""
        shown = generation.to_wire()
        if not (
            _created_since(generation, self._earliest)
            and shown.get("model") == self.body.get("model")
            and _same_input(self.body.get("input"), shown.get("input"))
            and self._agrees(shown)
            and not self._creator.owned_by_another(generation.id, self.key)
        ):
            return "no"
        # Of an earlier one, what the API does not show decides, such as the language of a dub.
        hidden = any(self.body.get(name) and not shown.get(name) for name in _TELLING)
        earlier = not _created_since(generation, self._earliest + _LOOK_BACK - _CLOCK_TOLERANCE)
        return "maybe" if hidden and (earlier or self._attempt is not None) else "yes"

    def _agrees(self, shown: Json) -> bool:
        """Whether nothing that the API shows contradicts what was sent."""
        unsigned = self._attempt.unsigned if self._attempt else None
        return _agrees(unsigned(self.body), unsigned(shown)) if unsigned else _agrees(self.body, shown)


def _any_may_have_made(generation: Generation, others: Iterable[_Create], create: _Create) -> bool:
    return any(other.key != create.key and other.match(generation) != "no" for other in others)


def _is_refusal(error: SyncError) -> bool:
    return isinstance(error, APIStatusError) and error.status in _REFUSALS


def _is_the_apis_own(reply: Reply) -> bool:
    body = reply.fields
    return body.get("statusCode") == reply.status or any(
        isinstance(body.get(name), str) for name in ("errorCode", "error_code")
    )


def _forget_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)


def readable_generations(items: Sequence[object]) -> list[Generation]:
    """Return the generations in an answer, passing over what has no id or status."""
    generations: list[Generation] = []
    for item in items:
        try:
            generations.append(Generation.from_wire(item))
        except ValidationError:
            logger.warning("an entry of the API's list is no generation and was left out")
    return generations


def _created_since(generation: Generation, moment: datetime) -> bool:
    return generation.created_at is not None and generation.created_at >= moment


def _same_input(sent: object, shown: object) -> bool:
    if not (isinstance(sent, list) and isinstance(shown, list)):
        return False
    pairs = list(zip(cast(list[Json], sent), cast(list[Json], shown), strict=False))
    naming = ("url", "assetId", "provider")
    return len(pairs) == len(cast(list[Json], sent)) == len(cast(list[Json], shown)) and all(
        any(name in mine and name in theirs for name in naming) for mine, theirs in pairs
    )


def _agrees(sent: object, shown: object) -> bool:
    """Whether nothing in `shown` contradicts `sent`; what only one of them has does not count."""
    if isinstance(sent, Mapping) and isinstance(shown, Mapping):
        mine, theirs = cast(Mapping[str, object], sent), cast(Mapping[str, object], shown)
        return all(_agrees(mine[name], theirs[name]) for name in mine.keys() & theirs.keys())
    if isinstance(sent, list) and isinstance(shown, list):
        both = cast(list[object], sent), cast(list[object], shown)
        return len(both[0]) == len(both[1]) and all(map(_agrees, *both))
    return sent == shown


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
