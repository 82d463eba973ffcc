"""The flow that each host plays, and what is seen of the answers that reach its model."""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, JsonValue

UNKNOWN_ARGUMENT: Final = "modle"
DROPPED: Final = "the argument is dropped in silence"
_WAIT_SECONDS = 40
_LINE = "\nstatus: COMPLETED\n"
# A JPEG or PNG in base64.
_ENCODED_PICTURE = re.compile(r"(?:/9j/|iVBOR)[A-Za-z0-9+/]{200}")


class Part(BaseModel):
    """One piece of an answer: a text, data that are no text, or a picture by its media type."""

    text: str | None = None
    data: JsonValue = None
    picture: str | None = None


class Answer(BaseModel):
    """What a host makes of a tool's result."""

    parts: list[Part]
    """What its model gets; of a client without a model, what the program gets."""
    beside: list[Part] = []
    """What the program gets and the model does not."""
    error: str | None = None
    """How the host marks an error; None where it calls the answer a success."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model makes."""

    tool: str
    arguments: dict[str, JsonValue]


class Sight(BaseModel):
    """What the model gets of an answer, in the words of the table in docs/hosts.md."""

    text: str = ""
    structured: str = ""
    picture: str = ""
    error: str = ""


class FlowBroken(Exception):
    """An answer did not give what the next call needs."""


def play(folder: Path) -> Generator[Call, Answer, Sight]:
    """Give the model's calls one after the other, each for the answer to the one before it.

    `folder` holds clip.mp4 and speech.wav.

    Raises:
        FlowBroken: the flow cannot go on.
    """
    request: dict[str, JsonValue] = {
        "input": [
            {"type": "video", "path": str(folder / "clip.mp4")},
            {"type": "audio", "path": str(folder / "speech.wav")},
        ]
    }
    _find(r"cost_usd\W+(\d+\.\d+)", (yield Call("estimate_cost", request)), "the price")
    created = yield Call("create_generation", request)
    job = _find(r"generation_id\W+([0-9a-f-]{36})", created, "the job's id")
    ended = yield Call("get_generation", {"generation_id": job, "wait_seconds": _WAIT_SECONDS})
    _find(r"status\W+(COMPLETED)", ended, "the end of the job")
    shown = yield Call("preview_generation", {"generation_id": job})
    if shown.error is not None:
        raise FlowBroken(f"preview_generation: {_excerpt(shown)}")
    refused = yield Call("create_generation", {**request, UNKNOWN_ARGUMENT: "lipsync-2"})
    return Sight(
        text=_see_text(ended),
        structured=_see_structured(ended, job),
        picture=_see_picture(shown),
        error=_see_error(refused),
    )


def _find(pattern: str, answer: Answer, what: str) -> str:
    for leaf in _strings(answer.parts):
        if found := re.search(pattern, leaf):
            return found[1]
    raise FlowBroken(f"{what} is not in the answer: {_excerpt(answer)}")


def _see_text(answer: Answer) -> str:
    """Whether the server's own lines arrive, each field on one; and in what they are wrapped."""
    if any(_LINE in leaf for leaf in _strings(answer.parts)):
        return "yes"
    texts = [part.text for part in answer.parts if part.text is not None]
    if any(_LINE in leaf for text in texts for leaf in _leaves(_read_json(text))):
        return "as JSON"
    return "as a `repr`" if any(repr(_LINE)[1:-1] in text for text in texts) else "no"


def _see_structured(answer: Answer, job: str) -> str:
    texts = [part.text for part in answer.parts if part.text is not None]
    if any(_has_job(part.data, job) for part in answer.parts):
        return "yes"
    if any(_has_job(_read_json(text), job) for text in texts):
        return "as JSON"
    if any(f"'generation_id': '{job}'" in text for text in texts):
        return "as a `repr`"
    return "the program alone" if any(_has_job(part.data, job) for part in answer.beside) else "no"


def _see_picture(answer: Answer) -> str:
    if any(part.picture is not None for part in answer.parts):
        return "yes"
    if any(_ENCODED_PICTURE.search(leaf) for leaf in _strings(answer.parts)):
        return "as base64 text"
    return "the program alone" if any(part.picture is not None for part in answer.beside) else "no"


def _see_error(answer: Answer) -> str:
    told = "\n".join(_strings(answer.parts))
    how = answer.error or "an ordinary result"
    if f"There is no argument '{UNKNOWN_ARGUMENT}'" in told and "Next:" in told:
        return f"whole, as {how}"
    return DROPPED if answer.error is None else f"in the host's own words, as {how}"


def _has_job(data: JsonValue, job: str) -> bool:
    if isinstance(data, dict):
        return data.get("generation_id") == job or any(_has_job(value, job) for value in data.values())
    return isinstance(data, list) and any(_has_job(value, job) for value in data)


def _read_json(text: str) -> JsonValue:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _strings(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        if part.text is not None:
            yield part.text
        if part.data is not None:
            # As a model reads data: with what it holds spelled out.
            yield json.dumps(part.data, ensure_ascii=False)
            yield from _leaves(part.data)


def _leaves(data: JsonValue) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    inner: Sequence[JsonValue] = (
        list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else ()
    )
    for value in inner:
        yield from _leaves(value)


def _excerpt(answer: Answer) -> str:
    return " ".join(" ".join(_strings(answer.parts)).split())[:300] or "nothing"
