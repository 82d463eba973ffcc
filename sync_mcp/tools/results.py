"""The tools for results: look at one, and save it."""

import logging

from anyio.to_thread import run_sync

from sync_mcp.api.generations import output_url
from sync_mcp.api.models import Generation
from sync_mcp.api.uploads import OnProgress
from sync_mcp.errors import LedgerError, NoOutput
from sync_mcp.media.decoding.findings import ContactSheet
from sync_mcp.media.decoding.look import require_extra
from sync_mcp.media.saving import Saved, file_name, preview, save
from sync_mcp.texts import clean, count_of, plain_id
from sync_mcp.tools.answers import Picture
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import DownloadAnswer, DownloadArguments, PreviewArguments
from sync_mcp.tools.other_jobs import explain_if_missing
from sync_mcp.tools.progress import transfer_reporter

_PATH_LIMIT = 4096

logger = logging.getLogger("sync_mcp.tools")


async def preview_generation(context: CallContext, arguments: PreviewArguments) -> Picture:
    require_extra()
    account = context.account
    generation = await _get_completed(context, arguments.generation_id)

    async def work(on_progress: OnProgress) -> ContactSheet:
        return await preview(account.client, generation, on_progress=on_progress)

    key = ("preview", account.client.base_url, account.client.key_fingerprint, generation.id)
    sheet = await account.work.join(
        key, work, until=context.answer_at, on_progress=transfer_reporter(context, "the output")
    )
    seconds = "" if sheet.duration_seconds is None else f" of {sheet.duration_seconds:.1f} s"
    times = ", ".join(f"{at:.1f}" for at in sheet.frame_seconds)
    shown = f"{count_of(len(sheet.frame_seconds), 'frame')}{seconds}, row by row, at {times} s."
    next_step = (
        "Next: download_generation with this generation_id saves it."
        if context.can_save
        else "Next: give the user its output_url, which get_generation tells."
    )
    return Picture(sheet.jpeg, f"{plain_id(generation.id) or 'The output'}: {shown} {next_step}")


async def download_generation(context: CallContext, arguments: DownloadArguments) -> DownloadAnswer:
    account = context.account
    generation = await _get_completed(context, arguments.generation_id)
    destination = await run_sync(account.roots.destination, arguments.path, file_name(generation))

    async def work(on_progress: OnProgress) -> Saved:
        return await save(
            account.client,
            generation,
            destination,
            account.roots,
            overwrite=arguments.overwrite,
            on_progress=on_progress,
        )

    client = account.client
    key = ("save", client.base_url, client.key_fingerprint, generation.id, destination, arguments.overwrite)
    until = context.answer_at
    report = transfer_reporter(context, clean(destination.name, _PATH_LIMIT))
    saved = await account.work.join(key, work, until=until, on_progress=report)
    if not await run_sync(saved.is_still_there):
        # It was saved some minutes ago, and is gone or another by now.
        account.work.forget(key)
        saved = await account.work.join(key, work, until=until, on_progress=report)
    if saved.failures:
        # Told once: the next call fetches the output anew.
        account.work.forget(key)
    else:
        await _note_saved(context, generation.id, saved)
    return _answer(saved)


async def _note_saved(context: CallContext, generation_id: str, saved: Saved) -> None:
    guard, path = context.process.guard, clean(str(saved.path), _PATH_LIMIT)
    try:
        await guard.note_saved(context.account.client, generation_id, path)
    except LedgerError as error:
        # The file is there, whatever is the matter with the ledger.
        logger.warning("where a result was saved cannot be noted: %s", error)


def _answer(saved: Saved) -> DownloadAnswer:
    notes = [*(["This content was there already."] if saved.was_there else []), saved.note or ""]
    return DownloadAnswer(
        path=clean(str(saved.path), _PATH_LIMIT),
        bytes=saved.size,
        sha256=saved.sha256,
        duration_seconds=saved.duration_seconds,
        checks=dict(saved.checks),
        note=" ".join(filter(None, notes)) or None,
        next_step=_next_step(saved),
    )


def _next_step(saved: Saved) -> str:
    if saved.failures == ["movement"]:
        return (
            "Tell the user that the picture stands still; preview_generation shows it. Fetched again it is "
            "the same: a new job takes a video whose speaker moves."
        )
    if saved.failures:
        return (
            f"Tell the user that {' and '.join(saved.failures)} failed the check; preview_generation shows "
            "the video. This call again fetches it anew."
        )
    if saved.note is not None:
        return "Tell the user the path, and that only the length and the container were checked."
    if saved.not_checked:
        return f"Tell the user the path, and that {' and '.join(saved.not_checked)} could not be checked."
    return "Done: tell the user the path."


async def _get_completed(context: CallContext, generation_id: str) -> Generation:
    """Return a job as it is now, with a fresh URL of its output."""
    try:
        async with explain_if_missing(context, generation_id):
            generation = await context.account.client.generations.get(
                generation_id.strip(), request_options=context.reading
            )
        output_url(generation)
    except NoOutput as error:
        steps = {
            "generation_running": "Call wait_for_generations with its id, then this again.",
            "generation_failed": "get_generation says what went wrong and what to change.",
        }
        otherwise = "Call get_generation in a while: it tells when there is one."
        error.advise(next_step=steps.get(error.code, otherwise))
        raise
    return generation
