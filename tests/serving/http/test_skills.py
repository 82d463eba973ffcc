"""Skills over HTTP, in both eras."""

from typing import Any

import mcp_types as types
import pytest
from mcp import MCPError
from pydantic import ConfigDict

from tests.serving.http.web import Mode, Web, both_eras, connected, post

pytestmark = pytest.mark.anyio


class Told(types.Result):
    """Any result, as it came."""

    model_config = ConfigDict(extra="allow")


@both_eras
async def test_a_skill_is_listed_described_and_read_over_http(web: Web, mode: Mode) -> None:
    async with connected(web.url, mode) as client:

        async def told(method: str, **params: str) -> dict[str, Any]:
            asked = types.Request[dict[str, str], str](method=method, params=params)
            return (await client.session.send_request(asked, Told)).model_dump(by_alias=True)

        assert client.server_capabilities.extensions == {"io.modelcontextprotocol/skills": {}}
        for skill in (await told("skills/list"))["skills"]:
            assert (await told("skills/get", uri=skill["uri"]))["skill"] == skill
            [content] = (await client.read_resource(skill["uri"])).contents
            assert isinstance(content, types.TextResourceContents)
            assert len(content.text.encode()) == skill["resources"][0]["size"]
        with pytest.raises(MCPError, match="There is no skill at"):
            await told("skills/get", uri="skill://dub/SKILL.md")


def test_a_header_that_asks_for_an_unknown_set_is_refused_here_too(web: Web) -> None:
    assert "did you mean 'core'?" in post(web.url, "skills/list", x_mcp_toolsets="cora").text
