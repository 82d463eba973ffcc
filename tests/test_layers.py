"""Who may import whom, read from the source: imports inside functions and for type checkers count too."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sync_mcp

_ROOT = Path(sync_mcp.__file__).parent
_PACKAGE = "sync_mcp"

# Top to bottom; what stands in one line knows nothing of each other.
_FLOORS = (
    {"__main__"},
    {"cli"},
    {"server"},
    {"tools"},
    {"campaigns"},
    {"requests"},
    {"payments", "media"},
    {"background"},
    {"api"},
    {"errors"},
)
# Small things that anybody may use, and that know nothing of the house.
_LEAVES = {"_version", "texts", "access", "machine"}
# What carries the server, whatever it offers, and what stands apart.
_BESIDE = {"settings", "sandbox", "serving", ""}
_MOST_LATE_IMPORTS = 25


@cache
def _modules() -> dict[str, ast.Module]:
    """Every module by its name in the package; "" is the package itself."""
    found: dict[str, ast.Module] = {}
    for path in sorted(_ROOT.rglob("*.py")):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


@cache
def _imported(name: str) -> tuple[str, ...]:
    """Every module that `name` imports anywhere in it, by its whole name."""
    return tuple(_walk_imports(name))


def _walk_imports(name: str) -> Iterator[str]:
    for node in ast.walk(_modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import hides where it leads"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix(f"{_PACKAGE}.") in _modules() else node.module


@cache
def _ours(name: str) -> frozenset[str]:
    """The modules of the package that `name` imports."""
    return frozenset(
        module.removeprefix(_PACKAGE).removeprefix(".")
        for module in _imported(name)
        if module.split(".")[0] == _PACKAGE
    )


def _late_imports(name: str) -> list[int]:
    """The lines of the imports inside functions; of those in a row the first."""
    functions = (
        n for n in ast.walk(_modules()[name]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    imports = {n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)}
    after = {(node.end_lineno or node.lineno) + 1 for node in imports}
    return sorted(node.lineno for node in imports if node.lineno not in after)


def _path_of(name: str) -> Path:
    path = _ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _importers_of(foreign: str) -> set[str]:
    return {name for name in _modules() if foreign in {module.split(".")[0] for module in _imported(name)}}


def _room(name: str) -> str:
    return name.split(".")[0]


def _inside(room: str) -> list[str]:
    return [name for name in _modules() if _room(name) == room]


def _neighbours(room: str) -> set[str]:
    """The modules outside `room` that it imports, without the leaves."""
    found = {module for name in _inside(room) for module in _ours(name) if _room(module) != room}
    return {module for module in found if _room(module) not in _LEAVES}


def test_every_module_has_its_place_in_the_house() -> None:
    placed = set[str]().union(*_FLOORS) | _LEAVES | _BESIDE
    assert {_room(name) for name in _modules()} <= placed


@pytest.mark.parametrize("height", range(len(_FLOORS)))
def test_nobody_imports_what_is_above_or_beside_it(height: int) -> None:
    below = set[str]().union(*_FLOORS[height + 1 :])
    # From the server up, the settings, the carriers and the sandbox may be used; by nobody below.
    aside = _BESIDE - {""} if height <= 2 else set[str]()
    for room in _FLOORS[height]:
        assert {_room(module) for module in _neighbours(room)} <= below | aside, room


def test_a_leaf_knows_nothing_of_the_house() -> None:
    for room in _LEAVES:
        for name in _inside(room):
            assert _ours(name) == frozenset(), name
    inner = {module for name in _inside("errors") for module in _ours(name) if _room(module) != "errors"}
    assert inner == {"texts", "machine.installed"}


def test_only_the_command_and_the_server_read_the_settings() -> None:
    readers = {name for name in _modules() if "settings" in _ours(name)}
    assert readers == {
        "cli.campaign.command",
        "cli.config",
        "cli.doctor",
        "cli.doctor_ledger",
        "cli.flags",
        "cli.ledgers",
        "cli.sandbox",
        "cli.serve",
        "server",
        "",
    }
    assert _neighbours("settings") == {"errors", "serving.tokens"}


def test_the_sandbox_imports_the_probing_of_media_and_nothing_else() -> None:
    assert _neighbours("sandbox") <= {"media.decoding.probe", "media.decoding.findings"}


def test_only_the_command_imports_the_sandbox() -> None:
    importers = {name for name in _modules() if any(_room(module) == "sandbox" for module in _ours(name))}
    assert {name for name in importers if _room(name) != "sandbox"} == {"cli.sandbox"}


def test_one_module_speaks_http_to_the_api() -> None:
    assert _importers_of("httpx") == {"api.http"}
    assert _importers_of("aiohttp") | _importers_of("requests") == set()


def test_the_client_knows_nothing_of_mcp_and_serving_nothing_of_the_client() -> None:
    speakers = {_room(name) for name in _importers_of("mcp") | _importers_of("mcp_types")}
    assert speakers <= {"server", "tools", "cli", "serving"}
    assert _neighbours("serving") <= {"errors"}


def test_pyav_is_imported_by_what_decodes_and_renders_alone() -> None:
    assert {_room(name) for name in _importers_of("av")} <= {"media", "sandbox"}


def test_below_the_server_nothing_is_bound_to_asyncio() -> None:
    # The sandbox runs a loop of its own, in a thread of its own.
    assert {_room(name) for name in _importers_of("asyncio")} <= {"sandbox", "serving"}


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: set(_ours(name)) - {name, ""} for name in _modules() if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {error.args[1]}")


def test_what_is_imported_inside_a_function_says_why_and_is_rare() -> None:
    late = [(name, line) for name in _modules() for line in _late_imports(name)]
    assert len(late) <= _MOST_LATE_IMPORTS
    for name, line in late:
        lines = _path_of(name).read_text(encoding="utf-8").splitlines()
        assert lines[line - 2].lstrip().startswith("#"), f"{name}: line {line} says no reason"


def test_one_module_loads_what_a_tool_needs_at_its_first_call() -> None:
    loaders = {name for name in _modules() if "import_module" in ast.dump(_modules()[name])}
    assert {name for name in loaders if _room(name) in {"server", "tools"}} == {"tools.late"}


def test_no_module_puts_off_its_annotations() -> None:
    assert _importers_of("__future__") == set()


def test_the_process_knows_no_account() -> None:
    assert _ours("tools.process") == {"tools.late", "tools.opening", "payments.guard"}


def test_the_package_itself_imports_nothing_but_its_version() -> None:
    outside = [node for node in _modules()[""].body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in outside if isinstance(node, ast.ImportFrom)} == {
        "importlib",
        "typing",
        f"{_PACKAGE}._version",
    }
