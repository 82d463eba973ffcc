# pyright: basic, reportMissingImports=false
from typing import Any

from mcp_use.client import MCPClient
from player import Answer, Server, blocks, data, run, take_turns


async def connect(server: Server) -> None:
    command, *arguments = server.command
    if server.url:
        configured: dict[str, Any] = {"url": server.url}
    else:
        configured = {"command": command, "args": arguments, "env": server.env}
    client = MCPClient.from_dict({"mcpServers": {"sync": configured}})
    try:
        session = await client.create_session("sync")

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await session.call_tool(tool, arguments)
            error = "`isError`" if result.isError else None
            return Answer([*blocks(result.content), *data(result.structuredContent)], error=error)

        await take_turns([tool.name for tool in await session.list_tools()], call)
    finally:
        await client.close_all_sessions()


run(connect)
