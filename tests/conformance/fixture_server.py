"""The product's server, on its own HTTP transport, with the tools and prompts of the conformance suite.

They stand beside the product's own, whose definitions are checked with them. It prints its URL, and serves.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from pydantic import Field

from sync_mcp.errors import InvalidRequestError
from sync_mcp.server import create_server
from sync_mcp.serving.http import MCP_PATH, create_app, listen, serve_http
from sync_mcp.settings import Settings
from sync_mcp.tools import prompts
from sync_mcp.tools.account import Account
from sync_mcp.tools.answers import Answer
from sync_mcp.tools.arguments import Arguments
from sync_mcp.tools.catalogue import TOOLS as PRODUCT_TOOLS
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.prompts import Argument, Prompt
from sync_mcp.tools.registry import ArgumentsT, Tool, Toolset

# One red pixel, and a sound without a sample.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="

IMAGE = types.ImageContent(type="image", data=PNG, mime_type="image/png")
AUDIO = types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")
RESOURCE = types.EmbeddedResource(
    type="resource",
    resource=types.TextResourceContents(
        uri="test://embedded-resource", mime_type="text/plain", text="This is an embedded resource content."
    ),
)


class NoArguments(Arguments):
    pass


class HeaderArguments(Arguments):
    region: str = Field(description="Told in a header as well.", json_schema_extra={"x-mcp-header": "Region"})


class TextAnswer(Answer):
    text: str


def text_answer(text: str) -> TextAnswer:
    return TextAnswer(text=text, next_step="Nothing.")


@dataclass(frozen=True)
class ContentTool(Tool[ArgumentsT]):
    """A tool whose answers end in content that the product's have no use for."""

    content: Sequence[types.ContentBlock] = ()

    async def call(
        self, context: CallContext, given: Mapping[str, Any]
    ) -> types.CallToolResult | types.InputRequiredResult:
        result = await super().call(context, given)
        if isinstance(result, types.CallToolResult):
            result.content.extend(self.content)
        return result


async def say(_: CallContext, __: Arguments) -> TextAnswer:
    return text_answer("This is a simple text response for testing.")


async def fail(_: CallContext, __: Arguments) -> TextAnswer:
    raise InvalidRequestError("This tool intentionally returns an error for testing.")


async def report_progress(context: CallContext, _: Arguments) -> TextAnswer:
    for percent in (0, 50, 100):
        await context.report_progress(f"{percent} of 100")
    return text_answer("Done, with three reports of progress.")


async def log(_: CallContext, __: Arguments) -> TextAnswer:
    logging.getLogger("sync_mcp.tools").warning("a log line, as the tools write them")
    return text_answer("Done, with a line in the log.")


async def list_words(_: Account) -> Sequence[str]:
    return ("test", "testing")


def tool(
    name: str,
    run: Callable[[CallContext, ArgumentsT], Awaitable[Answer]],
    *content: types.ContentBlock,
    arguments: type[ArgumentsT] = NoArguments,
) -> Tool[ArgumentsT]:
    return ContentTool(
        name=name,
        toolset=Toolset("conformance", ()),
        title=name,
        description="A tool of the conformance suite.",
        arguments=arguments,
        answer=TextAnswer,
        annotations=types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
        run=run,
        content=content,
    )


TOOLS = (
    *PRODUCT_TOOLS,
    tool("test_simple_text", say),
    tool("test_image_content", say, IMAGE),
    tool("test_audio_content", say, AUDIO),
    tool("test_embedded_resource", say, RESOURCE),
    tool("test_multiple_content_types", say, IMAGE, RESOURCE),
    tool("test_error_handling", fail),
    tool("test_tool_with_progress", report_progress),
    tool("test_logging_tool", log),
    tool("test_custom_header", say, arguments=HeaderArguments),
)

PROMPTS = (
    Prompt("test_simple_prompt", "Simple", "A prompt of the conformance suite.", (), ("Say so.",)),
    Prompt(
        "test_prompt_with_arguments",
        "With arguments",
        "A prompt of the conformance suite with arguments.",
        (Argument("arg1", "The first", list_words), Argument("arg2", "The second")),
        ("Say both.",),
    ),
)


if __name__ == "__main__":
    prompts.PROMPTS = {**prompts.PROMPTS, **{prompt.name: prompt for prompt in PROMPTS}}
    listening = listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}{MCP_PATH}", flush=True)  # noqa: T201
    serve_http(create_app(create_server(Settings(), tools=TOOLS)), listening, lambda: None)
