"""Two accounts in one process, their calls interleaved: neither is told, asked or served what is the other's.

Once they have an address in common and differ by their keys, once they have key and organization in common
and differ by the address, where jobs even have the same ids.
"""

import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.server.lowlevel import Server

from sync_mcp import AsyncSync, GenerationRequest
from sync_mcp.api.models import LocalMedia
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.price import Price
from sync_mcp.payments.pricing import Pricing
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample
from sync_mcp.server import assemble_server
from sync_mcp.tools.account import open_account
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.context import Served
from sync_mcp.tools.opening import AccountOpening, BookOpening, Folders, Policy
from sync_mcp.tools.process import open_process
from sync_mcp.tools.toolsets import select_tools

from .assistant import Assistant, Facts, arrived, as_json, asked, media

pytestmark = pytest.mark.anyio

UNASKED = Policy(approve_above_usd=None, webhook_hosts=("example.com",))
ASKED = Policy(approve_above_usd=Decimal(0), approve_by="quote")
NAMES = ("apple", "pear")
PLANS = ("creator", "free")
JOB_SECONDS = 60


@dataclass
class Side:
    """One of the two: its assistant, and what the API, the disk and its user have for it alone."""

    name: str
    assistant: Assistant
    sandbox: Sandbox
    key: str
    folder: Path

    @property
    def model(self) -> str:
        return f"model-{self.name}"

    @property
    def voice(self) -> str:
        return f"Voice of the {self.name}"

    @property
    def local(self) -> list[Facts]:
        """Local files as inputs, of the same content on both sides."""
        return [
            {"type": "video", "path": str(self.folder / "talk.mp4")},
            {"type": "audio", "path": str(self.folder / "voice.wav")},
        ]

    def answer(self, path: str, status: int, body: Any) -> None:
        """Have the API answer the reads of this account alone in this way."""
        self.sandbox.add_fault(
            Fault(method="GET", path=path, key=self.key, status=status, body=body, times=None)
        )

    def hide(self, generation_id: str) -> None:
        """Have the API not know a job where this account asks for it: it is the other's."""
        self.answer(f"/v2/generat*/{generation_id}*", 404, {"message": "Not found", "statusCode": 404})

    async def create(self, **more: Any) -> str:
        made = await self.assistant.facts("create_generation", {"input": media(self.sandbox), **more})
        return made["generation_id"]


@dataclass
class Pair:
    first: Side
    second: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.first, self.second

    @property
    def share_address(self) -> bool:
        return self.first.sandbox is self.second.sandbox

    def advance(self, seconds: float) -> None:
        for sandbox in {id(side.sandbox): side.sandbox for side in self.sides}.values():
            sandbox.advance(seconds)

    async def both(self, tool: str, *arguments: Facts) -> tuple[Facts, Facts]:
        """Return what both are answered when they call a tool at the same time."""
        told: dict[str, Facts] = {}

        async def call(side: Side, given: Facts) -> None:
            told[side.name] = await side.assistant.facts(tool, given)

        async with anyio.create_task_group() as calls:
            for side, given in zip(self.sides, arguments or ({}, {}), strict=True):
                calls.start_soon(call, side, given)
        return told[self.first.name], told[self.second.name]


OpenPair = Callable[..., AbstractAsyncContextManager[Pair]]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Sandbox]:
    """Another API, which gives the same ids to its jobs."""
    with Sandbox(job_seconds=JOB_SECONDS) as sandbox:
        yield sandbox


ONE_ADDRESS = pytest.mark.parametrize("open_pair", ["one address"], indirect=True)
ONE_KEY = pytest.mark.parametrize("open_pair", ["one key"], indirect=True)


@pytest.fixture(params=["one address", "one key"])
def open_pair(
    request: pytest.FixtureRequest, sandbox: Sandbox, elsewhere: Sandbox, tmp_path: Path, home: Path
) -> OpenPair:
    """Serve two accounts with these policies from one process."""
    elsewhere.reset()
    share_address = request.param == "one address"
    sandboxes = (sandbox, sandbox if share_address else elsewhere)
    keys = ("sk_apple", "sk_pear" if share_address else "sk_apple")
    organizations = ("org_apple", "org_pear" if share_address else "org_apple")

    @asynccontextmanager
    async def open_it(*policies: Policy, has_key: bool = True) -> AsyncGenerator[Pair]:
        opening = BookOpening(str(home), False, {}, 12.0)
        async with open_process(opening) as process, AsyncExitStack() as clients:
            sides: list[Side] = []
            for number, name in enumerate(NAMES):
                folder = tmp_path / name
                folder.mkdir()
                shutil.copy(sample("speaker.mp4"), folder / "talk.mp4")
                shutil.copy(sample("speech.wav"), folder / "voice.wav")
                account = AccountOpening(
                    keys[number] if has_key or number else "",
                    sandboxes[number].url,
                    (policies or (UNASKED, UNASKED))[number],
                    Folders([folder], folder),
                )
                server = serve(Served(process, account))
                client = Client(server, mode="legacy", read_timeout_seconds=60)
                assistant = Assistant(await clients.enter_async_context(client))
                side = Side(name, assistant, sandboxes[number], keys[number], folder)
                describe(side, organizations[number], PLANS[number])
                sides.append(side)
            yield Pair(*sides)

    return open_it


def serve(served: Served) -> Server[Served]:
    @asynccontextmanager
    async def lifespan(_: Server[Served]) -> AsyncGenerator[Served]:
        yield served

    return assemble_server(select_tools(TOOLS), lifespan)


def describe(side: Side, organization: str, plan: str) -> None:
    """Have the API tell of an account of its own: whose it is, its plan, its models, its voices."""
    side.sandbox.configure(extra_models=tuple(f"model-{name}" for name in NAMES))
    side.answer(
        "/v2/account", 200, {"organization": {"id": organization, "name": side.name}, "plan": {"name": plan}}
    )
    models = [{"id": name, "name": name, "type": "lipsync"} for name in ("lipsync-2", side.model)]
    side.answer("/v2/models", 200, models)
    voice = {"id": f"voice-{side.name}", "voiceId": f"voice-{side.name}", "name": side.voice}
    side.answer("/v2/voices", 200, [{**voice, "provider": "elevenlabs"}])


@pytest.fixture
async def pair(open_pair: OpenPair) -> AsyncIterator[Pair]:
    async with open_pair() as two:
        yield two


def others(pair: Pair) -> Sequence[tuple[Side, Side]]:
    """Return each side with the other one."""
    return [(pair.first, pair.second), (pair.second, pair.first)]


async def test_each_account_is_told_of_its_own_models_and_refused_by_them(pair: Pair) -> None:
    for _ in range(2):
        told = await pair.both("list_models")
        assert [[row["model"] for row in facts["models"]] for facts in told] == [
            ["lipsync-2", "model-apple"],
            ["lipsync-2", "model-pear"],
        ]
    for side, other in others(pair):
        refused = await side.assistant.error(
            "estimate_cost", input=media(side.sandbox), model=f"{other.model}s"
        )
        assert side.model in refused.text
        assert f"{other.model}," not in refused.text.replace(f"{other.model}.", f"{other.model},")


async def test_each_account_is_told_of_its_own_voices_and_speaks_in_them(pair: Pair) -> None:
    told = await pair.both("list_voices")
    for (side, other), facts in zip(others(pair), told, strict=True):
        assert [voice["name"] for voice in facts["voices"]] == [side.voice]
        script = [media(side.sandbox)[0], {"type": "text", "script": "Hello.", "voice_id": other.voice}]
        side.answer("/v2/voices/*", 404, {"message": "Not found", "statusCode": 404})
        refused = await side.assistant.error("estimate_cost", input=script)
        assert "is no voice of this account" in refused.text
        assert f"voice-{other.name}" not in refused.text


async def test_each_account_goes_by_its_own_plan(pair: Pair) -> None:
    for _ in range(2):
        told = await pair.both("list_models")
        assert ["The free plan does not include react-1" in facts["note"] for facts in told] == [False, True]
    assert [facts["plan"] for facts in await pair.both("get_account")] == list(PLANS)


async def test_each_account_reads_and_saves_in_its_own_folders(pair: Pair) -> None:
    ids = [await side.create() for side in pair.sides]
    pair.advance(JOB_SECONDS + 1)
    told = await pair.both("download_generation", *({"generation_id": id} for id in ids))
    for (side, other), facts, id in zip(others(pair), told, ids, strict=True):
        assert Path(facts["path"]).parent == side.folder
        refused = await side.assistant.error("upload_asset", path=str(other.folder / "talk.mp4"))
        assert refused.code == "file_not_allowed"
        elsewhere = str(other.folder / "mine.mp4")
        refused = await side.assistant.error("download_generation", generation_id=id, path=elsewhere)
        assert refused.code == "file_not_allowed"


async def test_a_quote_of_one_account_is_no_yes_of_the_other(open_pair: OpenPair) -> None:
    async with open_pair(ASKED, ASKED) as pair:
        wants = [{"input": media(side.sandbox)} for side in pair.sides]
        quotes = [facts["quote_id"] for facts in await pair.both("estimate_cost", *wants)]
        for side, want, quote in zip(pair.sides, wants, reversed(quotes), strict=True):
            refused = await side.assistant.error("create_generation", {**want, "quote_id": quote})
            assert refused.code == "quote_refused"
            assert not side.sandbox.charges
        for side, want, quote in zip(pair.sides, wants, quotes, strict=True):
            await side.assistant.facts("create_generation", {**want, "quote_id": quote})


async def test_a_file_that_one_account_uploaded_is_uploaded_for_the_other_too(pair: Pair) -> None:
    paths = [{"path": str(side.folder / "talk.mp4")} for side in pair.sides]
    told = await pair.both("upload_asset", *paths)
    assert ["note" in facts for facts in told] == [False, False]
    for side, facts in zip(pair.sides, told, strict=True):
        assert len(puts(side.sandbox)) == (2 if pair.share_address else 1)
        again = await side.assistant.facts("upload_asset", path=str(side.folder / "talk.mp4"))
        assert again["asset_id"] == facts["asset_id"]


def puts(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.requests if request.method == "PUT"]


@ONE_ADDRESS
async def test_a_url_that_one_account_looked_at_is_looked_at_for_the_other_too(pair: Pair) -> None:
    for count, side in enumerate(pair.sides, 1):
        given = [side.local[0], media(side.sandbox)[1]]
        for _ in range(2):
            await side.assistant.facts("estimate_cost", input=given)
        assert len(asked(side.sandbox, "GET", "/samples/speech.wav")) == count


async def test_a_result_that_is_kept_for_one_account_is_not_shown_to_the_other(pair: Pair) -> None:
    id = await pair.first.create()
    if pair.share_address:
        pair.second.hide(id)
    pair.advance(JOB_SECONDS + 1)
    shown = await pair.first.assistant.client.call_tool("preview_generation", {"generation_id": id})
    assert not shown.is_error
    for tool in ("preview_generation", "download_generation", "get_generation"):
        refused = await pair.second.assistant.error(tool, generation_id=id)
        assert refused.code == "not_found"


@ONE_KEY
async def test_a_result_under_the_same_id_is_fetched_for_each_account(pair: Pair) -> None:
    ids = [await side.create() for side in pair.sides]
    assert ids[0] == ids[1]
    pair.advance(JOB_SECONDS + 1)
    for side, id in zip(pair.sides, ids, strict=True):
        shown = await side.assistant.client.call_tool("preview_generation", {"generation_id": id})
        assert not shown.is_error
        assert [one for one in side.sandbox.requests if one.path.startswith("/outputs/")]


async def test_an_output_url_of_one_account_is_not_recognised_for_the_other(pair: Pair) -> None:
    id = await pair.first.create()
    pair.advance(JOB_SECONDS + 1)
    done = await pair.first.assistant.facts("get_generation", generation_id=id)
    bare = str(done["output_url"]).partition("?")[0]
    given = [{"type": "video", "url": bare}, media(pair.first.sandbox)[1]]
    own = await pair.first.assistant.error("estimate_cost", input=given)
    assert "its signature is missing" in own.text
    told = await pair.second.assistant.call("estimate_cost", input=given)
    assert "its signature is missing" not in told.text


async def test_a_job_that_one_account_waits_for_is_not_told_to_the_other(pair: Pair) -> None:
    id = await pair.first.create()
    if pair.share_address:
        pair.second.hide(id)
    ended: list[Facts] = []

    async def wait() -> None:
        ended.append(await pair.first.assistant.facts("get_generation", generation_id=id, wait_seconds=40))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await arrived(pair.first.sandbox, "GET", f"/v2/generate/{id}*")
            refused = await pair.second.assistant.error("get_generation", generation_id=id, wait_seconds=5)
            assert refused.code == "not_found"
            waited = await pair.second.assistant.facts("wait_for_generations", ids=[id], wait_seconds=0)
            assert waited["generations"][0]["error_code"] == "not_found"
            pair.advance(JOB_SECONDS + 1)
    assert ended[0]["status"] == "COMPLETED"


async def test_a_job_that_the_api_does_not_show_yet_is_unknown_to_the_other_account(
    pair: Pair,
) -> None:
    pair.first.sandbox.add_fault(Fault(path="/v2/generate", get_lag_seconds=30, list_lag_seconds=30))
    id = await pair.first.create()
    own = await pair.first.assistant.error("get_generation", generation_id=id)
    assert own.code == "generation_not_visible"
    refused = await pair.second.assistant.error("get_generation", generation_id=id)
    assert refused.code == "not_found"


async def test_a_create_of_unknown_outcome_is_listed_for_its_own_account(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_mcp.server.CALL_SECONDS", 6.0)
    await pair.second.create(take=2)
    pair.first.sandbox.add_fault(Fault(path="/v2/generate", drop="before", times=None))
    unknown = await pair.first.assistant.error("create_generation", input=media(pair.first.sandbox))
    assert unknown.money_spent == "unknown"
    pair.first.sandbox.clear_faults()
    told = await pair.both("list_generations")
    assert ["unresolved" in facts for facts in told] == [True, False]


async def test_each_account_is_told_what_its_own_jobs_did_cost(pair: Pair) -> None:
    ids = [
        await side.create(model=model, take=take)
        for side, model, take in zip(pair.sides, ("lipsync-2", "sync-3"), (1, 2), strict=True)
    ]
    assert (ids[0] == ids[1]) is not pair.share_address
    pair.advance(JOB_SECONDS + 1)
    told = await pair.both("list_generations")
    costs = [
        next(row["cost_usd"] for row in facts["generations"] if row["generation_id"] == id)
        for facts, id in zip(told, ids, strict=True)
    ]
    assert costs[0] < costs[1]


async def test_an_account_without_a_key_hinders_no_other(open_pair: OpenPair) -> None:
    async with open_pair(has_key=False) as pair:
        refused = await pair.first.assistant.error("list_models")
        assert refused.code == "api_key_missing"
        assert await pair.second.assistant.facts("list_models")
        assert (await pair.first.assistant.error("list_models")).code == "api_key_missing"


async def test_the_connections_of_both_accounts_are_closed_with_the_process(
    sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[AsyncSync] = []
    close = AsyncSync.aclose

    async def note(client: AsyncSync) -> None:
        closed.append(client)
        await close(client)

    monkeypatch.setattr(AsyncSync, "aclose", note)
    async with open_process(BookOpening(str(home), False, {}, 12.0)) as process:
        openings = [AccountOpening(f"sk_{name}", sandbox.url, UNASKED) for name in NAMES]
        clients = [open_account(process, opening).client for opening in openings]
        for client in clients:
            assert await client.models.list()
    assert {client.key_fingerprint for client in closed} == {client.key_fingerprint for client in clients}
    assert len(closed) == 2


async def test_each_account_pays_unasked_and_tells_hosts_by_its_own_policy(open_pair: OpenPair) -> None:
    async with open_pair(UNASKED, ASKED) as pair:
        webhook = {"webhook_url": "https://example.com/done"}
        await pair.first.create(**webhook)
        refused = await pair.second.assistant.error(
            "create_generation", {"input": media(pair.second.sandbox), **webhook}
        )
        assert refused.code == "approval_required"
        assert "example.com" in refused.text
        assert len(pair.second.sandbox.charges) == pair.share_address


async def test_what_the_api_said_of_the_price_of_files_counts_for_the_account_it_was_said_to(
    sandbox: Sandbox, elsewhere: Sandbox
) -> None:
    video = LocalMedia(type="video", sha256="0" * 64, name="talk.mp4")
    act = GenerationAct.of(GenerationRequest(model="lipsync-2", input=[video]))
    pricing = Pricing()
    async with (
        AsyncSync(api_key="sk_apple", base_url=sandbox.url) as apple,
        AsyncSync(api_key="sk_pear", base_url=sandbox.url) as pear,
        AsyncSync(api_key="sk_apple", base_url=elsewhere.url) as far,
    ):
        pricing.learn(apple, act, Price(Decimal(9)))
        prices = [await pricing.price(sync, act, {}) for sync in (apple, pear, far)]
    assert [price.usd for price in prices] == [Decimal(9), None, None]


async def test_whatever_both_call_at_the_same_time_nothing_of_the_other_is_told(pair: Pair) -> None:
    ids = [await side.create(take=take) for take, side in enumerate(pair.sides, 1)]
    if pair.share_address:
        for side, id in zip(pair.sides, reversed(ids), strict=True):
            side.hide(id)
    pair.advance(JOB_SECONDS + 1)
    calls: list[tuple[str, list[Facts]]] = [
        ("list_models", [{}, {}]),
        ("list_voices", [{}, {}]),
        ("get_account", [{}, {}]),
        ("estimate_cost", [{"input": side.local, "model": side.model} for side in pair.sides]),
        ("upload_asset", [{"path": str(side.folder / "voice.wav")} for side in pair.sides]),
        ("create_generation", [{"input": side.local, "take": 3 + n} for n, side in enumerate(pair.sides)]),
        ("get_generation", [{"generation_id": id} for id in ids]),
        ("wait_for_generations", [{"ids": [id], "wait_seconds": 0} for id in ids]),
        ("download_generation", [{"generation_id": id} for id in ids]),
    ]
    told: dict[str, list[Facts]] = {name: [] for name in NAMES}

    async def call(side: Side, tool: str, given: Facts) -> None:
        told[side.name].append(await side.assistant.facts(tool, given))

    for _ in range(2):
        with anyio.fail_after(120):
            async with anyio.create_task_group() as both:
                for tool, given in calls:
                    for side, arguments in zip(pair.sides, given, strict=True):
                        both.start_soon(call, side, tool, arguments)
    for side, other in others(pair):
        assert len(told[side.name]) == 2 * len(calls)
        assert other.name not in as_json(told[side.name])
        assert side.name in as_json(told[side.name])
