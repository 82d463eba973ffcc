"""The sandbox's clock, which runs as real time does and can be moved forward."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus what it was moved forward, to the millisecond."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._ticks = time.monotonic()
        self._ahead_seconds = 0.0

    def now(self) -> datetime:
        """Return the sandbox's time."""
        seconds = time.monotonic() - self._ticks + self._ahead_seconds
        moment = self._started + timedelta(seconds=seconds)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: time does not run backwards.
        """
        if seconds < 0:
            raise ValueError("The clock moves forward only: give 0 seconds or more.")
        self._ahead_seconds += seconds

    def reset(self) -> None:
        """Go back to real time."""
        self._ahead_seconds = 0.0


def timestamp(moment: datetime) -> str:
    """Return a moment as the API writes it, such as 2026-10-02T09:30:00.000Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class Pulse:
    """Wakes everything that waits on the server's loop: the clock moved, a job changed, or it stops."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stopping = False

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Name the loop that the waiting is done on, or None when there is none any more."""
        self._loop = loop

    def beat(self) -> None:
        """Wake all that wait; from any thread."""
        loop = self._loop
        if loop is not None:
            # The loop may close between the two: then nothing waits on it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._turn)

    def stop(self) -> None:
        """Wake all that wait, for good."""
        self.stopping = True
        self.beat()

    async def wait(self, seconds: float) -> None:
        """Wait for the next beat, this long at most."""
        if self.stopping:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

    def _turn(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()
