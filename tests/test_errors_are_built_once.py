"""An error is built once: after that `advise` alone changes what it says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import sync_mcp

_ROOT = Path(sync_mcp.__file__).parent
_SAID = {"message", "next_step", "retryable", "money_spent"}
# The sandbox has errors of its own, which nobody of the client sees.
_APART = {"sandbox"}


def _changes(tree: ast.Module) -> Iterator[str]:
    """Yield each place where a program sets what an error says, apart from its own class's constructor."""
    own = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in ("__init__", "advise")
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and _name_of(node) == "self"
    }
    for node in ast.walk(tree):
        # A tool's answer has a next step too, and is put together piece by piece.
        is_own = id(node) in own or _name_of(node) == "answer"
        if isinstance(node, ast.Attribute) and node.attr in _SAID and not is_own:
            if isinstance(node.ctx, ast.Store):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            words = {getattr(word, "value", None) for word in node.args}
            if words & _SAID:
                yield ast.unparse(node)


def _name_of(node: ast.AST) -> str:
    """Return the name of the thing whose attribute this is, "" where it has none."""
    return getattr(getattr(node, "value", None), "id", "")


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in _ROOT.rglob("*.py"):
        name = path.relative_to(_ROOT)
        if name.parts[0] not in _APART:
            yield name.as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_nothing_but_advise_changes_an_error_that_was_built() -> None:
    assert {name for name, tree in _modules() if list(_changes(tree))} == set()


def test_a_change_by_hand_is_found_in_whatever_way_it_is_written() -> None:
    written = (
        "error.message = 'x'",
        "error.message += 'x'",
        "error.retryable: bool = True",
        "caught.value.next_step = 'x'",
        "one, error.money_spent = 1, 'no'",
        "setattr(error, 'message', 'x')",
    )
    assert [line for line in written if not list(_changes(ast.parse(line)))] == []
    built = "class E:\n def __init__(self):\n  self.message = 'x'\n  self.retryable = True"
    assert list(_changes(ast.parse(built))) == []
