"""A client as an assistant has one; what it is told is held against the promises of every answer."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast, get_args

import anyio
from jsonschema import Draft202012Validator
from mcp import Client
from mcp_types import CallToolResult, TextContent, Tool

from sync_mcp.errors import Code
from sync_mcp.sandbox import RecordedRequest, Sandbox
from sync_mcp.tools.catalogue import TOOLS

Facts = dict[str, Any]

MARK = "SANDBOX"
VIDEO = {"type": "video", "url": "https://example.com/v.mp4"}
AUDIO = {"type": "audio", "url": "https://example.com/a.wav"}
_DEFINITIONS: dict[str, Tool] = {tool.name: tool.definition for tool in TOOLS}
_LONGEST_ANSWER = 10_000
_SPENT = {
    "no": "No money was spent.",
    "yes": "Money was spent.",
    "unknown": "Whether money was spent is unknown.",
}
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.:/+%~?&=#@$!*';()-]+")
_OWN_VOICE = {"sandbox", "next_step"}
_SOMEBODY = re.compile(
    rf"{'|'.join(tool.name for tool in TOOLS)}|\b[A-Z]+_[A-Z_]+\b|\busers?\b|Sync's support"
)
_FOREIGN_LINES = ("api_code: ", "request_id: ", "The API says: ")
_RETRY = (
    "The same call will fail again.",
    "The same call asks the user again.",
    "The same call may work",
    "It may have been accepted",
)


@dataclass(frozen=True)
class Told:
    """What one call was answered with."""

    text: str
    facts: Facts
    is_error: bool
    meta: Facts

    @property
    def code(self) -> str | None:
        return self.meta.get("code")

    @property
    def money_spent(self) -> str | None:
        return self.meta.get("money_spent")


@dataclass
class Assistant:
    """Calls tools; `call` takes any answer, `facts` and `error` the one kind that is expected."""

    client: Client
    progress: list[tuple[float, float | None, str]] = field(
        default_factory=list[tuple[float, float | None, str]]
    )
    on_progress: Callable[[], object] = lambda: None

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Told:
        result = await self.client.call_tool(
            tool, {**(arguments or {}), **more}, progress_callback=self._note
        )
        return told(tool, result)

    async def facts(self, tool: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Facts:
        answer = await self.call(tool, arguments, **more)
        assert not answer.is_error, answer.text
        return answer.facts

    async def error(self, tool: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Told:
        answer = await self.call(tool, arguments, **more)
        assert answer.is_error, answer.text
        return answer

    async def _note(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, total, message or ""))
        self.on_progress()


def told(tool: str, result: CallToolResult) -> Told:
    """Return what `result` says, once it keeps what every answer promises."""
    blocks = [block for block in result.content if isinstance(block, TextContent)]
    assert len(blocks) == len(result.content) == 1
    text, meta = blocks[0].text, dict(result.meta or {})
    assert "Traceback" not in text
    assert len(text) < _LONGEST_ANSWER
    if result.is_error:
        _check_error(text, meta)
        assert result.structured_content is None
        return Told(text, {}, is_error=True, meta=meta)
    facts = cast(Facts, result.structured_content)
    check_schema(facts, _DEFINITIONS[tool].output_schema or {})
    _check_text(text, facts)
    return Told(text, facts, is_error=False, meta=meta)


def check_schema(facts: Facts, schema: Facts) -> None:
    faults = [fault.message for fault in Draft202012Validator(schema).iter_errors(facts)]  # pyright: ignore[reportUnknownMemberType]
    assert faults == []


def _check_error(text: str, meta: Facts) -> None:
    """The text says all that there is: an error has no structured content, and `_meta` holds nothing more."""
    lines = text.split("\n")
    assert re.fullmatch(r"[a-z_]+: .+", lines[0]), text
    assert meta["code"] in get_args(Code)
    assert lines[0].startswith(f"{meta['code']}: ")
    assert lines[1] == _SPENT[meta["money_spent"]]
    assert lines[2].startswith(_RETRY)
    assert lines[3].startswith("Next: ")
    assert meta.get("sandbox", False) == (MARK in text)
    own = {name for name in meta if not name.startswith("io.modelcontextprotocol/")}
    foreign = {"api_code", "request_id", "api_says"}
    assert own <= {"code", "money_spent", "retry_after_seconds", "sandbox"} | foreign
    if "retry_after_seconds" in own and meta["money_spent"] == "no":
        assert f"in {meta['retry_after_seconds']:.0f} s." in lines[2]
    assert names_somebody(lines[3]), lines[3]
    told = [line for line in lines[4:] if line.startswith(_FOREIGN_LINES)]
    assert len(told) == len(own & foreign)
    assert all(_shown_in(text, meta[name]) for name in own & foreign)
    if "api_says" in own:
        assert f"The API says: {as_json(meta['api_says'])}" in lines


def _check_text(text: str, facts: Facts) -> None:
    """The text says what the structured content says: the same names, the same values, nothing more."""
    shown = [line.partition(":")[0] for line in text.split("\n") if not line.startswith("- ")]
    names = ["api_says" if name == "The API says" else name for name in shown]
    assert names == list(facts)
    for name, value in _leaves(facts):
        assert value not in (None, "", {}), name
        assert name in _OWN_VOICE or _shown_in(text, value), name
    for name in _OWN_VOICE & facts.keys():
        assert f"{name}: {facts[name]}" in text.split("\n")
    rows = sum(len(cast(list[object], value)) for value in facts.values() if isinstance(value, list))
    assert text.count("\n- ") == rows
    assert names[-1] == "next_step"


def names_somebody(step: str) -> bool:
    """Return whether a next step names a tool, a setting or a person."""
    return bool(_SOMEBODY.search(step))


def _shown_in(text: str, value: object) -> bool:
    """Return whether a value stands in a text; in quotes, which it cannot close, if it is no plain word."""
    if isinstance(value, str) and not _PLAIN_WORD.fullmatch(value):
        return as_json(value) in text
    return (str(value).lower() if isinstance(value, bool) else str(value)) in text


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in cast(Mapping[str, object], value).items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in cast(list[object], value):
            yield from _leaves(inner, name)
    else:
        yield name, value


async def refusal(assistant: Assistant, sandbox: Sandbox, tool: str, arguments: Facts) -> str:
    """Return the sentence that says what is wrong; nothing may have reached the API."""
    answer = await assistant.error(tool, arguments)
    assert (answer.code, answer.money_spent) == ("invalid_request", "no"), answer.text
    assert sandbox.requests == []
    assert sandbox.charges == []
    return answer.text.split("\n")[0]


def media(sandbox: Sandbox, number: int | None = None) -> list[Facts]:
    """Return a video and a voice; with another number it is another video."""
    which = "" if number is None else f"?n={number}"
    return [
        {"type": "video", "url": f"{sandbox.samples.video}{which}"},
        {"type": "audio", "url": sandbox.samples.audio},
    ]


def asked(sandbox: Sandbox, method: str, path: str) -> list[RecordedRequest]:
    """Return the requests that came to the API at a path."""
    return [request for request in sandbox.requests if (request.method, request.path) == (method, path)]


def creates(sandbox: Sandbox) -> list[RecordedRequest]:
    """Return the requests that can cost money."""
    return asked(sandbox, "POST", "/v2/generate")


def sent(sandbox: Sandbox, path: str = "/v2/generate", method: str = "POST") -> list[Facts]:
    """Return the bodies that reached the API at a path."""
    return [cast(Facts, request.body) for request in asked(sandbox, method, path)]


def quote_in(asked: Told) -> str:
    """Return the quote in an answer that asks for the user's approval."""
    found = re.search(r'quote_id "([^"]+)"', asked.text)
    assert found, asked.text
    return found.group(1)


async def arrived(sandbox: Sandbox, method: str, path: str, **query: str) -> None:
    """Wait until such a request has come to the API; `path` is a glob."""
    with anyio.fail_after(20):
        while True:
            for request in sandbox.requests:
                fits = request.method == method and fnmatchcase(request.path, path)
                if fits and query.items() <= request.query.items():
                    return
            await anyio.sleep(0.01)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
