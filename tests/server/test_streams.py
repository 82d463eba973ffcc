import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.api.raw_server import Answer, RawServer, answer
from tests.server.host import BEFORE_A_CREATE, KEY, Host, hosted, media, text
from tests.serving.stdio.process import WAIT_SECONDS, Frame, close_stdin, modern, request

LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (DEBUG|INFO|WARNING|ERROR) sync_mcp[a-z_.]*: \S.*"
)
IDEMPOTENCY_KEY = re.compile(r"key=(sync-mcp-[0-9a-f]{48}) ")
NOBODY = "00000000-0000-4000-8000-000000000000"
GARBAGE = (b"not json\n", b'{"jsonrpc":"2.0"}\n', b"[]\n", b"\xff\xfe\x00\n", b'{"id":5,"method":\n')


def logged_by(host: Host) -> list[str]:
    """End the server, and return what it logged, each line of it in the one form."""
    close_stdin(host.server)
    assert host.server.process.wait(WAIT_SECONDS) == 0
    told = host.server.all_stderr()
    assert told == "" or told.endswith("\n")
    lines = told.split("\n")[:-1]
    assert malformed(lines) == []
    return lines


def malformed(lines: list[str]) -> list[str]:
    return [line for line in lines if not (LOG_LINE.fullmatch(line) and line.isprintable())]


def on_api(url: str, *flags: str, **env: str) -> AbstractContextManager[Host]:
    return hosted(*flags, env={"SYNC_API_KEY": KEY, "SYNC_BASE_URL": url, **env})


def mixed_calls(sandbox: Sandbox) -> list[tuple[str, Frame]]:
    good = {"input": media(sandbox.url)}
    return [
        ("list_generations", {}),
        ("estimate_cost", good),
        ("create_generation", good),
        ("get_generation", {"generation_id": NOBODY}),
        ("create_generation", {"input": "not an array"}),
        ("list_generations", {"limt": 5, "status": ["NONE"]}),
        ("create_generation", {"model": "lipsync-3", **good}),
        ("no_such_tool", {"text": "\n\x1b[31m"}),
    ]


def test_nothing_but_messages_on_stdout_under_load_and_under_errors(sandbox: Sandbox):
    faults = (
        Fault(path="/v2/*", method="GET", times=3, html=True),
        Fault(path="/v2/*", method="GET", times=3, drop="after"),
        Fault(path="/v2/*", method="GET", times=3, cut_body=True),
        Fault(path="/v2/*", method="POST", status=500, body="Internal \n Error"),
        Fault(path="/v2/generate", no_id=True),
    )
    added = {sandbox.add_fault(fault) for fault in faults}
    kinds = mixed_calls(sandbox)
    with on_api(sandbox.url) as host:
        sent = 0
        for number in range(200):
            tool, arguments = kinds[number % len(kinds)]
            frame = request(number, "tools/call", {"name": tool, "arguments": arguments})
            host.server.send(modern(frame) if number % 3 else frame)
            if number % 10 == 0:
                host.server.send_raw(GARBAGE[number // 10 % len(GARBAGE)])
                sent += 1
        for number in range(200):
            host.server.answer(number)
        assert {one.fault for one in sandbox.requests} == {None, *added}
        logged_by(host)
        frames = host.server.all_frames()
        assert all(frame["jsonrpc"] == "2.0" for frame in frames)
        answered = Counter(frame["id"] for frame in frames if "method" not in frame)
        assert answered == Counter(range(200)) + Counter({"init": 1, None: sent})


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", {"DEBUG", "INFO", "WARNING"}),
        ("warning", {"WARNING"}),
        ("ERROR", set[str]()),
    ],
)
def test_the_log_begins_at_the_level_that_was_chosen(level: str, seen: set[str]):
    with hosted(env={"SYNC_MCP_LOG_LEVEL": level}) as host:
        host.server.send_raw(b"not json\n")
        host.call("list_generations")
        lines = logged_by(host)
    assert {line.split()[1] for line in lines} == seen


def test_the_key_of_a_create_is_in_the_log_before_anything_is_sent():
    asked_before = list(BEFORE_A_CREATE.values())
    with RawServer([*asked_before, Answer(stalls=True)]) as api, on_api(api.url) as host:
        host.start("create_generation", {"input": media("https://example.com")})
        assert IDEMPOTENCY_KEY.search(host.logged("sending"))
        assert [one.path for one in api.received] == list(BEFORE_A_CREATE)


def test_the_key_that_was_sent_and_the_job_that_it_made_are_in_the_log(sandbox: Sandbox):
    with on_api(sandbox.url, "--log-level", "info") as host:
        host.call("create_generation", model="lipsync-2", input=media(sandbox.url))
        lines = logged_by(host)
    [sent] = [one for one in sandbox.requests if (one.method, one.path) == ("POST", "/v2/generate")]
    [charge] = sandbox.charges
    of_create = [line for line in lines if sent.headers["idempotency-key"] in line]
    assert len(of_create) == 2
    assert "sending" in of_create[0]
    assert charge.generation_id in of_create[1]
    assert "SANDBOX" in of_create[1]


FORGED = "2026-01-01T00:00:00+0000 INFO sync_mcp.api: create key=forged accepted as generation forged"
BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x1c", "\x85", "\u2028")
FORGERY = " ".join(("\x1b[2J\x9b31m\x07", *(f"{end}{FORGED}" for end in BREAKS)))
# The worst first: what stands far behind is cut off in any case.
HOSTILE = " ".join(
    (
        KEY,
        f"{KEY[:9]}\u200b{KEY[9:].upper()}",
        f"https://storage.example/{KEY}/a.mp4?X-Amz-Signature=SIGNATURE&x={KEY}",
        FORGERY,
    )
)
REFUSAL: Frame = {
    "statusCode": 400,
    "message": HOSTILE,
    "error": HOSTILE,
    "errorCode": HOSTILE,
    "suggestion": HOSTILE,
    "field": HOSTILE,
    "requestId": HOSTILE,
}
JOB: Frame = {
    "id": FORGERY,
    "status": FORGERY,
    "model": FORGERY,
    "createdAt": "2026-11-24T00:00:00Z",
    "input": [],
    "outputUrl": "https://storage.example/a.mp4?X-Amz-Signature=SIGNATURE",
    "outputFileName": FORGERY,
    "error": FORGERY,
    "errorCode": FORGERY,
}
# So late that nothing is asked again.
LATER = {"Retry-After": "100000"}
ELSEWHERE = {"Location": f"https://{KEY}.example/{KEY}?X-Amz-Signature=SIGNATURE", **LATER}
PAGE = f"<html><title>{HOSTILE}</title></html>".encode()

ANSWERS = {
    "a refusal": answer(400, REFUSAL),
    "a refusal in many sentences": answer(400, REFUSAL | {"message": [HOSTILE] * 1000}),
    "a refusal of megabytes": answer(422, REFUSAL | {"message": HOSTILE * 5_000}),
    "a wrong key": answer(401, {"message": f"Unknown key {KEY}", "error": HOSTILE}),
    "too many jobs": answer(429, REFUSAL | {"errorCode": "concurrency_limit_reached"}, LATER),
    "a fault": answer(500, REFUSAL, LATER),
    "a page": answer(502, PAGE, LATER, kind=f"text/html {KEY} \x1b[31m"),
    "another place": answer(302, b"", ELSEWHERE),
    "a job": answer(200, JOB, LATER),
    "a list": answer(200, [JOB, HOSTILE, {**JOB, "id": 7}, JOB | {"status": "FAILED"}], LATER),
    "a failed job": answer(200, JOB | {"id": NOBODY, "status": "FAILED"}, LATER),
}


@pytest.fixture(scope="module")
def hostile_api() -> Iterator[RawServer]:
    with RawServer([answer(500)]) as api:
        yield api


@pytest.fixture(scope="module")
def told_host(hostile_api: RawServer) -> Iterator[Host]:
    # Of so many creates, what is paid unasked would soon be enough.
    unasked = {"SYNC_MCP_APPROVE_ABOVE_USD": "1000"}
    with on_api(hostile_api.url, "--log-level", "debug", **unasked) as host:
        yield host


@pytest.mark.parametrize("before", [{}, BEFORE_A_CREATE], ids=["to all", "to the create"])
@pytest.mark.parametrize("given", list(ANSWERS))
def test_what_a_hostile_api_says_forges_no_line_and_leaks_nothing(
    hostile_api: RawServer, told_host: Host, given: str, before: Mapping[str, Answer]
):
    hostile_api.answers[:], hostile_api.by_path = [ANSWERS[given]], before
    server = told_host.server
    server.stdout.seen.clear()
    server.stderr.seen.clear()
    request: Frame = {"input": media(f"https://example.com/{given.replace(' ', '-')}"), "model": "lipsync-2"}
    said = "\n".join(
        text(told_host.call(tool, **arguments))
        for tool, arguments in (
            ("create_generation", request),
            ("get_generation", {"generation_id": NOBODY}),
            ("list_generations", {}),
            ("estimate_cost", request),
            ("wait_for_generations", {"generation_ids": [NOBODY], "wait_seconds": 0}),
            ("get_account", {}),
        )
    )
    # What is logged of this line comes after all that was logged of the calls.
    server.send_raw(b"the end\n")
    told_host.logged("refused a line of 7 bytes")
    log = b"".join(server.stderr.seen).decode()
    assert malformed(log.split("\n")[:-1]) == []
    assert IDEMPOTENCY_KEY.search(log) or not before
    assert leaks(log, KEY, "SIGNATURE", "Traceback") == []
    assert len(log) < 10_000
    assert leaks(said.replace(JOB["outputUrl"], ""), KEY, "SIGNATURE", "Traceback") == []
    assert len(said) < 10_000
    assert leaks(b"".join(server.stdout.seen).decode(), KEY, "Traceback") == []


def leaks(told: str, *secrets: str) -> list[str]:
    marks = ("\x1b", "\x9b", "\x07", "\u200b", *BREAKS[1:])
    shown = told.lower()
    return [mark for mark in marks if mark in told] + [one for one in secrets if one.lower() in shown]
