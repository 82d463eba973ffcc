# pyright: basic, reportMissingImports=false
import json
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from player import Answer, Server, next_turn, picture, run, say, say_tools, text
from typing_extensions import override


async def connect(server: Server) -> None:
    async with reach(server) as reached:
        agent = Agent("maker", model=Script(), mcp_servers=[reached])
        await Runner.run(agent, "Make it.", run_config=RunConfig(tracing_disabled=True), max_turns=20)


def reach(server: Server) -> MCPServerStdio | MCPServerStreamableHttp:
    # A call may take 55 seconds; by default it is given up after 5.
    if server.url:
        return MCPServerStreamableHttp({"url": server.url}, client_session_timeout_seconds=60)
    command, *arguments = server.command
    return MCPServerStdio(
        {"command": command, "args": arguments, "env": server.env}, client_session_timeout_seconds=60
    )


class Script(Model):
    """Stands in for the model: what it would read goes out, what it would call comes in."""

    def __init__(self) -> None:
        self.turns = 0

    @override
    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,
        model_settings: Any,
        tools: Any,
        *args: Any,
        **more: Any,
    ) -> ModelResponse:
        if self.turns:
            say(read(input[-1]["output"]))
        else:
            say_tools([tool.name for tool in tools])
        self.turns += 1
        return ModelResponse(output=[item(await next_turn(), self.turns)], usage=Usage(), response_id=None)

    @override
    def stream_response(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError


def item(turn: Any, number: int) -> Any:
    if turn is None:
        done = ResponseOutputText(type="output_text", text="done", annotations=[])
        return ResponseOutputMessage(
            type="message", id="done", role="assistant", status="completed", content=[done]
        )
    tool, arguments = turn
    return ResponseFunctionToolCall(
        type="function_call", call_id=str(number), name=tool, arguments=json.dumps(arguments)
    )


def read(output: Any) -> Answer:
    items = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
    return Answer(
        [text(item["text"]) if item["type"] == "input_text" else picture(item["type"]) for item in items]
    )


run(connect)
