"""Near misses: which file or folder a user may have meant by a name that is not there."""

import os
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial
from heapq import nlargest
from pathlib import Path, PurePath

from sync_mcp.media.paths.inside import Place, fold, visible_names
from sync_mcp.media.paths.typed import display_path
from sync_mcp.texts import did_you_mean

_NEAR_NAMES = 3
_NEAR_NAMES_COMPARED = 20
_COMPARED_LENGTH = 80
_LIKE = 0.6


def near_paths(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield what is there below `folder` and named like `parts`, the likest first."""
    for index, part in enumerate(parts):
        if not os.path.lexists(folder / part):
            rest = parts[index + 1 :]
            near = [folder / name for name in _near_names(part, visible_names(folder))]
            yield from (path for path in (found.joinpath(*rest) for found in near) if os.path.lexists(path))
            if rest and near:
                yield from near_paths(near[0], rest)
            return
        folder /= part
    yield folder


def _near_names(wanted: str, names: Sequence[str]) -> list[str]:
    """Return the names most like the wanted one; of files, the ending makes no difference."""
    word = _stem(wanted)
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(word)

    def likeness(name: str, *, exact: bool) -> float:
        matcher.set_seq1(_stem(name))
        return 2 * (fold(name) == fold(wanted)) + (matcher.ratio() if exact else matcher.quick_ratio())

    # What is exact takes long: it is worked out for the few that can be alike.
    possible = nlargest(_NEAR_NAMES_COMPARED, names, key=partial(likeness, exact=False))
    ranked = [(likeness(name, exact=True), name) for name in possible]
    return [name for ratio, name in nlargest(_NEAR_NAMES, ranked) if ratio >= _LIKE]


def _stem(name: str) -> str:
    return PurePath(fold(name)).stem[:_COMPARED_LENGTH]


def near_folder(place: Place) -> str:
    """Return the end of a sentence: "; did you mean X?" for the folder that was meant, else "."."""
    path = next((path for path in near_paths(place.root, place.parts) if path.is_dir()), None)
    return did_you_mean(*([display_path(path)] if path else []))
