"""Feedback: told once, and whether it was taken."""

import pytest

from sync_mcp import (
    AsyncSync,
    InvalidRequestError,
    RateLimitError,
    RequestOptions,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import trail

pytestmark = pytest.mark.anyio

PATH = "/v2/feedback"


async def test_what_is_told_goes_out_as_the_api_spells_it(sandbox: Sandbox, sync: AsyncSync) -> None:
    await sync.feedback.send("bug", "It broke.", error_code="x", generation_id="g", severity="high")
    [asked] = sandbox.requests
    assert asked.body == {
        "kind": "bug",
        "message": "It broke.",
        "errorCode": "x",
        "generationId": "g",
        "severity": "high",
    }


async def test_a_report_whose_answer_is_lost_is_not_sent_again(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault(path=PATH, drop="after"))
    with pytest.raises(SyncError):
        await sync.feedback.send("bug", "It broke.")
    assert trail(sandbox.requests) == [f"POST {PATH}"]


async def test_what_the_api_does_not_take_is_its_own_error(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(RequestRejectedError):
        await sync.feedback.send("praise", "Thanks.")
    more: RequestOptions = {"additional_body_parameters": {"unknown": 1}}
    with pytest.raises(RequestRejectedError, match="request_rejected") as refused:
        await sync.feedback.send("other", "Thanks.", request_options=more)
    assert "unknown" in refused.value.api_says
    for _ in range(30):
        await sync.feedback.send("other", "Thanks.")
    with pytest.raises(RateLimitError):
        await sync.feedback.send("other", "Thanks.")
    sandbox.advance(60)
    await sync.feedback.send("other", "Thanks.")


async def test_a_report_that_says_nothing_is_not_sent(sandbox: Sandbox, sync: AsyncSync) -> None:
    with pytest.raises(InvalidRequestError):
        await sync.feedback.send("bug", " ")
    assert sandbox.requests == []
