# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams, StreamableHTTPConnectionParams
from google.genai import types
from mcp import StdioServerParameters
from player import Answer, Server, data, next_turn, picture, run, say, say_tools
from typing_extensions import override


async def connect(server: Server) -> None:
    command, *arguments = server.command
    # A call may take 55 seconds.
    reached: Any = (
        StreamableHTTPConnectionParams(url=server.url, timeout=60)
        if server.url
        else StdioConnectionParams(
            server_params=StdioServerParameters(command=command, args=arguments, env=server.env), timeout=60
        )
    )
    toolset = McpToolset(connection_params=reached)
    runner = InMemoryRunner(LlmAgent(name="maker", model=Script(model="script"), tools=[toolset]))
    task = types.Content(role="user", parts=[types.Part(text="Make it.")])
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="user")
    async for _ in runner.run_async(user_id="user", session_id=session.id, new_message=task):
        pass
    await toolset.close()


class Script(BaseLlm):
    """Stands in for the model: what it would read goes out, what it would call comes in."""

    @override
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        if len(llm_request.contents) == 1:
            say_tools(llm_request.tools_dict)
        else:
            say(read(llm_request.contents[-1].parts))
        turn = await next_turn()
        part = (
            types.Part(text="done")
            if turn is None
            else types.Part.from_function_call(name=turn[0], args=turn[1])
        )
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def read(parts: Any) -> Answer:
    told: list[dict[str, Any]] = []
    error = None
    for part in parts:
        if part.function_response:
            told += data(part.function_response.response)
            told += [picture(each.inline_data.mime_type) for each in part.function_response.parts or ()]
            if part.function_response.response.get("isError"):
                error = "`isError`"
        elif part.inline_data:
            told.append(picture(part.inline_data.mime_type))
    return Answer(told, error=error)


run(connect)
