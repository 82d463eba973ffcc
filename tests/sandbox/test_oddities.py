from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.sandbox.wire import ask, create, lipsync


def _make(sandbox: Sandbox, api: httpx.Client, count: int) -> list[str]:
    """Make so many jobs that have ended, and return their ids, the newest first."""
    sandbox.configure(job_seconds=0)
    return [create(api, lipsync(sandbox))["id"] for _ in range(count)][::-1]


def _read(api: httpx.Client, **query: object) -> list[str]:
    response = api.get("/v2/generations", params={name: str(value) for name, value in query.items()})
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


def _pages(api: httpx.Client, limit: int) -> list[list[str]]:
    """Follow the last row of each page until a page is empty."""
    pages = [_read(api, limit=limit)]
    while pages[-1]:
        assert len(pages) < 20
        pages.append(_read(api, limit=limit, cursor=pages[-1][-1]))
    return pages[:-1]


def test_what_is_skipped_on_one_reading_is_shown_on_the_next(sandbox: Sandbox, api: httpx.Client) -> None:
    a, b, c, d, e = _make(sandbox, api, 5)
    sandbox.configure(list_oddities=("skip",))
    readings = [_read(api, limit=10) for _ in range(4)]
    assert readings == [[b, c, e], [a, c, d], [a, b, d, e], [b, c, e]]


def test_the_same_readings_of_another_sandbox_skip_the_same(sandbox: Sandbox, api: httpx.Client) -> None:
    readings: list[list[list[str]]] = []
    for _ in range(2):
        sandbox.reset()
        _make(sandbox, api, 5)
        sandbox.configure(list_oddities=("skip",))
        readings.append([_read(api, limit=10), _read(api), _read(api, status="COMPLETED")])
    assert readings[0] == readings[1]


def test_a_page_of_a_list_that_skips_is_full_and_its_cursor_is_good(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    a, b, c, d, e = _make(sandbox, api, 5)
    sandbox.configure(list_oddities=("skip",))
    assert _read(api, limit=2) == [b, c]
    assert _read(api, limit=1, cursor=b) == [c]
    # This reading leaves out the row that the cursor names.
    assert _read(api, limit=2, cursor=c) == [d, e]
    assert a not in _read(api, limit=5)


def test_a_list_can_be_read_without_a_limit_and_skip(sandbox: Sandbox, api: httpx.Client) -> None:
    ids = _make(sandbox, api, 3)
    sandbox.configure(list_oddities=("skip",))
    assert sorted(_read(api)) == sorted(ids[1:])
    assert sorted(_read(api)) == sorted([ids[0], ids[2]])


def test_a_list_that_repeats_shows_each_entry_twice_and_comes_to_its_end(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    a, b, c = _make(sandbox, api, 3)
    sandbox.configure(list_oddities=("repeat",))
    assert _read(api, limit=10) == [a, a, b, b, c, c]
    assert _read(api) == [c, c, b, b, a, a]
    assert _pages(api, 3) == [[a, a, b], [c, c]]
    assert _pages(api, 1) == [[a], [b], [c]]


def test_a_list_in_reverse_has_the_oldest_on_its_first_page(sandbox: Sandbox, api: httpx.Client) -> None:
    a, b, c = _make(sandbox, api, 3)
    sandbox.configure(list_oddities=("reverse",))
    assert _pages(api, 2) == [[c, b], [a]]
    assert _read(api) == [a, b, c]


def test_reversed_pages_hold_what_they_should_the_other_way_round(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    a, b, c, d = _make(sandbox, api, 4)
    sandbox.configure(list_oddities=("reversed_pages",))
    assert _read(api, limit=2) == [b, a]
    assert _read(api, limit=2, cursor=b) == [d, c]
    assert _pages(api, 3)[-1] == [d]


def test_a_short_page_holds_twenty_whatever_the_limit(sandbox: Sandbox, api: httpx.Client) -> None:
    ids = _make(sandbox, api, 23)
    sandbox.configure(list_oddities=("short_pages",))
    assert _pages(api, 100) == [ids[:20], ids[20:]]
    assert _read(api, limit=3) == ids[:3]
    assert len(_read(api)) == 23


@pytest.mark.parametrize(
    ("oddity", "changed"),
    [
        ("model_suffix", {"model"}),
        ("inputs_reordered", {"input"}),
        ("urls_rewritten", {"input"}),
        ("no_created_at", {"createdAt"}),
        ("created_at_shifted", {"createdAt"}),
    ],
)
def test_a_rewritten_list_changes_one_field_and_the_job_itself_stays(
    sandbox: Sandbox, api: httpx.Client, oddity: str, changed: set[str]
) -> None:
    created = create(api, lipsync(sandbox))
    sandbox.configure(list_oddities=(oddity,))
    for query in ({}, {"limit": "10"}):
        (row,) = api.get("/v2/generations", params=query).json()
        assert {name for name in created if row.get(name) != created[name]} == changed
    assert api.get(f"/v2/generate/{created['id']}").json() == created
    assert sandbox.generations[created["id"]] == created


def test_a_rewritten_list_shows_the_same_in_other_words(sandbox: Sandbox, api: httpx.Client) -> None:
    created = create(api, lipsync(sandbox))
    every = ("model_suffix", "inputs_reordered", "urls_rewritten", "created_at_shifted")
    sandbox.configure(list_oddities=every)
    (row,) = api.get("/v2/generations").json()
    assert row["model"].startswith("lipsync-2-")
    assert [item["type"] for item in row["input"]] == ["audio", "video"]
    names = ("speech.wav", "speaker.mp4")
    urls = [item["url"] for item in row["input"]]
    assert urls == [f"https://media.sandbox.invalid/samples/{name}" for name in names]
    shift = datetime.fromisoformat(row["createdAt"]) - datetime.fromisoformat(created["createdAt"])
    assert shift == timedelta(minutes=-10)


def test_oddities_lags_and_hidden_jobs_go_together(sandbox: Sandbox, api: httpx.Client) -> None:
    a, b, c = _make(sandbox, api, 3)
    sandbox.add_fault(Fault(job="hide"))
    sandbox.add_fault(Fault(list_lag_seconds=3600))
    create(api, lipsync(sandbox))
    create(api, lipsync(sandbox))
    sandbox.configure(list_oddities=("skip", "reverse", "repeat"))
    assert _read(api, limit=10) == [c, c, b, b]
    assert _read(api, limit=10) == [c, c, a, a]


def test_odd_lists_count_what_there_is(sandbox: Sandbox, api: httpx.Client) -> None:
    _make(sandbox, api, 3)
    sandbox.configure(list_oddities=("skip", "repeat"))
    assert api.get("/v2/generations/count").json() == {"count": 3}


def test_oddities_are_set_by_request(sandbox: Sandbox, api: httpx.Client) -> None:
    settings = f"{sandbox.url}/sandbox/settings"
    changes: dict[str, Any] = {"list_oddities": ["reverse", "no_created_at"]}
    assert ask("PATCH", settings, json=changes).json()["list_oddities"] == ["reverse", "no_created_at"]
    a, b = _make(sandbox, api, 2)
    assert _read(api, limit=2) == [b, a]
    assert ask("PATCH", settings, json={"list_oddities": ["upside_down"]}).status_code == 400
    assert ask("PATCH", settings, json={"list_oddities": []}).json()["list_oddities"] == []
    assert _read(api, limit=2) == [a, b]
