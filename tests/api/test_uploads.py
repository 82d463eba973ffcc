"""Local files into the account's storage: sent whole and unchanged, once, without the key."""

import hashlib
import io
import logging
import os
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.lowlevel import checkpoint
from pydantic import JsonValue

from sync_mcp import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    Asset,
    AsyncSync,
    Audio,
    ConfigurationError,
    FileRefused,
    InvalidRequestError,
    RequestRejectedError,
    SyncError,
    Transfer,
    Video,
)
from sync_mcp.api import public_hosts, storage
from sync_mcp.api.formats import media_format
from sync_mcp.api.http import Transport
from sync_mcp.api.uploads import name_to_send, open_file
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import KEY, trail, until
from .raw_server import Answer, RawServer, answer
from .test_secrets import everything_of

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]

CLIP = sample("speaker.mp4").read_bytes()
WAV_HEAD = b"RIFF\x00\x00\x00\x00WAVEfmt "
ASK, PUT, REGISTER = "POST /v2/assets/upload", "PUT", "POST /v2/assets"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "my clip.mp4"
    path.write_bytes(CLIP)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of several reads; no sandbox could play it."""
    path = tmp_path / "long.wav"
    path.write_bytes(WAV_HEAD + os.urandom(5 * 1024 * 1024))
    return path


def steps(sandbox: Sandbox) -> list[str]:
    """Return what was sent to the API and the storage, without the storage's paths."""
    return [
        request.method if request.path.startswith("/storage/") else f"{request.method} {request.path}"
        for request in sandbox.requests
    ]


def stored(sandbox: Sandbox) -> list[bytes]:
    """Return every file that the storage has."""
    return [path.read_bytes() for path in (sandbox.folder / "uploads").iterdir()]


async def nothing_stored(sandbox: Sandbox) -> None:
    """Assert that no upload, once the storage has done with it, left a file."""
    puts = [request for request in sandbox.requests if request.method == "PUT"]
    await until(lambda: all(request.status is not None for request in puts))
    assert {request.status for request in puts} <= {400}
    assert stored(sandbox) == []


def content(path: Path) -> bytes:
    return path.read_bytes()


def replace(path: Path, content: bytes) -> None:
    """Put another file in the place of one that may be open."""
    path.rename(path.with_name("moved"))
    path.write_bytes(content)


async def everything(asset: Asset, sync: AsyncSync, tmp_path: Path) -> bytes:
    """Return what the API has of an asset's file."""
    return (await sync.assets.download(asset.id, tmp_path / "back", overwrite=True)).read_bytes()


@both_backends
async def test_a_file_becomes_an_asset_that_a_generation_takes(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, tmp_path: Path
) -> None:
    asset = await sync.assets.upload(clip)
    assert (asset.type, asset.name, asset.size, asset.format) == ("VIDEO", "my clip.mp4", len(CLIP), "mp4")
    assert steps(sandbox) == ["GET /v2/assets/uploaded", ASK, PUT, REGISTER]
    assert await everything(asset, sync, tmp_path) == CLIP
    inputs = [Video(asset_id=asset.id), Audio(url=sandbox.samples.audio)]
    assert (await sync.generations.create(model="lipsync-2", input=inputs)).status == "PENDING"


async def test_the_storage_gets_the_content_type_that_was_announced_and_no_key(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    await sync.assets.upload(clip)
    _, asked, put, registered = sandbox.requests
    assert asked.body == {"fileName": "my clip.mp4", "contentType": "video/mp4", "size": len(CLIP)}
    assert put.headers["content-type"] == "video/mp4"
    assert put.headers["content-length"] == str(len(CLIP))
    assert "transfer-encoding" not in put.headers
    assert (put.flags, "x-api-key" in put.headers, KEY in str(put.headers)) == ([], False, False)
    assert isinstance(registered.body, dict)
    assert registered.body["contentSha256"] == hashlib.sha256(CLIP).hexdigest()


@both_backends
async def test_a_file_of_many_pieces_arrives_whole(
    sandbox: Sandbox, sync: AsyncSync, large: Path, tmp_path: Path
) -> None:
    asset = await sync.assets.upload(str(large), name="Long talk")
    assert (asset.type, asset.name) == ("AUDIO", "Long talk")
    assert await everything(asset, sync, tmp_path) == content(large)


async def test_the_same_content_is_not_sent_again_by_the_same_key(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, tmp_path: Path
) -> None:
    first = await sync.assets.upload(clip)
    copy = tmp_path / "another name.mp4"
    copy.write_bytes(CLIP)
    assert (await sync.assets.upload(copy)).id == first.id
    assert steps(sandbox).count(PUT) == 1
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as other:
        assert (await other.assets.upload(copy)).id != first.id
    await sync.assets.delete(first.id)
    assert (await sync.assets.upload(clip)).id != first.id
    assert steps(sandbox).count(PUT) == 3


async def test_an_asset_of_another_size_under_the_hash_is_not_taken_for_the_file(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    wrong: JsonValue = {"asset": {"id": "a1", "type": "VIDEO", "size": len(CLIP) + 1}}
    sandbox.add_fault(Fault(path="/v2/assets/uploaded", status=200, body=wrong))
    assert (await sync.assets.upload(clip)).id != "a1"


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_an_api_that_cannot_tell_what_was_uploaded_gets_the_file(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float], status: int
) -> None:
    refused: JsonValue = {"message": "Cannot tell."}
    sandbox.add_fault(Fault(path="/v2/assets/uploaded", status=status, body=refused, times=None))
    assert (await sync.assets.upload(clip)).size == len(CLIP)


@both_backends
async def test_an_open_file_is_sent_from_its_beginning_and_stays_open(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, tmp_path: Path
) -> None:
    with clip.open("rb") as file:
        file.read(1000)
        # Whatever has its name by now: what is open counts.
        replace(clip, b"another")
        asset = await sync.assets.upload(file)
        assert not file.closed
    assert (asset.name, await everything(asset, sync, tmp_path)) == ("my clip.mp4", CLIP)


async def test_a_known_hash_saves_reading_the_file_and_is_checked_while_it_is_sent(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    seen: list[Transfer] = []

    async def note(transfer: Transfer) -> None:
        seen.append(transfer)

    with pytest.raises(FileRefused, match="changed"):
        await sync.assets.upload(clip, sha256="0" * 64, on_progress=note)
    await until(lambda: steps(sandbox) == ["GET /v2/assets/uploaded", ASK, PUT])
    await nothing_stored(sandbox)
    await sync.assets.upload(clip, sha256=hashlib.sha256(CLIP).hexdigest(), on_progress=note)
    assert {transfer.step for transfer in seen} == {"send"}
    assert stored(sandbox) == [CLIP]


async def test_a_hash_or_a_kind_that_cannot_be_is_refused(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    kind: Any = "VIDEO"
    with pytest.raises(InvalidRequestError, match="64"):
        await sync.assets.upload(clip, sha256="ABC")
    with pytest.raises(InvalidRequestError, match="video, audio, image"):
        await sync.assets.upload(clip, kind=kind)
    assert sandbox.requests == []


async def test_certificates_that_cannot_be_read_matter_to_https_alone(
    sync: AsyncSync, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ConfigurationError("They cannot be read.")

    monkeypatch.setattr("sync_mcp.api.http._tls_context", broken)
    assert (await sync.assets.upload(clip)).size == len(CLIP)


@both_backends
async def test_progress_is_told_in_bytes_until_all_is_sent(
    sandbox: Sandbox, sync: AsyncSync, large: Path
) -> None:
    seen: list[Transfer] = []

    async def note(transfer: Transfer) -> None:
        seen.append(transfer)

    await sync.assets.upload(large, on_progress=note)
    size = len(content(large))
    for step in ("hash", "send"):
        done = [transfer.done_bytes for transfer in seen if transfer.step == step]
        assert done == sorted(set(done))
        assert done[-1] == size
    assert {transfer.total_bytes for transfer in seen} == {size}
    assert len(seen) > 10


# A file that changes


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def _overwrite_unseen(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size - 10)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[tuple[str, Callable[[Path], None]]] = [
    (step, change)
    for step in ("hash", "send")
    for change in (_append, _cut, _touch, _overwrite_unseen)
    # What is overwritten while it is hashed, behind what was read, was like that all along.
    if (step, change) != ("hash", _overwrite_unseen)
]


@both_backends
@pytest.mark.parametrize(
    ("step", "change"), CHANGES, ids=[f"{step}-{change.__name__[1:]}" for step, change in CHANGES]
)
async def test_a_file_that_changes_meanwhile_is_refused_and_the_storage_never_has_the_whole_of_it(
    sandbox: Sandbox, sync: AsyncSync, large: Path, step: str, change: Callable[[Path], None]
) -> None:
    changed = False

    async def interfere(transfer: Transfer) -> None:
        nonlocal changed
        if transfer.step == step and not changed:
            changed = True
            change(large)

    with pytest.raises(FileRefused) as caught:
        await sync.assets.upload(large, on_progress=interfere)
    assert (caught.value.code, caught.value.retryable) == ("file_changed", True)
    assert "long.wav changed" in caught.value.message
    assert REGISTER not in steps(sandbox)
    await nothing_stored(sandbox)
    # As it is now it is taken.
    assert (await sync.assets.upload(large)).size == len(content(large))


# A storage that fails


@both_backends
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_cut_upload_starts_again_from_a_fresh_url(
    sandbox: Sandbox, sync: AsyncSync, large: Path, pauses: list[float], tmp_path: Path, moment: str
) -> None:
    sandbox.add_fault(Fault.model_validate({"method": "PUT", "drop": moment, "times": 2}))
    asset = await sync.assets.upload(large)
    assert steps(sandbox)[1:] == [ASK, PUT, ASK, PUT, ASK, PUT, REGISTER]
    paths = [request.path for request in sandbox.requests if request.method == "PUT"]
    assert len(set(paths)) == 3
    assert await everything(asset, sync, tmp_path) == content(large)
    assert len(pauses) >= 2


async def test_an_url_that_the_storage_takes_no_more_is_renewed(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float]
) -> None:
    expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    sandbox.add_fault(Fault(method="PUT", status=403, body=expired))
    assert (await sync.assets.upload(clip)).size == len(CLIP)
    assert steps(sandbox)[1:] == [ASK, PUT, ASK, PUT, REGISTER]


async def test_the_tries_are_bounded_and_the_last_refusal_is_told_without_the_signature(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx", "httpcore", "sync_mcp"):
        caplog.set_level(logging.DEBUG, name)
    refused = "<Error><Code>SignatureDoesNotMatch</Code></Error>"
    sandbox.add_fault(Fault(method="PUT", status=403, body=refused, times=None))
    with pytest.raises(APIResponseError) as caught:
        await sync.assets.upload(clip, request_options={"max_retries": 2})
    assert steps(sandbox).count(PUT) == 3
    assert (caught.value.status, caught.value.code, caught.value.money_spent) == (
        403,
        "storage_refused",
        "no",
    )
    assert "127.0.0.1" in caught.value.message
    assert "SignatureDoesNotMatch" in caught.value.message
    told = everything_of(caught.value) + caplog.text
    assert "PUT http" in caplog.text
    assert "X-Amz" not in told
    assert KEY not in told


@pytest.mark.parametrize("status", [400, 404, 411, 301, 307])
async def test_a_refusal_that_a_fresh_url_cannot_change_is_final(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float], status: int
) -> None:
    headers = {"Location": "http://127.0.0.1:9/elsewhere"}
    sandbox.add_fault(Fault(method="PUT", status=status, body="", headers=headers, times=None))
    with pytest.raises(APIResponseError) as caught:
        await sync.assets.upload(clip)
    assert (caught.value.status, steps(sandbox).count(PUT)) == (status, 1)


async def test_a_storage_that_answers_before_it_has_everything_is_heard(
    serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.write(CLIP[:64])
        file.truncate(40 * 1024 * 1024)
    # It reads the head alone and closes: what is still being sent runs into a reset.
    server = serve(answer(200, {"asset": None}), answer(200, []))
    server.answers[1:] = [
        answer(200, {"uploadUrl": f"{server.url}/put", "url": f"{server.url}/file"}),
        Answer(answer(403, b"<Code>AccessDenied</Code>").data, reads=False),
    ]
    with anyio.fail_after(10):
        with pytest.raises((APIResponseError, APIConnectionError)):
            await client_of(server).assets.upload(film)


async def test_a_storage_that_takes_nothing_is_given_up(
    serve: Serve, client_of: ClientOf, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_STORAGE_SECONDS", 0.3)
    server = serve(answer(200, {"asset": None}), answer(200, []))
    server.answers[1:] = [
        answer(200, {"uploadUrl": f"{server.url}/put", "url": f"{server.url}/file"}),
        Answer(stalls=True),
    ]
    with anyio.fail_after(10), pytest.raises(APITimeoutError):
        await client_of(server).assets.upload(large)


@both_backends
async def test_an_upload_can_be_cancelled_while_it_is_sent(
    serve: Serve, client_of: ClientOf, large: Path
) -> None:
    server = serve(answer(200, {"asset": None}), answer(200, []))
    server.answers[1:] = [
        answer(200, {"uploadUrl": f"{server.url}/put", "url": f"{server.url}/file"}),
        Answer(stalls=True),
    ]
    client = client_of(server)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.assets.upload, large)
            await until(lambda: server.connections == 3)
            tasks.cancel_scope.cancel()
    assert trail(server.received) == ["GET /v2/assets/uploaded", ASK]


async def test_what_goes_wrong_in_telling_progress_comes_out_as_it_is(
    sandbox: Sandbox, sync: AsyncSync, large: Path
) -> None:
    async def fail(transfer: Transfer) -> None:
        if transfer.step == "send":
            raise LookupError("nobody listens")

    with pytest.raises(LookupError, match="nobody listens"):
        await sync.assets.upload(large, on_progress=fail)
    await until(lambda: PUT in steps(sandbox))
    assert REGISTER not in steps(sandbox)


# Places that are not sent to


@pytest.mark.parametrize(
    "url",
    [
        "http://storage.example/put?X-Amz-Signature=s3cret",
        "http://127.0.0.1:1/put?X-Amz-Signature=s3cret",
        "http://localhost/put?X-Amz-Signature=s3cret",
        "ftp://storage.example/put?X-Amz-Signature=s3cret",
        "file:///etc/passwd",
        "/put?X-Amz-Signature=s3cret",
        "https://user:s3cret@storage.example/put",
        "https://[broken/put?X-Amz-Signature=s3cret",
        "https:///put?X-Amz-Signature=s3cret",
        "https://127.0.0.2:1/put?X-Amz-Signature=s3cret",
    ],
)
async def test_a_file_goes_to_public_https_hosts_and_the_apis_own_alone(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, url: str
) -> None:
    sandbox.add_fault(Fault(path="/v2/assets/upload", status=201, body={"uploadUrl": url, "url": url}))
    with pytest.raises(SyncError) as caught:
        await sync.assets.upload(clip, request_options={"max_retries": 0})
    assert caught.value.code == "url_refused"
    assert "s3cret" not in everything_of(caught.value)
    assert PUT not in steps(sandbox)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The certificate of a storage on this machine that the client trusts."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem
    certificate.write_to_path(str(tmp_path / "server.pem"))
    server.load_cert_chain(tmp_path / "server.pem")
    client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    monkeypatch.setattr("sync_mcp.api.http._tls_context", lambda: client)
    return server


@both_backends
async def test_a_storage_of_another_origin_gets_the_file_over_tls_and_no_key(
    serve: Serve,
    client_of: ClientOf,
    large: Path,
    trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No other machine can be had: this one passes for one.
    monkeypatch.setattr(public_hosts, "is_public", {"127.0.0.1"}.__contains__)
    with RawServer([answer(200, b"")], tls=trusted) as storage:
        place = {"uploadUrl": f"{storage.url}/put?X-Amz-Signature=a%2Fb", "url": f"{storage.url}/put"}
        api = serve(answer(200, {"asset": None}), answer(201, place), answer(201, {"id": "a1"}))
        assert (await client_of(api).assets.upload(large)).id == "a1"
    (put,) = storage.received
    assert (put.method, put.target) == ("PUT", "/put?X-Amz-Signature=a%2Fb")
    assert put.body == content(large)
    assert KEY not in str(put.headers)


@both_backends
async def test_a_name_that_leads_to_this_machine_gets_nothing(
    serve: Serve,
    client_of: ClientOf,
    clip: Path,
    trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved = socket.getaddrinfo

    def led_here(host: Any, *arguments: Any, **named: Any) -> Any:
        here = host in ("storage.example", b"storage.example")
        return resolved("127.0.0.1" if here else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", led_here)
    with RawServer([answer(200, b"")], tls=trusted) as storage:
        inner = storage.url.replace("127.0.0.1", "storage.example")
        place = {"uploadUrl": f"{inner}/put", "url": f"{inner}/put"}
        api = serve(answer(200, {"asset": None}), answer(201, place))
        with pytest.raises(APIResponseError, match="this machine") as caught:
            await client_of(api).assets.upload(clip)
        assert (caught.value.code, caught.value.retryable) == ("url_refused", False)
    assert storage.connections == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", True),
        ("2001:0:1:2:3:4:5:6", False),
        ("::127.0.0.1", False),
        ("::8.8.8.8", False),
        ("::ffff:0:7f00:1", False),
        ("fec0::1", False),
        ("64:ff9b:1::1", False),
        ("64:ff9b:1::7f00:1", False),
        ("2606:2800:220:1:0:5efe:10.0.0.1", False),
        ("2606:2800:220:1:200:5efe:10.0.0.1", False),
        ("2606:2800:220:1:0:5efe:93.184.216.34", True),
        ("fe80::5efe:93.184.216.34", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("::ffff:192.0.0.192", False),
        ("nothing", False),
    ],
)
def test_private_addresses_are_told_from_public_ones(address: str, public: bool) -> None:
    assert public_hosts.is_public(address) is public


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        *(("storage.example", True), ("storage.example.", True), ("93.184.216.34", True)),
        *(("[2606:2800:220:1:248:1893:25c8:1946]", True), ("1.2.3.4.storage.example", True)),
        *(("localhost", False), ("LOCALHOST.", False), ("a.localhost", False), ("storage", False)),
        *(("metadata.google.internal", False), ("printer.local", False), ("router.lan.", False)),
        *(("127.0.0.1", False), ("127.0.0.1.", False), ("10.0.0.1", False), ("169.254.169.254", False)),
        *(("2130706433", False), ("127.1", False), ("0x7f.1", False), ("0177.0.0.1", False), ("0", False)),
        *(("[::1]", False), ("[::ffff:10.0.0.1]", False), ("[fec0::1]", False), ("[::1%25lo]", False)),
        *(
            ("\uff11\uff12\uff17.0.0.1", False),
            ("\uff4cocalhost", False),
            ("127%2e0.0.1", False),
            ("1.2.3.999", False),
        ),
    ],
)
async def test_behind_a_proxy_too_nothing_is_asked_of_hosts_that_are_not_public(
    serve: Serve, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, host: str, sent: bool
) -> None:
    proxy = serve(answer(502, b""))
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy.url)
    transport = Transport(api_key=KEY, base_url="https://api.example", timeout_seconds=10, max_retries=0)
    try:
        with pytest.raises(SyncError) as caught:
            async with storage.download(transport, f"https://{host}/latest"):
                pass
    finally:
        await transport.aclose()
    assert (caught.value.code == "url_refused") is not sent
    assert (proxy.connections > 0) is sent


# Registering


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"html": True, "when": "after"}, {"cut_body": True}])
async def test_a_lost_answer_to_the_registration_is_looked_up_and_not_registered_twice(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float], fault: dict[str, object]
) -> None:
    sandbox.add_fault(Fault.model_validate({"method": "POST", "path": "/v2/assets", **fault}))
    asset = await sync.assets.upload(clip)
    assert steps(sandbox)[-2:] == [REGISTER, "GET /v2/assets/uploaded"]
    assert [known.id for known in (await sync.assets.list()).items] == [asset.id]


async def test_a_registration_that_never_arrived_is_sent_again(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(method="POST", path="/v2/assets", drop="before"))
    sandbox.add_fault(Fault.api_error("rate_limit_exceeded", method="POST", path="/v2/assets"))
    asset = await sync.assets.upload(clip)
    assert [known.id for known in (await sync.assets.list()).items] == [asset.id]


async def test_an_api_that_takes_no_hash_gets_the_registration_without_one(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    refused: JsonValue = {"message": ["property contentSha256 should not exist"], "statusCode": 400}
    sandbox.add_fault(Fault(method="POST", path="/v2/assets", status=400, body=refused))
    await sync.assets.upload(clip)
    last = sandbox.requests[-1].body
    assert isinstance(last, dict)
    assert "contentSha256" not in last


async def test_a_plan_that_allows_no_such_size_refuses_before_anything_is_sent(
    sandbox: Sandbox, sync: AsyncSync, clip: Path
) -> None:
    sandbox.add_fault(Fault.api_error("file_size_exceeds_plan_limit", path="/v2/assets/upload"))
    with pytest.raises(RequestRejectedError) as caught:
        await sync.assets.upload(clip)
    assert caught.value.api_code == "file_size_exceeds_plan_limit"
    assert PUT not in steps(sandbox)


@pytest.mark.parametrize("body", [{}, {"uploadUrl": "x"}, []])
async def test_an_answer_without_a_place_is_one_typed_error(
    sandbox: Sandbox, sync: AsyncSync, clip: Path, body: list[object] | dict[str, object]
) -> None:
    sandbox.add_fault(Fault.model_validate({"path": "/v2/assets/upload", "status": 201, "body": body}))
    with pytest.raises(APIResponseError, match="no place"):
        await sync.assets.upload(clip)


# Files that are refused


async def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with anyio.fail_after(5):
        for source, code in (
            (tmp_path / "missing.mp4", "file_not_found"),
            (tmp_path, "file_not_readable"),
            (tmp_path / "pipe.mp4", "file_not_readable"),
            ("/dev/zero", "file_not_readable"),
            ("bad\0.mp4", "file_not_found"),
            (io.BytesIO(CLIP), "file_not_readable"),
        ):
            with pytest.raises(FileRefused) as caught:
                await sync.assets.upload(source)
            assert caught.value.code == code
            assert caught.value.next_step
    assert sandbox.requests == []


async def test_an_empty_file_and_one_above_the_limit_are_refused_unread(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    empty, huge = tmp_path / "empty.mp4", tmp_path / "huge.mp4"
    empty.touch()
    with huge.open("wb") as file:
        file.write(CLIP[:64])
        file.truncate(5 * 1024**3 + 1)
    with pytest.raises(FileRefused, match="is empty"):
        await sync.assets.upload(empty)
    with pytest.raises(FileRefused, match=r"5,368,709,121 bytes.*5,368,709,120 at most"):
        await sync.assets.upload(huge)
    assert sandbox.requests == []


async def test_what_is_no_media_is_refused_whatever_its_name(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    secret = tmp_path / "holiday.mp4"
    secret.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(FileRefused, match=r"holiday\.mp4 is no video, audio or image") as caught:
        await sync.assets.upload(secret)
    assert caught.value.code == "file_not_media"
    assert "MP4" in caught.value.next_step
    assert sandbox.requests == []


def _mp4(brand: str) -> bytes:
    return b"\x00\x00\x00\x20ftyp" + brand.encode() + bytes(16)


MATROSKA = b"\x1aE\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x1fB\x86\x81\x01B\x82"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


@pytest.mark.parametrize(
    ("head", "name", "content_type"),
    [
        (_mp4("isom"), "a.mp4", "video/mp4"),
        (_mp4("mp42"), "a", "video/mp4"),
        (_mp4("mp42"), "a.txt", "video/mp4"),
        (_mp4("qt  "), "a.mov", "video/quicktime"),
        (_mp4("mp42"), "a.mov", "video/quicktime"),
        (_mp4("M4A "), "a.m4a", "audio/x-m4a"),
        (_mp4("isom"), "a.m4a", "audio/x-m4a"),
        (_mp4("M4A "), "a.mp4", "audio/mp4"),
        (b"\x00\x00\x00\x08wide\x00\x00", "old.mov", "video/quicktime"),
        (MATROSKA + b"\x84webm", "a.webm", "video/webm"),
        (b"RIFF....AVI LIST", "a.avi", "video/x-msvideo"),
        (b"RIFF....WAVEfmt ", "a.wav", "audio/wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "a.wav", "audio/wav"),
        (b"ID3\x04\x00", "a.mp3", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "a.mp3", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "a.aac", "audio/aac"),
        (b"OggS\x00\x02" + bytes(22) + b"\x01vorbis", "a.ogg", "audio/ogg"),
        (b"fLaC\x00\x00", "a.flac", "audio/flac"),
        (ASF, "a.wma", "audio/x-ms-wma"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a.jpg", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "a.png", "image/png"),
        (b"RIFF....WEBPVP8 ", "a.webp", "image/webp"),
    ],
)
def test_the_content_type_comes_from_the_first_bytes_and_then_the_name(
    head: bytes, name: str, content_type: str
) -> None:
    found = media_format(head, name)
    assert found.content_type == content_type
    assert found.content_type.startswith(found.kind)


@pytest.mark.parametrize(
    ("head", "name", "advice"),
    [
        (MATROSKA + b"\x88matroska", "a.mkv", "Convert it to MP4"),
        (MATROSKA + b"\x88matroska", "a.webm", "Convert it to MP4"),
        (_mp4("heic"), "a.jpg", "Convert it to JPEG"),
        (_mp4("avif"), "a.mp4", "Convert it to JPEG"),
        (ASF, "a.wmv", "Convert it to MP4"),
        (b"OggS\x00\x02" + bytes(22) + b"\x80theora", "a.ogv", "Convert it to MP4"),
        (b"GIF89a", "a.gif", "Convert it to PNG"),
        (b"FORM\x00\x00\x00\x00AIFF", "a.aiff", "Convert it to WAV"),
        (b"\xff\xfeh\x00e\x00l\x00l\x00o\x00", "a.mp3", "Name a video"),
        (b"\xff\xff\xff\xff\xff", "a.mp3", "Name a video"),
        (b"%PDF-1.7", "a.mp4", "Name a video"),
        (b"\x7fELF", "a.wav", "Name a video"),
        (b"RIFF....ACON", "a.wav", "Name a video"),
        (b"PK\x03\x04", "a.mp4", "Unpack it"),
        (b"\x00" * 64, "a.mp4", "Name a video"),
        (b"x", "", "Name a video"),
    ],
)
def test_what_the_api_does_not_take_is_refused_with_what_to_do(head: bytes, name: str, advice: str) -> None:
    with pytest.raises(FileRefused) as caught:
        media_format(head, name)
    assert caught.value.code == "file_not_media"
    assert advice in caught.value.next_step


def test_a_kind_that_is_asked_for_decides_what_may_be_either_and_refuses_the_rest() -> None:
    assert media_format(_mp4("isom"), "voice.mp4", "audio").content_type == "audio/mp4"
    assert media_format(_mp4("isom"), "talk.mp4", "video").content_type == "video/mp4"
    with pytest.raises(FileRefused, match=r"a\.png is an image, not a video"):
        media_format(b"\x89PNG\r\n\x1a\n", "a.png", "video")
    with pytest.raises(FileRefused, match="is an audio file, not a video"):
        media_format(WAV_HEAD, "a.mp4", "video")


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("talk.mp4", "talk.mp4"),
        ("Talk.MP4", "Talk.MP4"),
        ("talk", "talk.mp4"),
        ("talk.txt", "talk.txt.mp4"),
        ("", "video.mp4"),
        ("a\x00b\u202e\n.mp4", "ab.mp4"),
        ("..\\..\\evil.mp4", "evil.mp4"),
        ("x" * 300 + ".mp4", "x" * 120 + ".mp4"),
    ],
)
def test_the_name_that_is_sent_is_clean_and_ends_as_the_content_says(name: str, sent: str) -> None:
    assert name_to_send(name, media_format(_mp4("isom"), name)) == sent


# Memory


class _SlowStorage:
    """Takes a body as slowly as it can."""

    taken = 0

    async def put(
        self, _transport: Transport, url: str, body: AsyncIterator[bytes], *, size: int, content_type: str
    ) -> None:
        async for piece in body:
            self.taken += len(piece)
            for _ in range(3):
                await checkpoint()
        assert (url, content_type, size) == ("https://storage.example/", "video/mp4", self.taken)


async def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.write(CLIP[:64])
        file.truncate(96 * 1024 * 1024)
    storage = _SlowStorage()
    monkeypatch.setattr("sync_mcp.api.uploads.put", storage.put)
    transport = Transport(api_key=KEY, base_url="http://127.0.0.1:1", timeout_seconds=1, max_retries=0)
    async with open_file(film) as source:
        tracemalloc.start()
        try:
            digest = await source.sha256()
            await source.send(transport, "https://storage.example/", content_type="video/mp4", sha256=digest)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert storage.taken == film.stat().st_size
    assert peak < 8 * 1024 * 1024
