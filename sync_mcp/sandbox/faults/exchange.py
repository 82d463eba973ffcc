"""One request and its answer: written down, and struck by a fault where there is one for it."""

import asyncio
import json
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import JsonValue, ValidationError
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_mcp.sandbox.api.answers import refusal_answer
from sync_mcp.sandbox.api.catalogue import bare_refusal, refusal
from sync_mcp.sandbox.api.contract import sentences
from sync_mcp.sandbox.api.files import STORAGE
from sync_mcp.sandbox.faults.records import RecordedRequest
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.world import World

FAULT_HEADER = "x-sandbox-fault"
BODY_BYTES = 10 * 1024 * 1024
"""The largest body that is read before a route sees it; uploads are not."""

_GATEWAY_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
)
_SECRETS = frozenset(("x-api-key", "authorization", "proxy-authorization", "cookie"))
_NOT_RECORDED = "(not recorded)"
_MADE_UP: dict[str, JsonValue] = {"id": "00000000-0000-0000-0000-000000000000", "status": "PENDING"}


@dataclass(slots=True)
class Answer:
    """A whole answer, before it is sent."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    body: bytes = b""

    @classmethod
    def of_json(cls, status: int, value: JsonValue) -> "Answer":
        """Return an answer with a JSON body."""
        return cls(status, [(b"content-type", b"application/json")], json.dumps(value).encode())

    async def send(self, send: Send, sent_bytes: int | None = None) -> None:
        """Send it, or only so many bytes of its body."""
        length = (b"content-length", str(len(self.body)).encode())
        kept = [(name, value) for name, value in self.headers if name.lower() != b"content-length"]
        await send({"type": "http.response.start", "status": self.status, "headers": [*kept, length]})
        cut = sent_bytes is not None
        await send({"type": "http.response.body", "body": self.body[:sent_bytes], "more_body": cut})


class Exchanges:
    """The outermost application: everything but the control paths goes through its book."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or _is_control(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith("/storage/"):
            body = None
        else:
            body, receive = await _read_ahead(receive)
        record = self._record(scope, body)
        if body is not None and len(body) > BODY_BYTES:
            await refusal_answer(bare_refusal(413, "The body is too large."))(
                scope, receive, _note_status(send, record)
            )
            return
        try:
            fault = self._fault(scope, record)
        except ValidationError as error:
            faults = [f"{FAULT_HEADER}: {sentence}" for sentence in sentences(error)]
            await refusal_answer(bare_refusal(400, faults))(scope, receive, _note_status(send, record))
            return
        if fault is None:
            await self._app(scope, receive, _note_status(send, record))
        else:
            await _Struck(self._app, self._world, fault, record).run(scope, receive, send)

    def _record(self, scope: Scope, body: bytes | None) -> RecordedRequest:
        headers = Headers(scope=scope)
        query = QueryParams(cast(bytes, scope["query_string"]))
        record = RecordedRequest(
            method=scope["method"],
            path=scope["path"],
            query={name: ",".join(query.getlist(name)) for name in query},
            headers={
                name: _NOT_RECORDED if name in _SECRETS else ", ".join(headers.getlist(name))
                for name in headers
            },
            body=_parse(body),
            at=self._world.clock.now(),
        )
        if "x-api-key" in headers and record.path.startswith(STORAGE):
            record.flags.append("key_sent_to_storage")
        self._world.records.add(record)
        return record

    def _fault(self, scope: Scope, record: RecordedRequest) -> Fault | None:
        headers = Headers(scope=scope)
        header = headers.get(FAULT_HEADER)
        if header is not None:
            record.fault = "header"
            return Fault.model_validate_json(header)
        taken = self._world.faults.take(scope["method"], scope["path"], headers.get("x-api-key", ""))
        if taken is None:
            return None
        record.fault = taken[0]
        return taken[1]


class _Struck:
    """A request that a fault strikes."""

    def __init__(self, app: ASGIApp, world: World, fault: Fault, record: RecordedRequest) -> None:
        self._app = app
        self._world = world
        self._fault = fault
        self._record = record

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process the request, or not, and send what the fault makes of its answer."""
        fault = self._fault
        late = fault.delay_seconds
        early = fault.when == "before" or (fault.when is None and not fault.processes)
        if late and early and not await self._world.pause(late):
            return await self._hang_up(scope, receive)
        answer = await self._process(scope, receive) if fault.processes else self._make_up_answer(scope)
        if late and not early and not await self._world.pause(late):
            return await self._hang_up(scope, receive)
        if fault.drop:
            return await self._hang_up(scope, receive)
        answer = self._spoil(answer, scope)
        answer.headers += [(name.lower().encode(), value.encode()) for name, value in fault.headers.items()]
        self._record.status = answer.status
        if fault.cut_body:
            await answer.send(send, sent_bytes=len(answer.body) // 2)
            _transport(scope).close()
            await _until_gone(receive)
        else:
            await answer.send(send)

    async def _hang_up(self, scope: Scope, receive: Receive) -> None:
        self._record.status = None
        _transport(scope).abort()
        await _until_gone(receive)

    async def _process(self, scope: Scope, receive: Receive) -> Answer:
        scope["state"]["fault"] = self._fault
        answer = Answer()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = list(message["headers"])
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")

        await self._app(scope, receive, collect)
        return answer

    def _make_up_answer(self, scope: Scope) -> Answer:
        return Answer.of_json(201 if scope["method"] == "POST" else 200, _MADE_UP)

    def _spoil(self, answer: Answer, scope: Scope) -> Answer:
        fault = self._fault
        if fault.status is not None:
            return _dictate(fault.status, fault.body)
        if fault.html:
            return Answer(502, [(b"content-type", b"text/html")], _GATEWAY_PAGE)
        if fault.empty:
            return Answer(answer.status, [(b"content-type", b"application/json")])
        if fault.no_id:
            return Answer.of_json(answer.status, _without_id(answer.body))
        if fault.idempotency_outcome_unknown:
            more: dict[str, str] = {}
            if fault.idempotency_outcome_unknown == "with_id" and "generation_id" in scope["state"]:
                more["generationId"] = scope["state"]["generation_id"]
            unknown = refusal("IDEMPOTENCY_OUTCOME_UNKNOWN", more=more)
            return Answer.of_json(unknown.status, cast(JsonValue, unknown.body))
        return answer


def _is_control(path: str) -> bool:
    return path == "/sandbox" or path.startswith("/sandbox/")


def _note_status(send: Send, record: RecordedRequest) -> Send:
    async def note(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
        await send(message)

    return note


async def _read_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """Return the body, and a `receive` that hands it out again."""
    body = b""
    more = True
    while more and len(body) <= BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    handed_out = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal handed_out
        if handed_out:
            return await receive()
        handed_out = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again


def _parse(body: bytes | None) -> JsonValue:
    with suppress(ValueError):
        return cast(JsonValue, json.loads(body or b"null"))
    return None


def _dictate(status: int, body: JsonValue) -> Answer:
    if body is None:
        return Answer(status)
    if isinstance(body, str):
        return Answer(status, [(b"content-type", b"text/plain; charset=utf-8")], body.encode())
    return Answer.of_json(status, body)


def _without_id(body: bytes) -> JsonValue:
    found = _parse(body)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name != "id"}


def _transport(scope: Scope) -> asyncio.Transport:
    return cast(asyncio.Transport, scope["state"]["transport"])


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
