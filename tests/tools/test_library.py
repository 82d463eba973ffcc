"""The toolset `library`: what is kept is listed, named, filed, and deleted once that is agreed to."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio.lowlevel
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext

from sync_mcp import AsyncSync, Settings, create_server
from sync_mcp.api.assets import Asset
from sync_mcp.errors import LedgerError
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .assistant import Assistant, Facts, Told, asked, media

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"
Serving = Callable[..., Any]


class Person:
    """Says yes to a form unless told otherwise, and keeps what they were asked."""

    def __init__(self) -> None:
        self.says = "accept"
        self.asked: list[str] = []
        self.meanwhile: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint

    async def answer(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the SDK's own signature
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult:
        self.asked.append(params.message)
        await self.meanwhile()
        return types.ElicitResult.model_validate({"action": self.says, "content": {}})


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture(autouse=True)
def _no_answer_is_too_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_mcp.tools.question.AT_ONCE_SECONDS", 0.0)


@pytest.fixture
def serving(sandbox: Sandbox, person: Person) -> Serving:
    """Connect to a server with every set on, from a host that asks `person` or, without `forms`, nobody."""

    @asynccontextmanager
    async def connect(mode: str = "legacy", *, forms: bool = True, **more: Any) -> AsyncGenerator[Assistant]:
        chosen = {"toolsets": ("all",), "approve_above_usd": Decimal(1000), **more}
        settings = Settings.model_validate(chosen)
        server = create_server(settings, sandbox_url=sandbox.url)
        callback = person.answer if forms else None
        async with Client(
            server, mode=mode, elicitation_callback=callback, read_timeout_seconds=60
        ) as client:
            yield Assistant(client)

    return connect


@pytest.fixture
async def sync(sandbox: Sandbox) -> AsyncIterator[AsyncSync]:
    """The client of the account that the server is for."""
    async with AsyncSync(api_key="sk_embedded_sandbox", base_url=sandbox.url) as client:
        yield client


@pytest.fixture
async def assets(sync: AsyncSync) -> list[Asset]:
    names = {"speaker.mp4": "Talk", "speech.wav": "Voice"}
    return [await sync.assets.upload(sample(file), name=name) for file, name in names.items()]


async def make_ended(assistant: Assistant, sandbox: Sandbox, *numbers: int, **more: Any) -> list[str]:
    made = [
        (await assistant.facts("create_generation", input=media(sandbox, number), **more))["generation_id"]
        for number in numbers
    ]
    sandbox.advance(60)
    return made


def confirm_in(told: Told) -> str:
    found = re.search(r'with confirm "([0-9a-f]{8})"', told.text)
    assert found, told.text
    return found[1]


def deletions(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.requests if request.method == "DELETE"]


# Lists


async def test_projects_are_listed_in_pages_the_one_changed_last_first(
    sandbox: Sandbox, sync: AsyncSync, serving: Serving
) -> None:
    made = await sync.projects.create("Spring", description="The campaign")
    async with serving() as assistant:
        first = await assistant.facts("list_projects", limit=1)
        assert first["projects"] == [
            {
                "project_id": made.id,
                "name": "Spring",
                "description": "The campaign",
                "visibility": "USER",
                "updated_at": first["projects"][0]["updated_at"],
            }
        ]
        second = await assistant.facts("list_projects", limit=1, cursor=first["next_cursor"])
        assert [row["project_id"] for row in second["projects"]] == [sandbox.project_id]
        assert "next_cursor" not in second
        assert (await assistant.facts("list_projects", search="winter"))["projects"] == []


async def test_files_are_listed_by_name_kind_and_project(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], serving: Serving
) -> None:
    await sync.projects.add_asset(sandbox.project_id, assets[0].id)
    async with serving() as assistant:
        every = await assistant.facts("list_assets")
        assert (every["total"], [row["name"] for row in every["assets"]]) == (2, ["Voice", "Talk"])
        [talk] = (await assistant.facts("list_assets", types="video", search="talk"))["assets"]
        assert (talk["asset_id"], talk["type"], talk["bytes"]) == (assets[0].id, "VIDEO", assets[0].size)
        inside = await assistant.facts("list_assets", project_id=sandbox.project_id)
        assert [row["name"] for row in inside["assets"]] == ["Talk"]
        page = await assistant.facts("list_assets", limit=1, sort_by="nameAsc")
        rest = await assistant.facts("list_assets", limit=1, sort_by="nameAsc", cursor=page["next_cursor"])
        assert [row["name"] for row in (*page["assets"], *rest["assets"])] == ["Talk", "Voice"]
        assert (await assistant.facts("list_assets", search="nothing"))["assets"] == []


# Changes


async def test_a_file_is_renamed_shared_and_moved_and_its_old_name_is_told(
    sandbox: Sandbox, assets: list[Asset], serving: Serving
) -> None:
    async with serving() as assistant:
        changed = await assistant.facts(
            "update_asset",
            asset_id=assets[0].id,
            name="Interview",
            visibility="organization",
            project_id=sandbox.project_id,
        )
        assert (changed["name"], changed["before"], changed["visibility"]) == (
            *("Interview", "Talk"),
            "ORGANIZATION",
        )
        inside = await assistant.facts("list_assets", project_id=sandbox.project_id)
        assert [row["name"] for row in inside["assets"]] == ["Interview"]
        await assistant.facts("update_asset", asset_id=assets[0].id, leave_project_id=sandbox.project_id)
        assert (await assistant.facts("list_assets", project_id=sandbox.project_id))["assets"] == []
        nothing = await assistant.error("update_asset", asset_id=assets[0].id)
    assert nothing.code == "invalid_request"


async def test_saving_a_project_twice_makes_one_also_where_the_first_answer_was_lost(
    sandbox: Sandbox, sync: AsyncSync, serving: Serving
) -> None:
    async with serving() as assistant:
        made = await assistant.facts("save_project", name="Spring", description="The campaign")
        again = await assistant.facts("save_project", name=" Spring ")
        assert (again["project_id"], again["reused"]) == (made["project_id"], True)
        # As long as the list does not show it, its id follows from the name.
        sandbox.add_fault(Fault(method="GET", path="/v2/projects", status=200, body={"items": []}))
        unseen = await assistant.facts("save_project", name="Spring")
        assert unseen["project_id"] == made["project_id"]
        await sync.projects.delete(made["project_id"])
        anew = await assistant.facts("save_project", name="Spring")
    assert anew["project_id"] != made["project_id"]
    assert len((await sync.projects.list(search_query="Spring")).items) == 1


async def test_a_project_is_renamed_and_one_of_others_is_not_found(
    sandbox: Sandbox, serving: Serving
) -> None:
    async with serving() as assistant:
        changed = await assistant.facts("save_project", project_id=sandbox.project_id, name="Films")
        assert (changed["name"], changed["before"]) == ("Films", "Sandbox")
        for tool, more in (("save_project", {"name": "Mine"}), ("delete_project", {})):
            refused = await assistant.error(tool, project_id=sandbox.foreign_project_id, **more)
            assert (refused.code, refused.money_spent) == ("not_found", "no")
            assert "list_projects" in refused.text
        for arguments in ({}, {"project_id": sandbox.project_id}, {"description": "x"}):
            assert (await assistant.error("save_project", arguments)).code == "invalid_request"
    assert deletions(sandbox) == []


# Deletions


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_goes_is_named_in_the_hosts_form_and_gone_after_a_yes(
    sandbox: Sandbox, assets: list[Asset], serving: Serving, person: Person, mode: str
) -> None:
    ids = [asset.id for asset in assets]
    async with serving(mode) as assistant:
        gone = await assistant.facts("delete_assets", asset_ids=ids)
        assert (gone["deleted"], [row["name"] for row in gone["rows"]]) == (2, ["Talk", "Voice"])
        assert (await assistant.facts("list_assets"))["assets"] == []
        # The same call again is told what it did, and asks nobody.
        assert await assistant.facts("delete_assets", asset_ids=ids) == gone
    [question] = person.asked
    assert "Delete 2 files for good? It cannot be undone." in question
    assert '- "Talk" (video, ' in question
    assert '- "Voice" (audio, ' in question


async def test_a_yes_to_another_question_is_none(
    sync: AsyncSync, assets: list[Asset], serving: Serving, person: Person
) -> None:
    async def rename() -> None:
        if len(person.asked) == 1:
            await sync.assets.update(assets[0].id, name="Keep this")

    person.meanwhile = rename
    async with serving("auto") as assistant:
        await assistant.facts("delete_assets", asset_ids=[assets[0].id])
    assert ['"Keep this"' in question for question in person.asked] == [False, True]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("says", ["decline", "cancel"])
async def test_a_no_leaves_everything(
    sandbox: Sandbox, assets: list[Asset], serving: Serving, person: Person, mode: str, says: str
) -> None:
    person.says = says
    async with serving(mode) as assistant:
        denied = await assistant.error("delete_assets", asset_ids=[assets[0].id])
    assert denied.code == {"decline": "approval_denied", "cancel": "approval_cancelled"}[says]
    assert "Nothing was deleted" in denied.text
    assert deletions(sandbox) == []


async def test_where_the_host_cannot_ask_the_first_call_names_what_goes_and_the_second_confirms_just_that(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], serving: Serving
) -> None:
    ids = [asset.id for asset in assets]
    async with serving(forms=False) as assistant:
        told = await assistant.error("delete_assets", asset_ids=ids)
        assert told.code == "approval_required"
        assert '- "Talk" (video, ' in told.text
        # Neither another word, nor that word for other files or another name, is a yes.
        for more in ({"confirm": "yes"}, {"confirm": confirm_in(told), "asset_ids": ids[:1]}):
            assert (await assistant.error("delete_assets", {"asset_ids": ids, **more})).code == (
                "approval_required"
            )
        await sync.assets.update(ids[0], name="Keep this")
        assert (
            await assistant.error("delete_assets", asset_ids=ids, confirm=confirm_in(told))
        ).code == "approval_required"
        await sync.assets.update(ids[0], name="Talk")
        assert deletions(sandbox) == []
        gone = await assistant.facts("delete_assets", asset_ids=ids, confirm=confirm_in(told))
    assert gone["deleted"] == 2


async def test_how_the_user_is_asked_follows_the_settings(
    sandbox: Sandbox, assets: list[Asset], serving: Serving, person: Person
) -> None:
    ids = [assets[0].id]
    async with serving(forms=False, approve_by="user") as assistant:
        refused = await assistant.error("delete_assets", asset_ids=ids)
        assert "SYNC_MCP_APPROVE_BY" in refused.text
    async with serving(approve_by="quote") as assistant:
        assert confirm_in(await assistant.error("delete_assets", asset_ids=ids))
    assert (person.asked, deletions(sandbox)) == ([], [])
    async with serving(forms=False, approve_above_usd="never") as assistant:
        assert (await assistant.facts("delete_assets", asset_ids=ids))["deleted"] == 1


async def test_deleted_jobs_leave_their_costs_in_the_ledger(
    sandbox: Sandbox, serving: Serving, person: Person
) -> None:
    async with serving() as assistant:
        ids = await make_ended(assistant, sandbox, 1, 2)
        spent = (await assistant.facts("get_account"))["spent_today_usd"]
        gone = await assistant.facts("delete_generations", generation_ids=ids)
        assert (gone["deleted"], [row["cost_usd"] for row in gone["rows"]]) == (2, [0.226, 0.226])
        assert "stays in the ledger" in gone["note"]
        assert (await assistant.facts("list_generations"))["generations"] == []
        assert (await assistant.facts("get_account"))["spent_today_usd"] == spent == 0.452
    [question] = person.asked
    assert "Delete 2 jobs with the video for good?" in question
    assert question.count("cost 0.226 USD") == 2


async def test_of_a_cost_that_is_known_late_the_estimate_stays_held(
    sandbox: Sandbox, serving: Serving
) -> None:
    sandbox.configure(cost_seconds=3600.0)
    async with serving() as assistant:
        ids = await make_ended(assistant, sandbox, 1)
        gone = await assistant.facts("delete_generations", generation_ids=ids)
        assert "Of 1 job the cost is not known yet" in gone["note"]
        account = await assistant.facts("get_account")
    assert (account["spent_today_usd"], account["reserved_usd"]) == (0.226, 0.226)


async def test_a_running_or_unknown_job_among_them_leaves_all(
    sandbox: Sandbox, serving: Serving, person: Person
) -> None:
    async with serving() as assistant:
        [ended] = await make_ended(assistant, sandbox, 1)
        running = (await assistant.facts("create_generation", input=media(sandbox, 2)))["generation_id"]
        for other, told in ((running, f"{running} has not ended"), (NOBODY, f"no job {NOBODY}")):
            refused = await assistant.error("delete_generations", generation_ids=[ended, other])
            assert (refused.code, refused.money_spent) == ("invalid_request", "no")
            assert (
                f"Nothing was deleted: {'this account has ' if other == NOBODY else ''}{told}" in refused.text
            )
    assert (person.asked, deletions(sandbox)) == ([], [])


async def test_a_project_goes_with_its_jobs_and_what_it_names_is_counted(
    sandbox: Sandbox, serving: Serving, person: Person
) -> None:
    async with serving() as assistant:
        project = (await assistant.facts("save_project", name="Spring"))["project_id"]
        ids = await make_ended(assistant, sandbox, 1, 2, project_id=project)
        gone = await assistant.facts("delete_project", project_id=project)
        assert (gone["rows"], gone["note"]) == (
            [{"id": project, "name": "Spring"}],
            "With it went 2 jobs. What they cost stays in the ledger.",
        )
        missing = await assistant.error("get_generation", generation_id=ids[0])
        assert missing.code == "not_found"
        assert (await assistant.facts("get_account"))["spent_today_usd"] == 0.452
    [question] = person.asked
    assert '- "Spring"\n- 2 jobs in it' in question


async def test_a_project_says_that_files_go_with_it(sandbox: Sandbox, serving: Serving) -> None:
    async with serving() as assistant:
        project = (await assistant.facts("save_project", name="Spring"))["project_id"]
        asset = (await assistant.facts("upload_asset", url=sandbox.samples.audio))["asset_id"]
        await assistant.facts("update_asset", asset_id=asset, project_id=project)
        gone = await assistant.facts("delete_project", project_id=project)
        assert gone["note"] == "With it went of its 1 file those that were in no other project."


async def test_a_project_with_a_running_job_stays(sandbox: Sandbox, serving: Serving, person: Person) -> None:
    async with serving() as assistant:
        await assistant.facts("create_generation", input=media(sandbox), project_id=sandbox.project_id)
        refused = await assistant.error("delete_project", project_id=sandbox.project_id)
    assert "1 job of the project has not ended" in refused.text
    assert (person.asked, deletions(sandbox)) == ([], [])


async def test_what_cannot_be_deleted_is_told_row_by_row_and_tried_again_by_the_same_call(
    sandbox: Sandbox, assets: list[Asset], serving: Serving, person: Person
) -> None:
    ids = [asset.id for asset in assets]
    async with serving() as assistant:
        sandbox.add_fault(Fault.api_error("asset_forbidden", method="DELETE", path=f"/v2/assets/{ids[0]}"))
        told = await assistant.facts("delete_assets", asset_ids=ids)
        assert (told["deleted"], told["failed"]) == (1, 1)
        assert told["rows"][0]["failure"].startswith("permission_denied: ")
        assert "why" in told["next_step"]
        missing = await assistant.error("delete_assets", asset_ids=ids)
        assert f"no asset {ids[1]}" in missing.text
        assert (await assistant.facts("delete_assets", asset_ids=ids[:1]))["deleted"] == 1
    assert len(person.asked) == 2


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("delete_assets", {"asset_ids": []}),
        ("delete_assets", {"asset_ids": ["../x"]}),
        ("delete_generations", {"generation_ids": [NOBODY] * 51}),
        ("delete_project", {"project_id": "a b"}),
    ],
)
async def test_bad_ids_and_too_many_reach_no_api(
    sandbox: Sandbox, serving: Serving, tool: str, arguments: Facts
) -> None:
    async with serving() as assistant:
        assert (await assistant.error(tool, arguments)).code == "invalid_request"
    assert asked(sandbox, "POST", "/v2/assets/batch") == deletions(sandbox) == []


async def test_where_the_ledger_cannot_be_read_no_job_is_deleted(
    sandbox: Sandbox, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as assistant:
        ids = await make_ended(assistant, sandbox, 1)

        def fail(*_: object) -> None:
            raise LedgerError("It cannot be read.")

        monkeypatch.setattr("sync_mcp.payments.ledger.Ledger.makers_of", fail)
        refused = await assistant.error("delete_generations", generation_ids=ids)
    assert refused.code == "ledger_unavailable"
    assert deletions(sandbox) == []


async def test_what_somebody_else_has_deleted_meanwhile_counts_as_gone(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], serving: Serving
) -> None:
    sandbox.add_fault(Fault.api_error("asset_not_found", method="DELETE", path="/v2/assets/*"))
    async with serving() as assistant:
        gone = await assistant.facts("delete_assets", asset_ids=[assets[0].id])
    assert (gone["deleted"], "failed" in gone) == (1, False)
