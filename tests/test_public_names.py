import ast
import json
import pydoc
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import cast

import pytest

import sync_mcp
from sync_mcp import AsyncSync, SyncError, errors

_SOURCE = ast.parse(Path(sync_mcp.__file__).read_text(encoding="utf-8"))
_PUBLIC = cast(list[str], sync_mcp.__all__)
_HEAVY = (
    "httpx",
    "pydantic",
    "mcp",
    "mcp_types",
    "av",
    "starlette",
    "uvicorn",
    "anyio",
    "asyncio",
    "argparse",
)


def _told_to_type_checkers() -> dict[str, str]:
    """The names that the package imports for type checkers alone, and where each comes from."""
    (block,) = (node for node in _SOURCE.body if isinstance(node, ast.If))
    assert isinstance(block.test, ast.Name)
    assert block.test.id == "TYPE_CHECKING"
    homes: dict[str, str] = {}
    for line in block.body:
        assert isinstance(line, ast.ImportFrom)
        assert line.module
        homes |= {alias.name: line.module for alias in line.names if alias.asname == alias.name}
    return homes


def _loaded_by(statement: str) -> list[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    # Isolated: nothing of the environment or of this folder may be what makes it work.
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, encoding="utf-8", timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_public_name_is_there_and_is_what_type_checkers_are_told() -> None:
    homes = _told_to_type_checkers()
    assert set(_PUBLIC) == homes.keys() | {"__version__"}
    assert len(set(_PUBLIC)) == len(_PUBLIC)
    for name, home in homes.items():
        assert getattr(sync_mcp, name) is getattr(sys.modules[home], name)


def test_dir_shows_the_public_names_before_any_is_used() -> None:
    assert dir(sync_mcp) == sorted(_PUBLIC)


def test_a_star_import_brings_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from sync_mcp import *", names)
    assert set(_PUBLIC) <= names.keys()


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    for name in ("AsyncSnyc", "_HOME", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"'sync_mcp' has no attribute '{name}'"):
            getattr(sync_mcp, name)
    with pytest.raises(ImportError):
        exec("from sync_mcp import AsyncSnyc")


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _loaded_by("import sync_mcp; dir(sync_mcp); sync_mcp.__version__")
    assert [name for name in _HEAVY if name in loaded] == []
    assert [name for name in loaded if name.startswith("sync_mcp.")] == ["sync_mcp._version"]


def test_an_error_class_costs_no_http_library() -> None:
    loaded = _loaded_by("from sync_mcp import SyncError, OutcomeUnknown")
    assert [name for name in _HEAVY if name in loaded] == []


def test_the_client_needs_neither_the_server_nor_pyav() -> None:
    loaded = _loaded_by("from sync_mcp import AsyncSync, Video")
    assert {"httpx", "pydantic"} <= set(loaded)
    assert {"mcp", "av", "starlette", "uvicorn", "sync_mcp.server", "sync_mcp.sandbox"}.isdisjoint(loaded)


def test_the_server_lists_its_tools_without_an_http_library_or_pyav() -> None:
    loaded = _loaded_by("from sync_mcp import Settings, create_server; create_server(Settings())")
    for_calls = {"httpx", "av", "sync_mcp.sandbox", "sync_mcp.api.client", "sync_mcp.api.models"}
    assert for_calls.isdisjoint(loaded)


def test_every_public_error_is_exported() -> None:
    found = {name for name, it in vars(errors).items() if isinstance(it, type) and issubclass(it, SyncError)}
    assert found
    assert found <= set(_PUBLIC)


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(sync_mcp).joinpath("py.typed").is_file()


def test_help_on_the_client_names_each_of_its_namespaces_in_one_line() -> None:
    shown = pydoc.plain(pydoc.render_doc(AsyncSync))
    namespaces = [name for name in vars(AsyncSync(api_key="any")) if not name.startswith("_")]
    assert "generations" in namespaces
    for name in namespaces:
        assert re.search(rf"^ \|  +{name}: \w.+\.$", shown, re.MULTILINE), name
