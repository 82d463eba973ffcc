"""The names of functions: an act begins with a verb, a question with `is_` or `has_`, a thing is a noun."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sync_mcp

_ROOT = Path(sync_mcp.__file__).parent
_MOST = 15
"""How many may begin with a participle: the API's own words, and facts that a model carries as data."""
_VERBS = frozenset(("embed", "exceed", "feed", "need", "present", "proceed", "seed", "shed", "speed"))
"""Words that only end as a participle does."""
# Participles that are verbs too (`read`, `run`, `put`, `cut`, `split`, `spread`) are not among them.
_PARTICIPLE = re.compile(
    r"""
    [a-z]{2,}ed | (?:fore|mis|out|over|pre|re|un)?(?:
    been|begun|bent|bitten|blown|borne|bought|bound|bred|broken|brought|built|caught|chosen|clung|dealt|done|
    drawn|driven|dug|eaten|fallen|fled|flown|forgotten|fought|found|frozen|given|gone|got|grown|heard|held|
    hidden|hung|hurt|kept|known|laid|lain|led|left|lent|lit|lost|made|meant|met|overcome|paid|proven|ridden|risen|
    said|seen|sent|shaken|shot|shown|slain|slept|slid|sold|sought|spent|spoilt|spoken|spun|stolen|stood|struck|
    stuck|stung|sung|sunk|swept|sworn|swum|swung|taken|taught|thought|thrown|told|torn|understood|wept|
    withdrawn|woken|won|worn|wound|woven|written)
    """,
    re.VERBOSE,
)


def _begins_with_a_participle(name: str) -> bool:
    word = name.strip("_").split("_")[0]
    return word not in _VERBS and _PARTICIPLE.fullmatch(word) is not None


def _functions() -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every function of the package."""
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield str(path.relative_to(_ROOT)), node.name


def test_hardly_any_function_begins_with_a_participle() -> None:
    found = [f"{module}: {name}" for module, name in _functions() if _begins_with_a_participle(name)]
    assert len(found) <= _MOST, "Name an act by a verb, and a thing by a noun:\n" + "\n".join(found)


@pytest.mark.parametrize("name", ["_shown", "checked_key", "told_of", "_unresolved", "rewritten", "foreseen"])
def test_a_participle_is_known_with_and_without_what_stands_before_it(name: str) -> None:
    assert _begins_with_a_participle(name)


@pytest.mark.parametrize(
    "name", ["read", "put_upload", "_split_names", "feed", "_need_looks", "is_spent", "__init__"]
)
def test_a_verb_that_looks_like_a_participle_is_none(name: str) -> None:
    assert not _begins_with_a_participle(name)
