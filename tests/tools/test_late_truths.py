"""What is told while the API's reads lag behind a create, and while its costs come late."""

from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from mcp import Client
from pydantic import SecretStr

from sync_mcp import Ledger, Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox

from .assistant import Assistant, Facts, creates, media

pytestmark = pytest.mark.anyio

LAGS = Fault(path="/v2/generate", get_lag_seconds=30, list_lag_seconds=30)


@pytest.mark.parametrize("mode", ["honour", "ignore", "conflict"])
async def test_a_read_that_lags_behind_a_create_pays_nothing_twice(
    assistant: Assistant, sandbox: Sandbox, mode: str
) -> None:
    sandbox.configure(idempotency=mode)
    sandbox.add_fault(LAGS)
    first = await assistant.facts("create_generation", input=media(sandbox))
    for _ in range(6):
        again = await assistant.error("create_generation", input=media(sandbox))
        assert (again.code, again.money_spent) == ("generation_not_visible", "yes")
        assert first["generation_id"] in again.text
        assert "do not create it again" in again.text
    sandbox.advance(31)
    seen = await assistant.facts("create_generation", input=media(sandbox))
    assert (seen["generation_id"], seen["reused"]) == (first["generation_id"], True)
    assert len(creates(sandbox)) == len(sandbox.charges) == 1


async def test_a_named_job_that_is_not_visible_yet_is_to_be_waited_for_from_the_first_answer_on(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    lags = Fault(
        path="/v2/generate", idempotency_outcome_unknown="with_id", get_lag_seconds=30, list_lag_seconds=30
    )
    sandbox.add_fault(lags)
    first = await assistant.error("create_generation", input=media(sandbox))
    assert first.code == "outcome_unknown"
    assert "Wait, then make exactly this call again: it looks for the job first." in first.text
    assert "sends it under the same key" not in first.text
    assert (await assistant.error("create_generation", input=media(sandbox))).code == "generation_not_visible"
    assert len(creates(sandbox)) == 1


async def test_a_fault_before_anything_is_written_down_spends_no_money(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Ledger, "begin", fail)
    told = await assistant.error("create_generation", input=media(sandbox))
    assert (told.code, told.money_spent) == ("internal_error", "no")
    assert creates(sandbox) == []


@pytest.mark.parametrize(
    "tool", ["get_generation", "preview_generation", "download_generation", "wait_for_generations"]
)
async def test_an_id_of_the_ledger_is_never_called_wrong(
    assistant: Assistant, sandbox: Sandbox, tool: str
) -> None:
    sandbox.add_fault(LAGS)
    made = await assistant.facts("create_generation", input=media(sandbox))
    arguments: Facts = {"generation_id": made["generation_id"]}
    if tool == "wait_for_generations":
        told = await assistant.facts(tool, generation_ids=[made["generation_id"]], wait_seconds=0)
        [row] = told["generations"]
        assert (row["status"], row["error_code"]) == ("UNKNOWN", "generation_not_visible")
        assert "copy whole ids" not in told["next_step"]
        return
    told = await assistant.error(tool, arguments)
    assert told.code == "generation_not_visible"
    assert "copy the whole" not in told.text.lower()
    assert (
        await assistant.error(tool, generation_id="00000000-0000-0000-0000-000000000000")
    ).code == "not_found"


@pytest.mark.parametrize("status", [400, 404, 410, 422])
@pytest.mark.parametrize("tool", ["get_generation", "preview_generation", "download_generation"])
async def test_whatever_the_api_answers_of_a_job_of_the_ledger_its_id_is_not_called_wrong(
    assistant: Assistant, sandbox: Sandbox, tool: str, status: int
) -> None:
    sandbox.add_fault(LAGS)
    made = await assistant.facts("create_generation", input=media(sandbox))
    body: Facts = {"message": "No such thing.", "statusCode": status}
    sandbox.add_fault(Fault(method="GET", path="/v2/generat*/*", status=status, body=body, times=None))
    told = await assistant.error(tool, generation_id=made["generation_id"])
    assert (told.code, told.money_spent) == ("generation_not_visible", "yes")
    waited = await assistant.facts("wait_for_generations", ids=[made["generation_id"]], wait_seconds=0)
    [row] = waited["generations"]
    assert (row["status"], row["error_code"]) == ("UNKNOWN", "generation_not_visible")
    again = await assistant.error("create_generation", input=media(sandbox))
    assert again.code == "generation_not_visible"
    assert len(creates(sandbox)) == 1


async def test_a_job_that_the_user_let_go_of_is_not_told_to_be_held(sandbox: Sandbox, home: Path) -> None:
    settings = Settings(api_key=SecretStr("sk_first"), base_url=sandbox.url, home=str(home))
    async with Client(create_server(settings), mode="legacy", read_timeout_seconds=60) as client:
        assistant = Assistant(client)
        sandbox.add_fault(LAGS)
        made = await assistant.facts("create_generation", input=media(sandbox))
        ledger = Ledger(home)
        ledger.release(1)
        ledger.close()
        told = await assistant.error("get_generation", generation_id=made["generation_id"])
    assert (told.code, told.money_spent) == ("generation_not_visible", "unknown")
    assert "the user let go of it since" in told.text
    assert "Its money is not held any more" in told.text


@pytest.mark.parametrize("has_export", [True, False])
@pytest.mark.parametrize("seconds", [100, 200_000])
@pytest.mark.parametrize("tool", ["get_generation", "list_generations", "wait_for_generations"])
async def test_a_job_that_the_user_let_go_of_and_that_shows_after_all_counts_again(
    sandbox: Sandbox,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    seconds: float,
    has_export: bool,
) -> None:
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    sandbox.configure(usage_export=has_export)
    settings = Settings(api_key=SecretStr("sk_first"), base_url=sandbox.url, home=str(home))
    async with Client(create_server(settings), mode="legacy", read_timeout_seconds=60) as client:
        assistant = Assistant(client)
        made = await assistant.facts("create_generation", input=media(sandbox))
        ledger = Ledger(home)
        ledger.release(1)
        assert (await assistant.facts("get_account"))["spent_ever_usd"] == 0
        sandbox.advance(seconds)
        arguments: dict[str, Facts] = {
            "get_generation": {"generation_id": made["generation_id"]},
            "list_generations": {},
            "wait_for_generations": {"ids": [made["generation_id"]], "wait_seconds": 0},
        }
        told = await assistant.facts(tool, **arguments[tool])
        row = told if tool == "get_generation" else told["generations"][0]
        account = await assistant.facts("get_account")
        entry = ledger.entry(1)
        ledger.close()
    assert row["cost_usd"] == account["spent_ever_usd"] == 0.226
    assert entry is not None
    assert (entry.state, entry.charged) == ("released", "yes")


async def test_a_wait_for_a_job_that_is_not_visible_yet_goes_on_until_it_is(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    sandbox.add_fault(LAGS)
    made = await assistant.facts("create_generation", input=media(sandbox))
    assistant.on_progress = lambda: sandbox.advance(100)
    with anyio.fail_after(30):
        told = await assistant.facts("get_generation", id=made["generation_id"], wait_seconds=20)
    assert told["status"] == "COMPLETED"


async def test_after_an_hour_the_same_call_asks_and_the_money_stays_held(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", job="forget"))
    await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(3700)
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert asked.code == "approval_required"
    assert "does not show it now; its money stays held. Made again, it may be paid again." in asked.text
    account = await assistant.facts("get_account")
    assert account["spent_ever_usd"] == 0.226
    assert len(creates(sandbox)) == 1


async def test_a_budget_holds_though_what_jobs_cost_is_told_late(sandbox: Sandbox) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first="zero", job_seconds=1)
    settings = Settings(budget_usd=Decimal("0.5"), approve_above_usd="never")
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        assistant = Assistant(client)
        codes: list[str | None] = []
        for number in range(8):
            told = await assistant.call("create_generation", input=media(sandbox, number))
            codes.append(told.code if told.is_error else None)
            sandbox.advance(30)
    assert codes == [None, None, *["limit_reached"] * 6]
    assert sum(charge.amount_usd for charge in sandbox.charges) <= Decimal("0.5")


async def test_a_failure_that_is_charged_late_is_not_made_again_unasked(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(job="fail", charged=True, cost_seconds=300, cost_at_first="zero"))
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(120)
    told = await assistant.facts("get_generation", id=made["generation_id"])
    assert told["charged"] == "unknown"
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert "may have been charged" in asked.text
    sandbox.advance(600)
    asked = await assistant.error("create_generation", input=media(sandbox))
    assert "ended FAILED and was charged" in asked.text
    assert len(creates(sandbox)) == 1


async def test_a_status_that_nobody_knows_is_shown_and_its_cost_asked_for_after_a_day(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", end_status="TIMED_OUT"))
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(90_000)
    told = await assistant.facts("get_generation", id=made["generation_id"])
    assert told["status"] == "TIMED_OUT"
    assert "This status is not known here" in told["next_step"]
    waited = await assistant.facts("wait_for_generations", ids=[made["generation_id"]], wait_seconds=0)
    assert (waited["running"], waited["unknown"]) == (0, 1)
    assert waited["next_step"] == "1 job has a status that is not known here: get_generation says more."
    account = await assistant.facts("get_account")
    assert account["spent_ever_usd"] == 0


@pytest.mark.parametrize("asks", ["get_generation", "wait_for_generations", "list_generations"])
async def test_a_failure_that_the_api_shows_completed_by_now_counts_once_it_is_seen(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    settings = Settings(budget_usd=Decimal("0.5"), approve_above_usd=Decimal(1000))
    sandbox.add_fault(Fault(path="/v2/generate", job="fail"))
    async with Client(create_server(settings, sandbox_url=sandbox.url), mode="legacy") as client:
        assistant = Assistant(client)
        made = await assistant.facts("create_generation", input=media(sandbox))
        id = made["generation_id"]
        sandbox.advance(1000)
        assert (await assistant.facts("get_account"))["spent_ever_usd"] == 0
        done = {**sandbox.generations[id], "status": "COMPLETED", "error": None, "errorCode": None}
        costs = {"availability": "complete", "totalCostUsd": "0.226", "knownSubtotalUsd": "0.226"}
        for path, body in (
            (f"/v2/generate/{id}", done),
            ("/v2/generations", [done]),
            (f"/v2/generate/{id}/costs", costs),
        ):
            told = {"method": "GET", "path": path, "status": 200, "body": body, "times": None}
            sandbox.add_fault(Fault.model_validate(told))
        if asks == "get_generation":
            row = await assistant.facts(asks, id=id)
        else:
            arguments = {"ids": [id], "wait_seconds": 0} if asks == "wait_for_generations" else {}
            row = (await assistant.facts(asks, arguments))["generations"][0]
        assert (row["status"], row["cost_usd"]) == ("COMPLETED", 0.226)
        assert (await assistant.facts("get_account"))["spent_ever_usd"] == 0.226
        await assistant.facts("create_generation", input=media(sandbox, 1))
        refused = await assistant.error("create_generation", input=media(sandbox, 2))
        assert refused.code == "limit_reached"


async def test_what_is_unresolved_is_listed_though_the_apis_list_is_down(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 4.0)
    sandbox.add_fault(Fault(path="/v2/generate", drop="after", times=None))
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=503, times=None))
    unknown = await assistant.error("create_generation", input=media(sandbox))
    assert unknown.code == "outcome_unknown"
    listed = await assistant.facts("list_generations")
    assert "speaker.mp4" in listed["unresolved"][0]
    assert listed["generations"] == []
    assert "The API's list cannot be read now" in listed["next_step"]


async def test_what_jobs_did_cost_is_told_where_they_are_listed_and_waited_for(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    ids = [
        (await assistant.facts("create_generation", input=media(sandbox, number)))["generation_id"]
        for number in range(2)
    ]
    waited = await assistant.facts("wait_for_generations", ids=ids, wait_seconds=0)
    assert [row["estimated_cost_usd"] for row in waited["generations"]] == [0.226, 0.226]
    assert (waited.get("total_cost_usd"), waited["estimated_total_usd"]) == (None, 0.452)
    sandbox.advance(100)
    ended = await assistant.facts("wait_for_generations", ids=ids, wait_seconds=0)
    assert (ended["total_cost_usd"], ended.get("estimated_total_usd")) == (0.452, None)
    listed = await assistant.facts("list_generations")
    assert [row["cost_usd"] for row in listed["generations"]] == [0.226, 0.226]
    got = await assistant.facts("get_generation", id=ids[0])
    assert got["cost_usd"] == 0.226


async def test_what_failed_free_of_charge_counts_nothing_where_jobs_are_waited_for(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.api.looks.TICK_SECONDS", 0.05)
    monkeypatch.setattr("sync_mcp.payments.settling._PAUSE_SECONDS", 0.0)
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", charged=False))
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", charged=True))
    free, charged, done = [
        (await assistant.facts("create_generation", input=media(sandbox, number)))["generation_id"]
        for number in range(3)
    ]
    sandbox.advance(100)
    young = await assistant.facts("wait_for_generations", ids=[free, charged, done], wait_seconds=0)
    # It may be metered still.
    assert [row.get("charged") for row in young["generations"]] == ["unknown", "yes", None]
    assert (young.get("total_cost_usd"), young["estimated_total_usd"]) == (None, 0.678)
    sandbox.advance(1000)
    told = await assistant.facts("wait_for_generations", ids=[free, charged, done], wait_seconds=0)
    assert [row.get("charged") for row in told["generations"]] == ["no", "yes", None]
    assert [row["cost_usd"] for row in told["generations"]] == [0, 0.226, 0.226]
    assert (told["total_cost_usd"], told.get("estimated_total_usd")) == (0.452, None)


async def test_a_sum_that_lacks_a_job_is_not_told(assistant: Assistant, sandbox: Sandbox) -> None:
    made = await assistant.facts("create_generation", input=media(sandbox))
    ids = [made["generation_id"], "00000000-0000-0000-0000-000000000000"]
    told = await assistant.facts("wait_for_generations", ids=ids, wait_seconds=0)
    assert not {"total_cost_usd", "estimated_total_usd"} & told.keys()


async def test_a_job_that_was_not_charged_is_told_no_estimate_beside(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", job="fail", charged=False))
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(100)
    young = await assistant.facts("get_generation", id=made["generation_id"])
    assert (young["charged"], young["estimated_cost_usd"]) == ("unknown", 0.226)
    sandbox.advance(1000)
    told = await assistant.facts("get_generation", id=made["generation_id"])
    assert (told["charged"], told["cost_usd"], told.get("estimated_cost_usd")) == ("no", 0, None)


async def test_a_job_that_is_found_under_another_signature_says_whose_was_left_out(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    signed = "?X-Amz-Credential=k&X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature="
    video, voice = media(sandbox)

    async def create(signature: str) -> Facts:
        return await assistant.facts(
            "create_generation", input=[{**video, "url": f"{video['url']}{signed}{signature}"}, voice]
        )

    first, again = await create("a"), await create("b")
    assert again["generation_id"] == first["generation_id"]
    assert "compared without what only lets them be fetched: Amazon S3 signature." in again["note"]
