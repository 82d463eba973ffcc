"""What the user agreed to is what is paid: with its webhook, at its price, and until they say no."""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from sync_mcp import AsyncSync, Audio, Guard, Ledger, OutcomeUnknown, QuoteRefused
from sync_mcp.api.models import Generation, GenerationRequest, LocalMedia
from sync_mcp.errors import ApprovalDenied, ApprovalRequired, SyncError
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.attempt import Token
from sync_mcp.payments.call import Made, PaidCall
from sync_mcp.payments.files import asset_key, with_assets
from sync_mcp.payments.intention import Intention
from sync_mcp.sandbox import Fault, RecordedRequest, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import CREATE, NEVER_MADE, Asker, leave_in_doubt, paid, sent
from .entries import JOB, begun, found, intended, made, now_of, priced, quoted, wished

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Made[Generation]]]
RequestOf = Callable[..., GenerationRequest]

MINE, OTHER = "https://hooks.example.com/done?key=1", "https://other.example.net/x"
NO_PRICE = Fault.api_error("cost_estimate_unavailable", path="/v2/analyze/cost", times=None)


def bodies(sandbox: Sandbox) -> list[dict[str, Any]]:
    def is_create(request: RecordedRequest) -> bool:
        return (request.method, request.path) == ("POST", CREATE)

    return [cast(dict[str, Any], request.body) for request in sandbox.requests if is_create(request)]


async def quote_for(make: Make, request: GenerationRequest, above_usd: str = "0", **terms: Any) -> Token:
    with pytest.raises(ApprovalRequired) as required:
        await make(request, approval=Asker(above_usd, "quote"), **terms)
    assert required.value.quote_id
    return Token(required.value.quote_id)


# The webhook that was agreed to


@pytest.mark.parametrize("agreed", [None, MINE], ids=["for no webhook", "for another host"])
async def test_a_quote_does_not_count_for_a_webhook_that_it_does_not_name_and_the_user_is_asked_about_it(
    sandbox: Sandbox, make: Make, request_of: RequestOf, agreed: str | None
) -> None:
    token = await quote_for(make, request_of(webhook_url=agreed), webhook_hosts=())
    asker = Asker("0", "quote")
    with pytest.raises(ApprovalRequired) as required:
        await make(request_of(webhook_url=OTHER), approval=asker, token=token, webhook_hosts=())
    assert sent(sandbox) == []
    [proposal] = asker.asked
    assert "What the user agreed to names" in proposal.reasons[0].text
    assert proposal.attempts[0].intention.act.webhook_host == "other.example.net"
    new = Token(required.value.quote_id or "")
    await make(request_of(webhook_url=OTHER), approval=asker, token=new, webhook_hosts=())
    assert [body.get("webhookUrl") for body in bodies(sandbox)] == [OTHER]


@pytest.mark.parametrize("url", [MINE, "https://HOOKS.example.com./elsewhere", None])
async def test_a_quote_counts_for_the_host_that_it_names_and_for_no_webhook(
    sandbox: Sandbox, make: Make, request_of: RequestOf, url: str | None
) -> None:
    token = await quote_for(make, request_of(webhook_url=MINE), webhook_hosts=())
    refusing = Asker("0", "no")
    await make(request_of(webhook_url=url), approval=refusing, token=token, webhook_hosts=())
    assert refusing.asked == []
    assert len(paid(sandbox)) == 1


async def test_a_quote_for_no_webhook_counts_with_one_whose_host_is_allowed(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    token = await quote_for(make, request_of())
    allowed = ("hooks.example.com",)
    await make(request_of(webhook_url=MINE), approval=Asker("0", "no"), token=token, webhook_hosts=allowed)
    assert len(paid(sandbox)) == 1


async def test_a_question_covers_no_other_webhook_either(
    sandbox: Sandbox, make: Make, request_of: RequestOf, guard: Guard, sync: AsyncSync
) -> None:
    await quote_for(make, request_of())
    account = await guard.account(sync)
    asked = Intention(GenerationAct.of(request_of()), account=account.name, base_url=account.base_url)
    token = Token(guard.ledger.quote([priced(asked, 1)], now_of(), "question"), "question")
    asker = Asker("0", "no")
    with pytest.raises(ApprovalDenied):
        await make(request_of(webhook_url=OTHER), approval=asker, token=token, webhook_hosts=())
    assert len(asker.asked) == 1
    assert sent(sandbox) == []


# The body under a key


@pytest.mark.parametrize(
    ("first", "again", "differing"),
    [
        ({}, {"webhook_url": OTHER}, "webhook_url"),
        (
            {"output_file_name": "one", "webhook_url": MINE},
            {"output_file_name": "two", "webhook_url": MINE},
            "output_file_name",
        ),
    ],
)
async def test_an_attempt_that_is_sent_again_keeps_the_webhook_and_the_name_of_its_first_call(
    sandbox: Sandbox,
    sync: AsyncSync,
    guard: Guard,
    make: Make,
    request_of: RequestOf,
    first: dict[str, str],
    again: dict[str, str],
    differing: str,
) -> None:
    await leave_in_doubt(sandbox, sync, guard, request_of(**first), NEVER_MADE)
    refusing = Asker("100", "no")
    made = await make(request_of(**again), approval=refusing, webhook_hosts=())
    assert made.how == "sent now"
    assert refusing.asked == []
    lost, body = bodies(sandbox)
    assert body == lost
    assert f"The job keeps the first call's {differing}, not this call's." in made.notes


@pytest.mark.parametrize("again", [None, OTHER])
async def test_an_attempt_whose_webhook_is_not_known_again_is_only_looked_for(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, request_of: RequestOf, again: str | None
) -> None:
    await leave_in_doubt(sandbox, sync, guard, request_of(webhook_url=MINE), NEVER_MADE)
    with pytest.raises(OutcomeUnknown) as unknown:
        await make(request_of(webhook_url=again))
    assert len(bodies(sandbox)) == 1
    assert "its first call had another webhook_url" in unknown.value.next_step
    made = await make(request_of(webhook_url=MINE))
    assert made.how == "sent now"
    lost, body = bodies(sandbox)
    assert body == lost


async def test_a_repeat_under_the_key_of_an_unseen_job_has_that_ones_body(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    sandbox.add_fault(Fault(path=CREATE, get_lag_seconds=1e6, list_lag_seconds=1e6))
    await make(request_of(output_file_name="one"))
    sandbox.advance(3700)
    asker = Asker("100")
    repeat = request_of(output_file_name="two", webhook_url=OTHER)
    made = await make(repeat, approval=asker, webhook_hosts=())
    assert made.how == "was there"
    first, second = bodies(sandbox)
    assert first == second
    [proposal] = asker.asked
    told = "The job keeps the first call's output_file_name and webhook_url, not this call's."
    assert told in proposal.reasons[0].text
    assert proposal.attempts[0].intention.act.webhook_host is None
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize(
    "url",
    [
        r"https://evil.example\@hooks.example.com/",
        r"https://hooks.example.com\.evil.example/",
        "https://user:pw@hooks.example.com/",
        "https://@hooks.example.com/",
        "https://evil.example%2f@hooks.example.com/",
        "https://hooks.example.com\t.evil.example/",
        "https://hooks.example.com:x/",
    ],
)
def test_a_url_that_names_no_host_plainly_is_on_no_list(request_of: RequestOf, url: str) -> None:
    assert GenerationAct.of(request_of(webhook_url=url)).webhook_host != "hooks.example.com"


# A price that is known once the files are there


class Files:
    """A clip on this machine whose length nobody can measure here."""

    fps: float | None = None
    length_note: str | None = "the length is not known"
    hint_helps: bool = True

    def __init__(self, sandbox: Sandbox, clip: Path, seconds: float | None = None) -> None:
        self.clip = clip
        self.sha256 = "5" * 64
        self.output_seconds = seconds
        self.asset_id: str | None = None
        self.on_upload: Callable[[], object] = lambda: None
        media = [
            LocalMedia(type="video", sha256=self.sha256, name=clip.name),
            Audio(url=sandbox.samples.audio),
        ]
        self.request = GenerationRequest.model_validate({"model": "lipsync-2", "input": media})

    async def report(self) -> None:
        pass

    def forget(self) -> None:
        raise AssertionError("the assets are kept")

    async def find_assets(self, sync: AsyncSync) -> Mapping[str, str] | None:  # noqa: ARG002 - as it is called
        return None if self.asset_id is None else {asset_key("video", self.sha256): self.asset_id}

    async def upload(self, sync: AsyncSync) -> Mapping[str, str]:
        if self.asset_id is None:
            self.asset_id = (await sync.assets.upload(self.clip)).id
        self.on_upload()
        return {asset_key("video", self.sha256): self.asset_id}

    def under_way(self) -> SyncError:
        raise AssertionError("it is quick")


@pytest.fixture
def files(sandbox: Sandbox, tmp_path: Path) -> Files:
    clip = tmp_path / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    return Files(sandbox, clip)


def uploads(sandbox: Sandbox) -> int:
    return sum(request.method == "PUT" for request in sandbox.requests)


async def test_who_agreed_to_an_unknown_price_is_asked_again_with_the_figure_once_it_is_known(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asker = Asker("0.1")
    made = await guard.create(PaidCall(sync, GenerationAct.of(files.request), files=files, approval=asker))
    first, second = (proposal.price.usd for proposal in asker.asked)
    assert first is None
    assert paid(sandbox) == [second] == [made.price_usd]
    assert uploads(sandbox) == 1
    assert not guard.ledger.entries(limit=1)[0].is_unasked


async def test_nothing_is_paid_where_the_figure_is_declined(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asker = Asker("0.1")

    def deny() -> None:
        asker.says = "no"

    files.on_upload = deny
    with pytest.raises(ApprovalDenied):
        await guard.create(PaidCall(sync, GenerationAct.of(files.request), files=files, approval=asker))
    assert len(asker.asked) == 2
    assert sent(sandbox) == []
    assert guard.ledger.entries(limit=10) == []


async def test_a_quote_for_an_unknown_price_asks_again_with_the_figure_and_its_quote_pays(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asker = Asker("0.1", "quote")

    async def call(token: Token | None) -> Made[Generation]:
        terms: dict[str, Any] = {"files": files, "approval": asker, "token": token}
        return await guard.create(PaidCall(sync, GenerationAct.of(files.request), **terms))

    token: Token | None = None
    for _ in range(2):
        with pytest.raises(ApprovalRequired) as required:
            await call(token)
        token = Token(required.value.quote_id or "")
    assert sent(sandbox) == []
    assert [proposal.price.usd is None for proposal in asker.asked] == [True, False]
    made = await call(token)
    assert paid(sandbox) == [made.price_usd]
    assert uploads(sandbox) == 1


async def test_a_figure_is_judged_with_what_was_paid_unasked(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, request_of: RequestOf, files: Files
) -> None:
    asker = Asker("0.3")
    await make(request_of("?n=1"), approval=asker)
    assert asker.asked == []
    await guard.create(PaidCall(sync, GenerationAct.of(files.request), files=files, approval=asker))
    # Each of the two is below the threshold, and both together are not.
    assert [proposal.price.usd is None for proposal in asker.asked] == [True, False]


async def test_who_agreed_to_an_unknown_price_is_not_asked_again_about_one_that_needs_no_asking(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, files: Files
) -> None:
    asker = Asker("100")
    await guard.create(PaidCall(sync, GenerationAct.of(files.request), files=files, approval=asker))
    assert len(asker.asked) == 1
    [entry] = guard.ledger.entries(limit=10)
    assert not entry.is_unasked
    assert len(paid(sandbox)) == 1


async def test_a_price_below_the_threshold_that_rises_with_the_upload_is_asked_about(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    shutil.copy(sample("speaker.mp4"), clip)
    files, asker = Files(sandbox, clip, seconds=1.0), Asker("0.1")
    await guard.create(PaidCall(sync, GenerationAct.of(files.request), files=files, approval=asker))
    assert [proposal.price.usd for proposal in asker.asked] == paid(sandbox)
    assert uploads(sandbox) == 1


def test_a_quote_for_an_unknown_price_does_not_pay_one_that_passes_the_sum_of_the_day(ledger: Ledger) -> None:
    begun(ledger, "before", "0.6", unasked_usd=Decimal(1))
    token = Token(ledger.quote([priced(intended(), 1, None)], now_of()))
    with pytest.raises(QuoteRefused, match="price"):
        begun(ledger, usd="0.6", token=token, unasked_usd=Decimal(1))
    begun(ledger, usd="0.4", token=token, unasked_usd=Decimal(1))


# A no


async def test_a_no_to_files_revokes_the_quotes_of_their_assets(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, files: Files
) -> None:
    by_asset = with_assets(files.request, await files.upload(sync))
    token = await quote_for(make, by_asset)
    with pytest.raises(ApprovalDenied):
        await guard.create(
            PaidCall(sync, GenerationAct.of(files.request), files=files, approval=Asker("0", "no"))
        )
    with pytest.raises(QuoteRefused, match="said no"):
        await make(by_asset, token=token)
    assert sent(sandbox) == []


async def test_a_no_to_assets_holds_for_a_quote_of_the_files_that_they_came_from(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, files: Files
) -> None:
    token = await quote_for(make, files.request, files=files)
    by_asset = with_assets(files.request, await files.upload(sync))
    with pytest.raises(ApprovalDenied):
        await make(by_asset, approval=Asker("0", "no"))
    for _ in range(2):
        with pytest.raises(QuoteRefused, match="said no"):
            await make(files.request, files=files, token=token)
    assert sent(sandbox) == []
    assert guard.ledger.entries(limit=10) == []


async def test_a_no_while_the_files_are_uploaded_holds_too(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, files: Files
) -> None:
    token = await quote_for(make, files.request, files=files)
    account = await guard.account(sync)
    named = Intention(GenerationAct.of(files.request), account=account.name, base_url=account.base_url)
    files.on_upload = lambda: guard.ledger.revoke(named)
    with pytest.raises(QuoteRefused, match="said no"):
        await make(files.request, files=files, token=token)
    assert sent(sandbox) == []


async def test_a_quote_after_a_no_is_good(
    sandbox: Sandbox, sync: AsyncSync, guard: Guard, make: Make, files: Files
) -> None:
    by_asset = with_assets(files.request, await files.upload(sync))
    with pytest.raises(ApprovalDenied):
        await make(by_asset, approval=Asker("0", "no"))
    token = await quote_for(make, files.request, files=files)
    await make(files.request, files=files, token=token, approval=Asker("100"))
    assert len(paid(sandbox)) == 1


def test_a_no_to_one_name_is_one_to_the_other_once_an_attempt_had_both(ledger: Ledger) -> None:
    by_path, by_asset = intended("path"), intended("asset")
    id = begun(ledger, intention=by_path, has_files=True)
    assert ledger.send(id, wished("path", assets={"video:hash": "asset"}), by_asset) == "mine"
    ledger.refuse(id, "me", "rate_limit_exceeded", gives_quote_back=False)
    for named, other in ((by_path, by_asset), (by_asset, by_path)):
        token = Token(ledger.quote([priced(other, 2)], now_of()))
        ledger.revoke(named)
        with pytest.raises(QuoteRefused) as refused:
            begun(ledger, intention=other, attempt=2, token=token)
        assert refused.value.code == "quote_revoked"


async def test_what_the_user_said_no_to_is_not_paid_unasked_in_another_form(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    with pytest.raises(ApprovalDenied):
        await make(request_of(webhook_url=MINE), webhook_hosts=(), approval=Asker("100", "no"))
    asker = Asker("100")
    await make(request_of(), webhook_hosts=(), approval=asker)
    assert [reason.text for reason in asker.asked[0].reasons] == ["The user said no to this within a day."]
    assert len(paid(sandbox)) == 1


async def test_once_the_user_has_agreed_the_no_before_holds_no_more(
    sandbox: Sandbox, make: Make, request_of: RequestOf
) -> None:
    with pytest.raises(ApprovalDenied):
        await make(approval=Asker("0", "no"))
    sandbox.add_fault(Fault.api_error("account_payment_required", path=CREATE))
    with pytest.raises(SyncError):
        await make(approval=Asker("100"))
    unasked = Asker("100")
    await make(approval=unasked)
    assert unasked.asked == []


async def test_who_is_asked_about_no_price_is_asked_about_no_no_of_before(make: Make) -> None:
    with pytest.raises(ApprovalDenied):
        await make(approval=Asker("0", "no"))
    assert (await make()).how == "made"


async def test_a_no_of_one_caller_takes_back_no_quote_of_another(make: Make, request_of: RequestOf) -> None:
    token = await quote_for(make, request_of(), caller="alice")
    with pytest.raises(ApprovalDenied):
        await make(approval=Asker("0", "no"), caller="bob")
    unasked = Asker("100")
    made = await make(token=token, approval=unasked, caller="alice")
    assert (made.how, unasked.asked) == ("made", [])


def test_a_question_of_one_caller_is_not_anothers_to_answer(ledger: Ledger) -> None:
    question = ledger.quote([priced(intended(), 1)], now_of(), "question", caller="alice")
    assert ledger.question_age(question, "bob") is None
    assert ledger.question_age(question, "alice") is not None


async def test_a_quote_by_which_nothing_went_out_is_good_again(
    sandbox: Sandbox, make: Make, guard_of: Callable[..., Guard], request_of: RequestOf
) -> None:
    named: Any = {"statusCode": 503, "errorCode": "controller_unavailable", "generationId": "gen-12345"}
    sandbox.add_fault(Fault(path=CREATE, method="POST", status=503, body=named, times=None))
    with pytest.raises(OutcomeUnknown):
        await make()
    sandbox.clear_faults()
    sandbox.advance(3700)
    token = await quote_for(make, request_of())
    with pytest.raises(OutcomeUnknown):
        await make(token=token, by=guard_of(ever="0.1"))
    made = await make(token=token, approval=Asker("0", "no"))
    assert made.how == "sent now"
    assert len(paid(sandbox)) == 1


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_a_repeat_that_is_refused_for_its_key_goes_out_under_its_own(
    sandbox: Sandbox, make: Make, status: int
) -> None:
    sandbox.add_fault(Fault(path=CREATE, job="forget"))
    await make()
    sandbox.advance(3700)
    body: Any = {"statusCode": status, "errorCode": "IDEMPOTENCY_PAYLOAD_MISMATCH", "message": "no"}
    sandbox.add_fault(Fault(path=CREATE, method="POST", status=status, body=body))
    made = await make(approval=Asker("0"))
    assert made.how == "made"
    assert len(set(sent(sandbox))) == 2


def test_what_is_only_looked_for_was_paid_unasked_whatever_token_is_brought(ledger: Ledger) -> None:
    id = begun(ledger, "late", "1")
    ledger.doubt(id, "me", None)
    token = Token("q_made_up")
    looks = wished("late", "1", owner="second", token=token, limits={"per_day_usd": Decimal("0.5")})
    assert ledger.take_over(id, looks) == "look"
    assert found(ledger, id).is_unasked


def test_a_yes_to_an_attempt_in_doubt_does_not_cover_what_another_key_made_while_it_was_asked_for(
    ledger: Ledger,
) -> None:
    mine, others = (intended(account=f"key:{name}") for name in ("mine", "others"))
    id = begun(ledger, intention=mine)
    ledger.doubt(id, "me", None)
    agreed = wished(intention=mine, owner="second", is_agreed=True, known_until=ledger.newest_id())
    begun(ledger, intention=others, known_until=id)
    with pytest.raises(QuoteRefused, match="with another key since"):
        ledger.take_over(id, agreed)
    assert found(ledger, id).state == "unknown"


async def test_who_agreed_to_send_anew_what_another_key_made_since_is_asked_again(
    sandbox: Sandbox, make: Make, sync: AsyncSync, request_of: RequestOf
) -> None:
    sandbox.add_fault(Fault(path="/v2/account", status=404, body={"message": "no"}, times=None))
    named: Any = {"statusCode": 503, "errorCode": "controller_unavailable", "generationId": "gen-12345"}
    sandbox.add_fault(Fault(path=CREATE, method="POST", status=503, body=named, times=None))
    with pytest.raises(OutcomeUnknown):
        await make()
    sandbox.clear_faults()
    sandbox.add_fault(Fault(path="/v2/account", status=404, body={"message": "no"}, times=None))
    sandbox.advance(3700)
    token = await quote_for(make, request_of())
    async with AsyncSync(api_key="sk_second", base_url=sandbox.url) as other:
        await make(client=other, approval=Asker("0"))
    declines = Asker("0", "no")
    with pytest.raises(ApprovalDenied):
        await make(token=token, approval=declines)
    assert any("with another key since" in reason.text for reason in declines.asked[0].reasons)
    made = await make(approval=Asker("0"))
    assert made.how == "sent now"
    assert len(paid(sandbox)) == 2


# Given back


def give_back(ledger: Ledger, id: int, way: str) -> int:
    """Have a second attempt come to nothing, so that its quote holds; return the next one's number."""
    if way == "called off":
        ledger.call_off(id, "me")
        return 2
    ledger.refuse(id, "me", "rate_limit_exceeded", gives_quote_back=True)
    return 3


@pytest.mark.parametrize("way", ["refused", "called off"])
def test_a_yes_that_another_attempt_of_the_same_number_used_up_is_not_given_back(
    ledger: Ledger, way: str
) -> None:
    first = found(ledger, made(ledger))
    used, own = (quoted(ledger, intended(), 2, Decimal(1)) for _ in range(2))
    repeat = begun(ledger, attempt=2, token=used, repeats=first)
    # Answered with the job of before: it is gone, and what the user agreed by has been used.
    assert ledger.accept(repeat, JOB) == "was there"
    number = give_back(ledger, begun(ledger, attempt=2, token=own), way)
    with pytest.raises(QuoteRefused):
        begun(ledger, attempt=number, token=used)
    begun(ledger, attempt=number, token=own)


@pytest.mark.parametrize("way", ["refused", "called off"])
def test_a_yes_by_the_other_name_of_what_is_made_is_given_back_too(ledger: Ledger, way: str) -> None:
    by_path, by_asset = intended("path"), intended("asset")

    def send(number: int, token: Token | None = None) -> int:
        id = begun(ledger, intention=by_path, attempt=number, has_files=True, token=token)
        sent = wished("path", attempt=number, assets={"video:hash": "asset"}, token=token)
        assert ledger.send(id, sent, by_asset) == "mine"
        return id

    ledger.refuse(send(1), "me", "rate_limit_exceeded", gives_quote_back=False)
    token = quoted(ledger, by_asset, 2, Decimal(1))
    send(give_back(ledger, send(2, token), way), token)
