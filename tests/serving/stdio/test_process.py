import sys
from itertools import count

import pytest

from . import process


@pytest.mark.parametrize("stalls", [0, 100])
def test_only_the_time_in_which_no_processor_was_short_counts_for_an_end(
    monkeypatch: pytest.MonkeyPatch, stalls: int
) -> None:
    monkeypatch.setattr(process, "ENDS_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(process, "_stalled_seconds", count(0, stalls).__next__)
    with process.started((sys.executable, "-c", "pass"), {}) as server:
        if stalls:
            assert server.ends() == 0
        else:
            with pytest.raises(AssertionError):
                server.ends()
