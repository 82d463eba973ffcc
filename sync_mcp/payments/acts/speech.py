"""Speech: a script said by a voice, by `POST /v2/tts/jobs`, or `POST /v2/tts` without jobs (API §9)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.speech import SPEECH_AT_ONCE, SPEECH_JOBS, Speech, SpeechRequest
from sync_mcp.errors import APIStatusError, is_unknown_id
from sync_mcp.payments.acts.act import PaidAct
from sync_mcp.texts import in_quotes, safe

SOUND = "sound"
"""Under this name the ledger keeps the asset that a speech was kept as."""
_WAY = "path"
_SUMMARY_LIMIT = 80


@dataclass(frozen=True)
class SpeechAct(PaidAct[Speech]):
    """A script that is to be said.

    Attributes:
        request: what is to be said, and by whom.
        body: the same as JSON.
        is_job: whether it is sent as a job; else it is said at once.
    """

    kind: ClassVar[str] = "speech"
    noun: ClassVar[str] = "speech"
    completed_status: ClassVar[str] = "SUCCESS"
    is_priced: ClassVar[bool] = False
    list_tool: ClassVar[str] = ""

    request: SpeechRequest
    body: Json
    is_job: bool = True

    @classmethod
    def of(cls, request: SpeechRequest, sync: AsyncSync) -> Self:
        """Return the act behind a request, to be sent in the way that the account has."""
        return cls(request, request.to_wire(), sync.speech.has_jobs)

    # What it is

    @property
    def model(self) -> str:
        """Who provides the voice."""
        return self.request.provider

    @cached_property
    def summary(self) -> str:
        """One line for the user."""
        said = safe(self.request.script, _SUMMARY_LIMIT)
        return f"speech: {said} (voice {safe(self.request.voice_id, _SUMMARY_LIMIT)})"

    def name(self, room: int) -> str:
        """Return what it says."""
        return safe(self.request.script, room)

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return a line for the script, its length and the voice."""
        voice = self.request.voice_id
        name = voice_names.get(voice)
        called = f"{in_quotes(name)} ({in_quotes(voice)})" if name else in_quotes(voice)
        length = len(self.request.script)
        return [f"script ({length:,} characters): {in_quotes(self.request.script)}", f"voice: {called}"]

    @cached_property
    def extras(self) -> Json:
        """In which way it is sent, where that is not as a job: nobody can ask for it again then."""
        return {} if self.is_job else {_WAY: SPEECH_AT_ONCE.path}

    # The same in another form

    def with_first_extras(self, extras: Json) -> tuple[Self, bool]:
        """Return it to be sent in the way in which an earlier call sent it: another would be paid anew."""
        return replace(self, is_job=self.job_kind_of(extras) is SPEECH_JOBS), True

    # Its job

    @classmethod
    def job_kind(cls) -> JobKind[Speech]:
        """Return how the API makes speech jobs."""
        return SPEECH_JOBS

    @classmethod
    def job_kind_of(cls, extras: Json) -> JobKind[Speech]:
        """Return how a speech was sent: as a job, or at once."""
        return SPEECH_AT_ONCE if extras.get(_WAY) == SPEECH_AT_ONCE.path else SPEECH_JOBS

    def otherwise(self, sync: AsyncSync) -> Self | None:
        """Return it to be said at once, where the organization has no speech jobs."""
        if not self.is_job:
            return None
        sync.speech.has_jobs = False
        return replace(self, is_job=False)

    @classmethod
    def recall(cls, job_id: str, extras: Json, assets: Mapping[str, str]) -> Speech | None:
        """Return a speech that was said at once, with the asset that its sound was kept as."""
        if cls.job_kind_of(extras) is SPEECH_JOBS:
            return None
        return Speech(id=job_id, status="SUCCESS", asset_id=assets.get(SOUND))

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> Speech | None:
        """Return a speech job, or None where the API does not show it.

        Raises:
            SyncError: the API cannot tell.
        """
        try:
            return await sync.speech.get(job_id, request_options=options)
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
        return None
