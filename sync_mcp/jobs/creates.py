"""Creates that outlive the calls that asked for them.

A client that gives up on a call has not given up on the money. So a create runs to its end in the
process, and the next call with the same request gets its outcome instead of paying again.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from sync_mcp.errors import InternalError, OutcomeUnknown, SyncError
from sync_mcp.text import safe

logger = logging.getLogger("sync_mcp.jobs")

_REMEMBERED = 1000
_REASON_LIMIT = 300

_JobT = TypeVar("_JobT")


class _Flight(Generic[_JobT]):
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.waiting = 0
        self.job: _JobT | None = None
        self.error: SyncError | None = None


class Creates(Generic[_JobT]):
    """The creates of one process: those on their way, and those whose outcome nobody has been told yet."""

    def __init__(self, task_group: TaskGroup) -> None:
        self._task_group = task_group
        self._flights: OrderedDict[str, _Flight[_JobT]] = OrderedDict()
        self._keys: OrderedDict[str, str] = OrderedDict()

    @asynccontextmanager
    async def outcome(
        self, request: str, send: Callable[[str], Awaitable[_JobT]]
    ) -> AsyncGenerator[tuple[_JobT, bool]]:
        """Hold the job that `send` makes for `request`, its canonical text, and whether it was joined.

        `send` is given the idempotency key to use. It goes on when this call is cancelled; a call with the
        same request joins it. The outcome counts as told when the block ends: until then the same request
        gets the same job, from then on it is a new one.

        Raises:
            SyncError: what `send` raised. After OutcomeUnknown the next call repeats under the same key.
        """
        flight = self._flights.get(request)
        joined = flight is not None
        if flight is None:
            flight = self._flights[request] = _Flight()
            _forget_oldest(self._flights)
            self._task_group.start_soon(self._fly, request, flight, send)
        flight.waiting += 1
        try:
            await flight.landed.wait()
        finally:
            flight.waiting -= 1
        if flight.error is not None:
            raise flight.error
        if flight.job is None:
            raise InternalError("The server stopped while the create was on its way.", money_spent="unknown")
        yield flight.job, joined
        self._forget(request, flight)

    async def _fly(
        self, request: str, flight: _Flight[_JobT], send: Callable[[str], Awaitable[_JobT]]
    ) -> None:
        # Loaded by the first create: serving tools/list does not need the HTTP library.
        from sync_mcp.api.create import new_idempotency_key

        # The key is kept until the outcome is known: a repeat must not go out under another one.
        key = self._keys.setdefault(request, new_idempotency_key())
        _forget_oldest(self._keys)
        try:
            flight.job = await send(key)
            self._keys.pop(request, None)
        except OutcomeUnknown as error:
            flight.error = error
        except SyncError as error:
            self._keys.pop(request, None)
            flight.error = error
        except Exception as error:  # noqa: BLE001 - one faulty create must not end the process
            reason = safe(repr(error), _REASON_LIMIT)
            logger.error("create key=%s failed unexpectedly: %s", key, reason)
            flight.error = InternalError("The create failed in an unexpected way.", money_spent="unknown")
        finally:
            if flight.error is not None:
                # Those who wait for it are told; who asks later makes a new attempt.
                self._forget(request, flight)
            flight.landed.set()
        if flight.error is not None and not flight.waiting:
            logger.warning("a create whose call was cancelled ended: %s", flight.error)

    def _forget(self, request: str, flight: _Flight[_JobT]) -> None:
        if self._flights.get(request) is flight:
            del self._flights[request]


def _forget_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)
