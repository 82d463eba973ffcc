"""A tool: its words for the model, its schemas, and how a call to it runs."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import mcp_types as types

from sync_mcp.errors import (
    APITimeoutError,
    ApprovalRequired,
    InternalError,
    MoneySpent,
    SyncError,
)
from sync_mcp.texts import FAULT_LIMIT, safe
from sync_mcp.tools.answers import SANDBOX_MARK, Answer, Picture, answer_result, error_result
from sync_mcp.tools.arguments import Arguments, parse_arguments
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.forgiving import unnest, without_injected
from sync_mcp.tools.late import Late
from sync_mcp.tools.schema import (
    Schema,
    input_schema,
    output_schema,
    whole_schema,
    with_descriptions,
    with_words_of,
)
from sync_mcp.tools.user import InputNeeded
from sync_mcp.tools.withheld import without_tools

READS = types.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
CHANGES = types.ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
MAY_OVERWRITE = types.ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)

DELETES = types.ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)

logger = logging.getLogger("sync_mcp.tools")


@dataclass(frozen=True, slots=True)
class Toolset:
    """Tools that are switched on together; `is_default` says whether they are where nothing is set.

    Of its `ways`, a sentence each, the instructions tell the first that names no tool that is off.
    """

    name: str
    ways: Sequence[str]
    is_default: bool = True


ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


Run = Callable[[CallContext, ArgumentsT], Awaitable[Answer | Picture]]


class LateRun(Late[[CallContext, Any], Awaitable[Answer | Picture]]):
    """The run of a tool, loaded by its first call."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A tool that is off, and by which setting."""

    tool: "Tool[Any]"
    setting: str


@dataclass(frozen=True)
class Tool(Generic[ArgumentsT]):
    """A tool as the server registers it.

    `paid` says that a call may cost money: then one that was cut off is to be made again just so.
    `answer` is None for a tool that answers with a picture: it has no structured content.
    `arguments_told_by` names a tool that describes the arguments inside this one's: said once, read once. Of
    those in `arguments_outlined` this one tells the names and types all the same. `description_alone` is what
    this one is where that tool is off.
    """

    name: str
    toolset: Toolset
    title: str
    description: str
    arguments: type[ArgumentsT]
    answer: type[Answer] | None
    annotations: types.ToolAnnotations
    run: Run[ArgumentsT]
    paid: bool = False
    arguments_told_by: str = ""
    arguments_outlined: Collection[str] = ()
    description_alone: str = ""
    withheld: Mapping[str, Withheld] = field(default_factory=dict[str, Withheld])
    """The tools that are off, by name: this one says nothing of them."""
    beside: Collection[str] = ()
    """The tools that are on of the sets that are off by default: what goes with them is told of."""
    other_names: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def input_schema(self) -> Schema:
        """What `tools/list` says of the arguments."""
        off = self.withheld.get(self.arguments_told_by)
        if off is not None:
            teller = off.tool
            own = input_schema(self.arguments, beside=self.beside)
            schema = with_words_of(teller.input_schema, own, teller.name)
        else:
            told_by, outlined = self.arguments_told_by, self.arguments_outlined
            schema = input_schema(self.arguments, told_by=told_by, outlined=outlined, beside=self.beside)
        if self.withheld:
            schema = with_descriptions(schema, lambda text: without_tools(text, self.withheld))
        return schema

    @cached_property
    def _whole_schema(self) -> Schema:
        return whole_schema(self.arguments)

    @cached_property
    def definition(self) -> types.Tool:
        """What `tools/list` says of the tool."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self._description_here,
            input_schema=self.input_schema,
            output_schema=output_schema(self.answer) if self.answer else None,
            annotations=self.annotations,
        )

    @property
    def _description_here(self) -> str:
        is_alone = self.arguments_told_by in self.withheld
        return self.description_alone if is_alone else without_tools(self.description, self.withheld)

    def among(self, withheld: Mapping[str, Withheld], beside: Collection[str]) -> "Tool[ArgumentsT]":
        """Return it as it is where these tools are off, and these of the sets that are off by default on."""
        return replace(self, withheld=withheld, beside=beside) if withheld or beside else self

    async def call(
        self, context: CallContext, given: Mapping[str, Any]
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Run one call to its end: an answer, an error that says what to do, or a question to the user."""
        try:
            with context.process.time_limit(context.ends_at):
                await context.account.ask_whether_sandboxed()
                arguments, notes = parse_arguments(
                    self.arguments, self._whole_schema, self._plain(given), self.other_names
                )
                answer = await self.run(context, arguments)
        except InputNeeded as needed:
            return needed.result
        except SyncError as error:
            return self._answer_failure(context, error)
        except TimeoutError:
            return self._answer_failure(context, self._too_late(context))
        except Exception as error:
            logger.error("%s failed unexpectedly: %s", self.name, safe(repr(error), FAULT_LIMIT))
            logger.debug("the failure of %s", self.name, exc_info=error)
            message = f"{self.name} failed in an unexpected way."
            return self._answer_failure(context, InternalError(message, money_spent=_may_have_spent(context)))
        if context.account.sandboxed:
            answer.sandbox = SANDBOX_MARK
        if notes and isinstance(answer, Answer):
            answer.next_step = " ".join([answer.next_step, *notes])
        return answer_result(answer, withheld=context.withheld)

    def _plain(self, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return the arguments as they were meant for this tool, without what a host adds."""
        own = without_injected(given)
        if len(own) < len(given):
            logger.info(
                "%s: left out what the host adds: %s", self.name, ", ".join(sorted(given.keys() - own))
            )
        return without_injected(unnest(own, self.name))

    def _too_late(self, context: CallContext) -> SyncError:
        again = "Make exactly this call again"
        joins = "it joins what goes on in the server"
        error = APITimeoutError("The call took too long.")
        if context.process.stopping.is_set():
            again = f"{again} once the server runs again"
            joins = "what was sent stands in its ledger"
            error.advise(
                message="The server is ending, and this call was not done yet.", next_step=f"{again}."
            )
        if self.paid:
            makes_videos = self.name in ("create_generation", "create_generations")
            look = " Or look in list_generations." if makes_videos else ""
            error.advise(
                money_spent=_may_have_spent(context),
                next_step=f"{again}: {joins}, and nothing is paid twice.{look}",
            )
        return error

    def _answer_failure(self, context: CallContext, error: SyncError) -> types.CallToolResult:
        sandboxed = context.account.sandboxed
        logger.info("%s: %s%s", self.name, error, " (SANDBOX)" if sandboxed else "")
        samples = context.account.sample_urls if sandboxed and _could_not_be_fetched(error) else ""
        return error_result(
            error, sandboxed=sandboxed, tool=self.name, sample_urls=samples, withheld=context.withheld
        )


def _may_have_spent(context: CallContext) -> MoneySpent:
    return "unknown" if context.payment.has_begun else "no"


def _could_not_be_fetched(error: SyncError) -> bool:
    """Return whether media were not to be had: the sandbox fetches from this machine alone."""
    if isinstance(error, ApprovalRequired):
        # It cannot price what it cannot fetch.
        return not error.price_is_known
    return error.code == "url_refused" or (error.api_code or "").endswith("_inaccessible")


Tools = Sequence[Tool[Any]]
