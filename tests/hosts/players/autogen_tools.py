# pyright: basic, reportMissingImports=false
from typing import Any

from autogen_core import CancellationToken
from autogen_ext.tools.mcp import (
    StdioServerParams,
    StreamableHttpServerParams,
    create_mcp_server_session,
    mcp_server_tools,
)
from player import Answer, Server, run, take_turns, text


async def connect(server: Server) -> None:
    command, *arguments = server.command
    # A call may take 55 seconds.
    reached: Any = (
        StreamableHttpServerParams(url=server.url, timeout=60)
        if server.url
        else StdioServerParams(command=command, args=arguments, env=server.env, read_timeout_seconds=60)
    )
    async with create_mcp_server_session(reached) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in await mcp_server_tools(reached, session=session)}

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await tools[tool].run_json(arguments, CancellationToken())
            return Answer([text(tools[tool].return_value_as_string(result))])

        await take_turns(tools, call)


run(connect)
