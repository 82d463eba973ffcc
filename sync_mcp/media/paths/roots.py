"""Which local files may be read and where files may be written: below the allowed folders, and nowhere else.

What lies outside of them gets one and the same answer, whether it is there or not.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath, PureWindowsPath

from sync_mcp.api.formats import kind_of_name
from sync_mcp.errors import FileRefused
from sync_mcp.media.paths.destinations import add_ending, file_in
from sync_mcp.media.paths.inside import (
    Outside,
    Place,
    fold,
    is_no_disk,
    place_below,
    resolve,
    respell,
    visible_names,
)
from sync_mcp.media.paths.near import near_folder, near_paths
from sync_mcp.media.paths.opening import MediaFile, is_at, open_any, open_media
from sync_mcp.media.paths.typed import (
    DISPLAY_LIMIT,
    OF_A_CHAT,
    OF_WINDOWS,
    WINDOWS,
    absolute_path,
    display_path,
    display_text,
    expand_folders,
    is_name_alone,
    is_network,
    plain_path,
)
from sync_mcp.media.paths.usual import usual_download_folder, usual_roots
from sync_mcp.texts import clean, did_you_mean

_FOLDERS_SHOWN = 8
_MEDIA_LISTED = 10
_LISTED_LIMIT = 60
_ANOTHER_FILE = "Name a file in an allowed folder, or ask the user to allow this one: SYNC_MCP_MEDIA_ROOTS."
_ANOTHER_PLACE = "Name a file or a folder in an allowed folder, or ask the user to set SYNC_MCP_MEDIA_ROOTS."


class MediaRoots:
    """The allowed folders. A folder that is missing is not offered until it is there.

    Every method blocks for as long as the disk takes: call it in a worker thread.
    """

    def __init__(self, folders: Sequence[Path], download_folder: Path | None) -> None:
        """Allow reading and writing below `folders`, and writing below `download_folder`.

        Each is absolute or begins with `~`. Without any, every local path is refused.
        """
        self._folders = expand_folders(folders)
        self._download_folder = next(iter(expand_folders([download_folder] if download_folder else [])), None)
        self._real: dict[Path, Path] = {}

    @classmethod
    def usual(cls) -> "MediaRoots":
        """Return what is allowed where the user has set nothing."""
        return cls(usual_roots(), usual_download_folder())

    @property
    def can_save(self) -> bool:
        """Whether there is any folder that may be written to; the disk is not looked at."""
        return bool(self._writable)

    @property
    def folders(self) -> Sequence[Path]:
        """Those below which files may be read."""
        return self._folders

    def open(self, path: str, *, is_media: bool = True) -> MediaFile:
        """Open a file, named as users do: absolute, below `~`, relative, quoted, or by a file:// URL.

        Its content begins like a format that the API takes, unless `is_media` says that it need not.

        Nothing is read of what is not a regular, visible file below an allowed folder.

        Raises:
            FileRefused: `file_not_allowed`, `file_not_found`, `file_not_readable`, `file_empty`,
                `file_not_media`.
        """
        _refuse_without(self._folders)
        text = plain_path(path)
        shown = display_text(text)
        try:
            place = self._place(absolute_path(text), self._folders, network=is_network(text))
            return self._open_place(place) if is_media else open_any(place)
        except Outside:
            raise self._elsewhere(text) or FileRefused(
                f"{shown} is not in a folder that may be read, or is hidden there{self._near_miss(text)} "
                f"{self._name_folders(self._folders)}",
                code="file_not_allowed",
                next_step=_ANOTHER_FILE,
            ) from None
        except OSError as error:
            if not _is_missing(error):
                raise _unreadable(shown, error) from error
            raise self._elsewhere(text) or FileRefused(
                f"{shown} is not there{self._near_miss(text)} {self._name_folders(self._folders)}",
                code="file_not_found",
                next_step="Check the path, or ask the user where the file lies.",
            ) from None

    def _open_place(self, place: Place) -> MediaFile:
        try:
            return open_media(place)
        except FileRefused as error:
            if place.path.is_dir():
                self._tell_media(error, place)
            raise

    def _tell_media(self, error: FileRefused, folder: Place) -> None:
        """Tell which media files lie in a folder that was named in the place of one."""
        names: list[str] = []
        for name in sorted(filter(kind_of_name, visible_names(folder.path)), key=fold):
            with (
                suppress(Outside, OSError, FileRefused),
                open_media(self._place(folder.path / name, self._folders)),
            ):
                names.append(f"{clean(name, _LISTED_LIMIT)!r}")
            if len(names) > _MEDIA_LISTED:
                break
        more = " and more" if len(names) > _MEDIA_LISTED else ""
        shown = ", ".join(names[:_MEDIA_LISTED]) or "no media file"
        allowed = "" if names else f" {self._name_folders(self._folders)}"
        error.advise(
            message=f"{display_path(folder.path)} is a folder, and holds {shown}{more}.{allowed}",
            next_step=(
                "Name a file in it." if names else "Name another file, or ask the user where the file lies."
            ),
        )

    def _elsewhere(self, text: str) -> FileRefused | None:
        """Return what is said of a path that is one of another machine by its letters; None of any other."""
        if OF_A_CHAT.match(text):
            what = "is a file of the chat, attached to it or made there, and not on this computer"
            step = "Ask the user where it is on this computer, and give that path."
        elif OF_WINDOWS.match(text) and not WINDOWS:
            what = "is a path of Windows, and this server runs on another system"
            step = "Ask the user for its path on this computer."
        else:
            return None
        return FileRefused(
            f"{display_text(text)} {what}{self._near_miss(text)} {self._name_folders(self._folders)}",
            code="file_not_found",
            next_step=step,
        )

    def destination(self, path: str | None, file_name: str) -> Path:
        """Return where a file is to be written: without links, in a folder that is there.

        `path` is a file or a folder (one that exists, or it ends in a separator), in which it is called
        `file_name`; None is the download folder, and a name alone is one in it. A name with another ending
        than `file_name`'s gets that too. What may be there is not looked at, but that it is no link, folder
        or device.

        Raises:
            FileRefused: `file_not_allowed`, `folder_not_found`, `file_not_writable`.
        """
        folders = self._writable
        if not folders:
            raise FileRefused(
                "Nothing can be saved here: over HTTP only where SYNC_MCP_DOWNLOAD_DIR or "
                "SYNC_MCP_MEDIA_ROOTS names a folder.",
                code="file_not_allowed",
                next_step=(
                    "get_generation tells output_url: give that to the user letter for letter, or ask them "
                    "to set a folder."
                ),
            )
        if path is None and self._download_folder is None:
            raise FileRefused(
                f"There is no download folder. {self._name_folders(folders)}",
                code="folder_not_found",
                next_step="Give path, in an allowed folder, or ask the user to set SYNC_MCP_DOWNLOAD_DIR.",
            )
        text = str(self._download_folder) if path is None else plain_path(path)
        shown = display_text(text)
        if self._download_folder is not None and is_name_alone(text):
            text = str(self._download_folder / text)
        try:
            asked = absolute_path(text)
            self._make_downloads(asked)
            place = self._place(asked, folders, network=is_network(text))
            if place.path.is_dir():
                return file_in(place, file_name)
            is_folder = text.endswith(("/", os.sep))
            folder = Place(place.root, place.parts if is_folder else place.parts[:-1])
            if not folder.path.is_dir():
                raise FileRefused(
                    f"The folder {display_path(folder.path)} is not there{near_folder(folder)} "
                    f"{self._name_folders(folders)}",
                    code="folder_not_found",
                    next_step="Name a folder that exists, or ask the user to make this one.",
                )
            return file_in(folder, add_ending(place.parts[-1], PurePath(file_name).suffix))
        except Outside:
            raise FileRefused(
                f"{shown} is not in a folder that may be written to, or is hidden there. "
                f"{self._name_folders(folders)}",
                code="file_not_allowed",
                next_step=_ANOTHER_PLACE,
            ) from None
        except OSError as error:
            raise FileRefused(
                f"{shown} cannot be written: {_reason(error)}. {self._name_folders(folders)}",
                code="file_not_writable",
                next_step="Name another file or folder, or ask the user to make this one writable.",
            ) from error

    def check_open(self, descriptor: int, path: Path) -> None:
        """Check that the file open for writing is the one at `path`, and that no link leads there by now.

        Its name may be hidden, as that of a temporary file; its folder may not.

        Raises:
            FileRefused: `file_not_allowed`.
        """
        with suppress(Outside, OSError):
            folder = place_below(path.parent, self._real_folders(self._writable))
            if folder is not None and is_at(descriptor, folder, path.name):
                return
        raise FileRefused(
            f"The folder of {display_text(str(path))} was changed while a file was written to it. "
            f"{self._name_folders(self._writable)}",
            code="file_not_allowed",
            next_step=_ANOTHER_PLACE,
        )

    @property
    def _writable(self) -> tuple[Path, ...]:
        return self._folders if self._download_folder is None else (*self._folders, self._download_folder)

    def _real_folders(self, folders: Sequence[Path]) -> list[Path]:
        """Return the real places of the folders that are there; each is resolved once, when first needed."""
        for folder in folders:
            if folder not in self._real:
                real = Path(os.path.realpath(folder))
                if real.is_dir():
                    self._real[folder] = real
        return [self._real[folder] for folder in folders if folder in self._real]

    def _place(self, asked: Path, folders: Sequence[Path], *, network: bool = False) -> Place:
        """Resolve an absolute path.

        Raises:
            Outside: it leads out of `folders`, or to what is hidden.
        """
        real = self._real_folders(folders)
        named = place_below(asked, [*folders, *real])
        if (network and not (WINDOWS and named)) or (named is None and is_no_disk(asked)):
            # Not even looked at: looking can take long there, or tell others.
            raise Outside
        place = resolve(asked, real)
        if os.path.lexists(place.path):
            return place
        return resolve(respell(place), real)

    def _make_downloads(self, asked: Path) -> None:
        """Make the download folder where it is missing and the asked path lies in it; not the one above."""
        folder = self._download_folder
        if folder is None or place_below(asked, [folder]) is None:
            return
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise FileRefused(
                f"The download folder {display_path(folder)} cannot be made: {_reason(error)}.",
                code="folder_not_found",
                next_step="Name another folder, or ask the user to set SYNC_MCP_DOWNLOAD_DIR.",
            ) from error

    def _name_folders(self, folders: Sequence[Path]) -> str:
        """Return a sentence that names the folders that are there."""
        existing = [folder for folder in folders if self._real_folders([folder])]
        if not existing:
            return "None of the allowed folders exists."
        shown = list(dict.fromkeys(clean(display_path(folder), DISPLAY_LIMIT // 2) for folder in existing))
        more = f" and {len(shown) - _FOLDERS_SHOWN} more" if len(shown) > _FOLDERS_SHOWN else ""
        return f"Allowed folders: {', '.join(shown[:_FOLDERS_SHOWN])}{more}."

    def _near_miss(self, text: str) -> str:
        """Return the end of a sentence: "; did you mean X?" for a file that could be opened, else "."."""
        with suppress(Outside, OSError, FileRefused):
            for path in dict.fromkeys(self._candidates(text)):
                with suppress(Outside, OSError, FileRefused), open_media(self._place(path, self._folders)):
                    return did_you_mean(display_path(path))
        return did_you_mean()

    def _candidates(self, text: str) -> Iterator[Path]:
        asked = absolute_path(text)
        real = self._real_folders(self._folders)
        with suppress(Outside):
            place = resolve(asked, real)
            yield from near_paths(place.root, place.parts)
        for root in real:
            # The folder in other letters, a path that was meant to begin there, a name without its folder.
            if fold(str(asked)).startswith(fold(f"{root}{os.sep}")):
                yield root.joinpath(*asked.parts[len(root.parts) :])
            yield root / text.lstrip("/\\")
            yield root / asked.name
            yield root / PureWindowsPath(text).name


def _refuse_without(folders: Sequence[Path]) -> None:
    if not folders:
        raise FileRefused(
            "Local files are off: over HTTP they can be used only if SYNC_MCP_MEDIA_ROOTS names folders.",
            code="file_not_allowed",
            next_step="Give a url or an asset_id instead of a path, or ask the user to set it.",
        )


def _is_missing(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)


def _unreadable(shown: str, error: OSError) -> FileRefused:
    return FileRefused(
        f"{shown} cannot be read: {_reason(error)}.",
        code="file_not_readable",
        next_step="Check the file and who may read it.",
    )


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
