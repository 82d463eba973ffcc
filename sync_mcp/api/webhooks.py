"""Webhooks: the API's word that a job has ended, and whether it is the API's (API §15)."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

from pydantic import Field, ValidationError

from sync_mcp.api.body import parse_json
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel, Json, Moment
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIResponseError, WebhookRefused

SIGNATURE_HEADERS = ("sync-signature", "x-signature-primary")
"""The guides name the first, the reference of payloads the second; where both are there the first counts."""

TOLERANCE_SECONDS = 300.0
"""How far the time of a webhook may lie from this machine's."""

_TIME = re.compile(r"t=(\d{1,12})")
_SIGNATURE = re.compile(r"v1=([0-9a-fA-F]{64})")


class WebhookEvent(CamelModel):
    """What a webhook tells of a job or a batch. Get the job again before acting on it: that is the truth."""

    id: str = Field(min_length=1)
    status: str = Field(min_length=1)
    created_at: Moment | None = None
    model: str | None = None
    output_url: str | None = None
    error: str | None = None
    error_code: str | None = None
    sent_at: Moment
    """When it was signed."""

    @property
    def identity(self) -> tuple[str, str]:
        """What two deliveries of the same news have in common: the id and the status.

        The API may deliver one twice: whoever has seen this already answers 200 and does nothing more.
        """
        return self.id, self.status


class Webhooks:
    """The organization's webhooks; reached as `AsyncSync.webhooks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def secret(self, *, masked: bool = False, request_options: RequestOptions | None = None) -> str:
        """Return the secret by which the organization's webhooks are signed; `masked`, its ends alone.

        Raises:
            PermissionDeniedError: the key may not read it.
        """
        query = {"masked": "true"} if masked else {}
        call = Call("GET", "/v2/organizations/webhook/secret", query=query)
        told = (await self._transport.read(call, request_options)).fields.get("secret")
        if not isinstance(told, str) or not told:
            raise APIResponseError("The API's answer has no secret.")
        return told

    @staticmethod
    def verify(
        body: bytes,
        headers: Mapping[str, str],
        secret: str,
        *,
        tolerance_seconds: float = TOLERANCE_SECONDS,
        now: datetime | None = None,
    ) -> WebhookEvent:
        """Return what a webhook tells, once it is known that the API has sent it, and not long ago.

        Args:
            body: the raw body, byte for byte as it came: JSON that was written anew has another signature.
            headers: those of the request, their names in any case.
            secret: the organization's, whole, with its `whsec_`.
            tolerance_seconds: how far its time may lie from now, before or after.
            now: the time; by default this machine's. One without a zone is in UTC.

        Raises:
            WebhookRefused: `signature_missing`, `signature_wrong`, `signature_stale` or `event_unreadable`.
        """
        if not secret:
            # Anybody can sign with nothing.
            raise WebhookRefused("There is no secret to check a webhook by.", code="signature_wrong")
        named = {name.lower(): value for name, value in headers.items()}
        told = next((named[name] for name in SIGNATURE_HEADERS if name in named), "")
        parts = [part.strip() for part in told.split(",")]
        times = [found[1] for part in parts if (found := _TIME.fullmatch(part))]
        signatures = [found[1].lower() for part in parts if (found := _SIGNATURE.fullmatch(part))]
        if len(times) != 1 or not signatures:
            raise WebhookRefused("The webhook has no signature that can be read.", code="signature_missing")
        signed = f"{times[0]}.".encode() + body
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        # Of several, as there are while a secret is changed, any one will do; all are compared in full.
        if not sum(hmac.compare_digest(expected, one) for one in signatures):
            raise WebhookRefused("The webhook was not signed by this secret.", code="signature_wrong")
        sent_at = _moment(int(times[0]))
        at = now or datetime.now(UTC)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        if sent_at is None or abs(at - sent_at) > timedelta(seconds=tolerance_seconds):
            raise WebhookRefused(
                "The webhook was signed too long ago, or ahead of time.", code="signature_stale"
            )
        return _read_event(body, sent_at)


def _read_event(body: bytes, sent_at: datetime) -> WebhookEvent:
    told = parse_json(body)
    try:
        if isinstance(told, dict):
            return WebhookEvent.from_wire({**cast(Json, told), "sentAt": sent_at})
    except ValidationError:
        pass
    raise WebhookRefused("The webhook's body tells of no job.", code="event_unreadable")


def _moment(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
