"""What `make site` builds: all pages are in it, and a link that fails is told; CI builds the site itself."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.site import CONFIGURATION, EXAMPLES, find_faults, list_named_pages, list_pages


@pytest.mark.skipif(not CONFIGURATION.exists(), reason="this is no clone")
def test_the_navigation_names_every_page_once() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in list_pages()]
    assert sorted(list_named_pages()) == sorted([*pages, EXAMPLES])


def faults(site: Path, page: str) -> list[str]:
    (site / "docs").mkdir()
    (site / "docs" / "money.html").write_text('<h2 id="limits">Limits</h2>', encoding="utf-8")
    (site / "index.html").write_text(page, encoding="utf-8")
    return find_faults(site)


def test_a_link_that_leads_somewhere_is_no_fault(tmp_path: Path) -> None:
    page = '<a href="docs/money.html#limits">a</a><a href="https://sync.so">b</a><a id="c" href="#c">c</a>'
    assert faults(tmp_path, page) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="docs/price.html">a</a>', "index.html: docs/price.html leads nowhere"),
        ('<img src="docs/sheet.jpg">', "index.html: docs/sheet.jpg leads nowhere"),
        (
            '<a href="docs/money.html#price">a</a>',
            "index.html: docs/money.html#price names no place of that page",
        ),
    ],
)
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, page: str, fault: str) -> None:
    assert faults(tmp_path, page) == [fault]


@pytest.mark.parametrize(
    ("tag", "page"),
    [
        ("script", '<script src="https://cdn.example/x.js"></script>'),
        ("link", '<link rel="stylesheet" href="//fonts.example/x.css">'),
        ("img", '<img src="http://pictures.example/x.png">'),
    ],
)
def test_what_a_page_would_fetch_from_another_host_is_told(tmp_path: Path, tag: str, page: str) -> None:
    [fault] = faults(tmp_path, page)
    assert fault.startswith(f"index.html: <{tag}> fetches ")
    assert fault.endswith(" from elsewhere")
