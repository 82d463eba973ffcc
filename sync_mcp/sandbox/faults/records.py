"""What the sandbox writes down: every request and every charge."""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pydantic import JsonValue

from sync_mcp.sandbox.clock import timestamp


@dataclass(slots=True)
class RecordedRequest:
    """A request as it arrived, and what became of it. Control paths are not recorded."""

    method: str
    path: str
    query: dict[str, str]
    """Values of a repeated name are joined by commas."""
    headers: dict[str, str]
    """Names in lower case; values of a repeated name are joined by commas, and no key's is written down."""
    body: JsonValue
    """The JSON body, or None for any other."""
    at: datetime
    """On the sandbox's clock."""
    status: int | None = None
    """None while it is worked on, and where no answer was sent."""
    fault: str | None = None
    """The id of the rule that struck it, or `header`."""
    flags: list[str] = field(default_factory=list[str])
    """What a client should not have done: `key_sent_to_storage` where the API key went to a signed URL."""

    def to_json(self) -> dict[str, object]:
        """Return the record as the control path shows it."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": self.body,
            "at": timestamp(self.at),
            "status": self.status,
            "fault": self.fault,
            "flags": self.flags,
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """What a job costs: one for each job that was accepted."""

    generation_id: str
    amount_usd: Decimal
    """0 once it is released."""
    at: datetime
    idempotency_key: str | None
    released: bool
    """Whether the job ended without being charged for."""

    def to_json(self) -> dict[str, object]:
        """Return the charge as the control path shows it."""
        return {
            "generationId": self.generation_id,
            "amountUsd": str(self.amount_usd),
            "at": timestamp(self.at),
            "idempotencyKey": self.idempotency_key,
            "released": self.released,
        }


@dataclass(frozen=True, slots=True)
class SentWebhook:
    """A webhook that was sent."""

    generation_id: str
    told_status: str
    """The status of the job that it told."""
    url: str
    """As the job names it."""
    answered: int | None
    """The status of the answer; None where none came."""

    def to_json(self) -> dict[str, object]:
        """Return the webhook as the control path shows it."""
        return {
            "generationId": self.generation_id,
            "toldStatus": self.told_status,
            "url": self.url,
            "answered": self.answered,
        }


class Records:
    """Requests in the order of their arrival, and webhooks as they went out; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._webhooks: list[SentWebhook] = []

    def add(self, request: RecordedRequest) -> None:
        """Write a request down."""
        with self._lock:
            self._requests.append(request)

    def listing(self) -> list[RecordedRequest]:
        """Return all requests so far."""
        with self._lock:
            return list(self._requests)

    def add_webhook(self, webhook: SentWebhook) -> None:
        """Write a webhook down."""
        with self._lock:
            self._webhooks.append(webhook)

    def webhooks(self) -> list[SentWebhook]:
        """Return all webhooks so far."""
        with self._lock:
            return list(self._webhooks)

    def clear(self) -> None:
        """Forget all requests and webhooks."""
        with self._lock:
            self._requests.clear()
            self._webhooks.clear()
