import hashlib

import httpx

from sync_mcp.sandbox import Sandbox
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.wire import KEY, Json, ask, audio, code_of, create, lipsync

CLIP = sample("speaker.mp4").read_bytes()


def _presigned(api: httpx.Client, name: str = "my clip.mp4", content_type: str = "video/mp4") -> Json:
    body = {"fileName": name, "contentType": content_type, "size": len(CLIP)}
    response = api.post("/v2/assets/upload", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def _put(upload: Json, key: dict[str, str] | None = None) -> httpx.Response:
    headers = {"content-type": "video/mp4"} | (key or {})
    return ask("PUT", upload["uploadUrl"], content=CLIP, headers=headers)


def _asset(api: httpx.Client, **fields: object) -> Json:
    upload = _presigned(api)
    assert _put(upload).status_code == 200
    response = api.post("/v2/assets", json={"url": upload["url"], "type": "VIDEO"} | fields)
    assert response.status_code == 201, response.text
    return response.json()


def test_an_uploaded_video_becomes_an_asset_that_a_generation_takes(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    asset = _asset(api, name="Clip")
    assert (asset["type"], asset["name"], asset["size"]) == ("VIDEO", "Clip", len(CLIP))
    assert (asset["durationSeconds"], asset["width"], asset["format"]) == (5.0, 360, "mp4")
    items = [{"type": "video", "assetId": asset["id"]}, audio(sandbox)]
    assert create(api, lipsync(sandbox, input=items))["input"][0] == items[0]


def test_an_upload_needs_the_content_type_it_was_signed_for(api: httpx.Client) -> None:
    response = ask("PUT", _presigned(api)["uploadUrl"], content=CLIP, headers={"content-type": "video/webm"})
    assert response.status_code == 403
    assert response.headers["content-type"].startswith("application/xml")
    assert "<Code>SignatureDoesNotMatch</Code>" in response.text


def test_an_upload_url_expires_on_the_sandboxs_clock(sandbox: Sandbox, api: httpx.Client) -> None:
    upload = _presigned(api)
    sandbox.advance(upload["expiresIn"])
    assert "<Code>AccessDenied</Code>" in _put(upload).text


def test_a_key_that_is_sent_to_the_storage_is_flagged(sandbox: Sandbox, api: httpx.Client) -> None:
    upload = _presigned(api)
    _put(upload)
    _put(upload, KEY)
    flags = [request.flags for request in sandbox.requests if request.method == "PUT"]
    assert flags == [[], ["key_sent_to_storage"]]


def test_only_what_was_uploaded_to_the_storage_can_be_registered(sandbox: Sandbox, api: httpx.Client) -> None:
    def register(url: str) -> tuple[int, str | None]:
        return code_of(api.post("/v2/assets", json={"url": url, "type": "VIDEO"}))

    assert register(_presigned(api)["url"]) == (422, "uploaded_file_not_found")
    assert register("https://example.com/clip.mp4") == (422, "file_not_in_org_storage")
    assert register(sandbox.samples.video) == (422, "file_not_in_org_storage")


def test_an_asset_of_another_type_or_unknown_is_refused(sandbox: Sandbox, api: httpx.Client) -> None:
    asset = _asset(api)
    wrong = [{"type": "video", "assetId": asset["id"]}, {"type": "audio", "assetId": asset["id"]}]
    response = api.post("/v2/generate", json=lipsync(sandbox, input=wrong))
    assert code_of(response) == (422, "generation_input_asset_type_mismatch")
    unknown = [{"type": "video", "assetId": "00000000-0000-4000-8000-000000000000"}, audio(sandbox)]
    assert code_of(api.post("/v2/generate", json=lipsync(sandbox, input=unknown))) == (404, "asset_not_found")


def test_assets_are_listed_found_edited_and_deleted(api: httpx.Client) -> None:
    digest = hashlib.sha256(CLIP).hexdigest()
    ids = [_asset(api, name=name, contentSha256=digest)["id"] for name in ("one", "two", "three")]
    page = api.get("/v2/assets", params={"limit": 2}).json()
    assert [row["id"] for row in page["items"]] == [ids[2], ids[1]]
    rest = api.get("/v2/assets", params={"limit": 2, "cursor": page["nextCursor"]}).json()
    assert [row["id"] for row in rest["items"]] == [ids[0]]
    assert "nextCursor" not in rest
    by_name = api.get("/v2/assets", params={"sortBy": "nameAsc", "searchQuery": "t"}).json()["items"]
    assert [row["name"] for row in by_name] == ["three", "two"]
    assert api.get("/v2/assets", params={"types": '["AUDIO"]'}).json()["items"] == []
    assert api.get("/v2/assets/count").json() == 3
    found = api.get("/v2/assets/uploaded", params={"contentSha256": digest, "type": "VIDEO"}).json()
    assert found["asset"]["id"] == ids[2]
    assert api.patch(f"/v2/assets/{ids[0]}", json={"name": "uno"}).json()["name"] == "uno"
    assert api.delete(f"/v2/assets/{ids[0]}").json() == {"id": ids[0]}
    assert code_of(api.get(f"/v2/assets/{ids[0]}")) == (404, "asset_not_found")
    assert code_of(api.get("/v2/assets/first")) == (400, "invalid_asset_id_format")


def test_an_assets_file_is_downloaded_by_a_signed_url_that_expires(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    response = api.get(f"/v2/assets/{_asset(api)['id']}/download")
    assert response.headers["content-type"].startswith("text/plain")
    assert ask("GET", response.text).content == CLIP
    sandbox.advance(sandbox.settings.output_url_seconds)
    assert "<Code>AccessDenied</Code>" in ask("GET", response.text).text


def test_several_assets_are_shown_at_once_without_those_that_are_not_there(api: httpx.Client) -> None:
    ids = [_asset(api)["id"] for _ in range(2)]
    unknown = "00000000-0000-4000-8000-000000000000"

    def batch(ids: object) -> httpx.Response:
        return api.post("/v2/assets/batch", json={"ids": ids})

    assert [asset["id"] for asset in batch([ids[1], unknown, ids[0]]).json()] == [ids[1], ids[0]]
    assert [asset["id"] for asset in batch(ids[0]).json()] == [ids[0]]
    assert batch([]).status_code == batch([unknown] * 101).status_code == batch(None).status_code == 400
    assert code_of(batch(["first"])) == (400, "invalid_asset_id_format")


def test_only_the_key_that_registered_a_hash_finds_it(api: httpx.Client) -> None:
    query = {"contentSha256": hashlib.sha256(CLIP).hexdigest(), "type": "VIDEO"}
    _asset(api)
    assert api.get("/v2/assets/uploaded", params=query).json() == {"asset": None}
    asset = _asset(api, contentSha256=query["contentSha256"])
    assert api.get("/v2/assets/uploaded", params=query).json() == {"asset": asset}
    other = {"x-api-key": "sk_other"}
    assert api.get("/v2/assets/uploaded", params=query, headers=other).json() == {"asset": None}
    assert api.get("/v2/assets/uploaded", params=query | {"type": "AUDIO"}).json() == {"asset": None}
    assert api.get("/v2/assets/uploaded", params=query | {"type": "FILM"}).status_code == 400
    assert api.get("/v2/assets/uploaded", params=query | {"contentSha256": "ABC"}).status_code == 400


def test_a_hash_that_is_not_the_files_is_refused(api: httpx.Client) -> None:
    upload = _presigned(api)
    _put(upload)
    for wrong in ("0" * 64, "0" * 63, hashlib.sha256(CLIP).hexdigest().upper()):
        body = {"url": upload["url"], "type": "VIDEO", "contentSha256": wrong}
        assert api.post("/v2/assets", json=body).status_code == 400


def test_an_asset_of_another_key_is_seen_and_cannot_be_deleted(api: httpx.Client) -> None:
    asset = _asset(api)
    other = {"x-api-key": "sk_other"}
    assert api.get(f"/v2/assets/{asset['id']}", headers=other).json() == asset
    assert code_of(api.delete(f"/v2/assets/{asset['id']}", headers=other)) == (403, "asset_forbidden")
    assert api.delete(f"/v2/assets/{asset['id']}").status_code == 200


def test_a_file_above_the_apis_limit_gets_no_place(api: httpx.Client) -> None:
    body: Json = {"fileName": "a.mp4", "contentType": "video/mp4", "size": 5 * 1024**3}
    assert api.post("/v2/assets/upload", json=body).status_code == 201
    assert api.post("/v2/assets/upload", json={**body, "size": 5 * 1024**3 + 1}).status_code == 400
