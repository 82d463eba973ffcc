"""The next step after an error is the right one: it names who or what helps, in words of the server's own."""

import re
from typing import get_args

import pytest
from pydantic import SecretStr

from sync_mcp import Settings, errors
from sync_mcp.errors import Code, InvalidRequestError, SyncError
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.api.catalogue import CATALOGUE
from sync_mcp.tools import remedies
from sync_mcp.tools.answers import error_result
from sync_mcp.tools.core import TOOLS
from tests.api.test_errors import below

from .assistant import AUDIO, VIDEO, Assistant, Facts, creates, media, names_somebody
from .test_errors import serving

pytestmark = pytest.mark.anyio

# What newer and older documents name besides, and what the sandbox has no endpoint for (API §13, §25).
OTHER_CODES = {
    "batch_concurrency_limit_reached": 429,
    "batch_plan_required": 403,
    "dialogue_edit_audio_conflict": 422,
    "dialogue_edit_not_found": 422,
    "dialogue_edit_removal_too_large": 422,
    "dialogue_edit_retime_required": 422,
    "dialogue_edit_source_mismatch": 422,
    "dialogue_edit_unsupported": 422,
    "generation_audio_length_exceeded": 422,
    "generation_audio_missing": 422,
    "generation_database_error": 500,
    "generation_internal_auth": 500,
    "generation_media_metadata_missing": 422,
    "generation_text_length_exceeded": 422,
    "generation_timeout": 504,
    "generation_unhandled_error": 500,
    "generation_video_missing": 422,
}
API_CODES = {code: entry.status for code, entry in CATALOGUE.items()} | OTHER_CODES

SAME_CAUSE = (
    {"concurrency_limit_reached", "batch_concurrency_limit_reached"},
    {"generation_unknown_error", "generation_unhandled_error"},
    {"generation_infra_storage_error", "generation_database_error"},
    {"controller_timeout", "generation_timeout"},
    {"generation_infra_service_unavailable", "controller_unavailable", "controller_dependency_error"},
)
"""Codes that say the same thing: the only ones that may have the same next step."""


def refusal(code: str, status: int) -> SyncError:
    kind = {
        400: errors.RequestRejectedError,
        402: errors.PaymentRequiredError,
        403: errors.PermissionDeniedError,
        404: errors.NotFoundError,
        409: errors.ConflictError,
        413: errors.RequestRejectedError,
        422: errors.RequestRejectedError,
        429: errors.RateLimitError,
    }.get(status, errors.ServerError)
    return kind("Said.", status=status, api_code=code, suggestion="Advised.")


def next_line(error: SyncError, tool: str = "create_generation") -> str:
    [block] = error_result(error, sandboxed=False, tool=tool).content
    assert block.type == "text"
    return next_of(block.text)


def the_same(steps: dict[str, str]) -> list[set[str]]:
    """Return the groups of codes that have one next step between them."""
    by_step: dict[str, set[str]] = {}
    for code, step in steps.items():
        by_step.setdefault(step, set()).add(code)
    return [codes for codes in by_step.values() if len(codes) > 1]


def test_a_next_step_that_names_a_tool_gets_no_other_one_put_behind_it() -> None:
    for tool in TOOLS:
        step = f"Correct the arguments and call {tool.name} again."
        error = InvalidRequestError("It is wrong.").advise(next_step=step)
        assert remedies.next_step(error, tool.name) == step


def test_who_is_told_to_do_it_again_is_told_so_once() -> None:
    error = InvalidRequestError("It is wrong.").advise(next_step="Correct these lines and plan again.")
    assert remedies.next_step(error, "plan_campaign") == (
        "Correct these lines and plan again. Or ask the user."
    )


def test_every_error_code_has_a_next_step_that_names_somebody_and_is_the_causes_own() -> None:
    of_the_api = {code: next_line(refusal(code, status)) for code, status in API_CODES.items()}
    ours = {code: next_line(own(code)) for code in get_args(Code) if code not in ("sync_error", "api_error")}
    for code, step in {**of_the_api, **ours}.items():
        assert names_somebody(step), (code, step)
        assert "Said." not in step
        assert "Advised." not in step
    assert all(any(codes <= cause for cause in SAME_CAUSE) for codes in the_same(of_the_api)), the_same(
        of_the_api
    )
    assert the_same(ours) == []


@pytest.mark.parametrize(
    "code", ["uploaded_file_not_found", "IDEMPOTENCY_CONFLICT", "approval_denied", "approval_cancelled"]
)
def test_a_call_whose_next_step_is_to_make_it_again_is_not_said_to_fail_again(code: str) -> None:
    error = refusal(code, API_CODES[code]) if code in API_CODES else errors.ApprovalDenied("No.")
    [block] = error_result(error, sandboxed=False, tool="upload_asset").content
    assert block.type == "text"
    assert "will fail again" not in block.text


def own(code: Code) -> SyncError:
    """Return an error of this code as bare as its class allows it."""
    if code == "approval_required":
        return errors.ApprovalRequired("No.", question="", quote_id=None, next_step="Ask the user.")
    if code == "generation_not_visible":
        return errors.NotVisibleYet("job-1", ledger_id=7, made_at="now", may_appear=True)
    if code == "outcome_unknown":
        return errors.OutcomeUnknown("Lost.", idempotency_key="k", sent_at="now")
    if code in ("transfer_under_way", "create_under_way"):
        return errors.UnderWay(errors.Handle("k"), code=code)
    if code == "internal_error":
        return errors.InternalError("No.", money_spent="no")
    for kind in below(SyncError):
        if kind.code == code and issubclass(kind, errors.APIStatusError):
            return kind("No.", status=418)
        if kind.code == code:
            return kind("No.")
    found = {
        "file": errors.FileRefused,
        "folder": errors.FileRefused,
        "media": errors.FileRefused,
        "ledger": errors.LedgerError,
        "quote": errors.QuoteRefused,
        "webhook": errors.QuoteRefused,
        "price": errors.QuoteRefused,
        "approval": errors.ApprovalDenied,
        "generation": errors.NoOutput,
        "api": errors.ConfigurationError,
        "storage": errors.APIResponseError,
        "url": errors.APIResponseError,
        "signature": errors.WebhookRefused,
        "event": errors.WebhookRefused,
    }
    return found[code.partition("_")[0]]("No.", code=code)


def next_of(text: str) -> str:
    [line] = [line for line in text.split("\n") if line.startswith("Next: ")]
    return line


def test_a_step_that_names_a_tool_gets_nothing_added() -> None:
    error = errors.InvalidRequestError("No.")
    error.next_step = "Call wait_for_generations first."
    assert next_line(error) == "Next: Call wait_for_generations first."


@pytest.mark.parametrize(
    "item",
    [{"type": "text", "script": "Hello."}, {"type": "text", "script": "Hello.", "voice_id": " "}],
)
async def test_a_missing_voice_leads_to_the_list_of_voices(assistant: Assistant, item: Facts) -> None:
    told = await assistant.error("create_generation", input=[VIDEO, item])
    assert "list_voices" in next_of(told.text)
    assert "/samples/" not in told.text


async def test_a_voice_that_the_api_does_not_have_leads_to_the_list_of_voices(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    sandbox.add_fault(Fault.api_error("voice_not_found", path="/v2/generate"))
    told = await assistant.error("create_generation", input=media(sandbox))
    assert told.meta["api_code"] == "voice_not_found"
    assert "list_voices" in next_of(told.text)


@pytest.mark.parametrize("id", ["job-unknown", "no id at all", "../models", "x" * 200])
@pytest.mark.parametrize("tool", ["get_generation", "preview_generation", "download_generation"])
async def test_a_wrong_id_leads_to_the_list_of_jobs(assistant: Assistant, tool: str, id: str) -> None:
    assert "list_generations" in next_of((await assistant.error(tool, generation_id=id)).text)


async def test_a_wrong_id_among_several_leads_to_the_list_of_jobs(assistant: Assistant) -> None:
    told = await assistant.error("wait_for_generations", generation_ids=["no id at all"])
    assert "list_generations" in next_of(told.text)


async def test_a_file_that_is_named_in_no_way_is_asked_for_by_path(assistant: Assistant) -> None:
    told = await assistant.error("create_generation", input=[{"type": "video"}, AUDIO])
    assert "input[0] (video) has no path, url or asset_id: give path," in told.text
    assert told.text.count("input[0]") == 1


async def test_a_video_alone_may_be_meant_to_be_dubbed(assistant: Assistant) -> None:
    told = await assistant.error("create_generation", input=[VIDEO])
    assert re.search(r"needs a voice: .*\bdub\b", told.text)


async def test_a_dub_of_a_silent_video_is_told_to_need_speech(assistant: Assistant, sandbox: Sandbox) -> None:
    silent: Facts = {"input": [{"type": "video", "url": sandbox.samples.video}], "dub": {"target_lang": "es"}}
    for tool in ("estimate_cost", "create_generation"):
        told = await assistant.error(tool, silent)
        assert "for a dub one with speech" in next_of(told.text)


async def test_where_the_host_cannot_ask_and_quotes_do_not_count_the_step_says_what_does(
    sandbox: Sandbox,
) -> None:
    settings = Settings(approve_by="user")
    async with serving(settings, sandbox_url=sandbox.url) as assistant:
        told = await assistant.error("create_generation", input=media(sandbox), quote_id="q_x")
    assert told.code == "quote_refused"
    assert "SYNC_MCP_APPROVE_BY" in next_of(told.text)
    assert "estimate_cost" not in next_of(told.text)


async def output_of(assistant: Assistant, sandbox: Sandbox) -> str:
    made = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.advance(60)
    return (await assistant.facts("get_generation", id=made["generation_id"]))["output_url"]


@pytest.mark.parametrize("cut", ["?", "&X-Amz-Signature"])
async def test_an_output_without_its_signature_is_recognised_wherever_a_url_is_taken(
    assistant: Assistant, sandbox: Sandbox, cut: str
) -> None:
    url = (await output_of(assistant, sandbox)).partition(cut)[0]
    charged, uploaded = len(sandbox.charges), len(creates(sandbox))
    given: Facts = {"input": [{"type": "video", "url": url}, AUDIO]}
    for tool, arguments in (
        ("create_generation", given),
        ("estimate_cost", given),
        ("upload_asset", {"url": url}),
        (
            "estimate_cost",
            {
                "input": media(sandbox),
                "options": {"active_speaker_detection": {"bounding_boxes_url": url}},
            },
        ),
    ):
        told = await assistant.error(tool, arguments)
        assert "its signature is missing: copy it whole, or get_generation gives a fresh one" in told.text
        assert "get_generation" in told.text
    assert (len(sandbox.charges), len(creates(sandbox))) == (charged, uploaded)


async def test_an_output_that_another_process_told_is_recognised_by_its_job(sandbox: Sandbox) -> None:
    settings = Settings(api_key=SecretStr("sk_one"), base_url=sandbox.url, approve_above_usd="never")
    async with serving(settings) as first:
        whole = await output_of(first, sandbox)
    async with serving(settings) as second:
        told = await second.error("upload_asset", url=whole.partition("?")[0])
        assert "its signature is missing" in told.text
        assert not (await second.call("upload_asset", url=whole)).is_error
        # What lies beside it is none of our outputs.
        assert not (await second.call("upload_asset", url=sandbox.samples.video)).is_error
