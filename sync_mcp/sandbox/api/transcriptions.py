"""The routes of transcriptions (API §25.1): what is heard is the script that a source was made from, else the
words of one passage at even times."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.api.answers import api_key, as_json, json_body, require_key
from sync_mcp.sandbox.api.catalogue import Refusal, bare_refusal, refusal
from sync_mcp.sandbox.api.contract import OptionalText, sentences
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.inputs import ALIASES, CHARACTERS_PER_SECOND
from sync_mcp.sandbox.dialogue import Heard, TranscriptionJob
from sync_mcp.sandbox.jobs import Job
from sync_mcp.sandbox.media.measure import Measurement, measure
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.sandbox.world import World

PASSAGE = "Welcome to the shop. We open on Tuesday at nine, and close at six. Come and see what is new."
"""What is heard in a source that was not made here from a script."""
_WORD_SECONDS = 0.35
_LONGEST_WINDOW_MS = 3_600_000
_SPOKEN_SHARE = 0.85
"""How much of its room a word takes; the rest is the gap behind it."""


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    source_video_url: OptionalText = None
    source_audio_url: OptionalText = None
    start_ms: Annotated[int, Field(ge=0)] | None = None
    end_ms: Annotated[int, Field(gt=0)] | None = None
    max_source_seconds: Annotated[float, Field(gt=0)] | None = None
    project_id: OptionalText = None


class Transcriptions:
    """Transcribes sources of the sandbox's own storage."""

    def __init__(self, world: World, files: Files) -> None:
        self._world = world
        self._files = files

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/transcriptions", require_key(self.create), methods=["POST"]),
            Route("/v2/transcriptions/{id}", require_key(self.get), methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a transcription, or answer with the one that there is of the same source and window."""
        check_rollout(self._world)
        try:
            body = _Body.model_validate(await json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        if (body.source_video_url is None) == (body.source_audio_url is None):
            raise bare_refusal(400, ["exactly one of sourceVideoUrl and sourceAudioUrl is needed"])
        start = body.start_ms or 0
        if body.end_ms is not None and not start < body.end_ms <= start + _LONGEST_WINDOW_MS:
            raise bare_refusal(400, ["endMs must be after startMs, by 60 minutes at most"])
        if body.project_id not in (None, self._world.project_id):
            raise refusal("project_not_found", field="projectId")
        name = "sourceVideoUrl" if body.source_video_url else "sourceAudioUrl"
        url = body.source_video_url or body.source_audio_url or ""
        path = await find_stored(self._files, self._world.base_url, url, name)
        window = (start, body.end_ms)
        known = self._find_known(api_key(request), path, window)
        job = known or await self._transcribe(request, path, {name: url}, window, body.max_source_seconds)
        return as_json(job.to_json(self._world.clock.now()), 201)

    async def get(self, request: Request) -> Response:
        """Show a transcription."""
        job = self._world.contents.transcriptions.get(cast(str, request.path_params["id"]))
        if job is None or job.key != api_key(request):
            raise bare_refusal(404, "There is no such transcription.")
        return as_json(job.to_json(self._world.clock.now()))

    def _find_known(self, key: str, path: Path, window: tuple[int, int | None]) -> TranscriptionJob | None:
        jobs = self._world.contents.transcriptions.values()
        return next(
            (job for job in jobs if (job.key, job.path, job.window, job.fault) == (key, path, window, None)),
            None,
        )

    async def _transcribe(
        self,
        request: Request,
        path: Path,
        source: dict[str, JsonValue],
        window: tuple[int, int | None],
        most_seconds: float | None,
    ) -> TranscriptionJob:
        world = self._world
        kind = "video" if "sourceVideoUrl" in source else "audio"
        try:
            info = await world.in_worker(partial(measure, path))
        except MediaError as error:
            raise refusal(f"generation_input_{kind}_invalid", message=str(error)) from error
        seconds = info.duration_seconds or 0.0
        script = await world.in_worker(partial(self._script_of, path))
        words = [] if _fault_of(info, None) else _words_in(script, seconds)
        start, end = window
        job = TranscriptionJob(
            id=world.new_id("transcription"),
            key=api_key(request),
            created_at=world.clock.now(),
            seconds=world.settings.job_seconds,
            source=source,
            window=window,
            path=path,
            words=[word for word in words if word.end_ms > start and (end is None or word.start_ms < end)],
            fault=_fault_of(info, most_seconds),
        )
        world.contents.transcriptions[job.id] = job
        return job

    def _script_of(self, path: Path) -> str | None:
        """Return what is said in a file that a job here has made, where that came from a script."""
        jobs = list(self._world.contents.jobs.values())
        job = next((job for job in jobs if _is_same_file(job.render_path, path)), None)
        return None if job is None else self._script_in(job)

    def _script_in(self, job: Job) -> str | None:
        edit = job.asked.get("dialogueEdit")
        if isinstance(edit, dict):
            made = self._world.contents.dialogue_edits.get(str(edit.get("id")))
            return None if made is None else " ".join(word.text for word in made.words)
        items = cast(list[dict[str, JsonValue]], job.asked["input"])
        providers = [item["provider"] for item in items if item["type"] == "text"]
        scripts = [str(cast(dict[str, JsonValue], provider)["script"]) for provider in providers]
        return " ".join(scripts) or None


def check_rollout(world: World) -> None:
    """Refuse what only organizations of a rollout have.

    Raises:
        Refusal: 422 outside of it, 503 where nobody can tell.
    """
    if world.settings.dialogue_rollout == "off":
        raise refusal("dialogue_edit_retime_required")
    if world.settings.dialogue_rollout == "unknown":
        raise refusal("generation_infra_service_unavailable")


async def find_stored(files: Files, base_url: str, url: str, field: str) -> Path:
    """Return the file behind the URL of a source, which must lie in the sandbox's own storage.

    Raises:
        Refusal: 422, it lies elsewhere.
    """
    if url in ALIASES:
        return sample(ALIASES[url])
    own, parts = urlsplit(base_url), urlsplit(url)
    found = None
    if (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
        found = await files.find(unquote(parts.path), parts.query)
    if found is None:
        raise _not_stored(field)
    return found


def _not_stored(field: str) -> Refusal:
    return refusal(
        "file_not_in_org_storage",
        suggestion="Upload the file, register it, and give the URL of the asset.",
        field=field,
    )


def _fault_of(info: Measurement, most_seconds: float | None) -> str | None:
    if not info.has_audio:
        return "NO_AUDIO_TRACK"
    if not info.is_heard:
        return "NO_AUDIO"
    is_longer = most_seconds is not None and (info.duration_seconds or 0.0) > most_seconds
    return "SOURCE_TOO_LONG" if is_longer else None


def _words_in(script: str | None, seconds: float) -> list[Heard]:
    """Return the words of a source so long: of its script by their lengths, else of the passage."""
    if script is None:
        passage = PASSAGE.split()
        count = max(1, int(seconds / _WORD_SECONDS))
        return _spread([passage[n % len(passage)] for n in range(count)], [1] * count, seconds)
    texts = script.split()
    said = min(seconds, max(1.0, len(script) / CHARACTERS_PER_SECOND))
    return _spread(texts, [len(text) + 1 for text in texts], said)


def _spread(texts: Sequence[str], weights: Sequence[int], seconds: float) -> list[Heard]:
    words: list[Heard] = []
    total, before = sum(weights), 0
    for number, (text, weight) in enumerate(zip(texts, weights, strict=True), 1):
        start, room = 1000 * seconds * before / total, 1000 * seconds * weight / total
        before += weight
        words.append(Heard(f"w{number}", text, int(start), int(start + room * _SPOKEN_SHARE)))
    return words


def _is_same_file(one: Path, other: Path) -> bool:
    """Return whether two files are one, or hold the same."""
    if one == other:
        return True
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return one.read_bytes() == other.read_bytes()
