"""`make live`: ask the live API what is free to ask, and print where it differs from what is expected here.

Expected is what the client's models know and what the sandbox answers to the same question. Nothing is made,
changed or paid for: lists, the account, and a price. It needs a real SYNC_API_KEY.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import anyio
from pydantic import ValidationError

from sync_mcp import AsyncSync, Audio, SyncError, Video
from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.client import DEFAULT_BASE_URL
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel, CostEstimate, Generation
from sync_mcp.api.replies import Reply
from sync_mcp.sandbox import Sandbox
from sync_mcp.texts import clean

_TIMEOUT_SECONDS = 30.0
_PRICE = {"model": "lipsync-2", "duration": 10, "fps": 25}


@dataclass(frozen=True, slots=True)
class Question:
    """A request that costs nothing, and the model that the client reads an entry of its answer by."""

    name: str
    call: Call
    model: type[CamelModel] | None = None
    named_by: str | None = None
    """The field whose values are worth comparing one by one."""


QUESTIONS = (
    Question("models", Call("GET", "/v2/models"), ModelInfo, "name"),
    Question("error codes", Call("GET", "/v2/errors"), ErrorInfo, "code"),
    Question("generations", Call("GET", "/v2/generations", query={"limit": "20"}), Generation),
    Question("account", Call("GET", "/v2/account")),
    Question("price", Call("POST", "/v2/generations/estimate", body=_PRICE), CostEstimate),
    Question(
        "price, by its other path", Call("POST", "/v2/generate/estimate-cost", body=_PRICE), CostEstimate
    ),
)


async def compare(live: Transport, stand_in: Transport) -> int:
    """Print every difference, and return how many there are."""
    count = 0
    for question in QUESTIONS:
        differences = [line async for line in _differences(question, live, stand_in)]
        _say(f"{question.name}: {'as expected' if not differences else ''}".rstrip())
        for line in differences:
            _say(f"  {line}")
        count += len(differences)
    _say(f"{count} differences")
    return count


async def _differences(question: Question, live: Transport, stand_in: Transport) -> AsyncIterator[str]:
    try:
        reply = await live.read(question.call)
    except SyncError as error:
        yield f"the API answers {error}"
        return
    expected = await stand_in.read(question.call)
    for line in (
        *_unread(question, reply),
        *_reshaped(reply, expected),
        *_renamed(question, reply, expected),
    ):
        yield line


def _unread(question: Question, reply: Reply) -> Iterator[str]:
    """What the client's model of an entry does not know or cannot read."""
    if question.model is None:
        return
    found: set[str] = set()
    for entry in _entries(reply):
        try:
            read = question.model.from_wire(entry)
        except ValidationError as error:
            places = sorted({".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)})
            found.add(f"an entry cannot be read: {', '.join(places)}")
            continue
        found |= {f"the model does not know the field {name}" for name in read.model_extra or {}}
    yield from sorted(found)


def _reshaped(reply: Reply, expected: Reply) -> Iterator[str]:
    """What only one of the two answers has."""
    here, there = set(_shape(expected.data)), set(_shape(reply.data))
    if not _entries(reply) or not _entries(expected):
        return
    yield from (f"only the API has {place}" for place in sorted(there - here))
    yield from (f"only the sandbox has {place}" for place in sorted(here - there))


def _renamed(question: Question, reply: Reply, expected: Reply) -> Iterator[str]:
    if question.named_by is None:
        return
    here, there = (
        {str(entry.get(question.named_by)) for entry in _entries(answer)} for answer in (expected, reply)
    )
    yield from (f"only the API has {question.named_by} {clean(name, 80)}" for name in sorted(there - here))
    yield from (f"only the sandbox has {question.named_by} {name}" for name in sorted(here - there))


def _entries(reply: Reply) -> Sequence[Mapping[str, object]]:
    entries = [reply.data] if reply.entries is None else reply.entries
    return [cast(Mapping[str, object], entry) for entry in entries if isinstance(entry, Mapping)]


def _shape(value: object, place: str = "") -> Iterator[str]:
    """Every place inside a JSON value with the kind of what stands there; null fits every kind."""
    if isinstance(value, Mapping):
        for name, inner in cast(Mapping[str, object], value).items():
            yield from _shape(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for inner in cast(list[object], value):
            yield from _shape(inner, f"{place}[]")
    elif value is not None:
        kinds: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
        yield f"{place or 'the answer'}: {kinds[type(value)]}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _transport(api_key: str, base_url: str) -> Transport:
    return Transport(api_key=api_key, base_url=base_url, timeout_seconds=_TIMEOUT_SECONDS, max_retries=2)


async def _make_one(sandbox: Sandbox) -> None:
    """Make a finished job in the sandbox: an empty list has no shape."""
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    async with AsyncSync(api_key="sk_stand_in", base_url=sandbox.url) as sync:
        await sync.generations.create(model="lipsync-2", input=media)
    sandbox.advance(sandbox.settings.job_seconds)


async def main() -> int:
    base_url = os.environ.get("SYNC_BASE_URL") or DEFAULT_BASE_URL
    try:
        live = _transport(os.environ.get("SYNC_API_KEY", ""), base_url)
    except SyncError as error:
        sys.stderr.write(f"{error.message} {error.next_step}\n")
        return 2
    with Sandbox() as sandbox:
        await _make_one(sandbox)
        stand_in = _transport("sk_stand_in", sandbox.url)
        _say(f"{base_url}, free reads only")
        count = await compare(live, stand_in)
        await live.aclose()
        await stand_in.aclose()
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
