"""The routes of speech: spoken at once, or by a job that can be asked for (API §9)."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import api_key, as_json, json_body, require_key
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import sentences
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.inputs import MediaInputs
from sync_mcp.sandbox.api.limits import Limits, is_same_month
from sync_mcp.sandbox.api.rules import SCRIPT_LIMIT
from sync_mcp.sandbox.api.voices import is_voice
from sync_mcp.sandbox.faults.script import SPEECH_PATH, Fault
from sync_mcp.sandbox.settings import SPEECH_CHARACTER_PRICE
from sync_mcp.sandbox.speech import SpeechJob
from sync_mcp.sandbox.world import World

_KEY_LIMIT = 128
_MINUTE = timedelta(minutes=1)
_NOT_OFFERED = "Speech jobs are not enabled for this organization."

Share = Annotated[float, Field(ge=0, le=1)]


class _SpeechBody(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    script: Annotated[str, Field(min_length=1, max_length=SCRIPT_LIMIT)]
    voice_id: Annotated[str, Field(min_length=1)]
    provider: Literal["elevenlabs"]
    stability: Share | None = None
    similarity_boost: Share | None = None


class Speech:
    """Speaks scripts by the sample voice."""

    def __init__(self, world: World, inputs: MediaInputs, files: Files) -> None:
        self._world = world
        self._inputs = inputs
        self._files = files
        self._limits = Limits(world)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/tts", require_key(self.speak), methods=["POST"]),
            Route(SPEECH_PATH, require_key(self.create), methods=["POST"]),
            Route(f"{SPEECH_PATH}/{{id}}", require_key(self.get), methods=["GET"]),
        ]

    async def speak(self, request: Request) -> Response:
        """Speak a script at once; it cannot be asked for again (API §9.1)."""
        self._check_rate("tts", request)
        body = await _read(request)
        job = await self._accept(request, body, key=None, is_durable=False)
        url = self._files.speech_url(job)
        return as_json({"id": job.id, "url": url, "duration": job.duration_seconds})

    async def create(self, request: Request) -> Response:
        """Accept a job, or show the one that an idempotency key stands for as it is now (API §9.2)."""
        if not self._world.settings.speech_jobs:
            raise bare_refusal(503, _NOT_OFFERED)
        self._check_rate("tts jobs", request)
        key = _idempotency_key(request)
        body = await _read(request)
        if key is None or self._world.settings.idempotency == "ignore":
            return self._answer_with(await self._accept(request, body, key=key, is_durable=True))
        place = f"speech {key}"
        async with self._world.contents.locks.setdefault(place, asyncio.Lock()):
            sent = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
            found = self._world.recall(place)
            if found is not None and self._world.settings.idempotency == "conflict":
                raise refusal("IDEMPOTENCY_CONFLICT")
            if found is not None and found.body_hash != sent:
                raise refusal("IDEMPOTENCY_KEY_REUSED")
            if found is not None:
                return self._answer_with(self._world.contents.speeches[str(found.answer["id"])])
            job = await self._accept(request, body, key=key, is_durable=True)
            self._world.remember(place, sent, {"id": job.id})
            return self._answer_with(job)

    async def get(self, request: Request) -> Response:
        """Show a job (API §9.3)."""
        job = self._world.contents.speeches.get(cast(str, request.path_params["id"]))
        now = self._world.clock.now()
        if job is None or not job.is_found(now):
            raise bare_refusal(404, "There is no such speech job.")
        return JSONResponse(self._wire(job), headers={} if job.has_ended(now) else {"Retry-After": "3"})

    def _answer_with(self, job: SpeechJob) -> Response:
        return JSONResponse(self._wire(job), 202, headers={"Location": f"{SPEECH_PATH}/{job.id}"})

    def _wire(self, job: SpeechJob) -> dict[str, JsonValue]:
        return job.to_wire(self._world.clock.now(), self._files.speech_url(job))

    def _check_rate(self, what: str, request: Request) -> None:
        limit = self._world.settings.speech_per_minute
        self._limits.check_rate_of(f"{what} {api_key(request)}", limit, _MINUTE)

    def _check_month(self) -> None:
        allowed, now = self._world.settings.limits.speeches_per_month, self._world.clock.now()
        made = self._world.contents.speeches.values()
        if allowed is not None and sum(is_same_month(job.created_at, now) for job in made) >= allowed:
            raise refusal("elevenlabs_quota_exceeded")

    async def _accept(
        self, request: Request, body: _SpeechBody, *, key: str | None, is_durable: bool
    ) -> SpeechJob:
        world, contents = self._world, self._world.contents
        if not is_voice(body.voice_id, contents.clone_names):
            raise refusal("voice_not_found", field="voiceId")
        self._check_month()
        spoken = await self._inputs.speech(body.script)
        if world.contents is not contents:
            raise bare_refusal(503, "The sandbox was reset meanwhile.")
        fault: Fault | None = getattr(request.state, "fault", None)
        job = SpeechJob(
            id=world.new_id("speech"),
            created_at=world.clock.now(),
            seconds=world.settings.job_seconds if is_durable else 0.0,
            script=body.script,
            path=spoken.path,
            duration_seconds=spoken.info.duration_seconds or 0.0,
            cost_usd=len(body.script) * SPEECH_CHARACTER_PRICE,
            idempotency_key=key,
            is_durable=is_durable,
            fate=fault if fault and fault.is_fate else None,
        )
        contents.speeches[job.id] = job
        request.state.generation_id = job.id
        return job


async def _read(request: Request) -> _SpeechBody:
    try:
        return _SpeechBody.model_validate(await json_body(request))
    except ValidationError as error:
        raise bare_refusal(400, sentences(error)) from error


def _idempotency_key(request: Request) -> str | None:
    lines = request.headers.getlist("idempotency-key")
    if not lines:
        return None
    key = lines[0].strip()
    if len(lines) > 1 or not 1 <= len(key) <= _KEY_LIMIT:
        raise refusal("INVALID_IDEMPOTENCY_KEY")
    return key
