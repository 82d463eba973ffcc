"""The guides for who changes the project: what they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_PATH = re.compile(r"`((?:sync_mcp|tests|api|errors|tools|payments|cli)/[\w/.]*)`")
_LINK = re.compile(r"\]\(([^):#]+)\)")


def test_each_test_that_is_named_as_a_proof_is_there() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "money.md").read_text(encoding="utf-8")
    )
    assert len(named) >= 18
    for file, test in named:
        assert re.search(
            rf"^(async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE
        ), test


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_each_file_that_a_guide_names_is_there(guide: Path) -> None:
    # A method of the protocol looks like a path.
    text = guide.read_text(encoding="utf-8").replace("`tools/list`", "")
    missing = [
        name
        for name in _PATH.findall(text)
        if not any(
            (base / end).exists() for base in (ROOT, ROOT / "sync_mcp") for end in (name, f"{name}.py")
        )
    ]
    assert missing == []
    assert [link for link in _LINK.findall(text) if not (guide.parent / link).exists()] == []


def test_the_house_that_the_design_draws_is_the_one_that_stands() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^  (\w+)/", design, flags=re.MULTILINE)) | {"errors"}
    floors = (path for path in (ROOT / "sync_mcp").iterdir() if path.is_dir())
    rooms = {path.name for path in floors} - {"__pycache__"}
    assert drawn == rooms
