"""The MCP server, put together: the tools on the SDK's low-level server."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from sync_mcp._version import __version__
from sync_mcp.errors import ConfigurationError, ReadOnlyError, SyncError, ToolOff
from sync_mcp.serving.caller import asked_toolsets, caller
from sync_mcp.settings import Settings
from sync_mcp.texts import FAULT_LIMIT, clean, near, safe
from sync_mcp.tools.answers import SANDBOX_MARK, error_result
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.context import CALL_SECONDS, CallContext, Served
from sync_mcp.tools.late import Late
from sync_mcp.tools.opening import WEBHOOK_PATH, AccountOpening, BookOpening, Folders, Policy
from sync_mcp.tools.process import open_process
from sync_mcp.tools.registry import Tools, Withheld
from sync_mcp.tools.toolsets import Selection, select_tools
from sync_mcp.tools.user import NOBODY, QUESTION, User
from sync_mcp.tools.withheld import READ_ONLY_SETTING

if TYPE_CHECKING:
    from sync_mcp.tools.account import Account
    from sync_mcp.tools.webhooks import WebhookReceiver

logger = logging.getLogger("sync_mcp.server")

_SANDBOX_KEY = "sk_embedded_sandbox"
_LEAST_PROGRESS = 0.001
_INTRODUCE = ("initialize", "server/discover")
_LIST_PROMPTS: "Late[[Mapping[str, Withheld]], types.ListPromptsResult]" = Late("prompts:list_prompts")
_GET_PROMPT: "Late[[types.GetPromptRequestParams, Mapping[str, Withheld]], types.GetPromptResult]" = Late(
    "prompts:get_prompt"
)
_Completing = Awaitable[types.CompleteResult]
_COMPLETE: "Late[[types.CompleteRequestParams, Account, Mapping[str, Withheld]], _Completing]" = Late(
    "prompts:complete"
)
_LIST_SKILLS: "Late[[Mapping[str, Withheld]], types.CacheableResult]" = Late("skills:list_skills")
_GET_SKILL: "Late[[str, Mapping[str, Withheld]], types.CacheableResult]" = Late("skills:get_skill")
_LIST_RESOURCES: "Late[[Mapping[str, Withheld]], types.ListResourcesResult]" = Late("skills:list_resources")
_READ_RESOURCE: "Late[[str, Mapping[str, Withheld]], types.ReadResourceResult]" = Late("skills:read_resource")
_RECEIVE: "Late[[Served, str], WebhookReceiver]" = Late("webhooks:WebhookReceiver")
_EXTENSIONS: dict[str, dict[str, Any]] = {"io.modelcontextprotocol/skills": {}}
"""What is told of each extension of the protocol that is served: of skills, that no folder is listed."""
_FORMS_HAVE_A_MODE = "2025-11-25"
"""The revision that brought questions of another kind than a form."""


def create_server(
    settings: Settings,
    *,
    sandbox_url: str | None = None,
    tools: Tools = TOOLS,
    stopping: anyio.Event | None = None,
    webhooks: "WebhookDoor | None" = None,
) -> Server[Served]:
    """Return the server, not yet connected to anything.

    `sandbox_url` is the origin of an embedded sandbox that stands in for the API. Once `stopping` is set,
    calls that wait for a job are answered with its present state, and all others within `STOP_SECONDS`.
    `webhooks` takes what comes as a webhook while it runs.

    Raises:
        ConfigurationError: a toolset or a tool is named in the settings that does not exist.
    """
    selection = select_tools(
        tools, toolsets=settings.toolsets, names=settings.tools, is_read_only=settings.read_only
    )

    @asynccontextmanager
    async def lifespan(_: Server[Served]) -> AsyncGenerator[Served]:
        async with open_process(_book_opening(settings, sandbox_url), stopping) as process:
            served = Served(process, _account_opening(settings, sandbox_url))
            if webhooks is not None:
                webhooks.served = served
            yield served

    return assemble_server(selection, lifespan, sandbox_url=sandbox_url)


class WebhookDoor:
    """Takes the API's webhooks, signed by a secret, for the server that is made with it.

    Attributes:
        served: what the server's calls run on, while it runs.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._receiver: WebhookReceiver | None = None
        self.served: Served | None = None

    async def take(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take what came as a webhook; return whether there was room for it.

        Raises:
            WebhookRefused: the API has not sent it, or not now, or it cannot be read.
        """
        if self.served is None:
            return False
        if self._receiver is None:
            self._receiver = _RECEIVE(self.served, self._secret)
        return self._receiver.take(body, headers)


def assemble_server(
    selection: Selection,
    lifespan: Callable[[Server[Served]], AbstractAsyncContextManager[Served]],
    *,
    sandbox_url: str | None = None,
) -> Server[Served]:
    """Return a server that offers these tools, for the account that `lifespan` opens on a process."""
    # Made now, while whoever starts the server lets the garbage collector rest.
    _ = selection.listing

    async def list_tools(
        _: ServerRequestContext[Served], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return _select(selection).listing

    async def call_tool(
        context: ServerRequestContext[Served], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        selected = _select(selection)
        off = selected.withheld.get(params.name)
        if off is not None:
            account = context.lifespan_context.account
            await account.ask_whether_sandboxed()
            return error_result(_off_error(off), sandboxed=account.sandboxed)
        tool = selected.tools.get(params.name)
        if tool is None:
            raise MCPError(
                code=types.INVALID_PARAMS,
                message=f"Unknown tool {clean(params.name, 60)!r}{near(params.name[:80], selected.tools)}",
            )
        return await tool.call(_call_context(context, params, selected), params.arguments or {})

    async def list_prompts(
        _: ServerRequestContext[Served], __: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        return _LIST_PROMPTS(_select(selection).withheld)

    async def get_prompt(
        _: ServerRequestContext[Served], params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        return _GET_PROMPT(params, _select(selection).withheld)

    async def complete(
        context: ServerRequestContext[Served], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        return await _COMPLETE(params, context.lifespan_context.account, _select(selection).withheld)

    async def list_skills(
        context: ServerRequestContext[Served], _: types.PaginatedRequestParams
    ) -> HandlerResult:
        return _for_revision(_LIST_SKILLS(_select(selection).withheld), context.protocol_version)

    # Its params have a uri, and nothing else, as those of a resource.
    async def get_skill(
        context: ServerRequestContext[Served], params: types.ReadResourceRequestParams
    ) -> HandlerResult:
        return _for_revision(_GET_SKILL(params.uri, _select(selection).withheld), context.protocol_version)

    async def list_resources(
        _: ServerRequestContext[Served], __: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return _LIST_RESOURCES(_select(selection).withheld)

    async def list_resource_templates(
        _: ServerRequestContext[Served], __: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        # There are none; many a host asks all the same where there are resources.
        return types.ListResourceTemplatesResult(resource_templates=[])

    async def read_resource(
        _: ServerRequestContext[Served], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return _READ_RESOURCE(params.uri, _select(selection).withheld)

    def schema_of(name: str) -> Mapping[str, Any] | None:
        tool = selection.tools.get(name)
        return None if tool is None else tool.input_schema

    async def complete_introduction(
        ctx: ServerRequestContext[Served, Any], call_next: CallNext
    ) -> HandlerResult:
        told = await call_next(ctx)
        if ctx.method in _INTRODUCE and isinstance(told, dict):
            # The SDK leaves them out of revisions that do not know the field; hosts of these read it.
            told["capabilities"]["extensions"] = _EXTENSIONS
            if asked_toolsets.get():
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
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read_resource,
    )
    server.add_request_handler("skills/list", types.PaginatedRequestParams, list_skills)
    server.add_request_handler("skills/get", types.ReadResourceRequestParams, get_skill)
    server.extensions = _EXTENSIONS
    server.middleware.append(complete_introduction)
    return server


def _select(selection: Selection) -> Selection:
    """Return which tools are on for this request: over HTTP a header of its own can narrow them."""
    asked = asked_toolsets.get()
    try:
        return selection.narrow(asked) if asked else selection
    except ConfigurationError as error:
        raise MCPError(code=types.INVALID_PARAMS, message=error.message) from error


def _for_revision(result: types.CacheableResult, revision: str) -> HandlerResult:
    """Return an extension's result as the protocol's own are: modern ones alone tell how long they keep."""
    if revision in MODERN_PROTOCOL_VERSIONS:
        return result
    return result.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"ttl_ms", "cache_scope"})


def _off_error(off: Withheld) -> SyncError:
    message, toolset = f"{off.tool.name} is switched off.", off.tool.toolset.name
    if off.setting == READ_ONLY_SETTING:
        return ReadOnlyError(message)
    return ToolOff(
        message, next_step=f"Tell the user: {off.setting} does not include it (its toolset is {toolset})."
    )


def _call_context(
    context: ServerRequestContext[Served], params: types.CallToolRequestParams, selected: Selection
) -> CallContext:
    started_at = anyio.current_time()
    told = 0.0

    async def report(message: str) -> None:
        # Whoever tells it within a call, the figure only rises: also within one tick of the clock.
        nonlocal told
        told = max(anyio.current_time() - started_at, told + _LEAST_PROGRESS)
        await context.session.report_progress(told, None, message)

    served = context.lifespan_context
    return CallContext(
        served.process,
        served.account,
        report,
        ends_at=started_at + CALL_SECONDS,
        user=_user(context, params),
        caller=caller.get(),
        withheld=selected.withheld,
    )


def _user(context: ServerRequestContext[Served], params: types.CallToolRequestParams) -> User:
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


def _book_opening(settings: Settings, sandbox_url: str | None) -> BookOpening:
    """Return with what the book of these settings is opened; an embedded sandbox's ends with it."""
    return BookOpening(
        home=settings.home,
        is_scratch=sandbox_url is not None,
        limits=settings.limits,
        resend_hours=settings.resend_hours,
        unpriced_usd=settings.unpriced_usd,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
    )


def _account_opening(settings: Settings, sandbox_url: str | None) -> AccountOpening:
    """Return with what the account of these settings is opened; over HTTP it has no usual folders."""
    above = settings.approve_above_usd
    policy = Policy(
        None if above == "never" else above,
        settings.approve_by,
        settings.told_hosts,
        None if settings.public_url is None else f"{settings.public_url}{WEBHOOK_PATH}",
    )
    folders = Folders(settings.media_roots, settings.download_dir, has_usual=not settings.http)
    if sandbox_url is not None:
        return AccountOpening(
            _SANDBOX_KEY, sandbox_url, policy, folders, settings.campaign_slots, is_sandbox=True
        )
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return AccountOpening(key, settings.base_url, policy, folders, settings.campaign_slots)


def instructions(sandbox_url: str | None, selection: Selection) -> str:
    """Return what a model is told of this server before any call."""
    if sandbox_url is None:
        return selection.instructions
    samples = f"{sandbox_url}/samples"
    return (
        f"{selection.instructions} {SANDBOX_MARK} Samples: {samples}/speaker.mp4, {samples}/speaker.jpg, "
        f"{samples}/speech.wav, {samples}/speaking.mp4 (to dub)."
    )
