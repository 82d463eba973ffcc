"""What the videos of a campaign are called: after their clips, with what tells each from its like."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import PurePath

from sync_mcp.api.models import GenerationRequest
from sync_mcp.campaigns.table import Line
from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import clean

_ENDING = ".mp4"
_STEM_LIMIT = 80
_SHOWN = 80
_NOT_IN_NAMES = re.compile(r"[^\w .()+-]+")


def check_name(name: str) -> None:
    """Check what a line asks for as its video's name.

    Raises:
        InvalidRequestError: it lies in another folder, or no file can be called so.
    """
    if PurePath(name).name != name or _NOT_IN_NAMES.search(name) or name.startswith((".", " ")):
        raise InvalidRequestError(
            f"output {clean(name, _SHOWN)!r} is no plain file name: letters, digits, spaces and ._-+() "
            "alone, without a folder."
        )


def list_names(line: Line, request: GenerationRequest) -> Iterator[str]:
    """Yield what a line's video may be called, the best first: what the line asks for is the only one."""
    if line.output is not None:
        is_whole = line.output.lower().endswith(_ENDING)
        return iter([line.output if is_whole else f"{line.output}{_ENDING}"])
    clip = _stem(line.video or line.image or "") or "video"
    told = request.dub.target_lang if request.dub is not None else _stem(line.audio or "")
    told = "synced" if told in ("", clip) else told
    take = f".take{line.take}" if line.take > 1 else ""
    name = _NOT_IN_NAMES.sub("_", f"{clip}.{told}{take}").strip(" .")
    return (f"{name}{_ENDING}" if number == 1 else f"{name}-{number}{_ENDING}" for number in count(1))


def _stem(place: str) -> str:
    """Return the name of a file, wherever it lies, without folder, query and ending."""
    path = place.partition("?")[0].partition("#")[0].replace("\\", "/").rstrip("/")
    return PurePath(path).stem[:_STEM_LIMIT]
