"""The local files among the inputs of a call: read as far as its time goes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sync_mcp.api.models import GenerationRequest
from sync_mcp.errors import FileRefused, SyncError, UnderWay
from sync_mcp.media.inputs import InputFile
from sync_mcp.requests.input_files import InputFiles, measure, put_files
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.generation_arguments import InputItem
from sync_mcp.tools.progress import transfer_reporter


@asynccontextmanager
async def input_files(
    context: CallContext, items: Sequence[InputItem], request: GenerationRequest
) -> AsyncGenerator[InputFiles | None]:
    """Open and read the local files among inputs, and put what they hold into `request`; None without any.

    Raises:
        FileRefused: one cannot be used.
        InvalidRequestError: the model or the plan cannot do this with them.
        UnderWay: one could not be read whole in this call's time; that goes on.
    """
    paths = {number: item.path for number, item in enumerate(items) if item.path is not None}
    if not paths:
        yield None
        return
    reader = context.account.local_reader
    media: dict[int, InputFile] = {}
    failures: list[FileRefused | UnderWay] = []
    for number, path in paths.items():
        kind = items[number].type
        try:
            media[number] = await reader.read(
                path,
                None if kind == "text" else kind,
                until=context.answer_at,
                progress_of=partial(transfer_reporter, context),
            )
        except FileRefused as error:
            failures.append(error.advise(message=f"input[{number}]: {error.message}"))
        except UnderWay as error:
            failures.append(error)
    if failures:
        raise _join_failures(failures)
    files = InputFiles(context.account.client, reader, media)
    put_files(request, media)
    await measure(context.account, request, files, until=context.answer_at)
    files.on_progress = transfer_reporter(context, ", ".join(files.names.values()))
    try:
        yield files
    finally:
        files.on_progress = None


def _join_failures(failures: Sequence[FileRefused | UnderWay]) -> SyncError:
    """Return one error that says what is wrong with all files; what only takes its time comes last."""
    refused = [error for error in failures if isinstance(error, FileRefused)]
    if not refused:
        return failures[0]
    return refused[0].advise(
        message=" ".join(error.message for error in refused),
        next_step=" ".join(dict.fromkeys(error.next_step for error in refused)),
    )
