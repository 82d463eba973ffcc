"""The routes of the storage: samples, uploads, speech and outputs, which are rendered when first fetched."""

import asyncio
import mimetypes
from functools import partial
from pathlib import Path
from typing import cast

from av.error import FFmpegError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.api.answers import file_answer
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.jobs import Job
from sync_mcp.sandbox.media.render import RenderCancelled, render
from sync_mcp.sandbox.media.samples import SAMPLE_FILES, sample
from sync_mcp.sandbox.media.storage import StorageRefusal, StoredFile
from sync_mcp.sandbox.speech import SpeechJob
from sync_mcp.sandbox.world import World

UPLOAD_BYTES = 5 * 1024**3
STORAGE = ("/storage/", "/outputs/", "/speech/", "/samples/", "/batch-results/")
"""Where the paths begin that want no key, and to which none may be sent."""


class Files:
    """Serves the files of a sandbox; none of these paths wants the API key."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rendering: dict[Path, asyncio.Lock] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/samples/{name}", self.get_sample, methods=["GET"]),
            Route("/outputs/{name}", self.get_output, methods=["GET"]),
            Route("/speech/{name}", self.get_speech, methods=["GET"]),
            Route("/storage/{rest:path}", self.get_upload, methods=["GET"]),
            Route("/storage/{rest:path}", self.put_upload, methods=["PUT"]),
        ]

    def output_url(self, job: Job) -> str:
        """Return a fresh signed URL of a job's output."""
        return self._world.sign_url(f"/outputs/{job.id}.mp4")

    def speech_url(self, job: Job | SpeechJob) -> str:
        """Return a fresh signed URL of the speech made for a job, or by one."""
        return self._world.sign_url(f"/speech/{job.id}.wav")

    async def find(self, path: str, query: str) -> Path | None:
        """Return the file that a URL of this server means, or None; for inputs that name one."""
        folder, _, name = path.removeprefix("/").partition("/")
        if folder == "samples":
            return sample(name) if name in SAMPLE_FILES else None
        if folder == "storage":
            stored = self._world.storage.uploads.get(path)
            return stored.path if stored and stored.uploaded else None
        try:
            if folder == "outputs":
                return await self._output(path, query)
            if folder == "speech":
                return self._speech(path, query)
        except StorageRefusal:
            return None
        return None

    async def get_sample(self, request: Request) -> Response:
        """Send a sample."""
        name = cast(str, request.path_params["name"])
        if name not in SAMPLE_FILES:
            raise StorageRefusal(404, "NoSuchKey", "There is no such sample.")
        return file_answer(request, sample(name), _media_type(name))

    async def get_output(self, request: Request) -> Response:
        """Send an output, having rendered it if nobody asked for it before."""
        path = await self._output(request.url.path, request.url.query)
        asked = self._job(request.url.path).asked["outputFileName"]
        return file_answer(request, path, "video/mp4", f"{asked or 'output'}.mp4")

    async def get_speech(self, request: Request) -> Response:
        """Send the speech that a script was made into."""
        path = self._speech(request.url.path, request.url.query)
        return file_answer(request, path, "audio/wav", "speech.wav")

    async def get_upload(self, request: Request) -> Response:
        """Send an uploaded file; a URL that is signed is good for its time alone."""
        if request.url.query:
            self._world.signer.check(request.url.path, request.url.query)
        stored = self._world.storage.uploads.get(request.url.path)
        if stored is None or not stored.uploaded:
            raise StorageRefusal(404, "NoSuchKey", "There is no such file.")
        return file_answer(request, stored.path, stored.content_type)

    async def put_upload(self, request: Request) -> Response:
        """Take an upload to a presigned URL (API §6.2)."""
        path = request.url.path
        self._world.signer.check(path, request.url.query, request.headers.get("content-type", ""))
        stored = self._world.storage.uploads.get(path)
        if stored is None:
            raise StorageRefusal(404, "NoSuchKey", "There is no such place.")
        await _save(request, stored)
        return Response(status_code=200, headers={"ETag": f'"{stored.path.name}"'})

    async def _output(self, path: str, query: str) -> Path:
        self._world.signer.check(path, query)
        job = self._job(path)
        async with self._rendering.setdefault(job.render_path, asyncio.Lock()):
            if not job.render_path.exists():
                work = partial(render, job.plan, job.render_path, self._world.contents.cancelled)
                try:
                    await self._world.in_worker(work)
                except RenderCancelled as error:
                    raise StorageRefusal(404, "NoSuchKey", "The sandbox was reset or stopped.") from error
                except (MediaError, FFmpegError, OSError, ValueError) as error:
                    # What cannot be fetched is not there: whoever asks again is told that the job has failed.
                    job.fate = Fault(job="fail")
                    raise StorageRefusal(404, "NoSuchKey", "The output could not be made.") from error
        return job.render_path

    def _speech(self, path: str, query: str) -> Path:
        self._world.signer.check(path, query)
        spoken = self._world.contents.speeches.get(Path(path).stem)
        if spoken is not None and spoken.has_output(self._world.clock.now()):
            return spoken.path
        job = self._job(path)
        if job.speech is None:
            raise StorageRefusal(404, "NoSuchKey", "There is no such file.")
        return job.speech

    def _job(self, path: str) -> Job:
        job = self._world.contents.jobs.get(Path(path).stem)
        if job is None or not job.has_output(self._world.clock.now()):
            raise StorageRefusal(404, "NoSuchKey", "There is no such file.")
        return job


async def _save(request: Request, stored: StoredFile) -> None:
    size = 0
    part = stored.path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > UPLOAD_BYTES:
                    raise StorageRefusal(400, "EntityTooLarge", "The file is larger than the storage takes.")
                file.write(chunk)
        part.replace(stored.path)
    except ClientDisconnect as error:
        raise StorageRefusal(400, "IncompleteBody", "The upload broke off.") from error
    finally:
        part.unlink(missing_ok=True)
    stored.uploaded = True


def _media_type(name: str) -> str:
    return (
        {".wav": "audio/wav"}.get(Path(name).suffix)
        or mimetypes.guess_type(name)[0]
        or "application/octet-stream"
    )
