from pathlib import Path

import pytest

from tests.media.damaged import HOSTILE, damaged, try_files

pytestmark = pytest.mark.anyio

_MORE = 12


@pytest.fixture(autouse=True)
def _forks_workers() -> None:  # pyright: ignore[reportUnusedFunction]
    """Start each worker: it is what is tested here."""


async def test_damaged_and_hostile_files_get_a_clear_answer_each(tmp_path: Path) -> None:
    tally = await try_files(range(HOSTILE + _MORE), tmp_path)
    assert tally.failures == []
    assert len(tally.outcomes) == HOSTILE + _MORE
    answers = {"video", "audio", "image", "file_damaged", "file_not_media"}
    assert {outcome.look for outcome in tally.outcomes} <= answers
    assert {outcome.sheet for outcome in tally.outcomes} <= {"sheet", "file_damaged", "file_not_media"}
    assert {outcome.sniff for outcome in tally.outcomes} <= {
        *("video", "audio", "image", "file_empty", "file_not_media"),
    }


def test_the_same_number_is_the_same_file() -> None:
    assert damaged(HOSTILE + 3) == damaged(HOSTILE + 3)
    assert damaged(HOSTILE + 3) != damaged(HOSTILE + 4)
