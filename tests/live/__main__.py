"""`make live`: ask the live API what is free to ask, and print where it differs from what is expected here.

Expected is what the client's models know and what the sandbox answers to the same question. Nothing is made,
changed or paid for: lists, the account, and a price. It needs a real SYNC_API_KEY.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import anyio
from pydantic import ValidationError

from sync_mcp import AsyncSync, Audio, GenerationRequest, SyncError, Video
from sync_mcp.api.account import Organization
from sync_mcp.api.assets import Asset
from sync_mcp.api.batches import Batch
from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.client import DEFAULT_BASE_URL
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel, CostEstimate, Generation
from sync_mcp.api.moments import between
from sync_mcp.api.projects import Project
from sync_mcp.api.replies import Reply
from sync_mcp.api.usage import UsageItem
from sync_mcp.api.voices import Voice
from sync_mcp.sandbox import Sandbox
from sync_mcp.texts import clean

_TIMEOUT_SECONDS = 30.0
_DAY = {"limit": "20"} | between(
    "startTime", datetime.now(UTC) - timedelta(days=1), "endTime", datetime.now(UTC) + timedelta(hours=1)
)
_PRICE = {"model": "lipsync-2", "duration": 10, "fps": 25}


@dataclass(frozen=True, slots=True)
class Question:
    """A request that costs nothing, and the model that the client reads an entry of its answer by."""

    name: str
    call: Call
    model: type[CamelModel] | None = None
    named_by: str | None = None
    """The field whose values are worth comparing one by one."""
    under: str | None = None
    """The field that has the entries, where the answer is no array and no single thing."""


QUESTIONS = (
    Question("models", Call("GET", "/v2/models"), ModelInfo, "name"),
    Question("error codes", Call("GET", "/v2/errors"), ErrorInfo, "code"),
    Question("generations", Call("GET", "/v2/generations", query={"limit": "20"}), Generation),
    Question("account", Call("GET", "/v2/account")),
    Question("price", Call("POST", "/v2/generations/estimate", body=_PRICE), CostEstimate),
    Question(
        "price, by its other path", Call("POST", "/v2/generate/estimate-cost", body=_PRICE), CostEstimate
    ),
    Question("number of generations", Call("GET", "/v2/generations/count")),
    Question("organizations", Call("GET", "/v2/account/organizations"), Organization, under="organizations"),
    Question("assets", Call("GET", "/v2/assets", query={"limit": "20"}), Asset, under="items"),
    Question("number of assets", Call("GET", "/v2/assets/count")),
    Question("projects", Call("GET", "/v2/projects", query={"limit": "20"}), Project, under="items"),
    Question("voices", Call("GET", "/v2/voices", query={"provider": "elevenlabs"}), Voice),
    Question("batches", Call("GET", "/v2/batch"), Batch),
    Question("usage", Call("GET", "/v2/usage/generations", query=_DAY), UsageItem, under="items"),
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
        *_reshaped(question, reply, expected),
        *_renamed(question, reply, expected),
    ):
        yield line


def _unread(question: Question, reply: Reply) -> Iterator[str]:
    """What the client's model of an entry does not know or cannot read."""
    if question.model is None:
        return
    found: set[str] = set()
    for entry in _entries(question, reply):
        try:
            read = question.model.from_wire(entry)
        except ValidationError as error:
            places = sorted({".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)})
            found.add(f"an entry cannot be read: {', '.join(places)}")
            continue
        found |= {f"the model does not know the field {name}" for name in read.model_extra or {}}
    yield from sorted(found)


def _reshaped(question: Question, reply: Reply, expected: Reply) -> Iterator[str]:
    """What only one of the two answers has."""
    here, there = set(_shape(expected.data)), set(_shape(reply.data))
    if not _entries(question, reply) or not _entries(question, expected):
        return
    yield from (f"only the API has {place}" for place in sorted(there - here))
    yield from (f"only the sandbox has {place}" for place in sorted(here - there))


def _renamed(question: Question, reply: Reply, expected: Reply) -> Iterator[str]:
    if question.named_by is None:
        return
    here, there = (
        {str(entry.get(question.named_by)) for entry in _entries(question, answer)}
        for answer in (expected, reply)
    )
    yield from (f"only the API has {question.named_by} {clean(name, 80)}" for name in sorted(there - here))
    yield from (f"only the sandbox has {question.named_by} {name}" for name in sorted(here - there))


def _entries(question: Question, reply: Reply) -> Sequence[Mapping[str, object]]:
    inner = reply.fields.get(question.under) if question.under is not None else reply.data
    entries = cast(list[object], inner) if isinstance(inner, list) else [inner]
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
    """Make a finished job and a batch in the sandbox: an empty list has no shape."""
    media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
    videos = [Video(url=f"{sandbox.samples.video}?clip={number}") for number in range(20)]
    rows = [GenerationRequest(model="lipsync-2", input=[video, media[1]]) for video in videos]
    async with AsyncSync(api_key="sk_stand_in", base_url=sandbox.url) as sync:
        await sync.generations.create(model="lipsync-2", input=media)
        await sync.batches.create(rows)
    sandbox.advance(60 + sandbox.settings.job_seconds)


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
