import threading

import httpx
import pytest
from pydantic import ValidationError

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import KEY, arrived, ask, create, lipsync


def test_the_sandbox_describes_itself_without_a_key(sandbox: Sandbox) -> None:
    told = ask("GET", f"{sandbox.url}/sandbox").json()
    assert sandbox.samples.video in told["samples"]
    assert told["settings"]["plan"] == "scale"
    assert "delay_seconds" in told["fault_schema"]["properties"]
    for path in told["paths"]:
        assert path.split(" ")[1].startswith("/sandbox")


def test_every_setting_and_every_field_of_a_fault_is_described(sandbox: Sandbox) -> None:
    told = ask("GET", f"{sandbox.url}/sandbox").json()
    for schema in (told["settings_schema"], told["fault_schema"]):
        assert [name for name, field in schema["properties"].items() if not field.get("description")] == []


def test_every_described_path_is_there(sandbox: Sandbox) -> None:
    paths = ask("GET", f"{sandbox.url}/sandbox").json()["paths"]
    for line in paths:
        method, path = line.split(" ")
        response = ask(method, sandbox.url + path)
        assert "Cannot" not in response.text, line


def test_the_clock_moves_by_request(sandbox: Sandbox, api: httpx.Client) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    assert ask("POST", f"{sandbox.url}/sandbox/clock", json={"advance_seconds": 60}).status_code == 200
    assert api.get(f"/v2/generate/{generation_id}").json()["status"] == "COMPLETED"
    for wrong in ({"advance_seconds": -1}, {"seconds": 1}, {}):
        assert ask("POST", f"{sandbox.url}/sandbox/clock", json=wrong).status_code == 400


def test_time_does_not_run_backwards(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="forward"):
        sandbox.advance(-1)


def test_faults_come_and_go_by_request(sandbox: Sandbox, api: httpx.Client) -> None:
    faults = f"{sandbox.url}/sandbox/faults"
    rule = ask("POST", faults, json={"status": 500, "times": None}).json()["id"]
    assert api.get("/v2/models").status_code == 500
    assert ask("GET", faults).json() == [{"id": rule, "struck": 1, "fault": {"status": 500, "times": None}}]
    assert ask("DELETE", f"{faults}/{rule}").json() == []
    assert ask("DELETE", f"{faults}/{rule}").status_code == 404
    ask("POST", faults, json={"status": 500, "times": None})
    ask("DELETE", faults)
    assert api.get("/v2/models").status_code == 200
    assert ask("POST", faults, json={"html": "perhaps"}).status_code == 400


def test_settings_change_by_request(sandbox: Sandbox, api: httpx.Client) -> None:
    settings = f"{sandbox.url}/sandbox/settings"
    assert ask("PATCH", settings, json={"plan": "creator"}).json()["plan"] == "creator"
    assert api.get("/v2/account").json()["limits"]["concurrency"] == 3
    assert ask("PATCH", settings, json={"plan": "gold"}).status_code == 400
    assert ask("PATCH", settings, json={"plna": "free"}).status_code == 400
    with pytest.raises(ValidationError):
        sandbox.configure(plna="free")
    assert sandbox.settings.plan == "creator"


def test_requests_charges_and_generations_are_told_alike_by_handle_and_by_request(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    generation = create(api, lipsync(sandbox), idempotency_key="k1")
    api.get("/v2/generations?status=PENDING&status=FAILED")
    first, second = sandbox.requests
    assert (first.method, first.path, first.status, first.body) == (
        "POST",
        "/v2/generate",
        201,
        lipsync(sandbox),
    )
    assert first.headers["idempotency-key"] == "k1"
    assert (second.query, second.body) == ({"status": "PENDING,FAILED"}, None)
    told = ask("GET", f"{sandbox.url}/sandbox/requests").json()
    assert [row["path"] for row in told] == ["/v2/generate", "/v2/generations"]
    (charge,) = ask("GET", f"{sandbox.url}/sandbox/charges").json()
    assert (charge["generationId"], charge["amountUsd"]) == (generation["id"], "0.226")
    (shown,) = ask("GET", f"{sandbox.url}/sandbox/generations").json()
    assert shown == sandbox.generations[generation["id"]]


def test_reset_breaks_off_what_is_under_way(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(delay_seconds=20, when="before"))
    broken: list[str] = []

    def send() -> None:
        try:
            ask("POST", f"{sandbox.url}/v2/generate", json=lipsync(sandbox), headers=KEY, timeout=15)
        except httpx.TransportError as error:
            broken.append(type(error).__name__)

    sending = threading.Thread(target=send)
    sending.start()
    arrived(sandbox, 1)
    sandbox.reset()
    sending.join(5)
    assert broken == ["RemoteProtocolError"]
    assert sandbox.charges == []
    assert api.get("/v2/generations").json() == []


def test_reset_begins_anew_with_the_same_ids(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(plan="growth")
    first = create(api, lipsync(sandbox))["id"]
    sandbox.advance(1000)
    assert ask("POST", f"{sandbox.url}/sandbox/reset", json={}).status_code == 200
    assert (sandbox.requests, sandbox.charges, sandbox.generations) == ([], [], {})
    assert sandbox.settings.plan == "scale"
    assert create(api, lipsync(sandbox))["id"] == first
