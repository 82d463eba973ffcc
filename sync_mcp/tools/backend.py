"""What all tool calls of a process share: the client, its catalogues, and the creates on their way."""

import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from sync_mcp.access import is_on_loopback
from sync_mcp.background.work import Work
from sync_mcp.errors import ConfigurationError, LedgerError, SyncError
from sync_mcp.texts import clean, near
from sync_mcp.tools.own_outputs import OwnOutputs
from sync_mcp.tools.user import NOBODY, ApproveBy, User
from sync_mcp.tools.withheld import Off

if TYPE_CHECKING:
    from sync_mcp.api.client import AsyncSync
    from sync_mcp.api.models import ErrorInfo, ModelInfo
    from sync_mcp.api.options import RequestOptions
    from sync_mcp.api.voices import Voice
    from sync_mcp.background.watching import Watcher
    from sync_mcp.media.inputs import LocalReader
    from sync_mcp.media.paths.roots import MediaRoots
    from sync_mcp.payments.guard import Guard

CALL_SECONDS = 55.0
"""A whole tool call ends within this time of its arrival: hosts give up after sixty."""

STOP_SECONDS = 7.0
"""Once the server is to end, a call that is under way is answered within this time."""

ANSWER_SECONDS = 2.0
"""What is left of a call to answer with."""

_LAST_WORD_SECONDS = 0.5
_ASKING_SECONDS = 2.0
_CATALOGUE_SECONDS = 300.0
CATALOGUE_TIMEOUT_SECONDS = 8.0
_VOICES_TIMEOUT_SECONDS = 30.0
_MODELS_NAMED = 20

_KeptT = TypeVar("_KeptT")

logger = logging.getLogger("sync_mcp.tools")

MODEL_PURPOSES: Mapping[str, str] = {
    "sync-3": "best quality, and the only one that takes an image",
    "lipsync-2": "natural lip-sync of a video",
    "lipsync-2-pro": "as lipsync-2 with finer detail, at a higher price",
    "lipsync-1.9.0-beta": "the cheapest and fastest",
    "react-1": "also changes emotion and head movement; clips up to 15 s",
}


class _Kept(Generic[_KeptT]):
    """A list of the API's that is asked for again when it is some minutes old."""

    def __init__(self, fetch: Callable[[], Awaitable[_KeptT]]) -> None:
        self._fetch = fetch
        self._value: _KeptT | None = None
        self._fetched_at = 0.0

    @property
    def known(self) -> _KeptT | None:
        """The list as it was told last, where it was."""
        return self._value

    async def get(self) -> _KeptT:
        if self._value is None or anyio.current_time() - self._fetched_at > _CATALOGUE_SECONDS:
            self._value = await self._fetch()
            self._fetched_at = anyio.current_time()
        return self._value


class Backend:
    """The one per process; made when the server starts, connected by the first call that needs it."""

    def __init__(
        self,
        connect: "Callable[[], AsyncSync]",
        make_guard: "Callable[[], Guard]",
        make_roots: "Callable[[], MediaRoots]",
        task_group: TaskGroup,
        *,
        approve_above_usd: Decimal | None,
        approve_by: ApproveBy,
        webhook_hosts: Sequence[str],
        sandboxed: bool,
        stopping: anyio.Event | None = None,
    ) -> None:
        self._connect = connect
        self.stopping = stopping or anyio.Event()
        """Set when the server is about to end: then a wait is answered with what is known."""
        self.ends_at = math.inf
        """When, on anyio's clock, every call must have ended; known once the server is to end."""
        self._limits: set[anyio.CancelScope] = set()
        self._client: AsyncSync | None = None
        self._known_sandboxed = sandboxed
        self.outputs = OwnOutputs(self._api_host, self._knows_job)
        """The output URLs that were told."""
        self._asking = anyio.Lock()
        self._asked = False
        self._make_guard = make_guard
        self._guard: Guard | None = None
        self.approve_above_usd = approve_above_usd
        """The most that may be paid unasked within a day; None asks about no price."""
        self.approve_by: ApproveBy = approve_by
        self.webhook_hosts = webhook_hosts
        """The hosts that may be told of a job's end unasked."""
        self._task_group = task_group
        self._watcher: Watcher | None = None
        self._make_roots = make_roots
        self._roots: MediaRoots | None = None
        self._work: Work | None = None
        self._models = _Kept(self._fetch_models)
        self._voices = _Kept(self._fetch_voices)
        self._errors = _Kept(self._fetch_errors)
        self._plan = _Kept(self._fetch_plan)

    @property
    def client(self) -> "AsyncSync":
        """The client.

        Raises:
            ConfigurationError: there is no API key, or a setting is unusable.
        """
        if self._client is None:
            try:
                self._client = self._connect()
            except ConfigurationError as error:
                if error.code != "api_key_missing":
                    error.advise(next_step="Ask the user to correct the server's settings and to restart it.")
                    raise
                raise ConfigurationError(
                    "The server has no API key, so it cannot reach the Sync API.",
                    code=error.code,
                    next_step=(
                        "Ask the user to set SYNC_API_KEY (made at https://sync.so/settings/api-keys) in the "
                        "server's environment and restart it, or to start it with --sandbox to try it "
                        "without a key."
                    ),
                ) from None
        return self._client

    @property
    def guard(self) -> "Guard":
        """What every paid call goes through."""
        if self._guard is None:
            self._guard = self._make_guard()
        return self._guard

    @property
    def watcher(self) -> "Watcher":
        """What every wait for a job goes through."""
        if self._watcher is None:
            # With it comes the client, which is loaded by the first call that needs it.
            from sync_mcp.background.watching import Watcher

            self._watcher = Watcher(lambda: self.client, self._task_group, self.explain_missing)
        return self._watcher

    @property
    def roots(self) -> "MediaRoots":
        """Which local files may be read and written."""
        if self._roots is None:
            self._roots = self._make_roots()
        return self._roots

    @property
    def local_reader(self) -> "LocalReader":
        """What local media are read and uploaded by."""
        # With it comes what reads media, which is loaded by the first call with a file.
        from sync_mcp.media.inputs import LocalReader

        return LocalReader(self.roots, self.work)

    @property
    def work(self) -> Work:
        """What goes on when the call that began it has ended."""
        if self._work is None:
            self._work = Work(self._task_group)
        return self._work

    async def ask_whether_sandboxed(self) -> None:
        """Ask an API on this machine once whether it is a sandbox, so that the first answer can say so."""
        async with self._asking:
            if self._asked or self._known_sandboxed:
                return
            self._asked = True
            with suppress(SyncError):
                if is_on_loopback(self.client.base_url):
                    await self.client.ping(
                        request_options={"timeout_in_seconds": _ASKING_SECONDS, "max_retries": 0}
                    )

    @property
    def sandboxed(self) -> bool:
        """Whether the answers come from a sandbox."""
        return self._known_sandboxed or (self._client is not None and self._client.sandboxed)

    @property
    def base_url(self) -> str:
        """The API's origin, or "" where there is no client that knows it."""
        try:
            return self.client.base_url
        except ConfigurationError:
            return ""

    @property
    def sample_urls(self) -> str:
        """The sandbox's sample media, as a phrase."""
        base = self.client.base_url
        return (
            f"video {base}/samples/speaker.mp4, image {base}/samples/speaker.jpg, "
            f"audio {base}/samples/speech.wav, video with speech to dub {base}/samples/speaking.mp4"
        )

    @contextmanager
    def time_limit(self, ends_at: float) -> Generator[None]:
        """Let a call run until shortly before `ends_at`, or before the server ends.

        Raises:
            TimeoutError: it was still running then.
        """
        with anyio.fail_at(min(ends_at, self.ends_at) - _LAST_WORD_SECONDS) as scope:
            self._limits.add(scope)
            try:
                yield
            finally:
                self._limits.discard(scope)

    async def end_calls_in_time(self) -> None:
        """Wait until the server is to end; what is under way then ends while it can still be answered."""
        await self.stopping.wait()
        self.ends_at = anyio.current_time() + STOP_SECONDS
        for scope in self._limits:
            scope.deadline = min(scope.deadline, self.ends_at - _LAST_WORD_SECONDS)

    async def model_faults(self, name: str) -> list[str]:
        """Return what is wrong with a model: nothing if it is known here, or stands in the API's own list.

        Raises:
            SyncError: it is not known here, and the list could not be read.
        """
        if name in MODEL_PURPOSES:
            return []
        shown = clean(name, 60)
        try:
            listed = {model.name for model in await self.models()}
        except ConfigurationError:
            raise
        except SyncError as error:
            again = f"Call again, or take one of {', '.join(MODEL_PURPOSES)}."
            error.advise(
                message=f"Whether there is a model {shown!r} cannot be told: the API's own list could not be "
                f"read ({error.code}). {error.message}",
                next_step=again if error.retryable else None,
            )
            raise
        if name in listed:
            return []
        # What is no plain name is text of a stranger's.
        others = [other for other in sorted(listed - MODEL_PURPOSES.keys()) if other == clean(other, 60)]
        known = [*MODEL_PURPOSES, *others]
        named = ", ".join(known[:_MODELS_NAMED])
        return [f"There is no model {shown!r}{near(name[:80], known)} Models: {named}."]

    @property
    def voice_names(self) -> Mapping[str, str]:
        """What voices are called, by whichever id, as far as the API told them some minutes ago."""
        return {
            id: voice.name
            for voice in self._voices.known or ()
            for id in (voice.id, voice.voice_id, voice.internal_voice_id)
            if id and voice.name
        }

    async def models(self) -> "list[ModelInfo]":
        """Return the models that the account can use, as the API told them some minutes ago at most."""
        return await self._models.get()

    async def voices(self) -> "list[Voice]":
        """Return the account's voices, as the API told them some minutes ago at most."""
        return await self._voices.get()

    async def plan(self) -> str | None:
        """Return the name of the account's plan, told some minutes ago at most; None where it is not told."""
        try:
            return await self._plan.get()
        except SyncError as error:
            logger.info("the account's plan is not known: %s", error)
            return None

    async def error_info(self, code: str) -> "ErrorInfo | None":
        """Return what the API's own catalogue says of an error code, where it can be read."""
        try:
            return (await self._errors.get()).get(code)
        except SyncError:
            return None

    async def explain_missing(self, generation_id: str) -> SyncError | None:
        """Return what the ledger says of a job that the API does not show; None where it knows none."""
        try:
            return await self.guard.explain_missing(self.client, generation_id)
        except LedgerError as error:
            logger.warning("what the ledger says of a job cannot be told: %s", error)
            return None

    def _api_host(self) -> str:
        return urlsplit(self._client.base_url).netloc.lower() if self._client else ""

    async def _knows_job(self, generation_id: str) -> bool:
        return await self.explain_missing(generation_id) is not None

    async def aclose(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _fetch_models(self) -> "list[ModelInfo]":
        return await self.client.models.list(
            request_options={"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
        )

    async def _fetch_voices(self) -> "list[Voice]":
        return await self.client.voices.list(request_options={"timeout_in_seconds": _VOICES_TIMEOUT_SECONDS})

    async def _fetch_plan(self) -> str | None:
        account = await self.client.account.get(
            request_options={"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
        )
        return account.plan_name

    async def _fetch_errors(self) -> "dict[str, ErrorInfo]":
        listed = await self.client.errors.list(
            request_options={"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
        )
        return {entry.code: entry for entry in listed}


ReportProgress = Callable[[str], Awaitable[None]]
"""Tells the client in a line that a call goes on; the figure beside it is the seconds since the call came."""


@dataclass(slots=True)
class Payment:
    """Whether a call has come so far that it can have cost money."""

    has_begun: bool = False

    def begin(self) -> None:
        self.has_begun = True


@dataclass(frozen=True, slots=True)
class CallContext:
    """One tool call: the process's backend, the client's progress, and when the call must have ended."""

    backend: Backend
    report_progress: ReportProgress
    ends_at: float
    user: User = NOBODY
    payment: Payment = field(default_factory=Payment)
    caller: str | None = None
    """The name of the token that the call came with over HTTP, where it has one."""
    withheld: Mapping[str, Off] = field(default_factory=dict[str, Off])
    """The tools that are off for this call, by name."""

    @property
    def can_save(self) -> bool:
        """Whether a result can be saved by another call: the tool is on, and there is a folder for it."""
        return "download_generation" not in self.withheld and self.backend.roots.can_save

    @property
    def can_create(self) -> bool:
        """Whether a video can be made by another call."""
        return "create_generation" not in self.withheld

    @property
    def seconds_left(self) -> float:
        return max(0.0, min(self.ends_at, self.backend.ends_at) - anyio.current_time())

    @property
    def answer_at(self) -> float:
        """When, on anyio's clock, what there is then has to be put into an answer."""
        return anyio.current_time() + max(0.0, self.seconds_left - ANSWER_SECONDS)

    @property
    def reading(self) -> "RequestOptions":
        """The options of a read that is to end in time for an answer."""
        return {"timeout_in_seconds": max(1.0, self.seconds_left - ANSWER_SECONDS)}
