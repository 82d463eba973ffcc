# pyright: basic, reportMissingImports=false
import asyncio
from typing import Any

from mcp import StdioServerParameters
from player import Answer, Server, data, picture, run, take_turns, text
from smolagents import MCPClient


async def connect(server: Server) -> None:
    command, *arguments = server.command
    reached: Any = (
        {"url": server.url, "transport": "streamable-http"}
        if server.url
        else StdioServerParameters(command=command, args=arguments, env=server.env)
    )
    with MCPClient(reached, structured_output=False) as listed:
        tools = {tool.name: tool for tool in listed}

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await asyncio.to_thread(tools[tool], **arguments)
            if isinstance(result, str):
                return Answer([text(result)])
            return Answer(data(result) if isinstance(result, dict) else [picture(type(result).__name__)])

        await take_turns(tools, call)


run(connect)
