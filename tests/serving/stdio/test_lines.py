import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from sync_mcp.serving.stdio import MAX_LINE_BYTES

from .forked import start_forked
from .process import (
    FIXTURE_COMMAND,
    WAIT_SECONDS,
    Frame,
    ServerProcess,
    call,
    close_stdin,
    modern,
    running,
    text_of,
)

PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR = -32700, -32600, -32603


def errors_to(server: ServerProcess, line: bytes) -> list[Frame]:
    """What comes in answer to `line` and before the answer to the good line after it."""
    server.send_raw(line + b"\n")
    assert text_of(server.ask(modern(call("good", "echo", "good")))) == "good"
    return [frame for frame in map(json.loads, server.stdout.seen) if frame.get("id") != "good"]


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"\xff\xfe\x00",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"text":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":NaN}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b"x" * 4_000_000,
        b"\x00",
    ],
    ids=lambda line: repr(line[:12]),
)
def test_a_line_that_is_not_json_is_a_parse_error_and_the_next_is_served(server: ServerProcess, line: bytes):
    [answer] = errors_to(server, line)
    assert answer["error"]["code"] == PARSE_ERROR
    assert answer["id"] is None
    assert len(answer["error"]["message"]) < 100


@pytest.mark.parametrize(
    ("line", "answered_id"),
    [
        (b"null", None),
        (b"7", None),
        (b'"text"', None),
        (b"[]", None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None),
        (b"{}", None),
        (b'{"id":1,"method":"ping"}', 1),
        (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', "a"),
        (b'{"jsonrpc":"2.0","id":2,"method":5}', 2),
        (b'{"jsonrpc":"2.0","id":3,"method":"ping","params":[1]}', 3),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":4}', None),
        (b'{"jsonrpc":"2.0","id":5,"result":"not an object"}', None),
    ],
    ids=str,
)
def test_json_that_is_no_message_is_an_invalid_request(
    server: ServerProcess, line: bytes, answered_id: str | int | None
):
    [answer] = errors_to(server, line)
    assert answer["error"]["code"] == INVALID_REQUEST
    assert answer["id"] == answered_id


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" \t\r",
        b'{"jsonrpc":"2.0","method":"notifications/unheard_of"}',
        b'{"jsonrpc":"2.0","id":null,"method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":{},"progress":"x"}}',
        b'{"jsonrpc":"2.0","id":77,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"from the client"}}',
    ],
    ids=str,
)
def test_a_line_that_asks_nothing_is_not_answered(server: ServerProcess, line: bytes):
    assert errors_to(server, line) == []


def test_a_line_longer_than_the_limit_is_refused_whole(server: ServerProcess):
    [answer] = errors_to(server, json.dumps(call(1, "echo", "x" * (2 * MAX_LINE_BYTES))).encode())
    assert answer["error"]["code"] == INVALID_REQUEST
    assert str(MAX_LINE_BYTES) in answer["error"]["message"]


def test_a_line_above_four_mebibytes_is_refused_before_it_is_looked_at(server: ServerProcess):
    good = json.dumps(modern(call("just", "echo", "text"))).encode()
    [answer] = errors_to(server, good.ljust(4 * 1024 * 1024 + 1))
    assert (answer["error"]["code"], answer["id"]) == (INVALID_REQUEST, None)
    server.send_raw(good.ljust(4 * 1024 * 1024) + b"\n")
    assert text_of(server.answer("just")) == "text"


def test_a_request_of_four_megabytes_is_served(server: ServerProcess):
    text = "x" * 4_000_000
    assert text_of(server.ask(modern(call("large", "echo", text)))) == text


def test_carriage_returns_before_the_newline_are_white_space(server: ServerProcess):
    server.send_raw(json.dumps(call("crlf", "echo", "crlf")).encode() + b"\r\n")
    assert text_of(server.answer("crlf")) == "crlf"


@pytest.mark.parametrize("meta", [None, 5, "x", [], {"io.modelcontextprotocol/protocolVersion": 5}], ids=str)
def test_an_envelope_of_the_wrong_type_is_an_error_or_a_legacy_call(server: ServerProcess, meta: object):
    frame = call("meta", "echo", "text")
    frame["params"]["_meta"] = meta
    assert "id" in server.ask(frame)


def test_a_nested_argument_at_the_limit_of_the_parser_is_served(server: ServerProcess):
    nested = b'{"a":' * 190 + b"1" + b"}" * 190
    server.send_raw(b'{"jsonrpc":"2.0","id":"nested","method":"tools/list","params":{"x":' + nested + b"}}\n")
    assert server.answer("nested")["id"] == "nested"


@pytest.mark.parametrize("modern_era", [False, True], ids=["legacy", "modern"])
def test_an_answer_that_cannot_be_written_is_an_internal_error(server: ServerProcess, modern_era: bool):
    frame = call("surrogate", "not_unicode")
    answer = server.ask(modern(frame) if modern_era else frame)
    assert answer["error"]["code"] == INTERNAL_ERROR


def test_noise_never_reaches_stdout_even_under_load():
    tools = ("echo", "print_noise", "boom", "not_unicode", "unknown tool")
    frames = [call(n, tools[n % 5], str(n)) for n in range(200)]
    with running() as server:
        server.initialize()
        server.send(*(modern(frame) if n % 3 else frame for n, frame in enumerate(frames)))
        server.send_raw(b"not json\n" * 20)
        for n in range(200):
            server.answer(n)
        close_stdin(server)
        assert server.process.wait(WAIT_SECONDS) == 0
        frames = server.all_frames()
        assert all(frame["jsonrpc"] == "2.0" for frame in frames)
        assert Counter(frame["id"] for frame in frames) == Counter(range(200)) + Counter(
            {"init": 1, None: 20}
        )
        assert "noise after serving" in server.all_stderr()


def test_a_call_with_half_a_character_is_heard_and_the_caller_is_answered(server: ServerProcess):
    half = json.dumps(call("half", "echo", "cut \\ud83d")).replace("\\\\ud83d", "\\ud83d")
    assert '"cut \\ud83d"' in half
    server.send_raw(half.encode() + b"\n")
    assert server.answer("half")["id"] == "half"


def test_an_id_with_half_a_character_is_a_parse_error(server: ServerProcess):
    [answer] = errors_to(server, b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}')
    assert (answer["error"]["code"], answer["id"]) == (PARSE_ERROR, None)


def test_stdin_may_be_a_file_which_no_event_loop_can_wait_for(tmp_path: Path):
    lines = tmp_path / "lines"
    lines.write_text(
        "\n".join(json.dumps(modern(call(number, "echo", f"text {number}"))) for number in range(100)),
        encoding="utf-8",
    )
    with lines.open("rb") as stdin:
        server = start_forked(FIXTURE_COMMAND, os.environ, stdin=stdin.fileno())
    with server:
        assert server.stdout
        answers = [json.loads(line) for line in server.stdout]
        assert server.wait(WAIT_SECONDS) == 0
    assert {answer["id"]: text_of(answer) for answer in answers} == {n: f"text {n}" for n in range(100)}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_stdin_may_be_a_terminal_that_hangs_up():
    import pty

    terminal, stdin = pty.openpty()
    with start_forked(FIXTURE_COMMAND, os.environ, stdin=stdin) as server:
        os.close(stdin)
        assert server.stdout
        os.write(terminal, json.dumps(modern(call(1, "echo", "typed"))).encode() + b"\n")
        assert text_of(json.loads(server.stdout.readline())) == "typed"
        os.close(terminal)
        assert server.wait(WAIT_SECONDS) == 0
