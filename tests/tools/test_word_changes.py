"""Changes name the words as they are said; what the API is sent are edits of single words."""

from typing import Any

import pytest

from sync_mcp import InvalidRequestError, Transcript
from sync_mcp.tools.dialogue import ChangeArguments
from sync_mcp.tools.word_changes import make_edits

SAID = "Come on Tuesday, at nine. Or come on Friday."


def transcript() -> Transcript:
    words = [
        {"id": f"w{n}", "text": text, "startMs": 500 * n, "endMs": 500 * n + 400}
        for n, text in enumerate(SAID.split(), 1)
    ]
    return Transcript.from_wire({"segments": [{"id": "s1", "words": words}]})


def edits_of(*changes: dict[str, Any]) -> list[Any]:
    made = make_edits(transcript(), [ChangeArguments(**change) for change in changes])
    return [edit.to_wire() for edit in made]


def change(word_id: str, replacement: str, **more: str) -> dict[str, str]:
    return {"kind": "change", "wordId": word_id, "replacement": replacement, **more}


def remove(*word_ids: str) -> dict[str, Any]:
    return {"kind": "remove", "wordIds": list(word_ids)}


@pytest.mark.parametrize(
    ("asked", "edits"),
    [
        # The comma behind the word stays, and case and marks make no difference.
        ({"words": "tuesday", "replacement": "Thursday"}, [change("w3", "Thursday,")]),
        # What stays as it is at the ends is left alone.
        ({"words": "on Tuesday at", "replacement": "on Thursday at"}, [change("w3", "Thursday,")]),
        ({"words": "at nine", "replacement": "before ten"}, [change("w4", "before"), change("w5", "ten.")]),
        ({"words": "nine", "replacement": "half past ten"}, [change("w5", "half past ten.")]),
        (
            {"words": "Tuesday at nine", "replacement": "tomorrow"},
            [change("w3", "tomorrow,"), remove("w4", "w5")],
        ),
        # The same word, said in another way.
        (
            {"words": "nine", "replacement": "nine", "pronunciation": "nayn"},
            [change("w5", "nine.", pronunciation="nayn")],
        ),
        ({"words": "Or come on Friday"}, [remove("w6", "w7", "w8", "w9")]),
        ({"word_ids": ["w9", "w8", "w9"]}, [remove("w8", "w9")]),
        # Blanks say nothing.
        ({"words": "nine", "replacement": " "}, [remove("w5")]),
        ({"words": "nine", "replacement": "ten", "pronunciation": " "}, [change("w5", "ten.")]),
        (
            {"word_ids": ["w9"], "replacement": "Sunday", "pronunciation": "sun day"},
            [change("w9", "Sunday.", pronunciation="sun day")],
        ),
    ],
)
def test_a_change_becomes_edits_of_the_words_that_differ(asked: dict[str, Any], edits: list[Any]) -> None:
    assert edits_of(asked) == edits


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"words": "on"}, "'on' is said 2 times (w2 at 1.0 s; w8 at 4.0 s): give word_ids."),
        ({"words": "Teusday", "replacement": "x"}, "'Teusday' is not said; 'Tuesday,' is."),
        ({"words": "zebra"}, "'zebra' is not said; transcribe tells what is."),
        ({"words": "!?"}, "'!?' is not said"),
        ({"words": "nine", "replacement": "nine"}, "changes nothing"),
        ({"words": "nine", "word_ids": ["w5"]}, "needs words or word_ids, and not both"),
        ({"words": "at nine", "replacement": "by ten", "pronunciation": "x"}, "pronunciation goes with one"),
        ({"words": "nine", "pronunciation": "x"}, "there is no pronunciation to it"),
        ({"words": "nine", "replacement": " ", "pronunciation": "x"}, "there is no pronunciation to it"),
        ({"words": "nine", "replacement": "nine", "pronunciation": " "}, "changes nothing"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        edits_of(asked)
    [fault] = refused.value.faults
    assert fault.startswith("changes[0]")
    assert told in fault


def test_all_that_is_wrong_is_told_together_and_no_word_is_changed_twice() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        edits_of({"words": "zebra"}, {"words": "lion"})
    assert [fault[:10] for fault in refused.value.faults] == ["changes[0]", "changes[1]"]
    # The first makes an edit of each of its words; what is told are the changes.
    with pytest.raises(InvalidRequestError) as twice:
        edits_of({"words": "Tuesday at nine", "replacement": "Monday by ten"}, {"words": "at nine"})
    assert twice.value.faults == ("changes[0] and changes[1] are of the same word w4: make one of them.",)


def test_changes_that_come_to_more_than_a_hundred_edits_are_refused() -> None:
    words = [{"id": f"w{n}", "text": f"word{n}", "startMs": n, "endMs": n + 1} for n in range(120)]
    long = Transcript.from_wire({"segments": [{"id": "s1", "words": words}]})
    said, wanted = (" ".join(f"{text}{n}" for n in range(120)) for text in ("word", "other"))
    asked = ChangeArguments.model_validate({"words": said, "replacement": wanted})
    with pytest.raises(InvalidRequestError, match="120 edits of words, and 100 go into one preview"):
        make_edits(long, [asked])
