"""The kinds of jobs that the API makes, as the one resolver of doubt knows them.

A kind says all that `create` has to know of what it makes: where it is posted, how an answer is read, and how
the API's list of such jobs is searched, or that there is none.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, Self, TypeVar

from sync_mcp.api.http import Transport
from sync_mcp.api.matching import Likeness, compare
from sync_mcp.api.models import Generation, Json
from sync_mcp.api.options import RequestOptions


class Job(Protocol):
    """What the API makes of a create: a model of the wire, such as `Generation`."""

    @property
    def id(self) -> str:
        """What it is asked for by."""
        ...

    @property
    def created_at(self) -> datetime | None:
        """When it was made, by the API's clock; None where that is not told."""
        ...

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read an answer of the API.

        Raises:
            pydantic.ValidationError: it is none.
        """
        ...

    @classmethod
    def list_from_wire(cls, entries: Sequence[object]) -> list[Self]:
        """Read a list of the API's, without the entries that cannot be read."""
        ...

    def to_wire(self) -> Json:
        """Return the JSON object as the API spells it."""
        ...


JobT = TypeVar("JobT", bound=Job)
_JobT_co = TypeVar("_JobT_co", bound=Job, covariant=True)


ReadMore = Callable[[Transport, Json, RequestOptions], Awaitable[Json]]
"""Returns more fields of a job, by what the list shows of it.

Raises:
    SyncError: they cannot be read now.
"""


@dataclass(frozen=True, slots=True)
class JobList:
    """The API's list of the jobs of a kind: pages of at most 100, newest first, and their number.

    Attributes:
        path: where it is read, by `limit` and `cursor`; whole where there is no count.
        count_path: where the API says how many there are; None where the list has no pages.
        compare: says how like a job that is shown is to a body that was sent.
        is_exported: whether the API's export tells what they cost too.
        is_told_by_name: whether what is the same can be no other's, whenever it was made: nobody has two of
            one name, and it was looked whether the name is free before the create was sent; or it names
            the key.
        since: the parameter by which a list without pages is asked for what was made from a time on.
        read_more: reads what the list does not show of a job that may be the one.
    """

    path: str
    count_path: str | None
    compare: Callable[[Json, Json], Likeness]
    is_exported: bool = False
    is_told_by_name: bool = False
    since: str | None = None
    read_more: ReadMore | None = None


@dataclass(frozen=True, slots=True)
class JobKind(Generic[_JobT_co]):
    """A kind of job that is made by a POST, most of them under an `Idempotency-Key`.

    Attributes:
        name: what such a job is called in a sentence.
        path: where it is posted; one job is read at `path`/`id`.
        model: what an answer is read as.
        listed: the API's list of them; None where it has none.
        keeps_keys: whether the API's documentation says that a repeat under the same key is answered with the
            job of the first. It counts where there is no list alone: there a repeat is the one way to find
            out what came of a lost answer, and without that word nothing goes out again.
        has_keys: whether the POST takes a key at all; without one nothing that may have arrived goes out
            again.
        not_offered_status: by which the API says that the organization does not have such jobs.
        named_in: the fields in which an answer of unknown outcome names the job, besides `id` in a success.
        refused_by: the codes by which the API says, in whatever status, that nothing was made.
    """

    name: str
    path: str
    model: type[_JobT_co]
    listed: JobList | None = None
    keeps_keys: bool = False
    has_keys: bool = True
    not_offered_status: int | None = None
    named_in: Sequence[str] = ()
    refused_by: Sequence[str] = ()

    @property
    def leaves_no_trace(self) -> bool:
        """Whether nobody can find out what came of one whose answer was lost."""
        return self.listed is None and not self.keeps_keys

    @property
    def is_exported(self) -> bool:
        """Whether the API's export of finished jobs has them."""
        return self.listed is not None and self.listed.is_exported


GENERATIONS = JobKind(
    name="generation",
    path="/v2/generate",
    model=Generation,
    listed=JobList("/v2/generations", "/v2/generations/count", compare, is_exported=True),
    named_in=("generationId",),
)
"""Lip-sync jobs (API §3.1, §3.4). Their keys are documented too (API §14), and nobody has seen them kept on
the live API: the list is asked."""
