"""Which tools are on: by the sets and the names in the settings, by read-only, and by a request's header.

`select_tools` says it of a server; `Selection.narrow` says it of a request that asks for less.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, cast, overload

import mcp_types as types

from sync_mcp.errors import ConfigurationError
from sync_mcp.texts import clean, near, split_names
from sync_mcp.tools.late import load
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
_PAYING_BY_OTHERS = (
    "What is made costs money and cannot be cancelled. The same call returns the same and pays nothing. "
    "Where the user must approve, ask, and never answer for them; limits are theirs alone. Each next_step "
    "says how to go on. Media: path on the user's disk or public url."
)
"""Where no video is made."""
_READING = (
    "Each answer's next_step says how to go on. Media are given as path, a file on the user's disk, or as "
    "public url; output URLs are signed, so copy them letter for letter."
)


class Catalogue(Sequence[Tool[Any]]):
    """Every tool, in the order in which they are listed.

    Those of the sets in `late`, which are off by default, are loaded when they are switched on or asked for:
    what is off costs nothing. Each such set is the module of its name in `sync_mcp.tools`, with its tools as
    TOOLS, and its words name tools of its own and of `first` alone.
    """

    def __init__(self, first: Tools, late: Sequence[str] = ()) -> None:
        self._first = first
        self._late = late

    @cached_property
    def _all(self) -> Tools:
        return [*self._first, *(tool for name in self._late for tool in _load_set(name))]

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Tool[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Tools: ...
    def __getitem__(self, index: int | slice) -> Tool[Any] | Tools:
        return self._all[index]

    @property
    def sets(self) -> list[str]:
        """The names that sets go by."""
        own = dict.fromkeys(tool.toolset.name for tool in self._first)
        return [DEFAULT, ALL, *own, *self._late]

    def load(self, toolsets: Collection[str], names: Collection[str]) -> Tools:
        """Return the tools among which all of these sets and names are, and as few more as can be."""
        if ALL in toolsets or not {tool.name for tool in self._first}.issuperset(names):
            return self
        asked = [name for name in self._late if name in toolsets]
        return [*self._first, *(tool for name in asked for tool in _load_set(name))]


def _load_set(name: str) -> Tools:
    return cast(Tools, load(f"{name}:TOOLS"))


class Selection:
    """Which of all tools are on, each in the words that are true where the others are off."""

    def __init__(
        self, catalogue: Catalogue, loaded: Iterable[Tool[Any]], off: Mapping[str, str], elsewhere: "_WhyOff"
    ) -> None:
        """Select of the tools that are loaded those that are not `off`, by name with the setting.

        `elsewhere` says by which setting one is off that is not loaded.
        """
        self._catalogue = catalogue
        self._elsewhere = elsewhere
        beside = [tool.name for tool in loaded if not tool.toolset.is_default and tool.name not in off]
        self._off = {
            tool.name: Withheld(tool.among({}, beside), off[tool.name]) for tool in loaded if tool.name in off
        }
        self._loaded = {tool.name: tool.among(self._off, beside) for tool in loaded}

    @cached_property
    def listing(self) -> types.ListToolsResult:
        """What `tools/list` answers."""
        return types.ListToolsResult(tools=[tool.definition for tool in self._on])

    @cached_property
    def instructions(self) -> str:
        """What a model is told before any call: at most one sentence for each set that is on."""
        pays = any(tool.paid for tool in self._on)
        is_read_only = any(off.setting == READ_ONLY_SETTING for off in self._off.values())
        ways = [
            next((way for way in toolset.ways if not names_any(self._off, way)), "")
            for toolset in dict.fromkeys(tool.toolset for tool in self._on)
        ]
        about = [] if pays or not is_read_only else [READ_ONLY]
        paying = _PAYING_BY_OTHERS if names_any(self._off, _PAYING) else _PAYING
        return " ".join(filter(None, [_WHAT_IT_IS, *about, *ways, paying if pays else _READING]))

    @cached_property
    def tools(self) -> Mapping[str, Tool[Any]]:
        """All of them, by name, in the order in which they are listed."""
        return {tool.name: self._loaded.get(tool.name, tool) for tool in self._catalogue}

    @cached_property
    def withheld(self) -> Mapping[str, Withheld]:
        """Those that are off, by name."""
        return {
            name: self._off.get(name) or Withheld(tool, self._elsewhere(tool))
            for name, tool in self.tools.items()
            if name in self._off or name not in self._loaded
        }

    @property
    def _on(self) -> list[Tool[Any]]:
        return [tool for name, tool in self._loaded.items() if name not in self._off]

    def narrow(self, toolsets: str) -> "Selection":
        """Return what is left of it where only these sets are asked for, with commas between; never more.

        Raises:
            ConfigurationError: there is no such set, or none is named.
        """
        asked = frozenset(split_names(toolsets.lower()))
        if not asked:
            known = ", ".join(self._catalogue.sets)
            raise ConfigurationError(f"The header {TOOLSETS_HEADER} names no toolset. There are {known}.")
        return self._narrow_once(asked)

    @cached_property
    def _narrow_once(self) -> "Callable[[frozenset[str]], Selection]":
        # Every request of a connection asks for the same: the selection is worked out once.
        return lru_cache(_NARROWED_KEPT)(self._narrow)

    def _narrow(self, toolsets: frozenset[str]) -> "Selection":
        faults = _find_unknown_sets(sorted(toolsets), self._catalogue.sets, f"The header {TOOLSETS_HEADER}")
        if faults:
            raise ConfigurationError(" ".join(faults))
        asked = _in_sets(toolsets, self._loaded.values())
        off = {name: HEADER_SETTING for name in self._loaded if name not in asked}
        before = {name: off.setting for name, off in self._off.items()}
        return Selection(self._catalogue, self._loaded.values(), {**off, **before}, self._elsewhere)


_WhyOff = Callable[[Tool[Any]], str]


def select_tools(
    tools: Tools, *, toolsets: Collection[str] = (), names: Collection[str] = (), is_read_only: bool = False
) -> Selection:
    """Return which of `tools` are on.

    `toolsets` are names of sets, `default` or `all`; `names` single tools beside them. Without either the
    default sets are on, with `names` alone nothing else. Read-only wins over both.

    Raises:
        ConfigurationError: there is no such set, or no such tool.
    """
    catalogue = tools if isinstance(tools, Catalogue) else Catalogue(tools)
    loaded = catalogue.load(toolsets, names)
    faults = [
        *_find_unknown_sets(toolsets, catalogue.sets, TOOLSETS_SETTING),
        *_find_unknown_tools(names, loaded),
    ]
    if faults:
        raise ConfigurationError(" ".join(faults))
    wanted = {*_in_sets(toolsets or ([] if names else [DEFAULT]), loaded), *names}
    setting = TOOLS_SETTING if names and not toolsets else TOOLSETS_SETTING

    def why_off(tool: Tool[Any]) -> str:
        return READ_ONLY_SETTING if is_read_only and not tool.annotations.read_only_hint else setting

    off = {
        tool.name: why_off(tool)
        for tool in loaded
        if tool.name not in wanted or why_off(tool) == READ_ONLY_SETTING
    }
    return Selection(catalogue, loaded, off, why_off)


def _in_sets(toolsets: Collection[str], tools: Iterable[Tool[Any]]) -> set[str]:
    """Return the names of the tools in these sets."""
    return {
        tool.name
        for tool in tools
        if ALL in toolsets
        or tool.toolset.name in toolsets
        or (DEFAULT in toolsets and tool.toolset.is_default)
    }


def _find_unknown_sets(toolsets: Collection[str], known: Sequence[str], where: str) -> list[str]:
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
