"""Dialogue edits: words of a video changed or removed, to be heard before they are rendered (API §25.2)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import Discriminator, Field, JsonValue, Tag

from sync_mcp.api.allowance import Allowance
from sync_mcp.api.create import Creator
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.ids import check_id
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import CamelModel, Figure, Json, Moment
from sync_mcp.api.options import RequestOptions, new_idempotency_key, take_idempotency_key
from sync_mcp.api.polling import PolledJob, look_every, wait_for_end
from sync_mcp.api.transcriptions import Transcript, code_in
from sync_mcp.errors import APIResponseError, InvalidRequestError

DialogueEditStatus = Literal["PENDING", "PROCESSING", "COMPLETED", "COMPLETED_PARTIAL", "FAILED"] | str
MOST_EDITS = 100
_PATH = "/v2/dialogue-edits"
_COMPLETED = frozenset({"COMPLETED", "COMPLETED_PARTIAL"})
_SHOWN_WORDS = 3
_FIRST_LOOK_SECONDS = 1.0
_LOOK_SECONDS = 3.0


class WordChange(CamelModel):
    """A word that is to be another one, or several; `pronunciation` says how, where it is not as written."""

    kind: Literal["change"] = "change"
    word_id: str
    replacement: str
    pronunciation: str | None = None


class WordRemoval(CamelModel):
    """Words in a row that are to be left out."""

    kind: Literal["remove"] = "remove"
    word_ids: list[str]


class OtherEdit(CamelModel):
    """An edit of a kind that this version does not know."""

    kind: str = ""


def _edit_kind(edit: object) -> str:
    if isinstance(edit, Mapping):
        kind = cast(Mapping[str, object], edit).get("kind")
    else:
        kind = getattr(edit, "kind", None)
    return kind if kind in ("change", "remove") else "other"


WordEdit = Annotated[
    Annotated[WordChange, Tag("change")]
    | Annotated[WordRemoval, Tag("remove")]
    | Annotated[OtherEdit, Tag("other")],
    Discriminator(_edit_kind),
]


class EditedSlot(CamelModel):
    """A part of the source that sounds another way now, in milliseconds."""

    output_start_ms: Figure | None = None
    output_duration_ms: Figure | None = None
    source_start_ms: Figure | None = None
    source_duration_ms: Figure | None = None


class DialogueEdit(PolledJob):
    """A dialogue edit: how far it is, and what it sounds like."""

    status: DialogueEditStatus
    created_at: Moment | None = None
    source_video_url: str | None = None
    source_transcript: Transcript | None = None
    edits: list[WordEdit] = Field(default_factory=list[WordEdit])
    voice_id: str | None = None
    preview_audio_url: str | None = None
    """Signed: a WAV of the whole source as it sounds now."""
    preview_duration_ms: Figure | None = None
    result_transcript: Transcript | None = None
    """What is said now, and when."""
    result_slots: list[EditedSlot] = Field(default_factory=list[EditedSlot])
    partial_detail: JsonValue = None
    """What is missing, where it completed in part."""
    error: JsonValue = None

    @property
    def has_preview(self) -> bool:
        """Whether there is a preview, whole or in part."""
        return self.status in _COMPLETED

    @property
    def missing(self) -> str | None:
        """What of it is not there, as the API says it; None where it is whole."""
        if self.status != "COMPLETED_PARTIAL":
            return None
        detail = self.partial_detail
        said = detail.get("message") if isinstance(detail, Mapping) else detail
        return str(said) if said else "The API does not say what."

    @property
    def error_code(self) -> str | None:
        """Why it has no preview: EDIT_TOO_LONG, VOICE_BLOCKED, SOURCE_TOO_LONG."""
        return code_in(self.error)


DIALOGUE_EDITS = JobKind(
    name="dialogue edit",
    path=_PATH,
    model=DialogueEdit,
    has_keys=False,
    refused_by=("generation_infra_service_unavailable",),
)
"""Previews of changed words (API §25.2). The API documents no idempotency key for them and has no list: one
whose answer was lost is not sent again. By the code above it says that it cannot tell whether the
organization has them, before anything is made."""


GuardedEdit = Callable[[Json, RequestOptions | None, int], Awaitable[DialogueEdit]]
"""Has words said anew within limits, or returns the dialogue edit that did it before."""


class DialogueEdits:
    """The dialogue edits of an account; reached as `AsyncSync.dialogue_edits`."""

    def __init__(
        self,
        transport: Transport,
        creator: Creator,
        allowance: Allowance,
        guarded: GuardedEdit | None = None,
    ) -> None:
        self._transport = transport
        self._creator = creator
        self._allowance = allowance
        self._guarded = guarded

    async def create(
        self,
        *,
        source_video_url: str,
        transcript: Transcript,
        edits: Sequence[WordChange | WordRemoval],
        voice_id: str | None = None,
        rerun_of_job_id: str | None = None,
        project_id: str | None = None,
        take: int = 1,
        request_options: RequestOptions | None = None,
    ) -> DialogueEdit:
        """Start a paid preview and return it as the API accepted it; its price is not published.

        With a guard (see `AsyncSync`) the same edit is made once: a repeat returns its job, and `take` makes
        it again on purpose. The API keeps no keys for it: one whose outcome is unknown is not sent again.

        Args:
            source_video_url: the URL of the video's asset, by which it was transcribed.
            transcript: of the whole video, unchanged, as `transcriptions` answered it.
            edits: 1 to 100; each word of the transcript in one of them at most.
            voice_id: whose voice says the changes; by default that of the source.
            rerun_of_job_id: an edit that this one is made of anew.
            project_id: where it is filed.
            take: counts with a guard alone.
            request_options: of this call.

        Raises:
            InvalidRequestError: the edits do not go with the transcript; nothing was sent.
            LimitReached, ApprovalRequired, LedgerError: a guard does not let it go out; nothing was sent.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and whether it was accepted cannot be found out.
        """
        faults = faults_of_edits(transcript, edits)
        if faults:
            raise InvalidRequestError(faults)
        given = {
            "voiceId": voice_id,
            "rerunOfJobId": rerun_of_job_id,
            "projectId": project_id,
        }
        body: Json = {
            "sourceVideoUrl": source_video_url,
            "transcript": transcript.to_wire(),
            "edits": [edit.to_wire() for edit in edits],
            **{name: value for name, value in given.items() if value is not None},
        }
        if self._guarded is not None:
            return await self._guarded(body, request_options, take)
        if take != 1:
            raise InvalidRequestError("take counts with a guard alone: without one each create is a new job.")
        key, options = take_idempotency_key(request_options)
        book = self._creator.memory
        return await self._creator.create_as(
            DIALOGUE_EDITS, book, key or new_idempotency_key(), body, options
        )

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> DialogueEdit:
        """Return the present state of a dialogue edit.

        Raises:
            NotFoundError: this key has none by this id.
        """
        call = Call("GET", f"{_PATH}/{check_id(id, 'A dialogue edit')}")
        job = (await self._transport.read(call, request_options)).read_as(DialogueEdit, "dialogue edit")
        if job.id != id:
            raise APIResponseError("The API was asked for one dialogue edit and shows another.")
        return job

    async def wait(self, id: str, timeout: float, *, known: DialogueEdit | None = None) -> DialogueEdit:
        """Return a dialogue edit when it has ended, or its latest state after `timeout` seconds.

        `known` is a state that the caller has already. Ask `missing` what a preview in part lacks. Faults
        that may pass are waited out.

        Raises:
            SyncError: an answer that waiting cannot change, or nothing but faults in the whole time.
        """
        return await wait_for_end(
            look_every(_LOOK_SECONDS, lambda options: self.get(id, request_options=options)),
            self._allowance,
            timeout,
            known=known,
            first_pause=_FIRST_LOOK_SECONDS,
            pause_after_fault=_LOOK_SECONDS,
        )


def faults_of_edits(transcript: Transcript, edits: Sequence[WordChange | WordRemoval]) -> list[str]:
    """Return a sentence for every rule that edits break; an empty list means that they may be sent."""
    if not 1 <= len(edits) <= MOST_EDITS:
        return [f"There are {len(edits)} edits, and one call takes 1 to {MOST_EDITS}: make several calls."]
    places = {word.id: place for place, word in enumerate(transcript.words)}
    faults: list[str] = []
    touched: dict[str, int] = {}
    for number, edit in enumerate(edits):
        ids = [edit.word_id] if isinstance(edit, WordChange) else edit.word_ids
        unknown = [f"{id[:40]!r}" for id in ids if id not in places][:_SHOWN_WORDS]
        if not ids or unknown:
            told = f"names words that the transcript does not have: {', '.join(unknown)}"
            faults.append(f"edits[{number}] {told if ids else 'names no word'}.")
            continue
        twice = next((id for id in ids if id in touched), None)
        if twice is not None:
            faults.append(
                f"edits[{number}] and edits[{touched[twice]}] are of the same word {twice}: make one of them."
            )
        touched.update(dict.fromkeys(ids, number))
        first = places[ids[0]]
        if [places[id] for id in ids] != list(range(first, first + len(ids))):
            faults.append(
                f"edits[{number}] removes words that do not stand in a row: make an edit of each row."
            )
        if isinstance(edit, WordChange) and not edit.replacement.strip():
            faults.append(f"edits[{number}] has no replacement: say what is to be said, or remove the word.")
    return faults
