import json

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import Json, ask, code_of, create, lipsync

NOT_FOUND = (404, "generation_not_found")


def _listed(api: httpx.Client, query: str = "") -> list[str]:
    return [row["id"] for row in api.get(f"/v2/generations{query}").json()]


@pytest.mark.parametrize(
    "path",
    ["/v2/generate/{}", "/v2/generations/{}", "/v2/generate/{}/costs", "/v2/generations/{}/download"],
)
def test_the_paths_of_one_job_find_it_when_their_lag_is_over(
    sandbox: Sandbox, api: httpx.Client, path: str
) -> None:
    sandbox.configure(get_lag_seconds=70)
    one = path.format(create(api, lipsync(sandbox))["id"])
    sandbox.advance(35)
    assert code_of(api.get(one)) == NOT_FOUND
    sandbox.advance(35)
    assert api.get(one).status_code == 200


def test_a_long_poll_does_not_find_a_job_that_lags(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(get_lag_seconds=30)
    generation_id = create(api, lipsync(sandbox))["id"]
    waited = api.get(f"/v2/generate/{generation_id}", params={"wait": "true", "timeout": "10"})
    assert code_of(waited) == NOT_FOUND


def test_lists_and_counts_show_a_job_when_their_lag_is_over(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(list_lag_seconds=50)
    generation_id = create(api, lipsync(sandbox))["id"]
    queries = ("", "?limit=10", f"?ids={generation_id}", "?status=PENDING,PROCESSING")
    sandbox.advance(25)
    assert [_listed(api, query) for query in queries] == [[], [], [], []]
    assert api.get("/v2/generations/count").json() == {"count": 0}
    sandbox.advance(25)
    assert [_listed(api, query) for query in queries] == [[generation_id]] * 4
    assert api.get("/v2/generations/count").json() == {"count": 1}


def test_the_list_and_the_paths_of_one_job_lag_apart(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(get_lag_seconds=30)
    generation_id = create(api, lipsync(sandbox))["id"]
    assert code_of(api.get(f"/v2/generate/{generation_id}")) == NOT_FOUND
    assert _listed(api) == [generation_id]
    sandbox.configure(get_lag_seconds=0, list_lag_seconds=30)
    assert api.get(f"/v2/generate/{generation_id}").status_code == 200
    assert _listed(api) == []


def test_a_fault_makes_one_job_lag_alone(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(get_lag_seconds=30, list_lag_seconds=60))
    assert _listed(api) == []
    late, prompt = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    assert code_of(api.get(f"/v2/generate/{late}")) == NOT_FOUND
    assert api.get(f"/v2/generate/{prompt}").status_code == 200
    assert _listed(api) == [prompt]
    sandbox.advance(30)
    assert api.get(f"/v2/generate/{late}").status_code == 200
    assert _listed(api) == [prompt]
    sandbox.advance(30)
    assert _listed(api) == [late, prompt]


def test_a_fault_of_no_lag_makes_one_job_prompt_where_all_lag(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(get_lag_seconds=30, list_lag_seconds=30)
    sandbox.add_fault(Fault(get_lag_seconds=0, list_lag_seconds=0))
    prompt, late = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    assert api.get(f"/v2/generate/{prompt}").status_code == 200
    assert code_of(api.get(f"/v2/generate/{late}")) == NOT_FOUND
    assert _listed(api) == [prompt]


def test_a_lost_answer_and_a_lag_go_together(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(drop="after", list_lag_seconds=30))
    with pytest.raises(httpx.TransportError):
        api.post("/v2/generate", json=lipsync(sandbox))
    assert (_listed(api), len(sandbox.charges)) == ([], 1)
    sandbox.advance(30)
    assert len(_listed(api)) == 1


def test_a_job_that_lags_is_charged_and_runs_and_is_replayed_all_the_same(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.configure(get_lag_seconds=30, list_lag_seconds=30, plan="hobbyist")
    generation_id = create(api, lipsync(sandbox), idempotency_key="k1")["id"]
    assert [charge.generation_id for charge in sandbox.charges] == [generation_id]
    assert list(sandbox.generations) == [generation_id]
    assert code_of(api.post("/v2/generate", json=lipsync(sandbox))) == (429, "concurrency_limit_reached")
    assert create(api, lipsync(sandbox), idempotency_key="k1")["id"] == generation_id


def test_lags_are_set_by_request_and_by_header(sandbox: Sandbox, api: httpx.Client) -> None:
    changes: Json = {"get_lag_seconds": 30}
    assert ask("PATCH", f"{sandbox.url}/sandbox/settings", json=changes).json()["get_lag_seconds"] == 30
    header = json.dumps({"list_lag_seconds": 30})
    generation_id = create(api, lipsync(sandbox), x_sandbox_fault=header)["id"]
    assert code_of(api.get(f"/v2/generate/{generation_id}")) == NOT_FOUND
    assert _listed(api) == []
    assert ask("PATCH", f"{sandbox.url}/sandbox/settings", json={"get_lag_seconds": -1}).status_code == 400
