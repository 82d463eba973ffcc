"""What a server says that withholds tools: no next step names one that is not there."""

import re
from collections.abc import Collection

READ_ONLY = (
    "This server is read-only, by the user's own choice (SYNC_MCP_READ_ONLY=1): it makes, uploads and saves "
    "nothing."
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_CLAUSES = r"; |: |, and |, or |, then | then | (?:and|or) (?={names})"
"""Where a sentence of ours may end before it comes to a tool."""


def without_tools(text: str, withheld: Collection[str]) -> str:
    """Return a text of ours without what it says of tools that are withheld."""
    names = rf"\b(?:{'|'.join(map(re.escape, sorted(withheld)))})\b"
    if not withheld or not re.search(names, text):
        return text
    return " ".join(filter(None, (_before(names, sentence) for sentence in _SENTENCES.split(text))))


def next_step_without(text: str, withheld: Collection[str]) -> str:
    """Return a next step that names no withheld tool; where it did, it says why there is none."""
    kept = without_tools(text, withheld)
    return text if kept == text else f"{kept} {READ_ONLY}".lstrip()


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
