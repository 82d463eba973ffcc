"""Who may come in, what is written down of a caller, and what others find in its folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from sync_mcp.sandbox import Sandbox
from tests.media.clips import make_media
from tests.sandbox.wire import KEY, ask, audio, code_of, create, lipsync, uploaded, video

TOKEN = "token-of-the-team-0123456789"
NAME = "sandbox.example"
PATHS = ("/v2/models", "/v2/nothing", "/sandbox", "/sandbox/requests", "/samples/speaker.jpg", "/storage/x")


# By which name it is called, and by whose page


@pytest.mark.parametrize("path", PATHS)
def test_a_page_whose_name_leads_here_is_refused_on_every_path(sandbox: Sandbox, path: str) -> None:
    for name in ("evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost@evil.example", ""):
        answer = ask("GET", f"{sandbox.url}{path}", headers={**KEY, "host": name})
        assert (answer.status_code, answer.headers["x-sync-sandbox"]) == (421, "1")
    assert sandbox.requests == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8787"])
def test_this_machines_own_names_are_let_in(sandbox: Sandbox, name: str) -> None:
    assert ask("GET", f"{sandbox.url}/v2/models", headers={**KEY, "host": name}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_others_is_refused_on_every_path(sandbox: Sandbox, path: str) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://", "localhost"):
        answer = ask("GET", f"{sandbox.url}{path}", headers={**KEY, "origin": origin})
        assert answer.status_code == 403
    assert sandbox.requests == []


def test_a_page_of_this_machine_is_let_in(sandbox: Sandbox) -> None:
    origin = {"origin": "http://localhost:6274"}
    assert ask("GET", f"{sandbox.url}/v2/models", headers={**KEY, **origin}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "clock", b'{"advance_seconds": 60}'),
        ("POST", "faults", b'{"status": 500}'),
        ("PATCH", "settings", b'{"plan": "free"}'),
        ("POST", "reset", b"{}"),
    ],
)
def test_a_control_path_wants_a_body_that_says_it_is_json(
    sandbox: Sandbox, api: httpx.Client, method: str, path: str, body: bytes
) -> None:
    create(api, lipsync(sandbox))
    url = f"{sandbox.url}/sandbox/{path}"
    for content_type in ({}, {"content-type": "text/plain"}, {"content-type": ""}):
        assert ask(method, url, content=body, headers=content_type).status_code == 415
    assert ask(method, url, content=b"", headers={"content-type": "application/json"}).status_code == 400
    assert ask(method, url, content=b'{"no": 1}', headers={"content-type": "application/json"}).is_error
    assert len(sandbox.charges) == 1
    assert ask("GET", f"{sandbox.url}/sandbox/faults").json() == []
    assert sandbox.settings.plan == "scale"


# What is written down


def test_no_key_is_written_down_and_that_there_was_one_is(sandbox: Sandbox, api: httpx.Client) -> None:
    secrets = {"x-api-key": "sk_live_SECRET", "authorization": "Bearer SECRET", "cookie": "session=SECRET"}
    api.post("/v2/generate", json=lipsync(sandbox), headers=secrets)
    ask("GET", sandbox.samples.video, headers=secrets)
    ask("GET", f"{sandbox.url}/v2/models")
    told = ask("GET", f"{sandbox.url}/sandbox/requests").json()
    for records in (told, [record.to_json() for record in sandbox.requests]):
        assert "SECRET" not in str(records)
    assert ["x-api-key" in record.headers for record in sandbox.requests] == [True, True, False]
    assert "SECRET" not in str(ask("GET", f"{sandbox.url}/sandbox/generations").json())
    assert sandbox.requests[1].flags == ["key_sent_to_storage"]


@pytest.mark.skipif(os.name != "posix", reason="this system has no modes")
def test_its_folder_stays_this_users_alone_after_a_reset() -> None:
    before = os.umask(0o022)
    try:
        with Sandbox() as sandbox:
            folder = sandbox.folder
            for reset in (
                sandbox.reset,
                lambda: ask("POST", f"{sandbox.url}/sandbox/reset", json={}).raise_for_status(),
            ):
                (folder / "uploads" / "1").write_bytes(b"video")
                inode = folder.stat().st_ino
                reset()
                assert (folder.stat().st_mode & 0o777, folder.stat().st_ino) == (0o700, inode)
                assert list((folder / "uploads").iterdir()) == []
    finally:
        os.umask(before)


# Who others are


@pytest.mark.parametrize(
    "how",
    [
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "tokens": [TOKEN]},
        {"host": "0.0.0.0", "allowed_hosts": [NAME]},
        {"host": "::", "allowed_hosts": [NAME]},
        {"host": "127.0.0.2"},
        {"allowed_hosts": [NAME]},
    ],
)
def test_where_others_can_reach_it_a_token_and_a_name_are_needed(how: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs tokens and allowed_hosts"):
        Sandbox(**how)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox("0.0.0.0", tokens=[TOKEN, "another-token-01234567"], allowed_hosts=[NAME]) as sandbox:
        yield sandbox


@pytest.fixture
def of_others(shared: Sandbox) -> Iterator[httpx.Client]:
    """A client elsewhere, as far as the server can tell: it calls by the name that it was given."""
    shared.reset()
    port = int(shared.url.rpartition(":")[2])
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"host": f"{NAME}:{port}"}, verify=False, timeout=15
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/v2/models", "/v2/errors", "/v2/nothing", "/sandbox", "/sandbox/requests"])
@pytest.mark.parametrize("key", [None, "any", "sk_invalid", TOKEN[:-1], f"{TOKEN}x", "töken", ""])
def test_with_a_token_no_other_key_opens_anything(
    of_others: httpx.Client, path: str, key: str | None
) -> None:
    headers = {} if key is None else {b"x-api-key": key.encode()}
    answer = of_others.get(path, headers=headers)  # pyright: ignore[reportArgumentType]
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized", "statusCode": 401})


def test_with_its_token_all_works_and_the_storage_wants_none(
    shared: Sandbox, of_others: httpx.Client
) -> None:
    assert shared.url.startswith(f"http://{NAME}:")
    keyed = {"x-api-key": TOKEN}
    told = of_others.get("/sandbox", headers=keyed).json()
    assert told["key"] == "Only its token is good as x-api-key."
    made = of_others.post("/v2/generate", json=lipsync(shared), headers=keyed).json()
    assert of_others.post("/sandbox/clock", json={"advance_seconds": 60}).status_code == 401
    clock = of_others.post("/sandbox/clock", json={"advance_seconds": 60}, headers=keyed)
    assert clock.status_code == 200
    output = of_others.get(f"/v2/generate/{made['id']}", headers=keyed).json()["outputUrl"]
    assert output.startswith(f"{shared.url}/outputs/")
    assert of_others.get(output.removeprefix(shared.url)).content[4:8] == b"ftyp"


def test_an_upload_lies_where_nobody_guesses(sandbox: Sandbox, api: httpx.Client) -> None:
    asked = {"fileName": "v.mp4", "contentType": "video/mp4", "size": 1}
    with Sandbox() as other:
        places = [
            ask("POST", f"{one.url}/v2/assets/upload", json=asked, headers=KEY).json()
            for one in (sandbox, other)
        ]
        ends = [
            place["url"].removeprefix(one.url) for place, one in zip(places, (sandbox, other), strict=True)
        ]
    assert ends[0] != ends[1]


# How strictly it opens media


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("old.mov", {"picture": "cinepak", "pixels": "rgb24"}),
        ("film.mov", {"picture": "jpeg2000"}),
        ("huge.jpg", None),
    ],
)
def test_what_the_product_would_not_decode_the_sandbox_does_not_either(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path, name: str, more: dict[str, object] | None
) -> None:
    path = tmp_path / name
    if more is None:
        Image.new("L", (12_000, 9000)).save(path)
        item = {"type": "image", "assetId": uploaded(api, name, "image/jpeg", path.read_bytes())}
        body = {"model": "sync-3", "input": [item, audio(sandbox)]}
        expected = (422, "generation_input_validation_failed")
    else:
        make_media(path, **more)  # pyright: ignore[reportArgumentType]
        item = {"type": "video", "assetId": uploaded(api, name, "video/quicktime", path.read_bytes())}
        body = lipsync(sandbox, input=[item, audio(sandbox)])
        expected = (422, "generation_input_video_invalid")
    refused = api.post("/v2/generate", json=body)
    assert code_of(refused) == expected
    assert "decoded here" in refused.json()["message"]


def test_a_playlist_that_calls_itself_a_video_is_none(
    sandbox: Sandbox, api: httpx.Client, tmp_path: Path
) -> None:
    inside = make_media(tmp_path / "inside.mp4", picture="libx264")
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{inside}\n#EXT-X-ENDLIST\n".encode()
    item = {"type": "video", "assetId": uploaded(api, "v.mp4", "video/mp4", playlist)}
    refused = api.post("/v2/generate", json=lipsync(sandbox, input=[item, audio(sandbox)]))
    assert code_of(refused) == (422, "generation_input_video_invalid")
    assert create(api, lipsync(sandbox, input=[video(sandbox), audio(sandbox)]))["status"] == "PENDING"
