from pathlib import Path

import pytest

from sync_mcp.media.decoding import look
from tests.media.damaged import HOSTILE, damaged, try_files

pytestmark = pytest.mark.anyio

_MORE = 12
_STARTED = 8
_START = look._start  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("is_started", [False, True])
async def test_damaged_and_hostile_files_get_a_clear_answer_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    numbers = range(HOSTILE + _MORE)
    if is_started:
        # A forked worker is as one that was started, which tests of its own prove: some of each sort do.
        monkeypatch.setattr(look, "_start", _START)
        numbers = numbers[:: len(numbers) // _STARTED]
    tally = await try_files(numbers, tmp_path)
    assert tally.failures == []
    assert len(tally.outcomes) == len(numbers)
    answers = {"video", "audio", "image", "file_damaged", "file_not_media"}
    assert {outcome.look for outcome in tally.outcomes} <= answers
    assert {outcome.sheet for outcome in tally.outcomes} <= {"sheet", "file_damaged", "file_not_media"}
    assert {outcome.sniff for outcome in tally.outcomes} <= {
        *("video", "audio", "image", "file_empty", "file_not_media"),
    }


def test_the_same_number_is_the_same_file() -> None:
    assert damaged(HOSTILE + 3) == damaged(HOSTILE + 3)
    assert damaged(HOSTILE + 3) != damaged(HOSTILE + 4)
