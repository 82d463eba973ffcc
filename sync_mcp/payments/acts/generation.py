"""A generation: a lip-synced or dubbed video, made by `POST /v2/generate` (API §3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self, cast

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.fields import EXTRAS, REQUEST
from sync_mcp.api.kinds import GENERATIONS, JobKind
from sync_mcp.api.models import Generation, GenerationCost, GenerationRequest, Json, LocalMedia
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIResponseError, APIStatusError, NotVisibleYet, SyncError, is_unknown_id
from sync_mcp.payments import digest_v1
from sync_mcp.payments.acts.act import PaidAct
from sync_mcp.payments.acts.generation_price import price_request, segments_past_its_end
from sync_mcp.payments.acts.generation_words import list_pieces, name_in_list, summarize
from sync_mcp.payments.canonical import canonical, sha256_of, urls_of
from sync_mcp.payments.files import LocalFiles, asset_key, by_content, with_assets, with_local_media
from sync_mcp.payments.price import Price
from sync_mcp.payments.spelling import in_one_spelling
from sync_mcp.payments.urls import find_signers

_TOLD = tuple(field.wire for field in REQUEST.values() if field.role == "tells")
"""An address in them may be a secret: the ledger keeps its digest alone."""


@dataclass(frozen=True)
class GenerationAct(PaidAct[Generation]):
    """A generation that is to be made; `GenerationAct.of` brings a request into its canonical form.

    Attributes:
        request: in its canonical form.
        body: the same as JSON, made once and kept; what a local file holds stands in the place of its asset.
    """

    kind: ClassVar[str] = "generation"
    noun: ClassVar[str] = "video"

    request: GenerationRequest
    body: Json

    @classmethod
    def of(cls, request: GenerationRequest) -> Self:
        """Return the act behind a request.

        Raises:
            InvalidRequestError: an `asset_id` can be no asset's.
        """
        canonical_request = GenerationRequest.from_wire(canonical(by_content(request).to_wire()))
        return cls(with_local_media(canonical_request, request.local_media), canonical_request.to_wire())

    # What it is

    @cached_property
    def meaning(self) -> Json:
        """What is made, without signatures and in one spelling."""
        # In order only then: neither a signature nor a spelling must decide which input comes first.
        return canonical(in_one_spelling(self._body_that_counts))

    @property
    def model(self) -> str:
        """The API's model."""
        return self.request.model

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        return summarize(self.body, self._inputs)

    def name(self, room: int) -> str:
        """Return the clip, what it says, and what else tells it from its like."""
        return name_in_list(self.body, self._inputs, room)

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return a line for the model, each input, the language, the project and the webhook."""
        return list_pieces(self.body, self._inputs, voice_names, self.webhook_host)

    @cached_property
    def extras(self) -> Json:
        """What does not count: the result's name and project, and where its end is told, by digest only."""
        kept = {name: self.body[name] for name in EXTRAS if name in self.body}
        return {name: sha256_of(value) if name in _TOLD else value for name, value in kept.items()}

    @property
    def webhook_url(self) -> str | None:
        """Where the finished job's URL is sent."""
        return self.request.webhook_url

    @property
    def local_media(self) -> Sequence[LocalMedia]:
        """The local files among its inputs."""
        return self.request.local_media

    @cached_property
    def signers(self) -> Sequence[str]:
        """Whose signatures on its URLs do not count, each for the user: "Amazon S3 signature"."""
        signatures = (one for url in urls_of(self._body_that_counts) for one in find_signers(url))
        return tuple(dict.fromkeys(signatures))

    def earlier_body_digests(self, account: str, base_url: str) -> tuple[str, ...]:
        """Return the digest of version 1."""
        return (digest_v1.body_digest(self._body_that_counts, account, base_url),)

    @cached_property
    def has_loose_earlier_digest(self) -> bool:
        """Whether an entry of version 1 may be of another clip: it took for a signature what is none."""
        kept = in_one_spelling(self._body_that_counts)
        return digest_v1.drop_signatures(kept) != kept

    @property
    def _inputs(self) -> list[tuple[Json, str | None]]:
        names = (item.name if isinstance(item, LocalMedia) else None for item in self.request.input)
        return list(zip(cast(list[Json], self.body["input"]), names, strict=True))

    @property
    def _body_that_counts(self) -> Json:
        return {name: value for name, value in self.body.items() if name not in EXTRAS}

    # The same in another form

    def with_assets(self, assets: Mapping[str, str]) -> Self:
        """Return it with the asset of each local file, by its `asset_key`, in its place.

        Raises:
            KeyError: a file has none.
        """
        if not self.request.local_media:
            return self
        items = [
            {**item, "assetId": assets[asset_key(given.type, given.sha256)]}
            if isinstance(given, LocalMedia)
            else item
            for given, item in zip(self.request.input, cast(list[Json], self.body["input"]), strict=True)
        ]
        return replace(self, request=with_assets(self.request, assets), body={**self.body, "input": items})

    def with_body_parameters(self, parameters: Mapping[str, object]) -> Self:
        """Return it with more fields of the API's own."""
        return type(self).of(self.request.with_fields(parameters))

    def with_first_extras(self, extras: Json) -> tuple[Self, bool]:
        """Return it as an earlier call with these extras sent it, and whether that is all of it.

        Of a webhook the digest alone is kept: it is known again only where this call names the same one.
        """
        kept = {name: extras[name] for name in EXTRAS if name in extras and name not in _TOLD}
        hooks = {name: extras[name] for name in _TOLD if extras.get(name) is not None}
        known = {name: self.body[name] for name, hook in hooks.items() if hook == self.extras.get(name)}
        is_whole = len(known) == len(hooks)
        if {**kept, **known} == {name: self.body[name] for name in EXTRAS if name in self.body}:
            return self, is_whole
        first = self.request.with_fields({**dict.fromkeys(EXTRAS), **kept, **known})
        return replace(self, request=first, body=by_content(first).to_wire()), is_whole

    # What it costs

    async def price(
        self,
        sync: AsyncSync,
        options: RequestOptions,
        *,
        hint_seconds: float | None = None,
        fps: float | None = None,
        files: LocalFiles | None = None,
        measured: Price | None = None,
    ) -> Price:
        """Return what it is likely to cost, by the API's estimate.

        Raises:
            AuthenticationError, ConfigurationError: nothing could be sent either.
            APIStatusError: the API does not take the input.
        """
        return await price_request(
            sync, self.request, options, hint_seconds=hint_seconds, fps=fps, files=files, measured=measured
        )

    def faults_at(self, price: Price) -> list[str]:
        """Return a sentence for every segment that ends after the video, as long as that was measured."""
        return segments_past_its_end(self.request, price)

    # Its job

    def check_is_sendable(self) -> None:
        """Raise where a local file is no asset yet.

        Raises:
            InvalidRequestError: which one.
        """
        self.request.check_is_sendable()

    @classmethod
    def job_kind(cls) -> JobKind[Generation]:
        """Return how the API makes generations."""
        return GENERATIONS

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> Generation | None:
        """Return a job, or None where neither it nor the list shows it.

        Raises:
            SyncError: the API cannot tell.
        """
        try:
            return await sync.generations.get(job_id, request_options=options)
        except NotVisibleYet:
            # The client has a guard of its own, which knows the job: whether the list shows it is asked.
            pass
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
        try:
            listed = await sync.generations.list(ids=[job_id], request_options=options)
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
            # It does not take the id there either.
            return None
        found = next((job for job in listed if job.id == job_id), None)
        if found is None and listed.unreadable:
            raise APIResponseError("The API's list has an entry that cannot be read.")
        return found

    @classmethod
    async def cost_of(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> GenerationCost | None:
        """Return what a job did cost as the API tells it, or None where it cannot be asked now."""
        try:
            return await sync.generations.get_cost(job_id, request_options={**options, "max_retries": 1})
        except SyncError:
            return None
