"""Assets: listed, found, deleted, and fetched whole or not at all."""

import os
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from sync_mcp import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    Asset,
    AssetPage,
    AsyncSync,
    FileRefused,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    Transfer,
)
from sync_mcp.api import downloads as downloads_module, storage
from sync_mcp.api.downloads import fetch_file, move_into_place
from sync_mcp.api.http import Transport
from sync_mcp.sandbox import Fault, Sandbox
from sync_mcp.sandbox.media.samples import sample

from .conftest import KEY, trail, until
from .raw_server import Answer, RawServer, answer
from .test_secrets import everything_of

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]

CLIP, SPEECH = sample("speaker.mp4"), sample("speech.wav")
NOBODY = "00000000-0000-4000-8000-000000000000"
CONTENT = os.urandom(3 * 1024 * 1024 + 7)


def left_in(folder: Path) -> set[str]:
    """Return what a download left, beside the home of the test."""
    return {path.name for path in folder.iterdir()} - {"home"}


def content(path: Path) -> bytes:
    return path.read_bytes()


def gets(sandbox: Sandbox) -> list[str | None]:
    """Return the range of each GET that the storage had."""
    return [
        request.headers.get("range")
        for request in sandbox.requests
        if request.method == "GET" and request.path.startswith("/storage/")
    ]


@pytest.fixture
async def assets(sandbox: Sandbox, sync: AsyncSync) -> list[Asset]:
    """A video and a recording, the recording newer; what was asked to make them is forgotten."""
    made = [await sync.assets.upload(CLIP, name="Talk"), await sync.assets.upload(SPEECH, name="Voice")]
    sandbox._world.records.clear()  # pyright: ignore[reportPrivateUsage]
    return made


# Lists


@both_backends
async def test_pages_follow_each_other_newest_first(sync: AsyncSync, assets: list[Asset]) -> None:
    first = await sync.assets.list(limit=1)
    assert ([asset.id for asset in first.items], first.total_count) == ([assets[1].id], 2)
    second = await sync.assets.list(limit=1, cursor=first.next_cursor)
    assert ([asset.id for asset in second.items], second.next_cursor) == ([assets[0].id], None)


async def test_filters_go_out_as_the_api_spells_them(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset]
) -> None:
    page = await sync.assets.list(
        search_query="T", types=["VIDEO", "AUDIO"], sort_by="nameAsc", project_id=None, limit=5
    )
    assert [asset.name for asset in page.items] == ["Talk"]
    assert sandbox.requests[0].query == {
        "searchQuery": "T",
        "types": "VIDEO,AUDIO",
        "sortBy": "nameAsc",
        "limit": "5",
    }
    assert (await sync.assets.list(types="AUDIO")).items == [assets[1]]
    assert (await sync.assets.list(project_id=sandbox.project_id)).items == []


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_limit_that_the_api_does_not_take_is_not_sent(
    sandbox: Sandbox, sync: AsyncSync, limit: int
) -> None:
    with pytest.raises(InvalidRequestError, match="between 1 and 100"):
        await sync.assets.list(limit=limit)
    assert sandbox.requests == []


async def test_unknown_fields_are_kept_and_entries_without_an_id_left_out(
    serve: Serve, client_of: ClientOf
) -> None:
    told = {"id": "a1", "type": "HOLOGRAM", "size": "huge", "owner": {"id": 7}}
    server = serve(answer(200, {"items": [told, {"name": "x"}, 7], "nextCursor": "", "totalCount": None}))
    page = await client_of(server).assets.list()
    assert [asset.to_wire() for asset in page.items] == [told]
    assert page == AssetPage(items=page.items)


@pytest.mark.parametrize("body", [[], {}, {"items": None}, {"items": "a"}, "x", 7])
async def test_an_answer_that_is_no_page_is_one_typed_error(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError, match="no list"):
        await client_of(serve(answer(200, body))).assets.list()


# One asset


@both_backends
async def test_an_asset_is_found_and_deleted_by_its_id(sync: AsyncSync, assets: list[Asset]) -> None:
    talk = await sync.assets.get(assets[0].id)
    assert (talk.name, talk.type, talk.width, talk.duration_seconds) == ("Talk", "VIDEO", 360, 5.0)
    await sync.assets.delete(talk.id)
    with pytest.raises(NotFoundError) as caught:
        await sync.assets.get(talk.id)
    assert caught.value.api_code == "asset_not_found"


async def test_an_asset_of_another_cannot_be_deleted(sandbox: Sandbox, assets: list[Asset]) -> None:
    async with AsyncSync(api_key="sk_other", base_url=sandbox.url) as other:
        with pytest.raises(PermissionDeniedError) as caught:
            await other.assets.delete(assets[0].id)
    assert caught.value.api_code == "asset_forbidden"


async def test_a_lost_answer_to_a_delete_is_no_failure(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], pauses: list[float]
) -> None:
    sandbox.add_fault(Fault(method="DELETE", drop="after"))
    await sync.assets.delete(assets[0].id)
    assert trail(sandbox.requests) == [f"DELETE /v2/assets/{assets[0].id}"] * 2


@pytest.mark.parametrize("id", ["", "..", "a/b", "a?b", "count "])
async def test_what_is_no_id_is_not_asked_for(
    sandbox: Sandbox, sync: AsyncSync, tmp_path: Path, id: str
) -> None:
    for call in (sync.assets.get(id), sync.assets.delete(id), sync.assets.download(id, tmp_path / "x")):
        with pytest.raises(InvalidRequestError, match="copy it whole"):
            await call
    assert sandbox.requests == []


# Downloads


@both_backends
async def test_a_file_is_fetched_whole_and_without_the_key(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    seen: list[Transfer] = []

    async def note(transfer: Transfer) -> None:
        seen.append(transfer)

    path = await sync.assets.download(assets[0].id, tmp_path / "back.mp4", on_progress=note)
    assert (path, content(path)) == (tmp_path / "back.mp4", content(CLIP))
    assert left_in(tmp_path) == {"back.mp4"}
    asked, fetched = sandbox.requests
    assert (asked.path, "x-api-key" in asked.headers) == (f"/v2/assets/{assets[0].id}/download", True)
    assert (fetched.flags, "x-api-key" in fetched.headers) == ([], False)
    assert seen[-1] == Transfer("fetch", len(content(CLIP)), len(content(CLIP)))


async def test_a_new_file_may_be_read_as_the_user_has_set_it(
    sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        path = await sync.assets.download(assets[0].id, str(tmp_path / "back.mp4"))
    finally:
        os.umask(before)
    assert mode_of(path) == 0o640


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_what_is_there_already_stays_unless_it_may_be_overwritten(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    good = tmp_path / "good.mp4"
    write(good, b"precious")
    with pytest.raises(FileRefused) as caught:
        await sync.assets.download(assets[0].id, good)
    assert (caught.value.code, content(good), sandbox.requests) == ("file_exists", b"precious", [])
    await sync.assets.download(assets[0].id, good, overwrite=True)
    assert content(good) == content(CLIP)
    assert left_in(tmp_path) == {"good.mp4"}


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_what_comes_to_be_there_meanwhile_stays_too(
    sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    good = tmp_path / "good.mp4"

    async def interfere(transfer: Transfer) -> None:
        write(good, b"precious")

    with pytest.raises(FileRefused) as caught:
        await sync.assets.download(assets[0].id, good, on_progress=interfere)
    assert (caught.value.code, content(good), left_in(tmp_path)) == ("file_exists", b"precious", {"good.mp4"})


def test_a_file_system_without_links_keeps_what_is_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    part, good = tmp_path / "part", tmp_path / "good"
    write(part, b"new")
    move_into_place(part, good, overwrite=False)
    assert (content(good), part.exists()) == (b"new", False)
    write(part, b"newer")
    with pytest.raises(FileRefused, match="there already"):
        move_into_place(part, good, overwrite=False)
    assert content(good) == b"new"


async def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    for place in (tmp_path, tmp_path / "missing" / "a.mp4", "bad\0.mp4"):
        with pytest.raises(FileRefused) as caught:
            await sync.assets.download(assets[0].id, place)
        assert caught.value.code == "file_not_writable"
        assert caught.value.next_step
    assert sandbox.requests == []


@both_backends
async def test_a_cut_download_goes_on_where_it_was_cut(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path, pauses: list[float]
) -> None:
    size = len(content(CLIP))
    sandbox.add_fault(Fault(method="GET", path="/storage/*", cut_body=True, times=2))
    path = await sync.assets.download(assets[0].id, tmp_path / "back.mp4")
    assert content(path) == content(CLIP)
    assert gets(sandbox) == [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]
    # Each with a URL of its own.
    assert len([one for one in sandbox.requests if one.path.endswith("/download")]) == 3


async def test_an_expired_url_is_renewed_and_the_tries_are_bounded(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path, pauses: list[float]
) -> None:
    expired = "<Error><Code>AccessDenied</Code></Error>"
    sandbox.add_fault(Fault(method="GET", path="/storage/*", status=403, body=expired, times=4))
    path = await sync.assets.download(assets[0].id, tmp_path / "back.mp4")
    assert (content(path), len(gets(sandbox))) == (content(CLIP), 5)
    sandbox.add_fault(Fault(method="GET", path="/storage/*", status=403, body=expired, times=None))
    with pytest.raises(APIResponseError, match="403 AccessDenied") as caught:
        await sync.assets.download(assets[0].id, tmp_path / "again.mp4")
    assert (len(gets(sandbox)), left_in(tmp_path)) == (10, {"back.mp4"})
    assert "X-Amz" not in everything_of(caught.value)


async def test_a_file_that_is_gone_is_not_asked_for_again(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path
) -> None:
    sandbox.add_fault(Fault(method="GET", path="/storage/*", status=404, body=""))
    with pytest.raises(APIResponseError, match="HTTP 404"):
        await sync.assets.download(assets[0].id, tmp_path / "back.mp4")
    with pytest.raises(NotFoundError):
        await sync.assets.download(NOBODY, tmp_path / "back.mp4")
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example/a.mp4?X-Amz-Signature=s3cret",
        "http://127.0.0.1:1/a.mp4?X-Amz-Signature=s3cret",
        "http://169.254.169.254/latest/meta-data/?X-Amz-Signature=s3cret",
        "file:///etc/passwd",
        "not a url",
        "",
    ],
)
async def test_only_public_https_hosts_and_the_apis_own_are_asked(
    sandbox: Sandbox, sync: AsyncSync, assets: list[Asset], tmp_path: Path, url: str
) -> None:
    sandbox.add_fault(Fault(path="*/download", status=200, body=url))
    with pytest.raises(APIResponseError) as caught:
        await sync.assets.download(assets[0].id, tmp_path / "back.mp4")
    assert caught.value.code == "url_refused"
    assert "s3cret" not in everything_of(caught.value)
    assert left_in(tmp_path) == set()


# A storage that answers as it likes


class Fetch:
    """Fetches from a raw server, whose every answer is the test's own."""

    def __init__(self, server: RawServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.transport = Transport(api_key=KEY, base_url=server.url, timeout_seconds=5, max_retries=3)

    async def __call__(self, limit_bytes: int = 100 * 1024 * 1024) -> bytes:
        async with fetch_file(self.transport, self._url, self._folder, limit_bytes=limit_bytes) as part:
            return content(part)

    async def _url(self) -> str:
        return f"{self._server.url}/file?X-Amz-Signature=s3cret"


@pytest.fixture
async def fetch_of(
    serve: Serve, tmp_path: Path, pauses: list[float]
) -> AsyncIterator[Callable[..., tuple[Fetch, RawServer]]]:
    """Make a fetch from a server with these answers."""
    made: list[Fetch] = []

    def make(*answers: Answer) -> tuple[Fetch, RawServer]:
        server = serve(*answers)
        made.append(Fetch(server, tmp_path))
        return made[-1], server

    yield make
    for fetch in made:
        await fetch.transport.aclose()


FetchOf = Callable[..., tuple[Fetch, RawServer]]


def cut(body: bytes, at: int, **headers: str) -> Answer:
    """Return a whole answer's head and the first part of its body."""
    whole = answer(200, body, headers)
    return Answer(whole.data[: len(whole.data) - len(body) + at])


def part(body: bytes, start: int, total: int, **headers: str) -> Answer:
    end = start + len(body) - 1
    return answer(206, body, {"Content-Range": f"bytes {start}-{end}/{total}", **headers})


async def test_a_file_that_changed_between_two_parts_comes_anew(fetch_of: FetchOf) -> None:
    old, new = CONTENT, CONTENT[::-1]
    half = len(old) // 2
    # A storage that does not know If-Range.
    fetch, server = fetch_of(
        cut(old, half, ETag='"old"'), part(new[half:], half, len(new), ETag='"new"'), answer(200, new)
    )
    assert await fetch() == new
    assert server.received[1].headers["if-range"] == '"old"'
    assert [one.headers.get("range") for one in server.received] == [None, f"bytes={half}-", None]


async def test_a_storage_that_knows_no_ranges_sends_all_again(fetch_of: FetchOf) -> None:
    fetch, _ = fetch_of(cut(CONTENT, 2_000_000), answer(200, CONTENT[:1_500_000]))
    # Shorter than what was there before the cut: nothing of that stays.
    assert await fetch() == CONTENT[:1_500_000]


async def test_a_part_that_is_there_no_more_is_asked_for_from_the_beginning(fetch_of: FetchOf) -> None:
    fetch, server = fetch_of(cut(CONTENT, 1000), answer(416, b""), answer(200, b"short"))
    assert await fetch() == b"short"
    assert server.received[2].headers.get("range") is None


@pytest.mark.parametrize(
    "told", [{}, {"ETag": 'W/"weak"'}, {"Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"}]
)
async def test_without_a_strong_etag_a_cut_download_begins_anew(
    fetch_of: FetchOf, told: dict[str, str]
) -> None:
    old, new = CONTENT, CONTENT[::-1]
    fetch, server = fetch_of(cut(old, len(old) // 2, **told), answer(200, new, told))
    assert await fetch() == new
    assert [one.headers.get("range") for one in server.received] == [None, None]


async def test_a_download_has_an_end_in_time(
    fetch_of: FetchOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads_module, "_LONGEST_SECONDS", 0.1)
    fetch, _ = fetch_of(Answer(cut(CONTENT, 5).data, hangs=True))
    with anyio.fail_after(10), pytest.raises(APITimeoutError, match="hours"):
        await fetch()
    assert left_in(tmp_path) == set()


async def test_what_a_killed_process_left_is_removed_after_a_day(fetch_of: FetchOf, tmp_path: Path) -> None:
    fetch, _ = fetch_of(answer(200, b"content"))
    long_ago = time.time() - 25 * 3600
    old, young = (tmp_path / f".sync-mcp-{16 * digit}.part" for digit in "01")
    others = [
        tmp_path / name for name in (".sync-mcp-2.part", f".{16 * '3'}.part", f"sync-mcp-{16 * '4'}.part")
    ]
    for path in (old, young, *others):
        path.write_bytes(b"begun")
    for path in (old, *others):
        os.utime(path, (long_ago, long_ago))
    link, folder = (tmp_path / f".sync-mcp-{16 * digit}.part" for digit in "56")
    link.symlink_to(others[0])
    os.utime(link, (long_ago, long_ago), follow_symlinks=False)
    folder.mkdir()
    os.utime(folder, (long_ago, long_ago))
    assert await fetch() == b"content"
    assert left_in(tmp_path) == {path.name for path in (young, link, folder, *others)}


async def test_a_file_on_its_way_has_a_name_that_is_swept(fetch_of: FetchOf, tmp_path: Path) -> None:
    fetch, server = fetch_of(answer(200, b"content"))

    async def url() -> str:
        return server.url

    async with fetch_file(fetch.transport, url, tmp_path) as part:
        assert re.fullmatch(r"\.sync-mcp-[0-9a-f]{16}\.part", part.name)


async def test_steps_forward_give_new_tries(fetch_of: FetchOf, monkeypatch: pytest.MonkeyPatch) -> None:
    size, step = len(CONTENT), 1_200_000
    many = CONTENT * 3
    answers = [cut(many, step, ETag='"one"')]
    for start in range(step, 6 * step, step):
        answers.append(
            Answer(
                f'HTTP/1.1 206 P\r\nETag: "one"\r\nContent-Length: {len(many) - start}\r\n'
                f"Content-Range: bytes {start}-{len(many) - 1}/{len(many)}\r\n\r\n".encode()
                + many[start : start + step]
            )
        )
    answers.append(part(many[6 * step :], 6 * step, len(many), ETag='"one"'))
    fetch, server = fetch_of(*answers)
    assert await fetch() == many
    assert (server.connections, size * 3) == (7, len(many))
    # But not without end.
    monkeypatch.setattr(downloads_module, "_MOST_TRIES", 5)
    fetch, server = fetch_of(*answers)
    with pytest.raises(APIResponseError):
        await fetch()
    assert server.connections == 5


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(Answer(resets=True), id="reset"),
        pytest.param(Answer(b"no HTTP\r\n\r\n"), id="garbage"),
        pytest.param(Answer(b"HTTP/1.1 200 OK\r\n\r\nall of it?"), id="no length"),
        pytest.param(answer(206, b"abc"), id="part of nothing"),
        pytest.param(answer(503, b""), id="503"),
        pytest.param(cut(b"abc", 0), id="cut"),
    ],
)
async def test_what_does_not_end_well_is_tried_four_times_and_leaves_nothing(
    fetch_of: FetchOf, tmp_path: Path, strange: Answer
) -> None:
    fetch, server = fetch_of(strange)
    with pytest.raises((APIResponseError, APIConnectionError, APITimeoutError)) as caught:
        await fetch()
    assert server.connections == 4
    assert "s3cret" not in everything_of(caught.value)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("strange", "said"),
    [
        (answer(200, b"x", {"Content-Encoding": "gzip"}), "compressed"),
        (answer(404, b""), "HTTP 404"),
        (answer(302, b"", {"Location": "http://files.example/a"}), "no https URL"),
        (answer(302, b"", {"Location": "https://[broken"}), "is not a URL"),
        (answer(302, b"", {"Location": "ftp://127.0.0.1/a"}), "no https URL"),
        (answer(302, b"", {"Location": "https://localhost:1/a"}), "cannot be reached|this machine"),
        (answer(302, b""), "HTTP 302"),
        (answer(302, b"", {"Location": "/again"}), "without end"),
    ],
)
async def test_what_cannot_be_changed_is_final(fetch_of: FetchOf, strange: Answer, said: str) -> None:
    fetch, _ = fetch_of(strange)
    with pytest.raises((APIResponseError, APIConnectionError), match=said):
        await fetch()


@both_backends
async def test_a_redirect_is_followed_without_the_key(fetch_of: FetchOf) -> None:
    fetch, server = fetch_of(answer(307, b"", {"Location": "/elsewhere?sig=1"}), answer(200, CONTENT))
    assert await fetch() == CONTENT
    assert [one.target for one in server.received][1] == "/elsewhere?sig=1"
    assert KEY not in str(server.received)


async def test_more_than_the_limit_is_not_written(fetch_of: FetchOf, tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n"
    fetch, _ = fetch_of(answer(200, CONTENT), Answer(chunked))
    with pytest.raises(FileRefused) as caught:
        await fetch(limit_bytes=999)
    assert caught.value.code == "file_too_large"
    with pytest.raises(APIResponseError, match="more than"):
        await fetch(limit_bytes=999)
    assert await fetch(limit_bytes=1000) == bytes(1000)
    assert left_in(tmp_path) == set()


async def test_a_storage_that_drips_or_falls_silent_is_given_up(
    fetch_of: FetchOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_STORAGE_SECONDS", 0.2)
    monkeypatch.setattr(storage, "_SLOWEST_BYTES_PER_SECOND", 10**9)
    for strange in (Answer(drips=True), Answer(hangs=True), Answer(cut(CONTENT, 5).data, hangs=True)):
        fetch, _ = fetch_of(strange)
        with anyio.fail_after(10), pytest.raises(APITimeoutError):
            await fetch()


@both_backends
async def test_a_cancelled_download_leaves_nothing(serve: Serve, client_of: ClientOf, tmp_path: Path) -> None:
    server = serve(answer(200, b""))
    server.answers[:] = [
        answer(200, f"{server.url}/file".encode(), kind="text/plain"),
        Answer(cut(CONTENT, 1_500_000).data, hangs=True),
    ]
    client = client_of(server)
    arrived = anyio.Event()

    async def note(transfer: Transfer) -> None:
        arrived.set()

    async def download() -> None:
        await client.assets.download("a1", tmp_path / "back.mp4", on_progress=note)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(download)
            await arrived.wait()
            assert len(left_in(tmp_path)) == 1
            tasks.cancel_scope.cancel()
    await until(lambda: left_in(tmp_path) == set())


# Counted, found together, renamed


async def test_assets_are_counted_found_together_and_renamed(sync: AsyncSync, assets: list[Asset]) -> None:
    assert await sync.assets.count() == 2
    found = await sync.assets.batch_get([assets[0].id, NOBODY])
    assert [asset.id for asset in found] == [assets[0].id]
    renamed = await sync.assets.update(assets[0].id, name="Interview", visibility="ORGANIZATION")
    assert (renamed.id, renamed.name, renamed.visibility) == (assets[0].id, "Interview", "ORGANIZATION")
    assert await sync.assets.get(assets[0].id) == renamed


async def test_an_update_that_says_nothing_and_too_many_ids_are_not_sent(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    for refused in (
        sync.assets.update(NOBODY),
        sync.assets.batch_get([]),
        sync.assets.batch_get([NOBODY] * 101),
        sync.assets.batch_get(["a/b"]),
    ):
        with pytest.raises(InvalidRequestError):
            await refused
    assert sandbox.requests == []


@pytest.mark.parametrize("told", [{"count": 2}, -1, True, "2", None])
async def test_what_is_no_count_is_one_typed_error(serve: Serve, client_of: ClientOf, told: object) -> None:
    with pytest.raises(APIResponseError):
        await client_of(serve(answer(200, told))).assets.count()
