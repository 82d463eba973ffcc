"""What the API lists for an account, asked for again when it is some minutes old."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import anyio

from sync_mcp.api.catalogue import ErrorInfo, ModelInfo
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.options import RequestOptions
from sync_mcp.api.voices import Voice
from sync_mcp.errors import SyncError

CATALOGUE_TIMEOUT_SECONDS = 8.0
_KEPT_SECONDS = 300.0
_VOICES_TIMEOUT_SECONDS = 30.0

_KeptT = TypeVar("_KeptT")

logger = logging.getLogger("sync_mcp.tools")


class _Kept(Generic[_KeptT]):
    def __init__(self, fetch: Callable[[], Awaitable[_KeptT]]) -> None:
        self._fetch = fetch
        self._value: _KeptT | None = None
        self._fetched_at = 0.0
        self._asking = anyio.Lock()
        self._answers = 0
        self._fault: SyncError | None = None

    @property
    def latest(self) -> _KeptT | None:
        """The list as it was told last, where it was."""
        return self._value

    def forget(self) -> None:
        """Have the list fetched anew by who wants it next."""
        self._value = None

    async def get(self) -> _KeptT:
        if self._value is None or anyio.current_time() - self._fetched_at > _KEPT_SECONDS:
            answers = self._answers
            async with self._asking:
                if answers == self._answers:
                    await self._ask()
                elif self._fault is not None:
                    # Of many who want it at once one asks, and what it was told is told to all.
                    raise self._fault
        # It can have been forgotten meanwhile.
        return await self.get() if self._value is None else self._value

    async def _ask(self) -> None:
        try:
            self._value = await self._fetch()
            self._fetched_at = anyio.current_time()
            self._fault = None
        except SyncError as error:
            self._fault = error
            raise
        finally:
            self._answers += 1


class KeptLists:
    """The models, voices, plan and error codes of one account, as its own key is told them."""

    def __init__(self, client_of: Callable[[], AsyncSync]) -> None:
        self._client_of = client_of
        self._models = _Kept(self._fetch_models)
        self._voices = _Kept(self._fetch_voices)
        self._errors = _Kept(self._fetch_errors)
        self._plan = _Kept(self._fetch_plan)

    @property
    def voice_names(self) -> Mapping[str, str]:
        """What voices are called, by whichever id, as far as the API told them some minutes ago."""
        return {
            id: voice.name
            for voice in self._voices.latest or ()
            for id in (voice.id, voice.voice_id, voice.internal_voice_id)
            if id and voice.name
        }

    async def models(self) -> list[ModelInfo]:
        """Return the models that the account can use, as the API told them some minutes ago at most.

        Raises:
            SyncError: they could not be read.
        """
        return await self._models.get()

    async def voices(self) -> list[Voice]:
        """Return the account's voices, as the API told them some minutes ago at most.

        Raises:
            SyncError: they could not be read.
        """
        return await self._voices.get()

    def forget_voices(self) -> None:
        """Have the voices listed anew: there is one more, or one less."""
        self._voices.forget()

    async def plan(self) -> str | None:
        """Return the name of the account's plan, told some minutes ago at most; None where it is not told."""
        try:
            return await self._plan.get()
        except SyncError as error:
            logger.info("the account's plan is not known: %s", error)
            return None

    async def error_info(self, code: str) -> ErrorInfo | None:
        """Return what the API's own catalogue says of an error code, where it can be read."""
        try:
            return (await self._errors.get()).get(code)
        except SyncError:
            return None

    async def _fetch_models(self) -> list[ModelInfo]:
        return await self._client_of().models.list(request_options=_SOON)

    async def _fetch_voices(self) -> list[Voice]:
        return await self._client_of().voices.list(
            request_options={"timeout_in_seconds": _VOICES_TIMEOUT_SECONDS}
        )

    async def _fetch_plan(self) -> str | None:
        return (await self._client_of().account.get(request_options=_SOON)).plan_name

    async def _fetch_errors(self) -> dict[str, ErrorInfo]:
        listed = await self._client_of().errors.list(request_options=_SOON)
        return {entry.code: entry for entry in listed}


_SOON: RequestOptions = {"timeout_in_seconds": CATALOGUE_TIMEOUT_SECONDS}
