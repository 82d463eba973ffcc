import threading
from datetime import datetime

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import KEY, arrived, ask, code_of, create, finished, lipsync

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def test_no_key_and_a_wrong_key_get_two_different_401(sandbox: Sandbox) -> None:
    without = ask("GET", f"{sandbox.url}/v2/generations")
    wrong = ask("GET", f"{sandbox.url}/v2/generations", headers={"x-api-key": "sk_invalid"})
    assert (without.status_code, without.json()["error"]) == (401, "Unauthorized")
    assert (wrong.status_code, wrong.json()) == (401, {"message": "Unauthorized", "statusCode": 401})


def test_unknown_routes_and_methods_get_the_frameworks_404(api: httpx.Client) -> None:
    for method, path in (("GET", "/v2/nothing"), ("PUT", "/v2/generate"), ("GET", "/")):
        response = api.request(method, path)
        assert response.json() == {
            "message": f"Cannot {method} {path}",
            "error": "Not Found",
            "statusCode": 404,
        }
        assert response.status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models",
        "/v2/nothing",
        "/sandbox",
        "/samples/speaker.jpg",
        "/outputs/x.mp4",
        "/storage/x",
        "/v2/generate/x",
    ],
)
def test_every_answer_carries_the_mark(api: httpx.Client, path: str) -> None:
    assert api.get(path).headers["x-sync-sandbox"] == "1"


def test_a_create_answers_201_with_a_pending_generation(sandbox: Sandbox, api: httpx.Client) -> None:
    body = lipsync(sandbox, options={"sync_mode": "loop"}, webhookUrl="https://example.com/hook")
    generation = create(api, body)
    assert generation["status"] == "PENDING"
    assert generation["input"] == body["input"]
    assert generation["options"] == {"sync_mode": "loop"}
    assert generation["webhookUrl"] == "https://example.com/hook"
    assert generation["outputUrl"] is None
    assert generation["createdAt"].endswith("Z")
    datetime.fromisoformat(generation["createdAt"])


def test_a_job_goes_from_pending_over_processing_to_completed(sandbox: Sandbox, api: httpx.Client) -> None:
    path = f"/v2/generate/{create(api, lipsync(sandbox))['id']}"
    seen = [api.get(path).json()["status"]]
    for _ in range(2):
        sandbox.advance(30)
        seen.append(api.get(path).json()["status"])
    assert seen == ["PENDING", "PROCESSING", "COMPLETED"]
    done = api.get(path).json()
    assert done["outputDuration"] == pytest.approx(4.502, abs=0.01)
    assert done["outputUrl"].startswith(f"{sandbox.url}/outputs/")


def test_progress_is_told_only_when_asked_for(sandbox: Sandbox, api: httpx.Client) -> None:
    path = f"/v2/generate/{create(api, lipsync(sandbox))['id']}"
    sandbox.advance(30)
    assert "progress_percent" not in api.get(path).json()
    assert api.get(path, params={"include": "progress"}).json()["progress_percent"] == 50
    sandbox.advance(30)
    assert api.get(path, params={"include": "progress"}).json()["progress_percent"] == 100


def test_a_long_poll_ends_when_the_job_does(sandbox: Sandbox, api: httpx.Client) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    sandbox.advance(58)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(_long_poll(sandbox, generation_id, "10")))
    waiting.start()
    arrived(sandbox, 2)
    sandbox.advance(2)
    waiting.join(5)
    assert answers[0].json()["status"] == "COMPLETED"
    assert answers[0].headers["x-sync-wait-mode"] == "long_poll"
    assert answers[0].headers["x-sync-wait-timeout-seconds"] == "10"
    assert answers[0].headers["retry-after"] == "2"


def test_a_long_poll_runs_out_on_the_sandboxs_clock(sandbox: Sandbox, api: httpx.Client) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(_long_poll(sandbox, generation_id, "10")))
    waiting.start()
    arrived(sandbox, 2)
    sandbox.advance(10)
    waiting.join(5)
    assert answers[0].status_code == 200
    assert answers[0].json()["status"] == "PENDING"


@pytest.mark.parametrize(
    "query",
    ["wait=true&timeout=0.5", "wait=true&timeout=11", "timeout=abc", "wait=true&include=progress"],
)
def test_a_long_poll_that_cannot_be_is_400(sandbox: Sandbox, api: httpx.Client, query: str) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    assert api.get(f"/v2/generate/{generation_id}?{query}").status_code == 400


def test_an_unknown_generation_is_404_and_a_malformed_id_400(api: httpx.Client) -> None:
    assert code_of(api.get(f"/v2/generate/{UNKNOWN_ID}")) == (404, "generation_not_found")
    assert code_of(api.get("/v2/generate/one")) == (400, "invalid_generation_id")


def test_the_list_is_newest_first_in_pages(sandbox: Sandbox, api: httpx.Client) -> None:
    ids = [create(api, lipsync(sandbox))["id"] for _ in range(5)]
    first = [row["id"] for row in api.get("/v2/generations", params={"limit": 2}).json()]
    second = [
        row["id"] for row in api.get("/v2/generations", params={"limit": 2, "cursor": first[-1]}).json()
    ]
    assert first + second == ids[::-1][:4]
    assert sorted(row["id"] for row in api.get("/v2/generations").json()) == sorted(ids)


@pytest.mark.parametrize(
    "query",
    [
        "status=PENDING,COMPLETED",
        "status=PENDING&status=COMPLETED",
        'status=["PENDING","COMPLETED"]',
    ],
)
def test_the_list_takes_all_three_spellings_of_a_filter(
    sandbox: Sandbox, api: httpx.Client, query: str
) -> None:
    done = finished(sandbox, api, lipsync(sandbox))["id"]
    sandbox.configure(job_seconds=90)
    pending = create(api, lipsync(sandbox))["id"]
    sandbox.add_fault(Fault(job="fail"))
    sandbox.configure(job_seconds=0)
    create(api, lipsync(sandbox))
    assert {row["id"] for row in api.get(f"/v2/generations?{query}").json()} == {done, pending}


def test_the_list_filters_by_ids_project_and_source(sandbox: Sandbox, api: httpx.Client) -> None:
    plain, other = (create(api, lipsync(sandbox))["id"] for _ in range(2))
    in_project = create(api, lipsync(sandbox, projectId=sandbox.project_id), x_sync_source="mcp")["id"]

    def ids(query: str) -> set[str]:
        return {row["id"] for row in api.get(f"/v2/generations?{query}").json()}

    assert ids(f"ids={plain},{other}") == {plain, other}
    assert ids(f"projectId={sandbox.project_id}") == {in_project}
    assert ids("source=mcp") == {in_project}
    assert ids(f"projectId={UNKNOWN_ID}") == set()


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=abc", "status=DONE"])
def test_a_bad_list_query_is_400(api: httpx.Client, query: str) -> None:
    assert api.get(f"/v2/generations?{query}").status_code == 400


def test_only_ended_generations_can_be_deleted(sandbox: Sandbox, api: httpx.Client) -> None:
    generation_id = create(api, lipsync(sandbox))["id"]
    path = f"/v2/generations/{generation_id}"
    assert code_of(api.delete(path)) == (409, "generation_not_deletable_while_processing")
    sandbox.advance(60)
    assert api.delete(path).json()["id"] == generation_id
    assert code_of(api.delete(path)) == (404, "generation_not_found")
    assert len(sandbox.charges) == 1


def test_count_costs_and_download_speak_of_the_same_job(sandbox: Sandbox, api: httpx.Client) -> None:
    generation = create(api, lipsync(sandbox))
    costs = f"/v2/generate/{generation['id']}/costs"
    assert api.get("/v2/generations/count", params={"status": "PENDING"}).json() == {"count": 1}
    assert api.get(costs).json()["availability"] == "pending"
    sandbox.advance(60)
    told = api.get(costs).json()
    assert told["totalCostUsd"] == str(sandbox.charges[0].amount_usd) == "0.226"
    download = api.get(f"/v2/generations/{generation['id']}/download")
    assert download.headers["content-type"].startswith("text/plain")
    assert ask("GET", download.text).status_code == 200


def test_models_errors_and_account_tell_what_there_is(sandbox: Sandbox, api: httpx.Client) -> None:
    assert {model["name"] for model in api.get("/v2/models").json()} >= {"sync-3", "lipsync-2", "react-1"}
    errors = ask("GET", f"{sandbox.url}/v2/errors").json()
    assert len(errors) > 60
    assert all(entry.keys() == {"code", "message", "suggestion"} for entry in errors)
    account = api.get("/v2/account").json()
    assert (account["plan"]["name"], account["limits"]["concurrency"]) == ("scale", 15)


def test_unset_fields_and_the_error_code_are_spelled_as_the_settings_say(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    path = f"/v2/generate/{create(api, lipsync(sandbox))['id']}"
    assert api.get(path).json()["outputUrl"] is None
    sandbox.configure(unset_fields="absent")
    assert "outputUrl" not in api.get(path).json()
    sandbox.configure(unset_fields="empty")
    assert api.get(path).json()["outputUrl"] == ""
    sandbox.configure(unset_fields="null", error_code_name="error_code")
    shown = api.get(path).json()
    assert "error_code" in shown
    assert "errorCode" not in shown


def test_a_body_that_is_no_json_object_is_refused(api: httpx.Client) -> None:
    assert (
        api.post("/v2/generate", content=b"{", headers={"content-type": "application/json"}).status_code
        == 400
    )
    assert api.post("/v2/generate", json=[1]).status_code == 400
    assert api.post("/v2/generate", files={"video": b"x"}).status_code == 415


def _long_poll(sandbox: Sandbox, generation_id: str, timeout: str) -> httpx.Response:
    url = f"{sandbox.url}/v2/generate/{generation_id}"
    return ask("GET", url, params={"wait": "true", "timeout": timeout}, headers=KEY, timeout=20)
