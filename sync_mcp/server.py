"""The MCP server, put together: the tools on the SDK's low-level server."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from sync_mcp._version import __version__
from sync_mcp.errors import ConfigurationError, ReadOnlyError, SyncError, ToolOff
from sync_mcp.machine.home import default_home, home_folder
from sync_mcp.machine.installed import name_home
from sync_mcp.machine.scratch import ScratchFolder
from sync_mcp.serving.caller import asked_toolsets, caller
from sync_mcp.settings import Settings
from sync_mcp.texts import FAULT_LIMIT, clean, near, safe
from sync_mcp.tools.answers import SANDBOX_MARK, error_result
from sync_mcp.tools.backend import CALL_SECONDS, Backend, CallContext
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.registry import Tools, Withheld
from sync_mcp.tools.toolsets import Selection, select_tools
from sync_mcp.tools.user import NOBODY, QUESTION, User
from sync_mcp.tools.withheld import READ_ONLY_SETTING

if TYPE_CHECKING:
    from sync_mcp.api.client import AsyncSync
    from sync_mcp.media.paths.roots import MediaRoots
    from sync_mcp.payments.guard import Guard

logger = logging.getLogger("sync_mcp.server")

_LEAST_PROGRESS = 0.001
_TELL_INSTRUCTIONS = ("initialize", "server/discover")
_FORMS_HAVE_A_MODE = "2025-11-25"
"""The revision that brought questions of another kind than a form."""


def create_server(
    settings: Settings,
    *,
    sandbox_url: str | None = None,
    tools: Tools = TOOLS,
    stopping: anyio.Event | None = None,
) -> Server[Backend]:
    """Return the server, not yet connected to anything.

    `sandbox_url` is the origin of an embedded sandbox that stands in for the API. Once `stopping` is set,
    calls that wait for a job are answered with its present state, and all others within `STOP_SECONDS`.

    Raises:
        ConfigurationError: a toolset or a tool is named in the settings that does not exist.
    """
    above = settings.approve_above_usd
    selection = select_tools(
        tools, toolsets=settings.toolsets, names=settings.tools, is_read_only=settings.read_only
    )
    # Made now, while whoever starts the server lets the garbage collector rest.
    _ = selection.listing

    @asynccontextmanager
    async def lifespan(_: Server[Backend]) -> AsyncGenerator[Backend]:
        # The ledger outlives the creates: how they were left is written down in it.
        async with _guards(settings, sandbox_url) as make_guard, anyio.create_task_group() as task_group:
            backend = Backend(
                _connector(settings, sandbox_url),
                partial(make_guard, task_group),
                partial(_media_roots, settings),
                task_group,
                approve_above_usd=None if above == "never" else above,
                approve_by=settings.approve_by,
                webhook_hosts=settings.webhook_hosts,
                sandboxed=sandbox_url is not None,
                stopping=stopping,
            )
            task_group.start_soon(backend.end_calls_in_time)
            try:
                yield backend
            finally:
                task_group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await backend.aclose()

    async def list_tools(
        _: ServerRequestContext[Backend], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return _select(selection).listing

    async def call_tool(
        context: ServerRequestContext[Backend], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        selected = _select(selection)
        off = selected.withheld.get(params.name)
        if off is not None:
            backend = context.lifespan_context
            await backend.ask_whether_sandboxed()
            return error_result(_off_error(off), sandboxed=backend.sandboxed)
        tool = selected.tools.get(params.name)
        if tool is None:
            raise MCPError(
                code=types.INVALID_PARAMS,
                message=f"Unknown tool {clean(params.name, 60)!r}{near(params.name[:80], selected.tools)}",
            )
        return await tool.call(_call_context(context, params, selected), params.arguments or {})

    def schema_of(name: str) -> Mapping[str, Any] | None:
        tool = selection.tools.get(name)
        return None if tool is None else tool.input_schema

    async def narrow_instructions(
        ctx: ServerRequestContext[Backend, Any], call_next: CallNext
    ) -> HandlerResult:
        told = await call_next(ctx)
        if ctx.method in _TELL_INSTRUCTIONS and asked_toolsets.get() and isinstance(told, dict):
            told["instructions"] = instructions(sandbox_url, _select(selection))
        return told

    server = Server(
        "sync-mcp",
        version=__version__,
        title="Sync lip-sync and dubbing",
        instructions=instructions(sandbox_url, selection),
        website_url="https://sync.so",
        lifespan=lifespan,
        get_tool_input_schema=schema_of,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.middleware.append(narrow_instructions)
    return server


def _select(selection: Selection) -> Selection:
    """Return which tools are on for this request: over HTTP a header of its own can narrow them."""
    asked = asked_toolsets.get()
    try:
        return selection.narrow(asked) if asked else selection
    except ConfigurationError as error:
        raise MCPError(code=types.INVALID_PARAMS, message=error.message) from error


def _off_error(off: Withheld) -> SyncError:
    message, toolset = f"{off.tool.name} is switched off.", off.tool.toolset.name
    if off.setting == READ_ONLY_SETTING:
        return ReadOnlyError(message)
    return ToolOff(
        message, next_step=f"Tell the user: {off.setting} does not include it (its toolset is {toolset})."
    )


def _call_context(
    context: ServerRequestContext[Backend], params: types.CallToolRequestParams, selected: Selection
) -> CallContext:
    started_at = anyio.current_time()
    told = 0.0

    async def report(message: str) -> None:
        # Whoever tells it within a call, the figure only rises: also within one tick of the clock.
        nonlocal told
        told = max(anyio.current_time() - started_at, told + _LEAST_PROGRESS)
        await context.session.report_progress(told, None, message)

    return CallContext(
        context.lifespan_context,
        report,
        ends_at=started_at + CALL_SECONDS,
        user=_user(context, params),
        caller=caller.get(),
        withheld=selected.withheld,
    )


def _user(context: ServerRequestContext[Backend], params: types.CallToolRequestParams) -> User:
    """Return how the user behind this client can be asked."""
    session = context.session
    can = session.client_capabilities.elicitation if session.client_capabilities else None
    # An empty capability is that of clients from before there were two kinds.
    if can is None or (can.form is None and can.url is not None):
        return NOBODY
    if session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        said = (params.input_responses or {}).get(QUESTION)
        if isinstance(said, types.ElicitResult) and params.request_state:
            return User(is_asked_by_answer=True, choice=said, question_id=params.request_state)
        return User(is_asked_by_answer=True)
    if not session.can_send_request:
        return NOBODY

    async def ask(form: types.ElicitRequestFormParams) -> types.ElicitResult | None:
        try:
            return await session.send_request(
                _form_request(form, session.protocol_version),
                types.ElicitResult,
                metadata=ServerMessageMetadata(related_request_id=context.request_id),
            )
        except (MCPError, ValidationError) as error:
            # It says that it cannot, or its answer is no answer.
            logger.warning("the client could not ask the user: %s", safe(repr(error), FAULT_LIMIT))
            return None

    return User(ask=ask)


class _FormWithoutMode(types.ElicitRequest):
    """A question as revisions have it in which there is no other kind than a form."""

    @model_serializer(mode="wrap")
    def _without_mode(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told = serialized(self)
        del told["params"]["mode"]
        return told


def _form_request(form: types.ElicitRequestFormParams, revision: str) -> types.ElicitRequest:
    # Revisions are dates, so they are in order as words.
    kind = types.ElicitRequest if revision >= _FORMS_HAVE_A_MODE else _FormWithoutMode
    return kind(params=form)


@asynccontextmanager
async def _guards(
    settings: Settings, sandbox_url: str | None
) -> "AsyncGenerator[Callable[[TaskGroup], Guard]]":
    """Yield what makes the guard of paid calls; the sandbox's own ledger ends with it."""
    with ExitStack() as ends:

        def guard(task_group: TaskGroup) -> "Guard":
            # SQLAlchemy is loaded by the first call that needs it.
            from sync_mcp.payments.guard import Guard
            from sync_mcp.payments.ledger import Ledger
            from sync_mcp.payments.limits import Limits

            folder = settings.home
            if sandbox_url is not None:
                folder = ends.enter_context(ScratchFolder("ledger")).path
            home = home_folder(folder)
            if home != default_home():
                # The user's terminal has not the environment of this process.
                ends.enter_context(name_home(home))
            ledger = Ledger(home)
            ends.callback(ledger.close)
            limits = Limits(settings.max_usd_per_job, settings.budget_usd_per_day, settings.budget_usd)
            return Guard(ledger, limits, resend_hours=settings.resend_hours, task_group=task_group)

        yield guard


def _media_roots(settings: Settings) -> "MediaRoots":
    """Return where local files may be; over HTTP nowhere, unless the user says where."""
    # Folders are looked at by the first call that names a file.
    from sync_mcp.media.paths.roots import MediaRoots
    from sync_mcp.media.paths.usual import usual_download_folder, usual_roots

    if settings.http and settings.media_roots is None:
        return MediaRoots([], None)
    download_folder = settings.download_dir
    if download_folder is None and not settings.http:
        download_folder = usual_download_folder()
    roots = usual_roots() if settings.media_roots is None else settings.media_roots
    return MediaRoots(roots, download_folder)


def _connector(settings: Settings, sandbox_url: str | None) -> "Callable[[], AsyncSync]":
    def connect() -> "AsyncSync":
        # The HTTP library is loaded by the first call that needs it.
        from sync_mcp.api.client import AsyncSync

        if sandbox_url is not None:
            return AsyncSync(api_key="sk_embedded_sandbox", base_url=sandbox_url)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        return AsyncSync(api_key=key, base_url=settings.base_url)

    return connect


def instructions(sandbox_url: str | None, selection: Selection) -> str:
    """Return what a model is told of this server before any call."""
    if sandbox_url is None:
        return selection.instructions
    samples = f"{sandbox_url}/samples"
    return (
        f"{selection.instructions} {SANDBOX_MARK} Samples: {samples}/speaker.mp4, {samples}/speaker.jpg, "
        f"{samples}/speech.wav, {samples}/speaking.mp4 (to dub)."
    )
