"""An agent of the OpenAI Agents SDK dubs one clip into two languages, through the MCP server over stdio.

    pip install openai-agents
    python examples/openai_agents.py                                (on the sandbox: nothing is paid)
    SYNC_API_KEY=... python examples/openai_agents.py VIDEO_URL     (on your account)

The agent cannot create anything by itself: a create stops the run until you have agreed to its price.
The model is a script, so that the example runs offline; the line where a real one goes is marked.
"""

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeGuard

from agents import Agent, Model, ModelResponse, RunConfig, Runner, ToolCallOutputItem, Usage
from agents.items import RunItem, TResponseStreamEvent
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic import BaseModel
from typing_extensions import override

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
    async with MCPServerStdio(
        {"command": sys.executable, "args": ["-m", "sync_mcp", *flags], "env": env},
        # A call may wait up to 55 seconds; by default it is given up after 5.
        client_session_timeout_seconds=60,
        # Answers as JSON, which this program can read as well.
        use_structured_content=True,
        require_approval={"always": {"tool_names": ["create_generation"]}},
    ) as server:
        # The server's own, on the order of work; the SDK does not hand them on.
        instructions = server.session.instructions if server.session else None
        video = arguments.video or sample_video(instructions)
        agent = Agent(
            "dubber",
            instructions=instructions,
            model=Script(video),  # <- a real model goes here, for example "gpt-5"
            mcp_servers=[server],
            output_type=list[Dub],
        )
        # Traces would carry the signed URLs away.
        config = RunConfig(tracing_disabled=True)
        task = f"Dub {video} into these languages: {', '.join(LANGUAGES)}."
        run = await Runner.run(agent, task, run_config=config, max_turns=20)
        while run.interruptions:
            state = run.to_state()
            for create in run.interruptions:
                if not await agreed(server, json.loads(create.arguments or "{}"), yes=arguments.yes):
                    print("Not agreed to, so not created.", file=sys.stderr)
                    return 1
                state.approve(create)
            run = await Runner.run(agent, state, run_config=config, max_turns=20)
    return report(run.final_output_as(list[Dub]), run.new_items)


async def agreed(server: MCPServerStdio, create: dict[str, Any], *, yes: bool) -> bool:
    # The price of exactly this call: the model may have asked for that of another.
    request = {name: value for name, value in create.items() if name != "wait_seconds"}
    answer = await server.call_tool("estimate_cost", request)
    price = Estimate.model_validate(answer.structured_content).cost_usd
    print(f"create_generation {json.dumps(create)}")
    print(f"Price: {'unknown' if price is None else price} USD")
    question = "Make it? A generation cannot be cancelled. [y/N] "
    try:
        return yes or (await asyncio.to_thread(input, question)).strip().lower() in ("y", "yes")
    except EOFError:
        # Nobody is there to say yes.
        return False


def report(dubs: Iterable[Dub], items: Iterable[RunItem]) -> int:
    outputs = [item.output for item in items if isinstance(item, ToolCallOutputItem)]
    # The URL is taken from the server's answer: a model may garble one that is long and signed.
    jobs = latest_jobs(outputs)
    made = {dub.language: jobs.get(dub.generation_id) for dub in dubs}
    missing = 0
    for language in LANGUAGES:
        job = made.get(language)
        if job and job.output_url:
            print(f"{language}: {job.output_url}")
        else:
            missing += 1
            print(f"{language}: {job.api_says or job.status if job else 'no job'}", file=sys.stderr)
    for error in (output for output in outputs if not is_answer(output)):
        print(error, file=sys.stderr)
    return 1 if missing else 0


def is_answer(output: object) -> TypeGuard[str]:
    # An answer is JSON; an error is a text, bare or in a block.
    return isinstance(output, str) and output.startswith("{")


def latest_jobs(outputs: Iterable[object]) -> dict[str, Job]:
    answers = [json.loads(output) for output in outputs if is_answer(output)]
    jobs = [Job.model_validate(answer) for answer in answers if "generation_id" in answer]
    return {job.generation_id: job for job in jobs}


class Script(Model):
    """Stands in for a model that does what the server's instructions and answers tell it."""

    def __init__(self, video: str) -> None:
        self.video = video

    @override
    async def get_response(
        self, system_instructions: str | None, input: str | list[Any], *args: Any, **kwargs: Any
    ) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        outputs = {item["call_id"]: item["output"] for item in items if "output" in item}
        if not outputs:
            return self.for_each_language("estimate_cost")
        if not any(call.startswith("create_generation") for call in outputs):
            return self.for_each_language("create_generation")
        jobs = latest_jobs(outputs.values())
        if unfinished := [job for job in jobs.values() if job.status in ("PENDING", "PROCESSING")]:
            return response(
                function_call(
                    f"get_generation {job.generation_id} {len(outputs)}",
                    {"generation_id": job.generation_id, "wait_seconds": 45},
                )
                for job in unfinished
            )
        dubs = [
            Dub(language=call.split()[-1], generation_id=generation_id)
            for call, output in outputs.items()
            if call.startswith("create_generation")
            for generation_id in latest_jobs([output])
        ]
        text = json.dumps({"response": [dub.model_dump() for dub in dubs]})
        content = ResponseOutputText(type="output_text", text=text, annotations=[])
        return response(
            [
                ResponseOutputMessage(
                    type="message", id="dubs", role="assistant", status="completed", content=[content]
                )
            ]
        )

    def for_each_language(self, tool: str) -> ModelResponse:
        media = {"input": [{"type": "video", "url": self.video}]}
        return response(
            function_call(f"{tool} {language}", media | {"dub": {"target_lang": language}})
            for language in LANGUAGES
        )

    @override
    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise NotImplementedError


def function_call(call_id: str, arguments: dict[str, Any]) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=call_id, name=call_id.split()[0], arguments=json.dumps(arguments)
    )


def response(output: Iterable[ResponseFunctionToolCall | ResponseOutputMessage]) -> ModelResponse:
    return ModelResponse(output=list(output), usage=Usage(), response_id=None)


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
