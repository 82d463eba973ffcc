"""How far the API's list has been read, whatever the size and the order of its pages.

The list is promised newest first in pages of the size that was asked for (API §3.4). A search on which money
hangs does not rely on it: pages may be shorter, stand in another order, overlap, or come again and again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from sync_mcp.api.kinds import Job, JobT

_State = Literal["goes on", "whole", "stuck"]


class Reading:
    """One reading of the list, page after page, of the jobs that were created since a moment.

    Attributes:
        state: whether it goes on, is read as far as it has to be, or brings nothing new, so that nobody knows
            whether there is more.
        cursor: the id after which the next page begins, or None for the first.
        pages: how many have been read.
    """

    def __init__(self) -> None:
        self.state: _State = "goes on"
        self.cursor: str | None = None
        self.pages = 0
        self._seen: dict[str, datetime | None] = {}
        self._is_newest_first: bool | None = None

    @property
    def length(self) -> int:
        """How many jobs the pages have shown."""
        return len(self._seen)

    def add(self, page: Sequence[JobT], since: datetime) -> list[JobT]:
        """Take in a page of the list and return the jobs that no page before it has shown."""
        self.pages += 1
        fresh = list({job.id: job for job in page if job.id not in self._seen}.values())
        if not page:
            self.state = "whole"
        elif not fresh:
            self.state = "stuck"
        else:
            self._note_order(page, fresh)
            if self._is_newest_first and all(_is_older(job, since) for job in page):
                self.state = "whole"
            turned_round = self._is_newest_first and _is_oldest_first(page)
            self.cursor = page[0 if turned_round else -1].id
        self._seen.update((job.id, job.created_at) for job in fresh)
        return fresh

    def _note_order(self, page: Sequence[Job], fresh: Sequence[Job]) -> None:
        """Note which way the list goes: a first page with its oldest job first may be of either kind."""
        before = [moment for moment in self._seen.values() if moment is not None]
        now = [job.created_at for job in fresh if job.created_at is not None]
        if before and now:
            if max(now) <= min(before):
                self._is_newest_first = True
            elif min(now) >= max(before):
                self._is_newest_first = False
        elif not self._seen:
            self._is_newest_first = None if _is_oldest_first(page) else True


def _is_older(job: Job, moment: datetime) -> bool:
    return job.created_at is not None and job.created_at < moment


def _is_oldest_first(page: Sequence[Job]) -> bool:
    first, last = page[0].created_at, page[-1].created_at
    return first is not None and last is not None and first < last
