from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import KEY, Json, ask, create, lipsync

PATH = "/v2/usage/generations"
ALL = {"startTime": "2020-01-01T00:00:00Z", "endTime": "2100-01-01T00:00:00Z"}
COST = "0.226"


def _rows(api: httpx.Client, **query: str) -> list[Json]:
    response = api.get(PATH, params=ALL | query)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def _ids(api: httpx.Client, **query: str) -> list[str]:
    return [row["generationId"] for row in _rows(api, **query)]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def test_a_row_is_the_cost_with_the_times_the_model_the_name_of_the_key_and_the_billed_frames(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    generation = create(api, lipsync(sandbox))
    sandbox.advance(60)
    (row,) = _rows(api)
    costs: Json = api.get(f"/v2/generate/{generation['id']}/costs").json()
    assert costs["totalCostUsd"] == COST
    assert row.items() >= costs.items()
    assert (row["createdAt"], row["model"]) == (generation["createdAt"], "lipsync-2")
    assert _moment(row["finishedAt"]) - _moment(row["createdAt"]) == timedelta(seconds=60)
    assert row["billedFrames"] * 0.002 == pytest.approx(float(COST))


def test_the_export_names_keys_and_never_tells_them(sandbox: Sandbox, api: httpx.Client) -> None:
    for key in ("sk_one", "sk_two", "sk_one"):
        api.post("/v2/generate", json=lipsync(sandbox), headers={"x-api-key": key})
    sandbox.advance(60)
    assert [row["apiKey"] for row in _rows(api)] == ["Sandbox key 1", "Sandbox key 2", "Sandbox key 1"]
    assert "sk_" not in api.get(PATH, params=ALL).text


def test_only_finished_jobs_are_exported_and_the_first_to_finish_comes_first(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    slow = create(api, lipsync(sandbox))["id"]
    sandbox.configure(job_seconds=10)
    quick = create(api, lipsync(sandbox))["id"]
    assert _ids(api) == []
    sandbox.advance(10)
    assert _ids(api) == [quick]
    sandbox.advance(50)
    assert _ids(api) == [quick, slow]


def test_the_start_is_inclusive_and_the_end_exclusive_by_the_time_of_finishing(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(60)
    (row,) = _rows(api)
    finished = _moment(row["finishedAt"])
    tick = timedelta(milliseconds=1)
    assert _ids(api, startTime=_text(finished), endTime=_text(finished + tick)) == [generation_id]
    assert _ids(api, startTime=_text(finished - tick), endTime=_text(finished)) == []
    assert _ids(api, startTime=_text(finished + tick)) == []
    assert _ids(api, startTime=row["createdAt"], endTime=_text(finished - tick)) == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"startTime": ALL["startTime"]},
        {"endTime": ALL["endTime"]},
        ALL | {"startTime": "yesterday"},
        ALL | {"startTime": "2026-01-01T00:00:00"},
        ALL | {"startTime": "2026-01-01T00:00:00+02:00"},
        {"startTime": ALL["endTime"], "endTime": ALL["startTime"]},
        ALL | {"limit": "0"},
        ALL | {"limit": "501"},
        ALL | {"limit": "x"},
        ALL | {"cursor": "x"},
    ],
)
def test_a_bad_query_is_400(api: httpx.Client, query: dict[str, str]) -> None:
    assert api.get(PATH, params=query).status_code == 400


def test_the_pages_follow_the_cursor_to_its_end(sandbox: Sandbox, api: httpx.Client) -> None:
    ids = [create(api, lipsync(sandbox))["id"] for _ in range(4)]
    sandbox.advance(60)
    assert api.get(PATH, params=ALL | {"limit": "500"}).json()["nextCursor"] is None
    first = api.get(PATH, params=ALL | {"limit": "2"}).json()
    second = api.get(PATH, params=ALL | {"limit": "2", "cursor": first["nextCursor"]}).json()
    assert [row["generationId"] for row in first["items"] + second["items"]] == ids
    assert second["nextCursor"] is None


def test_a_page_holds_a_hundred_rows_unless_another_limit_is_given(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.configure(job_seconds=0)
    for _ in range(101):
        create(api, lipsync(sandbox))
    assert [len(_rows(api)), len(_rows(api, limit="101"))] == [100, 101]


@pytest.mark.parametrize(
    ("at_first", "availability", "total", "frames"),
    [
        ("pending", "pending", None, None),
        ("partial", "partial", None, None),
        ("zero", "complete", "0", 0),
    ],
)
def test_the_export_tells_costs_as_late_as_the_costs_of_one_job(
    sandbox: Sandbox,
    api: httpx.Client,
    at_first: str,
    availability: str,
    total: str | None,
    frames: int | None,
) -> None:
    sandbox.configure(cost_seconds=600, cost_at_first=at_first)
    sandbox.add_fault(Fault(job="fail", charged=True))
    for _ in range(2):
        create(api, lipsync(sandbox))
    sandbox.advance(60)
    for row in _rows(api):
        told = (row["availability"], row["totalCostUsd"], row["billedFrames"])
        assert told == (availability, total, frames)
    sandbox.advance(600)
    assert [row["totalCostUsd"] for row in _rows(api)] == [COST, COST]
    assert all(row["billedFrames"] > 0 for row in _rows(api))


def test_a_failure_that_is_not_charged_is_exported_with_nothing(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.add_fault(Fault(job="fail"))
    create(api, lipsync(sandbox))
    sandbox.advance(60)
    (row,) = _rows(api)
    told = (row["generationStatus"], row["totalCostUsd"], row["billedFrames"])
    assert told == ("FAILED", "0", 0)


def test_the_export_shows_jobs_that_lists_hide_and_that_were_deleted(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    sandbox.add_fault(Fault(job="hide"))
    sandbox.add_fault(Fault(job="forget"))
    sandbox.add_fault(Fault(get_lag_seconds=3600, list_lag_seconds=3600))
    hidden, _, lagging, deleted = (create(api, lipsync(sandbox))["id"] for _ in range(4))
    sandbox.advance(60)
    assert api.delete(f"/v2/generations/{deleted}").status_code == 200
    assert api.get("/v2/generations").json() == []
    assert _ids(api) == [hidden, lagging, deleted]


def test_the_export_can_lag_behind_the_end_of_a_job(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(usage_lag_seconds=300)
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(300)
    assert _ids(api) == []
    sandbox.advance(60)
    assert _ids(api) == [generation_id]


def test_an_organization_may_lack_the_export(sandbox: Sandbox, api: httpx.Client) -> None:
    told = ask("PATCH", f"{sandbox.url}/sandbox/settings", json={"usage_export": False}).json()
    assert told["usage_export"] is False
    response = api.get(PATH, params=ALL)
    assert (response.status_code, response.json()["message"]) == (404, f"Cannot GET {PATH}")


def test_the_export_wants_a_key(sandbox: Sandbox) -> None:
    assert ask("GET", f"{sandbox.url}{PATH}", params=ALL).status_code == 401
    assert ask("GET", f"{sandbox.url}{PATH}", params=ALL, headers=KEY).status_code == 200
