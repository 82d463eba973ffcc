"""`make site`: the pages as a site in build/site/html, which needs nothing from elsewhere.

python -m tests.docs.site ZENSICAL

ZENSICAL is the command that builds it. The pages lie there as in the repository, with the files that they
link to. Each link of the built pages is followed, and what a page would fetch from another host is an error.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue, TypeAdapter
from typing_extensions import override

from tests.docs.pages import ROOT

CONFIGURATION: Final = ROOT / ".github" / "site" / "zensical.toml"
SITE: Final = ROOT / "build" / "site"
EXAMPLES: Final = "examples/index.md"
_NAV: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
# Of these a browser fetches what they name.
_FETCHED: Final = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src"}


def list_pages() -> list[Path]:
    """Return every page of the repository that the site shows."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def list_named_pages() -> list[str]:
    """Return the pages that the navigation names."""
    told = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))
    return list(_leaves(_NAV.validate_python(told["project"]["nav"])))


def find_faults(site: Path) -> list[str]:
    """Return what is wrong with the links of the pages below `site`, one line each."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    return [fault for path, page in pages.items() for fault in _faults_of(path, page, pages, site)]


class _Page(HTMLParser):
    """The links of a page, and what can be linked to on it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.fetched: list[tuple[str, str]] = []
        self.anchors: set[str] = set()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append((tag, given["href"]))
        elif (fetched := given.get(_FETCHED.get(tag, ""))) and given.get("rel") != "canonical":
            self.fetched.append((tag, fetched))


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _faults_of(path: Path, page: _Page, pages: dict[Path, _Page], site: Path) -> Iterator[str]:
    name = path.relative_to(site)
    for tag, target in page.fetched:
        if urlsplit(target).netloc:
            yield f"{name}: <{tag}> fetches {target} from elsewhere"
    for _, target in (*page.links, *page.fetched):
        link = urlsplit(target)
        if link.scheme or link.netloc:
            continue
        if link.path.startswith("/"):
            found = site / unquote(link.path).lstrip("/")
        else:
            found = (path.parent / unquote(link.path)).resolve() if link.path else path
        if not found.is_file():
            yield f"{name}: {target} leads nowhere"
        elif link.fragment and found in pages and unquote(link.fragment) not in pages[found].anchors:
            yield f"{name}: {target} names no place of that page"


def _leaves(nav: JsonValue) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for entry in nav:
            yield from _leaves(entry)
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from _leaves(entry)


def _lay_out(pages: Path) -> None:
    """Put the pages, and each file that they link to, below `pages`."""
    for page in list_pages():
        _copy(page, pages)
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if linked.is_file():
                _copy(linked, pages)
    lines = ["# Examples", ""]
    for example in sorted((ROOT / "examples").glob("*.py")):
        _copy(example, pages)
        about = (ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or "").splitlines()[0]
        lines.append(f"- [{example.name}]({example.name}): {about}")
    (pages / EXAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _copy(path: Path, pages: Path) -> None:
    place = pages / path.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_bytes()
    if path.name == "README.md":
        # A folder is a page of its own here.
        text = text.replace(b"](examples)", f"]({EXAMPLES})".encode())
    place.write_bytes(text)


def main(zensical: str) -> None:
    """Build the site, and end the program where a link fails."""
    shutil.rmtree(SITE, ignore_errors=True)
    _lay_out(SITE / "pages")
    shutil.copy(CONFIGURATION, SITE)
    subprocess.run([Path(zensical).resolve(), "build", "--strict"], cwd=SITE, check=True)
    faults = find_faults(SITE / "html")
    if faults:
        sys.exit("\n".join(faults))
    sys.stdout.write(f"{SITE / 'html' / 'index.html'}\n")


if __name__ == "__main__":
    main(sys.argv[1])
