"""Servers that are kept running: where one dies, the next is started."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.torture.client import ServerDied, ServerProcess
from tests.torture.points import KILL_VARIABLE, Point


@dataclass
class Arm:
    """A death that is to come: where, and with which create."""

    point: Point
    number: int


class Slot:
    """A place for a server."""

    def __init__(self, pool: "Pool", number: int) -> None:
        self._pool = pool
        self.number = number
        self.current: ServerProcess | None = None
        self._ready = asyncio.Event()
        self._is_struck = False

    async def server(self) -> ServerProcess:
        """Return the server that runs here, once there is one."""
        while True:
            await self._ready.wait()
            assert self.current
            if self.current.alive:
                return self.current
            # The keeper has not seen it yet.
            self._ready.clear()

    async def strike(self) -> None:
        """Kill the server that runs here; the next one is started."""
        server = await self.server()
        self._is_struck = True
        server.strike()

    async def keep(self, env: Mapping[str, str]) -> None:
        """Keep a server running until the task is cancelled."""
        pool = self._pool
        while True:
            arm = pool.arms.popleft() if pool.arms else None
            try:
                await self._live(env, arm)
            except asyncio.CancelledError:
                # The part is over; what did not come to pass is left for the next one.
                if arm:
                    pool.arms.append(arm)
                raise
            except (ServerDied, TimeoutError) as error:
                pool.crashes.append(f"server {self.number} did not start: {error!r}")
                await asyncio.sleep(1)
            finally:
                self._ready.clear()

    async def _live(self, env: Mapping[str, str], arm: Arm | None) -> None:
        pool = self._pool
        armed = {KILL_VARIABLE: f"{arm.point}:{arm.number}"} if arm else {}
        server = await ServerProcess.start({**env, **armed}, pool.folder / f"server-{self.number}.log")
        try:
            self.current = server
            self._ready.set()
            await server.ended()
        finally:
            await asyncio.shield(server.kill())
        if arm and server.process.returncode == -9:
            pool.kills[arm.point] += 1
        elif self._is_struck and server.process.returncode == -9:
            self._is_struck = False
        else:
            pool.crashes.append(f"server {self.number} ended with {server.process.returncode}")


class Pool:
    """The servers of a run; what dies unplanned is told among the crashes."""

    def __init__(self, folder: Path, crashes: list[str]) -> None:
        self.folder = folder
        self.crashes = crashes
        self.kills: Counter[str] = Counter()
        self.arms: deque[Arm] = deque()
        self.slots: list[Slot] = []

    @asynccontextmanager
    async def running(self, count: int, env: Mapping[str, str]) -> AsyncGenerator[None]:
        """Keep so many servers running; in the end all are killed."""
        self.slots = [Slot(self, number) for number in range(count)]
        keepers = [asyncio.create_task(slot.keep(env)) for slot in self.slots]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            ends = await asyncio.gather(*keepers, return_exceptions=True)
            self.crashes += [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]

    def by_pid(self, pid: str | None) -> ServerProcess | None:
        """Return the living server with this process id."""
        for slot in self.slots:
            server = slot.current
            if server is not None and pid == str(server.process.pid) and server.alive:
                return server
        return None
