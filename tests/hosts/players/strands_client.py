# pyright: basic, reportMissingImports=false
from typing import Any

from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from player import Answer, Server, data, picture, run, take_turns, text
from strands.tools.mcp import MCPClient


async def connect(server: Server) -> None:
    with MCPClient(lambda: transport(server)) as client:

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await client.call_tool_async("1", tool, arguments)
            parts = [
                text(block["text"]) if "text" in block else picture(block["image"]["format"])
                for block in result["content"]
            ]
            failed = result["status"] == "error"
            return Answer(parts, data(result.get("structuredContent")), "status `error`" if failed else None)

        await take_turns([tool.tool_name for tool in client.list_tools_sync()], call)


def transport(server: Server) -> Any:
    if server.url:
        return streamable_http_client(server.url)
    command, *arguments = server.command
    return stdio_client(StdioServerParameters(command=command, args=arguments, env=server.env))


run(connect)
