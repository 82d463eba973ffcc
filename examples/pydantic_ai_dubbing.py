"""An agent of Pydantic AI dubs one clip into two languages, through the MCP server over stdio.

    pip install 'pydantic-ai-slim[mcp]'
    python examples/pydantic_ai_dubbing.py                                (on the sandbox: nothing is paid)
    SYNC_API_KEY=... python examples/pydantic_ai_dubbing.py VIDEO_URL     (on your account)

The agent cannot create anything by itself: a create stops the run until you have agreed to its price.
The model is a script, so that the example runs offline; the line where a real one goes is marked.
"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

LANGUAGES = ("es", "fr")


class Dub(BaseModel):
    """What the agent hands back for each language."""

    language: str
    generation_id: str


class Job(BaseModel):
    """What the example reads of the server's answers about a job."""

    generation_id: str
    status: str
    output_url: str | None = None
    api_says: str | None = None


class Estimate(BaseModel):
    """What it reads of the answer about a price."""

    cost_usd: float | None = None


async def main() -> int:
    arguments = parse_arguments()
    flags = ["--log-level", "warning", *([] if arguments.video else ["--sandbox"])]
    # Of this environment the server gets PATH and the like, and what is named here.
    env = {name: value for name, value in os.environ.items() if name.startswith("SYNC_")}
    server = MCPToolset[object](
        StdioTransport(sys.executable, ["-m", "sync_mcp", *flags], env=env),
        # The server's own, on the order of work; they are left out by default.
        include_instructions=True,
        # The model reads an error and goes on; by default a tool's second error ends the run.
        tool_error_behavior="failed",
        progress_handler=show_progress,
    )
    async with server:
        video = arguments.video or sample_video(server.instructions)
        agent = Agent(
            FunctionModel(Script(video)),  # <- a real model goes here, for example "openai:gpt-5"
            toolsets=[server.approval_required(lambda _, tool, __: tool.name == "create_generation")],
            output_type=[list[Dub], DeferredToolRequests],
        )
        run = await agent.run(f"Dub {video} into these languages: {', '.join(LANGUAGES)}.")
        while isinstance(run.output, DeferredToolRequests):
            creates = run.output.approvals
            for create in creates:
                if not await agreed(server, create, yes=arguments.yes):
                    print("Not agreed to, so not created.", file=sys.stderr)
                    return 1
            consent = DeferredToolResults(approvals={create.tool_call_id: True for create in creates})
            run = await agent.run(message_history=run.all_messages(), deferred_tool_results=consent)
    return report(run.output, run.all_messages())


async def agreed(server: MCPToolset[object], create: ToolCallPart, *, yes: bool) -> bool:
    # The price of exactly this call: the model may have asked for that of another.
    request = {name: value for name, value in create.args_as_dict().items() if name != "wait_seconds"}
    answer = await server.direct_call_tool("estimate_cost", request)
    price = Estimate.model_validate(answer).cost_usd
    print(f"{create.tool_name} {create.args_as_json_str()}")
    print(f"Price: {'unknown' if price is None else price} USD")
    question = "Make it? A generation cannot be cancelled. [y/N] "
    try:
        return yes or (await asyncio.to_thread(input, question)).strip().lower() in ("y", "yes")
    except EOFError:
        # Nobody is there to say yes.
        return False


async def show_progress(progress: float, total: float | None, message: str | None) -> None:
    print(f"  ... {message}")


def report(dubs: Iterable[Dub], messages: Iterable[ModelMessage]) -> int:
    returns = tool_returns(messages)
    # The URL is taken from the server's answer: a model may garble one that is long and signed.
    jobs = {job.generation_id: job for job in jobs_in(returns)}
    made = {dub.language: jobs.get(dub.generation_id) for dub in dubs}
    missing = 0
    for language in LANGUAGES:
        job = made.get(language)
        if job and job.output_url:
            print(f"{language}: {job.output_url}")
        else:
            missing += 1
            print(f"{language}: {job.api_says or job.status if job else 'no job'}", file=sys.stderr)
    for part in returns:
        if part.outcome == "failed":
            print(f"{part.tool_name}: {part.content}", file=sys.stderr)
    return 1 if missing else 0


def tool_returns(messages: Iterable[ModelMessage]) -> list[ToolReturnPart]:
    return [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


def jobs_in(returns: Iterable[ToolReturnPart]) -> list[Job]:
    about_jobs = ("create_generation", "get_generation")
    answers = [part for part in returns if part.tool_name in about_jobs and part.outcome == "success"]
    return [Job.model_validate(part.content) for part in answers]


class Script:
    """Stands in for a model that does what the server's instructions and answers tell it."""

    def __init__(self, video: str) -> None:
        self.video = video

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answered = {part.tool_name for part in tool_returns(messages[-1:])}
        if not answered:
            return self.for_each_language("estimate_cost")
        if "estimate_cost" in answered:
            return self.for_each_language("create_generation")
        returns = tool_returns(messages)
        jobs = {job.generation_id: job for job in jobs_in(returns)}
        if unfinished := [job for job in jobs.values() if job.status in ("PENDING", "PROCESSING")]:
            return calls(
                ToolCallPart("get_generation", {"generation_id": job.generation_id, "wait_seconds": 45})
                for job in unfinished
            )
        dubs = [
            {"language": part.tool_call_id.split()[-1], "generation_id": job.generation_id}
            for part in returns
            if part.tool_name == "create_generation"
            for job in jobs_in([part])
        ]
        return calls([ToolCallPart(info.output_tools[0].name, {"response": dubs})])

    def for_each_language(self, tool: str) -> ModelResponse:
        media: dict[str, Any] = {"input": [{"type": "video", "url": self.video}]}
        return calls(
            ToolCallPart(tool, media | {"dub": {"target_lang": language}}, tool_call_id=f"{tool} {language}")
            for language in LANGUAGES
        )


def calls(parts: Iterable[ToolCallPart]) -> ModelResponse:
    return ModelResponse(parts=list(parts))


def sample_video(instructions: str | None) -> str:
    # On its sandbox the server's instructions name sample media.
    found = re.search(r"http://\S+/samples/speaking\.mp4", instructions or "")
    if found is None:
        raise LookupError("The server's instructions name no sample video.")
    return found.group()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Dub a clip into {' and '.join(LANGUAGES)}.")
    parser.add_argument("video", nargs="?", help="URL of the clip (default: the sandbox's sample)")
    parser.add_argument("--yes", action="store_true", help="do not ask before paying")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
