# pyright: basic, reportMissingImports=false
from typing import Any

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from player import Answer, Server, data, picture, run, take_turns, text


async def connect(server: Server) -> None:
    command, *arguments = server.command
    if server.url:
        connection: dict[str, Any] = {"transport": "streamable_http", "url": server.url}
    else:
        connection = {"transport": "stdio", "command": command, "args": arguments, "env": server.env}
    async with MultiServerMCPClient({"sync": connection}).session("sync") as session:
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            message = await tools[tool].ainvoke(
                {"type": "tool_call", "id": "1", "name": tool, "args": arguments}
            )
            parts = [
                text(block["text"]) if block["type"] == "text" else picture(block.get("mime_type"))
                for block in (
                    message.content
                    if isinstance(message.content, list)
                    else [{"type": "text", "text": message.content}]
                )
            ]
            return Answer(
                parts, data(message.artifact), "status `error`" if message.status == "error" else None
            )

        await take_turns(tools, call)


run(connect)
