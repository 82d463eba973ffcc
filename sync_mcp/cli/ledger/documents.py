"""What the ledger holds as JSON for programs; docs/operations.md says what stands in it."""

from pydantic import JsonValue

from sync_mcp.cli.documents import money, timestamp
from sync_mcp.cli.ledger.entries import Listing, besides, count_now, cut_between_words
from sync_mcp.payments.ledger import Ledger
from sync_mcp.payments.limits import Spending
from sync_mcp.payments.rows import OPEN_STATES, Entry
from sync_mcp.texts import ID_LIMIT, WORD_LIMIT, safe

_URL_LIMIT = 400


def describe_listing(ledger: Ledger, listing: Listing | None) -> dict[str, JsonValue]:
    """Return a listing; where there is no ledger, one of nothing."""
    return {
        "ledger": str(ledger.store.place),
        "exists": listing is not None,
        "entries": [describe(entry, listing.now) for entry in listing.entries] if listing else [],
        "has_more": listing is not None and listing.has_more,
        "accounts": [_describe_account(*account) for account in listing.accounts] if listing else [],
    }


def describe(entry: Entry, now: float) -> dict[str, JsonValue]:
    """Return all of an entry; what is not known, or does not apply, is null."""
    return {
        "id": entry.id,
        "state": entry.state,
        "is_open": entry.state in OPEN_STATES,
        "is_unresolved": entry.is_unresolved(now),
        "summary": cut_between_words(entry.summary),
        "besides": [cut_between_words(one) for one in besides(entry)],
        "tool": safe(entry.tool, ID_LIMIT),
        "caller": _text(entry.caller),
        "model": safe(entry.model, ID_LIMIT),
        "take": entry.take,
        "attempt": entry.attempt,
        "account": safe(entry.account, ID_LIMIT),
        "base_url": safe(entry.base_url, _URL_LIMIT),
        "is_sandbox": entry.is_sandbox,
        "generation_id": _text(entry.generation_id),
        "named_generation_id": _text(entry.named_id),
        "status": _text(entry.status, WORD_LIMIT),
        "error_code": _text(entry.error_code),
        "estimate_usd": money(entry.estimate_usd),
        "cost_usd": money(entry.cost_usd),
        "charged": entry.charged,
        "counted_usd": money(count_now(entry, now)),
        "created_at": timestamp(entry.created_at),
        "first_sent_at": timestamp(entry.first_sent_at),
        "settled_at": timestamp(entry.settled_at),
        "idempotency_key": safe(entry.idempotency_key, ID_LIMIT),
        "digest": safe(entry.digest, ID_LIMIT),
        "digest_version": entry.digest_version,
    }


def _describe_account(account: str, base_url: str, spending: Spending) -> dict[str, JsonValue]:
    return {
        "account": safe(account, ID_LIMIT),
        "base_url": safe(base_url, _URL_LIMIT),
        "spent_today_usd": money(spending.today_usd),
        "spent_this_month_usd": money(spending.month_usd),
        "spent_ever_usd": money(spending.ever_usd),
        "reserved_usd": money(spending.reserved_usd),
        "unresolved_usd": money(spending.unresolved_usd),
        "unresolved_attempts": spending.unresolved,
    }


def _text(text: str | None, limit: int = ID_LIMIT) -> str | None:
    return None if text is None else safe(text, limit)
