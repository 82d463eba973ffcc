"""The projects of the sandbox: the API's contract, and what goes with one."""

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox

from .wire import Json, create, lipsync

NOBODY = "00000000-0000-4000-8000-000000000000"


def make(api: httpx.Client, **fields: object) -> Json:
    made = api.post("/v2/projects", json={"name": "Spring", **fields})
    assert made.status_code == 201, made.text
    return made.json()


def test_the_organization_has_a_project_from_the_start_and_after_a_reset(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    make(api)
    sandbox.reset()
    assert [project["id"] for project in api.get("/v2/projects").json()["items"]] == [sandbox.project_id]


def test_an_id_of_ones_own_makes_one_project(api: httpx.Client) -> None:
    first = make(api, id=NOBODY)
    assert (first["visibility"], first["mode"]) == ("USER", "CREATOR")
    assert make(api, id=NOBODY.upper(), name="Other") == first
    assert make(api)["id"] != NOBODY


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "name is required"),
        ({"name": ""}, "name must"),
        ({"name": "x", "id": "mine"}, "id must be a UUID"),
        ({"name": "x", "mode": "ROBOT"}, "mode"),
        ({"name": "x", "visibility": "ALL"}, "visibility"),
        ({"name": "x", "defaultWorkflow": "dance"}, "defaultWorkflow"),
    ],
)
def test_a_body_that_is_no_project_is_refused(api: httpx.Client, body: Json, told: str) -> None:
    refused = api.post("/v2/projects", json=body)
    assert refused.status_code == 400
    assert told in refused.json()["message"][0]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_project_that_is_not_there_is_not_found(api: httpx.Client, method: str) -> None:
    refused = api.request(method, f"/v2/projects/{NOBODY}")
    assert (refused.status_code, refused.json()["errorCode"]) == (404, "project_not_found")


def test_an_asset_that_is_not_there_goes_into_no_project(sandbox: Sandbox, api: httpx.Client) -> None:
    place = f"/v2/projects/{sandbox.project_id}/assets"
    codes = [
        (refused.status_code, refused.json()["errorCode"])
        for refused in (
            api.post(place, json={"assetId": NOBODY}),
            api.post(place, json={"assetId": "x"}),
            api.delete(f"{place}/{NOBODY}"),
        )
    ]
    assert codes == [(404, "asset_not_found"), (400, "invalid_asset_id_format"), (404, "asset_not_found")]


def test_with_a_project_go_its_jobs_once_all_have_ended_and_its_id_comes_back_no_more(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    project = make(api)["id"]
    job = create(api, lipsync(sandbox, projectId=project))["id"]
    refused = api.delete(f"/v2/projects/{project}")
    assert (refused.status_code, refused.json()["errorCode"]) == (
        409,
        "generation_not_deletable_while_processing",
    )
    sandbox.advance(60)
    assert api.delete(f"/v2/projects/{project}").json() == {"id": project}
    assert api.get(f"/v2/generate/{job}").status_code == 404
    assert api.post("/v2/projects", json={"name": "x", "id": project}).status_code == 409
    assert len(sandbox.charges) == 1


def test_a_list_in_another_order_than_there_is_is_refused(api: httpx.Client) -> None:
    assert api.get("/v2/projects?sortBy=size").status_code == 400


def test_projects_need_a_key_and_fail_as_they_are_told(sandbox: Sandbox, api: httpx.Client) -> None:
    assert api.get("/v2/projects", headers={"x-api-key": ""}).status_code == 401
    sandbox.add_fault(Fault.api_error("internal_error", path="/v2/projects"))
    assert api.get("/v2/projects").status_code == 500
