"""What means the same is one intention, what does not is another, and no upgrade changes which is which."""

import json
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from hypothesis import given, strategies as st

from sync_mcp import InvalidRequestError
from sync_mcp.api.models import GenerationRequest, LocalMedia
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.files import asset_key
from sync_mcp.payments.intention import DIGEST_VERSION, Intention, differing_extras
from sync_mcp.payments.spelling import in_one_spelling
from sync_mcp.payments.urls import plain_spelling
from tests.payments.entries import generation_of, wire_of

Wire = dict[str, Any]
ACCOUNT, BASE_URL = "org:one", "https://api.sync.so"
VIDEO: Wire = {"type": "video", "url": "https://media.example.com/clip.mp4?id=7"}
AUDIO: Wire = {"type": "audio", "url": "https://media.example.com/voice.wav"}
SHA = "0f" * 32
PLAIN: Wire = {"model": "lipsync-2", "input": [VIDEO, AUDIO]}


def intended(wire: Wire, *, account: str = ACCOUNT, base_url: str = BASE_URL, take: int = 1) -> Intention:
    return Intention(
        GenerationAct.of(GenerationRequest.from_wire(wire)), account=account, base_url=base_url, take=take
    )


def digest(wire: Wire, **more: Any) -> str:
    return intended(wire, **more).digest


def video(url: str) -> Wire:
    return {**PLAIN, "input": [{"type": "video", "url": url}, AUDIO]}


def segment(start: float, end: float, **more: Any) -> Wire:
    return {"startTime": start, "endTime": end, "audioInput": {"refId": "a"}, **more}


# Never change a line of it: what was paid would be paid again. A new way to digest is a new version.
GOLDEN: dict[str, Wire] = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("golden_intentions.json").read_text(encoding="utf-8"))
}


def golden(name: str) -> Intention:
    case = GOLDEN[name]
    more = {"account": case["account"], "base_url": case["baseUrl"], "take": case["take"]}
    wire = case["request"]
    # A local file was written down as it stands in the digest, which is not how one is given.
    return intended({**wire, "input": [_given(item) for item in wire["input"]]}, **more)


def _given(item: Wire) -> Wire | LocalMedia:
    sha256 = str(item.get("assetId", "")).removeprefix("sha256:")
    if item.get("assetId") in (None, sha256):
        return item
    return LocalMedia(type=item["type"], sha256=sha256, name="clip.mp4", ref_id=item.get("refId"))


@pytest.mark.parametrize("name", GOLDEN)
def test_digests_and_keys_are_those_of_the_version_that_is_written(name: str) -> None:
    intention, known = golden(name), GOLDEN[name]["version2"]
    assert DIGEST_VERSION == 2
    assert (intention.body_digest, intention.digest) == (known["body"], known["intention"])
    assert intention.content_digest == known["content"]
    assert [intention.idempotency_key(attempt) for attempt in (1, 2)] == known["keys"]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_digests_of_version_1_are_those_that_version_1_wrote(name: str) -> None:
    intention, known = golden(name), GOLDEN[name]["version1"]
    made = intention.act.earlier_body_digests(intention.account, intention.base_url)
    assert made == (known["body"],)
    assert intention.earlier_digests == (known["intention"],)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_sent_is_what_version_1_sent(name: str) -> None:
    # Compared as text: to Python 1 is 1.0 and True.
    assert _body(golden(name)) == json.dumps(GOLDEN[name]["sent"], sort_keys=True)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_body_that_is_kept_is_the_request_in_json(name: str) -> None:
    intention = golden(name)
    kinds = {media.type for media in intention.act.local_media}
    with_assets = intention.with_assets({asset_key(kind, SHA): "asset" for kind in kinds})
    assert json.dumps(wire_of(with_assets)) == json.dumps(generation_of(with_assets).request.to_wire())


def test_no_digest_of_one_version_or_kind_is_one_of_another() -> None:
    kinds: list[set[str]] = [
        {case[version][kind] for case in GOLDEN.values()}
        for version, kind in [
            ("version1", "body"),
            ("version1", "intention"),
            ("version2", "body"),
            ("version2", "intention"),
            ("version2", "content"),
        ]
    ]
    assert len(set[str]().union(*kinds)) == sum(len(kind) for kind in kinds)


def _changed(**more: Any) -> Wire:
    return {**PLAIN, **more}


def _option(**options: Any) -> Wire:
    return _changed(options=options)


@pytest.mark.parametrize(
    "wire",
    [
        _changed(model=" lipsync-2 "),
        _changed(input=[AUDIO, VIDEO]),
        _changed(options={}, segments=[], dubParams=None),
        _option(sync_mode="bounce"),
        _option(
            temperature=0.5, occlusion_detection_enabled=False, model_mode="face", reasoning_enabled=False
        ),
        _option(active_speaker_detection={"auto_detect": False, "v3": False}),
        _option(active_speaker_detection={}, prompt="", temperature=None),
        _changed(outputFileName="name", webhookUrl="https://h/x", projectId="p"),
        video(" https://media.example.com/clip.mp4?id=7\n"),
        video("HTTPS://Media.Example.COM/clip.mp4?id=7"),
        _changed(input=[VIDEO, {**AUDIO, "refId": "a"}]),
    ],
)
def test_spelling_order_and_defaults_do_not_matter(wire: Wire) -> None:
    assert digest(wire) == digest(PLAIN)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "script": "Hi"}},
            {
                "type": "text",
                "provider": {
                    "script": "Hi",
                    "voiceId": "v",
                    "similarityBoost": 0.75,
                    "stability": 0.5,
                    "name": "elevenlabs",
                },
            },
        ),
        (
            {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "script": "Hi"}},
            {"type": "text", "provider": {"name": "elevenlabs", "voiceId": " v ", "script": "Hi"}},
        ),
        (
            {"type": "audio", "assetId": "0a1b2c3d-0000-4000-8000-00000000abcd"},
            {"type": "audio", "assetId": "0A1B2C3D-0000-4000-8000-00000000ABCD"},
        ),
    ],
)
def test_the_defaults_and_the_spelling_of_a_voice_do_not_matter(first: Wire, second: Wire) -> None:
    assert digest(_changed(input=[VIDEO, first])) == digest(_changed(input=[second, VIDEO]))


def test_the_order_of_segments_and_the_spelling_of_numbers_do_not_matter() -> None:
    first = _changed(segments=[segment(0, 1), segment(2, 3.5)])
    second = _changed(segments=[segment(2.0, 3.5, optionsOverride={}), segment(0.0, 1.0)])
    assert digest(first) == digest(second)
    assert digest(_changed(later=2)) == digest(_changed(later=2.0))


@pytest.mark.parametrize(
    "source", [{}, {"sourceLang": "auto"}, {"providerName": "elevenlabs"}, {"targetLang": " ES"}]
)
def test_the_defaults_and_the_spelling_of_a_dub_do_not_matter(source: Wire) -> None:
    plain = {"model": "lipsync-2", "input": [VIDEO], "dubParams": {"targetLang": "es"}}
    assert digest({**plain, "dubParams": {"targetLang": "es", **source}}) == digest(plain)


DIFFERENT = [
    _changed(model="lipsync-2-pro"),
    _changed(input=[VIDEO]),
    _changed(input=[VIDEO, {**AUDIO, "refId": "a"}], segments=[segment(0, 2)]),
    _option(sync_mode="loop"),
    _option(temperature=0),
    _option(occlusion_detection_enabled=True),
    _option(unheard_of=0),
    _option(unheard_of=False),
    _option(reasoning_enabled=True),
    _option(active_speaker_detection={"auto_detect": True}),
    _changed(segments=[segment(0, 1)]),
    _changed(segments=[segment(0, 1, optionsOverride={"sync_mode": "bounce"})]),
    _changed(newField=1),
    _changed(newField=True),
    video("https://media.example.com/clip.mp4"),
    video("https://media.example.com/clip.mp4?"),
    video("https://media.example.com/clip.mp4?id=8"),
    video("https://media.example.com/clip.mp4?ID=7"),
    video("https://media.example.com/Clip.mp4?id=7"),
    video("https://media.example.com/clip.mp4?id=7&part=1"),
    video("https://media.example.com/clip.mp4?id=7#t=10"),
    video("https://user:Pass@media.example.com/clip.mp4?id=7"),
    video("https://user:pass@media.example.com/clip.mp4?id=7"),
]


@pytest.mark.parametrize("wire", DIFFERENT)
def test_whatever_changes_the_result_is_another_intention(wire: Wire) -> None:
    digests = [digest(other) for other in (PLAIN, *DIFFERENT)]
    assert digests.count(digest(wire)) == 1


SIGNED = {
    "Amazon S3 signature": [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F2026&X-Amz-Date=1&X-Amz-Expires=9"
        "&X-Amz-Security-Token=t&X-Amz-SignedHeaders=host&X-Amz-Signature=s",
        "x-amz-credential=c&x-amz-date=1&x-amz-signature=s",
        "X%2DAmz%2DSignature=s&X-Amz-Credential=c&X-Amz-Date=1",
        "AWSAccessKeyId=AK&Signature=s&Expires=1700000000&x-amz-security-token=t",
    ],
    "Amazon CloudFront signature": [
        "Policy=p&Signature=s&Key-Pair-Id=K&Hash-Algorithm=SHA256",
        "Expires=1&Signature=s&Key-Pair-Id=K",
    ],
    "Google Cloud Storage signature": [
        "X-Goog-Algorithm=GOOG4&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Expires=9&X-Goog-SignedHeaders=host"
        "&X-Goog-Signature=s",
        "GoogleAccessId=g&Expires=1&Signature=s",
    ],
    "Google Cloud CDN signature": ["Expires=1&KeyName=k&Signature=s"],
    "Azure Storage signature": [
        "sv=2024-11-04&st=2026&se=2027&sr=b&sp=r&spr=https&sip=1.2.3.4&skoid=o&sktid=t&skt=1&ske=2&sks=b"
        "&skv=3&sig=s%3D",
        "sv=2024-11-04&si=readers&sr=b&sig=s%3D",
        "sv=2024-11-04&ss=b&srt=o&sp=r&se=2027&sig=s%3D",
    ],
    "Alibaba Cloud OSS signature": [
        "OSSAccessKeyId=o&Expires=1&Signature=s&security-token=t",
        "x-oss-signature-version=OSS2&x-oss-access-key-id=o&x-oss-expires=1&x-oss-signature=s",
        "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=c&x-oss-date=1&x-oss-expires=9"
        "&x-oss-additional-headers=host&x-oss-security-token=t&x-oss-signature=s",
    ],
    "Tencent COS signature": [
        "q-sign-algorithm=sha1&q-ak=AK&q-sign-time=1;2&q-key-time=1;2&q-header-list=host&q-url-param-list="
        "&q-signature=s&x-cos-security-token=t",
    ],
    "Huawei OBS signature": ["AccessKeyId=AK&Expires=1&Signature=s&x-obs-security-token=t"],
}


@pytest.mark.parametrize(
    ("vendor", "signature"), [(vendor, one) for vendor, every in SIGNED.items() for one in every]
)
def test_a_link_that_was_signed_again_is_the_same_clip_and_the_vendor_is_named(
    vendor: str, signature: str
) -> None:
    plain = video("https://h/clip.mp4?id=7")
    for signed in (f"id=7&{signature}", f"{signature}&id=7", f"id=7&{signature.replace('=s', '=other')}"):
        intention = intended(video(f"https://h/clip.mp4?{signed}"))
        assert intention.digest == digest(plain)
        assert intention.act.signers == (vendor,)
    assert digest(video(f"https://h/clip.mp4?id=8&{signature}")) != digest(plain)
    assert digest(video(f"https://h/clip.mp4?{signature}")) == digest(video("https://h/clip.mp4"))
    # It is only the digest that leaves it out: without it the API could not fetch the clip.
    assert f"https://h/clip.mp4?id=7&{signature}" in str(
        generation_of(intended(video(f"https://h/clip.mp4?id=7&{signature}"))).request
    )


@pytest.mark.parametrize(
    ("company", "missing"),
    [
        (company, name)
        for company in (
            "X-Amz-Signature X-Amz-Credential X-Amz-Date",
            "AWSAccessKeyId Signature Expires",
            "Key-Pair-Id Signature Policy",
            "Key-Pair-Id Signature Expires",
            "X-Goog-Signature X-Goog-Credential X-Goog-Date",
            "GoogleAccessId Signature Expires",
            "KeyName Signature Expires",
            "sig sv se",
            "sig sv si",
            "OSSAccessKeyId Signature Expires",
            "x-oss-signature-version x-oss-access-key-id x-oss-signature",
            "x-oss-signature-version x-oss-credential x-oss-signature",
            "q-sign-algorithm q-ak q-sign-time q-signature",
            "AccessKeyId Signature Expires",
        )
        for name in company.split()
    ],
)
def test_a_name_of_a_signature_counts_where_its_company_is_not_whole(company: str, missing: str) -> None:
    def signed(value: str, *left_out: str) -> Intention:
        pairs = [f"{name}={value}" for name in company.split() if name not in left_out]
        return intended(video(f"https://h/clip.mp4?{'&'.join(pairs)}"))

    assert signed("a").digest == signed("b").digest
    assert signed("a", missing).digest != signed("b", missing).digest
    assert signed("a", missing).act.signers == ()


@pytest.mark.parametrize(
    "query",
    [
        "policy={}",
        "signature={}",
        "Signature={}&Expires=1",
        "expires={}",
        "sig={}",
        "sig={}&st=1",
        "sig=s&st={}",
        "sv=1&sig={}",
        "st={}",
        "security-token={}",
        "key-pair-id={}",
        "X-Amz-Signature={}",
        "X-Amz-Signature=s&X-Amz-Meta-Clip={}",
        "x-goog-clip={}",
        "q-signature={}&q-ak=a",
        # Beside a whole signature too: they say what is fetched, or how.
        "versionId={}&X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1",
        "x-oss-process={}&OSSAccessKeyId=o&Expires=1&Signature=s",
        "policy={}&AWSAccessKeyId=AK&Signature=s&Expires=1",
        "st={}&X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1",
    ],
)
def test_what_is_nobodys_signature_tells_clips_apart_on_any_host(query: str) -> None:
    for place in ("https://h/c.mp4", "https://b.s3.amazonaws.com/c.mp4", "https://a.blob.core.windows.net/c"):
        first, second = (video(f"{place}?{query.format(value)}") for value in "ab")
        assert digest(first) != digest(second)


def test_every_vendor_whose_signature_was_left_out_is_named_once() -> None:
    s3 = "X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1"
    wire = _changed(
        input=[
            {"type": "video", "url": f"https://h/clip.mp4?{s3}"},
            {"type": "audio", "url": "https://h/a.wav?sv=1&se=2&sig=s"},
        ],
        options={"active_speaker_detection": {"bounding_boxes_url": f"https://h/boxes.json?{s3}"}},
        webhookUrl="https://h/hook?Key-Pair-Id=K&Signature=s&Expires=1",
    )
    assert sorted(intended(wire).act.signers) == ["Amazon S3 signature", "Azure Storage signature"]
    assert intended(PLAIN).act.signers == ()


@pytest.mark.parametrize(
    ("query", "is_loose"),
    [
        ("id=7", False),
        ("id=7&X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1&X-Amz-Expires=60", False),
        ("sv=1&se=2&sp=r&sig=s", False),
        ("policy=a", True),
        ("sig=a&st=b", True),
        ("x-amz-meta=1&X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1", True),
    ],
)
def test_an_earlier_digest_is_loose_where_version_1_left_out_what_is_no_signature(
    query: str, is_loose: bool
) -> None:
    assert intended(video(f"https://h/clip.mp4?{query}")).act.has_loose_earlier_digest is is_loose
    other = f"https://h/clip.mp4?{query.replace('=a', '=b').replace('=1', '=2')}"
    if is_loose:
        first, second = intended(video(f"https://h/clip.mp4?{query}")), intended(video(other))
        assert first.earlier_digests == second.earlier_digests
        assert first.digest != second.digest


def test_a_signature_does_not_decide_the_order_of_inputs() -> None:
    def voices(*signatures: str) -> Wire:
        signed = "X-Amz-Credential=c&X-Amz-Date=1&X-Amz-Signature="
        parts = [f"https://h/v.wav?{signed}{s}&part={n}" for n, s in enumerate(signatures)]
        return _changed(input=[VIDEO, *({"type": "audio", "url": part} for part in parts)])

    assert digest(voices("a", "b")) == digest(voices("b", "a"))


def test_every_url_of_a_request_may_be_signed_again() -> None:
    def boxes(signature: str) -> Wire:
        url = f"https://h/boxes.json?X-Amz-Credential=c&X-Amz-Date=1&X-Amz-Signature={signature}"
        return _option(active_speaker_detection={"bounding_boxes_url": url})

    assert digest(boxes("a")) == digest(boxes("b")) != digest(PLAIN)


SAME_URLS = [
    ("https://h.example/a.mp4", "https://h.example:443/a.mp4"),
    ("https://h.example/a.mp4", "https://h.example:0443/a.mp4"),
    ("https://h.example/a.mp4", "https://h.example:/a.mp4"),
    ("http://h.example/a.mp4", "http://h.example:80/a.mp4"),
    ("https://h.example:8443/a.mp4", "https://h.example:08443/a.mp4"),
    ("https://h.example/a.mp4", "https://h.example./a.mp4"),
    ("https://h.example/a.mp4", "HTTPS://H.Example.:443/a.mp4"),
    ("https://[2001:db8::1]/a.mp4", "https://[2001:DB8::1]:443/a.mp4"),
    ("https://h.example", "https://h.example/"),
    ("https://h.example?a=1", "https://h.example/?a=1"),
    ("https://h/~me/a-b_c.mp4", "https://h/%7Eme/%61%2db%5fc%2Emp4"),
    ("https://h/a?q=~b", "https://h/a?q=%7e%62"),
    ("https://h/a%2Fb?c=%2F", "https://h/a%2fb?c=%2f"),
    ("https://h/a%C3%BC", "https://h/aü"),
    ("https://h/a%C3%BC?q=%C3%BC#%C3%BC", "https://h/a%c3%bc?q=ü#ü"),
    ("https://h/a%20b?q=%7B%7C%7D", "https://h/a b?q={|}"),
    ("https://h/你好.mp4", "https://h/%e4%bd%a0%E5%A5%BD.mp4"),
    ("https://%C3%BC:p%C3%BC@h/a", "https://ü:pü@h/a"),
    ("https://h/b/a.mp4", "https://h/./x/../b/%2e/y/%2E%2E/a.mp4"),
    ("https://h/a.mp4", "https://h/../../a.mp4"),
    ("https://h/a/", "https://h/a/b/.."),
    ("https://h/a/", "https://h/a/."),
    ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
    ("https://bücher.example/a", "https://BÜCHER.example.:443/a"),
    ("https://bücher.example/a", "https://bu\u0308cher.example/a"),
    ("https://bücher.example/a", "https://b%C3%BCcher.example/a"),
    ("https://bücher.example/a", "https://b%c3%bccher。example/a"),
    ("https://bücher.example/a", "https://XN--BCHER-KVA.Example/a"),
    ("https://my_files.bücher.example/a", "https://my_files.xn--bcher-kva.example/a"),
    ("https://💩.example/a", "https://xn--ls8h.example/a"),
    ("https://example.com/a", "https://\uff45xample\uff0ecom/a"),
    ("https://example.com/a", "https://%65xample.com/a"),
    ("https://example.com/a", "https://%45xample.com/a"),
]


@pytest.mark.parametrize(("first", "second"), SAME_URLS)
def test_urls_that_the_standard_calls_equal_are_one_intention(first: str, second: str) -> None:
    assert digest(video(first)) == digest(video(second))
    # So does a search for the job of one know it by the other.
    assert in_one_spelling(video(first)) == in_one_spelling(video(second))


def test_a_link_that_was_signed_again_may_have_another_spelling_too() -> None:
    signed = "https://H.example:443/%7Ea?q=ü&X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=1"
    assert digest(video(signed)) == digest(video("https://h.example/~a?q=%C3%BC"))


DIFFERENT_URLS = [
    ("https://h/a%2Fb", "https://h/a/b"),
    ("https://h/a%2Fb", "https://h/a%252Fb"),
    ("https://h/a%3Fb", "https://h/a?b"),
    ("https://h/a%23b", "https://h/a#b"),
    ("https://h/a?b=1%26c=2", "https://h/a?b=1&c=2"),
    ("https://h/a+b", "https://h/a%20b"),
    ("https://h/a?q=a+b", "https://h/a?q=a%2Bb"),
    ("https://h/a\\b", "https://h/a/b"),
    ("https://h/a\\b", "https://h/a%5Cb"),
    ("https://h/a", "https://h/A"),
    ("https://h/a", "https://h/a/"),
    ("https://h/a//b", "https://h/a/b"),
    ("https://h/a", "https://h/a."),
    ("https://h/..a/b", "https://h/b"),
    ("https://h/a?x=/../b", "https://h/a?x=/b"),
    ("https://h/a", "https://h/a?"),
    ("https://h/a", "http://h/a"),
    ("https://h/a", "https://h:80/a"),
    ("http://h/a", "http://h:443/a"),
    ("https://h/a", "https://h:0/a"),
    ("https://h/a", "https://h../a"),
    ("https://h./a", "https://h../a"),
    ("https://h/a", "https://h::443/a"),
    # What two words look the same is two names of files.
    ("https://h/\u00fc", "https://h/u\u0308"),
    ("https://straße.example/a", "https://strasse.example/a"),
    ("https://bücher.example/a", "https://bucher.example/a"),
    # An escape or a wide letter in a host becomes no slash.
    ("https://h%2Fx/a", "https://h/x/a"),
    ("https://h\uff0fx/a", "https://h/x/a"),
    ("https://h℀/b", "https://ha/c/b"),
    ("https://u%40v@h/a", "https://u@v@h/a"),
    ("https://h%40v/a", "https://h@v/a"),
    ("https://%FF/a", "https://%FE/a"),
    ("https://h%3A443/a", "https://h/a"),
    # A percent sign that begins no escape is left alone, and so is all beside it.
    ("https://h/%%411", "https://h/%A1"),
    ("https://h/%zz", "https://h/%25zz"),
    ("https://h/a%", "https://h/a%25"),
    ("//h/a", "https://h/a"),
    ("clip.mp4", "./clip.mp4"),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT_URLS)
def test_urls_that_may_name_different_clips_are_two_intentions(first: str, second: str) -> None:
    assert digest(video(first)) != digest(video(second))


def _said(script: str, **provider: Any) -> Wire:
    voice = {"name": "elevenlabs", "voiceId": "v", "script": script, **provider}
    return _changed(input=[VIDEO, {"type": "text", "provider": voice}])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_said("Caf\u00e9, se\u00f1or"), _said("Cafe\u0301, sen\u0303or")),
        (_said("one\ntwo\n"), _said("one\r\ntwo\r\n")),
        (_said("one\ntwo"), _said("one\rtwo")),
        (_said("one\n\ntwo"), _said("one\r\n\rtwo")),
        (_said("한국어"), _said("\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165")),
        (_option(prompt="caf\u00e9"), _option(prompt="cafe\u0301")),
        (_changed(note=["a\r\n\u00e9"]), _changed(note=["a\ne\u0301"])),
    ],
)
def test_texts_that_differ_in_unicode_form_or_line_ends_are_one_intention(first: Wire, second: Wire) -> None:
    assert digest(first) == digest(second)
    assert _body(intended(first)) != _body(intended(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_said("caf\u00e9"), _said("cafe")),
        (_said("caf\u00e9"), _said("CAF\u00c9")),
        (_said("one\ntwo"), _said("one two")),
        (_said("one\ntwo"), _said("one\n\ntwo")),
        (_said("one"), _said("one ")),
        # Compatibility is no equality: a voice may say them otherwise.
        (_said("\ufb01"), _said("fi")),
        (_said("x\u00b2"), _said("x2")),
        # Nor has an id another spelling.
        (_said("a", voiceId="\u00e9"), _said("a", voiceId="e\u0301")),
        (_changed(dialogueEdit={"id": "\u00e9"}), _changed(dialogueEdit={"id": "e\u0301"})),
        (_said("see https://h/%7Ea"), _said("see https://h/~a")),
    ],
)
def test_texts_that_may_be_spoken_differently_are_two_intentions(first: Wire, second: Wire) -> None:
    assert digest(first) != digest(second)


def test_a_spelling_does_not_decide_the_order_of_inputs() -> None:
    def voices(*urls: str) -> Wire:
        return _changed(input=[VIDEO, *({"type": "audio", "url": url} for url in urls)])

    assert digest(voices("https://h/b", "https://h/%61")) == digest(voices("https://h/a", "https://h/%62"))


def test_an_account_an_api_and_a_take_are_part_of_the_intention() -> None:
    digests = {
        digest(PLAIN),
        digest(PLAIN, account="org:two"),
        digest(PLAIN, base_url="https://dev-api.sync.so"),
        digest(PLAIN, take=2),
        digest(PLAIN, take=10_000),
    }
    assert len(digests) == 5


def test_what_is_made_and_its_take_have_a_digest_for_whatever_account() -> None:
    one = intended(PLAIN)
    assert one.content_digest == intended(PLAIN, account="key:two").content_digest
    assert one.content_digest == intended(PLAIN, base_url="https://dev-api.sync.so").content_digest
    assert one.content_digest == intended(video("https://media.example.com:443/clip.mp4?id=7")).content_digest
    others = [intended(PLAIN, take=2), intended(video("https://media.example.com/clip.mp4?id=8"))]
    assert one.content_digest not in [other.content_digest for other in others]
    assert one.content_digest not in (one.digest, one.body_digest)


def test_takes_share_what_is_made_and_not_the_key() -> None:
    first, second = intended(PLAIN), intended(PLAIN, take=2)
    assert first.body_digest == second.body_digest
    assert len({one.idempotency_key(attempt) for one in (first, second) for attempt in (1, 2)}) == 4


@pytest.mark.parametrize("take", [0, -1, 10_001])
def test_a_take_that_is_none_is_refused(take: int) -> None:
    with pytest.raises(InvalidRequestError, match="between 1 and 10000"):
        intended(PLAIN, take=take)


def test_what_does_not_count_is_kept_beside_it_and_a_webhook_by_its_digest_alone() -> None:
    first = intended(_changed(outputFileName="one", webhookUrl="https://h/x?secret=1", projectId="p"))
    second = intended(_changed(outputFileName="two", webhookUrl="https://h/x?secret=2", projectId="p"))
    assert first.act.extras["outputFileName"] == "one"
    assert "secret" not in json.dumps(first.act.extras)
    assert differing_extras(first.act.extras, first.act.extras) == []
    assert differing_extras(first.act.extras, second.act.extras) == ["output_file_name", "webhook_url"]
    assert differing_extras(first.act.extras, {}) == ["output_file_name", "webhook_url", "project_id"]


def test_the_summary_is_one_line_without_query_strings() -> None:
    script = {"voiceId": "v", "script": "Hello\nthere, see https://h/x?key=SECRET " + "long " * 50}
    wire = {
        "model": "sync-3",
        "input": [
            {"type": "video", "url": "https://u:SECRET@h/v.mp4?sig=SECRET"},
            {"type": "text", "provider": script},
        ],
    }
    summary = intended(wire, take=3).summary
    assert summary.startswith('sync-3: video https://h/v.mp4?..., text "Hello there')
    assert summary.endswith("(voice v), take 3")
    assert summary.isprintable()
    assert "SECRET" not in summary
    dub = {"model": "lipsync-2", "input": [VIDEO], "dubParams": {"targetLang": "es"}}
    assert intended(dub).summary.endswith("dubbed into es")


@pytest.mark.parametrize(
    "odd",
    [
        {"options": "loop"},
        {"options": {"active_speaker_detection": True}},
        {"segments": "all"},
        {"segments": [1, None, "x"]},
        {"segments": [{"optionsOverride": "x"}]},
        {"dubParams": "es"},
        {"input": []},
        {"input": [{"type": "text", "provider": "elevenlabs"}]},
        {"input": [{"type": "hologram", "url": 5}]},
        {"input": [{"type": "video", "url": "http://[::1/?sig"}]},
        {"webhookUrl": ["x"]},
        {"newField": float("nan")},
    ],
)
def test_whatever_a_request_holds_it_can_be_told_apart(odd: Wire) -> None:
    intention = intended(_changed(**odd))
    assert intention.digest != digest(PLAIN) or "webhookUrl" in odd
    assert intention.digest == digest(_changed(**deepcopy(odd)))
    assert intention.summary
    assert isinstance(intention.act.extras, dict)


# The same key always carries the same body


_URL_PARTS = (
    ("https://", "HTTPS://"),
    ("h.example", "H.Example", "u:P@h.example", "u:p@h.example"),
    ("/", "/b", "/a.mp4"),
    ("", "?", "?id=1", "?id=2", "?a=1&b=2", "#t=1", "?#t=1"),
)
_URLS: st.SearchStrategy[str] = st.sampled_from(["".join(parts) for parts in product(*_URL_PARTS)])
_NUMBERS: st.SearchStrategy[float] = st.sampled_from([0, 0.0, 1, 1.0, 0.5, 0.25, True, False])
_MEDIA: st.SearchStrategy[Wire] = st.fixed_dictionaries(
    {"type": st.sampled_from(["video", "audio", "image", "other"]), "url": _URLS},
    optional={"refId": st.sampled_from("ab")},
)
_TEXT: st.SearchStrategy[Wire] = st.fixed_dictionaries(
    {
        "type": st.just("text"),
        "provider": st.fixed_dictionaries({"script": st.just("Hi")}, optional={"stability": _NUMBERS}),
    }
)
_OPTIONS: st.SearchStrategy[Wire] = st.fixed_dictionaries(
    {},
    optional={
        "sync_mode": st.sampled_from(["bounce", "loop", ""]),
        "temperature": _NUMBERS,
        "occlusion_detection_enabled": _NUMBERS,
        "active_speaker_detection": st.fixed_dictionaries(
            {}, optional={"auto_detect": _NUMBERS, "coordinates": st.just([])}
        ),
        "unheard_of": _NUMBERS,
    },
)
_REQUESTS: st.SearchStrategy[Wire] = st.fixed_dictionaries(
    {"model": st.sampled_from(["lipsync-2", " lipsync-2"]), "input": st.lists(_MEDIA | _TEXT, max_size=2)},
    optional={
        "options": _OPTIONS,
        "segments": st.lists(st.builds(segment, _NUMBERS, _NUMBERS), max_size=2),
        "dubParams": st.fixed_dictionaries(
            {"targetLang": st.just("es")}, optional={"sourceLang": st.sampled_from(["auto", "en"])}
        ),
        "unheardOf": st.lists(_NUMBERS | st.none(), max_size=2),
    },
)


def _body(intention: Intention) -> str:
    return json.dumps(intention.act.body, sort_keys=True)


def test_urls_that_are_the_same_clip_are_sent_in_one_spelling() -> None:
    intentions = [intended(video("".join(parts))) for parts in product(*_URL_PARTS)]
    bodies = {intention.digest: _body(intention) for intention in intentions}
    assert all(bodies[intention.digest] == _body(intention) for intention in intentions)
    # The scheme and the host are read without regard to case; the rest tells clips apart.
    assert len(bodies) == 3 * 3 * 7


@given(st.lists(_REQUESTS, min_size=8, max_size=8))
def test_the_same_key_always_carries_the_same_body(wires: list[Wire]) -> None:
    bodies: dict[str, str] = {}
    for wire in wires:
        intention = intended(wire)
        assert bodies.setdefault(intention.idempotency_key(1), _body(intention)) == _body(intention)


def _respelled(value: object, draw: Callable[..., Any]) -> Any:
    """Return the same JSON with its fields in another order and its numbers in another spelling."""
    if isinstance(value, dict):
        fields = cast(Wire, value)
        return {name: _respelled(fields[name], draw) for name in draw(st.permutations(list(fields)))}
    if isinstance(value, list):
        return [_respelled(item, draw) for item in cast(list[object], value)]
    if isinstance(value, float) and value.is_integer() and draw(st.booleans()):
        return int(value)
    return value


@given(_REQUESTS, st.data())
def test_a_request_in_another_spelling_has_the_same_key_and_body(wire: Wire, data: st.DataObject) -> None:
    respelled = _respelled(wire, data.draw)
    for name in ("input", "segments"):
        if name in respelled:
            respelled[name] = data.draw(st.permutations(respelled[name]))
    first, second = intended(wire), intended(respelled)
    assert (first.digest, _body(first)) == (second.digest, _body(second))


@given(_REQUESTS)
def test_what_is_canonical_stays_as_it_is(wire: Wire) -> None:
    first = intended(wire)
    again = Intention(GenerationAct.of(generation_of(first).request), account=ACCOUNT, base_url=BASE_URL)
    assert (again.digest, _body(again)) == (first.digest, _body(first))


# What a normalization could change, and what breaks who reads it.
_PIECES = [
    *"aA/?#&=@:%[]\\;.+ ",
    *("..", "%2f", "%7E", "%zz", "%ff", "https://", ":443", "[::1]", "xn--"),
    *("ü", "u\u0308", "\uff0f", "℀", "。", "💩", "\x00", "\r\n", "\u202e"),
    *("sig=s", "sv=1", "se=1", "policy=a"),
]
_HOSTILE: st.SearchStrategy[str] = st.lists(
    st.sampled_from(_PIECES) | st.characters(exclude_categories=["Cs"]), max_size=30
).map("".join)


@given(_HOSTILE, _HOSTILE)
def test_what_goes_out_is_untouched_by_what_the_digest_makes_of_it(rest: str, words: str) -> None:
    url, script = f"https://h.example/{rest.strip()}", f"Say {words}"
    intention = intended({**video(url), "input": [*video(url)["input"][:1], *_said(script)["input"][1:]]})
    assert intention.digest
    assert intention.content_digest
    picture, text = intention.act.body["input"]
    assert (picture["url"], text["provider"]["script"]) == (url, script)


@given(_HOSTILE, st.sampled_from(["", "https://", "HTTP://u@", "s3://"]))
def test_no_url_is_too_odd_to_be_told_apart(rest: str, start: str) -> None:
    intention = intended(video(start + rest))
    assert intention.digest == digest(video(start + rest))
    assert len(intention.earlier_digests) == 1
    assert isinstance(intention.act.signers, tuple)
    assert isinstance(intention.act.has_loose_earlier_digest, bool)


@given(st.text())
def test_half_a_character_in_a_url_breaks_nothing(rest: str) -> None:
    # Python's text can hold it, JSON can spell it, and no encoding has it.
    assert plain_spelling(f"https://h\ud800/{rest}").startswith("https://h\ud800/")
    assert in_one_spelling({"newUrl": f"https://h/\udfff?{rest}", "note": "\ud800"})["note"] == "\ud800"


@given(_HOSTILE, st.sampled_from(["https://", "HTTP://u@"]))
def test_a_url_in_its_plain_spelling_stays_as_it_is(rest: str, start: str) -> None:
    plain = plain_spelling(start + rest)
    assert plain_spelling(plain) == plain


@pytest.mark.parametrize(
    "url",
    [
        "https://h../a",
        "https://./a",
        "https://h::/a",
        "https://[::1/a",
        "https://h%2f/a",
        f"https://{'ü' * 300}/a",
        f"https://{'ü' * 100_000}/a",
        f"https://{':' * 100_000}/a",
        f"https://h:{'4' * 100_000}/a",
        f"https://h/{'%' * 100_000}a",
    ],
)
def test_what_cannot_be_read_in_a_url_stays_as_it_is(url: str) -> None:
    assert plain_spelling(url) == url


NAMES = {"aa": "talk.mp4", "bb": "ben.wav", "cc": f"{'long ' * 20}one.mp4", "dd": f"{'long ' * 20}two.mp4"}


def _file(kind: Literal["video", "audio"], name: str) -> LocalMedia:
    return LocalMedia(type=kind, sha256=name, name=NAMES[name])


def _script(text: str) -> Wire:
    return {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "script": text}}


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"input": [_file("video", "aa")], "dubParams": {"targetLang": "fr"}}, "talk.mp4, dubbed into fr"),
        ({"input": [_file("video", "aa"), _file("audio", "bb")]}, "talk.mp4 + ben.wav"),
        (
            {"input": [{"type": "image", "url": "https://h/a/photo.jpg?sig=s3cret"}, _script("Welcome")]},
            'photo.jpg: "Welcome"',
        ),
        (
            {"input": [_file("video", "aa"), _script("Welcome to our spring collection, which has it all.")]},
            'talk.mp4: "Welcome to our spring collection, which has it…"',
        ),
        (
            {"input": [_file("video", "cc"), _file("audio", "dd")]},
            "long long long…g long one.mp4 + long long lon…g long two.mp4",
        ),
        (
            {"input": [_file("video", "cc"), _script("Hello there, all of you")]},
            'long long long…ng long one.mp4: "Hello there, all of you"',
        ),
        ({"input": [_file("video", "aa"), _file("audio", "bb"), _script("Hi")]}, "talk.mp4 + 2 voices"),
        (
            {"input": [{"type": "video", "assetId": "0b5fda45-0000-0000-0000-000000000000"}]},
            "asset 0b5fda45",
        ),
        ({"input": [{"type": "video", "url": "https://u:pw@h.example/a%20b.mp4/"}]}, "a b.mp4"),
        ({"input": [{"type": "video", "url": "https://h.example"}]}, "h.example"),
        ({"input": [{"type": "video", "url": "https://h/%0Anext_step%3A%20pay"}]}, "next_step: pay"),
    ],
)
def test_what_a_job_is_about_is_said_in_few_words(fields: Wire, about: str) -> None:
    intention = _named(fields)
    assert intention.about == about
    assert len(intention.about) <= 60


def _named(fields: Wire, take: int = 1) -> Intention:
    request = GenerationRequest.from_wire({"model": "lipsync-2", **fields})
    return Intention(GenerationAct.of(request), account=ACCOUNT, base_url=BASE_URL, take=take)


def test_jobs_that_differ_in_their_language_or_take_alone_are_told_apart() -> None:
    clip = [_file("video", "cc")]
    abouts = {
        _named({"input": clip, "dubParams": {"targetLang": language}}, take).about
        for language in ("es", "fr")
        for take in (1, 2, 10_000)
    }
    assert len(abouts) == 6
    assert max(map(len, abouts)) <= 60


@given(_HOSTILE, _HOSTILE)
def test_whatever_is_named_in_a_job_it_is_one_short_line(place: str, script: str) -> None:
    about = _named({"input": [{"type": "video", "url": f"https://h/{place}"}, _script(script)]}).about
    assert len(about) <= 60
    assert about.isprintable()
