"""What a server says that withholds tools.

What it lists names none of them. An answer is told whole, and a next step that names one says that it is off.
"""

import re
from collections.abc import Collection

READ_ONLY = (
    "This server is read-only, by the user's own choice (SYNC_MCP_READ_ONLY=1): it makes, uploads and saves "
    "nothing."
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_CLAUSES = r"; |: |, and |, or |, then | then | (?:and|or) (?={names})"
"""Where a sentence of ours may end before it comes to a tool."""
# A name in quotes, or within a path or a longer word, is somebody else's and no tool.
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|(?<!\w)\'[^\']*\'(?!\w)')
_NO_PATH_BEFORE = r"(?<![\w/\\.-])"
_NO_PATH_AFTER = r"(?![\w/\\-]|\.\w)"


def without_tools(text: str, withheld: Collection[str]) -> str:
    """Return a text of ours without what it says of tools that are withheld."""
    names = rf"\b(?:{'|'.join(map(re.escape, sorted(withheld)))})\b"
    if not withheld or not re.search(names, text):
        return text
    return " ".join(filter(None, (_before(names, sentence) for sentence in _SENTENCES.split(text))))


def tell_withheld(step: str, withheld: Collection[str]) -> str:
    """Return a next step, whole, and behind it which of the tools that it names are withheld."""
    if not withheld:
        return step
    every = "|".join(map(re.escape, sorted(withheld)))
    named = re.findall(rf"{_NO_PATH_BEFORE}(?:{every}){_NO_PATH_AFTER}", _QUOTED.sub("", step))
    names = list(dict.fromkeys(named))
    if not names:
        return step
    told = f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"
    return f"{step} {told} switched off on this server (SYNC_MCP_READ_ONLY=1)."


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
