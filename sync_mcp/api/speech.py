"""Speech: a script said by a voice, as a job that can be asked for, or at once (API §9)."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field, JsonValue, model_validator

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.create import Creator
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import SCRIPT_LIMIT, CamelModel
from sync_mcp.api.options import RequestOptions, new_idempotency_key, take_idempotency_key
from sync_mcp.api.polling import PolledJob, wait_for_end
from sync_mcp.api.retry import retry_after
from sync_mcp.errors import APIResponseError, InvalidRequestError, NotOffered

_FIRST_LOOK_SECONDS = 1.0
_LOOK_SECONDS = 3.0
"""As the API asks for between two looks at a job that runs."""

Share = Annotated[float, Field(ge=0, le=1)]


class Speech(PolledJob):
    """Speech that is being made, or is there; of what was said at once the API knows no more than this."""

    LAST_STATUSES: ClassVar[frozenset[str]] = frozenset({"SUCCESS", "FAILED"})

    status: Literal["PENDING", "PROCESSING", "SUCCESS", "FAILED"] | str = "SUCCESS"
    url: str | None = None
    """The sound, once it is there."""
    duration: float | None = None
    """Seconds of it."""
    asset_id: str | None = None
    """The asset that its sound was kept as, where this is known of one that the API does not keep."""
    error: JsonValue = None
    """Why there is none, as the API tells it."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_status_or_sound(cls, data: object) -> object:
        # What is said at once is answered without a status, and with its sound.
        if isinstance(data, Mapping):
            fields = cast(Mapping[str, object], data)
            if not fields.get("status") and not fields.get("url"):
                raise ValueError("it has neither a status nor a sound")
            return fields
        return data

    @property
    def error_code(self) -> str | None:
        """Why there is no sound, in the API's word, where it says so."""
        told = self.error.get("code") if isinstance(self.error, dict) else self.error
        return told if isinstance(told, str) else None

    @property
    def error_message(self) -> str | None:
        """What the API says of it."""
        told = self.error.get("message") if isinstance(self.error, dict) else None
        return told if isinstance(told, str) else None


class SpeechRequest(CamelModel):
    """What is to be said, and by whom.

    Attributes:
        script: 1 to 5,000 characters.
        voice_id: a voice of `AsyncSync.voices.list`.
        stability: 0 to 1; the higher, the more alike each time.
        similarity_boost: 0 to 1; how close it is to the voice.
    """

    script: str
    voice_id: str
    provider: Literal["elevenlabs"] = "elevenlabs"
    stability: Share | None = None
    similarity_boost: Share | None = None


SPEECH_JOBS = JobKind(
    name="speech job",
    path="/v2/tts/jobs",
    model=Speech,
    keeps_keys=True,
    not_offered_status=503,
)
"""Not every organization has them (API §9.2)."""
SPEECH_AT_ONCE = JobKind(name="speech", path="/v2/tts", model=Speech, has_keys=False)
"""Where there are no jobs: the call ends with the sound, and nobody can ask for it again (API §9.1)."""

GuardedSpeech = Callable[[SpeechRequest, RequestOptions | None, int], Awaitable[Speech]]
"""Has a script said within limits, or returns the speech that it made before."""


class Speeches:
    """Speech of an account; reached as `AsyncSync.speech`."""

    def __init__(
        self,
        transport: Transport,
        creator: Creator,
        allowance: Allowance,
        guarded: GuardedSpeech | None = None,
    ) -> None:
        self._transport = transport
        self._creator = creator
        self._allowance = allowance
        self._guarded = guarded
        self.has_jobs = True
        """Whether the organization has speech jobs, for all that is known: the API tells when one is made."""

    async def create(
        self,
        *,
        script: str,
        voice_id: str,
        stability: float | None = None,
        similarity_boost: float | None = None,
        take: int = 1,
        request_options: RequestOptions | None = None,
    ) -> Speech:
        """Have a script said, which is paid, and return it as the API accepted it.

        It is a job where the organization has them, which `wait` waits for; else it is there at once. With a
        guard (see `AsyncSync`) the same is made once, and `take` makes it again on purpose. A job carries an
        idempotency key, the caller's or a new one. What is said at once has none, and is never sent twice.

        Raises:
            InvalidRequestError: the script is empty or longer than 5,000 characters, or a figure cannot be;
                nothing was sent.
            LimitReached, LedgerError: a guard's budget would be passed, or its ledger cannot be written.
            APIConnectionError: the API could not be reached; nothing was sent.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and whether it was accepted could not be found out.
        """
        request = make_speech_request(script, voice_id, stability, similarity_boost)
        if self._guarded is not None:
            return await self._guarded(request, request_options, take)
        if take != 1:
            raise InvalidRequestError(
                "take counts with a guard alone: without one each call is a new speech."
            )
        key, options = take_idempotency_key(request_options)
        memory, body = self._creator.memory, request.to_wire()
        if self.has_jobs:
            sent_under = key or new_idempotency_key()
            try:
                return await self._creator.create_as(SPEECH_JOBS, memory, sent_under, body, options)
            except NotOffered:
                self.has_jobs = False
        return await self._creator.create_as(SPEECH_AT_ONCE, memory, new_idempotency_key(), body, options)

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Speech:
        """Return a speech job as it is now.

        Raises:
            NotFoundError: there is none by this id; what was said at once is no job.
        """
        speech, _ = await self._look(id, request_options)
        return speech

    async def wait(self, id: str, timeout: float, *, known: Speech | None = None) -> Speech:
        """Return a speech job when it has ended, or its latest state after `timeout` seconds.

        `known` is a state that the caller has already. Faults that may pass are waited out.

        Raises:
            SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
        """
        return await wait_for_end(
            partial(self._look, id),
            self._allowance,
            timeout,
            known=known,
            first_pause=_FIRST_LOOK_SECONDS,
            pause_after_fault=_LOOK_SECONDS,
        )

    async def _look(self, id: str, options: RequestOptions | None) -> tuple[Speech, float]:
        """Return a job, and after how many seconds the API wants to be asked again."""
        reply = await self._transport.read(
            Call("GET", f"{SPEECH_JOBS.path}/{check_id(id, 'A speech')}"), options
        )
        speech = reply.read_as(Speech, SPEECH_JOBS.name)
        if speech.id != id:
            raise APIResponseError("The API was asked for one speech job and shows another.")
        told = retry_after(reply.headers, {})
        return speech, _LOOK_SECONDS if told is None else told


def make_speech_request(
    script: str, voice_id: str, stability: float | None = None, similarity_boost: float | None = None
) -> SpeechRequest:
    """Return the request that says a script by a voice.

    Raises:
        InvalidRequestError: a sentence for each rule that it breaks.
    """
    faults: list[str] = []
    if not script.strip():
        faults.append("script is empty: say what is to be said.")
    if len(script) > SCRIPT_LIMIT:
        faults.append(
            f"script has {len(script):,} characters, and the API takes {SCRIPT_LIMIT:,}: shorten it, or make "
            "a speech of each part."
        )
    if not voice_id.strip():
        faults.append("voice_id is missing: give a voice of the list of voices.")
    for name, share in (("stability", stability), ("similarity_boost", similarity_boost)):
        if share is not None and not 0 <= share <= 1:
            faults.append(f"{name} must lie between 0 and 1.")
    if faults:
        raise InvalidRequestError(faults)
    return SpeechRequest(
        script=script, voice_id=voice_id.strip(), stability=stability, similarity_boost=similarity_boost
    )
