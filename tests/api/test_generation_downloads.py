"""A generation's output in the library: whole or not at all, from public hosts, without the key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sync_mcp import APIResponseError, AsyncSync, FileRefused, NoOutput, NotFoundError
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import KEY, make
from .raw_server import Answer, RawServer, answer

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

NOBODY = "00000000-0000-4000-8000-000000000000"
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


async def completed(sync: AsyncSync, sandbox: Sandbox) -> str:
    generation = await make(sync, sandbox)
    sandbox.advance(61)
    return generation.id


def outputs(sandbox: Sandbox) -> list[str | None]:
    """Return the range that each fetch of an output asked for."""
    return [one.headers.get("range") for one in sandbox.requests if one.path.startswith("/outputs/")]


@both_backends
async def test_an_output_is_fetched_whole_and_without_the_key(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    id = await completed(sync, sandbox)
    path = await sync.generations.download(id, str(tmp_path / "out.mp4"))
    assert path == tmp_path / "out.mp4"
    assert path.read_bytes()[4:8] == b"ftyp"
    [fetch] = [one for one in sandbox.requests if one.path.startswith("/outputs/")]
    assert KEY not in str(fetch.headers)
    assert left_in(tmp_path) == {"out.mp4"}


@both_backends
async def test_a_cut_download_goes_on_by_a_fresh_url_where_it_was_cut(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path, pauses: list[float]
) -> None:
    id = await completed(sync, sandbox)
    sandbox.add_fault(Fault(path="/outputs/*", cut_body=True))
    path = await sync.generations.download(id, tmp_path / "out.mp4")
    assert outputs(sandbox) == [None, f"bytes={path.stat().st_size // 2}-"]
    asked = [one for one in sandbox.requests if one.path == f"/v2/generate/{id}"]
    assert len(asked) == 2


async def test_a_url_that_has_expired_meanwhile_is_renewed(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path, pauses: list[float]
) -> None:
    id = await completed(sync, sandbox)
    sandbox.add_fault(Fault(path="/outputs/*", status=403, body="<Code>AccessDenied</Code>", times=2))
    await sync.generations.download(id, tmp_path / "out.mp4")
    assert len(outputs(sandbox)) == 3


async def test_a_job_without_an_output_is_told_apart(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    running = await make(sync, sandbox)
    with pytest.raises(NoOutput) as caught:
        await sync.generations.download(running.id, tmp_path / "out.mp4")
    assert (caught.value.code, caught.value.retryable) == ("generation_running", True)
    sandbox.add_fault(Fault(path="/v2/generate", job="reject"))
    rejected = await make(sync, sandbox)
    sandbox.advance(61)
    with pytest.raises(NoOutput, match=r"failed and has no output") as caught:
        await sync.generations.download(rejected.id, tmp_path / "out.mp4")
    assert caught.value.api_code == "generation_input_validation_failed"
    assert caught.value.api_says
    assert (caught.value.code, caught.value.retryable) == ("generation_failed", False)
    with pytest.raises(NotFoundError):
        await sync.generations.download(NOBODY, tmp_path / "out.mp4")
    assert (left_in(tmp_path), outputs(sandbox)) == (set(), [])


async def test_a_file_that_is_there_stays_and_nothing_is_asked(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path
) -> None:
    id = await completed(sync, sandbox)
    place = tmp_path / "out.mp4"
    place.write_bytes(b"mine")
    before = len(sandbox.requests)
    with pytest.raises(FileRefused) as caught:
        await sync.generations.download(id, place)
    assert (caught.value.code, place.read_bytes()) == ("file_exists", b"mine")
    assert caught.value.next_step == "Name another file; overwrite only if the user says so."
    assert len(sandbox.requests) == before
    await sync.generations.download(id, place, overwrite=True)
    assert place.read_bytes() != b"mine"


@pytest.mark.parametrize("how", ["named", "redirected"])
async def test_a_name_that_leads_to_this_machine_is_told_nothing(
    serve: Serve, client_of: ClientOf, tmp_path: Path, how: str
) -> None:
    # Its name is not the API's, and only the connection shows where it leads.
    private = serve(answer(200, b"secret"))
    address = f"https://localhost:{private.port}/latest?X-Amz-Signature=s3cret"
    api = serve(answer(200, b""))
    url = address if how == "named" else f"{api.url}/file"
    moved = answer(302, b"", {"Location": address})
    api.answers[:] = [answer(200, {"id": "g1", "status": "COMPLETED", "outputUrl": url}), moved, moved]
    with pytest.raises(APIResponseError) as caught:
        await client_of(api, max_retries=3).generations.download("g1", tmp_path / "out.mp4")
    assert caught.value.code == "url_refused"
    assert "s3cret" not in str(caught.value)
    assert (private.received, left_in(tmp_path)) == ([], set())


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example/a.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "https://user:pass@files.example/a.mp4",
        "file:///etc/passwd",
        "ftp://files.example/a.mp4",
        "https://[::1",
    ],
)
async def test_only_https_urls_of_hosts_are_asked(
    serve: Serve, client_of: ClientOf, tmp_path: Path, url: str
) -> None:
    api = serve(answer(200, {"id": "g1", "status": "COMPLETED", "outputUrl": url}))
    with pytest.raises(APIResponseError) as caught:
        await client_of(api).generations.download("g1", tmp_path / "out.mp4")
    assert (caught.value.code, api.connections) == ("url_refused", 1)


async def test_an_own_redirect_is_followed_and_the_key_stays_behind(
    serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    content = sample("speaker.mp4").read_bytes()
    api = serve(Answer())
    api.answers[:] = [
        answer(200, {"id": "g1", "status": "COMPLETED", "outputUrl": f"{api.url}/file"}),
        answer(307, b"", {"Location": "/moved"}),
        answer(200, content, kind="video/mp4"),
    ]
    path = await client_of(api).generations.download("g1", tmp_path / "out.mp4")
    assert path.read_bytes() == content
    asked, *fetches = api.received
    assert asked.headers["x-api-key"] == KEY
    assert KEY not in str(fetches)
