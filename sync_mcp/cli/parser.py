"""The command line: its commands and flags, and the module that runs each command."""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from sync_mcp._version import __version__
from sync_mcp.access import check_database_url
from sync_mcp.cli.hosts import ALIASES, HOSTS
from sync_mcp.cli.streams import stop
from sync_mcp.machine.installed import command_here

_PLANS = ("free", "hobbyist", "creator", "growth", "scale", "enterprise")
_HIGHEST_USD = 1_000_000
_LOG_LEVELS = ("debug", "info", "warning", "error")
_A_JOB = "6533643b-aceb-4c40-967e-d9ba9baac39e"
_LONG_WORD = re.compile(r"(?<![\w-])\w[^\s'\"=,()]{15,}")


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    What it parses has `module`, the name of the module whose `run` takes it. The flags that override settings
    stand in it by the names of the settings.
    """
    parser = _OneLineParser(
        prog=command_here(),
        description="MCP server for the Sync API: lip-synced and dubbed video. Without a command it serves "
        "stdio.",
    )
    _add_examples(
        parser,
        "--sandbox",
        "--root ~/Movies",
        more="docs/settings.md describes the environment variables SYNC_API_KEY, SYNC_BASE_URL and "
        "SYNC_MCP_*.",
    )
    parser.add_argument("--version", action="version", version=f"sync-mcp {__version__}")
    _add_server_flags(parser, default=None)
    parser.set_defaults(module="sync_mcp.cli.serve")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, told: str, *examples: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, description=_as_sentence(told))
        _add_examples(command, *examples)
        return command

    config = add(
        "config",
        "print what to paste into a host, such as Claude Desktop",
        "claude-desktop --sandbox",
        "cursor",
    )
    config.add_argument("client", choices=(*HOSTS, *ALIASES), metavar="CLIENT", help=", ".join(HOSTS))
    _add_server_flags(config, default=argparse.SUPPRESS)
    config.set_defaults(module="sync_mcp.cli.config")

    doctor = add("doctor", "report what is installed and set, and what is wrong", "", "--sandbox --json")
    _add_json(doctor)
    _add_server_flags(doctor, default=argparse.SUPPRESS)
    _add_home(doctor)
    doctor.set_defaults(module="sync_mcp.cli.doctor")

    demo = add(
        "demo",
        "make a video on the sandbox, step by step, as an assistant would",
        "--output my-demo",
        "--raw",
    )
    demo.add_argument(
        "--output",
        default="demo-output",
        metavar="FOLDER",
        help="where the video goes; what is there stays (default: demo-output)",
    )
    demo.add_argument("--raw", action="store_true", help="show letter for letter what the assistant reads")
    demo.set_defaults(module="sync_mcp.cli.demo")

    _add_sandbox_flags(
        add(
            "sandbox",
            "run the sandbox alone, for clients in any language",
            "--port 8787 --job-seconds 0.5",
            "--plan free",
        )
    )
    _add_ledger_commands(
        add("ledger", "look at what was paid, and settle what hangs in doubt", "list", "show 12")
    )
    _add_campaign_commands(
        add(
            "campaign",
            "make many videos by one plan and one approval, and go on after anything",
            "plan course.csv",
            "run course.csv --yes --budget-usd 200",
        )
    )
    return parser


class _WholeWords(argparse.HelpFormatter):
    """Breaks lines between words alone, and those of examples, which are indented, not at all."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (
            [line] if line.startswith(" ") else _wrap(line, width - len(indent)) for line in text.split("\n")
        )
        return "\n".join(f"{indent}{line}" for wrapped in lines for line in wrapped or [""])


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


class _OneLineParser(argparse.ArgumentParser):
    """A wrong flag is one clear line; its subcommands' parsers are of the same kind."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_WholeWords, **how)

    def error(self, message: str) -> NoReturn:
        """End the program with one line that says what is wrong."""
        # A key that was given by mistake must not stand in the host's log.
        stop(f"{_LONG_WORD.sub('...', message)} (try {self.prog} --help)")


def _as_sentence(told: str) -> str:
    return f"{told[:1].upper()}{told[1:]}."


def _add_examples(parser: argparse.ArgumentParser, *examples: str, more: str = "") -> None:
    """Have the help end in what can be typed as it stands."""
    title = "examples" if len(examples) > 1 else "example"
    lines = [f"{title}:", *(f"  {parser.prog} {example}".rstrip() for example in examples)]
    parser.epilog = "\n".join([*lines, *(["", more] if more else [])])


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document, for a program")


def _add_sandbox_flags(sandbox: argparse.ArgumentParser) -> None:
    sandbox.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=_port, default=8787, help="port to listen on (default: 8787)")
    sandbox.add_argument(
        "--allowed-host",
        dest="http_allowed_hosts",
        action="append",
        metavar="NAME",
        help="a further name that clients may call it by; may be given again. Who lets others in sets "
        "SYNC_MCP_HTTP_TOKEN, which then is their x-api-key",
    )
    sandbox.add_argument(
        "--plan",
        default="scale",
        choices=_PLANS,
        metavar="PLAN",
        help=f"plan of the account: {', '.join(_PLANS)} (default: scale)",
    )
    sandbox.add_argument(
        "--job-seconds",
        type=_number("number of seconds", float, 0, sys.float_info.max),
        default=3.0,
        metavar="SECONDS",
        help="how long a job takes (default: 3)",
    )
    sandbox.set_defaults(module="sync_mcp.cli.sandbox")


def _add_acts(parser: argparse.ArgumentParser, module: str) -> Callable[..., argparse.ArgumentParser]:
    """Return what adds commands to a command that has them; `act` in what is parsed names the one."""
    _add_home(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser.set_defaults(module=module)

    def add(name: str, told: str, *examples: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, description=_as_sentence(told))
        command.set_defaults(act=name)
        _add_examples(command, *examples)
        _add_home(command)
        return command

    return add


def _add_ledger_commands(ledger: argparse.ArgumentParser) -> None:
    add = _add_acts(ledger, "sync_mcp.cli.ledger.command")

    def add_yes(command: argparse.ArgumentParser) -> None:
        command.add_argument("--yes", action="store_true", help="do it without asking")

    entry_id = _number("entry id", int, 1, 2**53)

    listing = add(
        "list", "list paid calls, what is unresolved first, and what was spent", "--limit 50", "--all --json"
    )
    _add_json(listing)
    how_many = listing.add_mutually_exclusive_group()
    how_many.add_argument("--all", action="store_true", help="list them all")
    how_many.add_argument(
        "--limit", type=_number("number", int, 1, 1_000_000), metavar="N", help="list so many (default: 20)"
    )

    show = add("show", "show all of one entry, and what can be done about it", "12")
    _add_json(show)
    show.add_argument("entry", type=entry_id, metavar="ID")

    resolve = add("resolve", "say which job an unresolved call made: its money counts", f"12 {_A_JOB}")
    resolve.add_argument("entry", type=entry_id, metavar="ID")
    resolve.add_argument("generation", metavar="GENERATION_ID")
    resolve.add_argument("--unseen", action="store_true", help="though the API knows no such job")
    add_yes(resolve)

    release = add("release", "say that an unresolved call made nothing: its money stands free again", "12")
    release.add_argument("entry", type=entry_id, metavar="ID")
    add_yes(release)

    check = add("check", "look whether the ledger is whole, or go on without what it lost", "")
    check.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on without what a damaged, missing or older ledger lost: what was spent counts no more",
    )
    add_yes(check)

    prune = add("prune", "delete what is old and cost nothing; what was paid stays", "--before 365")
    prune.add_argument(
        "--before",
        type=_number("number of days", int, 0, 36_500),
        metavar="DAYS",
        help="settled more than so many days ago (default: 90)",
    )
    add_yes(prune)

    add("migrate", "bring a ledger in a database to the version of this program, or begin it there", "")

    copying = add(
        "copy",
        "copy the ledger in a file into a database that has none yet",
        "--to postgresql://sync@127.0.0.1/sync",
    )
    copying.add_argument(
        "--to",
        type=_database_url,
        metavar="URL",
        help="the database (default: SYNC_MCP_DATABASE_URL, which no list of processes shows)",
    )


def _database_url(text: str) -> str:
    try:
        return check_database_url(text)
    except ValueError as error:
        # Of any other error the text would be told, in which a password may stand.
        raise argparse.ArgumentTypeError(f"it {error}") from None


def _add_campaign_commands(campaign: argparse.ArgumentParser) -> None:
    add = _add_acts(campaign, "sync_mcp.cli.campaign.command")

    def add_rows(command: argparse.ArgumentParser, told: str) -> None:
        command.add_argument("files", nargs="+", metavar="FILE", help=told)
        command.add_argument(
            "--language",
            dest="languages",
            action="append",
            metavar="LANGUAGE",
            help="with clips in place of a file of rows: dub each into it; may be given again",
        )
        command.add_argument("--script", metavar="TEXT", help="with clips: what each says, by --voice")
        command.add_argument(
            "--voice",
            dest="voices",
            action="append",
            metavar="VOICE",
            help="with --script: whose voice; may be given again; with a folder: who says its scripts",
        )
        command.add_argument("--model", metavar="MODEL", help="for rows that name none")
        command.add_argument(
            "--output",
            metavar="DIR",
            help="where the videos and the report go (default: a folder beside the file, named after it; for "
            "clips campaign-videos in the working folder)",
        )
        add_budget(command)
        command.add_argument(
            "--max-usd-per-row",
            type=_number("amount", Decimal, 0, _HIGHEST_USD),
            metavar="USD",
            help="what a row counts whose price nobody can tell",
        )
        command.add_argument(
            "--keep-going",
            action="store_true",
            help="a row that cannot be made, or whose file is there already, is left and stops no other",
        )
        command.add_argument(
            "--root",
            dest="media_roots",
            action="append",
            metavar="DIR",
            help="folder whose media may be read, beside the file's own; may be given again",
        )
        command.add_argument("--sandbox", action="store_true", default=None, help="try it, for nothing")
        _add_json(command)

    def add_budget(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--budget-usd",
            dest="budget",
            type=_number("amount", Decimal, 0, _HIGHEST_USD),
            metavar="USD",
            help="the most that is spent on it",
        )

    def add_yes(command: argparse.ArgumentParser, told: str) -> None:
        command.add_argument("--yes", action="store_true", help=told)

    def add_id(command: argparse.ArgumentParser) -> None:
        command.add_argument("campaign", metavar="ID", help="its id, the beginning of it, or its name")

    columns = "a file of rows, CSV or JSON lines: docs/campaigns.md tells its columns; or clips; or a folder "
    columns += "of them, each with its script (.txt) or recording beside it"
    add_rows(add("plan", "check the rows, and tell what they cost; nothing is paid", "course.csv"), columns)
    run = add(
        "run",
        "have it made, on your yes; started again it goes on",
        "course.csv",
        "a.mp4 b.mp4 --language fr --language de",
        "c-5f0a91",
    )
    add_rows(run, f"{columns}; or the id of a campaign")
    add_yes(run, "with --budget-usd: your yes, without asking")
    approve = add("approve", "agree to a plan, within an hour", "c-5f0a91 --budget-usd 200")
    add_id(approve)
    add_budget(approve)
    add_yes(approve, "without asking")
    _add_json(add("list", "list the campaigns", "", "--json"))
    show = add("show", "tell how far one is, and what needs you", "c-5f0a91")
    add_id(show)
    _add_json(show)
    add_id(add("stop", "skip the rows that wait; what runs is paid and fetched", "c-5f0a91"))
    retry = add("retry", "have rows made again that need you, or were skipped", "c-5f0a91 3 17")
    add_id(retry)
    retry.add_argument(
        "rows", nargs="*", type=_number("row", int, 1, 5000), metavar="ROW", help="default: all of them"
    )
    add_yes(retry, "pay what was or may have been charged again, and what has become dearer, without asking")
    add_id(add("report", "write its report anew, and tell where it lies", "c-5f0a91"))


def _add_home(parser: argparse.ArgumentParser) -> None:
    # Without a default: what stands before a command must outlive what does not stand after it.
    parser.add_argument(
        "--home",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder of the ledger, where a server has another one (default: SYNC_MCP_HOME, else your data "
        "directory)",
    )


def _add_server_flags(parser: argparse.ArgumentParser, *, default: object) -> None:
    """Add the flags that override settings; their names in the namespace are those of the settings."""

    def add(flag: str, setting: str, **how: Any) -> None:
        parser.add_argument(flag, dest=setting, default=default, **how)

    add("--sandbox", "sandbox", action="store_true", help="run on the embedded sandbox, without a key")
    add(
        "--log-level",
        "log_level",
        type=str.lower,
        choices=_LOG_LEVELS,
        metavar="LEVEL",
        help=f"{', '.join(_LOG_LEVELS)} (default: info)",
    )
    add(
        "--root",
        "media_roots",
        action="append",
        metavar="DIR",
        help="folder whose media may be read and where results may be saved, in place of "
        "SYNC_MCP_MEDIA_ROOTS; may be given again",
    )
    add("--http", "http", action="store_true", help="serve Streamable HTTP at /mcp instead of stdio")
    add("--host", "http_host", metavar="HOST", help="with --http: address (default: 127.0.0.1)")
    add("--port", "http_port", type=_port, metavar="PORT", help="with --http: port (default: 8000)")
    add(
        "--allowed-host",
        "http_allowed_hosts",
        action="append",
        metavar="NAME",
        help="with --http: a further name that clients may call the server by; may be given again",
    )


def _number(
    noun: str, kind: Callable[[str], Any], least: float, most: float | Decimal
) -> Callable[[str], Any]:
    """Return what reads a number from `least` to `most` off the command line.

    `noun` is what argparse calls it when it complains: it takes the name of the function.
    """

    def read(text: str) -> Any:
        try:
            number = kind(text)
            is_within = least <= number <= most
        except ArithmeticError:
            # What is no number, such as NaN, may be compared to none.
            raise ValueError from None
        if not is_within:
            raise ValueError
        return number

    read.__name__ = noun
    return read


_port = _number("port", int, 0, 65535)
