"""What the tests of campaigns are made of: a ledger's clock, campaigns in a ledger, a run on the sandbox."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sync_mcp import AsyncSync, Ledger
from sync_mcp.api.models import Json
from sync_mcp.campaigns.book import CampaignBook
from sync_mcp.campaigns.campaigns import Campaigns
from sync_mcp.campaigns.rows import Campaign, Row, RowState, request_of
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.campaigns.tables import MAKE, SAVE, Step
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Attempt, Instant
from sync_mcp.payments.guard import Guard
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.limits import Limits
from sync_mcp.payments.price import Price
from sync_mcp.sandbox import Sandbox

ACCOUNT, BASE_URL = "org:one", "https://api.example.com"
NOON = 1_789_560_000.0
PRICE = Decimal("0.226")
"""Of a job from the samples with lipsync-2."""
CREATE = "/v2/generate"


class Clock:
    """The time by which a ledger goes, moved by hand; it stands still between."""

    def __init__(self) -> None:
        self.now = NOON


@dataclass(slots=True)
class Desk:
    """A ledger's campaigns, and one runner's hand on them."""

    book: CampaignBook
    holder: str = "one"
    account: str = ACCOUNT

    def hold(self) -> str | None:
        return self.book.hold_runner(self.account, BASE_URL, self.holder, f"the place of {self.holder}")

    def let_go(self) -> None:
        self.book.let_go_runner(self.account, BASE_URL, self.holder)

    def find(self, step: Step = MAKE, lane: str = "1") -> tuple[Campaign, Row] | None:
        return self.book.take_row(self.account, BASE_URL, self.holder, f"{self.holder}-{lane}", step)

    def take(self, step: Step = MAKE, lane: str = "1") -> Row:
        found = self.find(step, lane)
        assert found is not None
        return found[1]

    def is_done(self) -> bool:
        return self.book.has_nothing_left(self.account, BASE_URL)

    def save(self, row: Row, generation_id: str = "g") -> None:
        """Have a row made and saved."""
        self.book.note(row, state="made", generation_id=generation_id)
        self.book.note(self.take(SAVE), state="saved", saved_as="/v.mp4")


def a_request(name: str) -> Json:
    video = f"https://h.example/{name}.mp4"
    media = [{"type": "video", "url": video}, {"type": "audio", "url": "https://h.example/a.wav"}]
    return {"body": {"model": "lipsync-2", "input": media}, "files": []}


def a_row(number: int, **changes: Any) -> Row:
    row = Row(
        campaign="",
        number=number,
        about=f"clip-{number}.mp4",
        request=a_request(f"clip-{number}"),
        digest=f"digest-{number}",
        price_usd=Decimal(1),
        output=f"clip-{number}.mp4",
    )
    return replace(row, **changes)


def a_campaign(**changes: Any) -> Campaign:
    campaign = Campaign(
        id="c-1",
        account=ACCOUNT,
        base_url=BASE_URL,
        is_sandbox=False,
        name="course.csv",
        digest="of all",
        total_usd=Decimal(3),
        source="/videos/course.csv",
        folder="/videos/out",
        created_at=NOON,
    )
    return replace(campaign, **changes)


def planned(book: CampaignBook, rows: Sequence[Row] | int = 3, **changes: Any) -> Campaign:
    """Keep a plan."""
    campaign = a_campaign(**changes)
    given = [a_row(number + 1) for number in range(rows)] if isinstance(rows, int) else rows
    return book.keep(campaign, [replace(row, campaign=campaign.id) for row in given])


def approved(book: CampaignBook, rows: Sequence[Row] | int = 3, **changes: Any) -> Campaign:
    """Keep a plan that the user has agreed to."""
    return book.approve(planned(book, rows, **changes).id)


def states(book: CampaignBook, id: str = "c-1") -> list[RowState]:
    return [row.state for row in book.rows(book.get(id))]


def pay(
    ledger: Ledger, name: str, usd: str | None = "1", *, cost: str | None = None, campaign: str = "c-1"
) -> None:
    """Have a job made for a campaign, as the guard writes it down."""
    act = GenerationAct.of(request_of(a_row(1, request=a_request(name))))
    price = Price(None if usd is None else Decimal(usd))
    entry, _ = ledger.begin(
        Attempt(
            Intention(act, ACCOUNT, BASE_URL, 1),
            1,
            "campaign",
            "me",
            Limits(),
            Instant(NOON),
            price,
            campaign=campaign,
            is_agreed=True,
        )
    )
    ledger.accept(entry.id, f"job-{name}")
    if cost is not None:
        ledger.settle(
            entry.id,
            generation_id=f"job-{name}",
            status="COMPLETED",
            error_code=None,
            cost_usd=Decimal(cost),
            charged="yes",
            now=NOON,
        )


class Studio:
    """An account on the sandbox, its ledger, and campaigns of real requests in a folder of their own."""

    def __init__(self, sandbox: Sandbox, sync: AsyncSync, folder: Path, home: Path) -> None:
        self.sandbox = sandbox
        self.sync = sync
        self.folder = folder
        self.home = home
        self.turns: list[tuple[int, RowState]] = []
        self.campaigns = self.open()

    def open(self, *, slots: int | None = 2, roots: Sequence[Path] = (), **limits: str) -> Campaigns:
        """Open the campaigns as a process of their own has them."""
        guard = Guard(Ledger(self.home), Limits(**{name: Decimal(usd) for name, usd in limits.items()}))
        self.campaigns = Campaigns(guard, slots=slots, roots=roots)
        return self.campaigns

    @property
    def book(self) -> CampaignBook:
        return self.campaigns.book

    def line(self, number: int, **given: Any) -> Line:
        video = f"{self.sandbox.samples.video}?{number}"
        cells: dict[str, Any] = {"video": video, "audio": self.sandbox.samples.audio, "model": "lipsync-2"}
        return Line(number=number, **{**cells, **given})

    async def plan(self, rows: int | Sequence[Line] = 1, **terms: Any) -> Campaign:
        lines = [self.line(number + 1) for number in range(rows)] if isinstance(rows, int) else rows
        terms = {"name": "course", "output": self.folder / "out", **terms}
        made = await self.campaigns.plan(self.sync, self.folder, table=Table(lines), **terms)
        return made.campaign

    async def approve(self, rows: int | Sequence[Line] = 1, **terms: Any) -> Campaign:
        """Plan a campaign that the user agrees to."""
        return await self.campaigns.approve((await self.plan(rows, **terms)).id)

    async def run(self, on_turn: Callable[[Campaign, Row], None] | None = None) -> None:
        def note(campaign: Campaign, row: Row) -> None:
            self.turns.append((row.number, row.state))
            if on_turn is not None:
                on_turn(campaign, row)

        await self.campaigns.run(self.sync, on_turn=note)

    def rows(self, campaign: Campaign) -> list[Row]:
        return self.book.rows(self.book.get(campaign.id))

    def states(self, campaign: Campaign) -> list[RowState]:
        return [row.state for row in self.rows(campaign)]

    @property
    def charged(self) -> list[Decimal]:
        """What jobs were charged."""
        return [charge.amount_usd for charge in self.sandbox.charges if not charge.released]

    @property
    def sent(self) -> list[str | None]:
        """The keys of the creates that reached the API."""
        return [
            request.headers.get("idempotency-key")
            for request in self.sandbox.requests
            if (request.method, request.path) == ("POST", CREATE)
        ]


def when(state: RowState, act: Callable[[], object]) -> Callable[[Campaign, Row], None]:
    """Return what does something the first time that a row comes into a state."""
    done: list[object] = []

    def note(campaign: Campaign, row: Row, *, expected: RowState) -> None:
        del campaign
        if row.state == expected and not done:
            done.append(True)
            act()

    return partial(note, expected=state)
