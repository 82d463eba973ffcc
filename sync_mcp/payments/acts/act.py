"""A paid act: one thing that costs money, of whichever kind, as everything else in payments sees it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from sync_mcp.api import kinds
from sync_mcp.api.checks import plain_host
from sync_mcp.api.client import AsyncSync
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import RUNNING_STATUSES, GenerationCost, Json, LocalMedia
from sync_mcp.api.options import RequestOptions
from sync_mcp.payments.canonical import sha256_of
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.price import Price
from sync_mcp.texts import PIECE_LIMIT, clean


class Job(kinds.Job, Protocol):
    """What the API runs for an act."""

    @property
    def status(self) -> str:
        """How far it is, in the API's word."""
        ...

    @property
    def finished(self) -> bool:
        """Whether its status can no longer change."""
        ...

    @property
    def error_code(self) -> str | None:
        """Why it has no result, where the API says so."""
        ...


JobT_co = TypeVar("JobT_co", bound=Job, covariant=True)

FIRST_KIND = "generation"
"""What every act was before there were others."""
WEBHOOK = "webhookUrl"
"""The name under which the ledger keeps a webhook, of whichever kind."""
COMPLETED = "COMPLETED"
"""The ledger's word for the status of a job that has its result, of whichever kind."""
FAILED_STATUSES = frozenset({"FAILED", "REJECTED", "CANCELED"})
"""Its words for one that ended without."""


class PaidAct(ABC, Generic[JobT_co]):
    """One thing that costs money, in its canonical form: what means the same is the same act.

    Two acts of one `kind` whose `meaning` is the same are made and paid once. A kind adds what only it knows;
    what a kind has no part in, such as local files or a webhook, it leaves as it is here.

    Attributes:
        kind: the name of its kind, as it stands in the ledger.
        noun: what it makes, in one word: "video".
        completed_status: the API's word for a job that has its result.
        running_statuses: the API's words for a job that is to end yet.
        is_priced: whether the API publishes what it costs.
        list_tool: the tool that shows what is there of it; "" where the API has no list.
        body: its canonical JSON; what a local file holds stands in the place of its asset.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]
    completed_status: ClassVar[str] = COMPLETED
    running_statuses: ClassVar[frozenset[str]] = frozenset(RUNNING_STATUSES)
    is_priced: ClassVar[bool] = True
    list_tool: ClassVar[str] = "list_generations"

    body: Json

    # What it is

    @cached_property
    def meaning(self) -> object:
        """What its digest is of: all that decides what is made, and nothing else."""
        return self.body

    @cached_property
    def identity(self) -> object:
        """Its meaning, which no act of another kind shares."""
        # Digests of generations are older than the other kinds, and never change.
        return self.meaning if self.kind == FIRST_KIND else [self.kind, self.meaning]

    @cached_property
    def made_digest(self) -> str:
        """SHA-256 of what is made, for whichever account and take."""
        return sha256_of(self.identity)

    @property
    @abstractmethod
    def model(self) -> str:
        """What makes it."""

    @cached_property
    @abstractmethod
    def summary(self) -> str:
        """One line for the user, without query strings."""

    @abstractmethod
    def name(self, room: int) -> str:
        """Return what it is called in a list, in so many characters at most."""

    @abstractmethod
    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return what is to be made, a line for each piece, with what others wrote in quotes and bounded.

        `voice_names` are what voices are called, by their ids.
        """

    @cached_property
    def extras(self) -> Json:
        """What says what becomes of the result and does not count; of a secret its digest alone."""
        return {}

    @property
    def avowal(self) -> str | None:
        """What the user says by their yes beside that it may be paid; a yes to other words is none to it."""
        return None

    @property
    def webhook_url(self) -> str | None:
        """Where the finished job's URL is sent."""
        return None

    @property
    def webhook_host(self) -> str | None:
        """The host that is told of the end of its job, and gets its URL."""
        url = self.webhook_url
        # What names no host plainly is on nobody's list.
        return (plain_host(url) or clean(url, PIECE_LIMIT)) if url else None

    @property
    def parts(self) -> "Sequence[PaidAct[Job]]":
        """What it is made of, where its price is the sum of theirs; empty for an act that is one."""
        return ()

    @property
    def local_media(self) -> Sequence[LocalMedia]:
        """The local files that are to be uploaded before it can be sent."""
        return ()

    @cached_property
    def signers(self) -> Sequence[str]:
        """Whose signatures on its URLs do not count, each for the user: "Amazon S3 signature"."""
        return ()

    def earlier_body_digests(self, account: str, base_url: str) -> tuple[str, ...]:
        """Return what earlier versions of this package made of it: by these their entries are found."""
        return ()

    @cached_property
    def has_loose_earlier_digest(self) -> bool:
        """Whether an entry that is found by an earlier digest may be of another act."""
        return False

    # The same in another form

    def with_assets(self, assets: Mapping[str, str]) -> Self:
        """Return it with the asset of each local file, by its `asset_key`, in its place.

        Raises:
            KeyError: a file has none.
        """
        return self

    def with_body_parameters(self, parameters: Mapping[str, object]) -> Self:
        """Return it with more fields of the API's own."""
        raise NotImplementedError(f"Nothing can be added to the body of a {self.kind}.")

    def with_first_extras(self, extras: Json) -> tuple[Self, bool]:
        """Return it as an earlier call with these extras sent it, and whether that is all of it."""
        return self, True

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
        """Return what it is likely to cost; unknown of a kind for which the API publishes no price.

        `hint_seconds` and `fps` are the caller's word, which sets no price; `measured` is what the API said
        of the same once it had the files.

        Raises:
            SyncError: it could not be sent either.
        """
        return Price(None, f"the API publishes no price for a {self.noun}")

    def faults_at(self, price: Price) -> list[str]:
        """Return a sentence for each thing that is wrong with it by what its price says of the media."""
        return []

    # Its job

    def check_is_sendable(self) -> None:
        """Raise where it cannot be sent as it is.

        Raises:
            InvalidRequestError: why.
        """

    def body_under(self, key: str) -> Json:
        """Return what is sent under a key, where the key stands in it too."""
        del key
        return self.body

    @classmethod
    @abstractmethod
    def job_kind(cls) -> JobKind[JobT_co]:
        """Return how the API makes such jobs, and whether it lists and exports them."""

    @classmethod
    def job_kind_of(cls, extras: Json) -> JobKind[JobT_co]:
        """Return how the API made, or was to make, the job of an entry with these extras."""
        return cls.job_kind()

    @property
    def kind_of_send(self) -> JobKind[JobT_co]:
        """How this one is sent, where the API has more ways than one to make such jobs."""
        return self.job_kind_of(self.extras)

    def otherwise(self, sync: AsyncSync) -> Self | None:
        """Return it to be sent in the API's other way; None where there is none."""
        return None

    @classmethod
    def recall(cls, job_id: str, extras: Json, assets: Mapping[str, str]) -> JobT_co | None:
        """Return a job of which the API can tell nothing more, by what the ledger kept; None of any other."""
        return None

    @classmethod
    @abstractmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> JobT_co | None:
        """Return a job of this kind, or None where the API does not show it.

        Raises:
            SyncError: the API cannot tell.
        """

    @classmethod
    async def cost_of(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> GenerationCost | None:
        """Return what a job of this kind did cost, as far as the API tells it; None where it cannot."""
        return None

    @classmethod
    async def find_billed(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> Sequence[str]:
        """Return the ids by which the API's export tells what a job of this kind did cost; none without it.

        Raises:
            SyncError: the API cannot tell.
        """
        return (job_id,) if cls.job_kind().is_exported else ()

    @classmethod
    def status_of(cls, job: Job) -> str:
        """Return how a job stands, in the ledger's words: the API's, but for a job that has its result."""
        return COMPLETED if job.status == cls.completed_status else job.status
