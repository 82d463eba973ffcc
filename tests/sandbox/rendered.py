"""Outputs that the sandbox has rendered once, for every test of a run that asks for the same.

To render one takes longer than all else that such a test does.
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sync_mcp.sandbox.media.render import RenderCancelled, RenderPlan

Render = Callable[[RenderPlan, Path, threading.Event], None]


def render_once(render: Render, folder: Path) -> Render:
    """Return what renders as `render` does, but copies from `folder` what was rendered of the same media."""

    def render_or_copy(plan: RenderPlan, target: Path, cancelled: threading.Event) -> None:
        try:
            kept = folder / f"{_digest(plan)}.mp4"
            if kept.exists():
                _copy(kept, target)
                return
        except OSError as error:
            # A reset takes the files away, as it does under a render.
            if cancelled.is_set():
                raise RenderCancelled from error
            raise
        render(plan, target, cancelled)
        # Where a reset has taken it away already, the next one renders anew.
        with suppress(OSError):
            _copy(target, kept)

    return render_or_copy


def _digest(plan: RenderPlan) -> str:
    """Return one name for all plans that make the same output, wherever their files lie."""
    nowhere = Path()
    voices = tuple(replace(voice, path=nowhere) for voice in plan.voices)
    digest = hashlib.sha256(repr(replace(plan, visual=nowhere, voices=voices)).encode())
    for path in (plan.visual, *(voice.path for voice in plan.voices)):
        # Of one length each, so that no two rows of files are the same.
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that nobody finds a part of it."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = shutil.copyfile(source, Path(folder) / "part.mp4")
        part.replace(target)
