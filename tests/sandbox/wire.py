"""What the tests of the sandbox send and look into."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false

import hashlib
import threading
from array import array
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx

from sync_mcp.sandbox import Sandbox

Json = dict[str, Any]
KEY = {"x-api-key": "sk_test"}
VOICE = hashlib.sha256(b"Ada - calm narrator").hexdigest()[:20]
"""The id of a voice that the sandbox lists."""

# Every new client reads the certificates of this machine, which takes longer than most tests and serves no
# purpose on loopback.
ask = partial(httpx.request, verify=False)


def video(sandbox: Sandbox, **more: object) -> Json:
    return {"type": "video", "url": sandbox.samples.video, **more}


def image(sandbox: Sandbox, **more: object) -> Json:
    return {"type": "image", "url": sandbox.samples.image, **more}


def audio(sandbox: Sandbox, **more: object) -> Json:
    return {"type": "audio", "url": sandbox.samples.audio, **more}


def text(script: str = "Hello there, this is a test.", **more: object) -> Json:
    return {"type": "text", "provider": {"name": "elevenlabs", "voiceId": VOICE, "script": script}, **more}


def lipsync(sandbox: Sandbox, **more: object) -> Json:
    return {"model": "lipsync-2", "input": [video(sandbox), audio(sandbox)], **more}


def dubbed(item: Json) -> Json:
    dub = {"providerName": "elevenlabs", "targetLang": "es"}
    return {"model": "lipsync-2", "input": [item], "dubParams": dub}


def create(api: httpx.Client, body: Json, **headers: str) -> Json:
    response = api.post(
        "/v2/generate", json=body, headers={n.replace("_", "-"): v for n, v in headers.items()}
    )
    assert response.status_code == 201, response.text
    return response.json()


def finished(sandbox: Sandbox, api: httpx.Client, body: Json) -> Json:
    generation = create(api, body)
    sandbox.advance(sandbox.settings.job_seconds)
    return api.get(f"/v2/generate/{generation['id']}").json()


def fetched(url: str, target: Path) -> Path:
    response = ask("GET", url, timeout=30)
    assert response.status_code == 200, response.text
    target.write_bytes(response.content)
    return target


def loudness_of(path: Path, seconds: int) -> list[int]:
    """Return the loudest sample of each tenth of a second."""
    samples = array("h")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
    with av.open(str(path), "r") as container:
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 2])
    last = seconds * 10 - 1
    tenths = [samples[tenth * 800 : (tenth + 1) * 800] for tenth in range(last)]
    return [max(max(part), -min(part)) if part else 0 for part in (*tenths, samples[last * 800 :])]


def uploaded(api: httpx.Client, name: str, content_type: str, content: bytes) -> str:
    """Put a file into the storage and return the id of its asset."""
    asked = {"fileName": name, "contentType": content_type, "size": len(content)}
    place = api.post("/v2/assets/upload", json=asked).json()
    put = ask("PUT", place["uploadUrl"], content=content, headers={"content-type": content_type})
    assert put.status_code == 200, put.text
    kind = content_type.partition("/")[0].upper()
    return api.post("/v2/assets", json={"url": place["url"], "type": kind, "name": name}).json()["id"]


def code_of(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("errorCode")


def arrived(sandbox: Sandbox, count: int) -> None:
    """Wait until so many requests have come."""
    tick = threading.Event()
    for _ in range(500):
        if len(sandbox.requests) >= count:
            return
        tick.wait(0.01)
    raise AssertionError(f"only {len(sandbox.requests)} requests came")
