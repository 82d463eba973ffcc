"""How the demo tells what happens: a person what it means, or letter for letter what the assistant reads."""

import json
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from mcp_types import CallToolResult, TextContent, Tool
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from sync_mcp.cli.screen import Screen

Facts = Mapping[str, Any]

_MOST_TOLD = 3
_BAR_COLUMNS = 12


class Telling(Protocol):
    """What is told of a step, as it happens."""

    def introduce(self, protocol: str, tools: list[Tool]) -> None:
        """The server has answered."""
        ...

    def show_call(self, tool: str, arguments: Facts) -> AbstractContextManager[None]:
        """A tool is called; what is told inside belongs to this call."""
        ...

    def show_progress(self, done: float, message: str) -> None:
        """The call under way is so far."""
        ...

    def show_question(self, text: str) -> None:
        """The server asks the user, who says yes."""
        ...

    def show_answer(self, tool: str, result: CallToolResult) -> None:
        """The call was answered."""
        ...

    def conclude(self, sheet: Path, video: str) -> None:
        """All is made."""
        ...


class Raw:
    """Tells what the assistant sends and reads, and nothing else."""

    def introduce(self, protocol: str, tools: list[Tool]) -> None:
        print(f"Connected to sync-mcp --sandbox over stdio, protocol {protocol}.\n\n> tools/list")
        for tool in tools:
            print(f"{tool.name:22}{tool.title}")

    @contextmanager
    def show_call(self, tool: str, arguments: Facts) -> Generator[None]:
        print(f"\n> {tool} {json.dumps(arguments)}")
        yield

    def show_progress(self, done: float, message: str) -> None:
        print(f"  ... {message or f'{done:.0f} s'}", flush=True)

    def show_question(self, text: str) -> None:
        print("  ? " + text.replace("\n", "\n    ") + "\n  ! accept", flush=True)

    def show_answer(self, tool: str, result: CallToolResult) -> None:
        del tool
        print(text_of(result))

    def conclude(self, sheet: Path, video: str) -> None:
        print(f"\nThe contact sheet: {sheet}\nThe video: {video}")


class Plain:
    """Tells a person what happens: in colour, and with bars, where there is a terminal."""

    def __init__(self) -> None:
        self._screen = Screen()
        self._bar: Progress | None = None

    def introduce(self, protocol: str, tools: list[Tool]) -> None:
        del protocol
        self._line(
            f"[bold]A clip is made to say a sentence[/], with {len(tools)} tools for an assistant at hand."
        )
        self._line("[yellow]On the built-in SANDBOX: nothing real is made or paid, and no lips are moved.[/]")

    @contextmanager
    def show_call(self, tool: str, arguments: Facts) -> Generator[None]:
        self._line(f"\n[bold]{escape(_meaning(tool, arguments))}[/]  [dim]{tool}[/]")
        if not self._screen.is_terminal:
            yield
            return
        # What is told stands last, where it has room to be broken between words.
        told = TextColumn("{task.description}", markup=False, table_column=Column())
        columns = (TextColumn(" "), BarColumn(_BAR_COLUMNS), TimeElapsedColumn(), told)
        with Progress(*columns, console=self._screen, transient=True) as self._bar:
            yield
        self._bar = None

    def show_progress(self, done: float, message: str) -> None:
        told = message or f"{done:.0f} s"
        if self._bar is None:
            self._line(f"  {escape(told)}")
        else:
            [task] = self._bar.task_ids or [self._bar.add_task("", total=None)]
            self._bar.update(task, description=told)

    def show_question(self, text: str) -> None:
        self._line("  The server asks the user before it pays:")
        for line in text.split("\n"):
            self._line(f"  [cyan]│[/] {escape(line)}")
        self._line("  [green]Yes[/], says the demo; in a host it is a person's click.")

    def show_answer(self, tool: str, result: CallToolResult) -> None:
        if result.is_error:
            self._line(f"[red]{escape(text_of(result))}[/]")
        else:
            self._line(f"  [green]{escape(_sense(tool, result.structured_content or {}))}[/]")

    def conclude(self, sheet: Path, video: str) -> None:
        self._line(f"\n[bold]The contact sheet:[/] {escape(str(sheet))}")
        self._line(f"[bold]The video:[/] {escape(video)}")

    def _line(self, markup: str) -> None:
        for line in Text.from_markup(markup, emoji=False).split("\n", allow_blank=True):
            self._screen.print_line(line)


def text_of(result: CallToolResult) -> str:
    """Return the text of an answer."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _meaning(tool: str, arguments: Facts) -> str:
    match tool:
        case "list_voices":
            return f"Find a voice that is {arguments['search']}."
        case "estimate_cost":
            [clip, speech] = arguments["input"]
            return f'What does it cost to let {Path(clip["path"]).name} say: "{speech["script"]}"'
        case "create_generation":
            return f"Make it, for at most {arguments['max_cost_usd']} USD."
        case "get_generation":
            return "Wait for it."
        case "preview_generation":
            return "Look at it."
        case _:
            return "Check it, and save it."


def _sense(tool: str, facts: Facts) -> str:
    match tool:
        case "list_voices":
            return f"{', '.join(voice['name'] for voice in facts['voices'][:_MOST_TOLD])} and more."
        case "estimate_cost":
            return f"About {facts['cost_usd']:.2f} USD. Nothing was uploaded yet."
        case "create_generation":
            price = f"{facts['estimated_cost_usd']:.2f} USD are set aside for it"
            return f"Job {facts['generation_id']} runs; {price}."
        case "get_generation":
            made = "output_duration_seconds" in facts
            return f"{facts['status']}{_result(facts) if made else ''}."
        case "download_generation":
            return f"{', '.join(f'{name} {found}' for name, found in facts['checks'].items())}."
        case _:
            return "The assistant sees nine frames of it, as one picture."


def _result(facts: Facts) -> str:
    cost = f" for {facts['cost_usd']:.2f} USD" if "cost_usd" in facts else ""
    return f": {facts['output_duration_seconds']} s of video{cost}"
