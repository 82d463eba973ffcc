"""Transcriptions and dialogue edits: what was asked, how far it is by the sandbox's clock, and how the API
shows it (API §25)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from pydantic import JsonValue

from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.faults.records import Charge
from sync_mcp.sandbox.faults.script import Fault

JsonObject = dict[str, JsonValue]

PREVIEW_USD = Decimal("0.05")
"""What a preview is charged here; what it costs on the API nobody publishes."""
_PENDING_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Heard:
    """A word that is heard, with its times in milliseconds of the source."""

    id: str
    text: str
    start_ms: int
    end_ms: int

    @property
    def ends_sentence(self) -> bool:
        """Whether a sentence ends with it."""
        return self.text.endswith((".", "!", "?"))

    def to_json(self) -> JsonObject:
        """Return it as the API shows it."""
        return {"id": self.id, "text": self.text, "startMs": self.start_ms, "endMs": self.end_ms}


def to_transcript(words: Sequence[Heard]) -> JsonObject:
    """Return a transcript as the API shows it: a segment for each sentence, of one speaker."""
    segments: list[JsonValue] = []
    sentence: list[JsonValue] = []
    for number, word in enumerate(words):
        sentence.append(word.to_json())
        if word.ends_sentence or number == len(words) - 1:
            segments.append({"id": f"s{len(segments) + 1}", "speaker": "1", "words": sentence})
            sentence = []
    return {"speakerCount": 1, "segments": segments}


@dataclass(slots=True)
class _Timed:
    """A job that ends after its time on the sandbox's clock."""

    id: str
    key: str
    """The API key that made it: no other one finds it."""
    created_at: datetime
    seconds: float

    def _status(self, now: datetime, ends: str) -> str:
        age = (now - self.created_at).total_seconds()
        if age < self.seconds * _PENDING_SHARE:
            return "PENDING"
        return ends if age >= self.seconds else "PROCESSING"


@dataclass(slots=True)
class TranscriptionJob(_Timed):
    """A transcription that was accepted."""

    source: JsonObject
    """The URL that it was asked by, under the name of its kind."""
    window: tuple[int, int | None]
    path: Path
    words: Sequence[Heard]
    fault: str | None
    """The code that it ends with, in place of a transcript."""

    @property
    def is_whole(self) -> bool:
        """Whether it is of the whole source."""
        return self.window == (0, None)

    def to_json(self, now: datetime) -> JsonObject:
        """Return it as the API shows it now."""
        status = self._status(now, "FAILED" if self.fault else "COMPLETED")
        shown: JsonObject = {
            "id": self.id,
            "status": status,
            "createdAt": timestamp(self.created_at),
            **self.source,
            "startMs": self.window[0],
            "endMs": self.window[1],
            "transcript": to_transcript(self.words) if status == "COMPLETED" else None,
            "error": None,
        }
        if status == "FAILED":
            shown["error"] = {"code": self.fault, "message": "There is nothing to transcribe."}
        return shown


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of the source that sounds another way now, in milliseconds: as a tone, or not at all."""

    source_start_ms: int
    source_end_ms: int
    output_start_ms: int
    output_end_ms: int

    @property
    def source_ms(self) -> int:
        """How long it is in the source."""
        return self.source_end_ms - self.source_start_ms

    @property
    def is_removal(self) -> bool:
        """Whether nothing is heard in its place."""
        return self.output_end_ms == self.output_start_ms

    def to_json(self) -> JsonObject:
        """Return it as the API shows it."""
        return {
            "outputStartMs": self.output_start_ms,
            "outputDurationMs": self.output_end_ms - self.output_start_ms,
            "sourceStartMs": self.source_start_ms,
            "sourceDurationMs": self.source_ms,
        }


@dataclass(slots=True)
class DialogueEditJob(_Timed):
    """A dialogue edit that was accepted."""

    asked: JsonObject
    """The fields of the request that it shows again."""
    source: Path
    preview: Path
    preview_ms: int
    words: Sequence[Heard]
    """As they are said now."""
    slots: Sequence[Slot]
    fault: str | None = None
    """The code that it ends with, in place of a preview."""
    fate: Fault | None = None

    @property
    def _ends(self) -> str:
        if self.fault is not None or (self.fate is not None and self.fate.job in ("fail", "reject")):
            return "FAILED"
        return (self.fate and self.fate.end_status) or "COMPLETED"

    def status(self, now: datetime) -> str:
        """Return how far it is."""
        if self.fate is not None and self.fate.job == "stuck":
            return "PENDING"
        return self._status(now, self._ends)

    def has_preview(self, now: datetime) -> bool:
        """Return whether its preview is there, whole or in part."""
        return self.status(now).startswith("COMPLETED")

    def charge(self, now: datetime) -> Charge:
        """Return what it costs, which is nothing once it has failed uncharged."""
        is_charged = self.fate is not None and self.fate.charged
        released = self.status(now) == "FAILED" and not is_charged
        return Charge(self.id, Decimal(0) if released else PREVIEW_USD, self.created_at, None, released)

    def to_json(self, now: datetime, preview_url: str) -> JsonObject:
        """Return it as the API shows it now."""
        status, done = self.status(now), self.has_preview(now)
        shown: JsonObject = {
            "id": self.id,
            "status": status,
            "createdAt": timestamp(self.created_at),
            **self.asked,
            "previewAudioUrl": preview_url if done else None,
            "previewDurationMs": self.preview_ms if done else None,
            "resultTranscript": to_transcript(self.words) if done else None,
            "resultSlots": [slot.to_json() for slot in self.slots] if done else None,
            "partialDetail": None,
            "error": None,
        }
        if status == "COMPLETED_PARTIAL":
            shown["partialDetail"] = {"message": "The last edit could not be spoken."}
        if status == "FAILED":
            code = self.fault or (self.fate and self.fate.error_code) or "VOICE_BLOCKED"
            told = self.fate and self.fate.error
            shown["error"] = {"code": code, "message": told or "The words could not be spoken."}
        return shown
