"""A dialogue edit: words of a video said anew, to be heard, made by `POST /v2/dialogue-edits` (API §25.2)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

from sync_mcp.api.client import AsyncSync
from sync_mcp.api.dialogue_edits import DIALOGUE_EDITS, DialogueEdit
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import APIStatusError, is_unknown_id
from sync_mcp.payments.acts.act import COMPLETED, Job, PaidAct
from sync_mcp.payments.canonical import urls_of
from sync_mcp.payments.spelling import in_one_spelling
from sync_mcp.payments.urls import find_signers
from sync_mcp.texts import in_quotes, safe, without_queries

_NAMED = ("projectId",)
"""Fields that say where the result is filed, and not what is made."""
_SAID_SHOWN = 80
_EDITS_SHOWN = 12


@dataclass(frozen=True)
class DialogueEditAct(PaidAct[DialogueEdit]):
    """Words of a video that are to be said anew or left out.

    Its price is not published, and the API keeps no key and no list of them: after a lost answer only the
    user can say what became of it.

    Attributes:
        body: what is sent.
        source: what the video is known by where two calls may have two assets of it: what it holds, or the
            URL that it was fetched from; by default the URL that is sent.
    """

    kind: ClassVar[str] = "dialogue_edit"
    noun: ClassVar[str] = "dialogue preview"
    is_priced: ClassVar[bool] = False
    list_tool: ClassVar[str] = ""

    body: Json
    source: str | None = None

    # What it is

    @cached_property
    def meaning(self) -> Json:
        """What is said anew, without signatures and in one spelling.

        Each transcription has ids of its own: a word is known by its letters, and as which of these it comes.
        """
        rest = {name: value for name, value in self.body.items() if name not in (*_NAMED, "transcript")}
        source = self.source or self.body.get("sourceVideoUrl")
        return in_one_spelling({**rest, "sourceVideoUrl": source, "edits": self._meant_edits})

    @cached_property
    def extras(self) -> Json:
        """The project."""
        return {name: self.body[name] for name in _NAMED if name in self.body}

    @property
    def model(self) -> str:
        """What makes it."""
        return "dialogue edit"

    @cached_property
    def summary(self) -> str:
        """One line for the user, without query strings."""
        return f"dialogue edit of {self._source}: {safe('; '.join(self._edits), 2 * _SAID_SHOWN)}"

    def name(self, room: int) -> str:
        """Return the words that change: "Tuesday > Thursday"."""
        return safe("; ".join(self._edits), room)

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        """Return a line for the video, each edit, and the voice."""
        lines = [f"video: {in_quotes(self._source)}"]
        lines += [f"edit: {in_quotes(edit)}" for edit in self._edits[:_EDITS_SHOWN]]
        if len(self._edits) > _EDITS_SHOWN:
            lines.append(f"and {len(self._edits) - _EDITS_SHOWN} more edits")
        voice = self.body.get("voiceId")
        if voice:
            lines.append(f"voice: {in_quotes(voice_names.get(str(voice), str(voice)))}")
        return lines

    @cached_property
    def signers(self) -> Sequence[str]:
        """Whose signature on the video's URL does not count."""
        return tuple(dict.fromkeys(one for url in urls_of(self.body) for one in find_signers(url)))

    def list_edits(self, most: int, limit: int) -> list[str]:
        """Return what each edit does, bounded; of many the first ones, and how many more there are."""
        told = [safe(edit, limit) for edit in self._edits[:most]]
        more = len(self._edits) - most
        return [*told, f"and {more} more"] if more > 0 else told

    @property
    def _source(self) -> str:
        place = without_queries(str(self.body.get("sourceVideoUrl") or "")).partition("?")[0]
        return safe(place.rstrip("/").rpartition("/")[2] or place, _SAID_SHOWN)

    @cached_property
    def _edits(self) -> list[str]:
        """What each edit does, by the words themselves."""
        words = self._words
        told: list[str] = []
        for edit in cast(list[Json], self.body.get("edits") or []):
            if edit.get("kind") == "remove":
                said = " ".join(words.get(str(id), "?") for id in edit.get("wordIds") or ())
                told.append(f"without {safe(said, _SAID_SHOWN)}")
                continue
            how = f" (said {edit['pronunciation']})" if edit.get("pronunciation") else ""
            said = f"{words.get(str(edit.get('wordId')), '?')} > {edit.get('replacement')}{how}"
            told.append(safe(said, _SAID_SHOWN))
        return told

    @cached_property
    def _meant_edits(self) -> list[Json]:
        places: dict[str, object] = {}
        count = Counter[str]()
        for id, text in self._words.items():
            count[text] += 1
            places[id] = [text, count[text]]
        meant: list[Json] = []
        for edit in cast(list[Json], self.body.get("edits") or []):
            ids = [str(id) for id in edit.get("wordIds") or [edit.get("wordId")]]
            rest = {name: value for name, value in edit.items() if name not in ("wordId", "wordIds")}
            meant.append({**rest, "words": [places.get(id, id) for id in ids]})
        return meant

    @cached_property
    def _words(self) -> Mapping[str, str]:
        """The letters of each word by its id, in the order in which they are said."""
        segments = cast(list[Json], cast(Json, self.body.get("transcript") or {}).get("segments") or [])
        words = (word for segment in segments for word in cast(list[Json], segment.get("words") or []))
        return {str(word.get("id")): str(word.get("text")) for word in words}

    # Its job

    @classmethod
    def job_kind(cls) -> JobKind[DialogueEdit]:
        """Return how the API makes dialogue edits."""
        return DIALOGUE_EDITS

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> DialogueEdit | None:
        """Return a dialogue edit, or None where the API does not show it.

        Raises:
            SyncError: the API cannot tell.
        """
        try:
            return await sync.dialogue_edits.get(job_id, request_options=options)
        except APIStatusError as error:
            if not is_unknown_id(error.status):
                raise
            return None

    @classmethod
    def status_of(cls, job: Job) -> str:
        """Return how a job stands: one that completed in part has its result."""
        return COMPLETED if job.status == "COMPLETED_PARTIAL" else job.status
