from pathlib import Path

import pytest

from .generate import PARTS, README, STALE, generated


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert generated(text) == text, STALE


def test_the_readme_has_every_generated_part_once() -> None:
    text = README.read_text(encoding="utf-8")
    for name in PARTS:
        assert text.count(f"<!-- generated: {name} -->") == 1


def test_a_part_that_was_edited_by_hand_is_put_right() -> None:
    text = README.read_text(encoding="utf-8")
    assert generated(text.replace("| `SYNC_API_KEY` | none |", "| `SYNC_API_KEY` | some |")) == text


def test_a_part_that_nobody_can_generate_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        generated("<!-- generated: nothing -->\n<!-- end -->")


def test_no_generated_part_names_this_machine() -> None:
    home = str(Path.home())
    assert home not in README.read_text(encoding="utf-8")
