import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sync_mcp.sandbox import Fault, Sandbox
from tests.serving.stdio.forked import run_forked

ROOT = Path(__file__).parents[2]
FREE = {"/v2/generations/estimate", "/v2/generate/estimate-cost"}


def check_live(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
    return run_forked([sys.executable, "-m", "tests.live"], kept | environment, timeout=60)


def test_an_api_that_is_as_expected_has_no_differences(sandbox: Sandbox) -> None:
    done = check_live(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="sk_Live-1234")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0 differences\n")
    assert "sk_Live-1234" not in done.stdout + done.stderr


def test_nothing_is_asked_that_makes_or_changes_or_costs_anything(sandbox: Sandbox) -> None:
    check_live(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="sk_Live-1234")
    assert sandbox.requests
    assert all(request.method == "GET" or request.path in FREE for request in sandbox.requests)
    assert {"/v2/usage/generations", "/v2/batch", "/v2/projects", "/v2/assets", "/v2/voices"} <= {
        request.path for request in sandbox.requests
    }
    assert sandbox.charges == []


def test_each_difference_is_a_line_and_the_exit_code_says_that_there_are_some(sandbox: Sandbox) -> None:
    sandbox.configure(extra_models=("sync-4",))
    sandbox.add_fault(Fault(path="/v2/account", status=200, body={"plan": {"tier": "new"}}))
    sandbox.add_fault(
        Fault(path="/v2/generations/estimate", status=200, body={"estimatedFrameCount": 1, "tax": 2})
    )
    sandbox.add_fault(Fault(path="/v2/generate/estimate-cost", status=404, body={"message": "gone"}))
    batch: Any = {"id": "b1", "status": "PENDING", "shard": 3}
    sandbox.add_fault(Fault(method="GET", path="/v2/batch", status=200, body=[batch]))
    bill: Any = {"items": [{"generationId": "g1", "taxUsd": "0.1"}], "nextCursor": None}
    sandbox.add_fault(Fault(path="/v2/usage/generations", status=200, body=bill))
    done = check_live(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY="sk_Live-1234")
    assert done.returncode == 1, done.stderr
    for line in (
        "only the API has name sync-4",
        "only the API has plan.tier: a text",
        "only the sandbox has plan.name: a text",
        "the model does not know the field tax",
        "the model does not know the field shard",
        "the model does not know the field taxUsd",
        "only the sandbox has items[].totalCostUsd: a text",
        "only the sandbox has estimatedGenerationCost: a number",
        'the API answers not_found: The API has nothing by that name (HTTP 404). The API says: "gone"',
    ):
        assert f"  {line}\n" in done.stdout


def test_without_a_key_it_says_how_to_set_one() -> None:
    done = check_live()
    assert done.returncode == 2
    assert "SYNC_API_KEY" in done.stderr
    assert done.stdout == ""
