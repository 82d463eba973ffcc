"""Repeats of calls whose first outcome nobody knows, at an API that keeps no idempotency keys."""

from collections.abc import Callable
from typing import Any

import pytest

from sync_mcp import AsyncSync, Guard, Ledger, Text
from sync_mcp.api.models import GenerationRequest
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.call import PaidCall
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.api import generations
from tests.sandbox.wire import VOICE

from .conftest import CREATE, NEVER_MADE, leave_in_doubt, paid
from .entries import JOB, begun, found, intended, is_taken

pytestmark = pytest.mark.anyio

GuardOf = Callable[..., Guard]
RequestOf = Callable[..., GenerationRequest]

BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
MADE = Fault(method="POST", path=CREATE, drop="after")


@pytest.fixture(autouse=True)
def _no_keys(sandbox: Sandbox) -> None:
    sandbox.configure(idempotency="ignore")


@BOTH
async def test_the_job_is_found_although_the_repeat_has_its_link_signed_anew(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    signed = "?clip=1&X-Amz-Credential=k&X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature="
    first = request_of(f"{signed}aa")
    await leave_in_doubt(sandbox, sync, guard_of(), first, MADE)
    again = request_of(f"{signed}bb")
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(again)))
    assert made.job.id == sandbox.charges[0].generation_id
    assert len(paid(sandbox)) == 1


@BOTH
async def test_the_job_is_found_although_the_repeat_is_spelled_otherwise(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    def saying(script: str, query: str) -> GenerationRequest:
        picture = request_of(query).input[0]
        return request_of(input=[picture, Text(script=script, voice_id=VOICE)])

    first = saying("Cafe\u0301,\r\nplease", "?clip=%7e%c3%bc")
    await leave_in_doubt(sandbox, sync, guard_of(), first, MADE)
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(saying("Caf\u00e9,\nplease", "?clip=~ü"))))
    assert made.job.id == sandbox.charges[0].generation_id
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize(
    "shown", ["https://hooks.example.com", "https://relay.example.net/h/1", "[redacted]"]
)
async def test_the_job_is_found_although_the_api_shows_its_webhook_in_a_form_of_its_own(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard_of: GuardOf,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
    shown: str,
) -> None:
    echo = generations.echo

    def show_otherwise(*asked: Any) -> dict[str, Any]:
        return {**echo(*asked), "webhookUrl": shown}

    monkeypatch.setattr(generations, "echo", show_otherwise)
    request = request_of(webhook_url="https://hooks.example.com/done?key=1")
    await leave_in_doubt(sandbox, sync, guard_of(), request, MADE)
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(request)))
    assert (made.how, made.job.id) == ("found", sandbox.charges[0].generation_id)
    assert len(paid(sandbox)) == 1


@BOTH
async def test_the_job_is_found_although_the_repeat_names_another_webhook(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    first, again = (request_of(webhook_url=f"https://{host}.example/done") for host in ("one", "two"))
    await leave_in_doubt(sandbox, sync, guard_of(), first, MADE)
    made = await guard_of().create(PaidCall(sync, GenerationAct.of(again)))
    assert made.job.id == sandbox.charges[0].generation_id
    assert len(paid(sandbox)) == 1


async def test_the_job_of_another_clip_is_not_taken_for_it(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf
) -> None:
    signed = "sv=2024-11-04&se=2027&sig="
    await leave_in_doubt(sandbox, sync, guard_of(), request_of(f"?clip=1&{signed}aa"), NEVER_MADE)
    await guard_of().create(PaidCall(sync, GenerationAct.of(request_of(f"?clip=2&{signed}aa"))))
    await guard_of().create(PaidCall(sync, GenerationAct.of(request_of(f"?clip=1&{signed}bb"))))
    assert len(paid(sandbox)) == 2


async def test_one_that_was_never_made_is_sent_although_many_jobs_were_made_since(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, request_of: RequestOf
) -> None:
    await leave_in_doubt(sandbox, sync, guard, request_of("?clip=1"), NEVER_MADE)
    other = request_of("?clip=2")
    row = await sync.generations.create(model=other.model, input=other.input)
    for page in range(12):
        since: Any = [{**row.to_wire(), "id": f"other-{page}-{number}"} for number in range(100)]
        sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=200, body=since))
    sandbox.add_fault(Fault(method="GET", path="/v2/generations", status=200, body=[]))
    made = await guard.create(
        PaidCall(sync, GenerationAct.of(request_of("?clip=1")), options={"max_retries": 0})
    )
    assert made.job.id == sandbox.charges[1].generation_id


@BOTH
@pytest.mark.parametrize("processes", [1, 2])
async def test_of_two_takes_in_doubt_each_comes_to_a_job_of_its_own(
    sandbox: Sandbox, sync: AsyncSync, guard_of: GuardOf, request_of: RequestOf, processes: int
) -> None:
    guard = guard_of()
    await leave_in_doubt(sandbox, sync, guard, request_of(), MADE, take=1)
    await leave_in_doubt(sandbox, sync, guard, request_of(), NEVER_MADE, take=2)
    async with AsyncSync(api_key="sk_first", base_url=sandbox.url) as another:
        client = sync if processes == 1 else another
        second = await guard.create(PaidCall(client, GenerationAct.of(request_of()), take=2))
        first = await guard.create(PaidCall(client, GenerationAct.of(request_of()), take=1))
    assert {first.job.id, second.job.id} == {c.generation_id for c in sandbox.charges}
    assert len(paid(sandbox)) == 2


def test_of_two_takes_in_doubt_either_may_have_the_job_until_an_answer_names_it(ledger: Ledger) -> None:
    first, second = begun(ledger), begun(ledger, intention=intended(take=2))
    assert ledger.claim(first, JOB) == "unclear"
    ledger.doubt(second, "me", None)
    assert ledger.claim(first, JOB) == "mine"
    ledger.accept(second, JOB)
    assert (found(ledger, first).state, found(ledger, second).state) == ("unknown", "accepted")


def test_two_takes_that_are_both_looked_for_each_get_a_job_and_no_job_goes_to_both(ledger: Ledger) -> None:
    intentions = intended(), intended(take=2)
    first, second = (begun(ledger, intention=intention) for intention in intentions)
    for entry, intention, owner in zip((first, second), intentions, ("one", "two"), strict=True):
        ledger.doubt(entry, "me", None)
        assert is_taken(ledger, entry, owner, intention=intention)
    assert ledger.claim(first, JOB) == "mine"
    assert ledger.claim(second, JOB) == "another's"
    assert ledger.claim(second, "another") == "mine"


def test_a_take_that_goes_out_again_is_waited_for_as_at_first(ledger: Ledger) -> None:
    first, second = begun(ledger), begun(ledger, intention=intended(take=2))
    ledger.note_send(first, "me", 2.0, is_on_its_way=False)
    assert ledger.claim(second, "other") == "mine"
    ledger.note_send(first, "me", 3.0, is_on_its_way=True)
    third = begun(ledger, intention=intended(take=3))
    assert ledger.claim(third, JOB) == "unclear"
    assert found(ledger, first).last_sent_at == 3.0
