"""The tool for the account: what the API says of it, and what the ledger says of the money."""

from decimal import Decimal
from urllib.parse import urlsplit

import anyio

from sync_mcp.api.account import AccountInfo
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    LedgerError,
)
from sync_mcp.payments.limits import Limits, Spending, minute
from sync_mcp.texts import safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import AccountAnswer, AccountArguments, LimitRow
from sync_mcp.tools.job_answers import creates_in_doubt
from sync_mcp.tools.limit_words import LIMIT_WORDS, NO_BUDGET

_WORD_LIMIT = 80
_URL_LIMIT = 300
_API_SECONDS = 4.0
"""How long an answer waits for the API; the ledger answers at once."""
_UNASKED_PERIOD = "all jobs paid or held without asking within 24 hours"
_RESERVED = "What is spent includes reserved_usd: estimates of jobs that run, or whose cost is not known yet."
_BY_USAGE = "The account is billed by usage, so there is no balance."


async def get_account(context: CallContext, _: AccountArguments) -> AccountAnswer:
    client, policy, guard = context.account.client, context.account.policy, context.process.guard
    answer = AccountAnswer(next_step="estimate_cost prices a job; create_generation makes it.")
    notes: list[str] = []
    until = anyio.current_time() + _API_SECONDS
    try:
        options: RequestOptions = {"timeout_in_seconds": _API_SECONDS}
        _tell_account(answer, await client.account.get(request_options=options))
    except AuthenticationError:
        raise
    except (APIConnectionError, APIStatusError, APIResponseError, APITimeoutError) as error:
        # Where nothing is there at all, no more is to be had; what is slow keeps nobody from the ledger.
        if isinstance(error, APIConnectionError) and anyio.current_time() < until:
            raise
        notes.append(f"The API did not tell of the account ({error.code}): call get_account again later.")
    if answer.billing_model == "usage" and answer.balance_usd is None and answer.balance_credits is None:
        notes.append(_BY_USAGE)
    try:
        seconds = max(0.0, until - anyio.current_time())
        spending = await guard.spending(client, seconds=seconds)
        _tell_spending(answer, spending)
        if spending.reserved_usd:
            notes.append(_RESERVED)
        answer.limits = _limit_rows(guard.limits, spending)
        if policy.approve_above_usd is not None:
            unasked = await guard.sum_unasked(client)
            answer.unasked_left_usd = max(0.0, float(policy.approve_above_usd - unasked))
    except LedgerError as error:
        notes.append(f"{error.message} {error.next_step}")
    if not guard.limits.has_budget:
        notes.append(NO_BUDGET)
    answer.approve_above_usd = _number(policy.approve_above_usd)
    if policy.approve_above_usd is not None:
        answer.approve_above_period = _UNASKED_PERIOD
    answer.note = " ".join(notes) or None
    if answer.unresolved:
        answer.next_step = (
            f"{creates_in_doubt(answer.unresolved)}, and that money counts as spent: list_generations shows "
            "what to do."
        )
    return answer


def _tell_account(answer: AccountAnswer, told: AccountInfo) -> None:
    answer.plan = _word(told.plan_name)
    answer.billing_model = _word(told.billing_model)
    answer.balance_usd = _number(told.balance_usd)
    answer.balance_credits = _number(told.balance_credits)
    answer.concurrency = told.concurrency
    answer.billing_url = _billing_url(told.billing_url or "")


def _billing_url(url: str) -> str | None:
    """Return where the account is paid for, only where that is Sync's own site: users give money there."""
    try:
        place = urlsplit(url)
        # Without a port and without a user before an @: the host is all that stands there.
        is_syncs = place.scheme == "https" and f".{place.netloc}".endswith(".sync.so")
    except ValueError:
        return None
    return url if is_syncs and "@" not in url and url == safe(url, _URL_LIMIT) and " " not in url else None


def _tell_spending(answer: AccountAnswer, spending: Spending) -> None:
    answer.spent_today_usd = _number(spending.today_usd)
    answer.spent_this_month_usd = _number(spending.month_usd)
    answer.spent_ever_usd = _number(spending.ever_usd)
    answer.reserved_usd = _number(spending.reserved_usd)
    answer.unresolved = spending.unresolved
    answer.unresolved_usd = _number(spending.unresolved_usd) if spending.unresolved else None


def _limit_rows(limits: Limits, spending: Spending) -> list[LimitRow] | None:
    return [
        LimitRow(
            limit=LIMIT_WORDS[standing.name].setting,
            period=LIMIT_WORDS[standing.name].period,
            usd=float(standing.limit_usd),
            # Of a limit for one job nothing is ever used up.
            left_usd=None if standing.name == "per_job_usd" else float(standing.left_usd),
            until=minute(standing.until) if standing.until else None,
        )
        for standing in limits.standings(spending)
    ] or None


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _word(text: str | None) -> str | None:
    return safe(text, _WORD_LIMIT) if text else None
