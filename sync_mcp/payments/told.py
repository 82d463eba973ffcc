"""What is told of a job, beside what the ledger has of it: whether it has ended, and whether both agree."""

from sync_mcp.payments.acts.act import COMPLETED, FAILED_STATUSES, Job
from sync_mcp.payments.acts.kinds import KINDS
from sync_mcp.payments.rows import Entry

_STRANGE_STATUS_SECONDS = 86_400.0
"""How long a job may be in a status that nobody knows before its cost is asked for as of one that ended."""


def is_end(status: str) -> bool:
    """Return whether a status is known to be a job's last, in the ledger's words."""
    return status == COMPLETED or status in FAILED_STATUSES


def has_lasted(entry: Entry, now: float) -> bool:
    """Return whether a status that nobody knows may be taken for an end by now, seconds since 1970."""
    return now - entry.first_sent_at >= _STRANGE_STATUS_SECONDS


def may_have_ended(entry: Entry, job: Job) -> bool:
    """Return whether a job is in no status in which it runs."""
    return job.status not in KINDS[entry.kind].running_statuses


def is_final(entry: Entry, job: Job) -> bool:
    """Return whether an entry has what its job finally cost, of the status that the job is shown in."""
    is_settled = entry.state == "ended" and entry.cost_usd is not None
    return is_settled and entry.kind in KINDS and entry.status == KINDS[entry.kind].status_of(job)


def contradicts(entry: Entry, job: Job) -> bool:
    """Return whether a finished job is shown otherwise than an entry has it: then its cost is asked for anew.

    So is one that the user let go of as never made.
    """
    if entry.kind not in KINDS or not job.finished:
        return False
    has_ended = entry.cost_usd is not None and entry.status is not None
    return entry.is_let_go_unseen or (has_ended and entry.status != KINDS[entry.kind].status_of(job))
