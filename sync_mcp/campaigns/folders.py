"""A folder of clips as a campaign's rows: beside each clip lies what is said in it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sync_mcp.api.formats import kind_of_name
from sync_mcp.campaigns.outputs import name_beside
from sync_mcp.campaigns.table import Line, Table
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.lookups import TELL_VOICES, match_voices
from sync_mcp.texts import FILE_NAME_LIMIT, REASON_LIMIT, clean

_SCRIPT = ".txt"
_MOST_BYTES = 1024**2
_VOICES_NAMED, _VOICE_SHOWN = 20, 60
_MADE = ".synced"
"""Ends the stem of what was made of a clip, which is no clip."""


def read_folder(folder: Path, voice: str | None) -> Table:
    """Return a line for each clip of a folder, with the text or the recording of its name beside it; blocks.

    What is wrong with a clip, such as that neither lies there, stands in its line.

    Args:
        folder: where they lie; what is hidden, and what was made of a clip before, is no clip.
        voice: the id of the voice that says the texts.

    Raises:
        FileRefused: it cannot be read.
        InvalidRequestError: there is no clip in it.
    """
    shown = clean(folder.name, FILE_NAME_LIMIT)
    try:
        files = sorted(file for file in folder.iterdir() if file.name[0] != "." and file.is_file())
    except OSError as error:
        raise FileRefused(
            f"{shown} cannot be read: {error.strerror or type(error).__name__}.",
            code="file_not_readable",
            next_step="Check the folder and who may read it.",
        ) from error
    clips = [file for file in files if kind_of_name(file.name) == "video" and not file.stem.endswith(_MADE)]
    if not clips:
        raise InvalidRequestError(f"There is no clip in {shown}.").advise(
            next_step="Put clips into it, each with its script (lesson.mp4, lesson.txt) or its recording."
        )
    return Table([_line(number, clip, clips, files, voice) for number, clip in enumerate(clips, 1)])


async def find_speaker(facts: AccountFacts, voice: str) -> str:
    """Return the id of the voice that says a folder's scripts, by its name or id.

    Raises:
        InvalidRequestError: no voice is called so, or several are.
        SyncError: the voices cannot be listed now.
    """
    listed = await facts.lists.voices()
    id, fault = (await match_voices(facts, [voice]))[voice]
    if fault is None:
        return id
    some = [f"{clean(each.name or '', _VOICE_SHOWN)} ({each.id})" for each in listed[:_VOICES_NAMED]]
    raise InvalidRequestError(f"voice {fault.removesuffix(TELL_VOICES)}").advise(
        next_step=f"Name one by its whole name or its id, such as: {', '.join(some)}."
    )


def _line(number: int, clip: Path, clips: Sequence[Path], files: Sequence[Path], voice: str | None) -> Line:
    line = Line(number=number, is_in_file=False, video=str(clip), output=name_beside(clip.name, _MADE))
    try:
        speech = _find_speech(clip, clips, files)
        if speech.suffix.lower() != _SCRIPT:
            return replace(line, audio=str(speech))
        return replace(line, script=_read_script(speech, voice), voice=voice)
    except ValueError as error:
        return replace(line, fault=str(error))


def _find_speech(clip: Path, clips: Sequence[Path], files: Sequence[Path]) -> Path:
    """Return the script or the recording of a clip.

    Raises:
        ValueError: why there is none, in a sentence.
    """
    stem = clean(clip.stem, FILE_NAME_LIMIT)
    if sum(other.stem == clip.stem for other in clips) > 1:
        raise ValueError(f"Another clip is called {stem} too: rename one.")
    beside = [
        file
        for file in files
        if file.stem == clip.stem and (file.suffix.lower() == _SCRIPT or kind_of_name(file.name) == "audio")
    ]
    if len(beside) != 1:
        found = " and ".join(clean(file.name, FILE_NAME_LIMIT) for file in beside) or "neither"
        raise ValueError(f"Put {stem}.txt or {stem}.wav beside it, not both; there is {found}.")
    return beside[0]


def _read_script(file: Path, voice: str | None) -> str:
    """Return what a file says.

    Raises:
        ValueError: why nobody can say it, in a sentence.
    """
    name = clean(file.name, FILE_NAME_LIMIT)
    if voice is None:
        raise ValueError(f"Say with --voice who speaks {name}.")
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{name} has more than {_MOST_BYTES // 1024} KB: that is no script.")
        script = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = clean(str(error), REASON_LIMIT)
        raise ValueError(f"{name} cannot be read as UTF-8 text: {reason}") from None
    if not script:
        raise ValueError(f"{name} is empty.")
    return script
