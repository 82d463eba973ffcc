"""Webhooks: the secret, and which of what comes as one is the API's own word of now."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from sync_mcp import APIResponseError, AsyncSync, WebhookRefused
from sync_mcp.api.webhooks import SIGNATURE_HEADERS, Webhooks
from sync_mcp.sandbox import Sandbox

from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

SECRET = "whsec_test"
BODY = b'{"id":"g1","status":"COMPLETED"}'
SENT = 1_700_000_000
NOW = datetime.fromtimestamp(SENT + 5, UTC)
SIGNATURE = "9680bdc3bf18158395228782eea8fd1b83e4b9523985c524f01454e638df0044"
"""Of `BODY` at `SENT`, as API §23.14 has it."""


def headers(signature: str = SIGNATURE, sent: int = SENT, name: str = "Sync-Signature") -> Mapping[str, str]:
    return {"Content-Type": "application/json", name: f"t={sent},v1={signature}"}


def sign(body: bytes, sent: int = SENT, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), f"{sent}.".encode() + body, hashlib.sha256).hexdigest()


def refusal(body: bytes, given: Mapping[str, str], secret: str = SECRET, now: datetime = NOW) -> str:
    with pytest.raises(WebhookRefused) as refused:
        Webhooks.verify(body, given, secret, now=now)
    return refused.value.code


@pytest.mark.parametrize("name", [*SIGNATURE_HEADERS, "Sync-Signature", "X-Signature-Primary"])
def test_what_is_signed_by_the_secret_under_either_header_is_believed(name: str) -> None:
    event = Webhooks.verify(BODY, headers(name=name), SECRET, now=NOW)
    assert (event.id, event.status, event.sent_at) == ("g1", "COMPLETED", NOW - timedelta(seconds=5))


def test_where_both_headers_are_there_the_first_one_counts() -> None:
    both = {**headers(), "X-Signature-Primary": "t=1,v1=00"}
    assert Webhooks.verify(BODY, both, SECRET, now=NOW).id == "g1"
    wrong = {**headers(signature="0" * 64), "X-Signature-Primary": f"t={SENT},v1={SIGNATURE}"}
    assert refusal(BODY, wrong) == "signature_wrong"


def test_of_several_signatures_as_while_a_secret_is_changed_one_will_do() -> None:
    given = {"sync-signature": f"t={SENT}, v1={'0' * 64}, v1={SIGNATURE.upper()}"}
    assert Webhooks.verify(BODY, given, SECRET, now=NOW).id == "g1"


def test_the_raw_body_is_signed_and_not_what_it_means() -> None:
    spoken = '{"id":"g1","status":"FAILED","error":"Señora"}'.encode()
    assert Webhooks.verify(spoken, headers(sign(spoken)), SECRET, now=NOW).error == "Señora"
    again = json.dumps(json.loads(spoken), separators=(",", ":")).encode()
    assert again != spoken
    assert refusal(again, headers(sign(spoken))) == "signature_wrong"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sync-signature": ""},
        {"sync-signature": SIGNATURE},
        {"sync-signature": f"v1={SIGNATURE}"},
        {"sync-signature": f"t={SENT}"},
        {"sync-signature": f"t={SENT},t=1,v1={SIGNATURE}"},
        {"sync-signature": f"t={SENT},v1={SIGNATURE[:-1]}"},
        {"sync-signature": f"t=-{SENT},v1={SIGNATURE}"},
    ],
)
def test_without_one_readable_time_and_signature_nothing_is_believed(given: Mapping[str, str]) -> None:
    assert refusal(BODY, given) == "signature_missing"


def test_another_secret_time_or_body_is_a_forgery_and_so_is_all_without_a_secret() -> None:
    assert refusal(BODY, headers(), secret="whsec_other") == "signature_wrong"
    assert refusal(BODY, headers(sent=SENT + 1)) == "signature_wrong"
    assert refusal(BODY + b" ", headers()) == "signature_wrong"
    assert refusal(BODY, headers(sign(BODY, secret="")), secret="") == "signature_wrong"


@pytest.mark.parametrize("seconds", [-301, 301, 86_400 * 365])
def test_what_was_signed_at_another_time_is_a_replay(seconds: int) -> None:
    now = datetime.fromtimestamp(SENT + seconds, UTC)
    assert refusal(BODY, headers(), now=now) == "signature_stale"
    near = datetime.fromtimestamp(SENT + (299 if seconds > 0 else -299), UTC)
    assert Webhooks.verify(BODY, headers(), SECRET, now=near.replace(tzinfo=None)).id == "g1"
    wide = abs(seconds) + 1
    assert Webhooks.verify(BODY, headers(), SECRET, tolerance_seconds=wide, now=now).id == "g1"


def test_a_time_that_no_clock_shows_is_stale() -> None:
    sent = 999_999_999_999
    assert refusal(BODY, headers(sign(BODY, sent), sent)) == "signature_stale"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"id":"","status":"FAILED"}', b'{"id":"g1"}'])
def test_what_is_signed_and_tells_of_no_job_is_refused(body: bytes) -> None:
    assert refusal(body, headers(sign(body))) == "event_unreadable"


def test_the_same_news_twice_has_one_identity_and_another_status_is_other_news() -> None:
    later = SENT + 60
    first = Webhooks.verify(BODY, headers(), SECRET, now=NOW)
    again = Webhooks.verify(BODY, headers(sign(BODY, later), later), SECRET, now=NOW)
    other = b'{"id":"g1","status":"FAILED"}'
    assert first.identity == again.identity
    assert Webhooks.verify(other, headers(sign(other)), SECRET, now=NOW).identity != first.identity


def test_what_a_batch_tells_is_read_and_the_code_of_a_failure_in_either_spelling() -> None:
    for spelled in ("error_code", "errorCode"):
        body = json.dumps({"id": "b", "status": "FAILED", spelled: "x", "metrics": {"n": 1}}).encode()
        event = Webhooks.verify(body, headers(sign(body)), SECRET, now=NOW)
        assert (event.error_code, (event.model_extra or {})["metrics"]) == ("x", {"n": 1})


async def test_the_secret_is_told_and_masked_where_that_is_asked(sandbox: Sandbox, sync: AsyncSync) -> None:
    secret = await sync.webhooks.secret()
    assert secret == sandbox.settings.webhook_secret
    masked = await sync.webhooks.secret(masked=True)
    assert masked != secret
    assert masked.startswith("whsec_")


async def test_an_answer_without_a_secret_is_no_secret(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync]
) -> None:
    with pytest.raises(APIResponseError, match="no secret"):
        await client_of(serve(answer(200, {"secret": ""}))).webhooks.secret()
