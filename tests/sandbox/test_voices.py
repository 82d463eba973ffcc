import httpx

from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.api.voices import PREMADE_COUNT
from tests.sandbox.wire import ask, code_of, create, text, video


def test_voices_are_the_same_in_every_sandbox(api: httpx.Client) -> None:
    voices = api.get("/v2/voices", params={"provider": "elevenlabs"}).json()
    assert len(voices) > PREMADE_COUNT >= 300
    with Sandbox() as other:
        again = ask("GET", f"{other.url}/v2/voices", headers={"x-api-key": "sk_other"}).json()
    assert [(voice["id"], voice["name"]) for voice in again] == [
        (voice["id"], voice["name"]) for voice in voices
    ]


def test_a_voice_is_found_by_either_id_and_its_preview_can_be_heard(api: httpx.Client) -> None:
    voices = api.get("/v2/voices").json()
    cloned = voices[0]
    assert cloned["id"] == cloned["internalVoiceId"] != cloned["voiceId"]
    assert api.get(f"/v2/voices/{cloned['voiceId']}").json() == cloned
    assert api.get(f"/v2/voices/{cloned['id']}").json() == cloned
    assert ask("GET", voices[-1]["previewUrl"]).headers["content-type"] == "audio/wav"


def test_an_unknown_voice_is_404_and_an_unknown_provider_400(api: httpx.Client) -> None:
    missing = api.get("/v2/voices/nobody")
    assert code_of(missing) == (404, "voice_not_found")
    assert (missing.json()["statusCode"], missing.json()["error"]) == (404, "Not Found")
    assert api.get("/v2/voices", params={"provider": "other"}).status_code == 400


def test_voices_want_a_key(sandbox: Sandbox) -> None:
    assert ask("GET", f"{sandbox.url}/v2/voices").status_code == 401


VOICES = "/v2/voices"


def clone(api: httpx.Client, sandbox: Sandbox, **change: object) -> httpx.Response:
    body = {"name": "Ada Li", "provider": "elevenlabs", "url": sandbox.samples.audio, **change}
    return api.post(VOICES, json=body)


def test_a_voice_is_cloned_from_a_recording_spoken_in_listed_first_and_deleted(
    api: httpx.Client, sandbox: Sandbox
) -> None:
    made = clone(api, sandbox)
    assert (made.status_code, set(made.json())) == (201, {"id", "voiceId", "name"})
    listed = api.get(VOICES).json()[0]
    assert listed == {**made.json(), "internalVoiceId": made.json()["id"], "provider": "elevenlabs"}
    body = {"script": "Hello.", "voiceId": made.json()["id"], "provider": "elevenlabs"}
    assert api.post("/v2/tts", json=body).status_code == 200
    spoken = text()
    spoken["provider"]["voiceId"] = made.json()["id"]
    create(api, {"model": "lipsync-2", "input": [video(sandbox), spoken]})
    deleted = api.delete(f"{VOICES}/{made.json()['id']}")
    assert (deleted.status_code, deleted.json()) == (200, True)
    assert code_of(api.post("/v2/tts", json=body)) == (422, "voice_not_found")
    assert code_of(api.delete(f"{VOICES}/{made.json()['id']}")) == (404, "voice_not_found")
    # What it cost stays.
    assert len(sandbox.charges) == 3


def test_each_clone_that_cannot_be_is_refused_and_costs_nothing(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.configure(clones_per_hour=None)
    silent = f"{sandbox.url}/samples/speaker.mp4"
    for change, expected in (
        ({"name": "x" * 101}, (400, None)),
        ({"provider": None}, (400, None)),
        ({"url": None}, (400, None)),
        ({"assetId": "0" * 36}, (400, None)),
        ({"url": None, "assetId": "nobody"}, (400, "invalid_asset_id_format")),
        ({"url": "https://example.com/a.wav"}, (422, "voice_sample_upload_required")),
        ({"url": f"{sandbox.url}/samples/none.wav"}, (422, "voice_sample_not_accessible")),
        ({"url": sandbox.samples.image}, (422, "voice_sample_type_unsupported")),
        ({"url": silent}, (422, "voice_sample_extraction_failed")),
        ({"name": "My own voice"}, (409, "voice_name_conflict")),
    ):
        answer = clone(api, sandbox, **change)
        assert (answer.status_code, answer.json().get("errorCode")) == expected, change
    sandbox.configure(shortest_sample_seconds=600)
    assert code_of(clone(api, sandbox)) == (400, "voice_sample_too_short")
    sandbox.configure(plan="free", shortest_sample_seconds=0)
    assert code_of(clone(api, sandbox)) == (403, "voice_clone_limit_reached")
    assert sandbox.charges == []


def test_the_eleventh_clone_in_an_hour_is_429(api: httpx.Client, sandbox: Sandbox) -> None:
    answers = [clone(api, sandbox, name=f"Voice {number}") for number in range(11)]
    assert [answer.status_code for answer in answers] == [201] * 10 + [429]
    assert 3500 < int(answers[-1].headers["retry-after"]) <= 3600
    sandbox.advance(3601)
    assert clone(api, sandbox, name="Voice 11").status_code == 201
