from pathlib import Path

import pytest

from .generate import PARTS, STALE, generated
from .pages import PAGES, read_pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_generated_parts_of_a_page_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generated(text) == text, STALE


def test_the_pages_have_every_generated_part_once() -> None:
    text = read_pages()
    for name in PARTS:
        assert text.count(f"<!-- generated: {name} -->") == 1


def test_a_part_that_was_edited_by_hand_is_put_right() -> None:
    text = read_pages()
    edited = text.replace("| `SYNC_API_KEY` | none |", "| `SYNC_API_KEY` | some |")
    assert edited != text
    assert generated(edited) == text


def test_a_part_that_nobody_can_generate_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        generated("<!-- generated: nothing -->\n<!-- end -->")


def test_no_generated_part_names_this_machine() -> None:
    assert str(Path.home()) not in read_pages()
