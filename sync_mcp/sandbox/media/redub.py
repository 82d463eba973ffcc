"""The sound of a dialogue edit: that of its source, in which what was changed is a tone, and what was removed
is left out."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from sync_mcp.sandbox.dialogue import Slot
from sync_mcp.sandbox.media.sound import Track


def make_preview(source: Path, target: Path, slots: Sequence[Slot], output_ms: int) -> None:
    """Write the sound of `source` as a WAV file, with what the slots say in its place; in order of time."""
    with (
        tempfile.TemporaryDirectory(dir=target.parent) as folder,
        Track(Path(folder) / "track.pcm", output_ms / 1000) as track,
    ):
        read_ms = written_ms = 0
        for slot in slots:
            _copy(track, source, read_ms, slot.source_start_ms, written_ms)
            seconds = (slot.output_end_ms - slot.output_start_ms) / 1000
            track.tone(slot.output_start_ms / 1000, seconds)
            read_ms, written_ms = slot.source_end_ms, slot.output_end_ms
        _copy(track, source, read_ms, read_ms + output_ms - written_ms, written_ms)
        track.save(target)


def _copy(track: Track, source: Path, start_ms: int, end_ms: int, at_ms: int) -> None:
    if end_ms > start_ms:
        track.lay(source, at=at_ms / 1000, skip=start_ms / 1000, seconds=(end_ms - start_ms) / 1000)
