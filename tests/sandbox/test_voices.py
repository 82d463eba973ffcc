import httpx

from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.api.voices import PREMADE_COUNT
from tests.sandbox.wire import ask, code_of


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
