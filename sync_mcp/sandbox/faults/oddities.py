"""Lists that are not as they should be: what the setting `list_oddities` makes of them."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import cast
from urllib.parse import urlsplit

from pydantic import JsonValue

from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.jobs import Job, JsonObject
from sync_mcp.sandbox.settings import ListOddity

_SKIPPED_OF = 3
_SHORT_PAGE = 20
_SUFFIX = "-20261102"
_OTHER_HOST = "https://media.sandbox.invalid"
_SHIFT = timedelta(minutes=-10)


def jobs_to_skip(jobs: list[Job], reading: int) -> list[Job]:
    """Return what a reading, the first or a later one, leaves out of jobs that stand oldest first."""
    newest_first = jobs[::-1]
    return newest_first[(reading - 1) % _SKIPPED_OF :: _SKIPPED_OF]


def cut(jobs: list[Job], limit: int | None, oddities: Collection[ListOddity]) -> list[Job]:
    """Return the page that starts with these jobs, or all of them where there is no limit."""
    if "repeat" in oddities:
        jobs = [job for job in jobs for _ in range(2)]
    if limit is None:
        return jobs
    page = jobs[: min(limit, _SHORT_PAGE) if "short_pages" in oddities else limit]
    return page[::-1] if "reversed_pages" in oddities else page


def rewrite(shown: JsonObject, created_at: datetime, oddities: Collection[ListOddity]) -> JsonObject:
    """Return a generation as a list shows it."""
    entry = dict(shown)
    items = cast(list[JsonObject], entry["input"])
    if "model_suffix" in oddities:
        entry["model"] = f"{entry['model']}{_SUFFIX}"
    if "inputs_reordered" in oddities:
        items = items[::-1]
    if "urls_rewritten" in oddities:
        items = [_elsewhere(item) for item in items]
    if "created_at_shifted" in oddities:
        entry["createdAt"] = timestamp(created_at + _SHIFT)
    if "no_created_at" in oddities:
        del entry["createdAt"]
    return entry | {"input": cast(JsonValue, items)}


def _elsewhere(item: JsonObject) -> JsonObject:
    url = item.get("url")
    if not isinstance(url, str):
        return item
    return item | {"url": _OTHER_HOST + urlsplit(url)._replace(scheme="", netloc="").geturl()}
