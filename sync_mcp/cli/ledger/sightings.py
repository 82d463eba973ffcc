"""Whether the API knows a job that an entry may have made."""

from dataclasses import dataclass

import anyio

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.models import Generation
from sync_mcp.api.options import RequestOptions
from sync_mcp.cli.ledger.entries import MODEL_LIMIT, moment
from sync_mcp.errors import APIResponseError, NotFoundError, RequestRejectedError, SyncError
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.rows import Entry
from sync_mcp.payments.settling import instant
from sync_mcp.payments.told import has_lasted, may_have_ended
from sync_mcp.texts import REASON_LIMIT, safe

_LOOK: RequestOptions = {"timeout_in_seconds": 10.0, "max_retries": 1}


@dataclass(frozen=True, slots=True)
class Sighting:
    """Whether the API knows a job, or None where that was not to be learnt; `told` says so to the user."""

    is_known: bool | None
    told: str
    is_running: bool = False
    """Whether the API shows it as a job that has not ended."""
    status: str = ""
    """In the API's word, where it shows the job."""
    is_strange_for_long: bool = False
    """Whether the API shows it in a status that nobody knows, more than a day after its send."""


def look_up(
    ledger: Ledger, entry: Entry, generation_id: str, *, api_key: str | None, base_url: str
) -> Sighting:
    """Ask the API for a job, where this key can see the jobs of the entry's account."""
    if api_key is None:
        return _no_sighting("no key is set (SYNC_API_KEY)")
    if base_url != entry.base_url:
        return _no_sighting(f"the call went to {entry.base_url}, and SYNC_BASE_URL is {base_url}")
    return anyio.run(_look_up, ledger, entry, generation_id, api_key)


async def _look_up(ledger: Ledger, entry: Entry, generation_id: str, api_key: str) -> Sighting:
    async with AsyncSync(api_key=api_key, base_url=entry.base_url) as sync:
        account = ledger.account_of(sync.key_fingerprint, entry.base_url)
        if account is not None and account[0] != entry.account:
            return _no_sighting(f"the key is of {account[0]}, and the call was of {entry.account}")
        try:
            job = await _job(sync, generation_id)
            has_day_passed = has_lasted(entry, instant(sync).seconds)
        except SyncError as error:
            return _no_sighting(
                f"the API could not tell: {safe(error.whole_message, REASON_LIMIT).rstrip('.')}"
            )
    if job is None:
        return Sighting(False, f"The API knows no generation {generation_id}.")
    made = f", made {moment(job.created_at.timestamp())}" if job.created_at else ""
    what = f"{safe(job.model or 'a model that it does not tell', MODEL_LIMIT)}, {safe(job.status, 40)}"
    is_strange = not job.finished and may_have_ended(entry, job)
    return Sighting(
        True,
        f"The API knows this job: {what}{made}.",
        is_running=not job.finished,
        status=safe(job.status, 40),
        is_strange_for_long=is_strange and has_day_passed,
    )


async def _job(sync: AsyncSync, generation_id: str) -> Generation | None:
    try:
        return await sync.generations.get(generation_id, request_options=_LOOK)
    except RequestRejectedError:
        # It has no ids of such a form.
        return None
    except NotFoundError:
        listed = await sync.generations.list(ids=[generation_id], request_options=_LOOK)
        job = next((job for job in listed if job.id == generation_id), None)
        if job is None and listed.unreadable:
            raise APIResponseError("The API's list has an entry that cannot be read.") from None
        return job


def _no_sighting(reason: str) -> Sighting:
    return Sighting(None, f"The id is not looked up, as {reason}.")
