"""A line, as far as it is read by itself: the fields of its request, and the local files among its inputs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from sync_mcp.api.formats import MediaKind
from sync_mcp.api.languages import TELL_LANGUAGES
from sync_mcp.campaigns.table import TEXTS, Line
from sync_mcp.media.paths.typed import OF_A_CHAT, OF_WINDOWS
from sync_mcp.requests.lookups import TELL_VOICES
from sync_mcp.texts import clean, plain_id, unwrap

_KINDS: tuple[MediaKind, ...] = ("video", "image", "audio")
_SHOWN = 60
_ASSET = "asset:"
_URL = re.compile(r"(?i)(?!file:)[a-z][a-z0-9+.-]+://")
_FILE_URL = re.compile(r"(?i)file:")
_UUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INPUT = re.compile(r"\binput\[(\d+)\](?: \(\w+\))?(?:\.(?:url|asset_id|path|script)\b)?")
_ODD = re.compile(r"[\0\ud800-\udfff]")
_COLUMNS_OF_FIELDS = {
    "script.voice_id": "voice",
    "dub.target_lang": "language",
    TELL_LANGUAGES: ": give its code, such as es, or its English name.",
    TELL_VOICES: "",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """What a line asks for.

    Attributes:
        line: it.
        inputs: of its request, as `make_request` takes them.
        columns: the column that each input came from.
        files: the local files among them, by their numbers: path and kind.
    """

    line: Line
    inputs: Sequence[Mapping[str, str]]
    columns: Sequence[str]
    files: Mapping[int, tuple[str, MediaKind]]

    def list_fields(self, model: str | None, voice: str | None) -> dict[str, Any]:
        """Return the fields of its request, to be used up.

        Args:
            model: where the line names none.
            voice: the id of the voice that says its script.
        """
        line = self.line
        inputs = [dict(item) for item in self.inputs]
        if line.script is not None:
            inputs.append({"type": "text", "script": line.script, "voice_id": voice or ""})
        fields: dict[str, Any] = {"input": inputs}
        if line.model or model:
            fields["model"] = line.model or model
        if line.options:
            fields["options"] = dict(line.options)
        if line.language is not None:
            fields["dub"] = {"target_lang": line.language}
        return fields

    def tell(self, fault: str) -> str:
        """Return a fault of its request with the names of columns in place of those of fields."""

        def name(found: re.Match[str]) -> str:
            number = int(found[1])
            return self.columns[number] if number < len(self.columns) else found[0]

        told = _INPUT.sub(name, fault)
        for field, column in _COLUMNS_OF_FIELDS.items():
            told = told.replace(field, column)
        return told


def draft_line(line: Line, beside: Path) -> Draft:
    """Return what a line asks for; `beside` is the folder from which its relative paths are read."""
    inputs: list[Mapping[str, str]] = []
    columns: list[str] = []
    files: dict[int, tuple[str, MediaKind]] = {}
    for kind in _KINDS:
        text: str | None = getattr(line, kind)
        if text is None:
            continue
        bare = unwrap(text)
        item = {"type": kind}
        if _URL.match(bare):
            item["url"] = bare
        elif bare.startswith(_ASSET) or _UUID.fullmatch(bare):
            item["asset_id"] = bare.removeprefix(_ASSET).strip()
        else:
            item["path"] = text if _is_whole(bare) else str(beside / bare)
            files[len(inputs)] = item["path"], kind
        inputs.append(item)
        columns.append(kind)
    return Draft(line, inputs, (*columns, "script"), files)


def _is_whole(path: str) -> bool:
    """Return whether a path says by itself where it lies; another lies beside the file that names it."""
    return (
        path.startswith(("~", "\\\\"))
        or PurePath(path).is_absolute()
        or any(form.match(path) for form in (_FILE_URL, OF_WINDOWS, OF_A_CHAT))
    )


def find_odd_texts(line: Line) -> Iterator[str]:
    """Yield what is wrong with a line's texts by their letters alone."""
    for name in TEXTS:
        text: str | None = getattr(line, name)
        if text is None:
            continue
        if _ODD.search(text):
            # It can neither be sent nor written down.
            yield f"{name} has letters in it that are no text: write it anew."
        elif name in _KINDS and text.startswith(_ASSET) and not plain_id(text.removeprefix(_ASSET).strip()):
            yield f"{name} {clean(text, _SHOWN)!r} is no asset: give asset: with the id of one behind it."
