"""How lanes learn that their jobs have ended: all by the same few requests, soon after the end."""

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Generation
from sync_mcp.api.news import News
from sync_mcp.errors import SyncError


class Ends:
    """The ends of an account's jobs, as long as `watch` runs."""

    def __init__(self, sync: AsyncSync) -> None:
        self._running = sync.generations.watch_many(self._note, News())
        self._waiting: dict[str, _Waiting] = {}

    async def watch(self) -> None:
        """Watch until cancelled."""
        await self._running.watch(lambda: True)

    async def wait(self, generation: Generation) -> Generation:
        """Return a job as it ended, however long that takes.

        Raises:
            SyncError: the API does not tell of it any more.
        """
        if generation.finished:
            return generation
        waiting = self._waiting.setdefault(generation.id, _Waiting())
        self._running.add(generation)
        await waiting.ended.wait()
        self._waiting.pop(generation.id, None)
        if waiting.error is not None:
            raise waiting.error
        return waiting.job or generation

    def _note(self, job: Generation, error: SyncError | None) -> None:
        waiting = self._waiting.get(job.id)
        if waiting is not None:
            waiting.job, waiting.error = job, error
            waiting.ended.set()


class _Waiting:
    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.job: Generation | None = None
        self.error: SyncError | None = None
