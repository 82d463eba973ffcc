"""A batch: generations as one act, whose price is the sum of its rows, by `POST /v2/batch` (API §5)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import ClassVar, Self

from sync_mcp.api.batches import (
    BATCHES,
    Batch,
    BatchRequest,
    check_rows,
    find_twins,
    stamp_rows,
)
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.fields import EXTRAS
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import GenerationCost, Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.usage import USAGE_PAGE_LIMIT
from sync_mcp.errors import APIStatusError, SyncError, is_unknown_id
from sync_mcp.payments.acts.act import WEBHOOK, Job, PaidAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.canonical import sha256_of
from sync_mcp.texts import in_quotes, safe

_ROWS_SHOWN = 3
_NAME_ROOM = 60
_EXPORT_MARGIN = timedelta(hours=1)
_EXPORT_PAGES = 5
"""So many pages of the export are read for the costs of one batch."""


@dataclass(frozen=True)
class BatchAct(PaidAct[Batch]):
    """Generations that are to be made as one batch; `BatchAct.of` brings a request into its canonical form.

    Attributes:
        rows: the generation of each.
        names: what each row is called.
        hook: where the batch's end is told.
        body: what is sent, without the key in its rows.
    """

    kind: ClassVar[str] = "batch"
    noun: ClassVar[str] = "batch"
    running_statuses: ClassVar[frozenset[str]] = frozenset({"PENDING", "JOBS_CREATED", "PROCESSING"})
    list_tool: ClassVar[str] = "get_batch"

    rows: Sequence[GenerationAct]
    names: Sequence[str]
    hook: str | None
    body: Json

    @classmethod
    def of(cls, request: BatchRequest) -> Self:
        """Return the act behind a request.

        Raises:
            InvalidRequestError: two rows mean the same, or an `asset_id` can be no asset's.
        """
        acts = tuple(GenerationAct.of(row.payload) for row in request.rows)
        check_rows(list(find_twins([act.made_digest for act in acts])))
        body = request.to_wire()
        rows = [{**row, "payload": act.body} for row, act in zip(body["rows"], acts, strict=True)]
        names = tuple(row.request_id for row in request.rows)
        return cls(acts, names, request.webhook_url, {**body, "rows": rows})

    # What it is

    @cached_property
    def meaning(self) -> list[str]:
        """What its rows make, in whatever order and by whatever names."""
        return sorted(part.made_digest for part in self.rows)

    @property
    def model(self) -> str:
        """The model, or how many rows each of several makes."""
        counted = Counter(part.model for part in self.rows)
        if len(counted) == 1:
            return self.rows[0].model
        return ", ".join(f"{model} ({count})" for model, count in counted.most_common())

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        return f"batch of {len(self.rows)} videos, {safe(self.model, 80)}: {self._first(3 * _NAME_ROOM)}, …"

    def name(self, room: int) -> str:
        """Return how many rows it has, and what the first is called."""
        begin = f"batch of {len(self.rows)}: "
        return begin + self._first(max(1, room - len(begin)))

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return a line for the number of rows, the models, the first rows, and the webhook."""
        shown = zip(self.names[:_ROWS_SHOWN], self.rows, strict=False)
        left = len(self.rows) - _ROWS_SHOWN
        return [
            f"videos: {len(self.rows)}, each paid",
            f"models: {in_quotes(self.model)}",
            *(f"row {in_quotes(name)}: {in_quotes(part.name(_NAME_ROOM))}" for name, part in shown),
            f"and {left} more rows",
            *([f"where the end is told: {in_quotes(self.webhook_host)}"] if self.webhook_host else []),
        ]

    @cached_property
    def extras(self) -> Json:
        """What does not count, by digest alone: the webhook, and the names and projects of the results."""
        kept = {
            wire: sha256_of(told)
            for wire in EXTRAS
            if any(told := [part.extras.get(wire) for part in self._in_order])
        }
        return kept | ({WEBHOOK: sha256_of(self.hook)} if self.hook else {})

    @property
    def webhook_url(self) -> str | None:
        """Where the end of the batch is told, with the URL of its results."""
        return self.hook

    @cached_property
    def signers(self) -> Sequence[str]:
        """Whose signatures on the URLs of its rows do not count."""
        return tuple(dict.fromkeys(one for part in self.rows for one in part.signers))

    @property
    def parts(self) -> Sequence[PaidAct[Job]]:
        """Its rows."""
        return self.rows

    @property
    def _in_order(self) -> list[GenerationAct]:
        return sorted(self.rows, key=lambda part: part.made_digest)

    def _first(self, room: int) -> str:
        return self.rows[0].name(room)

    # Its job

    @classmethod
    def status_of(cls, job: Job) -> str:
        """Return how a batch stands, in the words of generations."""
        return "PROCESSING" if job.status == "JOBS_CREATED" else super().status_of(job)

    def body_under(self, key: str) -> Json:
        """Return what is sent, with the key in the `request_id` of each row."""
        return stamp_rows(self.body, key)

    @classmethod
    def job_kind(cls) -> JobKind[Batch]:
        """Return how the API makes batches."""
        return BATCHES

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> Batch | None:
        """Return a batch, or None where the API does not show it.

        Raises:
            SyncError: the API cannot tell.
        """
        try:
            return await sync.batches.get(job_id, request_options=options)
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
        return None

    @classmethod
    async def find_billed(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> Sequence[str]:
        """Return the ids of its generations, once it has ended.

        Raises:
            SyncError: it has not, or the API cannot tell.
        """
        results = await sync.batches.results(job_id, request_options=options)
        return [row.generation_id for row in results if row.generation_id]

    @classmethod
    async def cost_of(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> GenerationCost | None:
        """Return what the generations of a batch did cost together, by the API's export; None without it."""
        try:
            batch = await sync.batches.get(job_id, request_options=options)
            results = await sync.batches.results(job_id, request_options=options)
            wanted = {row.generation_id for row in results if row.generation_id}
            costs = await _read_costs(sync, batch, wanted, options)
        except SyncError:
            return None
        known = sum((cost.so_far_usd for cost in costs.values()), Decimal(0))
        is_whole = len(results) == batch.metrics.total_generations and costs.keys() == wanted
        if is_whole and all(cost.final_usd is not None for cost in costs.values()):
            return GenerationCost(availability="complete", total_cost_usd=known)
        return GenerationCost(availability="partial", known_subtotal_usd=known)


async def _read_costs(
    sync: AsyncSync, batch: Batch, wanted: set[str], options: RequestOptions
) -> dict[str, GenerationCost]:
    """Return the costs of these generations, as far as the export has them in its first pages."""
    begin = (batch.created_at or sync.api_time) - _EXPORT_MARGIN
    end = sync.api_time + _EXPORT_MARGIN
    costs: dict[str, GenerationCost] = {}
    pages = 0
    async for page in sync.usage.generation_pages(
        begin, end, limit=USAGE_PAGE_LIMIT, request_options=options
    ):
        costs |= {item.generation_id: item for item in page.items if item.generation_id in wanted}
        pages += 1
        if pages == _EXPORT_PAGES or costs.keys() == wanted:
            break
    return costs
