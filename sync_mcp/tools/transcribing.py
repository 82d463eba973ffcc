"""The run of transcribe: the words of a source, as many as a host shows whole, and all of them as a file."""

import math
from collections.abc import Sequence

from pydantic import JsonValue

from sync_mcp.api.models import RUNNING_STATUSES
from sync_mcp.api.transcriptions import Transcript, Transcription, TranscriptSegment, Word
from sync_mcp.texts import ID_LIMIT, WORD_LIMIT, plain_id, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.dialogue import SpokenRow, TranscribeAnswer, TranscribeArguments
from sync_mcp.tools.dialogue_sources import (
    TEXT_ENDINGS,
    check_ending,
    find_source,
    find_transcription,
    save_transcript,
    tell_saved,
)
from sync_mcp.tools.job_answers import STRANGE

_ROWS_CHARACTERS = 6_000
_ROW_WORDS = 40
_WHY = {
    "NO_AUDIO": "It has no sound that could be heard: tell the user.",
    "NO_AUDIO_TRACK": "It has no sound at all: tell the user, and ask for a file with speech.",
    "SOURCE_TOO_LONG": "It is too long: ask the user for a part of it.",
}


async def transcribe(context: CallContext, arguments: TranscribeArguments) -> TranscribeAnswer:
    check_ending(arguments.save_as, *TEXT_ENDINGS)
    asset = (await find_source(context, arguments)).asset
    job = await find_transcription(context, asset, arguments.wait_seconds)
    answer = TranscribeAnswer(
        transcription_id=safe(job.id, ID_LIMIT),
        status=safe(job.status, WORD_LIMIT),
        asset_id=safe(asset.id, ID_LIMIT),
        next_step="",
    )
    if job.transcript is None:
        return _without_words(answer, job)
    transcript = job.transcript
    rows, goes_on_at = _rows(transcript, arguments.from_seconds)
    answer.spoken = rows
    answer.speakers = transcript.speaker_count
    answer.seconds = _seconds(max((word.end_ms for word in transcript.words), default=0))
    saved = (
        None if arguments.save_as is None else await save_transcript(context, transcript, arguments.save_as)
    )
    answer.saved_as = tell_saved(saved)
    steps: list[str] = []
    if goes_on_at is not None:
        steps.append(f"For the words after these, call transcribe again with from_seconds {goes_on_at:g}.")
    if not transcript.to_text():
        steps.append("Nothing is said in it: tell the user.")
    elif asset.type == "VIDEO":
        steps.append("To change what it says: edit_dialogue with this asset_id.")
    if saved is None:
        steps.append("save_as saves it as .srt, .vtt or .txt.")
    else:
        steps.append("Tell the user the path.")
    answer.next_step = " ".join(steps)
    return answer


def _without_words(answer: TranscribeAnswer, job: Transcription) -> TranscribeAnswer:
    if job.status in RUNNING_STATUSES:
        answer.next_step = "Not finished: make exactly this call again, it goes on with the same one."
    elif not job.finished:
        answer.next_step = f"{STRANGE}: exactly this call does."
    else:
        answer.api_code = safe(job.error_code, WORD_LIMIT) if job.error_code else None
        answer.next_step = _WHY.get(job.error_code or "", "It cannot be transcribed: tell the user.")
    return answer


def _rows(transcript: Transcript, from_seconds: float) -> tuple[list[SpokenRow], float | None]:
    """Return what is said from a time on, as much as fits, and when the rest begins."""
    parts: list[tuple[TranscriptSegment, Sequence[Word]]] = []
    for segment in transcript.segments:
        words = [word for word in segment.words if word.end_ms >= 1000 * from_seconds and word.text.strip()]
        parts += [(segment, words[at : at + _ROW_WORDS]) for at in range(0, len(words), _ROW_WORDS)]
    # Speakers may speak at once: what is left out must not begin before what is shown.
    parts.sort(key=lambda part: part[1][0].start_ms)
    rows: list[SpokenRow] = []
    room = _ROWS_CHARACTERS
    for segment, words in parts:
        row = _row(segment, words)
        length = len(row.model_dump_json(exclude_none=True))
        if rows and length > room:
            return rows, math.floor(words[0].start_ms / 10) / 100
        room -= length
        rows.append(row)
    return rows, None


def _row(segment: TranscriptSegment, words: Sequence[Word]) -> SpokenRow:
    told = " ".join(f"{plain_id(word.id) or '?'}:{safe(word.text, WORD_LIMIT)}" for word in words)
    speaker: JsonValue = segment.speaker
    is_plain = isinstance(speaker, str | int) and not isinstance(speaker, bool)
    return SpokenRow(
        at_seconds=_seconds(words[0].start_ms),
        speaker=safe(str(speaker), WORD_LIMIT) if is_plain else None,
        words=told,
    )


def _seconds(milliseconds: float) -> float:
    return round(milliseconds / 1000, 2)
