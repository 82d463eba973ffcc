"""Draws the pictures of README.md: plays the demo, and writes what it prints and makes to docs/pictures.

The terminal is an SVG in which one line after another appears; where nothing moves, all of them are there.
"""

import re
import shutil
import sys
from html import escape, unescape
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from rich.console import Console
from rich.text import Text

from sync_mcp.cli.demo import run_demo
from sync_mcp.cli.telling import Plain
from tests.docs.pages import ROOT

PICTURES = ROOT / "docs" / "pictures"
TERMINAL = PICTURES / "demo.svg"
SHEET = PICTURES / "contact-sheet.jpg"
FOLDER = "demo-output"

_COLUMNS = 100
_SECONDS_A_LINE = 0.55
_SECONDS_AT_THE_END = 6.0
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<desc>@transcript@</desc>
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px "DejaVu Sans Mono", Menlo, Consolas, monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
@media (prefers-reduced-motion: no-preference) {{
@motion@
}}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class _Steps(Plain):
    """The demo without its progress, which is never twice the same, line by line as markup."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def show_progress(self, done: float, message: str) -> None:
        pass

    def _line(self, markup: str) -> None:
        self.lines += markup.split("\n")


def transcript(svg: str) -> list[str]:
    """Return the lines that a picture shows, as the demo prints them where there is no terminal."""
    found = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
    assert found
    return unescape(found.group(1)).splitlines()


def without_progress(printed: str, folder: Path) -> list[str]:
    """Return what the demo printed without its progress, and as if it had been played in the clone."""
    moving = re.compile(r"  (Reading|Uploading|Downloading|asking|PENDING|PROCESSING)\b")
    lines = printed.replace(str(folder), FOLDER).splitlines()
    return [line for line in lines if not moving.match(line)]


def draw(lines: list[str]) -> str:
    """Return the picture of these lines of markup."""
    screen = Console(
        file=StringIO(),
        record=True,
        highlight=False,
        width=_COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
    )
    for line in lines:
        screen.print(line)
    svg = screen.export_svg(title="sync-mcp demo", code_format=_SVG, unique_id="demo")
    count = len(re.findall(r'<clipPath id="demo-line-', svg)) + 1
    whole = count * _SECONDS_A_LINE + _SECONDS_AT_THE_END
    motion = [f"text {{ animation: {whole:.1f}s step-end infinite }}"]
    for number in range(count):
        begins = 100 * number * _SECONDS_A_LINE / whole
        motion.append(f"@keyframes l{number} {{ 0% {{ opacity: 0 }} {begins:.2f}% {{ opacity: 1 }} }}")
        motion.append(f'text[clip-path="url(#demo-line-{number})"] {{ animation-name: l{number} }}')
    told = "\n".join(Text.from_markup(line).plain for line in lines)
    return svg.replace("@transcript@", escape(told, quote=False)).replace("@motion@", "\n".join(motion))


def main() -> None:
    steps = _Steps()
    with TemporaryDirectory() as temporary:
        folder = (Path(temporary) / FOLDER).resolve()
        if code := anyio.run(run_demo, str(folder), steps):
            sys.exit(code)
        PICTURES.mkdir(exist_ok=True)
        shutil.copyfile(folder / SHEET.name, SHEET)
    lines = [line.replace(str(folder), FOLDER) for line in steps.lines]
    TERMINAL.write_text(draw(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
