"""The routes of dialogue edits (API §25.2): a change is heard as a tone, a removal is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import api_key, as_json, file_answer, json_body, require_key
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import OptionalText, sentences
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.transcriptions import check_rollout, find_stored
from sync_mcp.sandbox.dialogue import DialogueEditJob, Heard, JsonObject, Slot, to_transcript
from sync_mcp.sandbox.faults.script import EDIT_PATH, Fault
from sync_mcp.sandbox.media.measure import measure
from sync_mcp.sandbox.media.redub import make_preview
from sync_mcp.sandbox.media.storage import StorageRefusal
from sync_mcp.sandbox.world import World

_MS_A_LETTER = 60
"""How long a tone is at least, for what it stands for."""
_LONGEST_REPLACEMENT = 200
"""What is longer ends as EDIT_TOO_LONG."""
_LARGEST_REMOVAL_SHARE = 0.5
"""Of the source: how much may go at once."""


class _Change(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    kind: Literal["change"]
    word_id: str
    replacement: Annotated[str, Field(min_length=1)]
    pronunciation: OptionalText = None


class _Removal(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    kind: Literal["remove"]
    word_ids: Annotated[list[str], Field(min_length=1)]


_Edit = Annotated[_Change | _Removal, Field(discriminator="kind")]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    source_video_url: Annotated[str, Field(min_length=1)]
    transcript: JsonObject
    edits: Annotated[list[_Edit], Field(min_length=1, max_length=100)]
    start_ms: int | None = None
    end_ms: int | None = None
    voice_id: OptionalText = None
    rerun_of_job_id: OptionalText = None
    project_id: OptionalText = None


_ECHOED = ("sourceVideoUrl", "edits", "voiceId", "rerunOfJobId", "projectId")
_PREVIEWS = "/speech/edits/"


class DialogueEdits:
    """Makes previews of what a source would say."""

    def __init__(self, world: World, files: Files) -> None:
        self._world = world
        self._files = files

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(EDIT_PATH, require_key(self.create), methods=["POST"]),
            Route(f"{EDIT_PATH}/{{id}}", require_key(self.get), methods=["GET"]),
            Route(f"{_PREVIEWS}{{name}}", self.get_preview, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Accept an edit."""
        check_rollout(self._world)
        given = await json_body(request)
        try:
            body = _Body.model_validate(given)
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        if body.start_ms is not None or body.end_ms is not None:
            raise refusal("dialogue_edit_unsupported")
        if body.project_id not in (None, self._world.project_id):
            raise refusal("project_not_found", field="projectId")
        path = await find_stored(self._files, self._world.base_url, body.source_video_url, "sourceVideoUrl")
        heard = self._find_words(api_key(request), path, body.transcript)
        said = _apply(body.edits, heard, await self._length_of(path))
        job = await self._make(request, cast(Mapping[str, JsonValue], given), body, path, said)
        self._world.contents.dialogue_edits[job.id] = job
        return as_json(self._show(job), 201)

    async def get(self, request: Request) -> Response:
        """Show an edit."""
        job = self._world.contents.dialogue_edits.get(cast(str, request.path_params["id"]))
        if job is None or job.key != api_key(request):
            raise bare_refusal(404, "There is no such dialogue edit.")
        return as_json(self._show(job))

    async def get_preview(self, request: Request) -> Response:
        """Send what an edit sounds like."""
        path = request.url.path
        self._world.signer.check(path, request.url.query)
        job = self._world.contents.dialogue_edits.get(Path(path).stem)
        if job is None or not job.has_preview(self._world.clock.now()):
            raise StorageRefusal(404, "NoSuchKey", "There is no such file.")
        return file_answer(request, job.preview, "audio/wav", "preview.wav")

    def _show(self, job: DialogueEditJob) -> JsonObject:
        url = self._world.sign_url(f"{_PREVIEWS}{job.id}.wav")
        return job.to_json(self._world.clock.now(), url)

    def _find_words(self, key: str, path: Path, transcript: JsonObject) -> Sequence[Heard]:
        """Return the words of a source, where the transcript is that of it, letter for letter."""
        jobs = self._world.contents.transcriptions.values()
        same = [job for job in jobs if job.key == key and to_transcript(job.words) == transcript]
        found = next((job for job in same if job.path == path), None)
        if found is not None:
            if not found.is_whole:
                raise refusal("dialogue_edit_unsupported", field="transcript")
            return found.words
        if same:
            raise refusal("dialogue_edit_source_mismatch", field="sourceVideoUrl")
        raise bare_refusal(400, ["transcript must be one of yours, unchanged"])

    async def _length_of(self, path: Path) -> int:
        info = await self._world.in_worker(partial(measure, path))
        if not info.has_video:
            raise refusal("generation_input_video_invalid", field="sourceVideoUrl")
        return round(1000 * (info.duration_seconds or 0.0))

    async def _make(
        self, request: Request, given: Mapping[str, JsonValue], body: _Body, source: Path, said: "_Said"
    ) -> DialogueEditJob:
        world = self._world
        preview = world.storage.fresh("inputs", ".wav")
        await world.in_worker(partial(make_preview, source, preview, said.slots, said.length_ms))
        too_long = any(
            isinstance(edit, _Change) and len(edit.replacement) > _LONGEST_REPLACEMENT for edit in body.edits
        )
        fault: Fault | None = getattr(request.state, "fault", None)
        return DialogueEditJob(
            id=world.new_id("dialogue edit"),
            key=api_key(request),
            created_at=world.clock.now(),
            seconds=world.settings.job_seconds,
            asked={
                **{name: given[name] for name in _ECHOED if given.get(name) is not None},
                "sourceTranscript": body.transcript,
            },
            source=source,
            preview=preview,
            preview_ms=said.length_ms,
            words=said.words,
            slots=said.slots,
            fault="EDIT_TOO_LONG" if too_long else None,
            fate=fault if fault and fault.is_fate else None,
        )


@dataclass(frozen=True, slots=True)
class _Said:
    """What a source says once it is edited."""

    words: Sequence[Heard]
    slots: Sequence[Slot]
    length_ms: int


def _apply(edits: Sequence[_Edit], heard: Sequence[Heard], length_ms: int) -> _Said:
    """Return what is said once all edits are made.

    Raises:
        Refusal: 400 for edits that do not apply, 422 for a removal that is too large.
    """
    changed, removed = _read_edits(edits, [word.id for word in heard])
    words: list[Heard] = []
    slots: list[Slot] = []
    shift_ms = 0
    for number, word in enumerate(heard):
        text = changed.get(word.id)
        # What is cut goes with the gap behind it.
        end_ms = heard[number + 1].start_ms if number + 1 < len(heard) else word.end_ms
        start_ms = word.start_ms + shift_ms
        if word.id in removed:
            slots.append(Slot(word.start_ms, end_ms, start_ms, start_ms))
        elif text is not None:
            room_ms = max(word.end_ms - word.start_ms, _MS_A_LETTER * len(text))
            slots.append(Slot(word.start_ms, word.end_ms, start_ms, start_ms + room_ms))
            words.append(Heard(word.id, text, start_ms, start_ms + room_ms))
        else:
            words.append(replace(word, start_ms=start_ms, end_ms=word.end_ms + shift_ms))
        if slots and slots[-1].source_start_ms == word.start_ms:
            slot = slots[-1]
            shift_ms = slot.output_end_ms - slot.source_end_ms
    merged = _merge_removals(slots)
    for number, slot in enumerate(merged):
        if slot.is_removal and slot.source_ms > _LARGEST_REMOVAL_SHARE * length_ms:
            section = {
                "slotIndex": number,
                "sourceStartMs": slot.source_start_ms,
                "sourceDurationMs": slot.source_ms,
            }
            raise refusal("dialogue_edit_removal_too_large", more={"dialogueEditSection": section})
    return _Said(words, merged, length_ms + shift_ms)


def _read_edits(edits: Sequence[_Edit], ids: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """Return what each changed word becomes, and which words are removed.

    Raises:
        Refusal: 400 for edits that do not apply.
    """
    changed: dict[str, str] = {}
    removed: set[str] = set()
    for number, edit in enumerate(edits):
        touched = [edit.word_id] if isinstance(edit, _Change) else edit.word_ids
        unknown = [id for id in touched if id not in ids]
        if unknown:
            raise bare_refusal(400, [f"edits[{number}]: the transcript has no word {unknown[0]}"])
        if any(id in changed or id in removed for id in touched):
            raise bare_refusal(400, [f"edits[{number}] touches a word that another edit touches"])
        places = [ids.index(id) for id in touched]
        if places != list(range(places[0], places[0] + len(places))):
            raise bare_refusal(400, [f"edits[{number}].wordIds must be words in a row"])
        if isinstance(edit, _Change):
            changed[edit.word_id] = edit.replacement
        else:
            removed.update(touched)
    if len(removed) == len(ids):
        raise bare_refusal(400, ["edits must leave a word"])
    return changed, removed


def _merge_removals(slots: Sequence[Slot]) -> list[Slot]:
    """Return the slots with those that are removed in a row as one."""
    merged: list[Slot] = []
    for slot in slots:
        last = merged[-1] if merged else None
        if last and last.is_removal and slot.is_removal and last.source_end_ms == slot.source_start_ms:
            merged[-1] = replace(last, source_end_ms=slot.source_end_ms)
        else:
            merged.append(slot)
    return merged
