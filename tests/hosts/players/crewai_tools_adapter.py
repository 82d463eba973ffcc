# pyright: basic, reportMissingImports=false
import asyncio
from typing import Any

from crewai_tools import MCPServerAdapter
from mcp import StdioServerParameters
from player import Answer, Server, run, take_turns, text


async def connect(server: Server) -> None:
    command, *arguments = server.command
    reached: Any = (
        {"url": server.url, "transport": "streamable-http"}
        if server.url
        else StdioServerParameters(command=command, args=arguments, env=server.env)
    )
    with MCPServerAdapter(reached) as listed:
        tools = {tool.name: tool for tool in listed}

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            return Answer([text(await asyncio.to_thread(tools[tool].run, **arguments))])

        await take_turns(tools, call)


run(connect)
