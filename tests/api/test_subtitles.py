"""Cues that can be read, whatever is said: written as players take them, and read here by FFmpeg."""

# PyAV does not type the packets of subtitles.
# pyright: reportUnknownMemberType=false

import io
from itertools import pairwise
from typing import Any, cast

import av
import pytest
from hypothesis import given, settings, strategies as st

from sync_mcp import Transcript
from sync_mcp.api.models import Json
from sync_mcp.api.subtitles import CUE_LINES, LINE_CHARACTERS, Cue, Spoken, make_cues

LETTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
TEXTS = st.text(LETTERS, min_size=1, max_size=60)
TIMES = st.integers(0, 5 * 60_000)


@st.composite
def spoken(draw: st.DrawFn) -> Spoken:
    start = draw(TIMES)
    # Now and then a word of an API ends before it begins.
    return Spoken(draw(TEXTS), start, start + draw(st.integers(-200, 2_000)))


PARTS = st.lists(st.lists(spoken(), max_size=30), max_size=6)


def said_in(cues: list[Cue]) -> list[str]:
    return sorted(word for cue in cues for line in cue.lines for word in line.split())


@given(PARTS)
@settings(max_examples=30)
def test_no_line_is_longer_than_42_characters_and_no_cue_has_more_than_two(parts: list[list[Spoken]]) -> None:
    for cue in make_cues(parts):
        assert 1 <= len(cue.lines) <= CUE_LINES
        for line in cue.lines:
            # A word that is longer has a line of its own.
            assert len(line) <= LINE_CHARACTERS or " " not in line


@given(PARTS)
@settings(max_examples=30)
def test_no_word_is_split_or_lost_and_none_is_said_twice(parts: list[list[Spoken]]) -> None:
    words = sorted(
        piece for part in parts for word in part for piece in word.text.replace("-->", "→").split()
    )
    assert said_in(make_cues(parts)) == words


@given(PARTS)
@settings(max_examples=30)
def test_one_cue_ends_before_the_next_begins_and_each_is_seen(parts: list[list[Spoken]]) -> None:
    cues = make_cues(parts)
    assert all(cue.end_ms > cue.start_ms >= 0 for cue in cues)
    assert all(earlier.end_ms <= later.start_ms for earlier, later in pairwise(cues))


def read_back(text: str, form: str) -> list[tuple[float, float]]:
    """Return when FFmpeg shows something, and for how long, in seconds."""
    with av.open(io.BytesIO(text.encode()), format=form) as container:
        packets = [packet for packet in cast(Any, container).demux() if packet.size]
        return [(float(one.pts * one.time_base), float(one.duration * one.time_base)) for one in packets]


HOSTILE = ["00:01", "-->", "00:02", "<b>bold", "a&b", "\n\n7\n", "{\\an8}", "WEBVTT", "NOTE", "STYLE", "1"]


@pytest.mark.parametrize(("method", "form"), [("to_srt", "srt"), ("to_vtt", "webvtt")])
def test_a_player_reads_as_many_cues_as_were_written_at_their_times(method: str, form: str) -> None:
    words: list[Json] = [
        {"id": f"w{n}", "text": text, "startMs": 3_000 * n + 40, "endMs": 3_000 * n + 900}
        for n, text in enumerate(HOSTILE)
    ]
    transcript = Transcript.from_wire({"segments": [{"id": "s", "words": words}]})
    read = read_back(getattr(transcript, method)(), form)
    assert [start for start, _ in read] == [word["startMs"] / 1000 for word in words]
    assert [round(seconds, 3) for _, seconds in read] == [0.86] * len(words)


def test_the_words_of_a_cue_stand_in_lines_of_about_one_length() -> None:
    sentence = "The shop is closed on Tuesday and it opens again in the morning"
    words = sentence.split()
    said = [Spoken(word, 300 * n, 300 * n + 250) for n, word in enumerate(words)]
    [cue] = make_cues([said])
    assert cue.lines == ["The shop is closed on Tuesday", "and it opens again in the morning"]
    assert (cue.start_ms, cue.end_ms) == (0, 300 * 12 + 250)


def test_a_pause_another_speaker_and_the_end_of_a_sentence_end_a_cue() -> None:
    first = [Spoken("Yes.", 0, 400), Spoken("Later", 4_000, 4_400)]
    second = [Spoken("No", 4_500, 4_800)]
    sentence = "We said so at length there. Good."
    words = enumerate(sentence.split())
    third = [Spoken(word, 6_000 + 200 * n, 6_150 + 200 * n) for n, word in words]
    shown = [" ".join(cue.lines) for cue in make_cues([first, second, third])]
    assert shown == ["Yes.", "Later", "No", "We said so at length there.", "Good."]


def test_what_the_api_answered_goes_back_letter_for_letter() -> None:
    answered: Json = {
        "speakerCount": 1,
        "language": "",
        "difficulty": None,
        "segments": [{"id": "s1", "speaker": {"id": 0}, "words": [], "newer": {"x": None}}],
    }
    assert Transcript.from_wire(answered).to_wire() == answered
    wrapped = Transcript.model_validate({"segments": [{"id": "s1", "words": [{"id": "w", "text": ""}]}]})
    assert wrapped.to_wire() == {"segments": [{"id": "s1", "words": [{"id": "w", "text": ""}]}]}


def test_of_several_speakers_each_line_of_the_text_says_who() -> None:
    def segment(speaker: object, text: str) -> dict[str, object]:
        words = [{"id": word, "text": word, "startMs": 0, "endMs": 1} for word in text.split()]
        return {"id": text, "speaker": speaker, "words": words}

    one = Transcript.from_wire({"segments": [segment(0, "Hello there"), segment(0, "again")]})
    assert one.to_text() == "Hello there\nagain\n"
    two = Transcript.from_wire({"segments": [segment(0, "Hello"), segment("Ada", "Hi")]})
    assert two.to_text() == "Speaker 0: Hello\nAda: Hi\n"
