"""What a server says where tools are off.

What it lists names none of them. An answer is told whole, and a next step that names one says that it is off,
and by which setting.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

READ_ONLY_SETTING = "SYNC_MCP_READ_ONLY=1"
HEADER_SETTING = "the header X-MCP-Toolsets"
READ_ONLY = (
    f"This server is read-only, by the user's own choice ({READ_ONLY_SETTING}): it makes, uploads and saves "
    "nothing."
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_CLAUSES = r"; |: |, and |, or |, then | then | (?:and|or) (?={names})"
"""Where a sentence of ours may end before it comes to a tool."""
# A name in quotes, or within a path or a longer word, is somebody else's and no tool.
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|(?<!\w)\'[^\']*\'(?!\w)')
_NO_PATH_BEFORE = r"(?<![\w/\\.-])"
_NO_PATH_AFTER = r"(?![\w/\\-]|\.\w)"


class Off(Protocol):
    """A tool that is off, as far as the words go."""

    @property
    def setting(self) -> str:
        """By which setting it is off."""
        ...


def names_any(withheld: Collection[str], text: str) -> bool:
    """Return whether a text of ours names one of these tools."""
    return bool(withheld) and re.search(_names(withheld), text) is not None


def say_what_is_lacking(what: str, text: str, withheld: Mapping[str, Off]) -> str:
    """Return why `what` is not offered, whose text of ours names tools that are off: which, and by what."""
    off = [name for name in withheld if names_any({name}, text)]
    return tell_withheld(f"{what} needs {' and '.join(off)}.", withheld)


def say_no_video_is_made(withheld: Mapping[str, Off]) -> str:
    """Return why this server makes no video, where `create_generation` is off."""
    setting = withheld["create_generation"].setting
    if setting == READ_ONLY_SETTING:
        return READ_ONLY
    whose = "this client's" if setting == HEADER_SETTING else "the user's own"
    return f"No video is made here, by {whose} choice ({setting})."


def without_tools(text: str, withheld: Collection[str]) -> str:
    """Return a text of ours without what it says of tools that are withheld."""
    if not names_any(withheld, text):
        return text
    names = _names(withheld)
    return " ".join(filter(None, (_before(names, sentence) for sentence in _SENTENCES.split(text))))


def tell_withheld(step: str, withheld: Mapping[str, Off]) -> str:
    """Return a next step, whole, and behind it which of the tools that it names are off, and by what."""
    if not withheld:
        return step
    named = _pattern(frozenset(withheld)).findall(_QUOTED.sub("", step))
    by_setting: dict[str, list[str]] = {}
    for name in dict.fromkeys(named):
        by_setting.setdefault(withheld[name].setting, []).append(name)
    return " ".join([step, *(_off_sentence(names, setting) for setting, names in by_setting.items())])


@lru_cache
def _pattern(withheld: frozenset[str]) -> re.Pattern[str]:
    """Return what finds names of tools, but in a path; each answer is searched for those that are off."""
    every = "|".join(map(re.escape, sorted(withheld)))
    return re.compile(rf"{_NO_PATH_BEFORE}(?:{every}){_NO_PATH_AFTER}")


def _off_sentence(names: Sequence[str], setting: str) -> str:
    are = f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"
    where = "for this client" if setting == HEADER_SETTING else "on this server"
    return f"{are} switched off {where} ({setting})."


def _names(withheld: Collection[str]) -> str:
    return rf"\b(?:{'|'.join(map(re.escape, sorted(withheld)))})\b"


def _before(names: str, sentence: str) -> str:
    """Return a sentence up to the clause that names one of these; nothing where that is its first."""
    named = re.search(names, sentence)
    if named is None:
        return sentence
    ends = [
        end.start()
        for end in re.finditer(_CLAUSES.format(names=names), sentence)
        if end.end() <= named.start()
    ]
    head = sentence[: ends[-1]] if ends else ""
    if head.count("(") > head.count(")"):
        head = head[: head.rindex("(")].rstrip()
    return f"{head}." if head else ""
