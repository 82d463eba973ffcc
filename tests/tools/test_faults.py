"""Every fault of the sandbox: what the assistant is told, and what was charged.

Never two charges for one call, and never a failure told for a job that was accepted.
"""

from typing import Any, Literal, NamedTuple, cast, get_args

import anyio
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.settings import SandboxSettings

from .assistant import Assistant, Facts, creates, media

pytestmark = pytest.mark.anyio

CREATE = "/v2/generate"
GENERATIONS = "/v2/generat*"
"""The create, the job and the list; not what is asked before a create."""
FOR_EVER = None
WHICH_REQUESTS = {"method", "path", "times", "skip", "key"}
"""Fields that say which requests a fault strikes; all others say how."""
LATE = {"get_lag_seconds", "list_lag_seconds", "cost_seconds", "cost_at_first"}
"""Fields that let what is true be told later: test_late_truths.py."""
ELSEWHERE = {"webhook", "webhook_seconds", "rows"}
"""Fields that strike no create: what is sent to a webhook, and the rows of a batch."""

MODES: tuple[str, ...] = get_args(SandboxSettings.model_fields["idempotency"].annotation)


class Case(NamedTuple):
    """A fault, and what becomes of one create: the code told (None: the handle), the money, the charges."""

    fault: Facts
    code: str | None
    money_spent: Literal["no", "unknown", ""]
    charges: int
    path: str = CREATE
    times: int | None = 1
    mode: str = "honour"

    @property
    def name(self) -> str:
        how = ",".join(f"{name}={value}" for name, value in self.fault.items() if name != "body")
        return f"{how} at {self.path} {'for ever' if self.times is None else 'once'} {self.mode}"


def _error(code: str, status: int, **more: Any) -> Facts:
    return {"status": status, "body": {"message": "No.", "errorCode": code, "statusCode": status}, **more}


def _refused(code: str, status: int, **more: Any) -> Case:
    return Case(_error(code, status, **more), code, "no", 0)


REFUSALS = [
    _refused("generation_input_validation_failed", 400),
    _refused("generation_input_validation_failed", 413),
    _refused("generation_input_video_inaccessible", 422),
    _refused("account_payment_required", 402),
    _refused("asset_forbidden", 403),
    _refused("asset_not_found", 404),
    _refused("rate_limit_exceeded", 429),
    _refused("concurrency_limit_reached", 429, headers={"Retry-After": "30"}),
    Case(
        {"status": 401, "body": {"message": "Unauthorized", "statusCode": 401}},
        "authentication_failed",
        "no",
        0,
    ),
]
"""The API said no in its own words: nothing was made, and nothing is sent again."""

_PLAIN: list[Facts] = [
    {"cut_body": True},
    {"html": True},
    {"empty": True},
    {"no_id": True},
    {"status": 409, "body": {"message": "Conflict."}},
    {"status": 503, "body": {"message": "Trouble."}},
    {"status": 302, "headers": {"Location": "https://elsewhere.example.com"}},
    {"idempotency_outcome_unknown": "without_id"},
]
_ODD: list[Facts] = [
    *({"status": status, "body": {"message": "Trouble."}} for status in (408, 418, 500)),
    {"status": 200, "body": "fine"},
    {"status": 201, "body": []},
    {"status": 403, "body": "<html>forbidden by the proxy</html>"},
]
"""Answers that leave it open whether the job was made."""

UNSEEN: list[Facts] = [*({**fault, "when": "before"} for fault in _PLAIN), {"drop": "before"}]
"""The API never saw the request."""

ACCEPTED: list[Facts] = [
    *({**fault, "when": "after"} for fault in _PLAIN),
    {"idempotency_outcome_unknown": "with_id"},
    {"drop": "after"},
]
"""The API took the request, and only its answer went wrong."""

_ODD_UNSEEN: list[Facts] = [{**fault, "when": "before"} for fault in _ODD]
_ODD_ACCEPTED: list[Facts] = [{**fault, "when": "after"} for fault in _ODD]

DOUBTS = [
    # The list is searched, and only because the job is not there the request goes out again.
    *(Case(fault, None, "", 1) for fault in UNSEEN + _ODD_UNSEEN),
    *(Case(fault, "outcome_unknown", "unknown", 0, times=FOR_EVER) for fault in UNSEEN),
    # What was made is found in the list, whatever the API makes of a repeated key.
    *(Case(fault, None, "", 1, mode=mode) for fault in ACCEPTED + _ODD_ACCEPTED for mode in MODES),
    *(
        Case(fault, None, "", 1, CREATE, FOR_EVER, mode)
        for fault in ACCEPTED
        for mode in ("honour", "ignore")
    ),
    # The list cannot be read either: it stays unknown.
    *(Case(fault, "outcome_unknown", "unknown", 1, GENERATIONS, FOR_EVER) for fault in ACCEPTED),
    # The job is left out of the list: the key alone prevents a second one.
    Case({"job": "hide", "drop": "after"}, None, "", 1),
    Case({"job": "hide", "drop": "after"}, "outcome_unknown", "unknown", 1, mode="conflict"),
]

HARMLESS = [
    Case({"headers": {"X-Extra": "1"}}, None, "", 1),
    Case({"delay_seconds": 0.2}, None, "", 1),
    Case({"delay_seconds": 0.2, "when": "before"}, None, "", 1),
]

_CAUSE = {"error_code": "generation_unknown_error", "error": "Nobody knows."}
_TOLD = {"api_code": "generation_unknown_error"}
FATES: list[tuple[Facts, Facts]] = [
    ({"job": "fail"}, {"status": "FAILED", "charged": "no", "api_code": "generation_pipeline_failed"}),
    ({"job": "fail", **_CAUSE, "charged": True}, {"status": "FAILED", "charged": "yes", **_TOLD}),
    ({"job": "reject", **_CAUSE}, {"status": "REJECTED", "charged": "no", **_TOLD}),
    ({"job": "reject", "charged": True}, {"status": "REJECTED", "charged": "yes"}),
    ({"job": "stuck"}, {"status": "PROCESSING"}),
    ({"job": "hide"}, {"status": "COMPLETED"}),
    ({"job": "forget"}, {"code": "generation_not_visible"}),
    ({"end_status": "TIMED_OUT"}, {"status": "TIMED_OUT"}),
]
"""What can become of a job that was accepted, and what is told of it in the end."""


def test_the_tables_leave_no_fault_out() -> None:
    cases = [case.fault for case in (*REFUSALS, *DOUBTS, *HARMLESS)] + [fault for fault, _ in FATES]
    shown = Fault.model_fields.keys() - WHICH_REQUESTS - LATE - ELSEWHERE
    assert {name for fault in cases for name in fault} == shown
    for name in ("drop", "when", "job", "idempotency_outcome_unknown"):
        words = {word for part in get_args(Fault.model_fields[name].annotation) for word in get_args(part)}
        assert words == {fault[name] for fault in cases if name in fault}
    assert {case.mode for case in DOUBTS} == set(MODES)


@pytest.mark.parametrize("case", [*REFUSALS, *DOUBTS, *HARMLESS], ids=lambda case: cast(Case, case).name)
async def test_a_create_that_a_fault_strikes_is_paid_at_most_once_and_told_truly(
    assistant: Assistant, sandbox: Sandbox, case: Case
) -> None:
    sandbox.configure(idempotency=case.mode)
    sandbox.add_fault(Fault.model_validate({**case.fault, "path": case.path, "times": case.times}))
    with anyio.fail_after(20):
        told = await assistant.call("create_generation", input=media(sandbox))
    assert len(sandbox.charges) == case.charges
    if case.code is None:
        assert not told.is_error, told.text
        assert told.facts["generation_id"] == sandbox.charges[0].generation_id
    else:
        assert case.code in (told.code, told.meta.get("api_code"))
        assert told.money_spent == case.money_spent, told.text
        # Money that may be spent is not called unspent, nor a job that may run a failure.
        assert told.money_spent == "unknown" or not sandbox.charges
        assert ("list_generations" in told.text) == (told.money_spent == "unknown")
    tried = creates(sandbox)
    assert len({request.headers["idempotency-key"] for request in tried}) == 1
    if case in REFUSALS or case.path == GENERATIONS:
        assert len(tried) == 1


async def test_a_refusal_tells_when_to_try_again_and_the_next_try_has_a_key_of_its_own(
    assistant: Assistant, sandbox: Sandbox
) -> None:
    busy = _error("rate_limit_exceeded", 429, headers={"Retry-After": "7"}, path=CREATE)
    sandbox.add_fault(Fault.model_validate(busy))
    told = await assistant.error("create_generation", input=media(sandbox))
    assert told.meta["retry_after_seconds"] == 7
    assert "The same call may work in 7 s." in told.text
    await assistant.facts("create_generation", input=media(sandbox))
    first, second = creates(sandbox)
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_create_repeated_after_an_unknown_outcome_is_not_paid_again(
    assistant: Assistant, sandbox: Sandbox, mode: str
) -> None:
    sandbox.configure(idempotency=mode)
    sandbox.add_fault(Fault(path=GENERATIONS, drop="after", times=FOR_EVER))
    for _ in range(2):
        told = await assistant.error("create_generation", input=media(sandbox))
        assert told.code == "outcome_unknown"
        assert "Make exactly this call again" in told.text
    sandbox.clear_faults()
    facts = [await assistant.facts("create_generation", input=media(sandbox)) for _ in range(2)]
    [charge] = sandbox.charges
    assert [told["generation_id"] for told in facts] == [charge.generation_id] * 2
    assert [told["reused"] for told in facts] == [True] * 2


@pytest.mark.parametrize("fault", UNSEEN, ids=lambda fault: next(iter(cast(Facts, fault))))
async def test_where_nothing_comes_through_a_create_is_not_sent_and_says_so(
    assistant: Assistant, sandbox: Sandbox, fault: Facts
) -> None:
    sandbox.add_fault(Fault.model_validate({**fault, "times": FOR_EVER}))
    with anyio.fail_after(20):
        told = await assistant.error("create_generation", input=media(sandbox))
    assert told.money_spent == "no"
    assert creates(sandbox) == []
    sandbox.clear_faults()
    facts = await assistant.facts("create_generation", input=media(sandbox))
    assert "reused" not in facts
    assert [charge.generation_id for charge in sandbox.charges] == [facts["generation_id"]]


async def test_a_late_request_and_its_repeat_are_one_job(
    assistant: Assistant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 3.2)
    sandbox.add_fault(Fault(path=CREATE, delay_seconds=1.2, when="before"))
    facts = await assistant.facts("create_generation", input=media(sandbox))
    late, repeat = creates(sandbox)
    with anyio.fail_after(10):
        while late.status is None:  # noqa: ASYNC110 - the sandbox runs in a thread of its own
            await anyio.sleep(0.02)
    assert repeat.status == 201
    assert [charge.generation_id for charge in sandbox.charges] == [facts["generation_id"]]


@pytest.mark.parametrize(("fate", "told"), FATES, ids=str)
async def test_what_becomes_of_a_job_is_told_and_it_is_charged_once(
    assistant: Assistant, sandbox: Sandbox, fate: Facts, told: Facts
) -> None:
    sandbox.add_fault(Fault.model_validate(fate))
    created = await assistant.facts("create_generation", input=media(sandbox))
    assert created["status"] == "PENDING"
    sandbox.advance(3600)
    answer = await assistant.call("get_generation", id=created["generation_id"])
    if "code" in told:
        # The ledger knows that it was made, whatever the API shows.
        assert (answer.code, answer.money_spent) == (told["code"], "yes")
    else:
        assert told.items() <= answer.facts.items()
        assert fate.get("error", "") in answer.facts.get("api_says", "")
    listed = (await assistant.facts("list_generations"))["generations"]
    assert bool(listed) == (fate.get("job") not in ("hide", "forget"))
    [charge] = sandbox.charges
    assert charge.released == (told.get("charged") == "no" or "end_status" in fate)


def _reads(created: Facts, sandbox: Sandbox) -> dict[str, Facts]:
    return {
        "get_generation": {"id": created["generation_id"]},
        "list_generations": {},
        "estimate_cost": {"input": media(sandbox), "duration_seconds": 5},
    }


def _told_of_a_read(tool: str, fault: Facts) -> str | None:
    if fault.get("status") == 409:
        return "conflict"
    astray = fault.get("status") == 302 or ("no_id" in fault and tool != "estimate_cost")
    return "api_response_unreadable" if astray else None


@pytest.mark.parametrize("tool", ["get_generation", "list_generations", "estimate_cost"])
@pytest.mark.parametrize("fault", UNSEEN, ids=lambda fault: next(iter(cast(Facts, fault))))
async def test_a_read_that_a_fault_strikes_is_repeated_where_that_can_help_and_costs_nothing(
    assistant: Assistant, sandbox: Sandbox, tool: str, fault: Facts
) -> None:
    created = await assistant.facts("create_generation", input=media(sandbox))
    request = _reads(created, sandbox)[tool]
    sandbox.add_fault(Fault.model_validate(fault))
    told = await assistant.call(tool, request)
    assert told.code == _told_of_a_read(tool, fault)
    assert told.money_spent == ("no" if told.is_error else None)
    assert not (await assistant.call(tool, request)).is_error
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("tool", ["get_generation", "list_generations", "estimate_cost"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"drop": "before"}, "api_response_unreadable"),
        ({"html": True}, "api_response_unreadable"),
        ({"status": 503, "body": {"message": "down"}}, "server_error"),
    ],
    ids=["drop", "html", "503"],
)
async def test_a_read_that_never_comes_through_says_that_it_may_work_later(
    assistant: Assistant, sandbox: Sandbox, tool: str, fault: Facts, code: str
) -> None:
    created = await assistant.facts("create_generation", input=media(sandbox))
    sandbox.add_fault(Fault.model_validate({**fault, "times": FOR_EVER}))
    told = await assistant.error(tool, _reads(created, sandbox)[tool])
    assert (told.code, told.money_spent) == (code, "no")
    assert "The same call may work later." in told.text
    assert len(sandbox.charges) == 1
