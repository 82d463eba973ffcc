# pyright: basic, reportMissingImports=false
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from player import Answer, Server, blocks, data, run, take_turns


async def connect(server: Server) -> None:
    command, *arguments = server.command
    async with Client(server.url or StdioTransport(command, arguments, env=server.env)) as client:

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await client.call_tool(tool, arguments)
            return Answer([*blocks(result.content), *data(result.structured_content)])

        await take_turns([tool.name for tool in await client.list_tools()], call)


run(connect)
