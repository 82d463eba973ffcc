"""Transcriptions: the words of a video or a recording, each with its time (API §25.1). They cost nothing."""

import copy
from collections.abc import Mapping
from typing import Literal, cast

from pydantic import (
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_serializer,
    model_validator,
)

from sync_mcp.api import subtitles
from sync_mcp.api.allowance import Allowance
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.models import CamelModel, Figure, Json, Moment
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.polling import PolledJob, look_every, wait_for_end
from sync_mcp.api.subtitles import Spoken, make_cues
from sync_mcp.errors import APIResponseError, InvalidRequestError

TranscriptionStatus = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED"] | str
LONGEST_WINDOW_MS = 60 * 60 * 1000
"""The longest part of a source that one transcription takes."""
_PATH = "/v2/transcriptions"
_FIRST_LOOK_SECONDS = 1.0
_LOOK_SECONDS = 3.0


class Word(CamelModel):
    """A word as it is heard; its times are milliseconds from the beginning of the source."""

    id: str
    text: str = ""
    start_ms: Figure = 0
    end_ms: Figure = 0


class TranscriptSegment(CamelModel):
    """What one speaker says without a break."""

    id: str | None = None
    speaker: JsonValue = None
    """Who speaks, as the API tells it."""
    words: list[Word] = Field(default_factory=list[Word])

    @property
    def text(self) -> str:
        """What is said, on one line."""
        return " ".join(text for word in self.words if (text := " ".join(word.text.split())))


class Transcript(CamelModel):
    """What is said in a source, and when; what the API answered is sent back to it letter for letter."""

    speaker_count: int | None = None
    difficulty: JsonValue = None
    """How hard it was to hear, where the API tells that."""
    segments: list[TranscriptSegment] = Field(default_factory=list[TranscriptSegment])
    _answered: Json | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_came(cls, data: object, handler: ModelWrapValidatorHandler["Transcript"]) -> "Transcript":
        made = handler(data)
        if isinstance(data, Mapping):
            made._answered = copy.deepcopy(dict(cast(Mapping[str, object], data)))
        return made

    @model_serializer(mode="plain")
    def _as_it_came(self) -> Json:
        if self._answered is not None:
            return copy.deepcopy(self._answered)
        shown = {"speakerCount": self.speaker_count, "difficulty": self.difficulty}
        segments = [segment.to_wire() for segment in self.segments]
        return {name: value for name, value in shown.items() if value is not None} | {"segments": segments}

    @property
    def words(self) -> list[Word]:
        """All words, in the order in which they stand."""
        return [word for segment in self.segments for word in segment.words]

    def to_srt(self) -> str:
        """Return it as subtitles in SubRip form: two lines of 42 characters at most, one cue at a time."""
        return subtitles.to_srt(self._cues())

    def to_vtt(self) -> str:
        """Return it as subtitles in WebVTT form, cut as `to_srt` cuts them."""
        return subtitles.to_vtt(self._cues())

    def to_text(self) -> str:
        """Return what is said, a line for each segment; of several speakers each line says who."""
        speakers = {str(segment.speaker) for segment in self.segments}
        lines = [
            f"{_name_speaker(segment.speaker)}: {segment.text}" if len(speakers) > 1 else segment.text
            for segment in self.segments
            if segment.text
        ]
        return "".join(f"{line}\n" for line in lines)

    def _cues(self) -> list[subtitles.Cue]:
        return make_cues(
            [Spoken(word.text, round(word.start_ms), round(word.end_ms)) for word in segment.words]
            for segment in self.segments
        )


class Transcription(PolledJob):
    """A transcription: how far it is, and what came of it."""

    status: TranscriptionStatus
    created_at: Moment | None = None
    source_video_url: str | None = None
    source_audio_url: str | None = None
    transcript: Transcript | None = None
    error: JsonValue = None
    """Why it failed: a code, or an object that has one."""

    @property
    def error_code(self) -> str | None:
        """Why it has no transcript: NO_AUDIO, NO_AUDIO_TRACK, SOURCE_TOO_LONG."""
        return code_in(self.error)


class Transcriptions:
    """The transcriptions of an account; reached as `AsyncSync.transcriptions`."""

    def __init__(self, transport: Transport, allowance: Allowance) -> None:
        self._transport = transport
        self._allowance = allowance

    async def create(
        self,
        *,
        source_video_url: str | None = None,
        source_audio_url: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        max_source_seconds: float | None = None,
        project_id: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> Transcription:
        """Start a transcription, free, or return the one that there is of this source and window.

        Args:
            source_video_url: the URL of an asset, in the API's own storage; this or `source_audio_url`.
            source_audio_url: the same of a recording.
            start_ms: where the window begins, in milliseconds of the source; by default at its beginning.
            end_ms: where it ends; by default with the source. It is 60 minutes long at most.
            max_source_seconds: refuse a source that is longer.
            project_id: where it is filed.
            request_options: of this call.

        Raises:
            InvalidRequestError: not exactly one source, or a window that ends before it begins or is longer.
            RequestRejectedError: the API does not take the source.
        """
        if (source_video_url is None) == (source_audio_url is None):
            raise InvalidRequestError("Give source_video_url or source_audio_url, and not both.")
        begins = start_ms or 0
        if begins < 0 or (end_ms is not None and end_ms <= begins):
            raise InvalidRequestError("The window must end after it begins: end_ms after start_ms.")
        if end_ms is not None and end_ms - begins > LONGEST_WINDOW_MS:
            raise InvalidRequestError("The window may last 60 minutes: transcribe a long source in parts.")
        given = {
            "sourceVideoUrl": source_video_url,
            "sourceAudioUrl": source_audio_url,
            "startMs": start_ms,
            "endMs": end_ms,
            "maxSourceSeconds": max_source_seconds,
            "projectId": project_id,
        }
        body = {name: value for name, value in given.items() if value is not None}
        # The same source and window is the same job: to send it again makes nothing new.
        reply = await self._transport.read(Call("POST", _PATH, body=body), request_options)
        return reply.read_as(Transcription, "transcription")

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Transcription:
        """Return the present state of a transcription.

        Raises:
            NotFoundError: this key has none by this id.
        """
        call = Call("GET", f"{_PATH}/{check_id(id, 'A transcription')}")
        job = (await self._transport.read(call, request_options)).read_as(Transcription, "transcription")
        if job.id != id:
            raise APIResponseError("The API was asked for one transcription and shows another.")
        return job

    async def wait(self, id: str, timeout: float, *, known: Transcription | None = None) -> Transcription:
        """Return a transcription when it has ended, or its latest state after `timeout` seconds.

        `known` is a state that the caller has already. Faults that may pass are waited out.

        Raises:
            SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
        """
        return await wait_for_end(
            look_every(_LOOK_SECONDS, lambda options: self.get(id, request_options=options)),
            self._allowance,
            timeout,
            known=known,
            first_pause=_FIRST_LOOK_SECONDS,
            pause_after_fault=_LOOK_SECONDS,
        )


def code_in(error: JsonValue) -> str | None:
    """Return the code of a job's failure, which the API tells bare or in an object."""
    if isinstance(error, Mapping):
        code = error.get("code")
        return code if isinstance(code, str) and code else None
    return error if isinstance(error, str) and error else None


def _name_speaker(speaker: JsonValue) -> str:
    if isinstance(speaker, Mapping):
        speaker = speaker.get("name") or speaker.get("id")
    return "Speaker" if speaker is None else f"Speaker {speaker}" if _is_number(speaker) else str(speaker)


def _is_number(speaker: JsonValue) -> bool:
    return isinstance(speaker, int | float) or (isinstance(speaker, str) and speaker.isdigit())
