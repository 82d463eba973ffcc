"""Over HTTP the header X-MCP-Toolsets narrows which tools are on for the request that has it."""

from typing import Any

import pytest

from tests.serving.http.web import Web, post


def answered(web: Web, method: str, toolsets: str | None, **params: Any) -> str:
    headers = {} if toolsets is None else {"x_mcp_toolsets": toolsets}
    answer = post(web.url, method, params, **headers)
    return answer.text


@pytest.mark.parametrize("toolsets", [None, "core", "all", "Default, core", ""])
def test_a_header_that_asks_for_what_is_on_changes_nothing(web: Web, toolsets: str | None) -> None:
    assert answered(web, "tools/list", toolsets) == answered(web, "tools/list", None)
    assert "The way: list_voices" in answered(web, "server/discover", toolsets)


@pytest.mark.parametrize("method", ["tools/list", "tools/call", "server/discover"])
def test_a_header_with_an_unknown_set_is_refused_with_the_name_that_is_near(web: Web, method: str) -> None:
    params: dict[str, Any] = {"name": "list_models", "arguments": {}} if method == "tools/call" else {}
    told = answered(web, method, "cora", **params)
    assert "The header X-MCP-Toolsets names a toolset that does not exist, 'cora'" in told
    assert "did you mean 'core'?" in told


@pytest.mark.parametrize("toolsets", [",", ", ,,"])
@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
def test_a_header_that_names_no_set_is_refused(web: Web, method: str, toolsets: str) -> None:
    told = answered(web, method, toolsets)
    assert "The header X-MCP-Toolsets names no toolset. There are default, all, core," in told
    assert "create_generation" not in told


def test_a_header_with_very_many_unknown_sets_is_told_a_few_of_them(web: Web) -> None:
    told = answered(web, "tools/list", ",".join(f"corn-{number}" for number in range(3_000)))
    assert told.count("names a toolset that does not exist") == 3
    assert "names 2,997 more" in told
    assert len(told) < 1_000


def test_a_header_is_of_its_own_request_alone(web: Web) -> None:
    assert "cora" in answered(web, "tools/list", "cora")
    assert "create_generation" in answered(web, "tools/list", None)
