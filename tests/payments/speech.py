"""A second kind of paid act: speech by `POST /v2/tts/jobs` (API §9.2), and an API that makes it.

The package makes no speech yet. What it has for every kind of act is proved with this one.
"""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal, cast

from sync_mcp import AsyncSync
from sync_mcp.api.kinds import JobKind
from sync_mcp.api.models import CamelModel, GenerationCost, Json
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import NotFoundError
from sync_mcp.payments.acts.act import PaidAct
from sync_mcp.payments.files import LocalFiles
from sync_mcp.payments.price import Price
from sync_mcp.texts import in_quotes, safe

JOBS = "/v2/tts/jobs"
USD_PER_CHARACTER = Decimal("0.001")


class SpeechJob(CamelModel):
    """Speech that is being made (API §9.2); it ends as SUCCESS or FAILED."""

    id: str
    status: str
    created_at: datetime | None = None
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether its status can no longer change."""
        return self.status in ("SUCCESS", "FAILED")

    @property
    def error_code(self) -> str | None:
        """Why it has no result."""
        return self.error


SPEECH = JobKind(name="speech job", path=JOBS, model=SpeechJob, keeps_keys=True)


@dataclass(frozen=True)
class SpeechAct(PaidAct[SpeechJob]):
    """A script that is to be said by a voice."""

    kind: ClassVar[str] = "speech"
    noun: ClassVar[str] = "speech"
    completed_status: ClassVar[str] = "SUCCESS"

    script: str
    voice_id: str

    @property
    def body(self) -> Json:  # pyright: ignore[reportIncompatibleVariableOverride] - it is read alone
        return {"script": self.script, "voiceId": self.voice_id, "provider": "elevenlabs"}

    @property
    def model(self) -> str:
        return "elevenlabs"

    @property
    def summary(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return f"speech: {safe(self.script, 80)} (voice {safe(self.voice_id, 80)})"

    def name(self, room: int) -> str:
        return safe(self.script, room)

    def pieces(self, voice_names: Mapping[str, str]) -> list[str]:
        return [f"script: {in_quotes(self.script)}", f"voice: {in_quotes(self.voice_id)}"]

    async def price(
        self,
        sync: AsyncSync,
        options: RequestOptions,
        *,
        hint_seconds: float | None = None,
        fps: float | None = None,
        files: LocalFiles | None = None,
        measured: Price | None = None,
    ) -> Price:
        return Price(USD_PER_CHARACTER * len(self.script))

    @classmethod
    def job_kind(cls) -> JobKind[SpeechJob]:
        return SPEECH

    @classmethod
    async def find(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> SpeechJob | None:
        try:
            return await sync.get_job(SPEECH, job_id, request_options=options)
        except NotFoundError:
            return None

    @classmethod
    async def cost_of(cls, sync: AsyncSync, job_id: str, options: RequestOptions) -> GenerationCost | None:
        # The API does not tell what a speech did cost.
        return None


Trouble = Literal["loses its answer", "never gets it", "refuses it"]


@dataclass
class SpeechApi:
    """What an API knows of speech, and what goes wrong with the next creates."""

    url: str = ""
    jobs: dict[str, Json] = field(default_factory=dict[str, Json])
    by_key: dict[str, str] = field(default_factory=dict[str, str])
    keys: list[str] = field(default_factory=list[str])
    """Of every create that reached it, in order."""
    troubles: list[Trouble] = field(default_factory=list[Trouble])

    def end(self, status: str = "SUCCESS", error: str | None = None) -> None:
        """Let every job end so."""
        for job in self.jobs.values():
            job.update(status=status, error=error)

    def create(self, key: str) -> tuple[int, Json]:
        """Make a job under a key, or return the one that was made under it."""
        if key not in self.by_key:
            id = f"5beec400-{len(self.jobs):04}"
            self.jobs[id] = {"id": id, "status": "PROCESSING", "createdAt": f"{datetime.now(UTC):%FT%TZ}"}
            self.by_key[key] = id
        return 202, self.jobs[self.by_key[key]]


@contextmanager
def speech_api() -> Generator[SpeechApi]:
    """Run an API on loopback that makes speech and knows nothing else."""
    api = SpeechApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers["Idempotency-Key"]
            trouble = api.troubles.pop(0) if api.troubles else None
            if trouble == "never gets it":
                self.close_connection = True
                return
            api.keys.append(key)
            if trouble == "refuses it":
                self._answer(422, {"statusCode": 422, "errorCode": "voice_not_found", "message": "No voice."})
                return
            answer = api.create(key)
            if trouble == "loses its answer":
                self.close_connection = True
                return
            self._answer(*answer)

        def do_GET(self) -> None:
            job = api.jobs.get(self.path.removeprefix(f"{JOBS}/"))
            if job is None:
                self._answer(404, {"statusCode": 404, "message": "Not found"})
            else:
                self._answer(200, job)

        def _answer(self, status: int, body: Json) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host, port = cast("tuple[str, int]", server.server_address[:2])
        api.url = f"http://{host}:{port}"
        running = threading.Thread(target=server.serve_forever, args=(0.01,))
        running.start()
        try:
            yield api
        finally:
            server.shutdown()
            running.join()
