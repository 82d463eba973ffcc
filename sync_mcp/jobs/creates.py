"""Creates that outlive the calls that asked for them.

A client that gives up on a call has not given up on the money. So a create runs to its end in the
process, and the next call with the same request gets its outcome instead of paying again.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from sync_mcp.errors import InternalError, OutcomeUnknown, SyncError

logger = logging.getLogger("sync_mcp.jobs")

_REMEMBERED = 1000

_JobT = TypeVar("_JobT")


class _Flight(Generic[_JobT]):
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.waiting = 0
        self.job: _JobT | None = None
        self.error: SyncError | None = None


class Creates(Generic[_JobT]):
    """The creates of one process: those on their way, and those whose outcome nobody has heard yet."""

    def __init__(self, task_group: TaskGroup) -> None:
        self._task_group = task_group
        self._flights: OrderedDict[str, _Flight[_JobT]] = OrderedDict()
        self._doubtful_keys: OrderedDict[str, str] = OrderedDict()

    async def run(self, request: str, send: Callable[[str | None], Awaitable[_JobT]]) -> tuple[_JobT, bool]:
        """Return the job that `send` makes for `request`, its canonical text, and whether it was joined.

        `send` is given the idempotency key to use, or None for a new one. It goes on when this call is
        cancelled; a call with the same request joins it, or gets the outcome that nobody heard.

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
            # Heard from here on: the same request asked for once more is a new one.
            if self._flights.get(request) is flight:
                del self._flights[request]
        finally:
            flight.waiting -= 1
        if flight.error is not None:
            raise flight.error
        if flight.job is None:
            raise InternalError("The server stopped while the create was on its way.", money_spent="unknown")
        return flight.job, joined

    async def _fly(
        self, request: str, flight: _Flight[_JobT], send: Callable[[str | None], Awaitable[_JobT]]
    ) -> None:
        try:
            flight.job = await send(self._doubtful_keys.get(request))
            self._doubtful_keys.pop(request, None)
        except OutcomeUnknown as error:
            self._doubtful_keys[request] = error.idempotency_key
            _forget_oldest(self._doubtful_keys)
            flight.error = error
        except SyncError as error:
            self._doubtful_keys.pop(request, None)
            flight.error = error
        except Exception as error:  # noqa: BLE001 - one faulty create must not end the process
            logger.error("a create failed unexpectedly: %r", error)
            flight.error = InternalError("The create failed in an unexpected way.", money_spent="unknown")
        finally:
            flight.landed.set()
        if flight.error is not None and not flight.waiting:
            logger.warning("a create whose call was cancelled ended: %s", flight.error)
            self._flights.pop(request, None)


def _forget_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > _REMEMBERED:
        entries.popitem(last=False)
