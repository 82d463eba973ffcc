import json
import time

import httpx
import pytest
from pydantic import ValidationError

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import ask, code_of, create, lipsync

KEYED = {"idempotency-key": "k1"}


def _send(api: httpx.Client, sandbox: Sandbox) -> httpx.Response:
    return api.post("/v2/generate", json=lipsync(sandbox), headers=KEYED)


def _jobs(sandbox: Sandbox) -> int:
    assert len(sandbox.generations) == len(sandbox.charges)
    return len(sandbox.charges)


@pytest.mark.parametrize(("when", "jobs"), [(None, 0), ("before", 0), ("after", 1)])
def test_a_create_can_be_refused_with_any_status_and_body(
    sandbox: Sandbox, api: httpx.Client, when: str | None, jobs: int
) -> None:
    fault = {"status": 418, "body": {"message": "teapot"}, "headers": {"Retry-After": "7"}, "when": when}
    sandbox.add_fault(Fault.model_validate(fault))
    response = _send(api, sandbox)
    assert (response.status_code, response.json()) == (418, {"message": "teapot"})
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-sync-sandbox"] == "1"
    assert _jobs(sandbox) == jobs
    assert _send(api, sandbox).status_code == 201
    assert _jobs(sandbox) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("concurrency_limit_reached", 429),
        ("rate_limit_exceeded", 429),
        ("account_payment_required", 402),
        ("internal_error", 500),
        ("generation_infra_service_unavailable", 503),
        ("controller_timeout", 504),
    ],
)
def test_an_api_error_has_the_status_and_body_of_its_code(
    sandbox: Sandbox, api: httpx.Client, code: str, status: int
) -> None:
    sandbox.add_fault(Fault.api_error(code, path="/v2/generate"))
    response = _send(api, sandbox)
    assert code_of(response) == (status, code)
    assert {"message", "suggestion", "statusCode"} <= response.json().keys()
    assert ("concurrencyLimit" in response.json()) == (code == "concurrency_limit_reached")
    assert ("requestId" in response.json()) == (code == "internal_error")


def test_a_rule_with_a_key_strikes_requests_of_that_key_alone(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(path="/v2/models", key="sk_other", status=418, times=None))
    assert api.get("/v2/models").status_code == 200
    assert api.get("/v2/models", headers={"x-api-key": "sk_other"}).status_code == 418


@pytest.mark.parametrize(("drop", "jobs"), [("before", 0), ("after", 1)])
def test_the_connection_can_be_dropped_before_or_after_accepting(
    sandbox: Sandbox, api: httpx.Client, drop: str, jobs: int
) -> None:
    sandbox.add_fault(Fault.model_validate({"drop": drop}))
    with pytest.raises(httpx.TransportError):
        _send(api, sandbox)
    assert _jobs(sandbox) == jobs
    assert sandbox.requests[0].status is None
    assert _send(api, sandbox).status_code == 201
    assert _jobs(sandbox) == 1


@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
def test_a_body_can_be_cut_before_or_after_accepting(
    sandbox: Sandbox, api: httpx.Client, when: str, jobs: int
) -> None:
    sandbox.add_fault(Fault.model_validate({"cut_body": True, "when": when}))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        _send(api, sandbox)
    assert _jobs(sandbox) == jobs


@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
def test_a_gateway_can_answer_html(sandbox: Sandbox, api: httpx.Client, when: str, jobs: int) -> None:
    sandbox.add_fault(Fault.model_validate({"html": True, "when": when}))
    response = _send(api, sandbox)
    assert response.status_code == 502
    assert response.headers["content-type"] == "text/html"
    assert "<html>" in response.text
    assert _jobs(sandbox) == jobs


@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
def test_an_answer_can_be_empty_or_lack_the_id(
    sandbox: Sandbox, api: httpx.Client, when: str, jobs: int
) -> None:
    sandbox.add_fault(Fault.model_validate({"empty": True, "when": when}))
    response = _send(api, sandbox)
    assert (response.status_code, response.content) == (201, b"")
    assert _jobs(sandbox) == jobs
    sandbox.add_fault(Fault.model_validate({"no_id": True, "when": when}))
    response = _send(api, sandbox)
    assert response.status_code == 201
    assert response.json()["status"] == "PENDING"
    assert "id" not in response.json()
    assert _jobs(sandbox) == jobs


def test_the_outcome_can_be_unknown_with_and_without_the_id(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(idempotency_outcome_unknown="without_id", when="before"))
    sandbox.add_fault(Fault(idempotency_outcome_unknown="with_id"))
    sandbox.add_fault(Fault(idempotency_outcome_unknown="without_id"))
    early, told, untold = (_send(api, sandbox) for _ in range(3))
    for response in (early, told, untold):
        assert code_of(response) == (503, "IDEMPOTENCY_OUTCOME_UNKNOWN")
    assert "generationId" not in early.json()
    assert told.json()["generationId"] in sandbox.generations
    assert "generationId" not in untold.json()
    assert _jobs(sandbox) == 1


@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
def test_an_answer_can_be_late(sandbox: Sandbox, api: httpx.Client, when: str, jobs: int) -> None:
    sandbox.add_fault(Fault.model_validate({"delay_seconds": 5, "when": when}))
    with pytest.raises(httpx.ReadTimeout):
        api.post("/v2/generate", json=lipsync(sandbox), timeout=0.4)
    assert _jobs(sandbox) == jobs


def test_a_short_delay_only_delays(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(delay_seconds=0.2))
    began = time.monotonic()
    assert _send(api, sandbox).status_code == 201
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("job", "status", "code"),
    [
        ("fail", "FAILED", "generation_pipeline_failed"),
        ("reject", "REJECTED", "generation_input_validation_failed"),
    ],
)
def test_a_job_can_fail_or_be_rejected_uncharged_or_charged(
    sandbox: Sandbox, api: httpx.Client, job: str, status: str, code: str
) -> None:
    sandbox.add_fault(Fault.model_validate({"job": job}))
    sandbox.add_fault(
        Fault.model_validate({"job": job, "error_code": "x_new", "error": "No.", "charged": True})
    )
    free, charged = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    assert [charge.released for charge in sandbox.charges] == [False, False]
    sandbox.advance(60)
    shown = api.get(f"/v2/generate/{free}").json()
    assert (shown["status"], shown["errorCode"], shown["outputUrl"]) == (status, code, None)
    shown = api.get(f"/v2/generate/{charged}").json()
    assert (shown["status"], shown["errorCode"], shown["error"]) == (status, "x_new", "No.")
    assert [charge.released for charge in sandbox.charges] == [True, False]
    assert [charge.amount_usd > 0 for charge in sandbox.charges] == [False, True]


@pytest.mark.parametrize("word", ["CANCELLED", "TIMED_OUT", "canceled"])
def test_a_job_can_end_with_any_status_uncharged_or_charged(
    sandbox: Sandbox, api: httpx.Client, word: str
) -> None:
    sandbox.add_fault(Fault(end_status=word))
    sandbox.add_fault(Fault(end_status=word, error_code="x_new", error="No.", charged=True))
    free, charged = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    assert api.get(f"/v2/generate/{free}").json()["status"] == "PENDING"
    sandbox.advance(60)
    shown = api.get(f"/v2/generate/{free}", params={"wait": "true"}).json()
    assert (shown["status"], shown["outputUrl"], shown["errorCode"], shown["error"]) == (
        word,
        None,
        None,
        None,
    )
    shown = api.get(f"/v2/generate/{charged}").json()
    assert (shown["status"], shown["errorCode"], shown["error"]) == (word, "x_new", "No.")
    assert [charge.released for charge in sandbox.charges] == [True, False]
    assert [charge.amount_usd > 0 for charge in sandbox.charges] == [False, True]
    assert api.get(f"/v2/generate/{charged}/costs").json()["generationStatus"] == word


def test_a_job_that_ends_with_any_status_leaves_its_slot_and_can_be_deleted(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.configure(plan="hobbyist")
    sandbox.add_fault(Fault(end_status="CANCELLED"))
    generation_id = create(api, lipsync(sandbox))["id"]
    assert code_of(_send(api, sandbox)) == (429, "concurrency_limit_reached")
    sandbox.advance(60)
    assert _send(api, sandbox).status_code == 201
    assert api.delete(f"/v2/generations/{generation_id}").json()["status"] == "CANCELLED"


def test_a_job_that_completes_in_lower_case_has_its_output_and_is_charged(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.add_fault(Fault(end_status="completed"))
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(60)
    shown = api.get(f"/v2/generate/{generation_id}").json()
    assert (shown["status"], shown["outputDuration"] > 0) == ("completed", True)
    assert ask("GET", shown["outputUrl"]).status_code == 200
    assert ask("GET", api.get(f"/v2/generations/{generation_id}/download").text).status_code == 200
    assert [charge.amount_usd > 0 for charge in sandbox.charges] == [True]


def test_a_stuck_job_never_ends(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(job="stuck"))
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(24 * 3600)
    shown = api.get(f"/v2/generate/{generation_id}", params={"include": "progress"}).json()
    assert (shown["status"], shown["progress_percent"]) == ("PROCESSING", 99)


def test_a_forgotten_job_is_not_found_and_a_hidden_one_not_listed(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.add_fault(Fault(job="forget"))
    sandbox.add_fault(Fault(job="hide"))
    forgotten, hidden = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    assert code_of(api.get(f"/v2/generate/{forgotten}")) == (404, "generation_not_found")
    assert api.get(f"/v2/generate/{hidden}").status_code == 200
    assert api.get("/v2/generations").json() == []
    assert api.get("/v2/generations", params={"limit": 10}).json() == []
    assert _jobs(sandbox) == 2


def test_the_fate_of_a_job_and_of_its_answer_go_together(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(job="hide", drop="after"))
    with pytest.raises(httpx.TransportError):
        _send(api, sandbox)
    assert api.get("/v2/generations").json() == []
    assert _jobs(sandbox) == 1


@pytest.mark.parametrize(
    "fate", [{"job": "hide"}, {"end_status": "CANCELLED"}, {"list_lag_seconds": 60}, {"cost_seconds": 60}]
)
def test_a_job_with_a_fate_is_made_though_its_create_is_answered_with_an_error(
    sandbox: Sandbox, api: httpx.Client, fate: dict[str, object]
) -> None:
    sandbox.add_fault(Fault.model_validate({**fate, "status": 500}))
    assert _send(api, sandbox).status_code == 500
    assert _jobs(sandbox) == 1


def test_a_rule_strikes_by_method_and_path_so_many_times_after_some(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    rule = sandbox.add_fault(
        Fault(method="GET", path="/v2/generat*", skip=1, times=2, status=500, body="down")
    )
    assert api.get("/v2/models").status_code == 200
    assert create(api, lipsync(sandbox))
    assert [api.get("/v2/generations").status_code for _ in range(4)] == [200, 500, 500, 200]
    struck = [request.fault for request in sandbox.requests]
    assert struck == [None, None, None, rule, rule, None]


def test_a_rule_without_an_end_strikes_until_it_is_removed(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(status=503, times=None))
    assert [api.get("/v2/models").status_code for _ in range(3)] == [503, 503, 503]
    sandbox.clear_faults()
    assert api.get("/v2/models").status_code == 200


def test_a_fault_about_jobs_lets_other_requests_pass(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(job="fail"))
    assert api.get("/v2/generations").status_code == 200
    assert api.post("/v2/analyze/cost", json=lipsync(sandbox)).status_code == 200
    create(api, lipsync(sandbox))
    sandbox.advance(60)
    assert [row["status"] for row in sandbox.generations.values()] == ["FAILED"]


def test_a_header_makes_a_fault_for_its_own_request(sandbox: Sandbox, api: httpx.Client) -> None:
    header = {"X-Sandbox-Fault": json.dumps({"html": True, "when": "after"})}
    assert api.post("/v2/generate", json=lipsync(sandbox), headers=header).status_code == 502
    assert api.get("/v2/models").status_code == 200
    assert [request.fault for request in sandbox.requests] == ["header", None]
    assert _jobs(sandbox) == 1


def test_a_header_that_is_no_fault_is_400(sandbox: Sandbox, api: httpx.Client) -> None:
    response = api.get("/v2/models", headers={"X-Sandbox-Fault": '{"stauts": 500}'})
    assert response.status_code == 400
    assert "stauts" in str(response.json()["message"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"html": True, "empty": True},
        {"body": {"a": 1}},
        {"drop": "before", "when": "after"},
        {"job": "fail", "status": 500, "when": "before"},
        {"idempotency_outcome_unknown": "with_id", "when": "before"},
        {"status": 99},
        {"end_status": ""},
        {"end_status": "CANCELLED", "job": "fail"},
        {"end_status": "CANCELLED", "job": "stuck"},
        {"end_status": "CANCELLED", "html": True, "when": "before"},
        {"get_lag_seconds": -1},
        {"list_lag_seconds": 30, "method": "POST", "charged": True, "status": 500, "when": "before"},
        {"times": 0},
    ],
)
def test_a_fault_that_makes_no_sense_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(fields)


def test_an_output_or_an_upload_can_fail_too(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path="/samples/*", cut_body=True))
    with pytest.raises(httpx.RemoteProtocolError):
        ask("GET", sandbox.samples.image)
    sandbox.add_fault(Fault(method="PUT", status=500))
    assert ask("PUT", f"{sandbox.url}/storage/x", content=b"x").status_code == 500
