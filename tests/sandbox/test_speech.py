"""Speech of the sandbox keeps the API's contract (API §9)."""

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import VOICE, ask, code_of

JOBS = "/v2/tts/jobs"
BODY = {"script": "Hello, and welcome.", "voiceId": VOICE, "provider": "elevenlabs"}


def test_a_job_is_accepted_runs_and_has_a_sound_as_long_as_it_says(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    made = api.post(JOBS, json=BODY)
    job = made.json()
    assert (made.status_code, made.headers["location"]) == (202, f"{JOBS}/{job['id']}")
    assert (job["status"], job["url"], job["duration"], job["finishedAt"]) == ("PENDING", None, None, None)
    assert api.get(f"{JOBS}/{job['id']}").headers["retry-after"] == "3"
    half = sandbox.settings.job_seconds / 2
    sandbox.advance(half)
    assert api.get(f"{JOBS}/{job['id']}").json()["status"] == "PROCESSING"
    sandbox.advance(half)
    ended = api.get(f"{JOBS}/{job['id']}")
    assert (ended.json()["status"], "retry-after" in ended.headers) == ("SUCCESS", False)
    assert ask("GET", ended.json()["url"]).headers["content-type"] == "audio/wav"
    assert ended.json()["duration"] == pytest.approx(19 / 15, abs=0.1)


def test_a_repeat_under_a_key_is_shown_the_job_as_it_is_now_and_another_body_is_409(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    key = {"Idempotency-Key": "one"}
    first = api.post(JOBS, json=BODY, headers=key).json()
    sandbox.advance(60)
    again = api.post(JOBS, json=BODY, headers=key)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (202, first["id"], "SUCCESS")
    other = api.post(JOBS, json=BODY | {"script": "Bye."}, headers=key)
    assert code_of(other) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert code_of(api.post(JOBS, json=BODY, headers={"Idempotency-Key": "k" * 129})) == (
        400,
        "INVALID_IDEMPOTENCY_KEY",
    )
    assert len(sandbox.charges) == 1


def test_speech_at_once_is_answered_whole_and_cannot_be_asked_for_again(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    spoken = api.post("/v2/tts", json=BODY)
    assert (spoken.status_code, set(spoken.json())) == (200, {"id", "url", "duration"})
    assert ask("GET", spoken.json()["url"]).content[:4] == b"RIFF"
    assert api.get(f"{JOBS}/{spoken.json()['id']}").status_code == 404
    [charge] = sandbox.charges
    assert charge.amount_usd > 0


def test_without_the_rollout_speech_jobs_are_503_and_speech_at_once_is_there(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_jobs=False)
    refused = api.post(JOBS, json=BODY)
    assert (refused.status_code, refused.json()["statusCode"]) == (503, 503)
    assert api.post("/v2/tts", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"script": "x" * 5001}, (400, None)),
        ({"script": ""}, (400, None)),
        ({"provider": None}, (400, None)),
        ({"stability": 2}, (400, None)),
        ({"voiceId": "nobody"}, (422, "voice_not_found")),
    ],
)
@pytest.mark.parametrize("path", [JOBS, "/v2/tts"])
def test_a_body_that_cannot_be_is_refused_and_costs_nothing(
    api: httpx.Client,
    sandbox: Sandbox,
    path: str,
    change: dict[str, object],
    expected: tuple[int, str | None],
) -> None:
    answer = api.post(path, json=BODY | change)
    assert (answer.status_code, answer.json().get("errorCode")) == expected
    assert sandbox.charges == []


def test_a_job_that_fails_says_why_and_is_not_charged(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(job="fail", error_code="voice_blocked"))
    job = api.post(JOBS, json=BODY).json()
    sandbox.advance(60)
    ended = api.get(f"{JOBS}/{job['id']}").json()
    assert (ended["status"], ended["error"]["code"], ended["url"]) == ("FAILED", "voice_blocked", None)
    assert [charge.released for charge in sandbox.charges] == [True]


def test_the_61st_of_a_minute_is_429_and_both_ways_are_counted_apart(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    sandbox.configure(speech_per_minute=1)
    assert [api.post(path, json=BODY).status_code for path in (JOBS, "/v2/tts", JOBS)] == [202, 200, 429]
    sandbox.advance(61)
    assert api.post(JOBS, json=BODY).status_code == 202


def test_the_free_plan_speaks_ten_times_a_month(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.configure(plan="free")
    answers = [api.post("/v2/tts", json=BODY | {"script": "Hi"}) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [402]
    assert code_of(answers[-1]) == (402, "elevenlabs_quota_exceeded")
