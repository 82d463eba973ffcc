# pyright: basic, reportMissingImports=false
import shlex
from typing import Any

from agno.tools.function import FunctionCall
from agno.tools.mcp import MCPTools
from player import Answer, Server, data, picture, run, take_turns, text


async def connect(server: Server) -> None:
    reached: dict[str, Any] = (
        {"url": server.url, "transport": "streamable-http"}
        if server.url
        else {"command": shlex.join(server.command), "env": server.env}
    )
    # A call may take 55 seconds.
    async with MCPTools(timeout_seconds=60, **reached) as tools:

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            called = await FunctionCall(function=tools.functions[tool], arguments=arguments).aexecute()
            result = called.result
            images = [picture(image.mime_type) for image in getattr(result, "images", None) or ()]
            beside = data(getattr(result, "metadata", None))
            failed = called.status != "success"
            return Answer(
                [text(getattr(result, "content", None) or called.error), *images],
                beside,
                f"status `{called.status}`" if failed else None,
            )

        await take_turns(tools.functions, call)


run(connect)
