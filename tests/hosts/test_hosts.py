"""What `make hosts` starts is pinned and told, what it sees is judged rightly; no host is started here."""

import json
import re

import pytest
from pydantic import JsonValue

from tests.docs.pages import ROOT
from tests.hosts.__main__ import ENOUGH
from tests.hosts.flow import DROPPED, Answer, FlowBroken, Part, Sight, play
from tests.hosts.pins import HERE, read_hosts

HOSTS = read_hosts()
JOB = "5d2c8ee5-4a6f-4f4e-9a53-7b1d4d3d8f10"
LINES = f"generation_id: {JOB}\nstatus: COMPLETED\nmodel: lipsync-2"
FIELDS: dict[str, JsonValue] = {"generation_id": JOB, "status": "COMPLETED"}
REFUSAL = "invalid_request: There is no argument 'modle'.\nNext: Correct the arguments."


def test_the_page_tells_each_host_with_the_version_that_is_pinned() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
    rows = {
        title: (package, version)
        for title, package, version in re.findall(
            r"^\| ([^|]+) \| `(\S+)` (\d+\.\d+\.\d+) \|", page, re.MULTILINE
        )
    }
    assert rows == {host.title: (host.package, host.version) for host in HOSTS.values()}
    assert len(rows) >= ENOUGH


@pytest.mark.parametrize("name", HOSTS)
def test_each_package_of_a_host_has_one_exact_version(name: str) -> None:
    host = HOSTS[name]
    pin = r"(@[\w-]+/)?[\w-]+@\d+\.\d+\.\d+" if host.of_npm else r"[\w-]+(\[\w+\])?==\d+\.\d+\.\d+"
    assert [package for package in host.packages if not re.fullmatch(pin, package)] == []


def test_each_host_has_a_player_and_each_player_a_host() -> None:
    players = {path.name for path in (HERE / "players").iterdir() if path.suffix in (".py", ".mjs")}
    assert {host.player for host in HOSTS.values()} == players - {"player.py", "player.mjs", "model.py"}


def watch(ended: Answer, shown: Answer, refused: Answer) -> Sight:
    """Play the flow with these answers to the wait, the preview and the create that is wrong."""
    flow = play(ROOT)
    next(flow)
    flow.send(Answer(parts=[Part(text="cost_usd: 0.226")]))
    assert flow.send(Answer(parts=[Part(data=FIELDS)])).arguments["generation_id"] == JOB
    flow.send(ended)
    flow.send(shown)
    with pytest.raises(StopIteration) as end:
        flow.send(refused)
    return end.value.value


def test_a_host_that_hands_on_everything_is_seen_to() -> None:
    seen = watch(
        Answer(parts=[Part(text=LINES), Part(data=FIELDS)]),
        Answer(parts=[Part(text="a sheet"), Part(picture="image/jpeg")]),
        Answer(parts=[Part(text=REFUSAL)], error="`is_error`"),
    )
    assert seen == Sight(text="yes", structured="yes", picture="yes", error="whole, as `is_error`")


def test_what_comes_wrapped_in_a_text_is_told_from_what_comes_as_it_is() -> None:
    sheet = "/9j/" + "A" * 300
    seen = watch(
        Answer(parts=[Part(text=f"content={[LINES]} structured={FIELDS}")]),
        Answer(parts=[Part(text=sheet)]),
        Answer(parts=[Part(text=REFUSAL)]),
    )
    wrapped = "as a `repr`"
    assert seen == Sight(
        text=wrapped, structured=wrapped, picture="as base64 text", error="whole, as an ordinary result"
    )


def test_what_comes_as_json_is_told_from_what_comes_as_it_is() -> None:
    seen = watch(
        Answer(parts=[Part(text=json.dumps({"content": [LINES + "\n"], **FIELDS}))]),
        Answer(parts=[Part(data={"type": "image", "data": "iVBOR" + "A" * 300})]),
        Answer(parts=[Part(text=REFUSAL)], error="`Exception`"),
    )
    wrapped = "as JSON"
    assert seen == Sight(
        text=wrapped, structured=wrapped, picture="as base64 text", error="whole, as `Exception`"
    )


def test_what_the_model_does_not_get_is_not_taken_for_what_it_gets() -> None:
    seen = watch(
        Answer(parts=[Part(text='{"status": "COMPLETED"}')], beside=[Part(data=FIELDS)]),
        Answer(parts=[Part(text="a sheet")], beside=[Part(picture="image/jpeg")]),
        Answer(parts=[Part(text="modle: extra inputs are forbidden")], error="`ValueError`"),
    )
    alone = "the program alone"
    error = "in the host's own words, as `ValueError`"
    assert seen == Sight(text="no", structured=alone, picture=alone, error=error)


def test_a_create_that_goes_through_shows_that_the_argument_was_dropped() -> None:
    done = Answer(parts=[Part(text=LINES)])
    assert watch(done, done, done).error == DROPPED


def test_an_answer_without_what_the_next_call_needs_ends_the_flow_with_its_words() -> None:
    flow = play(ROOT)
    next(flow)
    with pytest.raises(FlowBroken, match="the price is not in the answer: no such file"):
        flow.send(Answer(parts=[Part(text="no such file")]))
