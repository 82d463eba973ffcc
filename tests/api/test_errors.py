import ast
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import get_args

import pytest
from hypothesis import example, given, strategies as st

import sync_mcp
from sync_mcp import errors
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ApprovalDenied,
    ApprovalRequired,
    Code,
    ConcurrencyLimitError,
    ConfigurationError,
    DoubtReason,
    FileRefused,
    Handle,
    InternalError,
    InvalidRequestError,
    LedgerError,
    NoOutput,
    NotVisibleYet,
    OutcomeUnknown,
    QuoteRefused,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SyncError,
    UnderWay,
    WebhookRefused,
)

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SyncError)]
OF_SEVERAL_CODES: list[type[SyncError]] = [
    APIResponseError,
    ApprovalDenied,
    ConfigurationError,
    FileRefused,
    LedgerError,
    NoOutput,
    QuoteRefused,
    UnderWay,
    WebhookRefused,
]
LEAVES = [kind for kind in CLASSES if not kind.__subclasses__()]
KEY = "sync-mcp-6533643b-aceb-4c40-967e-d9ba9baac39e"
SIGNATURE = "sIgNaTuRe"
_TABLE = ""
"""In the place of a name: the code stands in a table, and what is called with it is not known."""
NASTY = (
    f"no\nway\x1b[31m\u200b, see https://user:{SIGNATURE}@host/clip.mp4?s={SIGNATURE}&t=1 \ud800" + "x" * 9999
)


def _made(kind: type[SyncError], text: str) -> SyncError:
    if issubclass(kind, APIStatusError):
        return kind(
            text,
            status=418,
            api_code=text,
            suggestion=text,
            field=text,
            request_id=text,
            retry_after_seconds=3,
        )
    if issubclass(kind, OutcomeUnknown):
        return kind(text, idempotency_key=KEY, sent_at="2026-10-02T09:30:00Z", generation_id=text)
    if issubclass(kind, NotVisibleYet):
        return kind(text, ledger_id=7, made_at="2026-10-02T09:30Z", may_appear=True)
    if issubclass(kind, InternalError):
        return kind(text, money_spent="unknown")
    if issubclass(kind, InvalidRequestError):
        return kind([text])
    if issubclass(kind, UnderWay):
        return kind(Handle(text), text)
    if issubclass(kind, ApprovalRequired):
        return kind(text, question=text, quote_id=text, next_step=text)
    return kind(text)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn = dict[str, str]()
    parents = {0: "", 1: "SyncError", 3: "APIStatusError"}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"(?P<indent> *)(?:[x·] )?(?P<name>[A-Z][A-Za-z]+)(?:   *\S|$)", line):
            drawn[found["name"]] = parents[len(found["indent"])]
    real = {kind.__name__: "" if kind is SyncError else kind.__mro__[1].__name__ for kind in CLASSES}
    assert drawn == real


def test_every_error_class_is_public() -> None:
    assert {kind.__name__ for kind in CLASSES} <= set(dir(sync_mcp))


def test_every_error_of_the_package_stands_in_the_tree() -> None:
    for module in walk_packages(sync_mcp.__path__, "sync_mcp."):
        if module.name != "sync_mcp.__main__":
            import_module(module.name)
    assert {kind.__name__ for kind in below(SyncError) if kind.__module__.startswith("sync_mcp")} == {
        kind.__name__ for kind in CLASSES
    }


def below(kind: type[SyncError]) -> Iterator[type[SyncError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from below(child)


def test_the_list_of_codes_holds_each_that_is_raised_and_no_other() -> None:
    names = {kind.__name__ for kind in CLASSES} | {_TABLE}
    raised = {kind.code for kind in CLASSES} | {code for name, code in _codes() if name in names}
    assert raised == set(get_args(Code))


def codes_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield what a module calls with a code, as `code=` or by a constant's name, and that code.

    Of a constant that holds codes, each with a text after it, they are the first of each pair.
    """
    nodes = list(ast.walk(tree))
    constants = {
        target.id: node.value.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        given = [word.value for word in call.keywords if word.arg == "code"]
        for value in (part for each in given for part in ast.walk(each)):
            told = constants.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
            if isinstance(told, str):
                yield getattr(call.func, "id", ""), told
    for table in (node for node in nodes if isinstance(node, ast.AnnAssign) and node.value):
        if "tuple[Code, str]" in ast.unparse(table.annotation):
            for pair in (part for part in ast.walk(table.value or table) if isinstance(part, ast.Tuple)):
                yield _TABLE, ast.literal_eval(pair)[0]


@pytest.mark.parametrize("kind", OF_SEVERAL_CODES)
def test_a_class_with_several_codes_names_each_of_them_in_its_docstring(kind: type[SyncError]) -> None:
    family = f"{kind.code.partition('_')[0]}_"
    raised = {kind.code, *_codes_given_to(kind)}
    raised |= {code for code in _codes_in_tables() if code.startswith(family)}
    told = (kind.__doc__ or "").partition("Attributes:")[0]
    assert set(re.findall(r"`([a-z_]+)`", told)) - {"code"} == raised


def test_no_other_class_has_several_codes() -> None:
    assert [kind for kind in CLASSES if _codes_given_to(kind) - {kind.code}] == [
        kind for kind in CLASSES if kind in OF_SEVERAL_CODES
    ]


def _codes_given_to(kind: type[SyncError]) -> set[str]:
    """Return the codes with which the package builds errors of a class."""
    return {code for name, code in _codes() if name == kind.__name__} - _codes_in_tables()


def _codes_in_tables() -> set[str]:
    """Return the codes that no call names in its own words."""
    return {code for name, code in _codes() if name == _TABLE}


@cache
def _codes() -> set[tuple[str, str]]:
    """Return what the package, but for its sandbox, calls with a code, and that code."""
    paths = [path for path in Path(sync_mcp.__file__).parent.rglob("*.py") if "sandbox" not in path.parts]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    return {found for tree in trees for found in codes_in(tree)}


def test_every_failure_has_a_word_of_its_own_to_branch_on() -> None:
    codes = [kind.code for kind in LEAVES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+|conflict", code) for code in codes)


def test_every_class_says_in_its_docstring_when_it_is_raised() -> None:
    assert [kind.__name__ for kind in CLASSES if not kind.__doc__] == []


@pytest.mark.parametrize(
    "kind", [APIConnectionError, APITimeoutError, APIResponseError, RateLimitError, ServerError]
)
def test_what_passes_by_itself_is_worth_another_try(kind: type[SyncError]) -> None:
    assert _made(kind, "x").retryable
    assert _made(kind, "x").next_step


def test_what_needs_a_change_or_costs_money_is_not_worth_another_try() -> None:
    passing = {"APIConnectionError", "APITimeoutError", "APIResponseError", "RateLimitError", "ServerError"}
    passing |= {"ConcurrencyLimitError", "NotSent", "UnderWay"}
    assert {kind.__name__ for kind in LEAVES if kind.retryable} == passing


def test_only_a_job_that_was_or_may_have_been_made_may_have_cost_money() -> None:
    spent = {kind: _made(kind, "x").money_spent for kind in LEAVES}
    assert spent.pop(OutcomeUnknown) == "unknown"
    assert spent.pop(InternalError) == "unknown"
    assert spent.pop(NotVisibleYet) == "yes"
    assert set(spent.values()) == {"no"}


@pytest.mark.parametrize("kind", LEAVES)
def test_nothing_that_an_error_shows_is_long_hidden_or_signed(kind: type[SyncError]) -> None:
    error = _made(kind, NASTY)
    fields = {name: value for name, value in vars(error).items() if name != "faults"}
    for shown in (str(error), repr(error), *error.args, *fields.values()):
        text = str(shown)
        assert SIGNATURE not in text
        assert text.isprintable()
        assert len(text) < (1000 if kind is ApprovalRequired else 800)
    assert str(error).startswith(f"{error.code}: ")


def test_the_apis_own_words_stand_beside_ours_and_never_in_their_place() -> None:
    error = RequestRejectedError(
        "The video cannot be read.",
        status=422,
        api_code="generation_input_video_invalid",
        suggestion="Convert it.",
        field="input[0]",
        request_id="r1",
    )
    assert str(error) == (
        "request_rejected: The API does not accept the request (HTTP 422). The API says: "
        '"The video cannot be read. Convert it." (generation_input_video_invalid)'
    )
    assert (error.next_step, error.suggestion) == (RequestRejectedError.next_step, "Convert it.")
    assert (error.status, error.field, error.request_id) == (422, "input[0]", "r1")


def test_where_the_api_has_no_words_ours_stand() -> None:
    error = RequestRejectedError("No.", status=400)
    assert error.code == "request_rejected"
    assert error.next_step == RequestRejectedError.next_step
    assert (error.api_code, error.suggestion, error.field, error.request_id) == (None, None, None, None)


def test_each_broken_rule_keeps_its_own_sentence() -> None:
    faults = [f"Rule {number} is broken{'.' * 100}" for number in range(30)]
    error = InvalidRequestError(faults)
    assert error.faults == tuple(faults)
    assert error.message == " ".join(faults[:20])
    assert InvalidRequestError("One rule.").faults == ("One rule.",)


@example(reason="x" * 10_000, key="k" * 128, generation_id="g" * 300)
@example(reason="many words " * 1000, key="k" * 128, generation_id="g" * 300)
@given(
    reason=st.text(max_size=3000) | st.just("https://host/clip.mp4?") | st.just("x" * 199 + " https://u:p"),
    key=st.text("abcXYZ019._~-", min_size=1, max_size=128),
    generation_id=st.none() | st.text(min_size=1, max_size=300),
)
def test_an_unknown_outcome_names_its_key_whole_however_long_the_reason(
    reason: str, key: str, generation_id: str | None
) -> None:
    error = OutcomeUnknown(
        reason, idempotency_key=key, sent_at="2026-10-02T09:30:00Z", generation_id=generation_id
    )
    assert error.idempotency_key == key
    assert error.message.endswith(f" Idempotency key: {key}.")
    assert "sent at 2026-10-02T09:30:00Z" in error.message
    shown = error.generation_id or ""
    assert (
        shown if re.fullmatch(r"[\w-]*", shown, re.ASCII) else json.dumps(shown, ensure_ascii=False)
    ) in error.message
    assert "same idempotency key" in error.next_step


@pytest.mark.parametrize("reason", get_args(DoubtReason))
def test_an_unknown_outcome_tells_its_reason_in_whole_sentences_of_bounded_length(
    reason: DoubtReason,
) -> None:
    error = OutcomeUnknown(
        "The answer broke off " * 100,
        idempotency_key="k" * 128,
        sent_at="2026-10-02T09:30:00Z",
        generation_id="g" * 128,
        reason=reason,
        maybe_ids=["m" * 128] * 100,
        search_failure="HTTP 500 " * 100,
    )
    assert len(str(error)) < 850
    assert re.fullmatch(r"([A-Z][^.…]+\. )+Idempotency key: k{128}\.", error.message)
    assert "same idempotency key" in error.next_step
    assert (error.reason, len(error.maybe_ids), max(map(len, error.maybe_ids))) == (reason, 20, 128)


def test_the_reasons_of_an_unknown_outcome_are_told_apart() -> None:
    texts = {
        OutcomeUnknown("Lost.", idempotency_key=KEY, sent_at="now", reason=reason, maybe_ids=["m"]).message
        for reason in get_args(DoubtReason)
    }
    assert len(texts) == len(get_args(DoubtReason))


def test_the_money_of_a_job_that_stays_hidden_is_held_until_the_user_settles_it() -> None:
    hidden = NotVisibleYet("job-1", ledger_id=3, made_at="now", may_appear=False)
    assert "its money stays held in the ledger until they settle it (" in hidden.next_step
    assert "ledger show 3 says how)." in hidden.next_step


def test_what_goes_on_says_by_its_code_what_it_is_and_by_its_handle_where_it_is() -> None:
    handle = Handle(("upload", "sha256"))
    transfer = UnderWay(handle)
    create = UnderWay(handle, "It is on its way.", code="create_under_way", money_spent="unknown")
    assert transfer.handle is create.handle is handle
    assert (transfer.code, transfer.money_spent) == ("transfer_under_way", "no")
    assert transfer.message == "Not finished: it has just begun."
    assert "joins the transfer" in transfer.next_step
    assert (create.message, create.money_spent) == ("It is on its way.", "unknown")
    assert "joins the job. Nothing is paid twice" in create.next_step


def test_a_full_account_tells_how_full_it_is() -> None:
    error = ConcurrencyLimitError("Full.", status=429, retry_after_seconds=30)
    assert (error.active_generations, error.concurrency_limit) == (None, None)
    assert error.retry_after_seconds == 30
    assert error.message == "As many jobs are running as the plan allows (HTTP 429)."
    full = ConcurrencyLimitError("Full.", status=429, active_generations=3, concurrency_limit=3)
    assert (full.active_generations, full.concurrency_limit) == (3, 3)
    assert full.message == f"{error.message} 3 jobs run, and the plan allows 3."


def test_a_setting_that_is_missing_has_a_code_of_its_own() -> None:
    error = ConfigurationError("There is no key.", code="api_key_missing", next_step="Set SYNC_API_KEY.")
    # It is all that the user of a script sees.
    assert str(error) == "api_key_missing: There is no key. Set SYNC_API_KEY."
    assert error.next_step == "Set SYNC_API_KEY."
