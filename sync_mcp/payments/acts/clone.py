"""A clone: a voice made from a recording of it, with its owner's consent, by `POST /v2/voices` (API §8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import Json, LocalMedia
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.voices import CLONES, LONGEST_CONSENT, ClonedVoice, CloneRequest
from sync_mcp.errors import APIStatusError, InvalidRequestError, is_unknown_id
from sync_mcp.payments.acts.act import PaidAct
from sync_mcp.payments.files import LocalFiles, asset_key, content_of
from sync_mcp.payments.price import Price
from sync_mcp.texts import in_quotes, safe, without_queries

_SUMMARY_LIMIT = 80


@dataclass(frozen=True)
class CloneAct(PaidAct[ClonedVoice]):
    """A voice that is to be cloned.

    Attributes:
        name_of_voice: what it is to be called.
        consent: whose voice it is, and that they agreed, as the user told it.
        body: what is sent; of a recording that is still a local file what it holds stands for its asset.
        sample: that file.
    """

    kind: ClassVar[str] = "clone"
    noun: ClassVar[str] = "voice clone"
    is_priced: ClassVar[bool] = False
    list_tool: ClassVar[str] = "list_voices"

    name_of_voice: str
    consent: str
    body: Json
    sample: LocalMedia | None = None

    @classmethod
    def of(cls, request: CloneRequest, consent: str) -> Self:
        """Return the act behind a request."""
        return cls(request.name, consent.strip(), request.to_wire())

    @classmethod
    def of_file(cls, name: str, consent: str, sample: LocalMedia) -> Self:
        """Return the act of a recording that is a local file, which becomes an asset once it is agreed to."""
        body = CloneRequest(name=name.strip(), asset_id=content_of(sample)).to_wire()
        return cls(name.strip(), consent.strip(), body, sample)

    # What it is

    @property
    def model(self) -> str:
        """Who makes it."""
        return str(self.body["provider"])

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        name = safe(self.name_of_voice, _SUMMARY_LIMIT)
        return f"voice clone: {name}, from {safe(self._recording, _SUMMARY_LIMIT)}"

    def name(self, room: int) -> str:
        """Return what the voice is to be called."""
        return safe(f"voice {self.name_of_voice}", room)

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return a line for the name, the recording, and whose consent there is, which is never cut."""
        consent = in_quotes(self.consent, LONGEST_CONSENT)
        return [
            f"name: {in_quotes(self.name_of_voice)}",
            f"recording: {in_quotes(self._recording)}",
            f"the owner's consent, as you are said to have told it: {consent}",
        ]

    @cached_property
    def extras(self) -> Json:
        """The consent, which the ledger keeps."""
        return {"consent": self.consent}

    @property
    def avowal(self) -> str:
        """The consent: it is the user's word, so they must have read it."""
        return self.consent

    @property
    def local_media(self) -> Sequence[LocalMedia]:
        """The recording, as long as it is a local file."""
        return () if self.sample is None else (self.sample,)

    @property
    def _recording(self) -> str:
        if self.sample is not None:
            return self.sample.name or "a file"
        asset_id = self.body.get("assetId")
        return f"asset {asset_id}" if asset_id else without_queries(str(self.body.get("url")))

    # The same in another form

    def with_assets(self, assets: Mapping[str, str]) -> Self:
        """Return it with the asset of its recording in the place of the file.

        Raises:
            KeyError: there is none.
        """
        if self.sample is None:
            return self
        asset_id = assets[asset_key(self.sample.type, self.sample.sha256)]
        return replace(self, body={**self.body, "assetId": asset_id}, sample=None)

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
        """Return an unknown price, once the name is known to be free: it is what a lost voice is found by.

        Raises:
            InvalidRequestError: a voice of the account is called so.
            SyncError: the voices cannot be listed now.
        """
        await sync.voices.check_name_is_free(self.name_of_voice, request_options=options)
        return await super().price(
            sync, options, hint_seconds=hint_seconds, fps=fps, files=files, measured=measured
        )

    # Its job

    def check_is_sendable(self) -> None:
        """Raise where the recording is no asset yet.

        Raises:
            InvalidRequestError: it is still a file.
        """
        if self.sample is not None:
            raise InvalidRequestError("The recording is still a local file: upload it first.")

    @classmethod
    def job_kind(cls) -> JobKind[ClonedVoice]:
        """Return how the API clones voices."""
        return CLONES

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> ClonedVoice | None:
        """Return a voice, or None where the account does not have it.

        Raises:
            SyncError: the API cannot tell.
        """
        try:
            return await sync.get_job(CLONES, job_id, request_options=options)
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
        return None
