"""A server whose tools do what a transport finds hard; it tells on stderr what stdout does not show."""

# ruff: noqa: E402
import gc

gc.disable()  # with the freeze below, for a faster start and exit: most of what these tests wait for

import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from sync_mcp.serving import stdio
from sync_mcp.serving.ending import exit_within

Context = ServerRequestContext[str]


def tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@asynccontextmanager
async def lifespan(_: Server[Any]) -> AsyncGenerator[str]:
    print("noise from the lifespan")  # noqa: T201
    tell("lifespan entered")
    yield "shared"
    await anyio.lowlevel.checkpoint()
    tell("lifespan left")


async def echo(ctx: Context, text: str) -> str:
    return text


async def take_a_moment(ctx: Context, text: str) -> str:
    await anyio.sleep(0.05)
    return text


async def wait_forever(ctx: Context, text: str) -> str:
    await ctx.session.report_progress(1)
    tell(f"waiting {text}")
    try:
        await anyio.sleep_forever()
    finally:
        tell(f"cancelled {text}")
    return text


async def block_thread(ctx: Context, text: str) -> str:
    tell("blocking")
    await anyio.to_thread.run_sync(threading.Event().wait)
    return text


async def block_loop(ctx: Context, text: str) -> str:
    tell("blocking the loop")
    threading.Event().wait()
    return text


async def print_noise(ctx: Context, text: str) -> str:
    print("noise, not flushed")  # noqa: T201
    os.write(1, b"noise on the descriptor\n")
    tell("made noise")
    return text


async def boom(ctx: Context, text: str) -> str:
    raise RuntimeError(text)


async def not_unicode(ctx: Context, text: str) -> str:
    return "\ud800"


async def lifespan_state(ctx: Context, text: str) -> str:
    return ctx.lifespan_context


TOOLS: dict[str, Callable[[Context, str], Awaitable[str]]] = {
    tool.__name__: tool
    for tool in (
        echo,
        take_a_moment,
        wait_forever,
        block_thread,
        block_loop,
        print_noise,
        boom,
        not_unicode,
        lifespan_state,
    )
}


async def list_tools(ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name=name, input_schema={"type": "object"}) for name in TOOLS])


async def call_tool(ctx: Context, params: CallToolRequestParams) -> CallToolResult:
    text = await TOOLS[params.name](ctx, (params.arguments or {}).get("text", ""))
    return CallToolResult(content=[TextContent(type="text", text=text)])


if __name__ == "__main__":
    server = Server("fixture", lifespan=lifespan, on_list_tools=list_tools, on_call_tool=call_tool)
    gc.freeze()
    gc.enable()
    stdio.GRACE_SECONDS = float(os.environ.get("GRACE_SECONDS", stdio.GRACE_SECONDS))
    on_stop = partial(exit_within, 0.5) if "EXIT_WITHIN" in os.environ else None
    anyio.run(
        partial(stdio.serve_stdio, server, on_stop=on_stop), backend=os.environ.get("BACKEND", "asyncio")
    )
    print("noise after serving")  # noqa: T201
