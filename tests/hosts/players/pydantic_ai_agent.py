# pyright: basic, reportMissingImports=false
from typing import Any

from fastmcp.client.transports import StdioTransport
from player import Answer, Server, data, next_turn, picture, run, say, say_tools, text
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


async def connect(server: Server) -> None:
    command, *arguments = server.command
    toolset = MCPToolset[object](
        server.url or StdioTransport(command, arguments, env=server.env),
        # By default a tool's second error ends the run.
        tool_error_behavior="failed",
    )
    async with toolset:
        agent = Agent(FunctionModel(script), toolsets=[toolset])
        await agent.run("Make the clip say the recording.")


async def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stand in for the model: what it would read goes out, what it would call comes in."""
    if len(messages) == 1:
        say_tools([tool.name for tool in info.function_tools])
    else:
        say(read(messages[-1].parts))
    turn = await next_turn()
    return ModelResponse([ToolCallPart(*turn) if turn else TextPart("done")])


def read(parts: Any) -> Answer:
    told: list[dict[str, Any]] = []
    error = None
    for part in parts:
        for item in part.content if isinstance(part.content, list | tuple) else [part.content]:
            if isinstance(item, BinaryContent):
                told.append(picture(item.media_type))
            else:
                told += [text(item)] if isinstance(item, str) else data(item)
        if part.part_kind == "retry-prompt":
            error = "a prompt to try again"
        elif getattr(part, "outcome", "success") != "success":
            error = f"outcome `{part.outcome}`"
    return Answer(told, error=error)


run(connect)
