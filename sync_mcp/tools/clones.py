"""The runs of clone_voice and delete_voice."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sync_mcp.api.models import LocalMedia
from sync_mcp.api.voices import Voice, faults_of_clone, make_clone_request
from sync_mcp.errors import FileRefused, InvalidRequestError
from sync_mcp.media.decoding.findings import MediaInfo
from sync_mcp.media.inputs import InputFile
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.requests.input_files import InputFiles
from sync_mcp.requests.lookups import find_url_fault, match_voices
from sync_mcp.texts import ID_LIMIT, VOICE_NAME_LIMIT, in_quotes, plain_id, safe
from sync_mcp.tools.agreeing import agree_to_delete
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.paid_calls import advise_without_estimate, call_of_act, check_answer, tell_how
from sync_mcp.tools.progress import transfer_reporter
from sync_mcp.tools.voices import CloneAnswer, CloneArguments, DeleteVoiceAnswer, DeleteVoiceArguments

_SHORT_SECONDS, _LONG_SECONDS = 30.0, 120.0
_LARGEST_VIDEO_BYTES = 1024**3
_SAY_IT_IS_THEIRS = "By a yes you also say that the voice's owner agreed to this clone, as it is told below."


async def clone_voice(context: CallContext, arguments: CloneArguments) -> CloneAnswer:
    _check(arguments)
    account = context.account
    async with _recording(context, arguments) as (act, files, notes):
        call = call_of_act(
            context,
            act,
            "clone_voice",
            quote_id=arguments.quote_id,
            max_cost_usd=arguments.max_cost_usd,
            files=files,
            notes=[_SAY_IT_IS_THEIRS, *notes],
        )
        with advise_without_estimate():
            await check_answer(context, call)
            made = await context.process.guard.create(call)
    account.lists.forget_voices()
    voice_id = safe(made.job.id, ID_LIMIT)
    told = [*tell_how(made), *made.notes, *(() if made.reused else notes)]
    return CloneAnswer(
        voice_id=voice_id,
        name=safe(made.job.name, VOICE_NAME_LIMIT) if made.job.name else None,
        held_usd=None if made.price_usd is None else float(made.price_usd),
        reused=made.reused or None,
        note=" ".join(told) or None,
        next_step=f'Give "{voice_id}" as voice_id to create_speech, or in a text item to create_generation.',
    )


async def delete_voice(context: CallContext, arguments: DeleteVoiceArguments) -> DeleteVoiceAnswer:
    account, asked = context.account, arguments.voice_id.strip()
    # Whoever deletes is told of what is there now.
    account.lists.forget_voices()
    id, fault = (await match_voices(account, [asked]))[asked]
    if fault is not None:
        raise InvalidRequestError(f"voice_id {fault}").advise(
            next_step="Call list_voices, and give the voice_id of a cloned one."
        )
    voice = _find(await account.lists.voices(), id)
    if voice is not None and not voice.internal_voice_id:
        raise InvalidRequestError(
            "This voice comes with Sync, and only cloned ones can be deleted: list_voices tells them apart."
        )
    own_id = voice.internal_voice_id if voice is not None and voice.internal_voice_id else id
    name = safe(voice.name, VOICE_NAME_LIMIT) if voice is not None and voice.name else None
    client = account.client
    await agree_to_delete(
        context, "a cloned voice", [f"voice: {in_quotes(name or own_id)}"], arguments.confirm
    )

    async def delete() -> None:
        await client.voices.delete(own_id, request_options=context.reading)

    await context.process.guard.delete_voice_for(client, own_id, delete)
    account.lists.forget_voices()
    return DeleteVoiceAnswer(
        voice_id=safe(own_id, ID_LIMIT),
        name=name,
        next_step="Done: tell the user which voice is gone. What it cost stays spent.",
    )


def _check(arguments: CloneArguments) -> None:
    faults = list(faults_of_clone(arguments.name, arguments.consent))
    given = [arguments.path, arguments.url, arguments.asset_id]
    if sum(one is not None for one in given) != 1:
        faults.append("Give the recording as one of path, url and asset_id.")
    if arguments.asset_id is not None and not plain_id(arguments.asset_id.strip()):
        faults.append("asset_id can be no id: copy it whole from upload_asset, or give path.")
    if faults:
        error = InvalidRequestError(faults)
        if any(fault.startswith("consent") for fault in faults):
            error.advise(
                next_step="Ask the user whose voice it is, and whether that person agreed to a clone of it: "
                "their answer is consent. Never answer for them."
            )
        raise error


@asynccontextmanager
async def _recording(
    context: CallContext, arguments: CloneArguments
) -> AsyncGenerator[tuple[CloneAct, InputFiles | None, Sequence[str]]]:
    """Yield what is to be made of the recording, the file that is to be uploaded for it, and what to know.

    Raises:
        FileRefused: it has no sound, or is too large.
    """
    name, consent = arguments.name, arguments.consent
    if arguments.path is not None:
        reader = context.account.local_reader
        progress_of = partial(transfer_reporter, context)
        media = await reader.read(arguments.path, None, until=context.answer_at, progress_of=progress_of)
        notes = _look(media.info, media.name)
        _check_size(media)
        files = InputFiles(context.account.client, reader, {0: media})
        files.on_progress = progress_of(media.name)
        sample = LocalMedia(type=media.kind, sha256=media.sha256, name=media.name)
        try:
            yield CloneAct.of_file(name, consent, sample), files, notes
        finally:
            files.on_progress = None
        return
    asset_id, notes = arguments.asset_id, list[str]()
    if arguments.url is not None:
        asset_id, notes = await _copy(context, arguments.url.strip())
    request = make_clone_request(name, consent, asset_id=asset_id)
    yield CloneAct.of(request, consent), None, notes


async def _copy(context: CallContext, url: str) -> tuple[str, list[str]]:
    """Copy a recording into the account's storage, which is free: the API takes no other."""
    fault = await find_url_fault(context.account, url, "url")
    if fault is not None:
        raise InvalidRequestError(fault)
    asset, info = await context.account.local_reader.copy(
        context.account.client,
        url,
        kind=None,
        name=None,
        until=context.answer_at,
        on_progress=transfer_reporter(context, "the recording"),
    )
    return asset.id, _look(info, "The recording")


def _look(info: MediaInfo | None, name: str) -> list[str]:
    """Return what should be known of a recording, as far as it could be looked at.

    Raises:
        FileRefused: there is no voice in it.
    """
    if info is None:
        return []
    if not info.has_audio:
        raise FileRefused(
            f"{name} has no sound: a voice is cloned from a recording of it.",
            code="file_not_media",
            next_step="Ask the user for a recording of the voice, sound or a video with sound.",
        )
    if info.first_sound_is_silent:
        return [f"The first sound of {name} is silent, and the API hears no other."]
    seconds = info.duration_seconds
    if seconds is not None and seconds < _SHORT_SECONDS:
        return [f"{name} lasts {seconds:.0f} s: half a minute to two minutes of one voice sound best."]
    if seconds is not None and seconds > _LONG_SECONDS:
        return [f"Of {name} the first two minutes are taken."]
    return []


def _check_size(media: InputFile) -> None:
    if media.kind == "video" and os.fstat(media.file.fileno()).st_size > _LARGEST_VIDEO_BYTES:
        raise FileRefused(
            f"{media.name} is larger than 1 GiB, the most that a voice is taken from.",
            code="file_too_large",
            next_step="Ask the user for its sound alone, or for two minutes of it.",
        )


def _find(voices: Sequence[Voice], id: str) -> Voice | None:
    return next(
        (voice for voice in voices if id in (voice.id, voice.voice_id, voice.internal_voice_id)), None
    )
