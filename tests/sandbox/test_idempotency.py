from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from tests.sandbox.wire import KEY, ask, code_of, create, lipsync


def test_a_repeated_key_is_answered_again_and_charged_once(sandbox: Sandbox, api: httpx.Client) -> None:
    first = create(api, lipsync(sandbox), idempotency_key="k1")
    again = create(api, lipsync(sandbox), idempotency_key="k1")
    assert again == first
    assert [charge.idempotency_key for charge in sandbox.charges] == ["k1"]


def test_a_key_holds_for_the_organization_whatever_the_api_key(sandbox: Sandbox, api: httpx.Client) -> None:
    first = create(api, lipsync(sandbox), idempotency_key="k1")
    assert create(api, lipsync(sandbox), idempotency_key="k1", x_api_key="sk_other")["id"] == first["id"]


def test_a_key_with_another_payload_is_a_conflict(sandbox: Sandbox, api: httpx.Client) -> None:
    create(api, lipsync(sandbox), idempotency_key="k1")
    other = lipsync(sandbox, options={"sync_mode": "loop"})
    response = api.post("/v2/generate", json=other, headers={"idempotency-key": "k1"})
    assert code_of(response) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert len(sandbox.charges) == 1


def test_a_refused_create_leaves_its_key_free(sandbox: Sandbox, api: httpx.Client) -> None:
    refused = api.post("/v2/generate", json=lipsync(sandbox, input=[]), headers={"idempotency-key": "k1"})
    assert refused.status_code == 400
    create(api, lipsync(sandbox), idempotency_key="k1")


def test_twins_that_arrive_at_once_make_one_job(sandbox: Sandbox) -> None:
    def send(_: int) -> str:
        headers = KEY | {"idempotency-key": "twin"}
        return ask(
            "POST", f"{sandbox.url}/v2/generate", json=lipsync(sandbox), headers=headers, timeout=15
        ).json()["id"]

    with ThreadPoolExecutor(8) as senders:
        assert len(set(senders.map(send, range(8)))) == 1
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("idempotency-key", "")],
        [("idempotency-key", "two words")],
        [("idempotency-key", "x" * 129)],
        [("idempotency-key", "a"), ("idempotency-key", "a")],
    ],
)
def test_a_key_that_is_empty_malformed_or_doubled_is_400(
    sandbox: Sandbox, headers: list[tuple[str, str]]
) -> None:
    response = ask(
        "POST", f"{sandbox.url}/v2/generate", json=lipsync(sandbox), headers=[*KEY.items(), *headers]
    )
    assert code_of(response) == (400, "INVALID_IDEMPOTENCY_KEY")
    assert sandbox.charges == []


def test_keys_can_be_ignored(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(idempotency="ignore")
    ids = {create(api, lipsync(sandbox), idempotency_key="k1")["id"] for _ in range(2)}
    assert len(ids) == len(sandbox.charges) == 2


def test_keys_can_expire_at_once_or_after_a_time(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(idempotency="expire")
    ids = [create(api, lipsync(sandbox), idempotency_key="k1")["id"] for _ in range(2)]
    sandbox.configure(idempotency_expiry_seconds=100)
    ids += [create(api, lipsync(sandbox), idempotency_key="k2")["id"] for _ in range(2)]
    sandbox.advance(100)
    ids.append(create(api, lipsync(sandbox), idempotency_key="k2")["id"])
    assert len(set(ids)) == 4
    assert ids[2] == ids[3]


def test_keys_can_conflict_on_every_repeat(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(idempotency="conflict")
    create(api, lipsync(sandbox), idempotency_key="k1")
    response = api.post("/v2/generate", json=lipsync(sandbox), headers={"idempotency-key": "k1"})
    assert code_of(response) == (409, "IDEMPOTENCY_CONFLICT")
    assert len(sandbox.charges) == 1


def test_the_status_of_a_replay_is_a_setting(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.configure(replay_status=200)
    create(api, lipsync(sandbox), idempotency_key="k1")
    again = api.post("/v2/generate", json=lipsync(sandbox), headers={"idempotency-key": "k1"})
    assert again.status_code == 200
