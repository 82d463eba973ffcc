import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.wire import audio, code_of, create, finished, image, lipsync, video


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/clip.mp4")
            self.end_headers()
        elif self.path == "/nearby":
            self.send_response(302)
            self.send_header("Location", "/clip.mp4")
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture
def files_url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "clip.mp4").write_bytes(sample("speaker.mp4").read_bytes())
    (tmp_path / "notes.mp4").write_text("no video at all", encoding="utf-8")
    (tmp_path / "cut.mp4").write_bytes(sample("speaker.mp4").read_bytes()[:2000])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        serving.join(5)


@pytest.mark.parametrize("name", ["clip.mp4", "nearby"])
def test_media_on_this_machine_are_fetched(
    sandbox: Sandbox, api: httpx.Client, files_url: str, name: str
) -> None:
    items = [video(sandbox, url=f"{files_url}/{name}"), audio(sandbox)]
    create(api, lipsync(sandbox, input=items))


@pytest.mark.parametrize("name", ["missing.mp4", "elsewhere"])
def test_media_that_are_missing_or_lead_elsewhere_are_inaccessible(
    sandbox: Sandbox, api: httpx.Client, files_url: str, name: str
) -> None:
    items = [video(sandbox, url=f"{files_url}/{name}"), audio(sandbox)]
    response = api.post("/v2/generate", json=lipsync(sandbox, input=items))
    assert code_of(response) == (422, "generation_input_video_inaccessible")
    assert response.json()["field"] == "input[0].url"
    assert ("this machine only" in response.json()["message"]) == (name == "elsewhere")


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a.wav", "http://192.0.2.1/a.wav", "ftp://127.0.0.1/a.wav", "http://[", "a.wav"],
)
def test_other_hosts_are_refused_and_the_samples_named(sandbox: Sandbox, api: httpx.Client, url: str) -> None:
    items = [video(sandbox), audio(sandbox, url=url)]
    response = api.post("/v2/generate", json=lipsync(sandbox, input=items))
    assert code_of(response) == (422, "generation_input_audio_inaccessible")
    assert sandbox.samples.audio in response.json()["suggestion"]


def test_a_sample_that_does_not_exist_is_inaccessible(sandbox: Sandbox, api: httpx.Client) -> None:
    items = [image(sandbox, url=f"{sandbox.url}/samples/nobody.jpg"), audio(sandbox)]
    response = api.post("/v2/generate", json={"model": "sync-3", "input": items})
    assert code_of(response) == (422, "generation_input_image_inaccessible")


@pytest.mark.parametrize("name", ["notes.mp4", "cut.mp4"])
def test_what_cannot_be_decoded_is_invalid(
    sandbox: Sandbox, api: httpx.Client, files_url: str, name: str
) -> None:
    url = f"{files_url}/{name}"
    as_video = lipsync(sandbox, input=[video(sandbox, url=url), audio(sandbox)])
    assert code_of(api.post("/v2/generate", json=as_video)) == (422, "generation_input_video_invalid")
    as_audio = lipsync(sandbox, input=[video(sandbox), audio(sandbox, url=url)])
    assert code_of(api.post("/v2/generate", json=as_audio)) == (422, "generation_input_audio_invalid")


def test_media_in_the_wrong_place_are_invalid(sandbox: Sandbox, api: httpx.Client) -> None:
    items = [video(sandbox, url=sandbox.samples.image), audio(sandbox)]
    response = api.post("/v2/generate", json=lipsync(sandbox, input=items))
    assert code_of(response) == (422, "generation_input_video_invalid")
    items = [video(sandbox), audio(sandbox, url=sandbox.samples.video)]
    response = api.post("/v2/generate", json=lipsync(sandbox, input=items))
    assert code_of(response) == (422, "generation_input_audio_invalid")


def test_the_urls_of_the_apis_own_examples_stand_for_the_samples(sandbox: Sandbox, api: httpx.Client) -> None:
    items = [
        video(sandbox, url="https://assets.sync.so/docs/example-video.mp4"),
        audio(sandbox, url="https://assets.sync.so/docs/example-audio.wav"),
    ]
    assert create(api, lipsync(sandbox, input=items))["input"] == items


def test_an_output_can_be_the_input_of_the_next_generation(sandbox: Sandbox, api: httpx.Client) -> None:
    first = finished(sandbox, api, lipsync(sandbox))
    items = [video(sandbox, url=first["outputUrl"]), audio(sandbox, url=first["outputUrl"])]
    assert finished(sandbox, api, lipsync(sandbox, input=items))["outputDuration"] == pytest.approx(
        4.5, abs=0.1
    )
