"""The examples that are told of the ends of jobs, each a process of its own beside a sandbox."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import lipsync

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_SECONDS = 60


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(job_seconds=600) as sandbox:
        yield sandbox


@contextmanager
def running(name: str, sandbox: Sandbox, **env: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Run an example that serves HTTP, to which the sandbox sends its webhooks; yield its address."""
    port = free_port()
    given = os.environ | {"SYNC_API_KEY": "any", "SYNC_BASE_URL": sandbox.url} | env
    command = [sys.executable, str(EXAMPLES / name), "--port", str(port)]
    with subprocess.Popen(command, env=given, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            wait_for_port(port, process)
            sandbox.configure(webhook_origin=f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, process.returncode
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < ends_at
            time.sleep(0.02)
        else:
            return


def test_the_receiver_prints_the_end_of_each_job_once(sandbox: Sandbox) -> None:
    with running("webhook_receiver.py", sandbox) as (_, process):
        ids: list[str] = []
        for how in ("wrongly_signed", "twice", None):
            if how is not None:
                sandbox.add_fault(Fault.model_validate({"webhook": how}))
            body = lipsync(sandbox, webhookUrl="https://hooks.example.com/")
            made = httpx.post(
                f"{sandbox.url}/v2/generate", json=body, headers={"x-api-key": "any"}, trust_env=False
            )
            ids.append(made.json()["id"])
            sandbox.advance(600)
        assert process.stdout
        lines = [process.stdout.readline().split() for _ in ids[1:]]
    assert sorted(line[0] for line in lines) == sorted(ids[1:])
    assert {line[1] for line in lines} == {"COMPLETED"}
    assert all(line[2].startswith(sandbox.url) for line in lines)


def test_the_app_starts_a_video_once_and_knows_its_end_without_asking(sandbox: Sandbox) -> None:
    wanted = {"video": sandbox.samples.video, "speech": sandbox.samples.audio}
    with (
        running("fastapi_app.py", sandbox, PUBLIC_URL="https://videos.example.com") as (url, _),
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as app,
    ):
        first, again = (app.post("/videos", json=wanted) for _ in range(2))
        assert first.status_code == 201, first.text
        assert first.json()["id"] == again.json()["id"]
        shown = f"/videos/{first.json()['id']}"
        assert app.get(shown).json()["status"] == "PENDING"
        assert app.get("/videos/another").status_code == 404
        assert app.post("/webhooks/sync", content=b"{}").status_code == 401
        sandbox.advance(600)
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while (state := app.get(shown).json())["status"] != "COMPLETED":
            assert time.monotonic() < ends_at
            time.sleep(0.02)
        assert state["output_url"].startswith(sandbox.url)
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("name", "taker", "given"),
    [("webhook_receiver.py", "Receiver", ()), ("fastapi_app.py", "Videos", ("https://app.example",))],
)
def test_only_the_latest_ends_are_remembered_however_long_it_runs(
    name: str, taker: str, given: tuple[str, ...]
) -> None:
    spec = spec_from_file_location("example_told_of_ends", EXAMPLES / name)
    assert spec
    assert spec.loader
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    vars(example)["MOST_SEEN"] = 3
    told = vars(example)[taker](None, "secret", *given)
    ends = [(f"job-{number}", "COMPLETED") for number in range(5)]
    assert [told.is_new(end) for end in ends] == [True] * 5
    assert [told.is_new(end) for end in ends[2:]] == [False] * 3
    assert len(told.seen) == 3
