"""What the tests themselves render once for all of them is what the sandbox would have rendered."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sync_mcp.sandbox.media.render import RenderCancelled, RenderPlan, Voice
from sync_mcp.sandbox.media.samples import sample
from tests.sandbox.rendered import Render, render_once

NOBODY = threading.Event()


@pytest.fixture
def made() -> list[RenderPlan]:
    """What was rendered, and not copied."""
    return []


@pytest.fixture
def render(tmp_path: Path, made: list[RenderPlan]) -> Render:
    def write(plan: RenderPlan, target: Path, cancelled: threading.Event) -> None:
        made.append(plan)
        target.write_text(f"output {len(made)}", encoding="utf-8")

    (tmp_path / "kept").mkdir()
    return render_once(write, tmp_path / "kept")


@pytest.fixture
def plan(tmp_path: Path) -> RenderPlan:
    visual = Path(shutil.copy(sample("speaker.jpg"), tmp_path / "first.jpg"))
    voice = Voice(Path(shutil.copy(sample("speech.wav"), tmp_path / "first.wav")))
    return RenderPlan(visual, True, 320, 240, 25.0, 1.0, 1.0, "forward", (voice,))


def output(render: Render, plan: RenderPlan, target: Path) -> str:
    render(plan, target, NOBODY)
    return target.read_text(encoding="utf-8")


def test_the_same_media_under_other_names_are_rendered_once(
    render: Render, plan: RenderPlan, made: list[RenderPlan], tmp_path: Path
) -> None:
    [voice] = plan.voices
    again = replace(
        plan,
        visual=Path(shutil.copy(plan.visual, tmp_path / "other.jpg")),
        voices=(replace(voice, path=Path(shutil.copy(voice.path, tmp_path / "other.wav"))),),
    )
    assert output(render, plan, tmp_path / "1.mp4") == output(render, again, tmp_path / "2.mp4")
    assert made == [plan]


@pytest.mark.parametrize("differs", ["picture", "voice", "place of the voice", "length"])
def test_whatever_differs_is_rendered_for_itself(
    render: Render, plan: RenderPlan, made: list[RenderPlan], tmp_path: Path, differs: str
) -> None:
    assert output(render, plan, tmp_path / "1.mp4") == "output 1"
    match differs:
        case "picture":
            plan.visual.write_bytes(plan.visual.read_bytes() + b"\0")
        case "voice":
            plan.voices[0].path.write_bytes(plan.voices[0].path.read_bytes() + b"\0")
        case "place of the voice":
            plan = replace(plan, voices=(replace(plan.voices[0], at=0.5),))
        case _:
            plan = replace(plan, seconds=1.5)
    assert output(render, plan, tmp_path / "2.mp4") == "output 2"
    assert len(made) == 2


def test_a_reset_under_a_copy_is_told_as_one_under_a_render(
    render: Render, plan: RenderPlan, tmp_path: Path
) -> None:
    output(render, plan, tmp_path / "1.mp4")
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(RenderCancelled):
        render(plan, tmp_path / "gone" / "2.mp4", cancelled)
