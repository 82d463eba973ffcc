"""One account: its client and what the API told it, its folders, its policy, its work and its waits.

Nothing here is shared with another account, whoever else the process serves.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import anyio

from sync_mcp.access import is_on_loopback
from sync_mcp.api.client import AsyncSync
from sync_mcp.background.watching import Hearing, Watcher
from sync_mcp.background.work import Work, do_in_thread
from sync_mcp.errors import ConfigurationError, LedgerError, SyncError
from sync_mcp.media.inputs import LocalReader
from sync_mcp.media.paths.roots import MediaRoots
from sync_mcp.media.paths.usual import usual_download_folder, usual_roots
from sync_mcp.requests.kept_lists import KeptLists
from sync_mcp.requests.own_outputs import OwnOutputs
from sync_mcp.tools.opening import WEBHOOK_PATH, AccountOpening, Folders, Policy
from sync_mcp.tools.process import Process

_ASKING_SECONDS = 2.0

logger = logging.getLogger("sync_mcp.tools")


def open_account(process: Process, opening: AccountOpening) -> "Account":
    """Return an account of a process; its key and folders are looked at by the first call that needs them."""
    connect = partial(AsyncSync, api_key=opening.api_key, base_url=opening.base_url)
    find_roots = partial(_find_roots, opening.folders)
    account = Account(
        process,
        connect,
        find_roots,
        opening.policy,
        campaign_slots=opening.campaign_slots,
        is_sandbox=opening.is_sandbox,
    )
    process.close_at_end(account.aclose)
    return account


class Account:
    """One for each account of a process; opened by the first call that is for it.

    `connect` and `find_roots` are called once each, by the first call that needs what they return.
    """

    def __init__(
        self,
        process: Process,
        connect: Callable[[], AsyncSync],
        find_roots: Callable[[], MediaRoots],
        policy: Policy,
        *,
        campaign_slots: int | None,
        is_sandbox: bool,
    ) -> None:
        self._process = process
        self._connect = connect
        self._find_roots = find_roots
        self._client: AsyncSync | None = None
        self._roots: MediaRoots | None = None
        self._is_sandbox = is_sandbox
        self._asking = anyio.Lock()
        self._asked = False
        self.policy = policy
        """What its user lets be done unasked."""
        self.campaign_slots = campaign_slots
        """The most rows of campaigns that are made at once; None for as many as the API allows."""
        self.lists = KeptLists(lambda: self.client)
        """What the API lists for it."""
        hearing = Hearing(self._read_deliveries, WEBHOOK_PATH, policy.webhook_url)
        self.watcher = Watcher(lambda: self.client, process.tasks, self.explain_missing, hearing)
        """What every wait for a job goes through."""
        self.work = Work(process.tasks)
        """What goes on when the call that began it has ended."""
        self.outputs = OwnOutputs(self._api_host, self._knows_job)
        """The output URLs that were told."""
        self.unsaved_sounds = dict[str, str]()
        """The URLs of speech that the API told once, by its id, until it is an asset."""

    @property
    def client(self) -> AsyncSync:
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
    def roots(self) -> MediaRoots:
        """Which local files may be read and written."""
        if self._roots is None:
            self._roots = self._find_roots()
        return self._roots

    @property
    def local_reader(self) -> LocalReader:
        """What local media are read and uploaded by."""
        return LocalReader(self.roots, self.work)

    async def ask_whether_sandboxed(self) -> None:
        """Ask an API on this machine once whether it is a sandbox, so that the first answer can say so."""
        if self._asked or self._is_sandbox:
            return
        async with self._asking:
            if self._asked:
                return
            try:
                with suppress(SyncError):
                    if is_on_loopback(self.client.base_url):
                        await self.client.ping(
                            request_options={"timeout_in_seconds": _ASKING_SECONDS, "max_retries": 0}
                        )
            finally:
                self._asked = True

    @property
    def sandboxed(self) -> bool:
        """Whether the answers come from a sandbox."""
        return self._is_sandbox or (self._client is not None and self._client.sandboxed)

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

    async def explain_missing(self, job_id: str, kind: str = "generation") -> SyncError | None:
        """Return what the ledger says of a job that the API does not show; None where it knows none.

        `kind` is as it stands in the ledger.
        """
        try:
            return await self._process.guard.explain_missing(self.client, job_id, kind)
        except LedgerError as error:
            logger.warning("what the ledger says of a job cannot be told: %s", error)
            return None

    async def _read_deliveries(self, after: int) -> Sequence[tuple[int, str]]:
        ledger = self._process.guard.ledger
        return await do_in_thread(ledger.read_deliveries, self.client.base_url, after)

    async def aclose(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            await self._client.aclose()

    def _api_host(self) -> str:
        return urlsplit(self._client.base_url).netloc.lower() if self._client else ""

    async def _knows_job(self, generation_id: str) -> bool:
        return await self.explain_missing(generation_id) is not None


def _find_roots(folders: Folders) -> MediaRoots:
    if not folders.has_usual and folders.roots is None:
        return MediaRoots([], None)
    download_dir = folders.download_dir
    if download_dir is None and folders.has_usual:
        download_dir = usual_download_folder()
    return MediaRoots(usual_roots() if folders.roots is None else folders.roots, download_dir)
