"""Each field of a create is declared once, in `sync_mcp/api/models.py`, and all who spell it agree with that.

What one of them forgets is dropped, or digested wrongly, and is paid for all the same: so each message says
what is still to be done for a new field.
"""

from collections.abc import Callable, Collection
from typing import Any, Unpack, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint
from mcp import Client
from pydantic import BaseModel

from sync_mcp import AsyncSync, InvalidRequestError, Settings, WordRemoval, create_server
from sync_mcp.api import fields, models
from sync_mcp.api.create_fields import CreateFields
from sync_mcp.api.fields import EXTRAS, REQUEST, Fields, WireField, defaults_of
from sync_mcp.api.generations import Generations
from sync_mcp.api.models import GenerationRequest, Json, RequestFields
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.intention import Intention
from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.api import contract
from sync_mcp.tools import generation_arguments as arguments

DECLARED = "sync_mcp/api/models.py"

# What the tools do not offer, each for its reason.
ONE_PROVIDER = {"provider_name"}
"""There is one, and the models name it."""
NOT_BY_HAND = {"bounding_boxes", "v3"}
"""Boxes for every frame are no text for a model to write; v3 stands in one of the API's papers alone."""
NOT_IN_A_PART = {*NOT_BY_HAND, "bounding_boxes_url"}

ARGUMENTS: list[tuple[type[BaseModel], Collection[str]]] = [
    (arguments.RequestArguments, {*REQUEST, "dialogue_edit_id", "take"} - {"dialogue_edit"}),
    (arguments.InputItem, {*fields.MEDIA, *fields.TEXT, *fields.VOICE, "path"} - ONE_PROVIDER),
    (arguments.OptionsArguments, set(fields.OPTIONS)),
    (arguments.SpeakerArguments, set(fields.SPEAKER) - NOT_BY_HAND),
    (arguments.SegmentArguments, set(fields.SEGMENT)),
    (arguments.SegmentAudioArguments, set(fields.SEGMENT_AUDIO)),
    (arguments.SegmentOptionsArguments, set(fields.SEGMENT_OPTIONS)),
    (arguments.SegmentSpeakerArguments, set(fields.SPEAKER) - NOT_IN_A_PART),
    (arguments.DubArguments, set(fields.DUB) - ONE_PROVIDER),
]

CONTRACT: list[tuple[type[BaseModel], Fields, Collection[str]]] = [
    (contract.CreateBody, REQUEST, ()),
    (contract.MediaItem, fields.MEDIA, ()),
    (contract.TextItem, {**fields.TEXT, "provider": WireField("provider")}, ()),
    (contract.Provider, fields.VOICE, ()),
    (contract.Options, fields.OPTIONS, ()),
    # It is ignored there, as the API ignores what it does not know.
    (contract.ActiveSpeaker, fields.SPEAKER, {"v3"}),
    (contract.SegmentItem, fields.SEGMENT, ()),
    (contract.SegmentAudio, fields.SEGMENT_AUDIO, ()),
    (contract.DubParams, fields.DUB, ()),
]

VIDEO: Json = {"type": "video", "url": "https://media.example.com/clip.mp4"}
AUDIO: Json = {"type": "audio", "url": "https://media.example.com/voice.wav"}
TEXT: Json = {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "script": "Hi"}}


def wire_names(model: type[BaseModel]) -> dict[str, str]:
    return {name: field.alias or name for name, field in model.model_fields.items()}


def compared(found: Collection[str], wanted: Collection[str], what: str, cure: str) -> str:
    """Return what differs from what is declared, and what to do about it; "" where nothing does."""
    lacks, has = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    told = [f"{what} lacks {', '.join(lacks)}: {cure}."] if lacks else []
    return " ".join(
        [*told, *([f"{what} has {', '.join(has)}, declared nowhere: see {DECLARED}."] if has else [])]
    )


def test_every_field_of_a_script_is_declared() -> None:
    fault = compared(
        {*fields.TEXT, *fields.VOICE, "provider_extra"},
        models.Text.model_fields,
        DECLARED,
        "add it to PROVIDER_FIELDS",
    )
    assert not fault, fault


@pytest.mark.parametrize("spelled", [Generations.create, Generations.estimate_cost, CreateFields])
def test_whoever_makes_or_prices_a_request_takes_every_declared_field(spelled: Callable[..., Any]) -> None:
    named = {"model", "input", *RequestFields.__annotations__}
    fault = compared(named, REQUEST, "RequestFields", "add it there, beside GenerationRequest")
    assert not fault, fault
    taken = spelled.__annotations__
    assert {"model", "input", "request_options"} <= taken.keys()
    assert taken.keys() >= REQUEST.keys() or taken["fields"] == Unpack[RequestFields]


@pytest.mark.anyio
async def test_a_field_that_nobody_declared_is_no_argument_of_a_create(sandbox: Sandbox) -> None:
    given: dict[str, Any] = {"model": "lipsync-2", "input": [], "priority": "low"}
    async with AsyncSync(api_key="sk_fields", base_url=sandbox.url) as sync:
        for spelled in (sync.generations.create, sync.generations.estimate_cost):
            with pytest.raises(TypeError, match="'priority'"):
                await spelled(**given)
    assert sandbox.requests == []


@pytest.mark.parametrize(("given", "wanted"), ARGUMENTS)
def test_the_tools_take_every_declared_field(given: type[BaseModel], wanted: Collection[str]) -> None:
    cure = "add the argument in tools/generation_arguments.py, or name here why the tools do not offer it"
    fault = compared(given.model_fields, wanted, given.__name__, cure)
    assert not fault, fault


@pytest.mark.parametrize(
    ("given", "declared"),
    [(arguments.InputItem, fields.VOICE), (arguments.OptionsArguments, fields.OPTIONS)],
)
def test_the_default_that_an_argument_tells_is_the_declared_one(
    given: type[BaseModel], declared: Fields
) -> None:
    told = {name: field.description or "" for name, field in given.model_fields.items() if name in declared}
    telling = {name for name, text in told.items() if "default" in text}
    assert {name for name in telling if str(declared[name].default) not in told[name]} == set()
    assert len(telling) >= 2


@pytest.mark.parametrize(("body", "declared", "ignored"), CONTRACT)
def test_the_sandbox_reads_every_declared_field(
    body: type[BaseModel], declared: Fields, ignored: Collection[str]
) -> None:
    wanted = {field.wire for field in declared.values()} - set(ignored)
    cure = "add it to sandbox/api/contract.py, and let the sandbox check what the API checks"
    fault = compared(wire_names(body).values(), wanted, f"the sandbox's {body.__name__}", cure)
    assert not fault, fault


def request_with(name: str, video: Json = VIDEO, audio: Json = AUDIO) -> Json:
    """Return the fields of a create that says something of one declared field."""
    given: dict[str, Json] = {
        "model": {},
        "input": {},
        "options": {"options": {"sync_mode": "loop"}},
        "segments": {
            "input": [video, {**audio, "refId": "a"}],
            "segments": [{"startTime": 0, "endTime": 1, "audioInput": {"refId": "a"}}],
        },
        "dub": {"input": [video], "dub": {"targetLang": "es"}},
        "dialogue_edit": {"model": "sync-3", "input": [video], "dialogue_edit": {"id": "an-edit"}},
        "webhook_url": {"webhook_url": "https://example.com/hook"},
        "project_id": {"project_id": "00000000-0000-4000-8000-000000000000"},
    }
    if name not in given:
        plain = GenerationRequest.model_fields[name].annotation == (str | None)
        assert plain, f"give {name} a value here"
    return {"model": "lipsync-2", "input": [video, audio], **given.get(name, {name: "said"})}


async def make_edit(sync: AsyncSync, sandbox: Sandbox) -> str:
    """Make a dialogue edit of the video that speaks; return its id once it has its preview."""
    url = sandbox.samples.speaking
    sandbox.configure(job_seconds=0)
    made = await sync.transcriptions.create(source_video_url=url)
    assert made.transcript
    edit = WordRemoval(word_ids=[made.transcript.words[0].id])
    done = await sync.dialogue_edits.create(source_video_url=url, transcript=made.transcript, edits=[edit])
    sandbox.configure(job_seconds=60)
    return done.id


def bodies(sandbox: Sandbox, path: str) -> list[Json]:
    return [cast(Json, one.body) for one in sandbox.requests if one.path == path]


@pytest.mark.anyio
@pytest.mark.parametrize("name", REQUEST)
async def test_a_field_that_is_given_to_any_kind_of_create_reaches_the_api(
    sandbox: Sandbox, name: str
) -> None:
    wire = REQUEST[name].wire
    async with AsyncSync(api_key="sk_fields", base_url=sandbox.url) as sync:
        media = {**VIDEO, "url": sandbox.samples.speaking}, {**AUDIO, "url": sandbox.samples.audio}
        request = GenerationRequest.model_validate(request_with(name, *media))
        if request.project_id is not None:
            request.project_id = sandbox.project_id
        if request.dialogue_edit is not None:
            request.dialogue_edit.id = await make_edit(sync, sandbox)
        given: dict[str, Any] = {field: getattr(request, field) for field in REQUEST}
        await sync.generations.create(**given)
        await sync.generations.estimate_cost(**given)
        async with sync.generations.create_many([request, cast(CreateFields, given)]) as many:
            with anyio.fail_after(30):
                while len(many.pending) < 2:
                    await checkpoint()
    sent = bodies(sandbox, "/v2/generate")
    assert [wire in body for body in (*sent, *bodies(sandbox, "/v2/analyze/cost"))] == [True] * 4
    assert all(body[wire] == sent[0][wire] for body in sent)


@pytest.mark.anyio
@pytest.mark.parametrize("name", REQUEST)
async def test_a_field_that_is_given_to_the_tool_reaches_the_api(sandbox: Sandbox, name: str) -> None:
    media = {**VIDEO, "url": sandbox.samples.speaking}, {**AUDIO, "url": sandbox.samples.audio}
    given = request_with(name, *media)
    if "project_id" in given:
        given["project_id"] = sandbox.project_id
    if given.pop("dialogue_edit", None):
        async with AsyncSync(api_key="sk_fields", base_url=sandbox.url) as sync:
            given["dialogue_edit_id"] = await make_edit(sync, sandbox)
    settings = Settings(approve_above_usd="never", webhook_hosts=("example.com",))
    server = create_server(settings, sandbox_url=sandbox.url)
    async with Client(server, mode="legacy", read_timeout_seconds=60) as client:
        await client.call_tool("create_generation", given)
    [sent] = bodies(sandbox, "/v2/generate")
    assert REQUEST[name].wire in sent


class _Newer(GenerationRequest):
    priority: str | None = None


@pytest.mark.anyio
async def test_one_of_many_creates_with_a_field_that_nobody_declared_is_refused_and_not_paid_for_without_it(
    sandbox: Sandbox,
) -> None:
    plain = request_with("model")
    asked = [_Newer.model_validate({**plain, "priority": "low"})]
    async with AsyncSync(api_key="sk_fields", base_url=sandbox.url) as sync:
        [outcome] = [outcome async for outcome in sync.generations.create_many(asked, 1)]
    assert isinstance(outcome.error, InvalidRequestError)
    assert "no field 'priority'" in str(outcome.error)
    assert bodies(sandbox, "/v2/generate") == []


def digest_of(wire: Json) -> str:
    return Intention(
        GenerationAct.of(GenerationRequest.from_wire(wire)), account="org:one", base_url="https://h"
    ).digest


def in_place(table: str, more: Json) -> Json:
    """Return a request that says `more` where the fields of a table stand."""
    plain: Json = {"model": "lipsync-2", "input": [VIDEO, AUDIO]}
    speaker = {"coordinates": [1, 2], "frame_number": 0, **more}
    return {
        "REQUEST": {**plain, **more},
        "MEDIA": {**plain, "input": [{**VIDEO, **more}, AUDIO]},
        "TEXT": {**plain, "input": [VIDEO, {**TEXT, **more}]},
        "VOICE": {**plain, "input": [VIDEO, {**TEXT, "provider": {**TEXT["provider"], **more}}]},
        "OPTIONS": {**plain, "options": {"prompt": "happy", **more}},
        "SPEAKER": {**plain, "options": {"active_speaker_detection": speaker}},
        "DUB": {**plain, "input": [VIDEO], "dubParams": {"targetLang": "es", **more}},
    }[table]


TABLES: dict[str, Fields] = {
    name: getattr(fields, name) for name in ("REQUEST", "MEDIA", "TEXT", "VOICE", "OPTIONS", "SPEAKER", "DUB")
}
DEFAULTS = [
    (table, wire, value)
    for table, declared in TABLES.items()
    for wire, value in defaults_of(declared).items()
]


@pytest.mark.parametrize(("table", "wire", "value"), DEFAULTS)
def test_a_field_spelled_out_as_its_declared_default_is_the_same_create(
    table: str, wire: str, value: object
) -> None:
    assert digest_of(in_place(table, {wire: value})) == digest_of(in_place(table, {}))


@pytest.mark.parametrize("table", TABLES)
def test_a_new_field_spelled_out_as_its_default_is_the_same_create_once_that_is_declared(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled, plain = in_place(table, {"newThing": "usual"}), digest_of(in_place(table, {}))
    assert digest_of(spelled) != plain
    monkeypatch.setitem(
        cast(dict[str, WireField], TABLES[table]), "new_thing", WireField("newThing", "usual")
    )
    assert digest_of(spelled) == plain
    assert digest_of(in_place(table, {"newThing": "other"})) != plain


def test_a_declared_default_never_changes() -> None:
    # A call that spells one out was digested without it: under another default it would be paid again.
    known = {
        "VOICE": {"stability": 0.5, "similarityBoost": 0.75},
        "OPTIONS": {
            "sync_mode": "bounce",
            "temperature": 0.5,
            "occlusion_detection_enabled": False,
            "model_mode": "face",
            "reasoning_enabled": False,
        },
        "SPEAKER": {"auto_detect": False, "v3": False},
        "DUB": {"sourceLang": "auto"},
    }
    for table, defaults in known.items():
        assert defaults.items() <= defaults_of(TABLES[table]).items()


@pytest.mark.parametrize("table", ["SEGMENT", "SEGMENT_AUDIO", "SEGMENT_OPTIONS"])
def test_no_field_of_a_segment_has_a_default_for_there_it_may_change_what_holds_for_the_whole(
    table: str,
) -> None:
    assert defaults_of(getattr(fields, table)) == {}


@pytest.mark.parametrize("name", REQUEST)
def test_a_field_counts_in_the_digest_exactly_where_it_says_what_is_made(name: str) -> None:
    plain, said = request_with("model"), request_with(name)
    makes = REQUEST[name].role == "makes"
    if said == plain:
        assert makes
        return
    given = GenerationRequest.model_validate(said)
    intention = Intention(GenerationAct.of(given), account="org:one", base_url="https://h")
    assert (intention.digest != digest_of(plain)) is makes
    assert (REQUEST[name].wire in intention.act.extras) is not makes
    assert (REQUEST[name].wire in EXTRAS) is not makes


def test_the_ledger_keeps_an_address_by_its_digest_alone() -> None:
    for field in REQUEST.values():
        assert (field.role == "tells") == field.wire.endswith("Url"), field.wire
    hook = "https://example.com/hook?secret=1"
    given = GenerationRequest(input=[], webhook_url=hook)
    assert hook not in str(GenerationAct.of(given).extras)
