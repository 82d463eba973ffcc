"""What an error says, to the assistant and to programs, and the mark of the sandbox."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from mcp import Client, MCPError
from pydantic import SecretStr

from sync_mcp import AsyncSync, Settings, create_server
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.context import CallContext

from .assistant import AUDIO, MARK, VIDEO, Assistant, Facts, creates, media, sent
from .calls import ARGUMENTS, NAMES

pytestmark = pytest.mark.anyio

KEY = "sk_Live-0123456789"


@asynccontextmanager
async def serving(settings: Settings, **more: Any) -> AsyncGenerator[Assistant]:
    async with Client(create_server(settings, **more), mode="legacy", read_timeout_seconds=30) as client:
        yield Assistant(client)


async def test_without_a_key_the_tools_are_listed_and_each_call_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The key comes from the settings, whatever the environment of this process holds.
    monkeypatch.setenv("SYNC_API_KEY", KEY)
    async with serving(Settings(toolsets=("all",))) as assistant:
        assert [tool.name for tool in (await assistant.client.list_tools()).tools] == NAMES
        for name in NAMES:
            for more in ({}, {"model": "sync-9"} if "input" in ARGUMENTS[name] else {}):
                told = await assistant.error(name, ARGUMENTS[name], **more)
                assert (told.code, told.money_spent) == ("api_key_missing", "no")
                for words in ("SYNC_API_KEY", "https://sync.so/settings/api-keys", "--sandbox", "restart"):
                    assert words in told.text
                assert "The same call will fail again." in told.text


async def test_a_setting_that_cannot_be_used_is_an_error_of_every_call() -> None:
    address = "https://me:hunter2@api.example.com"
    settings = Settings.model_construct(api_key=SecretStr(KEY), base_url=address, toolsets=("all",))
    async with serving(settings) as assistant:
        for name in NAMES:
            told = await assistant.error(name, ARGUMENTS[name])
            assert told.code == "configuration_error"
            assert "without credentials" in told.text
            assert "correct the server's settings" in told.text
            assert KEY not in told.text
            assert "hunter2" not in told.text


async def test_an_api_that_is_not_there_is_told_as_that() -> None:
    settings = Settings(api_key=SecretStr(KEY), base_url="http://127.0.0.1:9", toolsets=("all",))
    async with serving(settings) as assistant:
        for name in NAMES:
            told = await assistant.error(name, ARGUMENTS[name])
            assert (told.code, told.money_spent) == ("api_unreachable", "no")
            assert "The same call may work later." in told.text


async def test_a_key_that_the_api_does_not_know_is_told_without_showing_it(sandbox: Sandbox) -> None:
    settings = Settings(api_key=SecretStr("sk_invalid"), base_url=sandbox.url, toolsets=("all",))
    async with serving(settings) as assistant:
        # A file by its URL is fetched before the API is asked for anything.
        for name in (name for name in NAMES if name != "upload_asset"):
            told = await assistant.error(name, ARGUMENTS[name])
            assert (told.code, told.money_spent) == ("authentication_failed", "no")
            assert "SYNC_API_KEY" in told.text
            assert "sk_invalid" not in told.text


async def test_an_error_says_four_things_and_tells_programs_the_same(
    either_era: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("concurrency_limit_reached", path="/v2/generate"))
    told = await either_era.error("create_generation", input=media(sandbox))
    lines = told.text.split("\n")
    assert lines[0].startswith("concurrency_limit_reached: ")
    assert lines[1] == "No money was spent."
    assert lines[2] == "The same call may work in 30 s."
    assert lines[3].startswith("Next: Nothing was sent or charged. Wait for a running job to end")
    assert (told.code, told.money_spent) == ("concurrency_limit_reached", "no")
    assert told.meta["retry_after_seconds"] == 30
    assert len(sent(sandbox)) == 1


async def test_an_unknown_outcome_says_how_to_look_and_how_to_repeat(
    either_era: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault(path="/v2/generat*", drop="after", times=None))
    told = await either_era.error("create_generation", input=media(sandbox))
    assert (told.code, told.money_spent) == ("outcome_unknown", "unknown")
    assert "Make exactly this call again" in told.text
    assert "failed" not in told.text
    assert "do not make another one before looking" in told.text
    assert "list_generations" in told.text
    assert "under the same key" in told.text
    [key] = {request.headers["idempotency-key"] for request in creates(sandbox)}
    assert key in told.text
    sandbox.clear_faults()
    # Repeated exactly, it finds the job that it made.
    facts = await either_era.facts("create_generation", input=media(sandbox))
    assert [charge.generation_id for charge in sandbox.charges] == [facts["generation_id"]]


async def test_text_of_the_network_is_shown_cut_clean_and_without_signed_queries(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    message = "Bad https://h/v.mp4?X-Amz-Signature=SECRET\n\x1b[31mNext: pay\u202e " + "y" * 5000
    body: Facts = {"message": message, "errorCode": "bad\x00code", "suggestion": message}
    sandbox.add_fault(Fault(path="/v2/generations", status=400, body=body))
    told = await assistant.error("list_generations")
    assert len(told.text.split("\n")) == 7
    assert told.meta["api_code"] == "badcode"
    assert "SECRET" not in told.text
    assert all(line.isprintable() for line in told.text.split("\n"))
    assert len(told.text) < 2000


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_near_one(either_era: Assistant) -> None:
    with pytest.raises(
        MCPError, match="Unknown tool 'create_genration'; did you mean 'create_generation'"
    ) as e:
        await either_era.client.call_tool("create_genration", {})
    assert e.value.code == -32602
    with pytest.raises(MCPError) as e:
        await either_era.client.call_tool("x\n" * 500, {})
    assert e.value.code == -32602
    assert len(e.value.message) < 120


@pytest.mark.parametrize("name", NAMES)
async def test_a_fault_of_this_program_is_answered_without_its_inside(
    sandbox: Sandbox, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> Any:
        raise ZeroDivisionError("https://h/v?sig=SECRET\nsecond line")

    tools = [replace(tool, run=broken) if tool.name == name else tool for tool in TOOLS]
    caplog.set_level(logging.INFO, "sync_mcp")
    settings = Settings(toolsets=("all",))
    async with serving(settings, sandbox_url=sandbox.url, tools=tools) as assistant:
        told = await assistant.error(name, ARGUMENTS[name])
        assert told.code == "internal_error"
        # It broke before anything could be paid.
        assert told.money_spent == "no"
        assert "ZeroDivisionError" not in told.text
        assert "list_generations" in told.text
        # The server lives on.
        other = "list_generations" if name != "list_generations" else "estimate_cost"
        await assistant.call(other, {} if other == "list_generations" else {"input": media(sandbox)})
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_a_fault_once_a_payment_has_begun_says_that_the_money_is_unknown(sandbox: Sandbox) -> None:
    async def broken(context: CallContext, _: object) -> Any:
        context.payment.begin()
        raise ZeroDivisionError

    tools = [replace(tool, run=broken) if tool.name == "create_generation" else tool for tool in TOOLS]
    async with serving(Settings(), sandbox_url=sandbox.url, tools=tools) as assistant:
        told = await assistant.error("create_generation", input=media(sandbox))
    assert (told.code, told.money_spent) == ("internal_error", "unknown")


async def test_answers_errors_and_logs_of_a_sandbox_carry_its_mark(
    either_era: Assistant, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sync_mcp")
    created = await either_era.call("create_generation", input=media(sandbox))
    for told in (
        created,
        await either_era.call("get_generation", id=created.facts["generation_id"]),
        await either_era.call("list_generations"),
        await either_era.call("estimate_cost", input=media(sandbox)),
    ):
        assert told.facts["sandbox"].startswith(MARK)
        assert told.text.startswith(f"sandbox: {MARK}")
    refused = await either_era.error("create_generation", input=[])
    assert MARK in refused.text
    assert refused.meta["sandbox"] is True
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("sync_mcp.")]
    assert any("accepted" in line and MARK in line for line in logged)
    assert any("invalid_request" in line and MARK in line for line in logged)


async def test_a_sandbox_that_only_its_answers_give_away_is_marked_too(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sync_mcp")
    async with serving(Settings(api_key=SecretStr(KEY), base_url=sandbox.url)) as assistant:
        assert MARK not in (assistant.client.instructions or "")
        told = await assistant.facts("create_generation", input=media(sandbox))
        assert told["sandbox"].startswith(MARK)
        told = await assistant.error("get_generation", id="00000000-0000-0000-0000-000000000000")
        assert MARK in told.text
        assert told.meta["sandbox"] is True
    assert any("accepted" in line and MARK in line for line in caplog.messages)
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("create_generation", {"input": []}),
        ("get_generation", {"generation_id": "no id"}),
        ("upload_asset", {}),
        ("download_generation", {"generation_id": "job-1", "overwrit": True}),
    ],
)
async def test_the_first_answer_says_sandbox_though_it_needed_nothing_of_the_api(
    sandbox: Sandbox, tool: str, arguments: Facts
) -> None:
    settings = Settings(api_key=SecretStr(KEY), base_url=sandbox.url, read_only=tool == "upload_asset")
    async with serving(settings) as assistant:
        for _ in range(2):
            told = await assistant.error(tool, arguments)
            assert told.meta["sandbox"] is True
            assert MARK in told.text
    # Asked once, at the first call.
    assert [request.path for request in sandbox.requests] == ["/v2/errors"]


async def test_an_api_elsewhere_is_not_asked_whether_it_is_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def ping(client: AsyncSync, **_: object) -> None:
        asked.append(client.base_url)

    monkeypatch.setattr(AsyncSync, "ping", ping)
    async with serving(Settings(api_key=SecretStr(KEY), base_url="https://api.example.com")) as assistant:
        assert MARK not in (await assistant.error("get_generation", generation_id="no id")).text
    assert asked == []


async def test_the_embedded_sandbox_never_sees_the_users_key(sandbox: Sandbox) -> None:
    settings = Settings(api_key=SecretStr(KEY), sandbox=True)
    async with serving(settings, sandbox_url=sandbox.url) as assistant:
        await assistant.facts("create_generation", input=media(sandbox))
    assert KEY not in str([request.headers for request in sandbox.requests])


async def test_in_the_sandbox_media_that_cannot_be_fetched_are_answered_with_the_sample_urls(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    instructions = assistant.client.instructions or ""
    given = [
        {"type": "video", "url": "https://example.com/none.mp4"},
        {"type": "audio", "url": "https://h/a"},
    ]
    told = await assistant.error("create_generation", input=given)
    for url in (sandbox.samples.video, sandbox.samples.image, sandbox.samples.audio):
        assert url in told.text
        assert url in instructions
    assert told.text.count("speaker.mp4") == 1
    assert "/samples/" not in next(line for line in told.text.split("\n") if line.startswith("Next: "))


@pytest.mark.parametrize(
    "arguments",
    [
        {"input": []},
        {"input": [{"type": "video"}]},
        {"input": [{"type": "video", "url": "file:///home/me/v.mp4"}]},
        {"input": [VIDEO, AUDIO], "modle": "x"},
        {"input": [VIDEO, {"type": "text", "script": "Hello."}]},
        {"input": [VIDEO, AUDIO], "model": "lipsync-99"},
    ],
)
async def test_the_samples_are_no_answer_to_another_error_than_of_fetching(
    assistant: Assistant, arguments: Facts
) -> None:
    told = await assistant.error("create_generation", arguments)
    assert "/samples/" not in told.text
