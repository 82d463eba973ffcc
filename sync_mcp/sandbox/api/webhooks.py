"""The webhooks that the sandbox sends: who is told that a job has ended, and what (API §15)."""

import asyncio
import hashlib
import hmac
import http.client
import json
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from sync_mcp.sandbox.faults.records import SentWebhook
from sync_mcp.sandbox.jobs import Job, JsonObject
from sync_mcp.sandbox.world import World

_TOLD_STATUSES = ("COMPLETED", "FAILED")
"""The ends that the API tells; a job that is rejected sends nothing."""
_NOT_TOLD = ("outputFileName", "projectId", "synthesizedAudioUrl")
_LONGEST_PAUSE_SECONDS = 3600.0
_ANSWER_SECONDS = 10.0
_STALE_SECONDS = 3600
_FOREIGN_SECRET = "whsec_of_somebody_else"  # noqa: S105 - it is no secret of ours


class Shows(Protocol):
    """What shows a job as the API does."""

    def wire(self, job: Job) -> JsonObject:
        """Return the job as it is shown now."""
        ...


class WebhookSender:
    """Tells each job's end once to the webhook that it names, as its fault has it: late, twice, or never.

    All of them go to `webhook_origin`, with the host that the job names in their head, as a proxy would send
    them on. As with the API, none is sent again.
    """

    def __init__(self, world: World, generations: Shows) -> None:
        self._world = world
        self._generations = generations

    async def run(self) -> None:
        """Send what is due until it is cancelled."""
        async with asyncio.TaskGroup() as sending:
            while not self._world.pulse.stopping:
                contents, now = self._world.contents, self._world.clock.now()
                waiting = [(job, at) for job in contents.untold if (at := _due_at(job)) is not None]
                for job, at in waiting:
                    if at <= now:
                        contents.untold.remove(job)
                        sending.create_task(self._tell(job))
                next_at = min((at for _, at in waiting if at > now), default=None)
                pause = _LONGEST_PAUSE_SECONDS if next_at is None else (next_at - now).total_seconds()
                await self._world.pulse.wait(pause)

    async def _tell(self, job: Job) -> None:
        origin, how = self._world.settings.webhook_origin, job.fate and job.fate.webhook
        url = job.asked.get("webhookUrl")
        if origin is None or how == "never" or not isinstance(url, str):
            return
        shown = self._generations.wire(job)
        if shown["status"] not in _TOLD_STATUSES:
            return
        told = {name: value for name, value in shown.items() if name not in _NOT_TOLD}
        # As the API's own language writes it.
        body = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
        secret = _FOREIGN_SECRET if how == "wrongly_signed" else self._world.settings.webhook_secret
        signed_at = int(time.time()) - (_STALE_SECONDS if how == "stale" else 0)
        for _ in range(2 if how == "twice" else 1):
            post = partial(_post, origin, url, body, _signature(body, secret, signed_at))
            status = await self._world.in_worker(post)
            self._world.records.add_webhook(SentWebhook(job.id, str(shown["status"]), url, status))


def _due_at(job: Job) -> datetime | None:
    """Return when a job's end is told; None for one that never ends."""
    late = (job.fate and job.fate.webhook_seconds) or 0.0
    return None if job.ends_at is None else job.ends_at + timedelta(seconds=late)


def _signature(body: bytes, secret: str, at: int) -> str:
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def _post(origin: str, url: str, body: bytes, signature: str) -> int | None:
    """Send a webhook; return how it was answered, None for not at all."""
    to, named = urlsplit(origin), urlsplit(url)
    path = (named.path or "/") + (f"?{named.query}" if named.query else "")
    headers = {"Host": named.netloc, "Content-Type": "application/json", "Sync-Signature": signature}
    connection = http.client.HTTPConnection(to.hostname or "", to.port or 80, timeout=_ANSWER_SECONDS)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
