"""How far a file is, in words."""

import pytest

from sync_mcp.errors import Transfer
from sync_mcp.tools.progress import transfer_line


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (0, 999, "0 of 999 bytes"),
        (0, 18_849, "0 of 19 kB"),
        (9_000, 18_849, "9 of 19 kB"),
        (400, 999_400, "0 of 999 kB"),
        (1_000, 999_500, "0.0 of 1.0 MB"),
        (3_260_000, 12_500_000, "3.3 of 12.5 MB"),
        (18_849, None, "19 kB"),
        (3_260_000, None, "3.3 MB"),
    ],
)
def test_a_file_is_told_in_units_in_which_its_size_can_be_seen(
    done: int, total: int | None, said: str
) -> None:
    assert transfer_line("talk.mp4", Transfer("hash", done, total)) == f"Reading talk.mp4: {said}"
