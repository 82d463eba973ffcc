"""Which tools are on: by the sets and the names in the settings, by read-only, and by a request's header.

`select_tools` says it of a server; `Selection.narrow` says it of a request that asks for less.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import mcp_types as types

from sync_mcp.errors import ConfigurationError
from sync_mcp.texts import clean, near, split_names
from sync_mcp.tools.registry import Tool, Tools, Withheld
from sync_mcp.tools.withheld import HEADER_SETTING, READ_ONLY, READ_ONLY_SETTING, names_any

DEFAULT = "default"
ALL = "all"
TOOLSETS_SETTING = "SYNC_MCP_TOOLSETS"
TOOLS_SETTING = "SYNC_MCP_TOOLS"
TOOLSETS_HEADER = "X-MCP-Toolsets"

_NAME_SHOWN = 60
_NEAR_AMONG = 80
_NARROWED_KEPT = 8
_UNKNOWN_TOLD = 3
"""Of names that do not exist: more would only be long, and each is compared with those that do."""

_WHAT_IT_IS = "Lip-synced and dubbed video with Sync."
_PAYING = (
    "A generation costs money, cannot be cancelled, takes up to ten minutes. The same create_generation call "
    "returns the same job and pays nothing; another take makes it again. Where the user must approve, ask, "
    "and never answer for them; limits are theirs alone. Each next_step says how to go on. Media: path on "
    "the user's disk or public url. Copy signed output URLs letter for letter."
)
_READING = (
    "Each answer's next_step says how to go on. Media are given as path, a file on the user's disk, or as "
    "public url; output URLs are signed, so copy them letter for letter."
)


@dataclass(frozen=True)
class Selection:
    """Which of all tools are on, each in the words that are true where the others are off."""

    tools: Mapping[str, Tool[Any]]
    """All of them, by name, in the order in which they are listed."""
    withheld: Mapping[str, Withheld]
    """Those that are off, by name."""

    @cached_property
    def listing(self) -> types.ListToolsResult:
        """What `tools/list` answers."""
        return types.ListToolsResult(tools=[tool.definition for tool in self._on])

    @cached_property
    def instructions(self) -> str:
        """What a model is told before any call: at most one sentence for each set that is on."""
        pays = any(tool.paid for tool in self._on)
        is_read_only = any(off.setting == READ_ONLY_SETTING for off in self.withheld.values())
        toolsets = dict.fromkeys(tool.toolset for tool in self.tools.values())
        ways = [
            next((way for way in toolset.ways if not names_any(self.withheld, way)), "")
            for toolset in toolsets
            if any(tool.toolset == toolset for tool in self._on)
        ]
        about = [] if pays or not is_read_only else [READ_ONLY]
        return " ".join(filter(None, [_WHAT_IT_IS, *about, *ways, _PAYING if pays else _READING]))

    @property
    def _on(self) -> list[Tool[Any]]:
        return [tool for name, tool in self.tools.items() if name not in self.withheld]

    def narrow(self, toolsets: str) -> "Selection":
        """Return what is left of it where only these sets are asked for, with commas between; never more.

        Raises:
            ConfigurationError: there is no such set, or none is named.
        """
        asked = frozenset(split_names(toolsets.lower()))
        if not asked:
            known = ", ".join(_list_sets(self.tools.values()))
            raise ConfigurationError(f"The header {TOOLSETS_HEADER} names no toolset. There are {known}.")
        return self._narrow_once(asked)

    @cached_property
    def _narrow_once(self) -> "Callable[[frozenset[str]], Selection]":
        # Every request of a connection asks for the same: the selection is worked out once.
        return lru_cache(_NARROWED_KEPT)(self._narrow)

    def _narrow(self, toolsets: frozenset[str]) -> "Selection":
        faults = _find_unknown_sets(sorted(toolsets), self.tools.values(), f"The header {TOOLSETS_HEADER}")
        if faults:
            raise ConfigurationError(" ".join(faults))
        asked = _in_sets(toolsets, self.tools.values())
        off = {name: Withheld(tool, HEADER_SETTING) for name, tool in self.tools.items() if name not in asked}
        return _selection(self.tools.values(), {**off, **self.withheld})


def select_tools(
    tools: Tools, *, toolsets: Collection[str] = (), names: Collection[str] = (), is_read_only: bool = False
) -> Selection:
    """Return which of `tools` are on.

    `toolsets` are names of sets, `default` or `all`; `names` single tools beside them. Without either the
    default sets are on, with `names` alone nothing else. Read-only wins over both.

    Raises:
        ConfigurationError: there is no such set, or no such tool.
    """
    faults = [*_find_unknown_sets(toolsets, tools, TOOLSETS_SETTING), *_find_unknown_tools(names, tools)]
    if faults:
        raise ConfigurationError(" ".join(faults))
    wanted = {*_in_sets(toolsets or ([] if names else [DEFAULT]), tools), *names}
    setting = TOOLS_SETTING if names and not toolsets else TOOLSETS_SETTING
    withheld: dict[str, Withheld] = {}
    for tool in tools:
        if is_read_only and not tool.annotations.read_only_hint:
            withheld[tool.name] = Withheld(tool, READ_ONLY_SETTING)
        elif tool.name not in wanted:
            withheld[tool.name] = Withheld(tool, setting)
    return _selection(tools, withheld)


def _selection(tools: Iterable[Tool[Any]], withheld: Mapping[str, Withheld]) -> Selection:
    return Selection({tool.name: tool.without(withheld) for tool in tools}, withheld)


def _in_sets(toolsets: Collection[str], tools: Iterable[Tool[Any]]) -> set[str]:
    """Return the names of the tools in these sets."""
    return {
        tool.name
        for tool in tools
        if ALL in toolsets
        or tool.toolset.name in toolsets
        or (DEFAULT in toolsets and tool.toolset.is_default)
    }


def _list_sets(tools: Iterable[Tool[Any]]) -> list[str]:
    return [DEFAULT, ALL, *dict.fromkeys(tool.toolset.name for tool in tools)]


def _find_unknown_sets(toolsets: Collection[str], tools: Iterable[Tool[Any]], where: str) -> list[str]:
    known = _list_sets(tools)
    return _tell_unknown(toolsets, known, f"{where} names a toolset", f" There are {', '.join(known)}.")


def _find_unknown_tools(names: Collection[str], tools: Iterable[Tool[Any]]) -> list[str]:
    return _tell_unknown(names, [tool.name for tool in tools], f"{TOOLS_SETTING} names a tool", "")


def _tell_unknown(names: Collection[str], known: Collection[str], begin: str, end: str) -> list[str]:
    """Return a sentence for each of the first names that are not known, and how many more there are."""
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    sentences = [
        f"{begin} that does not exist, {clean(name, _NAME_SHOWN)!r}{near(name[:_NEAR_AMONG], known)}{end}"
        for name in unknown[:_UNKNOWN_TOLD]
    ]
    more = len(unknown) - len(sentences)
    return [*sentences, f"It names {more:,} more that do not exist."] if more else sentences
