"""What webhooks have told of jobs, so that it is heard in whichever process somebody waits."""

from sqlalchemy import bindparam, delete, insert, select

from sync_mcp.payments.book.rules import Rules
from sync_mcp.payments.rows import DELIVERIES

KEPT_SECONDS = 900.0
"""How long what was told is known again: longer than the signature under it is believed."""


class Deliveries(Rules):
    """Keeping what a webhook told, once, and reading what has come since."""

    def keep_delivery(self, base_url: str, job_id: str, status: str) -> bool:
        """Write down that a job of an API was told to be in a status; return whether that is news."""
        with self.store.transaction() as connection:
            now = self.store.now()
            connection.execute(_FORGET, {"since": now - KEPT_SECONDS})
            told = {"base_url": base_url, "job_id": job_id, "status": status}
            if connection.execute(_KNOWN, told).first() is not None:
                return False
            connection.execute(_KEEP, {**told, "came_at": now})
            return True

    def read_deliveries(self, base_url: str, after: int) -> list[tuple[int, str]]:
        """Return what came after a number, oldest first: the number of each delivery, and its job's id.

        No ledger is made for it.
        """
        if not self.store.exists():
            return []
        with self.store.reading() as connection:
            found = connection.execute(_SINCE, {"base_url": base_url, "after": after})
            return [(number, job_id) for number, job_id in found]


# Put together once: that takes longer than their running.
_COLUMNS = DELIVERIES.c
_FORGET = delete(DELIVERIES).where(_COLUMNS.came_at < bindparam("since"))
_KNOWN = select(_COLUMNS.number).where(
    _COLUMNS.base_url == bindparam("base_url"),
    _COLUMNS.job_id == bindparam("job_id"),
    _COLUMNS.status == bindparam("status"),
)
_KEEP = insert(DELIVERIES)
_SINCE = (
    select(_COLUMNS.number, _COLUMNS.job_id)
    .where(_COLUMNS.number > bindparam("after"), _COLUMNS.base_url == bindparam("base_url"))
    .order_by(_COLUMNS.number)
)
