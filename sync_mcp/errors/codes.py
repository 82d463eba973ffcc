"""Every word that an error's `code` can be, and the next steps that follow from the code alone."""

from collections.abc import Mapping
from typing import Literal

Code = Literal[
    "api_error",
    "api_key_missing",
    "api_response_unreadable",
    "api_timeout",
    "api_unreachable",
    "approval_cancelled",
    "approval_closed_at_once",
    "approval_denied",
    "approval_required",
    "authentication_failed",
    "concurrency_limit_reached",
    "configuration_error",
    "conflict",
    "create_under_way",
    "event_unreadable",
    "file_changed",
    "file_damaged",
    "file_empty",
    "file_exists",
    "file_not_allowed",
    "file_not_found",
    "file_not_media",
    "file_not_readable",
    "file_not_writable",
    "file_refused",
    "file_too_large",
    "file_too_slow",
    "folder_not_found",
    "generation_failed",
    "generation_not_visible",
    "generation_running",
    "internal_error",
    "invalid_request",
    "ledger_corrupt",
    "ledger_missing",
    "ledger_newer",
    "ledger_replaced",
    "ledger_unavailable",
    "ledger_untouched",
    "limit_reached",
    "media_extra_missing",
    "media_worker_failed",
    "no_output",
    "not_found",
    "not_offered",
    "not_sent",
    "outcome_unknown",
    "payment_required",
    "permission_denied",
    "price_changed",
    "quote_refused",
    "quote_revoked",
    "rate_limit_exceeded",
    "read_only",
    "request_rejected",
    "server_error",
    "signature_missing",
    "signature_stale",
    "signature_wrong",
    "storage_refused",
    "sync_error",
    "tool_off",
    "transfer_under_way",
    "url_refused",
    "webhook_changed",
]
"""Every word that an error's `code` can be."""

NEXT_STEPS: Mapping[Code, str] = {
    "api_key_missing": "Set SYNC_API_KEY (made at https://sync.so/settings/api-keys).",
    "approval_cancelled": (
        "Nothing was sent, and the user has not decided: the same call asks them again, when they want it."
    ),
    "approval_closed_at_once": (
        "Nothing was sent. Tell the user. For unattended work they set SYNC_MCP_APPROVE_ABOVE_USD together "
        "with SYNC_MCP_BUDGET_USD_PER_DAY or SYNC_MCP_BUDGET_USD."
    ),
    "create_under_way": "Make exactly this call again in a while: it joins the job. Nothing is paid twice.",
    "price_changed": "Tell the user the price of now: estimate_cost tells it, with a new quote.",
    "quote_revoked": "Do not repeat the call by yourself: ask the user what to do instead.",
    "event_unreadable": "Answer 400: it tells of no job. If it stays so, the user asks Sync's support.",
    "signature_missing": (
        "Answer 401, and do nothing more: the API signs what it sends, so the user checks what is between."
    ),
    "signature_stale": "Answer 401, and do nothing more; where all are refused, the user checks the clock.",
    "storage_refused": "Call again; if it stays, quote this to Sync's support.",
    "url_refused": (
        "Only public https hosts and the API's own are asked: give such a URL, or check SYNC_BASE_URL where "
        "the API named it."
    ),
    "webhook_changed": (
        "Tell the user who gets the finished job's URL; estimate_cost gives a new quote for that."
    ),
}
"""Where a class has several codes, of different causes."""
