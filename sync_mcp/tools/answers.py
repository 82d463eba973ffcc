"""Answers and errors as an assistant reads them: structured content, and the same facts as short text.

Whatever made them, no control or invisible character of another's text gets out of here.
"""

import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, ConfigDict

from sync_mcp.errors import APIStatusError, ApprovalDenied, ApprovalRequired, LimitReached, SyncError
from sync_mcp.texts import visible
from sync_mcp.tools.limit_words import limit_ends_at, limit_message
from sync_mcp.tools.remedies import next_step
from sync_mcp.tools.withheld import Off, tell_withheld

_SANDBOX = "SANDBOX:"
SANDBOX_MARK = f"{_SANDBOX} nothing real is made or paid."

_SPENT = {
    "no": "No money was spent.",
    "yes": "Money was spent.",
    "unknown": "Whether money was spent is unknown.",
}
# What cannot be taken for anything but one value: no space, no comma of any script, no quote.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.:/+%~?&=#@$!*';()-]+")
_OWN_VOICE = ("sandbox", "next_step")
"""Where the server speaks itself: all else is data, and in quotes where it is more than a word."""
_MAY_WORK = ("uploaded_file_not_found", "IDEMPOTENCY_CONFLICT")
"""Codes of the API's, of a status by which a call is not made again, though by these it can be."""
_SHOWN_NAMES = {"api_says": "The API says"}
_NONE_OFF: Mapping[str, Off] = {}


class Answer(BaseModel):
    """Base of every structured answer; a field that is None is left out."""

    model_config = ConfigDict(protected_namespaces=())

    next_step: str
    sandbox: str | None = None


@dataclass(slots=True)
class Picture:
    """An answer that is to be looked at, and one line about it."""

    jpeg: bytes
    line: str
    sandbox: str | None = None


def answer_result(answer: Answer | Picture, *, withheld: Mapping[str, Off] = _NONE_OFF) -> CallToolResult:
    """Return the result of a call that did what it was asked; a next step says which tools are off."""
    if isinstance(answer, Picture):
        line = visible(f"{tell_withheld(answer.line, withheld)} {answer.sandbox or ''}".rstrip())
        data = b64encode(answer.jpeg).decode()
        return CallToolResult(
            content=[
                ImageContent(type="image", data=data, mime_type="image/jpeg"),
                TextContent(type="text", text=line),
            ]
        )
    facts = cast(dict[str, Any], _visible(answer.model_dump(mode="json", exclude_none=True)))
    # The mark is read first, and what to do next where the reading ends.
    mark = {name: facts.pop(name) for name in ("sandbox",) if name in facts}
    next_step = tell_withheld(facts.pop("next_step"), withheld)
    structured = {**mark, **facts, "next_step": next_step}
    return CallToolResult(
        content=[TextContent(type="text", text=as_text(structured))], structured_content=structured
    )


def error_result(
    error: SyncError,
    *,
    sandboxed: bool,
    tool: str = "",
    sample_urls: str = "",
    withheld: Mapping[str, Off] = _NONE_OFF,
) -> CallToolResult:
    """Return the result of a call that failed: what went wrong, the money, a retry, and the next step.

    What the API said of it follows in its own words. A host may hold structured content against the schema of
    an answer, so an error has none: its text says all.
    """
    message = limit_message(error) if isinstance(error, LimitReached) else error.message
    question = error.question if isinstance(error, ApprovalRequired) else ()
    lines = [
        f"{error.code}: {visible(message)}",
        _SPENT[error.money_spent],
        _retry_line(error),
        f"Next: {visible(tell_withheld(next_step(error, tool), withheld))}",
    ]
    meta: dict[str, Any] = {"code": error.code, "money_spent": error.money_spent}
    if error.retry_after_seconds is not None:
        meta["retry_after_seconds"] = round(error.retry_after_seconds, 1)
    request_id = error.request_id if isinstance(error, APIStatusError) else None
    said = {"api_code": error.api_code, "request_id": request_id, "api_says": error.api_says}
    foreign = {name: visible(text) for name, text in said.items() if text}
    lines.extend(f"{_label(name)}: {_quote_value(name, text)}" for name, text in foreign.items())
    meta.update(foreign)
    if sample_urls:
        lines.append(f"Sandbox samples: {sample_urls}.")
    if sandboxed:
        meta["sandbox"] = True
        # A question that is put to the user begins with the mark.
        if not "".join(question[:1]).startswith(_SANDBOX):
            lines.append(SANDBOX_MARK)
    lines.extend(map(visible, question))
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(lines))], is_error=True, _meta=meta
    )


def _visible(value: object) -> object:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {name: _visible(inner) for name, inner in cast(Mapping[str, object], value).items()}
    if isinstance(value, list):
        return [_visible(inner) for inner in cast(list[object], value)]
    return value


def as_text(structured: Mapping[str, Any]) -> str:
    """Return a structured answer as lines of `name: value`, rows of a list one line each.

    What is no plain word stands in quotes, as in JSON; only where the server speaks itself nothing does.
    """
    lines: list[str] = []
    for name, value in structured.items():
        if isinstance(value, list):
            lines.append(f"{name}:" if value else f"{name}: none")
            lines.extend(f"- {_row(entry)}" for entry in cast(list[object], value))
        else:
            lines.append(f"{_label(name)}: {_quote_value(name, value)}")
    return "\n".join(lines)


def _label(name: str) -> str:
    return _SHOWN_NAMES.get(name, name)


def _quote_value(name: str, value: object) -> str:
    if name in _OWN_VOICE:
        return str(value)
    # What the API says is quoted even where it is one word.
    return json.dumps(value, ensure_ascii=False) if name in _SHOWN_NAMES else _row(value)


def finite(number: float | None) -> float | None:
    """Return a number of the API's, or None for one that JSON has no form for."""
    return number if number is not None and math.isfinite(number) else None


def _row(entry: object) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(
            f"{name} {_show(value)}" for name, value in cast(Mapping[str, object], entry).items()
        )
    return _show(entry)


def _show(value: object) -> str:
    if isinstance(value, str) and not _PLAIN_WORD.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_line(error: SyncError) -> str:
    if error.money_spent == "unknown":
        return "It may have been accepted: do not make another one before looking."
    if isinstance(error, ApprovalDenied):
        return "The same call asks the user again."
    if error.api_code in _MAY_WORK:
        return "The same call may work later."
    if isinstance(error, LimitReached) and (until := limit_ends_at(error)) is not None:
        return f"The same call may work after {until}."
    if not error.retryable:
        return "The same call will fail again."
    if error.retry_after_seconds is None:
        return "The same call may work later."
    return f"The same call may work in {error.retry_after_seconds:.0f} s."
