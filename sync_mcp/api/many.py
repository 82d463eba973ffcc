"""Many creates at once: every slot of the account full, each job told when it ends.

Nobody tells how long a job takes. So the oldest one is held by the API's long poll, and its end brings a list
of the others; every two seconds they are listed in any case, since a younger one may end first.
"""

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
    Sequence,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Required, Self, TypeAlias, TypedDict, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from sync_mcp.api.create import IDEMPOTENCY_HEADER, take_idempotency_key
from sync_mcp.api.models import (
    Dub,
    Generation,
    GenerationOptions,
    GenerationRequest,
    Input,
    ModelName,
    Segment,
)
from sync_mcp.api.transport import RequestOptions
from sync_mcp.api.wait import Look
from sync_mcp.errors import (
    ConcurrencyLimitError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknown,
    RateLimitError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.text import near, safe

TICK_SECONDS = 2.0
"""How often the running jobs are listed while none is known to have ended."""

_SOON_SECONDS = 0.05
_SOON_SHARE = 0.03
_AS_OLD = 0.9
"""Jobs that began together end together. After an end, where another is nearly as old as the one that ended
was, the next look comes after a small share of that age."""

_PAUSE_SECONDS = 5.0
"""Between two creates that the API has no room for, where it does not say itself when to come back."""

_READS_PER_SECOND = 5.0
_READS_AT_ONCE = 10
_GRACE_SECONDS = 10.0
_LOOKS_IN_VAIN = 2
_REASON_LIMIT = 200


class CreateFields(TypedDict, total=False):
    """One request: what `AsyncSync.generations.create` takes, by name."""

    model: Required[ModelName]
    input: Required[Sequence[Input]]
    options: GenerationOptions | None
    segments: Sequence[Segment] | None
    webhook_url: str | None
    output_file_name: str | None
    project_id: str | None
    dub: Dub | None
    take: int
    request_options: RequestOptions | None


ManyRequest: TypeAlias = CreateFields | GenerationRequest

Turn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until the next request may go out."""


@dataclass(frozen=True, slots=True)
class CreateOutcome:
    """What came of one of many requests.

    Attributes:
        index: the request's place among all, from 0.
        request: as it was given.
        generation: the job as it ended, which may be in failure; None where there is none, or none is known.
        error: what `create` raised, or what the API said when the job was asked for and could not be read
            (`generation` is then its last known state); None where the job ended.
    """

    index: int
    request: ManyRequest
    generation: Generation | None = None
    error: SyncError | None = None


class Pace:
    """Lets `per_second` calls pass on average, and up to `at_once` of them together."""

    def __init__(self, per_second: float, at_once: int) -> None:
        self._interval = 1 / per_second
        self._credit = (at_once - 1) * self._interval
        self._next = -math.inf

    async def __call__(self) -> None:
        """Wait for one's turn."""
        now = anyio.current_time()
        turn = max(self._next, now - self._credit)
        self._next = turn + self._interval
        await anyio.sleep(max(0.0, turn - now))


@dataclass(frozen=True, slots=True)
class Calls:
    """What the work on many requests needs of the API."""

    create: Callable[[CreateFields], Awaitable[Generation]]
    hold: Callable[[str], Awaitable[Look]]
    """Reads a job by a long poll."""
    states: Callable[[Sequence[str], Turn], Awaitable[Mapping[str, Generation | SyncError]]]
    concurrency: Callable[[], Awaitable[int | None]]
    """The account's own limit, where the API tells it."""


@dataclass(frozen=True, slots=True)
class _Request:
    index: int
    given: ManyRequest
    fields: CreateFields


@dataclass(slots=True)
class _Job:
    generation: Generation
    requests: list[_Request]
    """More than one where a guard gives the same job for equal requests."""
    since: float
    looks_in_vain: int = 0


class CreateMany(AsyncIterator[CreateOutcome]):
    """The outcomes of many creates, in the order in which they are known.

    The work goes on while the next outcome is awaited, and inside `async with` also while the loop's body
    runs. When the iteration is left or cancelled, no further create begins; one on its way has ten seconds to
    be answered, and the jobs that run are left alone: `pending` says which those are. Iterating again goes on
    from there.
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
        self._running: dict[str, _Job] = {}
        self._ready: deque[CreateOutcome] = deque()
        # What the caller wants at most, what the API allows at most, and how many slots are believed free for
        # these jobs: the account may have others running.
        self._wanted = math.inf if concurrency is None else concurrency
        self._allowed = math.inf
        self._slots = concurrency or 0
        self._slots_are_known = concurrency is not None
        self._more_slots_at = math.inf
        self._throttled_until = -math.inf
        self._look_at = -math.inf
        self._read_again_at = -math.inf
        self._long_poll = True
        self._pace = Pace(_READS_PER_SECOND, _READS_AT_ONCE)
        self._news = anyio.Event()
        self._stopping = False
        self._background: TaskGroup | None = None
        self._one_at_a_time = anyio.ResourceGuard("iterating over")

    @property
    def pending(self) -> list[CreateOutcome]:
        """What was begun and is not told yet: jobs that run, as last seen, and outcomes."""
        running = (
            CreateOutcome(request.index, request.given, job.generation)
            for job in self._running.values()
            for request in job.requests
        )
        return sorted((*running, *self._ready), key=lambda outcome: outcome.index)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CreateOutcome:
        with self._one_at_a_time:
            if self._background is None:
                if not (self._finished or self._may_rest()):
                    await self._work(in_background=False)
            else:
                await self._until(lambda: bool(self._ready) or self._finished)
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
        self._background.start_soon(self._work_in_background)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        tasks, self._background = self._background, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        return await tasks.__aexit__(kind, error, trace)

    async def _work_in_background(self) -> None:
        await self._work(in_background=True)

    async def _work(self, *, in_background: bool) -> None:
        """Create and watch until all is done, or until there is an outcome and nothing to do at once."""
        self._stopping = False
        began_at = anyio.current_time()

        def enough() -> bool:
            # An outcome does not wait for long, whatever else there is to do.
            hurried = anyio.current_time() - began_at > TICK_SECONDS
            return self._finished or (not in_background and self._may_rest(hurried=hurried))

        async with anyio.create_task_group() as tasks:
            try:
                tasks.start_soon(self._hold_on, in_background)
                tasks.start_soon(self._look_on)
                while not enough():
                    news = self._news
                    if in_background or not self._ready or anyio.current_time() - began_at < TICK_SECONDS:
                        await self._learn_slots()
                        self._fill(tasks)
                    with anyio.move_on_after(self._seconds_to_next_create()):
                        await news.wait()
            finally:
                self._stopping = True
                for scope in self._creating.values():
                    scope.deadline = anyio.current_time() + _GRACE_SECONDS
                tasks.cancel_scope.cancel()

    @property
    def _finished(self) -> bool:
        under_way = self._pulling or self._waiting or self._creating or self._running
        return self._exhausted and not under_way

    def _may_rest(self, *, hurried: bool = False) -> bool:
        """Whether there is an outcome to tell, and nothing that has to be done first."""
        if not self._ready or self._creating or self._pulling:
            return False
        return hurried or not (self._look_is_due or self._may_create)

    def _changed(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._news.wait()

    # Creating

    async def _learn_slots(self) -> None:
        if self._slots_are_known or not self._waiting:
            return
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
        return is_free and self._throttled_until <= anyio.current_time()

    def _seconds_to_next_create(self) -> float:
        now = anyio.current_time()
        moments = (self._throttled_until, self._more_slots_at)
        return min((moment - now for moment in moments if moment > now), default=math.inf)

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
            given = await anext(source, None) if isinstance(source, AsyncIterator) else next(source, None)
            if given is None:
                self._exhausted = True
                return
            index, self._count = self._count, self._count + 1
            try:
                self._waiting.append(_Request(index, given, self._fields(given)))
            except InvalidRequestError as error:
                self._ready.append(CreateOutcome(index, given, error=error))
        except Exception as error:  # noqa: BLE001 - the caller's own, raised when all that was begun is told
            self._fault = error
            self._exhausted = True
        finally:
            self._pulling = False
            self._changed()

    def _fields(self, given: ManyRequest) -> CreateFields:
        fields = _fields_of(given)
        options = _merged(self._options, fields.get("request_options") or {})
        if self._keyed:
            # Now, so that a create that has to wait for a slot goes out under the same key each time.
            key, options = take_idempotency_key(options)
            options["idempotency_key"] = key
        fields["request_options"] = options
        return fields

    async def _create(self, request: _Request) -> None:
        scope = self._creating[request.index]
        if self._stopping:
            self._wait_again(request)
            return
        sent_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with scope:
            try:
                self._accept(request, await self._calls.create(request.fields))
            except ConcurrencyLimitError as error:
                self._wait_for_slot(request, error)
            except RateLimitError as error:
                self._throttled_until = anyio.current_time() + (error.retry_after_seconds or _PAUSE_SECONDS)
                self._wait_again(request)
            except SyncError as error:
                self._tell(request, error)
            except Exception as error:  # noqa: BLE001 - one faulty create must not end the others
                reason = safe(repr(error), _REASON_LIMIT)
                message = f"The create failed in an unexpected way: {reason}."
                self._tell(request, InternalError(message, money_spent="unknown"))
        if scope.cancelled_caught:
            options = request.fields.get("request_options") or {}
            error = OutcomeUnknown(
                "it was cancelled on its way",
                idempotency_key=options.get("idempotency_key", "the guard's"),
                sent_at=sent_at,
            )
            self._tell(request, error)

    def _accept(self, request: _Request, generation: Generation) -> None:
        del self._creating[request.index]
        now = anyio.current_time()
        if generation.finished:
            # A guard's job of before.
            self._ready.append(CreateOutcome(request.index, request.given, generation))
        elif generation.id in self._running:
            self._running[generation.id].requests.append(request)
        else:
            if self._look_at <= now:
                self._look_at = now + TICK_SECONDS
            self._running[generation.id] = _Job(generation, [request], now)
        if len(self._running) + len(self._creating) >= self._slots and self._more_slots_at == math.inf:
            self._slots += 1
        self._changed()

    def _wait_for_slot(self, request: _Request, error: ConcurrencyLimitError) -> None:
        self._allowed = error.concurrency_limit or self._allowed
        self._slots = len(self._running)
        self._more_slots_at = anyio.current_time() + (error.retry_after_seconds or _PAUSE_SECONDS)
        self._wait_again(request)

    def _wait_again(self, request: _Request) -> None:
        del self._creating[request.index]
        bisect.insort(self._waiting, request, key=lambda one: one.index)
        self._changed()

    def _tell(self, request: _Request, error: SyncError) -> None:
        del self._creating[request.index]
        self._ready.append(CreateOutcome(request.index, request.given, error=error))
        self._changed()

    # Watching

    @property
    def _looks(self) -> bool:
        """Whether the list is needed: a job that runs alone is held by the long poll."""
        return len(self._running) > (1 if self._long_poll else 0)

    @property
    def _look_is_due(self) -> bool:
        return self._looks and self._look_at <= anyio.current_time()

    async def _turn(self) -> None:
        await anyio.sleep(max(0.0, self._read_again_at - anyio.current_time()))
        await self._pace()

    async def _look_on(self) -> None:
        while True:
            await self._until(lambda: self._looks)
            news = self._news
            seconds = self._look_at - anyio.current_time()
            if seconds > 0:
                with anyio.move_on_after(seconds):
                    await news.wait()
            else:
                await self._look()

    async def _look(self) -> None:
        states = await self._calls.states(list(self._running), self._turn)
        self._look_at = anyio.current_time() + TICK_SECONDS
        for id, state in states.items():
            self._note(id, state)
        self._changed()

    async def _hold_on(self, in_background: bool) -> None:
        def may_hold() -> bool:
            if not self._running or (self._ready and not in_background):
                # With an outcome to tell, the poll would soon be broken off.
                return False
            return not self._looks or self._look_at - anyio.current_time() > TICK_SECONDS / 2

        while self._long_poll:
            await self._until(may_hold)
            await self._turn()
            if may_hold():
                await self._hold(next(iter(self._running)))

    async def _hold(self, id: str) -> None:
        asked_at = anyio.current_time()
        state: Generation | SyncError
        try:
            look = await self._calls.hold(id)
        except RequestRejectedError:
            self._long_poll = False
            self._changed()
            return
        except SyncError as error:
            state = error
        else:
            state = look.generation
            self._long_poll = look.long_polled or state.finished
        self._note(id, state)
        self._changed()
        if id in self._running and anyio.current_time() - asked_at < TICK_SECONDS / 2:
            await anyio.sleep(TICK_SECONDS)

    def _note(self, id: str, state: Generation | SyncError) -> None:
        job = self._running.get(id)
        if job is None:
            return
        now = anyio.current_time()
        error: SyncError | None = None
        if isinstance(state, Generation):
            job.generation = state
            job.looks_in_vain = 0
            if not state.finished:
                return
        else:
            if isinstance(state, RateLimitError):
                self._read_again_at = now + (state.retry_after_seconds or TICK_SECONDS)
            # A job that was just made may not be everywhere at once.
            job.looks_in_vain += isinstance(state, NotFoundError)
            if state.retryable or 0 < job.looks_in_vain < _LOOKS_IN_VAIN:
                return
            error = state
        del self._running[id]
        if error is None:
            self._expect_more_ends(now - job.since)
        self._ready.extend(CreateOutcome(one.index, one.given, job.generation, error) for one in job.requests)

    def _expect_more_ends(self, age_seconds: float) -> None:
        """Look again soon after a job has ended, where others began about when it did."""
        now = anyio.current_time()
        oldest = max((now - job.since for job in self._running.values()), default=0.0)
        if oldest > age_seconds * _AS_OLD:
            soon = min(max(_SOON_SECONDS, _SOON_SHARE * age_seconds), TICK_SECONDS)
            self._look_at = min(self._look_at, now + soon)


def _iterator(
    requests: Iterable[ManyRequest] | AsyncIterable[ManyRequest],
) -> Iterator[ManyRequest] | AsyncIterator[ManyRequest]:
    if isinstance(requests, AsyncIterable):
        return aiter(requests)
    one = isinstance(requests, str | Mapping | GenerationRequest)
    if one or not isinstance(requests, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError("requests must be a list, or another iterable, of requests.")
    return iter(requests)


def _merged(common: RequestOptions, own: RequestOptions) -> RequestOptions:
    merged: dict[str, Any] = {**common, **own}
    for name in ("additional_headers", "additional_query_parameters", "additional_body_parameters"):
        if name in merged:
            merged[name] = {**common.get(name, {}), **own.get(name, {})}
    return cast(RequestOptions, merged)


_NAMES = tuple(CreateFields.__annotations__)


def _fields_of(given: object) -> CreateFields:
    """Return a request as `create` takes it.

    Raises:
        InvalidRequestError: it has other fields than those, or lacks one that it needs.
    """
    if isinstance(given, GenerationRequest):
        known: dict[str, Any] = {
            name: getattr(given, name) for name in _NAMES if name in GenerationRequest.model_fields
        }
        if given.model_extra:
            known["request_options"] = {"additional_body_parameters": given.model_extra}
        return cast(CreateFields, known)
    if not isinstance(given, Mapping):
        raise InvalidRequestError("A request is a mapping of what create takes, or a GenerationRequest.")
    fields = cast(Mapping[str, object], given)
    faults = [
        f"A request has no field {name!r}{near(str(name), _NAMES)}" for name in fields if name not in _NAMES
    ]
    faults += [f"A request needs {name}." for name in ("model", "input") if fields.get(name) is None]
    faults += [
        f"{name} must be a list."
        for name in ("input", "segments")
        if not isinstance(fields.get(name) or [], Sequence)
    ]
    if not isinstance(fields.get("request_options") or {}, Mapping):
        faults.append("request_options must be a mapping.")
    if faults:
        raise InvalidRequestError(faults)
    return cast(CreateFields, dict(fields))
