"""The runs of edit_dialogue and get_dialogue_edit: words found, one preview paid for, what it sounds like."""

import json
from pathlib import PurePath

from anyio.to_thread import run_sync

from sync_mcp.api.assets import Asset
from sync_mcp.api.dialogue_edits import DialogueEdit
from sync_mcp.api.models import RUNNING_STATUSES, Json
from sync_mcp.api.transcriptions import Transcription
from sync_mcp.errors import APITimeoutError, InvalidRequestError, NoOutput, NotFoundError
from sync_mcp.media.small_files import SmallFile, save_sound
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.call import Made
from sync_mcp.requests.lookups import match_voices
from sync_mcp.texts import ID_LIMIT, SAYING_LIMIT, WORD_LIMIT, clean, plain_id, safe
from sync_mcp.tools.answers import finite
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.dialogue import DialogueEditAnswer, EditDialogueArguments, GetDialogueEditArguments
from sync_mcp.tools.dialogue_sources import (
    TEXT_ENDINGS,
    advise_another_name,
    check_ending,
    find_source,
    find_transcription,
    save_transcript,
    tell_saved,
    wait_for,
)
from sync_mcp.tools.job_answers import STRANGE, whole_url
from sync_mcp.tools.paid_calls import advise_without_estimate, call_of_act, check_answer
from sync_mcp.tools.word_changes import make_edits

_TRANSCRIPT_SECONDS = 25.0
"""How long a preview waits for the words of its video, before the user is asked."""
_SAID_LIMIT = 1_500
_EDITS_SHOWN = 12
_EDIT_LIMIT = 120
_SHOWN = 40
_COPY_THE_ID = "Copy the whole dialogue_edit_id from edit_dialogue."
_ENDINGS = (".wav", *TEXT_ENDINGS)


async def edit_dialogue(context: CallContext, arguments: EditDialogueArguments) -> DialogueEditAnswer:
    source = await find_source(context, arguments)
    if source.asset.type != "VIDEO":
        raise InvalidRequestError("Only what a video says can be changed: this is a recording.")
    act = DialogueEditAct(await _body(context, arguments, source.asset), source.known_by)
    call = call_of_act(
        context,
        act,
        "edit_dialogue",
        take=arguments.take,
        quote_id=arguments.quote_id,
        max_cost_usd=arguments.max_cost_usd,
    )
    with advise_without_estimate():
        await check_answer(context, call)
        made = await context.process.guard.create(call)
    job = await wait_for(context, context.account.client.dialogue_edits, made.job, arguments.wait_seconds)
    answer = _answer(job)
    answer.edits = act.list_edits(_EDITS_SHOWN, _EDIT_LIMIT)
    answer.reused = made.reused or None
    if made.price_usd is not None:
        answer.held_usd = float(made.price_usd)
    answer.note = " ".join(_notes(made)) or None
    return answer


async def get_dialogue_edit(context: CallContext, arguments: GetDialogueEditArguments) -> DialogueEditAnswer:
    check_ending(arguments.save_as, *_ENDINGS)
    edits = context.account.client.dialogue_edits
    id = arguments.dialogue_edit_id.strip()
    try:
        job = await edits.get(id, request_options=context.reading)
    except (NotFoundError, InvalidRequestError) as error:
        explained = await context.account.explain_missing(id, DialogueEditAct.kind)
        raise explained or error.advise(next_step=_COPY_THE_ID) from None
    job = await wait_for(context, edits, job, arguments.wait_seconds)
    answer = _answer(job)
    if arguments.save_as is not None:
        answer.saved_as = tell_saved(await _save(context, job, arguments.save_as))
        answer.next_step = f"Tell the user the path. {answer.next_step}"
    return answer


async def _body(context: CallContext, arguments: EditDialogueArguments, asset: Asset) -> Json:
    """Return what the API is sent: the words of all of the video, unchanged, and the edits of them."""
    job = await find_transcription(context, asset, min(arguments.wait_seconds, _TRANSCRIPT_SECONDS))
    if job.transcript is None:
        raise _no_words(job)
    wanted = (arguments.transcription_id or job.id).strip()
    if wanted != job.id:
        raise InvalidRequestError(
            f"transcription_id {clean(wanted, _SHOWN)!r} is of another source, or of a part of this one: "
            "that of the whole of it is "
            f"{plain_id(job.id)}. Take word_ids of that one, or name the words as they are said."
        )
    edits = make_edits(job.transcript, arguments.changes)
    body: Json = {
        "sourceVideoUrl": asset.url,
        "transcript": job.transcript.to_wire(),
        "edits": [edit.to_wire() for edit in edits],
    }
    if arguments.voice_id is not None:
        voice_id, fault = (await match_voices(context.account, [arguments.voice_id]))[arguments.voice_id]
        if fault is not None:
            raise InvalidRequestError(f"voice_id {fault}")
        body["voiceId"] = voice_id
    return body


def _no_words(job: Transcription) -> Exception:
    if job.status in RUNNING_STATUSES:
        error = APITimeoutError("What the video says is not written down yet: nothing was started.")
        return error.advise(next_step="Make exactly this call again: it goes on with the same transcription.")
    # What is no plain word does not stand in a sentence of ours.
    why = plain_id(job.error_code or ("" if job.finished else job.status))
    code = f" ({why})" if why else ""
    return InvalidRequestError(f"What the video says cannot be written down{code}: nothing can be changed.")


def _answer(job: DialogueEdit) -> DialogueEditAnswer:
    answer = DialogueEditAnswer(
        dialogue_edit_id=safe(job.id, ID_LIMIT),
        status=safe(DialogueEditAct.status_of(job), WORD_LIMIT),
        next_step="",
    )
    if job.has_preview:
        answer.preview_audio_url = whole_url(job.preview_audio_url)
        length = finite(job.preview_duration_ms)
        answer.preview_seconds = None if length is None else round(length / 1000, 2)
        if job.result_transcript is not None:
            answer.said_now = safe(" ".join(job.result_transcript.to_text().split()), _SAID_LIMIT) or None
        answer.missing = safe(job.missing, SAYING_LIMIT) if job.missing else None
        answer.next_step = _after_preview(job, answer)
    elif job.finished:
        answer.api_code = safe(job.error_code, WORD_LIMIT) if job.error_code else None
        answer.next_step = _AFTER_FAILURE.get(
            job.error_code or "",
            "Tell the user that it failed, and ask before edit_dialogue is called again: it may be charged.",
        )
    elif job.status not in RUNNING_STATUSES:
        answer.next_step = f"{STRANGE}: get_dialogue_edit does; do not make it again by yourself."
    else:
        answer.next_step = (
            "Not finished: get_dialogue_edit with this dialogue_edit_id waits for it; do not make it again."
        )
    return answer


_MAY_BE_CHARGED = "It may have been charged."
_AFTER_FAILURE = {
    "EDIT_TOO_LONG": (
        f"{_MAY_BE_CHARGED} Ask the user for shorter words in its place, then call edit_dialogue again."
    ),
    "VOICE_BLOCKED": (
        f"{_MAY_BE_CHARGED} Tell the user: Sync does not speak in this voice. Nothing helps but another "
        "voice_id."
    ),
    "SOURCE_TOO_LONG": (
        f"{_MAY_BE_CHARGED} Ask the user for a shorter video, then call edit_dialogue with that."
    ),
}


def _after_preview(job: DialogueEdit, answer: DialogueEditAnswer) -> str:
    steps: list[str] = []
    if answer.preview_audio_url is not None:
        steps.append(
            "Let the user hear it: give them preview_audio_url letter for letter, or save it with "
            "get_dialogue_edit and save_as .wav."
        )
    else:
        steps.append(_NO_SOUND)
    if job.missing:
        steps.append("Tell them what is missing.")
    source = whole_url(job.source_video_url)
    video = json.dumps({"type": "video", "url": source}) if source else "the original video"
    subtitles = "; get_dialogue_edit with save_as .srt saves its subtitles" if job.result_transcript else ""
    steps.append(
        "If they want the video: estimate_cost and create_generation with model sync-3, input "
        f"[{video}] and this dialogue_edit_id{subtitles}."
    )
    return " ".join(steps)


_NO_SOUND = "The API names no sound of it: tell the user, and call get_dialogue_edit again in a while."


def _notes(made: Made[DialogueEdit]) -> list[str]:
    notes = list(made.notes)
    if made.how == "was there":
        notes.insert(0, "The same call made this preview before: nothing new was made or paid.")
    elif not made.reused and made.price_usd is None:
        notes.append("The API publishes no price for it: the ledger counts it as 0.")
    return notes


async def _save(context: CallContext, job: DialogueEdit, save_as: str) -> SmallFile:
    """Save what an edit sounds like, or what is said now.

    Raises:
        NoOutput: it has no preview, or ended without one, or without what is to be saved.
        FileRefused: it cannot be written there.
    """
    if not job.has_preview:
        code = "generation_failed" if job.finished else "generation_running"
        error = NoOutput("The preview has not ended, or has failed: there is nothing to save.", code=code)
        raise error.advise(next_step="Call get_dialogue_edit without save_as: it says how it is.")
    path = save_as.strip()
    if PurePath(path).suffix.lower() != ".wav":
        if job.result_transcript is None:
            raise NoOutput("The preview is done, and the API does not tell what is said in it.").advise(
                next_step="Tell the user, and call get_dialogue_edit again in a while."
            )
        return await save_transcript(context, job.result_transcript, path)
    if not job.preview_audio_url:
        raise NoOutput("The preview is done, and there is no sound to save.").advise(next_step=_NO_SOUND)
    roots = context.account.roots
    destination = await run_sync(roots.destination, path, f"dialogue-{job.id}.wav")
    with advise_another_name():
        return await save_sound(context.account.client, job.preview_audio_url, destination, roots)
