"""The routes of batches: many generations in one request, each row for itself (API §5)."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

from pydantic import JsonValue
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sync_mcp.sandbox.api import rules
from sync_mcp.sandbox.api.answers import api_key, as_json, json_body, query_moment, query_values, require_key
from sync_mcp.sandbox.api.catalogue import Refusal, bare_refusal, refusal
from sync_mcp.sandbox.api.contract import CreateBody, read_create
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.generations import echo
from sync_mcp.sandbox.api.inputs import MediaInputs
from sync_mcp.sandbox.api.planning import check_limits, new_job, quote
from sync_mcp.sandbox.batch import Batch, Row, result_line
from sync_mcp.sandbox.faults.script import BATCH_PATH, CREATE_PATH, Fault
from sync_mcp.sandbox.jobs import JsonObject
from sync_mcp.sandbox.media.storage import StorageRefusal
from sync_mcp.sandbox.world import World

FEWEST_ROWS, MOST_ROWS = 20, 500
LARGEST_BYTES = 5 * 1024**2
LONGEST_INPUT_SECONDS = 30.0
_STATUSES = ("PENDING", "JOBS_CREATED", "PROCESSING", "COMPLETED", "FAILED")
_ROW_FIELDS = ("request_id", "endpoint", "payload")
_ONE_VIDEO = "The dialogue edits of a batch are all of one video."
_TOO_MANY = "Batch concurrency limit reached: wait until a batch has ended."
_Checked = tuple[str, CreateBody, Mapping[str, JsonValue]]
"""The id of a row, what it asks for, and the same as it came."""


class Batches:
    """Takes batches, shows them, and gives their results."""

    def __init__(self, world: World, inputs: MediaInputs, files: Files) -> None:
        self._world = world
        self._inputs = inputs
        self._files = files

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(BATCH_PATH, require_key(self.create), methods=["POST"]),
            Route(BATCH_PATH, require_key(self.index), methods=["GET"]),
            Route(f"{BATCH_PATH}/{{id}}", require_key(self.get), methods=["GET"]),
            Route("/v2/batches/{id}/result", require_key(self.result), methods=["GET"]),
            Route("/batch-results/{name}", self.get_result, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a batch in either form, or only look at its rows (API §5.0, §5.1)."""
        rows, webhook_url, is_dry_run = await _read(request)
        if not self._world.settings.limits.has_batches:
            raise refusal("plan_feature_unavailable", message="This plan has no batches.")
        checked = _check(rows, self._world.settings.models)
        if is_dry_run:
            return as_json({"status": "VALIDATED"})
        self._check_concurrency()
        batch = await self._accept(request, checked, webhook_url)
        return as_json(self._wire(batch, batch.created_at) | {"status": "PENDING"}, 201)

    async def index(self, request: Request) -> Response:
        """List batches, the newest first (API §5.3)."""
        statuses = query_values(request, "status")
        if set(statuses) - set(_STATUSES):
            raise bare_refusal(400, [f"status must be one of: {', '.join(_STATUSES)}"])
        after, before = query_moment(request, "created_after"), query_moment(request, "created_before")
        now = self._world.clock.now()
        shown = [
            self._wire(batch, now)
            for batch in reversed(list(self._world.contents.batches.values()))
            if batch.is_listed(now, self._world.settings)
            and (not statuses or batch.status(now) in statuses)
            and (after is None or batch.created_at >= after)
            and (before is None or batch.created_at <= before)
        ]
        return as_json(shown)

    async def get(self, request: Request) -> Response:
        """Show a batch (API §5.2)."""
        return as_json(self._wire(self._find(request), self._world.clock.now()))

    async def result(self, request: Request) -> Response:
        """Lead to the result file, by a signed URL that wants no key (API §5.4)."""
        batch = self._find(request)
        if not batch.has_ended(self._world.clock.now()):
            raise bare_refusal(404, "The batch has no result yet.")
        return RedirectResponse(self._world.sign_url(f"/batch-results/{batch.id}.jsonl"), 302)

    async def get_result(self, request: Request) -> Response:
        """Send the result file: a line of JSON for each row."""
        self._world.signer.check(request.url.path, request.url.query)
        batch = self._world.contents.batches.get(Path(request.url.path).stem)
        if batch is None:
            raise StorageRefusal(404, "NoSuchKey", "There is no such file.")
        lines = [json.dumps(self._result_line(row)) for row in batch.rows]
        return Response("\n".join(lines) + "\n", media_type="application/jsonl")

    def _result_line(self, row: Row) -> JsonObject:
        now = self._world.clock.now()
        has_output = row.has_output(now)
        url = self._files.output_url(row.job) if row.job is not None and has_output else None
        return result_line(row, now, url, self._world.settings)

    def _wire(self, batch: Batch, now: datetime) -> JsonObject:
        for row in batch.rows:
            if row.job is not None:
                row.job.fail_without_sources(now)
        return batch.to_wire(now, f"{self._world.base_url}/v2/batches/{batch.id}/result")

    def _find(self, request: Request) -> Batch:
        batch = self._world.contents.batches.get(cast(str, request.path_params["id"]))
        if batch is None or not batch.is_found(self._world.clock.now(), self._world.settings):
            raise bare_refusal(404, "There is no such batch.")
        return batch

    def _check_concurrency(self) -> None:
        now = self._world.clock.now()
        running = sum(not batch.has_ended(now) for batch in self._world.contents.batches.values())
        if running >= self._world.settings.batches_at_once:
            raise refusal("concurrency_limit_reached", message=_TOO_MANY)

    async def _accept(self, request: Request, checked: Sequence[_Checked], webhook_url: str | None) -> Batch:
        world, contents = self._world, self._world.contents
        fault: Fault | None = getattr(request.state, "fault", None)
        fate = fault if fault and fault.is_fate else None
        make = partial(self._row, key_name=world.key_name(api_key(request)), fate=fate)
        rows = [await make(number, *row) for number, row in enumerate(checked, 1)]
        self._check_edits(checked)
        if world.contents is not contents:
            raise bare_refusal(503, "The sandbox was reset meanwhile.")
        for row in rows:
            if row.job is not None:
                world.accept(row.job)
        seconds = world.settings.job_seconds
        batch = Batch(world.new_id("batch"), world.clock.now(), seconds, rows, webhook_url, fate)
        contents.batches[batch.id] = batch
        request.state.generation_id = batch.id
        return batch

    def _check_edits(self, checked: Sequence[_Checked]) -> None:
        """Refuse rows with dialogue edits that are not all of one video (API §5.0)."""
        edits = self._world.contents.dialogue_edits
        numbered = [
            (number, edits[create.dialogue_edit.id].source)
            for number, (_, create, _) in enumerate(checked, 1)
            if create.dialogue_edit
        ]
        for number, source in numbered:
            if source != numbered[0][1]:
                raise _with_line(refusal("dialogue_edit_source_mismatch", message=_ONE_VIDEO), number)

    async def _row(
        self,
        number: int,
        request_id: str,
        create: CreateBody,
        wire: Mapping[str, JsonValue],
        *,
        key_name: str,
        fate: Fault | None,
    ) -> Row:
        """Return a row with its generation, or with why there is none: the others go on."""
        world = self._world
        settings, contents = world.settings, world.contents
        try:
            rules.check(create, settings, contents.projects, contents.clone_names)
            made = await quote(create, self._inputs, settings)
            if made.longest_input_seconds > LONGEST_INPUT_SECONDS:
                raise refusal("generation_input_duration_greater_than_max_duration", field="input")
            check_limits(create, made, settings)
        except Refusal as refused:
            if create.dialogue_edit:
                # One that cannot be rendered refuses the whole batch (API §5.0).
                raise _with_line(refused, number) from refused
            return Row(request_id, None, cast(JsonObject, refused.body))
        is_struck = fate is not None and (not fate.rows or number in fate.rows)
        job = new_job(world, echo(wire, create), made, key_name, fate if is_struck else None)
        job.is_of_batch = True
        return Row(request_id, job, {})


def _with_line(refused: Refusal, number: int) -> Refusal:
    """Return a refusal that names the row it is of."""
    return Refusal(refused.status, {**refused.body, "lineNumber": number}, refused.headers)


async def _read(request: Request) -> tuple[list[object], str | None, bool]:
    """Return the rows, the webhook, and whether only to look at them.

    Raises:
        Refusal: 400 for what is no batch, 413 for one that is too large.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as form:
            file = form.get("input") or form.get("file")
            if not isinstance(file, UploadFile):
                raise bare_refusal(400, ["input must be a file of JSON lines"])
            text, webhook_url = await file.read(), form.get("webhook_url")
            is_dry_run = form.get("dry_run") == "true"
        _check_size(len(text))
        return _parse(text), webhook_url if isinstance(webhook_url, str) else None, is_dry_run
    fields = _fields(await json_body(request))
    rows, webhook_url = fields.get("rows"), fields.get("webhook_url")
    if not isinstance(rows, list):
        raise bare_refusal(400, ["rows must be a list"])
    _check_size(sum(len(json.dumps(row, separators=(",", ":"))) + 1 for row in cast(list[object], rows)))
    if webhook_url is not None and not re.match(r"https://[^/\s]", str(webhook_url)):
        raise bare_refusal(400, ["webhook_url must be an https URL"])
    return cast(list[object], rows), cast(str | None, webhook_url), False


def _fields(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}


def _check_size(size: int) -> None:
    if size > LARGEST_BYTES:
        raise bare_refusal(413, "The batch is larger than 5 MB.")


def _parse(text: bytes) -> list[object]:
    rows: list[object] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise bare_refusal(400, f"line {number}: it is not valid JSON") from error
    return rows


def _check(rows: Sequence[object], models: tuple[str, ...]) -> list[_Checked]:
    """Return the rows as they can be worked on.

    Raises:
        Refusal: 400, with the line in its sentence where one row is wrong.
    """
    if not FEWEST_ROWS <= len(rows) <= MOST_ROWS:
        raise bare_refusal(400, f"a batch has {FEWEST_ROWS} to {MOST_ROWS} rows, and this one {len(rows)}")
    checked: list[_Checked] = []
    ids: set[str] = set()
    for number, row in enumerate(rows, 1):
        fields = _fields(row)
        request_id = fields.get("request_id")
        if not isinstance(request_id, str) or not request_id or set(fields) - set(_ROW_FIELDS):
            raise bare_refusal(400, f"line {number}: it must have {', '.join(_ROW_FIELDS)}, and no more")
        if request_id in ids:
            raise bare_refusal(400, f"line {number}: the request_id {request_id} stands there twice")
        if fields.get("endpoint") != CREATE_PATH:
            raise bare_refusal(400, f"line {number}: endpoint must be {CREATE_PATH}")
        ids.add(request_id)
        try:
            create = read_create(fields.get("payload"), models)
        except Refusal as refused:
            told = refused.body["message"]
            faults = "; ".join(cast(list[str], told)) if isinstance(told, list) else str(told)
            raise bare_refusal(400, f"line {number}: {faults}") from refused
        checked.append((request_id, create, cast(Mapping[str, JsonValue], fields["payload"])))
    return checked
