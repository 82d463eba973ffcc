"""What the command shows a person: plain lines, and where there is a terminal colour, tables and bars."""

import os
import sys
import textwrap
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table
from rich.text import Text

from sync_mcp.cli.streams import print_text, take_all_letters

_ANY_WIDTH = 10_000

Stacks = Sequence[Sequence[int]]
"""How a table is laid out: for each of its columns the fields that stand there, one below the other."""


class Screen(Console):
    """Standard output; what is shown there as `Text` is data, in which nothing is markup."""

    def __init__(self) -> None:
        take_all_letters()
        # Without colour nothing else is put among the letters either.
        system = None if os.environ.get("NO_COLOR") else "auto"
        super().__init__(color_system=system, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        # Inside a callback of the client an exit would be told with a traceback; this is told as what it is.
        raise

    def print_line(self, line: Text) -> None:
        """Print a line, on a terminal broken between words alone; elsewhere it stays one line."""
        for piece in fit(line, self.width) if self.is_terminal else [line]:
            self.print(piece, soft_wrap=True)


class _Accents(RegexHighlighter):
    """Colours what a report says; each pattern holds the name of the style. It looks at whole lines."""

    highlights = [  # noqa: RUF012 - the base class declares it so
        r"^(?:  )?(?P<cyan>[a-z][a-z -]{9}) ",
        r"^  (?P<red>WRONG -> .*)",
        r"^(?P<red>[\d,]+ things? (?:is|are) wrong\.)$",
        r"^(?P<green>All is well\.)$",
        r"^(?P<bold>Entry [\d,]+)$",
        r"^(?P<yellow>WARNING:|Unresolved:)",
        r"^  state +(?P<yellow>unresolved)",
        r"(?P<bold>`[^`]+`)",
    ]


def is_on_terminal() -> bool:
    """Return whether somebody reads standard output on a terminal; a pipe never gets colour or a table."""
    return sys.stdout.isatty()


def show_lines(text: str) -> None:
    """Print a text of plain lines, whole for a program; on a terminal with colour, broken between words."""
    if not is_on_terminal():
        print_text(text)
        return
    screen, accents = Screen(), _Accents()
    for line in text.split("\n"):
        shown = Text(line)
        accents.highlight(shown)
        screen.print_line(shown)


def show_pasted(text: str) -> None:
    """Print paragraphs, by turns one of what to do and one of what is then typed or pasted as it stands."""
    if not is_on_terminal():
        print_text(text)
        return
    screen = Screen()
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            screen.print()
        if number % 2:
            screen.print(Text(paragraph, "cyan"), soft_wrap=True)
        else:
            for line in paragraph.split("\n"):
                screen.print_line(Text(line))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[Text]], layouts: Sequence[Stacks]) -> None:
    """Show rows of fields on a terminal, by the first layout that is not wider; else by the last one."""
    screen = Screen()
    tables = [_lay_out(heads, rows, stacks) for stacks in layouts]
    boundless = screen.options.update_width(_ANY_WIDTH)
    widths = [screen.measure(table, options=boundless).maximum for table in tables]
    chosen = next((number for number, width in enumerate(widths) if width <= screen.width), -1)
    # On a narrower terminal than that lines are broken by the terminal: what is cut off is lost.
    screen.width = max(screen.width, widths[chosen])
    screen.print(tables[chosen], width=widths[chosen], crop=False, no_wrap=True, overflow="ignore")


def _lay_out(heads: Sequence[str], rows: Sequence[Sequence[Text]], stacks: Stacks) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for fields in stacks:
        table.add_column("\n".join(heads[field] for field in fields), no_wrap=True)
    for row in rows:
        table.add_row(*(Text("\n").join(row[field] for field in fields) for fields in stacks))
        if any(len(fields) > 1 for fields in stacks):
            # What stands below one another is told from the next one's by an empty line.
            table.add_row()
    return table


@contextmanager
def waiting(what: str) -> Generator[None]:
    """Show on a terminal that something takes its time; elsewhere nothing is said."""
    if not is_on_terminal():
        yield
        return
    with Screen().status(Text(what)):
        yield


def fit(line: Text, columns: int) -> Iterator[Text]:
    """Yield a line broken between words alone, into lines that fit so many columns.

    What goes on stands further in. A word that is longer than a line is left whole.
    """
    indent = line.plain[: len(line.plain) - len(line.plain.lstrip())]
    pieces = textwrap.wrap(
        line.plain,
        columns,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    if not pieces:
        yield line
    begin = 0
    for number, piece in enumerate(pieces):
        words = piece.strip()
        begin = line.plain.index(words, begin)
        shown = line[begin : begin + len(words)]
        yield Text(indent if number == 0 else f"{indent}  ") + shown
        begin += len(words)
