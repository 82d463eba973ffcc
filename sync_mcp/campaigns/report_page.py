"""The page of a campaign's report: one HTML file, without scripts, that needs nothing beside itself."""

import os
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import quote

from sync_mcp.api.languages import LANGUAGES
from sync_mcp.campaigns.report_style import STYLE
from sync_mcp.campaigns.rows import NEEDS_USER, ROW_WORDS, Campaign, CampaignState, Money, Row, RowState
from sync_mcp.campaigns.sheets import have_sheets, read_sheet, sheet_path
from sync_mcp.media.decoding.look import is_available
from sync_mcp.payments.limits import dollars, minute
from sync_mcp.texts import FILE_NAME_LIMIT, ID_LIMIT, MESSAGE_LIMIT, PIECE_LIMIT, WORD_LIMIT, count_of, safe

MOST_NEEDING = 50
GENERATOR = "sync-mcp campaign"
"""By which a page is told to be one of ours."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_CAMPAIGN_WORDS: Mapping[CampaignState, str] = {
    "planned": "Planned: it waits for a yes.",
    "approved": "Approved: its rows are made in turn.",
    "waiting": "Waiting",
    "paused": "Paused.",
    "stopped": "Stopped: nothing more is begun, and what runs is still fetched.",
    "ended": "Ended: no row is left to do.",
}
_PARTS: Mapping[str, tuple[RowState, ...]] = {
    "Done": ("saved",),
    "Running": ("running", "made", "saving"),
    "Left": ("planned",),
    "Needs you": NEEDS_USER,
    "Skipped": ("skipped",),
}
"""What a bar is made of; the last is shown where there is any."""
_CLASSES = dict(zip(_PARTS, ("done", "running", "left", "needs", "skipped"), strict=True))
_PART_OF: Mapping[RowState, str] = {state: part for part, states in _PARTS.items() for state in states}

_Parts = Mapping[str, int]


def draw_page(
    campaign: Campaign, rows: Sequence[Row], money: Money, folder: Path, *, table: str, now: float
) -> Iterator[str]:
    """Yield the page, piece by piece; blocks, as it reads the pictures.

    `folder` is where it comes to lie, without links; `table` is the name of the table beside it.
    """
    parts = Counter(_PART_OF[row.state] for row in rows)
    shown = [part for part in _PARTS if part != "Skipped" or parts[part]]
    name = _text(campaign.name, FILE_NAME_LIMIT)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name}: {parts['Done']:,} of {len(rows):,} saved</title>\n"
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n"
    )
    yield from _draw_head(campaign, name, table, now)
    yield '<ul class="parts">\n'
    for part in shown:
        yield f'<li class="{_CLASSES[part]}"><b>{parts[part]:,}</b> {part}</li>\n'
    yield '</ul>\n<div class="two">\n'
    yield from _draw_states(rows)
    yield from _draw_money(campaign, rows, money)
    yield "</div>\n"
    yield from _draw_languages(rows, shown)
    yield from _draw_needing(rows, table)
    yield from _draw_videos(rows, folder)
    yield "</body>\n</html>\n"


def _draw_head(campaign: Campaign, name: str, table: str, now: float) -> Iterator[str]:
    words = _CAMPAIGN_WORDS[campaign.state]
    if campaign.state == "waiting":
        words += "." if campaign.resumes_at is None else f" until {_time(campaign.resumes_at)}."
    reason = f" {_text(campaign.reason, MESSAGE_LIMIT)}" if campaign.reason else ""
    news = " Load the page again to see what is new." if campaign.state == "approved" else ""
    yield f"<header>\n<h1><bdi>{name}</bdi></h1>\n"
    if campaign.is_sandbox:
        yield '<p class="sandbox">SANDBOX: no real money</p>\n'
    yield (
        f'<p class="state"><strong>{words}</strong>{reason}</p>\n'
        f'<p class="quiet">Campaign {_text(campaign.id, ID_LIMIT)}, as of {_time(now)}.'
        f'<span class="screen">{news}</span> Every row with its price, its job and its error: '
        f'<a href="{_link(table)}">{_text(table)}</a></p>\n</header>\n'
    )


def _draw_states(rows: Sequence[Row]) -> Iterator[str]:
    states = Counter(row.state for row in rows)
    yield "<section>\n<h2>Rows</h2>\n<table>\n"
    for state, words in ROW_WORDS.items():
        if states[state]:
            yield _figure(words, f"{states[state]:,}")
    yield _figure("all", f"{len(rows):,}", total=True)
    yield "</table>\n</section>\n"


def _draw_money(campaign: Campaign, rows: Sequence[Row], money: Money) -> Iterator[str]:
    yield "<section>\n<h2>Money</h2>\n<table>\n"
    yield _figure("planned", dollars(money.planned))
    yield _figure("spent, as far as costs are known by now", dollars(money.spent))
    yield _figure("held, for what runs or has no known cost yet", dollars(money.held))
    if campaign.budget_usd is not None:
        left = campaign.budget_usd - money.spent - money.held
        yield _figure("budget", dollars(campaign.budget_usd), total=True)
        yield _figure("left of it" if left >= 0 else "above it", dollars(abs(left)))
    yield "</table>\n"
    if unpriced := sum(row.price_usd is None for row in rows):
        most = campaign.max_usd_per_row
        each = "" if most is None else f" Each may cost {dollars(most)} at most."
        without = count_of(unpriced, "row has", "rows have")
        yield f'<p class="quiet">{without} no known price, and what is planned is without them.{each}</p>\n'
    if campaign.is_sandbox:
        yield '<p class="quiet">SANDBOX: no real money. Nothing of it was paid.</p>\n'
    yield "</section>\n"


def _draw_languages(rows: Iterable[Row], shown: Sequence[str]) -> Iterator[str]:
    languages: dict[str, Counter[str]] = {}
    for row in rows:
        languages.setdefault(row.language, Counter())[_PART_OF[row.state]] += 1
    if not languages:
        return
    alone = "All rows" if len(languages) == 1 else "No language of its own"
    heads = "".join(f'<th scope="col" class="{_CLASSES[part]}">{part}</th>' for part in shown)
    yield f'<section>\n<h2>Languages</h2>\n<table class="bars">\n<tr><th></th>{heads}</tr>\n'
    for language in sorted(languages, key=lambda code: (not code, _language(code))):
        parts = languages[language]
        numbers = "".join(f"<td>{parts[part]:,}</td>" for part in shown)
        yield (
            f'<tr><th scope="row"><bdi>{_language(language) or alone}</bdi>{_bar(parts)}</th>{numbers}</tr>\n'
        )
    yield "</table>\n</section>\n"


def _bar(parts: _Parts) -> str:
    pieces = "".join(
        f'<i class="{_CLASSES[part]}" style="flex:{parts[part]}"></i>' for part in _PARTS if parts[part]
    )
    return f'<span class="bar" aria-hidden="true">{pieces}</span>'


def _draw_needing(rows: Sequence[Row], table: str) -> Iterator[str]:
    needing = sorted((row for row in rows if row.state in NEEDS_USER), key=lambda row: -row.changed_at)
    if not needing:
        return
    words = count_of(len(needing), "row needs you", "rows need you")
    yield f'<section>\n<h2>{words}</h2>\n<ol class="needing">\n'
    for row in needing[:MOST_NEEDING]:
        error = _text(row.error, 2 * MESSAGE_LIMIT) if row.error else "No reason was written down."
        yield f"<li><b>{_about(row)}</b> {_quiet(row, ROW_WORDS[row.state])}<p>{error}</p></li>\n"
    yield "</ol>\n"
    if len(needing) > MOST_NEEDING:
        more = len(needing) - MOST_NEEDING
        yield f'<p>and {more:,} more in <a href="{_link(table)}">{_text(table)}</a></p>\n'
    yield "</section>\n"


def _draw_videos(rows: Sequence[Row], folder: Path) -> Iterator[str]:
    saved = [row for row in rows if row.state == "saved"]
    if not saved:
        return
    link = _link_finder(folder)
    pictured = have_sheets(saved)
    yield f"<section>\n<h2>{count_of(len(saved), 'video')} saved</h2>\n"
    if not is_available():
        yield (
            '<p class="quiet">New pictures are not drawn: what reads videos is not installed where this page '
            "was written. Install sync-mcp[media] there.</p>\n"
        )
    yield '<ul class="videos">\n'
    for row in pictured:
        sheet = sheet_path(row, folder)
        picture = (
            '<span class="none">Its file is not there any more.</span>'
            if sheet is None
            else _picture(row, read_sheet(sheet))
        )
        href = link(row) if sheet is not None else None
        yield f"<li>{_wrap_in_link(picture, href)}{_caption(row, href)}</li>\n"
    yield "</ul>\n"
    numbers = {row.number for row in pictured}
    rest = [row for row in saved if row.number not in numbers]
    if rest:
        yield f'<h3>{len(rest):,} more, without a picture</h3>\n<ul class="rest">\n'
        for row in rest:
            yield f"<li>{_caption(row, link(row))}</li>\n"
        yield "</ul>\n"
    yield "</section>\n"


def _picture(row: Row, jpeg: bytes | None) -> str:
    if jpeg:
        return (
            f'<img src="data:image/jpeg;base64,{b64encode(jpeg).decode()}" alt="Frames of row {row.number}">'
        )
    words = "No picture yet." if jpeg is None else "No picture can be drawn of it."
    return f'<span class="none">{words}</span>'


def _caption(row: Row, href: str | None) -> str:
    return (
        f'{_wrap_in_link(_about(row), href)}<div>{_quiet(row)} <span class="price">{_price(row)}</span></div>'
    )


def _price(row: Row) -> str:
    if row.cost_usd is not None:
        return dollars(row.cost_usd)
    return "price not known" if row.price_usd is None else f"about {dollars(row.price_usd)}"


def _quiet(row: Row, *more: str) -> str:
    facts = [f"row {row.number}", *filter(None, [_language(row.language)]), *more]
    if row.take > 1:
        facts.append(f"take {row.take}")
    return f"<small>{' · '.join(facts)}</small>"


def _figure(words: str, number: str, *, total: bool = False) -> str:
    line = ' class="total"' if total else ""
    return f'<tr{line}><th scope="row">{words}</th><td>{number}</td></tr>\n'


def _about(row: Row) -> str:
    # A sentence of ours, whatever letters the name in it begins with.
    return f'<bdi dir="ltr">{_text(row.about, FILE_NAME_LIMIT)}</bdi>'


def _language(code: str) -> str:
    return _text(LANGUAGES.get(code, code), WORD_LIMIT)


def _time(seconds: float) -> str:
    return minute(datetime.fromtimestamp(seconds, UTC))


def _link_finder(folder: Path) -> Callable[[Row], str | None]:
    """Return what finds the relative links to the videos; the folders of them are resolved once each."""

    @cache
    def steps_to(place: Path) -> str:
        return os.path.relpath(os.path.realpath(place), folder)

    def link(row: Row) -> str | None:
        if not row.saved_as:
            return None
        path = Path(row.saved_as)
        try:
            return _link(Path(steps_to(path.parent), path.name).as_posix())
        except ValueError:
            # On another disk of Windows.
            return None

    return link


def _link(path: str) -> str:
    """Return a relative path as a link to it: no letter of it is left that means anything in a URL."""
    return quote(os.fsencode(path))


def _wrap_in_link(inner: str, href: str | None) -> str:
    return inner if href is None else f'<a href="{escape(href)}">{inner}</a>'


def _text(text: str, limit: int = PIECE_LIMIT) -> str:
    """Return text from elsewhere as it may stand in the page."""
    return escape(safe(text, limit))
