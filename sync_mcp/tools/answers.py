"""Answers and errors as an assistant reads them: structured content, and the same facts as short text.

Whatever made them, no control or invisible character of another's text gets out of here.
"""

import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, ConfigDict

from sync_mcp.errors import ApprovalRequired, LimitReached, SyncError
from sync_mcp.text import visible
from sync_mcp.tools.limit_words import limit_message, limit_next_step

_SANDBOX = "SANDBOX:"
SANDBOX_MARK = f"{_SANDBOX} a stand-in; no real video is made and no real money is spent."

_SPENT = {
    "no": "No money was spent.",
    "yes": "Money was spent.",
    "unknown": "Whether money was spent is unknown.",
}
_CODE = re.compile(r"\w{1,80}", re.ASCII)
# What could be taken for the next field of a row.
_LIKE_FIELDS = re.compile(r"[,:]\s|^\"")
_ELSE = "Tell the user what went wrong, and ask how to go on."


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


def answer_result(answer: Answer | Picture) -> CallToolResult:
    """Return the result of a call that did what it was asked."""
    if isinstance(answer, Picture):
        line = visible(f"{answer.line} {answer.sandbox or ''}".rstrip())
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
    next_step = facts.pop("next_step")
    structured = {**mark, **facts, "next_step": next_step}
    return CallToolResult(
        content=[TextContent(type="text", text=as_text(structured))], structured_content=structured
    )


def error_result(error: SyncError, *, sandboxed: bool) -> CallToolResult:
    """Return the result of a call that failed: what went wrong, the money, a retry, and the next step."""
    code = error.code if _CODE.fullmatch(error.code) else type(error).code
    message, next_step = error.message, error.next_step
    if isinstance(error, LimitReached):
        # Its own words are those of the library, for who sets limits in a program.
        message, next_step = limit_message(error), limit_next_step(error)
    question = error.question if isinstance(error, ApprovalRequired) else ()
    lines = [
        f"{code}: {visible(message)}",
        _SPENT[error.money_spent],
        _retry_line(error),
        f"Next: {visible(next_step) or _ELSE}",
    ]
    meta: dict[str, Any] = {"code": code, "money_spent": error.money_spent}
    if error.retry_after_seconds is not None:
        meta["retry_after_seconds"] = round(error.retry_after_seconds, 1)
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

    A value in a row that could be taken for more than one stands in quotes, as in JSON.
    """
    lines: list[str] = []
    for name, value in structured.items():
        if isinstance(value, list):
            lines.append(f"{name}:" if value else f"{name}: none")
            lines.extend(f"- {_row(entry, _quoted)}" for entry in cast(list[object], value))
        else:
            lines.append(f"{name}: {_row(value, _plain)}")
    return "\n".join(lines)


def finite(number: float | None) -> float | None:
    """Return a number of the API's, or None for one that JSON has no form for."""
    return number if number is not None and math.isfinite(number) else None


def _row(entry: object, shown: Callable[[object], str]) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(
            f"{name} {shown(value)}" for name, value in cast(Mapping[str, object], entry).items()
        )
    return _plain(entry)


def _quoted(value: object) -> str:
    if isinstance(value, str) and _LIKE_FIELDS.search(value):
        return json.dumps(value, ensure_ascii=False)
    return _plain(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_line(error: SyncError) -> str:
    if error.money_spent == "unknown":
        return "It may have been accepted: do not make another one before looking."
    if not error.retryable:
        return "The same call will fail again."
    if error.retry_after_seconds is None:
        return "The same call may work later."
    return f"The same call may work in {error.retry_after_seconds:.0f} s."
