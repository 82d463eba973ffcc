"""What means the same is one intention, what does not is another, and no upgrade changes which is which."""

import json
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_mcp import InvalidRequestError
from sync_mcp.api.models import GenerationRequest
from sync_mcp.jobs.intention import DIGEST_VERSION, Intention, differing_extras

Wire = dict[str, Any]
ACCOUNT, BASE_URL = "org:one", "https://api.sync.so"
VIDEO: Wire = {"type": "video", "url": "https://media.example.com/clip.mp4?id=7"}
AUDIO: Wire = {"type": "audio", "url": "https://media.example.com/voice.wav"}
PLAIN: Wire = {"model": "lipsync-2", "input": [VIDEO, AUDIO]}


def intended(wire: Wire, *, account: str = ACCOUNT, base_url: str = BASE_URL, take: int = 1) -> Intention:
    return Intention.of(GenerationRequest.from_wire(wire), account=account, base_url=base_url, take=take)


def digest(wire: Wire, **more: Any) -> str:
    return intended(wire, **more).digest


def video(url: str) -> Wire:
    return {**PLAIN, "input": [{"type": "video", "url": url}, AUDIO]}


def segment(start: float, end: float, **more: Any) -> Wire:
    return {"startTime": start, "endTime": end, "audioInput": {"refId": "a"}, **more}


GOLDEN: dict[str, tuple[Wire, int, str]] = {
    "plain": (PLAIN, 1, "5b618b13ac5e392d4621737822a24223a4715e8c6cb3916007a73eee85151f5e"),
    "a second take": (PLAIN, 2, "6f3d3f972845423797851cf42e715966fb37a92f3a79caf82141da768b6c7c2b"),
    "options": (
        {
            **PLAIN,
            "model": "lipsync-2-pro",
            "options": {
                "sync_mode": "loop",
                "temperature": 0.8,
                "active_speaker_detection": {"frame_number": 3, "coordinates": [120, 80.5]},
                "occlusion_detection_enabled": True,
            },
        },
        1,
        "83093a805727d4488024032035d4b415657dea5f2c7e7fe8041e905f1c005890",
    ),
    "an asset and a script": (
        {
            "model": "sync-3",
            "input": [
                {"type": "image", "assetId": "0b5fda45-2e52-4b44-9f80-6d0b5fda452e"},
                {
                    "type": "text",
                    "provider": {
                        "name": "elevenlabs",
                        "voiceId": "v1",
                        "script": "¡Hola, señor! 你好",
                        "stability": 0.3,
                    },
                },
            ],
        },
        1,
        "cc325278c2f08a2cdf898ef70b56048152d645f866e22b21521b8d6424c08194",
    ),
    "segments": (
        {
            **PLAIN,
            "input": [VIDEO, {**AUDIO, "refId": "a"}],
            "segments": [segment(0, 1.5), segment(2, 4, optionsOverride={"sync_mode": "bounce"})],
        },
        1,
        "8e05add6e7178b4bc697953c02f4aca9cb3fc554635a41ec0f72ea86adc29c83",
    ),
    "a dub": (
        {"model": "lipsync-2", "input": [VIDEO], "dubParams": {"targetLang": "es"}},
        1,
        "0ac052c5d78ad277ad5b356c7dae1bf2033f8f4b8748c5f8075a322ef554de10",
    ),
    "a signed link": (
        video(
            "https://bucket.s3.amazonaws.com/clip.mp4?versionId=3&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Date=20261124T000000Z&X-Amz-Expires=900&X-Amz-Signature=0123abcd"
        ),
        1,
        "652ae7d3d55853479e89204453d38377c14199daea00698b8f67c9768899d769",
    ),
    "fields of another day": (
        {**PLAIN, "options": {"sharpness": 2.0}, "newField": [1, None, "x"]},
        1,
        "e32119141254e9ccc9e683944f314ada9521ffd622c28bb0ec36a5dd20483538",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_digests_are_those_of_the_versions_before(name: str) -> None:
    # Never change one of these: what was paid would be paid again. A new way to digest is a new version.
    wire, take, known = GOLDEN[name]
    assert DIGEST_VERSION == 1
    assert digest(wire, take=take) == known


def test_the_key_of_an_attempt_is_that_of_the_versions_before() -> None:
    intention = intended(PLAIN)
    assert intention.idempotency_key(1) == "sync-mcp-78c65da176b9d11279693089346500d7be4be3725e9bae19"
    assert intention.idempotency_key(2) == "sync-mcp-076ccc303e97517ca12459207da35cbabacddecf3ba940f6"


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


@pytest.mark.parametrize(
    "signature",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F2026&X-Amz-Date=1&X-Amz-Expires=9"
        "&X-Amz-Security-Token=t&X-Amz-SignedHeaders=host&X-Amz-Signature=s",
        "x-amz-signature=s",
        "X%2DAmz%2DSignature=s",
        "X-Goog-Algorithm=GOOG4&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Expires=9&X-Goog-SignedHeaders=host"
        "&X-Goog-Signature=s",
        "AWSAccessKeyId=AK&Signature=s&Expires=1700000000",
        "GoogleAccessId=g&Expires=1&Signature=s",
        "Policy=p&Signature=s&Key-Pair-Id=K",
        "OSSAccessKeyId=o&Expires=1&Signature=s&security-token=t",
        "q-sign-algorithm=sha1&q-ak=AK&q-sign-time=1;2&q-key-time=1;2&q-header-list=host&q-url-param-list="
        "&q-signature=s",
        "sv=2024-11-04&st=2026&se=2027&sr=b&sp=r&spr=https&sip=1.2.3.4&skoid=o&sktid=t&skt=1&ske=2&sks=b&skv=3"
        "&sig=s%3D",
        "sig=s",
        "Expires=1",
    ],
)
def test_a_link_that_was_signed_again_is_the_same_clip(signature: str) -> None:
    plain = video("https://h/clip.mp4?id=7")
    for signed in (f"id=7&{signature}", f"{signature}&id=7", f"id=7&{signature.replace('=s', '=other')}"):
        assert digest(video(f"https://h/clip.mp4?{signed}")) == digest(plain)
    assert digest(video(f"https://h/clip.mp4?id=8&{signature}")) != digest(plain)
    assert digest(video(f"https://h/clip.mp4?{signature}")) == digest(video("https://h/clip.mp4"))
    # It is only the digest that leaves it out: without it the API could not fetch the clip.
    assert f"https://h/clip.mp4?id=7&{signature}" in str(
        intended(video(f"https://h/clip.mp4?id=7&{signature}")).request
    )


@pytest.mark.parametrize("name", ["sv", "st", "se", "sr", "sp", "spr", "sip"])
def test_the_short_words_of_azure_count_where_there_is_no_signature(name: str) -> None:
    assert digest(video(f"https://h/c.mp4?{name}=1")) != digest(video(f"https://h/c.mp4?{name}=2"))
    assert digest(video(f"https://h/c.mp4?{name}=1&sig=s")) == digest(
        video(f"https://h/c.mp4?{name}=2&sig=t")
    )


def test_a_signature_does_not_decide_the_order_of_inputs() -> None:
    def voices(*signatures: str) -> Wire:
        parts = [f"https://h/v.wav?X-Amz-Signature={s}&part={n}" for n, s in enumerate(signatures)]
        return _changed(input=[VIDEO, *({"type": "audio", "url": part} for part in parts)])

    assert digest(voices("a", "b")) == digest(voices("b", "a"))


def test_every_url_of_a_request_may_be_signed_again() -> None:
    def boxes(signature: str) -> Wire:
        url = f"https://h/boxes.json?X-Amz-Signature={signature}"
        return _option(active_speaker_detection={"bounding_boxes_url": url})

    assert digest(boxes("a")) == digest(boxes("b")) != digest(PLAIN)


def test_an_account_an_api_and_a_take_are_part_of_the_intention() -> None:
    digests = {
        digest(PLAIN),
        digest(PLAIN, account="org:two"),
        digest(PLAIN, base_url="https://dev-api.sync.so"),
        digest(PLAIN, take=2),
        digest(PLAIN, take=10_000),
    }
    assert len(digests) == 5


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
    assert first.extras["outputFileName"] == "one"
    assert "secret" not in json.dumps(first.extras)
    assert differing_extras(first.extras, first.extras) == []
    assert differing_extras(first.extras, second.extras) == ["output_file_name", "webhook_url"]
    assert differing_extras(first.extras, {}) == ["output_file_name", "webhook_url", "project_id"]


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
    assert isinstance(intention.extras, dict)


# The same key always carries the same body


_URL_PARTS = (
    ("https://", "HTTPS://"),
    ("h.example", "H.Example", "u:P@h.example", "u:p@h.example"),
    ("", "/", "/a.mp4"),
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
    return json.dumps(intention.request.to_wire(), sort_keys=True)


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
    again = Intention.of(first.request, account=ACCOUNT, base_url=BASE_URL)
    assert (again.digest, _body(again)) == (first.digest, _body(first))
