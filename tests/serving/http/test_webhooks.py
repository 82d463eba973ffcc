"""Webhooks to a server over HTTP: who is believed, and that whoever waits for the job is told."""

import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from sync_mcp import AsyncSync, Audio, Generation, Video
from sync_mcp.sandbox import Sandbox
from tests.api.conftest import until
from tests.server.host import COMMAND, KEY, media
from tests.serving.http.web import BEARER, TOKEN, Web, connected, connection, post, said, serving
from tests.serving.stdio.process import WAIT_SECONDS, started

pytestmark = pytest.mark.anyio

HOST = "mcp.example.com"
SECRET = "whsec_of_this_organization"
OURS = f"https://{HOST}/webhooks/sync"
PUBLIC = {"SYNC_MCP_PUBLIC_URL": f"https://{HOST}"}


class Servers(NamedTuple):
    """Two processes on one ledger; only the first takes webhooks."""

    taking: Web
    other: Web


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    # It is never reset: each job has an id of its own.
    with Sandbox(plan="enterprise", job_seconds=3600) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def servers(api: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = {"SYNC_MCP_HOME": str(tmp_path_factory.mktemp("ledger"))}
    taking = {**home, **PUBLIC, "SYNC_MCP_WEBHOOK_SECRET": SECRET}
    with serving(api, env=taking) as first, serving(api, env={**home, **PUBLIC}) as second:
        yield Servers(first, second)


@pytest.fixture
async def sync(api: Sandbox) -> AsyncIterator[AsyncSync]:
    async with AsyncSync(api_key=KEY, base_url=api.url) as client:
        yield client


@pytest.fixture
async def jobs(sync: AsyncSync, api: Sandbox) -> Sequence[Generation]:
    """Two jobs whose ends are told to us."""
    spoken: Any = [Video(url=api.samples.video), Audio(url=api.samples.audio)]
    return [
        await sync.generations.create(model="lipsync-2", input=spoken, webhook_url=OURS) for _ in range(2)
    ]


def told(job_id: str, status: str = "COMPLETED") -> bytes:
    # As JavaScript writes JSON.
    return json.dumps({"id": job_id, "status": status}, separators=(",", ":")).encode()


def signed(body: bytes, *, secret: str = SECRET, ago: int = 0) -> Mapping[str, str]:
    sent = int(time.time()) - ago
    signature = hmac.new(secret.encode(), f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Host": HOST, "Sync-Signature": f"t={sent},v1={signature}"}


def post_hook(
    web: Web, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> httpx.Response:
    url = web.url.replace("/mcp", "/webhooks/sync")
    given = dict(signed(body) if headers is None else headers)
    return httpx.request(method, url, content=body, headers=given, timeout=WAIT_SECONDS, trust_env=False)


def send(web: Web, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    return post_hook(web, body, headers).status_code


def readings(api: Sandbox, job_id: str) -> int:
    """How often a job was read by itself."""
    return sum(one.path.endswith(f"/{job_id}") for one in api.requests)


def lists(api: Sandbox) -> int:
    return sum(one.path == "/v2/generations" and "ids" in one.query for one in api.requests)


class Waiting:
    """Calls that wait for jobs until the first of them ends, and their answers."""

    def __init__(self, api: Sandbox, jobs: Sequence[Generation]) -> None:
        self._api = api
        self._jobs = jobs
        self.answers: list[dict[str, Any]] = []

    async def wait(self, web: Web) -> None:
        async with connected(web.url, "auto") as client:
            ids = [job.id for job in self._jobs]
            arguments = {"generation_ids": ids, "until": "any", "wait_seconds": 50}
            answer = await client.call_tool("wait_for_generations", arguments)
            assert answer.structured_content
            self.answers.append(answer.structured_content)

    @property
    def states(self) -> list[dict[str, str]]:
        return [
            {row["generation_id"]: row["status"] for row in answer["generations"]} for answer in self.answers
        ]


@pytest.mark.parametrize("where", ["taking", "other"])
async def test_who_waits_in_whichever_process_is_told_by_a_webhook_and_no_list_is_read_for_it(
    api: Sandbox, servers: Servers, jobs: Sequence[Generation], where: str
) -> None:
    waiting = Waiting(api, jobs)
    looked = lists(api)
    async with anyio.create_task_group() as calls:
        calls.start_soon(waiting.wait, getattr(servers, where))
        await until(lambda: lists(api) == looked + 1)
        api.advance(3600)
        assert send(servers.taking, told(jobs[0].id)) == 204
    [states] = waiting.states
    assert states[jobs[0].id] == "COMPLETED"
    assert readings(api, jobs[0].id) == 1
    assert lists(api) == looked + 1


async def test_what_a_webhook_says_is_not_believed_before_the_job_is_read(
    api: Sandbox, servers: Servers, jobs: Sequence[Generation]
) -> None:
    waiting = Waiting(api, jobs)
    looked = lists(api)
    async with anyio.create_task_group() as calls:
        calls.start_soon(waiting.wait, servers.taking)
        await until(lambda: lists(api) == looked + 1)
        assert send(servers.taking, told(jobs[0].id, "FAILED")) == 204
        await until(lambda: readings(api, jobs[0].id) == 1)
        assert waiting.answers == []
        api.advance(3600)
        assert send(servers.taking, told(jobs[0].id)) == 204
    assert waiting.states[0][jobs[0].id] == "COMPLETED"


async def test_news_that_comes_twice_or_is_replayed_has_a_job_read_once(
    api: Sandbox, servers: Servers, jobs: Sequence[Generation]
) -> None:
    waiting = Waiting(api, jobs)
    looked = lists(api)
    first, second = (told(job.id) for job in jobs)
    async with anyio.create_task_group() as calls:
        calls.start_soon(waiting.wait, servers.taking)
        await until(lambda: lists(api) == looked + 1)
        headers = signed(first)
        # It runs still, so the wait goes on.
        assert send(servers.taking, first, headers) == 204
        await until(lambda: readings(api, jobs[0].id) == 1)
        assert send(servers.taking, first, headers) == 204
        assert send(servers.taking, first, signed(first, ago=7)) == 204
        api.advance(3600)
        assert send(servers.taking, second) == 204
    assert readings(api, jobs[0].id) == 1


async def test_a_job_of_another_account_is_told_to_nobody(
    api: Sandbox, servers: Servers, jobs: Sequence[Generation]
) -> None:
    foreign = "11111111-2222-4333-8444-555555555555"
    waiting = Waiting(api, jobs)
    looked = lists(api)
    async with anyio.create_task_group() as calls:
        calls.start_soon(waiting.wait, servers.taking)
        await until(lambda: lists(api) == looked + 1)
        assert send(servers.taking, told(foreign)) == 204
        api.advance(3600)
        assert send(servers.taking, told(jobs[1].id)) == 204
    assert set(waiting.states[0]) == {job.id for job in jobs}
    assert readings(api, foreign) == 0


BODY = told("a-job-that-nobody-waits-for")


FOREIGN = signed(BODY, secret="whsec_of_another_organization")


# Each is signed when its test runs: when the tests were collected is too long ago.
REFUSED: Sequence[tuple[bytes, Callable[[bytes], Mapping[str, str]], int, str]] = (
    (BODY, lambda body: signed(body, secret="whsec_of_another"), 401, "not signed by this secret"),
    (BODY, lambda _: {"Host": HOST}, 401, "no signature"),
    (BODY, lambda body: signed(body + b" "), 401, "not signed by this secret"),
    (BODY, lambda body: signed(body, ago=3600), 401, "too long ago"),
    (BODY, lambda body: signed(body, ago=-3600), 401, "ahead of time"),
    (b"{not json", signed, 400, "tells of no job"),
    (b'{"status":"COMPLETED"}', signed, 400, "tells of no job"),
)


@pytest.mark.parametrize(
    ("body", "head", "status", "why"),
    REFUSED,
    ids=["foreign", "unsigned", "changed", "old", "early", "no JSON", "no job"],
)
def test_what_the_api_has_not_signed_just_now_is_refused(
    servers: Servers, body: bytes, head: Callable[[bytes], Mapping[str, str]], status: int, why: str
) -> None:
    answer = post_hook(servers.taking, body, head(body))
    assert (answer.status_code, why in answer.text) == (status, True)


def test_wrong_signatures_are_counted_in_a_line_a_second_at_most(api: Sandbox, tmp_path: Path) -> None:
    env = {"SYNC_MCP_HOME": str(tmp_path), "SYNC_MCP_WEBHOOK_SECRET": SECRET}
    with serving(api, env=env) as web:
        began = time.monotonic()
        for _ in range(40):
            assert send(web, BODY, {**FOREIGN, "Host": "localhost"}) == 401
        lines: list[str] = []

        def tells_of_all(line: bytes) -> bool:
            lines.extend([line.decode()] if b"refused a webhook" in line else [])
            return sum(map(counted, lines)) == 40

        web.server.stderr.until(tells_of_all)
        assert len(lines) <= 2 + time.monotonic() - began
        assert not [line for line in lines if SECRET in line or FOREIGN["Sync-Signature"] in line]


def counted(line: str) -> int:
    found = re.search(r"\((\d+) times", line)
    return int(found[1]) if found else 1


@pytest.mark.parametrize("host", [HOST, f"{HOST}:443", HOST.upper(), "127.0.0.1", "localhost:8000"])
def test_the_host_of_the_public_url_may_call_this_path_and_so_may_this_machine(
    servers: Servers, host: str
) -> None:
    assert send(servers.taking, BODY, {**signed(BODY), "Host": host}) == 204


def test_the_host_of_the_public_url_is_good_for_this_path_alone_and_others_for_none(servers: Servers) -> None:
    assert post(servers.taking.url, "tools/list", host=HOST).status_code == 421
    assert send(servers.taking, BODY, {**signed(BODY), "Host": "evil.example"}) == 421


def test_the_signature_is_no_token_for_what_else_there_is(servers: Servers) -> None:
    signature = signed(BODY)["Sync-Signature"]
    listing = post(servers.taking.url, "tools/list", authorization=None, sync_signature=signature)
    assert listing.status_code == 401


def test_it_is_posted(servers: Servers) -> None:
    assert post_hook(servers.taking, b"", method="GET").status_code == 405


def test_a_body_is_bounded(servers: Servers) -> None:
    large = told("x" * 1024 * 1024)
    assert send(servers.taking, large, signed(large)) == 413
    with connection(servers.taking) as opened:
        opened.sendall(b"POST /webhooks/sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        opened.shutdown(socket.SHUT_WR)
        assert said(opened) == b""


def test_without_a_secret_there_is_no_such_path(servers: Servers) -> None:
    assert send(servers.other, BODY, {**signed(BODY), "Host": "localhost"}) == 401
    token = {**signed(BODY), "Host": "localhost", "Authorization": BEARER}
    assert send(servers.other, BODY, token) == 404


async def test_a_job_that_names_no_webhook_gets_ours_without_a_question(
    api: Sandbox, servers: Servers
) -> None:
    async with connected(servers.other.url, "auto") as client:
        made = await client.call_tool("create_generation", {"input": media(api.url, "?n=filled")})
        assert made.structured_content
        job = api.generations[made.structured_content["generation_id"]]
    assert job["webhookUrl"] == OURS


async def test_the_embedded_sandbox_tells_its_own_server(tmp_path: Path) -> None:
    env = {**PUBLIC, "SYNC_MCP_WEBHOOK_SECRET": SECRET, "SYNC_MCP_HTTP_TOKEN": TOKEN, "SYNC_API_KEY": ""}
    with started(
        (COMMAND, "--http", "--sandbox", "--port", "0"), {**env, "SYNC_MCP_LOG_LEVEL": "debug"}
    ) as server:
        line = server.stderr.until(lambda line: b"/mcp" in line).decode()
        async with connected(line.split()[-1], "auto") as client:
            samples = re.search(r"http://\S+/samples/", client.instructions or "")
            assert samples
            origin = samples[0].removesuffix("/samples/")
            made = await client.call_tool("create_generation", {"input": media(origin)})
            assert made.structured_content
            id = made.structured_content["generation_id"]
        advance(origin)
        server.stderr.until(lambda line: f"a webhook tells of job {id}: COMPLETED".encode() in line)


def advance(origin: str) -> None:
    httpx.post(f"{origin}/sandbox/clock", json={"advance_seconds": 60}, trust_env=False).raise_for_status()
