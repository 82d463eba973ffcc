"""The MCP server, put together: the tools on the SDK's low-level server."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from sync_mcp._version import __version__
from sync_mcp.settings import Settings
from sync_mcp.text import clean, near
from sync_mcp.tools.backend import CALL_SECONDS, Backend, CallContext
from sync_mcp.tools.generations import TOOLS
from sync_mcp.tools.registry import Tool, Tools

if TYPE_CHECKING:
    from sync_mcp.api.client import AsyncSync

logger = logging.getLogger("sync_mcp.server")

INSTRUCTIONS = (
    "Lip-synced and dubbed video with Sync. The way: estimate_cost, let the user agree to the price, "
    "create_generation, then get_generation with wait_seconds 45 until it has ended. A generation costs "
    "money, cannot be cancelled, and takes from ten seconds to ten minutes. Never repeat create_generation "
    "because an answer is late: look in list_generations. Each answer's next_step says how to go on. Media "
    "are given as public URLs; output URLs are signed, so copy them letter for letter."
)


def create_server(
    settings: Settings,
    *,
    sandbox_url: str | None = None,
    tools: Tools = TOOLS,
    stopping: anyio.Event | None = None,
) -> Server[Backend]:
    """Return the server, not yet connected to anything.

    `sandbox_url` is the origin of an embedded sandbox that stands in for the API. Once `stopping` is set,
    calls that wait for a job are answered with its present state.
    """
    definitions = types.ListToolsResult(tools=[tool.definition for tool in tools])
    by_name: Mapping[str, Tool[Any]] = {tool.name: tool for tool in tools}

    @asynccontextmanager
    async def lifespan(_: Server[Backend]) -> AsyncGenerator[Backend]:
        async with anyio.create_task_group() as task_group:
            backend = Backend(
                _connector(settings, sandbox_url),
                task_group,
                sandboxed=sandbox_url is not None,
                stopping=stopping,
            )
            try:
                yield backend
            finally:
                task_group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await backend.aclose()

    async def list_tools(
        _: ServerRequestContext[Backend], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return definitions

    async def call_tool(
        context: ServerRequestContext[Backend], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = by_name.get(params.name)
        if tool is None:
            raise MCPError(
                code=types.INVALID_PARAMS,
                message=f"Unknown tool {clean(params.name, 60)!r}{near(params.name[:80], by_name)}",
            )
        return await tool.call(_call_context(context), params.arguments or {})

    def schema_of(name: str) -> Mapping[str, Any] | None:
        return by_name[name].input_schema if name in by_name else None

    return Server(
        "sync-mcp",
        version=__version__,
        title="Sync lip-sync and dubbing",
        instructions=_instructions(sandbox_url),
        website_url="https://sync.so",
        lifespan=lifespan,
        get_tool_input_schema=schema_of,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _call_context(context: ServerRequestContext[Backend]) -> CallContext:
    async def report(elapsed_seconds: float, message: str) -> None:
        await context.session.report_progress(elapsed_seconds, None, message)

    return CallContext(context.lifespan_context, report, ends_at=anyio.current_time() + CALL_SECONDS)


def _connector(settings: Settings, sandbox_url: str | None) -> "Callable[[], AsyncSync]":
    def connect() -> "AsyncSync":
        # The HTTP library is loaded by the first call that needs it.
        from sync_mcp.api.client import AsyncSync

        if sandbox_url is not None:
            return AsyncSync(api_key="sk_embedded_sandbox", base_url=sandbox_url)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        return AsyncSync(api_key=key, base_url=settings.base_url)

    return connect


def _instructions(sandbox_url: str | None) -> str:
    if sandbox_url is None:
        return INSTRUCTIONS
    return (
        f"{INSTRUCTIONS} This server runs on its SANDBOX: answers come from a stand-in, no real video is "
        f"made and no money is spent. Sample media: {sandbox_url}/samples/speaker.mp4 (video), "
        f"{sandbox_url}/samples/speaker.jpg (image), {sandbox_url}/samples/speech.wav (audio)."
    )
