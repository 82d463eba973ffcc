import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import KEY, arrived, ask, create, lipsync, text, video
from tests.serving.stdio.forked import ForkedProcess

ROOT = Path(__file__).parents[2]


def _ids(seed: int) -> list[str]:
    with Sandbox(seed=seed) as sandbox, httpx.Client(base_url=sandbox.url, headers=KEY, verify=False) as api:
        return [create(api, lipsync(sandbox))["id"] for _ in range(3)]


def test_the_same_seed_gives_the_same_ids() -> None:
    assert _ids(1) == _ids(1)
    assert not set(_ids(1)) & set(_ids(2))


def test_the_url_is_bound_before_the_start_and_requests_wait_for_it() -> None:
    sandbox = Sandbox()
    try:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert sandbox.samples.video == f"{sandbox.url}/samples/speaker.mp4"
        with pytest.raises(OSError, match="cannot listen"):
            Sandbox(port=int(sandbox.url.rpartition(":")[2]))
    finally:
        sandbox.stop()


def test_only_loopback_is_listened_on() -> None:
    with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=1).close()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        Sandbox(job_second=1)


def test_stopping_is_prompt_with_everything_under_way_and_leaves_nothing() -> None:
    threads = set(threading.enumerate())
    sandbox = Sandbox(job_seconds=60).start()
    folder = sandbox.folder
    failures: list[str] = []

    def hang(path: str, **query: str) -> None:
        try:
            ask("GET", f"{sandbox.url}{path}", params=query, headers=KEY, timeout=20)
        except httpx.TransportError as error:
            failures.append(type(error).__name__)

    with httpx.Client(base_url=sandbox.url, headers=KEY, verify=False) as api:
        long = lipsync(sandbox, input=[video(sandbox), text("x" * 4500)])
        rendered = create(api, long)["id"]
        sandbox.advance(60)
        output = api.get(f"/v2/generate/{rendered}").json()["outputUrl"].removeprefix(sandbox.url)
        pending = create(api, lipsync(sandbox))["id"]
        sandbox.add_fault(Fault(path="/v2/models", delay_seconds=30))
        askers = [
            threading.Thread(
                target=hang, args=(f"/v2/generate/{pending}",), kwargs={"wait": "true", "timeout": "10"}
            ),
            threading.Thread(target=hang, args=("/v2/models",)),
            threading.Thread(target=hang, args=(output,)),
        ]
        for asker in askers:
            asker.start()
        arrived(sandbox, 6)
        # Neither may a client hold up the end that never finishes its request.
        half = socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])), timeout=5)
        half.sendall(b"POST /v2/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        api.get("/v2/errors")
        assert folder.is_dir()
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 0.5
        half.close()
    for asker in askers:
        asker.join(5)
    assert not folder.exists()
    assert set(threading.enumerate()) <= threads


def test_what_is_no_http_is_answered_with_the_mark(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert b"X-Sync-Sandbox: 1" in connection.recv(1000)
    assert "Invalid HTTP" in caplog.text


def test_stopping_twice_does_no_harm() -> None:
    with Sandbox() as sandbox:
        sandbox.stop()


def test_the_package_does_not_pay_for_the_sandbox() -> None:
    code = (
        "import sys, sync_mcp, sync_mcp.sandbox, sync_mcp.media.decoding.findings\n"
        "print([name for name in ('av', 'uvicorn', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    if sys.platform == "linux":
        return ForkedProcess(command, env)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, env=env)


@pytest.mark.skipif(os.name != "posix", reason="this system ends a process by force, whatever the signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_tells_how_to_use_it_and_ends_on_a_signal(number: signal.Signals) -> None:
    code = "from sync_mcp.sandbox import serve; serve('127.0.0.1', 0, plan='creator', job_seconds=1)"
    process = _start([sys.executable, "-c", code])
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with process.stdin, process.stdout, process.stderr:
        told = ""
        while "Ctrl-C" not in told:
            line = process.stdout.readline().decode()
            assert line, "it ended early"
            told += line
        url = told.split()[3]
        assert ask("GET", f"{url}/sandbox").status_code == 200
        assert f"{url}/samples/speech.wav" in told
        assert "curl -X POST" in told
        process.send_signal(number)
        # It is read to its end, which is the end of the process.
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)
