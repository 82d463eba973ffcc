"""Many creates at once: every slot of the account full, each job told when it ends."""

import bisect
import math
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from sync_mcp.api.create_fields import CreateFields, make_request, read_fields
from sync_mcp.api.looks import Looks
from sync_mcp.api.models import Generation, GenerationRequest
from sync_mcp.api.news import News
from sync_mcp.api.options import (
    IDEMPOTENCY_HEADER,
    RequestOptions,
    new_idempotency_key,
    take_idempotency_key,
)
from sync_mcp.api.running import Hold, RunningJobs
from sync_mcp.errors import (
    ConcurrencyLimitError,
    InternalError,
    InvalidRequestError,
    OutcomeUnknown,
    RateLimitError,
    SyncError,
)
from sync_mcp.texts import REASON_LIMIT, safe

_PAUSE_SECONDS = 5.0
"""Between two creates that the API has no room for, where it does not say itself when to come back."""

_GRACE_SECONDS = 10.0
_LONGEST_HOLD_BACK_SECONDS = 2.0
_END = object()

ManyRequest: TypeAlias = CreateFields | GenerationRequest


@dataclass(frozen=True, slots=True)
class CreateOutcome:
    """What came of one of many requests.

    Attributes:
        index: the request's place among all, from 0.
        request: as it was given.
        last_seen: the job as it ended, which may be in failure, or as it was last seen; None where none was
            made, or none is known.
        error: what `create` raised, or what the API said when the job was asked for and could not be read;
            None where the job ended.
    """

    index: int
    request: ManyRequest
    last_seen: Generation | None = None
    error: SyncError | None = None

    @property
    def generation(self) -> Generation:
        """The job, which there always is where `error` is None.

        Raises:
            SyncError: `error`, where no job is known.
        """
        if self.last_seen is not None:
            return self.last_seen
        assert self.error is not None
        raise self.error


@dataclass(frozen=True, slots=True)
class Calls:
    """What the work on many requests needs of the API."""

    create: Callable[[GenerationRequest, int, str | None, RequestOptions], Awaitable[Generation]]
    """Makes this take of a request under this key, or under the guard's."""
    hold: Hold
    looks: Looks
    concurrency: Callable[[], Awaitable[int | None]]
    """The account's own limit, where the API tells it."""


@dataclass(frozen=True, slots=True)
class _Request:
    index: int
    given: ManyRequest
    fields: Mapping[str, Any]
    """Of a request, as `make_request` takes them."""
    take: int
    key: str | None
    """What it is sent under each time; None where a guard has the keys."""
    options: RequestOptions


class CreateMany(AsyncIterator[CreateOutcome]):
    """The outcomes of many creates, in the order in which they are known.

    The work goes on while the next outcome is awaited, and inside `async with` also while the loop's body
    runs. When the iteration is left or cancelled, no further create begins; one on its way has ten seconds to
    be answered, and the jobs that run are left alone: `pending` says which those are. Iterating again goes on
    from there, unless the requests came from an async generator, which a cancellation ends.
    """

    def __init__(
        self,
        calls: Calls,
        requests: Iterable[ManyRequest] | AsyncIterable[ManyRequest],
        concurrency: int | None,
        options: RequestOptions,
        *,
        keyed: bool,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise InvalidRequestError(
                "concurrency must be 1 or more; left out, it is the account's own limit."
            )
        headers = {name.lower() for name in options.get("additional_headers", {})}
        if "idempotency_key" in options or IDEMPOTENCY_HEADER.lower() in headers:
            raise InvalidRequestError(
                "An idempotency key belongs to one request: give it in that one's options."
            )
        self._calls = calls
        self._source = _iterator(requests)
        self._options = options
        self._keyed = keyed
        self._count = 0
        self._pulling = False
        self._exhausted = False
        self._fault: Exception | None = None
        self._waiting: list[_Request] = []
        self._creating: dict[int, anyio.CancelScope] = {}
        self._news = News()
        self._running = RunningJobs(calls.hold, calls.looks, self._end, self._news)
        # More than one where a guard gives the same job for equal requests.
        self._requests_of: dict[str, list[_Request]] = {}
        self._ready: deque[CreateOutcome] = deque()
        # What the caller wants at most, what the API allows at most, and how many slots are believed free for
        # these jobs: the account may have others running.
        self._wanted = math.inf if concurrency is None else concurrency
        self._allowed = math.inf
        self._slots = concurrency or 0
        self._slots_are_known = concurrency is not None
        self._more_slots_at = math.inf
        self._throttled_until = -math.inf
        self._ends = 0
        self._stopping = False
        self._background: TaskGroup | None = None
        self._one_at_a_time = anyio.ResourceGuard("iterating over")

    @property
    def pending(self) -> list[CreateOutcome]:
        """What was begun and is not told yet: jobs that run, as last seen, and outcomes."""
        running = (
            CreateOutcome(request.index, request.given, generation)
            for generation in self._running
            for request in self._requests_of[generation.id]
        )
        return sorted((*running, *self._ready), key=lambda outcome: outcome.index)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CreateOutcome:
        with self._one_at_a_time:
            if self._background is None:
                if not (self._is_finished or self._may_rest()):
                    await self._work(in_background=False)
            else:
                await self._news.until(lambda: bool(self._ready) or self._is_finished)
            await checkpoint()
        if self._ready:
            return self._ready.popleft()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        self._background = anyio.create_task_group()
        await self._background.__aenter__()
        self._background.start_soon(partial(self._work, in_background=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._background = self._background, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        # What the body raised is the body's own, and goes on as it is.
        await tasks.__aexit__(None, None, None)

    async def _work(self, *, in_background: bool) -> None:
        """Create and watch until all is done, or until there is an outcome and nothing to do at once."""
        self._stopping = False
        began_at = anyio.current_time()

        def is_in_haste() -> bool:
            # An outcome does not wait for long, whatever else there is to do.
            return anyio.current_time() - began_at > _LONGEST_HOLD_BACK_SECONDS

        def enough() -> bool:
            return self._is_finished or (not in_background and self._may_rest(hurried=is_in_haste()))

        async with anyio.create_task_group() as tasks:
            try:
                # With an outcome to tell, a long poll would soon be broken off.
                tasks.start_soon(self._running.watch, lambda: in_background or not self._ready)
                while not enough():
                    if self._waiting and not self._slots_are_known:
                        await self._learn_slots()
                        continue
                    if in_background or not self._ready or not is_in_haste():
                        self._fill(tasks)
                    longest = _LONGEST_HOLD_BACK_SECONDS if self._ready else math.inf
                    await self._news.wait(min(self._seconds_to_next_create(), longest))
            finally:
                self._stopping = True
                for scope in self._creating.values():
                    scope.deadline = anyio.current_time() + _GRACE_SECONDS
                tasks.cancel_scope.cancel()

    @property
    def _is_finished(self) -> bool:
        under_way = self._pulling or self._waiting or self._creating or len(self._running)
        return self._exhausted and not under_way

    def _may_rest(self, *, hurried: bool = False) -> bool:
        """Whether there is an outcome to tell, and nothing that has to be done first."""
        if not self._ready or self._creating or self._pulling:
            return False
        soon = self._running.look_is_due or self._running.settling_seconds
        return hurried or not (soon or self._may_create)

    # Creating

    async def _learn_slots(self) -> None:
        told = await self._calls.concurrency()
        self._slots_are_known = True
        self._allowed = told or math.inf
        # Where the API does not tell: one after the other, until it says that it is enough.
        self._slots = told or 1

    @property
    def _may_create(self) -> bool:
        if not self._waiting:
            if self._exhausted or self._pulling:
                return False
            if not self._slots_are_known:
                return True
        held = len(self._running) + len(self._creating)
        is_free = held < min(self._slots, self._wanted, self._allowed)
        # Jobs that end together are followed by jobs that end together, which cost fewer looks.
        is_time = self._throttled_until <= anyio.current_time() and not self._running.settling_seconds
        return is_free and is_time

    def _seconds_to_next_create(self) -> float:
        """How long nothing but news can make a create possible."""
        now = anyio.current_time()
        waits = (self._throttled_until - now, self._more_slots_at - now, self._running.settling_seconds)
        return min((seconds for seconds in waits if seconds > 0), default=math.inf)

    def _fill(self, tasks: TaskGroup) -> None:
        if anyio.current_time() >= self._more_slots_at:
            # Another's job may have ended: one create finds it out.
            self._more_slots_at = math.inf
            self._slots = len(self._running) + len(self._creating) + 1
        while self._may_create:
            if not self._waiting:
                self._pulling = True
                tasks.start_soon(self._pull)
                return
            request = self._waiting.pop(0)
            self._creating[request.index] = anyio.CancelScope(shield=True)
            tasks.start_soon(self._create, request)

    async def _pull(self) -> None:
        try:
            source = self._source
            given = await anext(source, _END) if isinstance(source, AsyncIterator) else next(source, _END)
            if given is _END:
                self._exhausted = True
                return
            given = cast(ManyRequest, given)
            index, self._count = self._count, self._count + 1
            try:
                self._waiting.append(self._request(index, given))
            except InvalidRequestError as error:
                self._ready.append(CreateOutcome(index, given, error=error))
        except Exception as error:  # noqa: BLE001 - the caller's own, raised when all that was begun is told
            self._fault = error
            self._exhausted = True
        finally:
            self._pulling = False
            self._news.spread()

    def _request(self, index: int, given: ManyRequest) -> _Request:
        fields: dict[str, Any] = {**read_fields(given)}
        options = _merge(self._options, fields.pop("request_options", None) or {})
        take = fields.pop("take", 1)
        key: str | None = None
        if self._keyed:
            key, options = take_idempotency_key(options)
            # Now, so that a create that has to wait for a slot goes out under the same key each time.
            key = key or new_idempotency_key()
        return _Request(index, given, fields, take, key, options)

    async def _create(self, request: _Request) -> None:
        """Send a request in its slot, and take note of what came of it."""
        ends = self._ends
        result = None if self._stopping else await self._send(request)
        del self._creating[request.index]
        match result:
            case Generation():
                self._accept(request, result)
            case ConcurrencyLimitError():
                self._note_full(result, is_stale=self._ends > ends)
                self._wait_again(request)
            case RateLimitError():
                self._throttled_until = anyio.current_time() + (result.retry_after_seconds or _PAUSE_SECONDS)
                self._wait_again(request)
            case None:
                self._wait_again(request)
            case _:
                self._ready.append(CreateOutcome(request.index, request.given, error=result))
        self._news.spread()

    async def _send(self, request: _Request) -> Generation | SyncError:
        sent_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._creating[request.index]:
            try:
                whole = make_request(**request.fields)
                return await self._calls.create(whole, request.take, request.key, request.options)
            except SyncError as error:
                return error
            except Exception as error:  # noqa: BLE001 - one faulty create must not end the others
                reason = safe(repr(error), REASON_LIMIT)
                message = f"The create failed in an unexpected way: {reason}."
                return InternalError(message, money_spent="unknown")
        return OutcomeUnknown(
            "It was cancelled on its way.", idempotency_key=request.key or "the guard's", sent_at=sent_at
        )

    def _accept(self, request: _Request, generation: Generation) -> None:
        if generation.finished:
            # A guard's job of before.
            self._ready.append(CreateOutcome(request.index, request.given, generation))
        elif generation.id in self._running:
            self._requests_of[generation.id].append(request)
        else:
            self._requests_of[generation.id] = [request]
            self._running.add(generation)
        # It proves a slot, though a refusal may have been heard before it.
        self._slots = max(self._slots, len(self._running))
        if len(self._running) + len(self._creating) >= self._slots and self._more_slots_at == math.inf:
            self._slots += 1

    def _note_full(self, error: ConcurrencyLimitError, *, is_stale: bool) -> None:
        """Note that the API has no slot."""
        self._allowed = error.concurrency_limit or self._allowed
        self._slots = len(self._running)
        if is_stale:
            # A job has ended since it was sent, and nobody else's has to be waited for.
            self._slots += 1
        else:
            self._more_slots_at = anyio.current_time() + (error.retry_after_seconds or _PAUSE_SECONDS)

    def _wait_again(self, request: _Request) -> None:
        bisect.insort(self._waiting, request, key=lambda one: one.index)

    def _end(self, generation: Generation, error: SyncError | None) -> None:
        self._ends += 1
        requests = self._requests_of.pop(generation.id)
        self._ready.extend(CreateOutcome(one.index, one.given, generation, error) for one in requests)


def _iterator(
    requests: Iterable[ManyRequest] | AsyncIterable[ManyRequest],
) -> Iterator[ManyRequest] | AsyncIterator[ManyRequest]:
    if isinstance(requests, AsyncIterable):
        return aiter(requests)
    one = isinstance(requests, str | Mapping | GenerationRequest)
    if one or not isinstance(requests, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError("requests must be a list, or another iterable, of requests.")
    return iter(requests)


def _merge(common: RequestOptions, own: RequestOptions) -> RequestOptions:
    merged: dict[str, Any] = {**common, **own}
    for name in ("additional_headers", "additional_query_parameters", "additional_body_parameters"):
        if name in merged:
            merged[name] = {**common.get(name, {}), **own.get(name, {})}
    return cast(RequestOptions, merged)
