"""How those who wait for something to change learn that it has."""

import math
from collections.abc import Callable

import anyio


class News:
    """Wakes whoever waits for something to change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def spread(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, seconds: float = math.inf) -> None:
        """Return at the next news, or after so many seconds."""
        event = self._event
        with anyio.move_on_after(seconds):
            await event.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return as soon as the news makes `holds` true."""
        while not holds():
            await self.wait()
