"""One create has one idempotency key, from its first attempt to its last, over calls too."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from sync_mcp import (
    APIConnectionError,
    AsyncSync,
    Audio,
    CreateFields,
    InvalidRequestError,
    OutcomeUnknown,
    RequestOptions,
    Video,
)
from sync_mcp.api.create import Creator
from sync_mcp.api.models import Json
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import CREATE, KEY, LIST, fail_to_resolve_localhost, job, keys, make, trail, until
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio


async def test_each_create_has_a_key_of_its_own(sandbox: Sandbox, sync: AsyncSync) -> None:
    await make(sync, sandbox)
    await make(sync, sandbox)
    sent = keys(sandbox.requests)
    assert len(set(sent)) == 2
    assert all(re.fullmatch(r"sync-mcp-[0-9a-f-]{36}", key) for key in sent)


@pytest.mark.parametrize(
    "options",
    [
        {"idempotency_key": "mine"},
        {"additional_headers": {"Idempotency-Key": "mine"}},
        {"additional_headers": {"idempotency-key": "mine"}},
        {"additional_headers": {"IDEMPOTENCY-KEY": "mine", "idempotency-key": "mine"}},
        {"additional_headers": {"idempotency-Key": "mine"}, "idempotency_key": "mine"},
    ],
)
async def test_the_callers_key_is_the_only_one_and_stays_through_all_attempts(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float], options: Any
) -> None:
    server = serve(Answer(resets=True), answer(200, []), answer(200, []), answer(201, job()))
    assert (await make(client_of(server, max_retries=1), options=options)).id == "job-1"
    # Two header lines would show as "mine, mine".
    assert keys(server.received) == ["mine", "mine"]
    assert all("idempotency-key" not in one.headers for one in server.received if one.method == "GET")


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Idempotency-Key": "one"}, "idempotency_key": "two"},
        {"additional_headers": {"Idempotency-Key": "one", "idempotency-key": "two"}},
        {"idempotency_key": ""},
        {"idempotency_key": "two words"},
        {"idempotency_key": "mine\n"},
        {"idempotency_key": "schlüssel"},
        {"idempotency_key": "x" * 129},
        {"additional_headers": {"idempotency-key": "a,b"}},
    ],
)
async def test_two_different_keys_or_one_that_cannot_be_are_refused_before_sending(
    sandbox: Sandbox, sync: AsyncSync, options: Any
) -> None:
    with pytest.raises(InvalidRequestError, match="idempotency key"):
        await make(sync, sandbox, options)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "headers", [{"X-Note": "line\r\nbreak"}, {"X-Note": "padded "}, {"X Note": "a"}, {"X-Note": "é"}]
)
async def test_a_header_that_cannot_be_sent_is_no_unknown_outcome(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await make(sync, sandbox, {"additional_headers": headers})
    assert caught.value.money_spent == "no"
    assert (sandbox.requests, pauses) == ([], [])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("max_retries", [0, 4])
async def test_a_later_call_under_a_key_in_doubt_begins_with_the_search(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], max_retries: int
) -> None:
    sandbox.configure(idempotency="ignore")
    sandbox.add_fault(Fault(path="/v2/generate", drop="after"))
    sandbox.add_fault(Fault(path="/v2/generations", status=500, body={}, times=None))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(sync, sandbox, {"max_retries": max_retries})
    sandbox.clear_faults()
    again: RequestOptions = {"idempotency_key": caught.value.idempotency_key, "max_retries": max_retries}
    asked = len(sandbox.requests)
    generation = await make(sync, sandbox, again)
    assert trail(sandbox.requests[asked:]) == [LIST]
    assert [charge.generation_id for charge in sandbox.charges] == [generation.id]


async def test_a_create_that_was_found_is_in_doubt_no_more(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", drop="after"))
    sandbox.add_fault(Fault(path="/v2/generations", status=500, body={}))
    options: RequestOptions = {"idempotency_key": "mine", "max_retries": 0}
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox, options)
    for _ in range(2):
        await make(sync, sandbox, options)
    # The second call finds it; the third one asks under the key, and searches for nothing.
    assert trail(sandbox.requests) == [CREATE, LIST, LIST, CREATE]
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("max_retries", [0, 4])
async def test_a_later_call_sends_the_create_when_the_list_lacks_it(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float], max_retries: int
) -> None:
    sandbox.add_fault(Fault(path="/v2/generate", drop="before", times=None))
    options: RequestOptions = {"idempotency_key": "mine", "max_retries": max_retries}
    with pytest.raises(OutcomeUnknown):
        await make(sync, sandbox, options)
    sandbox.clear_faults()
    asked = len(sandbox.requests)
    await make(sync, sandbox, options)
    assert trail(sandbox.requests[asked:]) == [LIST, LIST, CREATE]
    assert [charge.idempotency_key for charge in sandbox.charges] == ["mine"]


async def test_a_later_call_whose_job_is_known_needs_no_search(
    sandbox: Sandbox, sync: AsyncSync, pauses: list[float]
) -> None:
    first = await make(sync, sandbox, {"idempotency_key": "mine"})
    assert (await make(sync, sandbox, {"idempotency_key": "mine"})).id == first.id
    assert trail(sandbox.requests) == [CREATE, CREATE]
    assert len(sandbox.charges) == 1


async def test_a_create_that_reaches_nobody_is_no_unknown_outcome(
    client_of: Callable[..., AsyncSync], serve: Callable[..., RawServer], pauses: list[float]
) -> None:
    gone = RawServer([Answer()])
    gone.close()
    with pytest.raises(APIConnectionError) as caught:
        await make(client_of(gone, max_retries=3))
    assert (caught.value.money_spent, caught.value.retryable, len(pauses)) == ("no", True, 3)


async def test_a_create_whose_tls_fails_is_no_unknown_outcome(
    serve: Callable[..., RawServer], pauses: list[float]
) -> None:
    plain = serve(Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", reads=False))
    async with AsyncSync(api_key=KEY, base_url=plain.url.replace("http:", "https:"), max_retries=1) as client:
        with pytest.raises(APIConnectionError):
            await make(client)
    assert plain.connections == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_create_that_was_not_sent_goes_out_without_a_search(
    sandbox: Sandbox, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_resolve_localhost(monkeypatch, times=2)
    async with AsyncSync(api_key=KEY, base_url=sandbox.url.replace("127.0.0.1", "localhost")) as client:
        await make(client, sandbox)
    assert trail(sandbox.requests) == [CREATE]
    assert (len(pauses), len(sandbox.charges)) == (2, 1)


async def test_a_create_that_is_stuck_half_way_out_is_an_unknown_outcome(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync]
) -> None:
    # More than the buffers on the way take.
    long: RequestOptions = {"additional_body_parameters": {"filler": "x" * 20_000_000}}
    with pytest.raises(OutcomeUnknown):
        await make(client_of(serve(Answer(stalls=True)), timeout=1), options=long)


@pytest.mark.parametrize(
    "lost",
    [
        Answer(resets=True),
        Answer(),
        Answer(b"HTTP/1.1 20"),
        Answer(b"SSH-2.0-OpenSSH_9.9\r\n"),
        Answer(b"HTTP/1.1 201 Created\r\nContent-Length: 90\r\n\r\n{"),
        Answer(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        Answer(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n{}\n"),
        Answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        answer(201, b"[" * 100_000),
        answer(201, b"\xff\xfe\xfd"),
        answer(200, {}),
        answer(201, {"id": "", "status": "PENDING"}),
        answer(200, b"<html>login</html>", kind="text/html"),
    ],
    ids=lambda lost: lost.data[:24].decode(errors="replace") or "nothing" if isinstance(lost, Answer) else "",
)
async def test_a_create_that_was_answered_with_garbage_is_searched_for(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float], lost: Answer
) -> None:
    server = serve(lost, answer(200, [job()]))
    assert (await make(client_of(server))).id == "job-1"
    assert trail(server.received) == [CREATE, LIST]


@pytest.mark.parametrize("way", ["create", "create_many"])
async def test_a_key_is_taken_out_of_the_options_where_they_come_in(
    sandbox: Sandbox, sync: AsyncSync, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    inside: list[tuple[str, RequestOptions]] = []
    create = Creator.create_as

    async def note(
        creator: Creator, kind: Any, book: Any, key: str, body: Json, options: RequestOptions
    ) -> Any:
        inside.append((key, options))
        return await create(creator, kind, book, key, body, options)

    monkeypatch.setattr(Creator, "create_as", note)
    options: RequestOptions = {"additional_headers": {"IDEMPOTENCY-KEY": "mine", "x-note": "1"}}
    if way == "create":
        await make(sync, sandbox, options)
    else:
        media = [Video(url=sandbox.samples.video), Audio(url=sandbox.samples.audio)]
        fields: CreateFields = {"model": "lipsync-2", "input": media, "request_options": options}
        async with sync.generations.create_many([fields], 1):
            await until(lambda: bool(inside))
    ((key, given),) = inside
    assert key == "mine"
    assert given == {"additional_headers": {"x-note": "1"}}
