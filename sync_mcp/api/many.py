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
    Sequence,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Required, Self, TypeAlias, TypedDict, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from sync_mcp.api.fields import REQUEST
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
from sync_mcp.texts import REASON_LIMIT, near, safe

_PAUSE_SECONDS = 5.0
"""Between two creates that the API has no room for, where it does not say itself when to come back."""

_GRACE_SECONDS = 10.0
_LONGEST_HOLD_BACK_SECONDS = 2.0
_END = object()


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


@dataclass(frozen=True, slots=True)
class Calls:
    """What the work on many requests needs of the API."""

    create: Callable[[CreateFields, str | None], Awaitable[Generation]]
    """Makes a request under this key, or under the guard's."""
    hold: Hold
    looks: Looks
    concurrency: Callable[[], Awaitable[int | None]]
    """The account's own limit, where the API tells it."""


@dataclass(frozen=True, slots=True)
class _Request:
    index: int
    given: ManyRequest
    fields: CreateFields
    key: str | None
    """What it is sent under each time; None where a guard has the keys."""


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
        fields = _fields_of(given)
        options = _merge(self._options, fields.get("request_options") or {})
        key: str | None = None
        if self._keyed:
            key, options = take_idempotency_key(options)
            # Now, so that a create that has to wait for a slot goes out under the same key each time.
            key = key or new_idempotency_key()
        fields["request_options"] = options
        return _Request(index, given, fields, key)

    async def _create(self, request: _Request) -> None:
        scope = self._creating[request.index]
        if self._stopping:
            self._wait_again(request)
            return
        ends = self._ends
        sent_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with scope:
            try:
                self._accept(request, await self._calls.create(request.fields, request.key))
            except ConcurrencyLimitError as error:
                self._wait_for_slot(request, error, is_stale=self._ends > ends)
            except RateLimitError as error:
                self._throttled_until = anyio.current_time() + (error.retry_after_seconds or _PAUSE_SECONDS)
                self._wait_again(request)
            except SyncError as error:
                self._tell(request, error)
            except Exception as error:  # noqa: BLE001 - one faulty create must not end the others
                reason = safe(repr(error), REASON_LIMIT)
                message = f"The create failed in an unexpected way: {reason}."
                self._tell(request, InternalError(message, money_spent="unknown"))
        if scope.cancelled_caught:
            error = OutcomeUnknown(
                "It was cancelled on its way.",
                idempotency_key=request.key or "the guard's",
                sent_at=sent_at,
            )
            self._tell(request, error)

    def _accept(self, request: _Request, generation: Generation) -> None:
        del self._creating[request.index]
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
        self._news.spread()

    def _wait_for_slot(self, request: _Request, error: ConcurrencyLimitError, *, is_stale: bool) -> None:
        self._allowed = error.concurrency_limit or self._allowed
        self._slots = len(self._running)
        if is_stale:
            # A job has ended since it was sent, and nobody else's has to be waited for.
            self._slots += 1
        else:
            self._more_slots_at = anyio.current_time() + (error.retry_after_seconds or _PAUSE_SECONDS)
        self._wait_again(request)

    def _wait_again(self, request: _Request) -> None:
        del self._creating[request.index]
        bisect.insort(self._waiting, request, key=lambda one: one.index)
        self._news.spread()

    def _tell(self, request: _Request, error: SyncError) -> None:
        del self._creating[request.index]
        self._ready.append(CreateOutcome(request.index, request.given, error=error))
        self._news.spread()

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


_NAMES = tuple(CreateFields.__annotations__)


def _fields_of(given: object) -> CreateFields:
    """Return a request as `create` takes it.

    Raises:
        InvalidRequestError: it has other fields than those, or lacks one that it needs.
    """
    if isinstance(given, GenerationRequest):
        # All that it has, and not what a list names: what is left out would be paid for all the same.
        known: dict[str, Any] = {name: getattr(given, name) for name in type(given).model_fields}
        faults = [
            _say_unknown(name) for name, value in known.items() if value is not None and name not in REQUEST
        ]
        if faults:
            raise InvalidRequestError(faults)
        known = {name: known[name] for name in REQUEST}
        if given.model_extra:
            known["request_options"] = {"additional_body_parameters": given.model_extra}
        return cast(CreateFields, known)
    if not isinstance(given, Mapping):
        raise InvalidRequestError("A request is a mapping of what create takes, or a GenerationRequest.")
    fields = cast(Mapping[str, object], given)
    faults = [_say_unknown(name) for name in fields if name not in _NAMES]
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


def _say_unknown(name: object) -> str:
    return f"A request has no field {name!r}{near(str(name), _NAMES)}"
