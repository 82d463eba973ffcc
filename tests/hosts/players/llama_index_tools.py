# pyright: basic, reportMissingImports=false
from typing import Any

from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from player import Answer, Server, blocks, run, take_turns, text


async def connect(server: Server) -> None:
    command, *arguments = server.command
    if server.url:
        client = BasicMCPClient(server.url, timeout=60)
    else:
        client = BasicMCPClient(command, args=arguments, env=server.env, timeout=60)
    listed = await McpToolSpec(client).to_tool_list_async()
    tools = {tool.metadata.name: tool for tool in listed}

    async def call(tool: str, arguments: dict[str, Any]) -> Answer:
        output = await tools[tool].acall(**arguments)
        beside = blocks(output.raw_output.content)
        return Answer([text(output.content)], beside, "`is_error`" if output.is_error else None)

    await take_turns([str(name) for name in tools], call)


run(connect)
