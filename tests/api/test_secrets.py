"""The key is told to the API alone, over TLS, and shows in nothing that anyone reads."""

import logging
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from sync_mcp import (
    APIConnectionError,
    AsyncSync,
    ConfigurationError,
    InvalidRequestError,
    OutcomeUnknown,
    SyncError,
)
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import KEY, job, make
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]
# One with an invisible character in it, which must not come together as the key.
SPELLINGS = [KEY, KEY.upper(), KEY[:5] + "\u200b" + KEY[5:], KEY[:5] + "\x00" + KEY[5:], f"x-api-key: {KEY}"]


def everything_of(error: BaseException) -> str:
    """Return all that a report of this error could show."""
    told = [*traceback.format_exception(error)]
    at: BaseException | None = error
    while at is not None:
        told += [str(at), repr(at), repr(at.args), repr(vars(at))]
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n".join(told)


def assert_untold(text: str) -> None:
    assert KEY.lower() not in text.lower()
    assert KEY[3:].lower() not in text.lower()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "sync_mcp"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@both_backends
async def test_the_key_goes_to_the_api_with_every_call_and_nowhere_into_the_log(
    log: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    # It lets nobody in but with this key, and says 401 to all others.
    with Sandbox(tokens=[KEY], job_seconds=60) as sandbox:
        sandbox.add_fault(Fault(path="/v2/generate", drop="after"))
        async with AsyncSync(api_key=KEY, base_url=sandbox.url, timeout=20) as sync:
            created = await make(sync, sandbox)
            sandbox.advance(60)
            await sync.generations.wait(created.id)
            await sync.models.list()
    assert all("x-api-key" in one.headers for one in sandbox.requests if one.path.startswith("/v2/"))
    # Neither the media nor the signed output was asked for with the key.
    assert [one.flags for one in sandbox.requests if one.flags] == []
    assert any(record.name.startswith("httpcore") for record in log.records)
    assert_untold(log.text)


def test_the_key_is_in_no_repr() -> None:
    client = AsyncSync(api_key=KEY, base_url="http://localhost:1")
    parts = [client, client.generations, client.models, client.errors, *vars(client).values()]
    for part in parts:
        assert_untold(repr(part) + str(part))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_that_the_api_sends_back_is_blotted_out(
    serve: Serve, client_of: ClientOf, log: pytest.LogCaptureFixture, status: int, spelling: str
) -> None:
    said = f"bad key {spelling}, go away"
    body = dict.fromkeys(("message", "errorCode", "suggestion", "field", "requestId"), said)
    for given in (body, {"message": [said, said]}, {"error": said}):
        with pytest.raises(SyncError) as caught:
            await client_of(serve(answer(status, given))).models.list()
        assert_untold(everything_of(caught.value))
        assert "bad key" in caught.value.api_says
        assert "***" in caught.value.api_says
    assert_untold(log.text)


STRANGE: dict[str, Answer] = {
    "a page": answer(502, KEY.encode(), kind=f"text/{KEY}"),
    "a redirect": answer(302, b"", {"Location": f"https://{KEY}.example/{KEY}?key={KEY}"}),
    "garbage": Answer(f"{KEY} {KEY}\r\n\r\n".encode()),
    "a reset": Answer(resets=True),
    "silence": Answer(hangs=True),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE.keys())
async def test_a_key_in_a_strange_answer_is_not_told_again(
    serve: Serve, client_of: ClientOf, strange: Answer
) -> None:
    client = client_of(serve(strange), timeout=0.4)
    with pytest.raises(SyncError) as caught:
        await client.models.list()
    assert_untold(everything_of(caught.value))


async def test_an_unknown_outcome_tells_the_idempotency_key_and_not_the_api_key(
    serve: Serve, client_of: ClientOf, log: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    said = {"message": f"you said {KEY}", "generationId": "job-1"}
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(serve(answer(503, said)), max_retries=1))
    assert_untold(everything_of(caught.value))
    assert_untold(log.text)
    assert caught.value.idempotency_key in str(caught.value)


@pytest.mark.parametrize("options", [{"X-Api-Key": "other\n"}, {"X-Note": KEY + "\n"}, {"X-Note": "é" + KEY}])
async def test_a_header_that_cannot_be_sent_is_not_told(
    serve: Serve, client_of: ClientOf, options: dict[str, str]
) -> None:
    server = serve(answer(200, []))
    with pytest.raises(InvalidRequestError) as caught:
        await client_of(server).models.list(request_options={"additional_headers": options})
    assert_untold(str(caught.value) + repr(caught.value))
    assert server.connections == 0


async def test_signed_urls_of_a_job_are_kept_exactly_and_stay_out_of_errors(
    serve: Serve, client_of: ClientOf
) -> None:
    signed = "https://out.example/a%2Fb.mp4?X-Amz-Signature=s3cret%2B&X-Amz-Date=1"
    server = serve(answer(200, job(outputUrl=signed)), answer(422, {"message": f"cannot read {signed}"}))
    client = client_of(server)
    assert (await client.generations.get("job-1")).output_url == signed
    with pytest.raises(SyncError) as caught:
        await client.generations.get("job-1")
    assert "s3cret" not in everything_of(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.sync.so",
        "http://192.168.0.1:8787",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "HTTP://api.sync.so",
        "http://[::2]",
        "http://0.0.0.0",
    ],
)
def test_the_key_does_not_travel_in_the_clear(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="must use https"):
        AsyncSync(api_key=KEY, base_url=base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "api.sync.so",
        "ftp://api.sync.so",
        "file:///etc/passwd",
        "https://",
        "https:///v2",
        "https://user:s3cret@api.sync.so",
        "http://localhost@evil.example",
        "http://localhost\\@evil.example",
        "https://api.sync.so?key=s3cret",
        "https://api.sync.so#s3cret",
        "https://api.sync.so:port",
        "https://api.sync.so:99999",
        "https://[broken",
        "  ",
    ],
)
def test_a_base_url_that_is_none_is_refused_without_telling_what_is_secret_in_it(base_url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncSync(api_key=KEY, base_url=base_url)
    assert "s3cret" not in everything_of(caught.value)
    assert_untold(everything_of(caught.value))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.sync.so/", "https://api.sync.so"),
        ("  https://api.sync.so// ", "https://api.sync.so"),
        ("HTTPS://api.sync.so", "https://api.sync.so"),
        ("https://proxy.example/sync/", "https://proxy.example/sync"),
        ("http://localhost:8787", "http://localhost:8787"),
        ("http://127.0.0.1:8787/", "http://127.0.0.1:8787"),
        ("http://[::1]:8787", "http://[::1]:8787"),
        ("", "https://api.sync.so"),
    ],
)
def test_a_base_url_is_kept_without_what_does_not_belong_to_it(
    monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.delenv("SYNC_BASE_URL", raising=False)
    assert AsyncSync(api_key=KEY, base_url=given).base_url == kept


async def test_a_base_url_may_have_a_path(serve: Serve) -> None:
    server = serve(answer(200, []))
    async with AsyncSync(api_key=KEY, base_url=f"{server.url}/sync/") as client:
        await client.models.list()
    assert server.received[0].target == "/sync/v2/models"


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Https"])
async def test_a_server_without_a_certificate_to_trust_gets_no_key(scheme: str, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Of an authority that nobody here knows.
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    tls.load_cert_chain(tmp_path / "server.pem")
    with RawServer([answer(200, [])], tls=tls) as server:
        base_url = server.url.replace("https", scheme)
        async with AsyncSync(api_key=KEY, base_url=base_url, max_retries=0, timeout=10) as client:
            with pytest.raises(APIConnectionError, match="certificate") as caught:
                await client.models.list()
    assert caught.value.by_certificate
    assert server.received == []


@pytest.mark.parametrize(
    "api_key", ["sk_\nsplit", "sk_\r\nX-Evil: 1", "sk_ü", "sk_\u200b1", "sk_\x00", "sk_\x7f"]
)
def test_a_key_that_cannot_be_one_is_refused_and_not_told(api_key: str) -> None:
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        AsyncSync(api_key=api_key)
    assert api_key not in everything_of(caught.value)
    assert api_key[3:] not in str(caught.value)


@pytest.mark.parametrize("api_key", ["", "  ", "\n", None])
def test_no_key_is_refused_with_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, api_key: str | None
) -> None:
    monkeypatch.setenv("SYNC_API_KEY", "sk_environment" if api_key is not None else "")
    with pytest.raises(ConfigurationError) as caught:
        AsyncSync(api_key=api_key)
    assert caught.value.code == "api_key_missing"
    assert "https://sync.so/settings/api-keys" in caught.value.next_step


def test_a_placeholder_is_refused_with_where_to_get_a_key() -> None:
    with pytest.raises(ConfigurationError, match="placeholder") as caught:
        AsyncSync(api_key="YOUR_API_KEY")
    assert caught.value.code == "api_key_missing"
    assert "https://sync.so/settings/api-keys" in str(caught.value)


async def test_a_key_copied_with_white_space_around_it_is_sent_without(serve: Serve) -> None:
    server = serve(answer(200, []))
    async with AsyncSync(api_key=f" {KEY}\n", base_url=server.url) as client:
        await client.models.list()
    assert server.received[0].headers["x-api-key"] == KEY


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = serve(answer(200, [])), serve(answer(200, []))
    settings: dict[str, Any] = {"HTTP_PROXY": proxy.url, "ALL_PROXY": proxy.url}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    async with AsyncSync(api_key=KEY, base_url=server.url) as client:
        await client.models.list()
    assert proxy.connections == 0
