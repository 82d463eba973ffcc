"""The routes of generations (API §3)."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_mcp.sandbox.api import rules
from sync_mcp.sandbox.api.answers import (
    api_key,
    as_json,
    json_body,
    page_limit,
    page_start,
    plain,
    query_values,
    require_key,
)
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import CreateBody, is_uuid, read_create
from sync_mcp.sandbox.api.costs import to_costs
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.inputs import MediaInputs
from sync_mcp.sandbox.api.limits import Limits
from sync_mcp.sandbox.api.planning import check_limits, new_job, quote
from sync_mcp.sandbox.faults.oddities import cut, jobs_to_skip, rewrite
from sync_mcp.sandbox.faults.script import CREATE_PATH, Fault
from sync_mcp.sandbox.jobs import STATUSES, Job, JsonObject, to_wire
from sync_mcp.sandbox.world import World

_KEY = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_ECHOED = ("model", "input", "options", "segments", "webhookUrl", "projectId", "dubParams", "dialogueEdit")
_LONGEST_WAIT_SECONDS = 10


class Generations:
    """Creates jobs and shows them."""

    def __init__(self, world: World, inputs: MediaInputs, files: Files) -> None:
        self._world = world
        self._inputs = inputs
        self._files = files
        self._limits = Limits(world)

    def routes(self) -> list[Route]:
        """Return the routes, the more special paths first."""
        return [
            Route(CREATE_PATH, require_key(self.create), methods=["POST"]),
            Route("/v2/generate/{id}/costs", require_key(self.costs), methods=["GET"]),
            Route("/v2/generate/{id}", require_key(self.get), methods=["GET"]),
            Route("/v2/generations", require_key(self.index), methods=["GET"]),
            Route("/v2/generations/count", require_key(self.count), methods=["GET"]),
            Route("/v2/generations/{id}/download", require_key(self.download), methods=["GET"]),
            Route("/v2/generations/{id}", require_key(self.get), methods=["GET"]),
            Route("/v2/generations/{id}", require_key(self.delete), methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a job, or answer again what an idempotency key stands for."""
        self._limits.check_rate(api_key(request))
        key = _idempotency_key(request)
        body = await json_body(request)
        create = read_create(body, self._world.settings.models)
        wire = cast(Mapping[str, JsonValue], body)
        if key is None or self._world.settings.idempotency == "ignore":
            generation = await self._accept(request, create, wire, key)
            return as_json(generation, 201)
        # Of two copies that arrive at once, the second waits for the first and then finds its answer.
        async with self._world.contents.locks.setdefault(key, asyncio.Lock()):
            body_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            replayed = self._replay(key, body_hash)
            if replayed is not None:
                request.state.generation_id = replayed["id"]
                return as_json(replayed, self._world.settings.replay_status)
            generation = await self._accept(request, create, wire, key)
            self._world.remember(key, body_hash, generation)
            return as_json(generation, 201)

    async def get(self, request: Request) -> Response:
        """Show a job, at once or when it has ended (API §3.3)."""
        query = request.query_params
        waits = query.get("wait", "false").lower() in ("true", "1")
        progress = "progress" in query_values(request, "include")
        if waits and progress:
            raise bare_refusal(400, ["wait and include=progress do not go together"])
        timeout = _wait_seconds(query.get("timeout"))
        job = self._find(request)
        headers: dict[str, str] = {}
        if waits:
            await self._wait(job, timeout)
            job = self._find(request)
            headers = {
                "Retry-After": "2",
                "X-Sync-Wait-Mode": "long_poll",
                "X-Sync-Wait-Timeout-Seconds": f"{timeout:g}",
            }
        shown = self.wire(job)
        if progress:
            shown["progress_percent"] = job.progress_percent(self._world.clock.now())
        return JSONResponse(shown, headers=headers)

    async def index(self, request: Request) -> Response:
        """List jobs: newest first in pages, or all of them in no promised order (API §3.4)."""
        limit = page_limit(request)
        oddities = self._world.settings.list_oddities
        jobs = self._filter(request)
        left_out = self._ids_to_skip(jobs)
        is_newest_first = (limit is not None) != ("reverse" in oddities)
        if is_newest_first:
            jobs.reverse()
        rest = jobs[page_start(request, [job.id for job in jobs]) :]
        page = cut([job for job in rest if job.id not in left_out], limit, oddities)
        return as_json([rewrite(self.wire(job), job.created_at, oddities) for job in page])

    async def count(self, request: Request) -> Response:
        """Count jobs (API §3.6)."""
        return as_json({"count": len(self._filter(request))})

    async def delete(self, request: Request) -> Response:
        """Delete a job that has ended (API §3.7)."""
        job = self._find(request)
        if not job.has_ended(self._world.clock.now()):
            raise refusal("generation_not_deletable_while_processing")
        shown = self.wire(job)
        del self._world.contents.jobs[job.id]
        return as_json(shown)

    async def download(self, request: Request) -> Response:
        """Answer a fresh output URL as bare text (API §3.8)."""
        job = self._find(request)
        job.fail_without_sources(self._world.clock.now())
        if not job.has_output(self._world.clock.now()):
            raise refusal("generation_conflict", message="The generation has no output.")
        return plain(self._files.output_url(job))

    async def costs(self, request: Request) -> Response:
        """Show what a job cost (API §3.9), as far as that is told by now."""
        job = self._find(request)
        now = self._world.clock.now()
        shown = to_costs(job, now, self._world.settings)
        if not job.has_ended(now):
            shown["retryAfterSeconds"] = self._limits.seconds_left()
        return as_json(shown)

    def wire(self, job: Job) -> JsonObject:
        """Return a job as the API shows it now."""
        now = self._world.clock.now()
        job.fail_without_sources(now)
        done = job.has_output(now)
        return to_wire(
            job,
            now,
            self._world.settings,
            output_url=self._files.output_url(job) if done else None,
            speech_url=self._files.speech_url(job) if done and job.speech else None,
        )

    async def _accept(
        self, request: Request, create: CreateBody, wire: Mapping[str, JsonValue], key: str | None
    ) -> JsonObject:
        world = self._world
        settings = world.settings
        contents = world.contents
        rules.check(create, settings, contents.projects, contents.clone_names)
        made = await quote(create, self._inputs, settings)
        if world.contents is not contents:
            raise bare_refusal(503, "The sandbox was reset meanwhile.")
        check_limits(create, made, settings)
        self._limits.check_month(create)
        self._limits.check_concurrency()
        fault: Fault | None = getattr(request.state, "fault", None)
        fate = fault if fault and fault.is_fate else None
        job = new_job(world, echo(wire, create), made, world.key_name(api_key(request)), fate)
        job.idempotency_key = key
        job.source = request.headers.get("x-sync-source") or "api"
        # What the create answers, before the fate of the job can show.
        shown = to_wire(job, job.created_at, settings, output_url=None, speech_url=None)
        world.accept(job)
        request.state.generation_id = job.id
        return shown | {"status": "PENDING"}

    def _replay(self, key: str, body_hash: str) -> JsonObject | None:
        found = self._world.recall(key)
        if found is None:
            return None
        if self._world.settings.idempotency == "conflict":
            raise refusal("IDEMPOTENCY_CONFLICT")
        if found.body_hash != body_hash:
            raise refusal("IDEMPOTENCY_KEY_REUSED")
        return found.answer

    def _find(self, request: Request) -> Job:
        job_id = cast(str, request.path_params["id"])
        if not is_uuid(job_id):
            raise refusal("invalid_generation_id")
        job = self._world.contents.jobs.get(job_id.lower())
        if job is None or not job.is_found(self._world.clock.now(), self._world.settings):
            raise refusal("generation_not_found")
        return job

    def _ids_to_skip(self, jobs: list[Job]) -> set[str]:
        contents = self._world.contents
        if "skip" not in self._world.settings.list_oddities:
            return set()
        contents.skipping_readings += 1
        return {job.id for job in jobs_to_skip(jobs, contents.skipping_readings)}

    async def _wait(self, job: Job, timeout: float) -> None:
        world = self._world
        deadline = world.clock.now() + timedelta(seconds=timeout)
        while not world.pulse.stopping and job.id in world.contents.jobs:
            now = world.clock.now()
            if job.has_ended(now) or now >= deadline:
                return
            ends_at = min(deadline, job.ends_at or deadline)
            await world.pulse.wait((ends_at - now).total_seconds())

    def _filter(self, request: Request) -> list[Job]:
        statuses = query_values(request, "status")
        unknown = [status for status in statuses if status not in STATUSES]
        if unknown:
            raise bare_refusal(400, [f"status must be one of: {', '.join(STATUSES)}"])
        ids = query_values(request, "ids")
        sources = query_values(request, "source") + query_values(request, "generationSource")
        project = request.query_params.get("projectId")
        types = query_values(request, "type")
        now = self._world.clock.now()
        jobs = self._world.list_jobs()
        for job in jobs if statuses else ():
            job.fail_without_sources(now)
        return [
            job
            for job in jobs
            if job.is_listed(now, self._world.settings)
            and (not statuses or job.status(now) in statuses)
            and (not ids or job.id in ids)
            and (not sources or job.source in sources)
            # All that comes by a key is of this type, and of one user.
            and (not types or "api" in types)
            and (project is None or job.asked.get("projectId") == project)
        ]


def _idempotency_key(request: Request) -> str | None:
    lines = request.headers.getlist("idempotency-key")
    if not lines:
        return None
    if len(lines) > 1 or not _KEY.fullmatch(lines[0]):
        raise refusal("INVALID_IDEMPOTENCY_KEY")
    return lines[0]


def _wait_seconds(text: str | None) -> float:
    try:
        seconds = 5.0 if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= _LONGEST_WAIT_SECONDS:
        raise bare_refusal(400, [f"timeout must be from 1 to {_LONGEST_WAIT_SECONDS} seconds"])
    return seconds


def echo(wire: Mapping[str, JsonValue], create: CreateBody) -> JsonObject:
    """Return what a generation shows again of the request that made it."""
    shown: JsonObject = {name: wire[name] for name in _ECHOED if wire.get(name) is not None}
    shown.setdefault("options", {})
    shown.setdefault("segments", None)
    shown.setdefault("webhookUrl", None)
    shown["outputFileName"] = sanitize(create.output_file_name)
    return shown


def sanitize(file_name: str | None) -> str | None:
    """Return a file name as the API rewrites it: spaces to underscores, the rest stripped."""
    if file_name is None:
        return None
    return re.sub(r"[^A-Za-z0-9_-]", "", re.sub(r"\s", "_", file_name)) or None
