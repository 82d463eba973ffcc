# pyright: basic, reportMissingImports=false
from typing import Any

from player import Answer, Server, picture, run, take_turns, text
from semantic_kernel import Kernel
from semantic_kernel.connectors.mcp import MCPStdioPlugin, MCPStreamableHttpPlugin
from semantic_kernel.contents import ImageContent
from semantic_kernel.functions import KernelArguments


async def connect(server: Server) -> None:
    command, *arguments = server.command
    # Prompts would be functions as well.
    plugin = (
        MCPStreamableHttpPlugin(name="sync", url=server.url, load_prompts=False)
        if server.url
        else MCPStdioPlugin(name="sync", command=command, args=arguments, env=server.env, load_prompts=False)
    )
    async with plugin:
        kernel = Kernel()
        functions = kernel.add_plugin(plugin).functions

        async def call(tool: str, arguments: dict[str, Any]) -> Answer:
            result = await kernel.invoke(functions[tool], KernelArguments(**arguments))
            return Answer(
                [
                    picture(item.mime_type) if isinstance(item, ImageContent) else text(item)
                    for item in (result.value if result else ())
                ]
            )

        await take_turns(functions, call)


run(connect)
