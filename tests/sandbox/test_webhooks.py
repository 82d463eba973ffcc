"""The webhooks of the sandbox: signed as the API signs them, and as faulty as they may be."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import lipsync

HOOK = "https://hooks.example.com/done?job=1"
PATIENCE_SECONDS = 15


class Came(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return json.loads(self.body)["id"]


@pytest.fixture
def came(sandbox: Sandbox) -> Iterator[list[Came]]:
    """What comes to a receiver on this machine, to which the sandbox sends its webhooks."""
    received: list[Came] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(Came(self.path, {n.lower(): v for n, v in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        sandbox.configure(webhook_origin=f"http://127.0.0.1:{server.server_port}", job_seconds=60)
        yield received
        server.shutdown()
        serving.join()


def make(api: httpx.Client, sandbox: Sandbox, **fate: Any) -> str:
    if fate:
        sandbox.add_fault(Fault.model_validate(fate))
    answer = api.post("/v2/generate", json=lipsync(sandbox, webhookUrl=HOOK))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def wait_for(sandbox: Sandbox, sent: int) -> None:
    """Wait until so many were sent and answered, which happens in other threads."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while len(sandbox.webhooks) < sent:
        assert time.monotonic() < ends_at, sandbox.webhooks
        time.sleep(0.005)


def signature(came: Came, secret: str) -> str:
    sent = came.headers["sync-signature"].partition(",")[0].removeprefix("t=")
    signed = hmac.new(secret.encode(), f"{sent}.".encode() + came.body, hashlib.sha256)
    return f"t={sent},v1={signed.hexdigest()}"


def test_the_end_of_a_job_is_told_once_signed_with_its_raw_body_and_named_as_the_job_names_it(
    sandbox: Sandbox, api: httpx.Client, came: list[Came]
) -> None:
    job_id = make(api, sandbox)
    sandbox.advance(60)
    wait_for(sandbox, 1)
    [told] = came
    assert (told.path, told.headers["host"]) == ("/done?job=1", "hooks.example.com")
    assert told.headers["sync-signature"] == signature(told, sandbox.settings.webhook_secret)
    assert abs(time.time() - int(told.headers["sync-signature"][2:12])) < PATIENCE_SECONDS
    payload = json.loads(told.body)
    assert (payload["id"], payload["status"], payload["webhookUrl"]) == (job_id, "COMPLETED", HOOK)
    assert payload["outputUrl"].startswith(sandbox.url)
    assert "outputFileName" not in payload
    assert [sent.to_json()["answered"] for sent in sandbox.webhooks] == [204]


def test_a_failure_is_told_with_its_code_and_a_rejection_not_at_all(
    sandbox: Sandbox, api: httpx.Client, came: list[Came]
) -> None:
    make(api, sandbox, job="reject")
    failed = make(api, sandbox, job="fail")
    sandbox.advance(60)
    wait_for(sandbox, 1)
    [payload] = [json.loads(one.body) for one in came]
    assert (payload["id"], payload["status"]) == (failed, "FAILED")
    assert payload["errorCode"] == "generation_pipeline_failed"


def test_it_comes_twice_or_never_or_late_and_so_out_of_order(
    sandbox: Sandbox, api: httpx.Client, came: list[Came]
) -> None:
    make(api, sandbox, webhook="never")
    late = make(api, sandbox, webhook_seconds=30)
    twice = make(api, sandbox, webhook="twice")
    sandbox.advance(60)
    wait_for(sandbox, 2)
    assert [one.id for one in came] == [twice, twice]
    assert came[0].body == came[1].body
    sandbox.advance(30)
    wait_for(sandbox, 3)
    assert came[2].id == late


@pytest.mark.parametrize("how", ["wrongly_signed", "stale"])
def test_it_can_be_signed_so_that_nobody_should_believe_it(
    sandbox: Sandbox, api: httpx.Client, came: list[Came], how: str
) -> None:
    make(api, sandbox, webhook=how)
    sandbox.advance(60)
    wait_for(sandbox, 1)
    is_ours = came[0].headers["sync-signature"] == signature(came[0], sandbox.settings.webhook_secret)
    age = time.time() - int(came[0].headers["sync-signature"][2:12])
    assert (is_ours, age > 3000) == (how == "stale", how == "stale")


def test_whoever_does_not_answer_is_not_told_again(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(webhook_origin="http://127.0.0.1:9", job_seconds=60)
    make(api, sandbox)
    sandbox.advance(60)
    wait_for(sandbox, 1)
    assert [sent.answered for sent in sandbox.webhooks] == [None]
    assert api.get("/sandbox/webhooks").json() == [sent.to_json() for sent in sandbox.webhooks]


@pytest.mark.parametrize("origin", ["https://hooks.example.com", "http://192.0.2.1", "http://localhost/x"])
def test_webhooks_stay_on_this_machine(api: httpx.Client, origin: str) -> None:
    answer = api.patch("/sandbox/settings", json={"webhook_origin": origin})
    assert answer.status_code == 400
