"""The user's limits in the words of a server: by the settings that the user knows them by."""

from collections.abc import Mapping
from dataclasses import dataclass

from sync_mcp.errors import LimitReached


@dataclass(frozen=True, slots=True)
class LimitWords:
    """How a field of `Limits` is called where an assistant reads of it."""

    setting: str
    period: str


LIMIT_WORDS: Mapping[str, LimitWords] = {
    "per_job_usd": LimitWords("SYNC_MCP_MAX_USD_PER_JOB", "each job by itself"),
    "per_day_usd": LimitWords("SYNC_MCP_BUDGET_USD_PER_DAY", "all jobs of a day (UTC)"),
    "ever_usd": LimitWords("SYNC_MCP_BUDGET_USD", "all jobs in the ledger"),
}
_BUDGETS = ", ".join(words.setting for name, words in LIMIT_WORDS.items() if name != "per_job_usd")
NO_BUDGET = f"No budget is set: jobs together may cost any amount. Only the user can set one ({_BUDGETS})."
NOT_ROUND_IT = "Do not try to get round it by yourself, with other arguments or in parts"
_ASK = f"Tell the user. {NOT_ROUND_IT}: what would fit is theirs to choose"
_WOULD_FIT = "and estimate_cost tells it as would_fit"
_AGAIN = "Make the same call again later: the API could not tell the price now."
_UNPRICED = (
    "Tell the user: with SYNC_MCP_UNPRICED_USD, in the settings of the server, they say what to hold for "
    f"each such thing. {NOT_ROUND_IT}."
)
_THEIRS = "Only the user can change it, in the settings of the server."


def limit_message(error: LimitReached) -> str:
    """Return what stands in a job's way, for an assistant."""
    # The ledger's words come with the ledger: a listing of the tools does not need them.
    from sync_mcp.payments.limits import dollars, minute

    words = LIMIT_WORDS.get(error.limit or "")
    if words is None or error.price_usd is None or error.limit_usd is None or error.left_usd is None:
        return error.message
    left = f", and {dollars(error.left_usd)} of it is left" if error.limit != "per_job_usd" else ""
    until = f" until {minute(error.until)}" if error.until else ""
    return (
        f"{error.what} would cost {dollars(error.price_usd)}, and the user's limit for {words.period} is "
        f"{dollars(error.limit_usd)} ({words.setting}){left}{until}. {_THEIRS}"
    )


def limit_ends_at(error: LimitReached) -> str | None:
    """Return from when on the job may be within the limit; None where that is never by itself."""
    # As above.
    from sync_mcp.payments.limits import minute

    if error.until is None or error.price_usd is None or error.limit_usd is None:
        return None
    return minute(error.until) if error.price_usd <= error.limit_usd else None


def limit_next_step(error: LimitReached, tool: str = "") -> str:
    """Return what an assistant can do about it; `tool` is what was called."""
    again = f"{_AGAIN} If it stays so, ask the user" if error.retryable else ""
    if error.is_unpriced:
        return _UNPRICED
    if error.limit is None:
        settings = ", ".join(words.setting for words in LIMIT_WORDS.values())
        other = again or "Give media whose length can be measured, or ask the user"
        return f"{other} about the limits ({settings})."
    if error.limit == "max_cost_usd":
        price = "the price" if error.price_usd is not None else "that nobody knows the price"
        asks = again or f"Tell the user {price}, and ask"
        return f"{asks} how to go on; max_cost_usd is this call's own."
    # Of what has no estimate, nothing is told that would fit.
    return f"{_ASK}, {_WOULD_FIT}." if tool in ("", "create_generation", "estimate_cost") else f"{_ASK}."
