"""What all players share. A player runs in its host's own environment, which knows nothing of this project.

It is told a server as JSON, connects the host to it, says which tools the host sees, and then plays: for each
line of its input, a call, one line of its output, what the host's own tool gives to the model.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Server:
    """What to start, with the variables to give to it; or where it listens."""

    command: list[str]
    env: dict[str, str]
    url: str | None = None


@dataclass(frozen=True)
class Answer:
    """As tests/hosts/flow.py reads it."""

    parts: list[dict[str, Any]]
    beside: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    error: str | None = None


Turn = tuple[str, dict[str, Any]]
Caller = Callable[[str, dict[str, Any]], Awaitable[Answer]]

# A framework may print what it likes: the real output is kept for the answers.
_answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def named_server() -> Server:
    """The server that the command line names."""
    return Server(**json.loads(sys.argv[1]))


def run(connect: Callable[[Server], Coroutine[None, None, None]]) -> None:
    """Play with the server that the command line names."""
    asyncio.run(connect(named_server()))


async def take_turns(tools: Iterable[str], call: Caller) -> None:
    """Say which tools there are; then call what comes in, until nothing does."""
    say_tools(tools)
    while (turn := await next_turn()) is not None:
        try:
            answer = await call(*turn)
        except Exception as error:  # noqa: BLE001 - whatever the host raises is how it tells an error
            answer = Answer([text(error)], error=f"`{type(error).__name__}`")
        say(answer)


def say_tools(tools: Iterable[str]) -> None:
    _write({"tools": list(tools)})


def say(answer: Answer) -> None:
    _write(asdict(answer))


async def next_turn() -> Turn | None:
    """Return the tool to call and its arguments; None at the end."""
    return await asyncio.to_thread(read_turn)


def read_turn() -> Turn | None:
    """Wait for the next call, and return it."""
    if not (line := sys.stdin.readline()):
        return None
    turn = json.loads(line)
    return turn["tool"], turn["arguments"]


def text(words: object) -> dict[str, Any]:
    return {"text": str(words)}


def data(value: object) -> list[dict[str, Any]]:
    """A part for each value that is there."""
    return [] if value is None else [{"data": json.loads(json.dumps(value, default=_plain))}]


def picture(media_type: str | None) -> dict[str, Any]:
    return {"picture": media_type or "unknown"}


def blocks(content: Iterable[Any]) -> list[dict[str, Any]]:
    """The content blocks of MCP as parts, whatever the SDK calls their fields."""
    return [
        text(block.text)
        if block.type == "text"
        else picture(getattr(block, "mime_type", None) or getattr(block, "mimeType", None))
        for block in content
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _write(value: object) -> None:
    _answers.write(json.dumps(value, default=_plain) + "\n")
    _answers.flush()
