"""What an assistant intends, how it spells its calls, and what it makes of the answers."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from tests.torture.client import Frame


@dataclass
class Intent:
    """One thing to be made, and what was told about it."""

    number: int
    """It stands in the URL of the video: what tells it from all others, at the API too."""
    take: int
    at_once: bool
    """Two processes make the first call at the same moment."""
    given_up: bool
    """The client cancels the first call."""
    asked_again: bool
    """Made, it is called once more: the same job must be the answer."""
    is_local: bool
    """Its voice is a file on this machine, which is uploaded first."""
    has_webhook: bool = False
    """A host is told of its end: the user has to be asked, whatever the price."""
    made: list[str] = field(default_factory=list[str])
    """The ids that were told, oldest first."""
    refused: bool = False
    quote_id: str | None = None
    """What the user can agree by, once they were asked."""
    answers: list[str] = field(default_factory=list[str])
    """The codes of all answers, oldest first."""

    @property
    def is_settled(self) -> bool:
        return bool(self.made) or self.refused


def intents(count: int, first: int, random: Random) -> list[Intent]:
    """Return intents, some of them another take of the one before."""
    made: list[Intent] = []
    while len(made) < count:
        # Of one with a webhook there is no take that the user need not be asked about.
        again = made and made[-1].take == 1 and not made[-1].has_webhook and random.random() < 0.05
        made.append(
            Intent(
                number=made[-1].number if again else first + len(made),
                take=2 if again else 1,
                at_once=random.random() < 0.15,
                given_up=random.random() < 0.08,
                asked_again=random.random() < 0.1,
                is_local=made[-1].is_local if again else random.random() < 0.1,
                has_webhook=not again and random.random() < 0.02,
            )
        )
    return made


def plain_intent(number: int, *, has_webhook: bool = False) -> Intent:
    """Return an intent that is simply called."""
    return Intent(number, 1, False, False, False, False, has_webhook)


def arguments_of(intent: Intent, video: str, audio: str, local_audio: Path, random: Random) -> Frame:
    """Return the arguments of a call, spelled in one of the ways that all mean the same."""
    signature = (
        f"&X-Amz-Credential=k&X-Amz-Date=1&X-Amz-Expires=600&X-Amz-Signature={random.randrange(10**9)}"
        if random.random() < 0.1
        else ""
    )
    items: list[Frame] = [
        {"type": "video", "url": f"{video}?n={intent.number}{signature}"},
        {"type": "audio", "path": str(local_audio)} if intent.is_local else {"type": "audio", "url": audio},
    ]
    if random.random() < 0.2:
        items.reverse()
    arguments: Frame = {"model": "lipsync-2", "input": items}
    if intent.take > 1 or random.random() < 0.1:
        arguments["take"] = intent.take
    spelling = random.random()
    if spelling < 0.1:
        arguments["options"] = {"sync_mode": "bounce"}
    elif spelling < 0.2:
        arguments["options"] = {"temperature": 0.5, "syncMode": "bounce"}
    elif spelling < 0.3:
        arguments["input"] = json.dumps(items)
    if random.random() < 0.2:
        arguments["output_file_name"] = f"clip-{random.randrange(3)}"
    if random.random() < 0.2:
        arguments["wait_seconds"] = 2
    if intent.has_webhook:
        arguments["webhook_url"] = "https://hooks.example.com/done"
    names = list(arguments)
    random.shuffle(names)
    return {name: arguments[name] for name in names}


def number_in(body: object) -> int | None:
    """Return the number of the intent that the body of a create belongs to."""
    found = re.search(r"\?n=(\d+)", json.dumps(body))
    return int(found[1]) if found else None


def number_of(job: Frame) -> int:
    """Return the number of the intent that a job of the API belongs to."""
    urls = [str(item["url"]) for item in cast(list[Frame], job["input"]) if "?n=" in str(item.get("url"))]
    return int(urls[0].partition("?n=")[2].partition("&")[0])


_FAULTS = ("internal_error", "invalid_request", "not_found")
_LEDGER_FAULT = "ledger_"
_PROTOCOL_ERROR = "protocol error"


@dataclass(frozen=True)
class Heard:
    """An answer: a job, a refusal that counts, or a word to call again."""

    kind: Literal["made", "refused", "again"]
    code: str
    generation_id: str | None = None
    text: str = ""
    quote_id: str | None = None

    @property
    def is_fault(self) -> bool:
        """Whether no weather explains it."""
        return self.code in _FAULTS or self.code.startswith((_LEDGER_FAULT, _PROTOCOL_ERROR))


def heard(result: Frame) -> Heard:
    """Return what an answer of create_generation means."""
    facts: dict[str, Any] = result.get("structuredContent") or {}
    if "generation_id" in facts:
        return Heard("made", "reused" if facts.get("reused") else "made", str(facts["generation_id"]))
    text = " ".join(str(block.get("text")) for block in result.get("content", []))
    code = str(result.get("_meta", {}).get("code") or f"{_PROTOCOL_ERROR} {result.get('error')}")
    if code == "generation_not_visible":
        # It is made, and told by its id.
        named = re.search(r"Generation ([0-9a-f-]{36})", text)
        return Heard("made", code, named[1], text) if named else Heard("again", code, text=text)
    if code == "approval_required":
        quote = re.search(r'quote_id "([^"]+)"', text)
        return Heard("refused", code, text=text, quote_id=quote[1] if quote else None)
    # A price that could not be asked for is nobody's limit.
    if code == "limit_reached" and "unknown" not in text:
        return Heard("refused", code, text=text)
    return Heard("again", code, text=text)
