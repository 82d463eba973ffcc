"""How many words an assistant reads for its work: two whole stories, as a host shows them."""

import pytest

from tests.bench.words import LARGEST_MANY_JOBS, LARGEST_ONE_CLIP, MANY_JOBS, many_jobs, one_clip

pytestmark = pytest.mark.anyio


async def test_a_clip_is_priced_made_waited_for_looked_at_and_saved_in_few_words() -> None:
    read = await one_clip()
    assert len(read.answers) == 5
    assert read.most_bytes <= LARGEST_ONE_CLIP, read.answers


async def test_many_jobs_are_priced_made_and_waited_for_in_few_words() -> None:
    read = await many_jobs()
    assert len(read.answers) == 2 * MANY_JOBS + 1
    assert read.answers[-1].count("dubbed into") == MANY_JOBS
    assert read.most_bytes <= LARGEST_MANY_JOBS, read.answers
