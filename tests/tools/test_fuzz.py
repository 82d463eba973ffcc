"""Arguments made from the schemas and from noise: an answer or a clear error, and no malformed create."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, note, settings, strategies as st
from mcp import Client

from sync_mcp import Settings, create_server
from sync_mcp.sandbox import Sandbox
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.schema import whole_schema
from sync_mcp.tools.toolsets import select_tools
from tests.sandbox.wire import VOICE

from .assistant import Assistant, Facts, Told, check_schema, creates

BAD_FORM = (400, 413, 415)
"""Statuses by which the API says that a body has not the form of a create."""

SCHEMAS = {tool.name: whole_schema(tool.arguments) for tool in TOOLS}
"""What the server reads the arguments by: `tools/list` says less of some."""
TOLD = {tool.name: tool.input_schema for tool in select_tools(TOOLS, toolsets=["all"]).listing.tools}
every_tool = pytest.mark.parametrize("tool", SCHEMAS)

bounded = settings(
    max_examples=80,
    # A failure is told as it is found: making it smaller may take minutes.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

Call = Callable[[str, Facts], Told]

names = st.sampled_from(
    sorted({name for schema in SCHEMAS.values() for name in schema["properties"]} | {"id", "assetId", ""})
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
noise = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def from_schema(schema: Facts) -> st.SearchStrategy[Any]:
    """Make what a tool's portable input schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema["type"]:
        case "object":
            made = {name: from_schema(inner) for name, inner in schema["properties"].items()}
            required = {name: made.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=made)
        case "array":
            return st.lists(from_schema(schema["items"]), min_size=schema.get("minItems", 0), max_size=4)
        case "number":
            above = schema.get("exclusiveMinimum")
            least = low if above is None else above
            figures = st.floats(least, high, exclude_min=above is not None, allow_nan=False)
            return figures.filter(math.isfinite) | st.integers(1, 1)
        case "integer":
            return st.integers(low, high)
        case "boolean":
            return st.booleans()
        case _:
            return st.text(max_size=30)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Sandbox]:
    # A job ends as it begins, so that no wait takes time and no plan is ever full.
    with Sandbox(job_seconds=0, plan="enterprise") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def call(fuzzed: Sandbox) -> Iterator[Call]:
    """Call a tool of one server that has to live through everything."""
    with ExitStack() as running:
        patch = running.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("sync_mcp.api.retry._FIRST_BACKOFF_SECONDS", 0.005)
        portal = running.enter_context(start_blocking_portal())
        # Unasked, so that what has no price is sent too.
        server = create_server(Settings(approve_above_usd="never"), sandbox_url=fuzzed.url)
        client = running.enter_context(
            portal.wrap_async_context_manager(Client(server, mode="legacy", read_timeout_seconds=60))
        )
        assistant = Assistant(client)

        def make(tool: str, arguments: Facts) -> Told:
            return portal.call(assistant.call, tool, arguments)

        yield make


def check(call: Call, sandbox: Sandbox, tool: str, arguments: Facts) -> Told:
    """Make a call; what is told was checked by the assistant, so here it is the creates that went out."""
    before = len(sandbox.charges)
    told = call(tool, arguments)
    assert told.code != "internal_error", told.text
    for request in creates(sandbox):
        assert request.status not in BAD_FORM, (request.body, told.text)
    charged = len(sandbox.charges) - before
    made = tool == "create_generation" and not told.is_error and not told.facts.get("reused")
    assert charged == int(made)
    sandbox.clear_faults()
    return told


def usable(sandbox: Sandbox) -> st.SearchStrategy[Any]:
    """Items of an input of which some make a job."""
    video, image, audio = sandbox.samples.video, sandbox.samples.image, sandbox.samples.audio
    item = st.fixed_dictionaries(
        {"type": st.sampled_from(["video", "image", "audio", "text", "Video"])},
        optional={
            "url": st.sampled_from([video, image, audio, "https://example.com/x", ""]),
            "refId": st.sampled_from(["a", "b"]),
            "script": st.text(max_size=40),
            "voice_id": st.sampled_from([VOICE, "v", ""]),
            "stability": st.floats(-0.1, 1.1),
        },
    )
    pair = st.tuples(
        st.sampled_from([{"type": "video", "url": video}, {"type": "image", "url": image}]),
        st.sampled_from(
            [
                {"type": "audio", "url": audio, "ref_id": "a"},
                {"type": "text", "script": "Hello \U0001f600 there.", "voice_id": VOICE, "ref_id": "a"},
            ]
        ),
    ).map(list)
    return st.one_of(*[pair] * 7, st.lists(item, max_size=3))


@every_tool
def test_arguments_made_from_the_schema_get_an_answer_or_a_clear_error(
    call: Call, fuzzed: Sandbox, tool: str
) -> None:
    schema = SCHEMAS[tool]
    fuzzed.reset()

    @bounded
    @given(from_schema(schema))
    def run(arguments: Facts) -> None:
        check_schema(arguments, schema)
        check_schema(arguments, TOLD[tool])
        check(call, fuzzed, tool, arguments)

    run()


@pytest.mark.parametrize("tool", ["create_generation", "estimate_cost"])
def test_requests_around_usable_media_are_sent_whole_or_not_at_all(
    call: Call, fuzzed: Sandbox, tool: str
) -> None:
    properties = SCHEMAS[tool]["properties"]
    fuzzed.reset()
    segment = {"start_time": 0, "end_time": 1, "audio_input": {"ref_id": "a"}}
    around = {
        **{name: from_schema(inner) for name, inner in properties.items()},
        "model": st.sampled_from(["sync-3", "lipsync-2", "sync-3", "lipsync-2", "react-1", "lipsync-99", ""]),
        "options": from_schema(properties["options"]["properties"]["sync_mode"]).map(
            lambda m: {"syncMode": m}
        )
        | from_schema(properties["options"]),
        "segments": st.sampled_from([[], [], [segment]]) | from_schema(properties["segments"]),
        "webhook_url": st.sampled_from(["", "", "https://example.com/hook", "http://example.com"]),
        "output_file_name": st.sampled_from(["", "clip", "clip-2", "x" * 255, "a b"]),
        "project_id": st.sampled_from(["", "", fuzzed.project_id, str(UUID(int=7)), "none"]),
        "dialogue_edit_id": st.sampled_from([*[""] * 7, "none"]),
        "take": st.sampled_from([1, 1, 2, 3, 0, 10_001]),
        "wait_seconds": st.sampled_from([0, 0, 1, 51]),
        "duration_seconds": st.sampled_from([0.5, 4, 3600, -1]),
        "max_cost_usd": st.sampled_from([5, 1000, 0]),
        "quote_id": st.sampled_from(["", "", "q_none"]),
        "dub": st.sampled_from([*[None] * 4, {"targetLang": "es"}, {"target_lang": "xx"}]),
    }
    around = {name: made for name, made in around.items() if name in properties and name != "input"}

    answered: list[Facts] = []

    def with_fields(names: list[str]) -> st.SearchStrategy[Facts]:
        return st.fixed_dictionaries({"input": usable(fuzzed), **{name: around[name] for name in names}})

    # Of many fields at once one is always wrong.
    some = st.lists(st.sampled_from(sorted(around)), max_size=4, unique=True)

    @bounded
    @given(some.flatmap(with_fields))
    def run(arguments: Facts) -> None:
        told = check(call, fuzzed, tool, arguments)
        answered.extend([] if told.is_error else [told.facts])

    run()
    assert len(answered) > 5


def test_noise_gets_an_answer_or_a_clear_error_from_every_tool(call: Call, fuzzed: Sandbox) -> None:
    fuzzed.reset()

    # To make the noise takes as long as all the calls with it.
    @bounded
    @given(st.dictionaries(names | st.text(max_size=10), noise, max_size=5))
    def run(arguments: Facts) -> None:
        for tool in SCHEMAS:
            # Of those that a failure shows the last one has failed.
            note(f"tool: {tool}")
            check(call, fuzzed, tool, arguments)

    run()
