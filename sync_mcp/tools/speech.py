"""The run of create_speech: a script, its terms, the job that came of it, and its sound."""

import logging
from functools import partial

from anyio.to_thread import run_sync

from sync_mcp.api.models import RUNNING_STATUSES
from sync_mcp.api.speech import Speech, make_speech_request
from sync_mcp.api.uploads import OnProgress
from sync_mcp.errors import APIResponseError, InvalidRequestError, LedgerError, NoOutput, SyncError
from sync_mcp.media.saving_sound import SavedSound, save_sound
from sync_mcp.payments.acts.act import Job
from sync_mcp.payments.acts.speech import SOUND, SpeechAct
from sync_mcp.requests.lookups import match_voices
from sync_mcp.texts import FAULT_LIMIT, ID_LIMIT, SAYING_LIMIT, WORD_LIMIT, clean, format_id, plain_id, safe
from sync_mcp.tools.context import ANSWER_SECONDS, CallContext
from sync_mcp.tools.job_answers import STRANGE
from sync_mcp.tools.paid_calls import advise_without_estimate, call_of_act, check_answer, tell_how
from sync_mcp.tools.progress import transfer_reporter
from sync_mcp.tools.remedies import api_remedy
from sync_mcp.tools.voices import SpeechAnswer, SpeechArguments

_SAVING_SECONDS = 10.0
"""What is left of a call for the sound, once the speech was waited for."""
_PATH_LIMIT = 4096
_MOST_REMEMBERED = 100
_GONE = (403, 404, 410)
"""How a storage says that a URL is good no more."""
_SOME_NAME = "speech.wav"
"""Stands for the name of a sound whose format is not known before it is made."""
_RUNS = (
    "It runs still: make exactly the same create_speech call again, which waits for it, saves it and pays "
    "nothing; wait_for_generations with its speech_id waits too."
)
_IS_MADE = "The speech itself is made and paid: the same create_speech call pays nothing more."

logger = logging.getLogger("sync_mcp.tools")


async def create_speech(context: CallContext, arguments: SpeechArguments) -> SpeechAnswer:
    client, guard, roots = context.account.client, context.process.guard, context.account.roots
    if roots.can_save:
        # Where nothing can be saved, that is said before anything is paid.
        await run_sync(roots.destination, arguments.path, _SOME_NAME)
    request = make_speech_request(
        arguments.script, arguments.voice_id, arguments.stability, arguments.similarity_boost
    )
    voice_id, fault = (await match_voices(context.account, [request.voice_id]))[request.voice_id]
    if fault is not None:
        raise InvalidRequestError(f"voice_id {fault}").advise(
            next_step="Call list_voices, and give one of its voice_id."
        )
    act = SpeechAct.of(
        make_speech_request(request.script, voice_id, request.stability, request.similarity_boost), client
    )
    call = call_of_act(
        context,
        act,
        "create_speech",
        take=arguments.take,
        quote_id=arguments.quote_id,
        max_cost_usd=arguments.max_cost_usd,
        on_made=partial(_remember, context.account.unsaved_sounds),
    )
    with advise_without_estimate():
        await check_answer(context, call)
        made = await guard.create(call)
    speech = await _wait(context, made.job)
    answer = SpeechAnswer(
        speech_id=safe(speech.id, ID_LIMIT),
        status=safe(SpeechAct.status_of(speech), WORD_LIMIT),
        held_usd=None if made.price_usd is None else float(made.price_usd),
        reused=made.reused or None,
        next_step=_RUNS,
    )
    notes = [*tell_how(made), *made.notes]
    if speech.status == "SUCCESS":
        try:
            notes += await _save(context, arguments, speech, answer)
        except SyncError as error:
            if not made.reused:
                # It is paid, whatever becomes of its sound.
                error.advise(money_spent="yes", message=f"{error.message} {_IS_MADE}")
            raise
    elif speech.finished:
        await _tell_failure(context, speech, answer)
    elif speech.status not in RUNNING_STATUSES:
        answer.next_step = f"{STRANGE}: the same create_speech call does, and pays nothing unasked."
    answer.note = " ".join(notes) or None
    return answer


def _remember(sounds: dict[str, str], job: Job) -> None:
    """Keep where a sound lies that may be told once: whoever waits for it may be gone by now."""
    if isinstance(job, Speech) and job.url:
        sounds[job.id] = job.url
        while len(sounds) > _MOST_REMEMBERED:
            del sounds[next(iter(sounds))]


async def _wait(context: CallContext, speech: Speech) -> Speech:
    """Return a speech at its end, or as it is when the call has no more time for it."""
    if speech.finished:
        return speech
    await context.report_progress("The script is being said.")
    seconds = max(0.0, context.seconds_left - _SAVING_SECONDS - ANSWER_SECONDS)
    # It is accepted: whatever happens to the wait, the answer is its handle.
    try:
        return await context.account.client.speech.wait(speech.id, seconds, known=speech)
    except SyncError as error:
        reason = safe(str(error), FAULT_LIMIT)
        logger.warning("the wait for speech %s ended: %s", clean(speech.id, ID_LIMIT), reason)
        return speech


async def _save(
    context: CallContext, arguments: SpeechArguments, speech: Speech, answer: SpeechAnswer
) -> list[str]:
    """Save the sound, put where it is into the answer, and return what is to be told of it."""
    account = context.account
    client, stem = account.client, f"speech-{plain_id(speech.id) or 'sync'}"

    async def work(on_progress: OnProgress) -> SavedSound:
        url = speech.url or await _find_url(context, speech)
        try:
            saved = await save_sound(
                client,
                url,
                account.roots,
                arguments.path,
                stem=stem,
                told_seconds=speech.duration,
                overwrite=arguments.overwrite,
                on_progress=on_progress,
            )
        except APIResponseError as error:
            if error.status in _GONE:
                account.unsaved_sounds.pop(speech.id, None)
            raise
        # By the one who saves it: the call that waits for it may be over by then.
        await _note_saved(context, speech, saved)
        if saved.asset is not None:
            account.unsaved_sounds.pop(speech.id, None)
        return saved

    key = ("sound", client.base_url, client.key_fingerprint, speech.id, arguments.path, arguments.overwrite)
    try:
        saved = await account.work.join(
            key, work, until=context.answer_at, on_progress=transfer_reporter(context, "the speech")
        )
    finally:
        account.work.forget(key)
    if saved.refusal is not None:
        if saved.asset is not None:
            kept = f"{saved.refusal.message} It is kept as asset {format_id(saved.asset.id)} all the same."
            saved.refusal.advise(message=kept)
        raise saved.refusal
    answer.path = clean(str(saved.path), _PATH_LIMIT) if saved.path else None
    answer.asset_id = safe(saved.asset.id, ID_LIMIT) if saved.asset else None
    answer.bytes = saved.size
    seconds = speech.duration if saved.duration_seconds is None else saved.duration_seconds
    answer.duration_seconds = None if seconds is None else round(seconds, 2)
    answer.next_step = _use(answer)
    fault = saved.fault and f"It is no asset yet: {saved.fault.message}"
    return [text for text in (saved.note, fault) if text]


async def _find_url(context: CallContext, speech: Speech) -> str:
    """Return where the sound of a speech lies that the API does not keep as a job."""
    told = context.account.unsaved_sounds.get(speech.id)
    if told is not None:
        return told
    if speech.asset_id:
        asset = await context.account.client.assets.get(speech.asset_id, request_options=context.reading)
        if asset.url:
            return asset.url
    raise NoOutput(
        "This speech was made and paid before, and its sound is nowhere: the API told it once, and it was "
        "not saved then.",
    ).advise(
        money_spent="no",
        next_step="Tell the user. With another take, such as 2, create_speech makes and pays it again.",
    )


async def _note_saved(context: CallContext, speech: Speech, saved: SavedSound) -> None:
    guard, client = context.process.guard, context.account.client
    try:
        if saved.path is not None:
            await guard.note_saved(client, speech.id, clean(str(saved.path), _PATH_LIMIT))
        if saved.asset is not None:
            await guard.note_asset(client, speech.id, SOUND, saved.asset.id)
    except LedgerError as error:
        # The sound is there, whatever is the matter with the ledger.
        logger.warning("where a speech was saved cannot be noted: %s", error)


async def _tell_failure(context: CallContext, speech: Speech, answer: SpeechAnswer) -> None:
    entry = None
    try:
        entry = await context.process.guard.settle_failure(context.account.client, speech)
    except SyncError as error:
        logger.warning("how a speech ended cannot be noted: %s", error)
    answer.charged = entry.charged if entry is not None else "unknown"
    answer.api_code = safe(speech.error_code, WORD_LIMIT) if speech.error_code else None
    answer.api_says = safe(speech.error_message, SAYING_LIMIT) if speech.error_message else None
    answer.remedy = api_remedy(speech.error_code) or "Ask the user for another script or voice."
    answer.next_step = (
        "It may have been charged: made again, it may be paid again. Ask the user first; then do what remedy "
        "says and call create_speech again."
    )


def _use(answer: SpeechAnswer) -> str:
    tells = "Tell the user the path." if answer.path else "The user has it as an asset of their account."
    if answer.asset_id:
        item = f'{{"type": "audio", "asset_id": "{answer.asset_id}"}}'
        return f"{tells} For a video with it give {item} to estimate_cost and create_generation."
    if answer.path:
        return f"{tells} For a video with it give that path, as an item of type audio, to create_generation."
    return "Make the same create_speech call again, which pays nothing, or ask the user for a folder."
