"""Batches: 20 to 500 generations in one request, each row for itself, within a day (API §5)."""

import builtins
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.batch_results import BatchResult, read_results
from sync_mcp.api.checks import faults_of
from sync_mcp.api.create import Creator
from sync_mcp.api.fields import EXTRAS
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.kinds import JobKind, JobList
from sync_mcp.api.matching import Likeness
from sync_mcp.api.models import CamelModel, GenerationRequest, Json, Moment
from sync_mcp.api.options import RequestOptions, new_idempotency_key, take_idempotency_key
from sync_mcp.api.polling import PolledJob, look_every, wait_for_end
from sync_mcp.errors import APIResponseError, InvalidRequestError, NoOutput
from sync_mcp.texts import ID_LIMIT, safe

FEWEST_ROWS, MOST_ROWS = 20, 500
LARGEST_BYTES = 5 * 1024**2
_PATH, _ENDPOINT = "/v2/batch", "/v2/generate"
_KEY_BEGINS = "~"
"""Stands in a `request_id` between the caller's name for a row and the key of its batch."""
_LONGEST_NAME = 64
_FAULTS_TOLD = 10
_FIRST_LOOK_SECONDS = 2.0
_LOOK_SECONDS = 10.0


class BatchMetrics(CamelModel):
    """How many rows of a batch there are, and how they stand."""

    total_generations: int | None = None
    success_count: int | None = None
    failed_count: int | None = None
    pending_count: int | None = None


class Batch(PolledJob):
    """A batch as it is now; what became of each row is in `Batches.results`."""

    status: Literal["PENDING", "JOBS_CREATED", "PROCESSING", "COMPLETED", "FAILED"] | str = "PENDING"
    created_at: Moment | None = None
    metrics: BatchMetrics = Field(default_factory=BatchMetrics)
    webhook_url: str | None = None
    output_url: str | None = None
    """Where the API tells its results, once it has ended."""
    request_ids: builtins.list[str] | None = None
    """What its rows are called with the API, where its results were read for it."""
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A generation of a batch, and what the caller calls it: 1 to 64 letters, digits and `. _ -`."""

    payload: GenerationRequest
    request_id: str


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a batch is made of, each row with a name of its own."""

    rows: Sequence[BatchRow]
    webhook_url: str | None = None

    def to_wire(self) -> Json:
        """Return the body as it is without a key."""
        rows = [
            {"request_id": row.request_id, "endpoint": _ENDPOINT, "payload": row.payload.to_wire()}
            for row in self.rows
        ]
        return {"rows": rows, **({"webhook_url": self.webhook_url} if self.webhook_url else {})}


GuardedBatch = Callable[[BatchRequest, RequestOptions | None, int], Awaitable[Batch]]
"""Makes a batch within limits, or returns the one that it made before."""


def stamp_rows(body: Json, key: str) -> Json:
    """Return the body of a batch with its key in the `request_id` of each row: by it the batch is found."""
    rows = [{**row, "request_id": f"{row['request_id']}{_KEY_BEGINS}{key}"} for row in body["rows"]]
    return {**body, "rows": rows}


def name_of_row(request_id: str) -> str:
    """Return what the caller calls a row, by its `request_id` in the results."""
    return request_id.partition(_KEY_BEGINS)[0]


def _compare(sent: Json, shown: Json) -> Likeness:
    """Return how like a batch is that is shown: its rows have the key that was sent, or it may be it."""
    key = str(sent["rows"][0]["request_id"]).partition(_KEY_BEGINS)[2]
    batch = Batch.from_wire(shown)
    if batch.request_ids:
        return "same" if batch.request_ids[0].endswith(f"{_KEY_BEGINS}{key}") else "other"
    return "possible" if batch.metrics.total_generations in (None, len(sent["rows"])) else "other"


async def _read_request_ids(transport: Transport, shown: Json, options: RequestOptions) -> Json:
    """Return what the rows of a listed batch are called, as far as its results are there."""
    batch = Batch.from_wire(shown)
    if not (batch.finished and batch.output_url):
        return {}
    results, _ = await read_results(transport, batch.output_url, options)
    return {"requestIds": [row.request_id for row in results if row.request_id]}


BATCHES = JobKind(
    name="batch",
    path=_PATH,
    model=Batch,
    listed=JobList(
        _PATH,
        None,
        _compare,
        is_told_by_name=True,
        since="created_after",
        read_more=_read_request_ids,
    ),
    has_keys=False,
    refused_by=("batch_plan_required",),
)
"""No idempotency key (API §5.0): ours stands in each `request_id`, which the results show."""


class Batches:
    """The batches of an account; reached as `AsyncSync.batches`."""

    def __init__(
        self,
        transport: Transport,
        creator: Creator,
        allowance: Allowance,
        guarded: GuardedBatch | None = None,
    ) -> None:
        self._transport = transport
        self._creator = creator
        self._allowance = allowance
        self._guarded = guarded

    async def create(
        self,
        rows: Sequence[BatchRow | GenerationRequest],
        *,
        webhook_url: str | None = None,
        take: int = 1,
        request_options: RequestOptions | None = None,
    ) -> Batch:
        """Have 20 to 500 generations made as one batch, each of which is paid, and return it as accepted.

        A row without a name is called by its number: `row-1`. The API takes no key with it, so it is never
        sent twice: what came of a lost answer is looked for in the list of batches, by our key in the
        `request_id` of its rows. With a guard (see `AsyncSync`) the same is made once, at their sum.

        Raises:
            InvalidRequestError: there are too few or too many rows, two are the same, or one breaks a rule;
                nothing was sent.
            LimitReached, LedgerError: a guard's budget would be passed, or its ledger cannot be written.
            APIConnectionError: the API could not be reached; nothing was sent.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and whether it was accepted could not be found out.
        """
        request = make_batch_request(rows, webhook_url)
        if self._guarded is not None:
            return await self._guarded(request, request_options, take)
        if take != 1:
            raise InvalidRequestError("take counts with a guard alone: without one each call is a new batch.")
        given, options = take_idempotency_key(request_options)
        key = given or new_idempotency_key()
        body = stamp_rows(request.to_wire(), key)
        return await self._creator.create_as(BATCHES, self._creator.memory, key, body, options)

    async def dry_run(
        self,
        rows: Sequence[BatchRow | GenerationRequest],
        *,
        webhook_url: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> None:
        """Have the API look at the rows of a batch and make nothing, which is free.

        Raises:
            InvalidRequestError: as `create`; nothing was sent.
            APIStatusError: the API would refuse it; a wrong row is named by its line.
            APIResponseError: the answer is no word of a check; a batch that it tells of was made and is paid.
        """
        body = make_batch_request(rows, webhook_url).to_wire()
        form = {"dry_run": "true", **({"webhook_url": webhook_url} if webhook_url else {})}
        file = ("rows.jsonl", _as_lines(body), "application/jsonl")
        call = Call("POST", _PATH, form=form, files={"input": file})
        # Whoever does not know `dry_run` makes a batch of it: it goes out once.
        reply = await self._transport.read(call, {**(request_options or {}), "max_retries": 0})
        if reply.fields.get("status") == "VALIDATED":
            return
        made = reply.fields.get("id")
        if not isinstance(made, str):
            raise APIResponseError("The API's answer to a check of a batch is no word of it.")
        raise APIResponseError(
            f"The API was asked to check a batch alone, and has made one: {safe(made, ID_LIMIT)}."
        ).advise(
            money_spent="yes", retryable=False, next_step="Look at it with get_batch, and tell the user."
        )

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Batch:
        """Return a batch as it is now.

        Raises:
            NotFoundError: the account has no batch by this id.
        """
        reply = await self._transport.read(Call("GET", f"{_PATH}/{check_id(id, 'A batch')}"), request_options)
        batch = reply.read_as(Batch, "batch")
        if batch.id != id:
            raise APIResponseError("The API was asked for one batch and shows another.")
        return batch

    async def list(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        request_options: RequestOptions | None = None,
    ) -> builtins.list[Batch]:
        """Return the batches of the account, newest first; the API has no pages here.

        Raises:
            InvalidRequestError: the time ends before it begins.
        """
        query = {"status": status} if status else {}
        after, before = _utc(created_after), _utc(created_before)
        if after is not None and before is not None and after >= before:
            raise InvalidRequestError("created_after must be before created_before.")
        query |= {"created_after": _format(after)} if after else {}
        query |= {"created_before": _format(before)} if before else {}
        reply = await self._transport.read(Call("GET", _PATH, query=query, is_list=True), request_options)
        batches, _ = reply.read_list(Batch, "list of batches")
        return batches

    async def results(
        self, id: str, *, request_options: RequestOptions | None = None
    ) -> builtins.list[BatchResult]:
        """Return what became of each row of a batch that has ended.

        The key goes to the API alone, and not to where it leads from there.

        Raises:
            NoOutput: it runs still.
            APIResponseError: what the API leads to is no result of a batch.
        """
        batch = await self.get(id, request_options=request_options)
        if not batch.output_url:
            running = "It has no results yet: they come once all its rows have ended."
            raise NoOutput(running if not batch.finished else "The API names no results of this batch.")
        results, unreadable = await read_results(
            self._transport, batch.output_url, request_options or RequestOptions()
        )
        if unreadable and not results:
            raise APIResponseError("What the API leads to is no result of a batch.")
        return [row.with_request_id(name_of_row(row.request_id)) for row in results]

    async def wait(self, id: str, timeout: float, *, known: Batch | None = None) -> Batch:
        """Return a batch when it has ended, or its latest state after `timeout` seconds.

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


def make_batch_request(
    rows: Sequence[BatchRow | GenerationRequest], webhook_url: str | None = None
) -> BatchRequest:
    """Return the request of a batch, each row with its name.

    Raises:
        InvalidRequestError: a sentence for each rule that it breaks, the first ones where there are many.
    """
    named = [
        row if isinstance(row, BatchRow) else BatchRow(row, f"row-{number}")
        for number, row in enumerate(rows, 1)
    ]
    request = BatchRequest(named, webhook_url)
    check_number(len(named))
    check_rows([*_faults_of_rows(named), *_faults_of_webhook(webhook_url)])
    size = len(_as_lines(request.to_wire()))
    if size > LARGEST_BYTES:
        raise InvalidRequestError(
            f"The batch has {size / 1024**2:.1f} MB, and the API takes 5: make two of it, or shorten scripts."
        )
    return request


def check_number(count: int) -> None:
    """Check how many rows a batch has.

    Raises:
        InvalidRequestError: too few, or too many.
    """
    if not FEWEST_ROWS <= count <= MOST_ROWS:
        told = "make each by itself" if count < FEWEST_ROWS else "make several batches of them"
        raise InvalidRequestError(
            f"A batch has {FEWEST_ROWS} to {MOST_ROWS} rows, and this one has {count}: {told}."
        )


def check_rows(faults: Sequence[str]) -> None:
    """Raise where there are faults of rows.

    Raises:
        InvalidRequestError: the first of them.
    """
    if faults:
        more = len(faults) - _FAULTS_TOLD
        told = [f"There are {more} more faults of rows."] if more > 0 else []
        raise InvalidRequestError([*faults[:_FAULTS_TOLD], *told])


def find_twins(keys: Sequence[object]) -> Iterator[str]:
    """Yield a sentence for each row that is the same as one before it, by what tells rows apart."""
    first: dict[object, int] = {}
    for number, key in enumerate(keys, 1):
        before = first.setdefault(key, number)
        if before != number:
            yield f"row {number} is the same as row {before}, and would be paid twice: leave one out."


def _faults_of_rows(rows: Sequence[BatchRow]) -> Iterator[str]:
    names: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        name = row.request_id
        plain = name.replace(".", "").replace("_", "").replace("-", "")
        if not (0 < len(name) <= _LONGEST_NAME and plain.isascii() and (plain.isalnum() or not plain)):
            yield f"row {number}: request_id has 1 to {_LONGEST_NAME} letters, digits and . _ -"
        elif names.setdefault(name, number) != number:
            yield f"row {number}: request_id {name} is that of row {names[name]} too."
        if row.payload.local_media:
            yield f"row {number}: a file on this machine is uploaded first: give its asset_id."
        elif row.payload.webhook_url:
            yield f"row {number}: the webhook is that of the whole batch: leave it out here."
        else:
            yield from (f"row {number}: {fault}" for fault in faults_of(row.payload))
    if not any(row.payload.local_media for row in rows):
        payloads = ({**row.payload.to_wire(), **dict.fromkeys(EXTRAS)} for row in rows)
        yield from find_twins([json.dumps(payload, sort_keys=True) for payload in payloads])


def _faults_of_webhook(url: str | None) -> Iterator[str]:
    if url is not None and not url.startswith("https://"):
        yield "webhook_url must be an https URL."


def _as_lines(body: Json) -> bytes:
    """Return the rows of a batch as the lines of a file."""
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in body["rows"])


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
