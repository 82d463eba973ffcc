"""What the HTTP library logs: no signature of the client's own exchanges, and all of everybody else's."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sync_mcp import AsyncSync

from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]
SIGNATURE = "s3cret-signature"
LOGGERS = ("httpx", "httpcore", "httpcore.http11", "httpcore.connection")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, name)
    return caplog


@both_backends
async def test_a_signed_url_is_in_no_line_that_the_http_library_logs_of_a_download(
    serve: Serve, client_of: ClientOf, log: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server = serve()
    signed = f"{server.url}/file.mp4?X-Amz-Signature={SIGNATURE}"
    # The first place sends on to the second one: that is in a header of an answer.
    server.answers[:] = [
        answer(200, signed.encode(), kind="text/plain"),
        answer(302, b"", {"Location": f"{signed}&again=1"}),
        answer(200, b"film"),
    ]
    path = await client_of(server).assets.download("a1", tmp_path / "film.mp4")
    assert path.read_bytes() == b"film"
    assert SIGNATURE in server.received[2].target
    assert SIGNATURE not in log.text
    for name in ("httpx", "httpcore.http11"):
        assert any(record.name == name and "/file.mp4?..." in record.getMessage() for record in log.records)


async def test_what_another_part_of_the_program_asks_by_httpx_is_logged_as_it_is(
    serve: Serve, client_of: ClientOf, log: pytest.LogCaptureFixture
) -> None:
    server = serve(answer(200, []))
    await client_of(server).models.list()
    async with httpx.AsyncClient() as other:
        await other.get(f"{server.url}/page?number=7")
    assert f"GET {server.url}/page?number=7" in log.text


def test_an_import_of_the_client_leaves_the_loggers_of_the_http_library_alone() -> None:
    code = (
        "import json, logging; from sync_mcp import AsyncSync; "
        f"print(json.dumps([len(logging.getLogger(name).filters) for name in {LOGGERS!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0] * len(LOGGERS)
