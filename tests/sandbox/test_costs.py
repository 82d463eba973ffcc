import json
from decimal import Decimal

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import Json, ask, create, lipsync

COST = "0.226"
NOTHING: Json = {"availability": "pending", "totalCostUsd": None, "knownSubtotalUsd": "0", "components": []}
ZERO: Json = {
    "availability": "complete",
    "totalCostUsd": "0",
    "knownSubtotalUsd": "0",
    "components": [{"type": "lipsync", "costUsd": "0"}],
    "retryAfterSeconds": None,
}
HALF: Json = {
    "availability": "partial",
    "totalCostUsd": None,
    "knownSubtotalUsd": "0.113",
    "components": [{"type": "lipsync", "costUsd": "0.113"}],
}
TRUTH: Json = {
    "availability": "complete",
    "totalCostUsd": COST,
    "knownSubtotalUsd": COST,
    "components": [{"type": "lipsync", "costUsd": COST}],
    "retryAfterSeconds": None,
}


def _costs(api: httpx.Client, generation_id: str) -> Json:
    return api.get(f"/v2/generate/{generation_id}/costs").json()


@pytest.mark.parametrize(("at_first", "told"), [("pending", NOTHING), ("zero", ZERO), ("partial", HALF)])
def test_the_true_cost_is_told_late_and_something_else_at_first(
    sandbox: Sandbox, api: httpx.Client, at_first: str, told: Json
) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first=at_first)
    generation_id = create(api, lipsync(sandbox))["id"]
    assert _costs(api, generation_id).items() >= NOTHING.items()
    sandbox.advance(60)
    assert _costs(api, generation_id).items() >= told.items()
    sandbox.advance(300)
    assert _costs(api, generation_id).items() >= told.items()
    sandbox.advance(300)
    assert _costs(api, generation_id).items() >= TRUTH.items()


def test_without_a_delay_the_true_cost_is_told_at_the_end_whatever_comes_at_first(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.configure(cost_at_first="zero")
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(60)
    assert _costs(api, generation_id).items() >= TRUTH.items()


@pytest.mark.parametrize("at_first", ["pending", "partial"])
def test_a_cost_that_is_not_whole_says_when_to_come_back(
    sandbox: Sandbox, api: httpx.Client, at_first: str
) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first=at_first)
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(60)
    sandbox.advance(_costs(api, generation_id)["retryAfterSeconds"])
    assert _costs(api, generation_id)["totalCostUsd"] == COST


@pytest.mark.parametrize("fate", [{"job": "fail"}, {"job": "reject"}, {"end_status": "CANCELLED"}])
def test_a_charged_failure_costs_nothing_at_first(
    sandbox: Sandbox, api: httpx.Client, fate: dict[str, str]
) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first="zero")
    sandbox.add_fault(Fault.model_validate({**fate, "charged": True}))
    sandbox.add_fault(Fault.model_validate(fate))
    charged, free = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    sandbox.advance(60)
    assert [_costs(api, one)["totalCostUsd"] for one in (charged, free)] == ["0", "0"]
    sandbox.advance(600)
    assert [_costs(api, one)["totalCostUsd"] for one in (charged, free)] == [COST, "0"]


@pytest.mark.parametrize("at_first", ["pending", "zero", "partial"])
def test_the_charges_are_true_whatever_the_costs_say(
    sandbox: Sandbox, api: httpx.Client, at_first: str
) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first=at_first)
    sandbox.add_fault(Fault(job="fail", charged=True))
    sandbox.add_fault(Fault(job="fail"))
    for _ in range(3):
        create(api, lipsync(sandbox))
    sandbox.advance(60)
    assert [str(charge.amount_usd) for charge in sandbox.charges] == [COST, "0", COST]
    told = ask("GET", f"{sandbox.url}/sandbox/charges").json()
    assert [charge["amountUsd"] for charge in told] == [COST, "0", COST]
    sandbox.advance(600)
    assert sum(charge.amount_usd for charge in sandbox.charges) == 2 * Decimal(COST)


def test_a_fault_lets_the_cost_of_one_job_alone_come_late(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(cost_seconds=600, cost_at_first="zero"))
    late, prompt = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    sandbox.advance(60)
    assert [_costs(api, one)["totalCostUsd"] for one in (late, prompt)] == ["0", COST]
    sandbox.advance(600)
    assert _costs(api, late)["totalCostUsd"] == COST


def test_a_job_that_never_ends_has_no_cost_to_tell(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(job="stuck", cost_at_first="zero"))
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(24 * 3600)
    assert _costs(api, generation_id).items() >= NOTHING.items()


def test_late_costs_are_set_by_request_and_by_header(sandbox: Sandbox, api: httpx.Client) -> None:
    changes: Json = {"cost_seconds": 600, "cost_at_first": "partial"}
    shown = ask("PATCH", f"{sandbox.url}/sandbox/settings", json=changes).json()
    assert shown.items() >= changes.items()
    header = json.dumps({"cost_at_first": "zero"})
    own = create(api, lipsync(sandbox), x_sandbox_fault=header)["id"]
    other = create(api, lipsync(sandbox))["id"]
    sandbox.advance(60)
    assert [_costs(api, one)["availability"] for one in (own, other)] == ["complete", "partial"]
    wrong = ask("PATCH", f"{sandbox.url}/sandbox/settings", json={"cost_at_first": "never"})
    assert wrong.status_code == 400
