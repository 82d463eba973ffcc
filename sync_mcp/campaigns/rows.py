"""What a campaign is: a plan with a total, and a row for each video that is to be made.

The runner may repeat, only the ledger pays: what stands in a row is written after the ledger's entry, and
says what is to be done next, never what was paid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Literal, cast

from sync_mcp.api.models import GenerationRequest, Json, LocalMedia
from sync_mcp.payments.attempt import Account
from sync_mcp.payments.files import with_local_media
from sync_mcp.texts import MESSAGE_LIMIT, safe, visible

CampaignState = Literal["planned", "approved", "waiting", "paused", "stopped", "ended"]
"""Of a campaign: it waits for the user's yes (`planned`); its rows are made in turn (`approved`), at a later
time of its own (`waiting`: the day's budget is spent, or the API is closed), or once the user says so
(`paused`: its budget is spent, or the account cannot pay); the user stopped it (`stopped`: what runs is
still fetched); no row of it is left to do (`ended`)."""

RowState = Literal[
    "planned",
    "running",
    "made",
    "saving",
    "saved",
    "failed",
    "charged",
    "unsaved",
    "unknown",
    "refused",
    "dearer",
    "stuck",
    "skipped",
]
"""Of a row: to be made (`planned`); a lane has it (`running`); made, and to be fetched (`made`); on its
way here (`saving`); its video lies here (`saved`). What is left to the user: it failed, free, as often
as is tried (`failed`); it failed and was or may have been charged (`charged`); it was made, and cannot
be saved (`unsaved`); nobody can tell whether it was made (`unknown`); it cannot be made as it is
(`refused`); at its turn it cost more than planned (`dearer`); its runner died of it three times
(`stuck`). The campaign was stopped before its turn (`skipped`)."""

ROW_WORDS: Mapping[RowState, str] = {
    "saved": "saved",
    "saving": "being fetched",
    "made": "made, to be fetched",
    "running": "being made",
    "planned": "waiting for a turn",
    "failed": "failed, not charged",
    "charged": "failed, charged or perhaps so",
    "unsaved": "made, and not saved",
    "unknown": "not known whether made",
    "refused": "cannot be made as it is",
    "dearer": "dearer than planned, not sent",
    "stuck": "broke the run off three times",
    "skipped": "skipped: stopped before its turn",
}
"""How a row stands, as people read it; the order in which they are told."""

TO_DO: tuple[RowState, ...] = ("planned", "running", "made", "saving")
"""What a runner has to do with still."""
NEEDS_USER: tuple[RowState, ...] = ("failed", "charged", "unsaved", "unknown", "refused", "dearer", "stuck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One plan. Times are seconds since 1970.

    Attributes:
        id: short, for the command line: "c-5f0a91".
        principal: for whom, where many share a ledger; empty as long as they are one.
        account: whose money it is, as the ledger names the account.
        base_url: the API's origin.
        is_sandbox: whether no real money is spent.
        name: what the user calls it, by default the file's name.
        digest: of all rows' digests and prices: what the user agrees to.
        state: see `CampaignState`.
        reason: why it waits or is paused, in a sentence for the user.
        resumes_at: when a waiting one goes on.
        total_usd: what all rows are likely to cost, each without a known price at `max_usd_per_row`.
        budget_usd: the most that it may spend, where the user said so.
        max_usd_per_row: what a row without a known price counts, and may cost as far as that is known at its
            turn, where the user said so.
        source: the file that it was planned from, or the folder of its clips: what lies beside may be read;
            empty where nothing there may, as of what an assistant has planned.
        folder: where the videos and the report go.
        created_at: when it was planned: an approval is for this plan, within an hour.
        approved_at: when the user agreed.
    """

    id: str
    principal: str = ""
    account: str
    base_url: str
    is_sandbox: bool
    name: str
    digest: str
    state: CampaignState = "planned"
    reason: str | None = None
    resumes_at: float | None = None
    total_usd: Decimal
    budget_usd: Decimal | None = None
    max_usd_per_row: Decimal | None = None
    source: str
    folder: str
    created_at: float
    approved_at: float | None = None

    def is_of(self, account: Account) -> bool:
        """Return whether an account pays for it."""
        return (self.account, self.base_url) == (account.name, account.base_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One video of a campaign. Times are seconds since 1970.

    Attributes:
        campaign: its id.
        number: from 1; in the order of the file.
        line: of the file, where there is one: the first is 1.
        about: what it is, as a list shows it: "talk.mp4, dubbed into fr".
        language: the language that it is made in, where it is a dub; "" otherwise.
        request: what it asks for: `body` as it is sent, with what each local file holds in place of its
            asset, and `files`, where those lie: `path`, `type`, `sha256` and `name` of each.
        digest: what it means; two rows with one digest are one job.
        take: tells apart what is made again on purpose.
        price_usd: what it is likely to cost, as it was planned; None where nobody knows.
        state: see `RowState`.
        lane: who has it, while it runs.
        attempts: how often it was made and failed free.
        begun: how often its runner died while it read the row's files or saved its video, one time after the
            other.
        looks: how often it was looked for or fetched, or its files were read, in vain.
        is_begun: whether something may have been sent for it of which nothing is noted: then it is not
            skipped, whatever becomes of its campaign.
        not_before: when it may be taken next.
        generation_id: its job, once there is one.
        dearer_usd: what it was likely to cost at its turn, where that was more than planned.
        output: the file that its video is to be saved as, in the campaign's folder, without folder.
        saved_as: where its video lies, whole path.
        cost_usd: what it did cost, as the ledger knows it by now.
        error: what went wrong last, with the next step, in a sentence or two for the user.
        changed_at: when its state changed last.
    """

    campaign: str
    number: int
    line: int | None = None
    about: str
    language: str = ""
    request: Json
    digest: str
    take: int = 1
    price_usd: Decimal | None
    state: RowState = "planned"
    lane: str | None = None
    attempts: int = 0
    begun: int = 0
    looks: int = 0
    is_begun: bool = False
    not_before: float = 0.0
    generation_id: str | None = None
    dearer_usd: Decimal | None = None
    output: str
    saved_as: str | None = None
    cost_usd: Decimal | None = None
    error: str | None = None
    changed_at: float = 0.0

    @property
    def clip(self) -> str:
        """The name of the file of its face; where that is none on this machine, what it is."""
        files = cast(Sequence[Mapping[str, str]], cast(Mapping[str, Any], self.request)["files"])
        path = next((file["path"] for file in files if file["type"] in ("video", "image")), None)
        return visible(PurePath(path).name) if path else safe(self.about, MESSAGE_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What a campaign comes to, in USD.

    Attributes:
        planned: of all its rows; what has no known price counts the most that it may cost.
        spent: of what was made for it and charged, failed and repeated too, as far as its cost is known by
            now. What was there before, the campaign has not paid.
        held: of what runs, or has no known cost yet: its prices.
    """

    planned: Decimal
    spent: Decimal
    held: Decimal


def count_usd(price_usd: Decimal | None, most_usd: Decimal | None) -> Decimal:
    """Return what a row counts: its price, or the most that it may cost where nobody knows that."""
    return price_usd if price_usd is not None else most_usd or Decimal(0)


def request_of(row: Row) -> GenerationRequest:
    """Return what a row asks for, each local file by what it holds."""
    kept = cast(Mapping[str, Any], row.request)
    media = [
        LocalMedia(type=each["type"], sha256=each["sha256"], name=each["name"]) for each in kept["files"]
    ]
    return with_local_media(GenerationRequest.from_wire(kept["body"]), media)
