"""A web service that starts jobs and is told of their end, in place of asking all the time. Needs `fastapi`.

    SYNC_API_KEY=... SYNC_MCP_BUDGET_USD_PER_DAY=20 PUBLIC_URL=https://videos.example.com \
        python examples/fastapi_app.py --port 8080

    curl -X POST http://127.0.0.1:8080/videos -H 'content-type: application/json' \
        -d '{"video": "https://...", "speech": "https://..."}'
    curl http://127.0.0.1:8080/videos/ID

PUBLIC_URL is where the API reaches it; who may start videos is yours to decide. The same video
and speech make one job however often they are sent, and the day's budget holds: a guard writes each job down.
"""

import argparse
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated

import anyio
import uvicorn
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from sync_mcp import AsyncSync, Audio, Generation, Guard, Ledger, Limits, SyncError, Video, WebhookRefused

WEBHOOK_PATH = "/webhooks/sync"
LOOK_AGAIN_SECONDS = 60.0
MOST_SEEN = 10_000
"""How many ends are remembered: one that is delivered twice comes again soon."""
"""A webhook may be lost, and a rejected job sends none: what runs is looked at, too, slowly."""


class Job(BaseModel):
    """Which speaker is to say which recording."""

    video: Annotated[str, Field(max_length=2000)]
    speech: Annotated[str, Field(max_length=2000)]


class State(BaseModel):
    """How a job is."""

    id: str
    status: str
    output_url: str | None = None
    error: str | None = None


class Videos:
    """The jobs that were started here, as they were last read from the API."""

    def __init__(self, sync: AsyncSync, secret: str, webhook_url: str) -> None:
        self.sync = sync
        self.secret = secret
        self.webhook_url = webhook_url
        self.states: dict[str, State] = {}
        self.seen: dict[tuple[str, str], None] = {}

    def is_new(self, end: tuple[str, str]) -> bool:
        """Return whether an end is told for the first time, as far as the latest ones are remembered."""
        if end in self.seen:
            return False
        self.seen[end] = None
        if len(self.seen) > MOST_SEEN:
            del self.seen[next(iter(self.seen))]
        return True

    async def start(self, job: Job) -> State:
        media = [Video(url=job.video), Audio(url=job.speech)]
        made = await self.sync.generations.create(
            model="lipsync-2", input=media, webhook_url=self.webhook_url
        )
        return self.note(made)

    async def read(self, generation_id: str) -> None:
        try:
            self.note(await self.sync.generations.get(generation_id))
        except SyncError as error:
            # It is looked at again.
            print(f"{generation_id}: {error.code}: {error.message}", flush=True)

    async def look_again(self) -> None:
        while True:
            await anyio.sleep(LOOK_AGAIN_SECONDS)
            for state in [one for one in self.states.values() if one.status in ("PENDING", "PROCESSING")]:
                await self.read(state.id)

    def note(self, generation: Generation) -> State:
        state = State(
            id=generation.id,
            status=generation.status,
            output_url=generation.output_url,
            error=generation.error,
        )
        self.states[generation.id] = state
        return state


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    budget = Decimal(os.environ.get("SYNC_MCP_BUDGET_USD_PER_DAY", "20"))
    guard = Guard(Ledger(), Limits(per_day_usd=budget))
    async with AsyncSync(guard=guard) as sync, anyio.create_task_group() as tasks:
        webhook_url = os.environ["PUBLIC_URL"].rstrip("/") + WEBHOOK_PATH
        app.state.videos = videos = Videos(sync, await sync.webhooks.secret(), webhook_url)
        tasks.start_soon(videos.look_again)
        yield
        tasks.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/videos", status_code=201)
async def start(job: Job) -> State:
    videos: Videos = app.state.videos
    try:
        return await videos.start(job)
    except SyncError as error:
        raise HTTPException(502, f"{error.code}: {error.whole_message} {error.next_step}") from error


@app.get("/videos/{generation_id}")
async def show(generation_id: str) -> State:
    videos: Videos = app.state.videos
    if generation_id not in videos.states:
        raise HTTPException(404, "No such video was started here.")
    return videos.states[generation_id]


@app.post(WEBHOOK_PATH, status_code=204)
async def be_told(request: Request, after: BackgroundTasks) -> None:
    videos: Videos = app.state.videos
    try:
        event = videos.sync.webhooks.verify(await request.body(), request.headers, videos.secret)
    except WebhookRefused as error:
        raise HTTPException(401, error.message) from error
    if videos.is_new(event.identity):
        # The job is read again: that is the truth, and the answer does not wait for it.
        after.add_task(videos.read, event.id)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Start jobs, and be told of their end.")
    parser.add_argument("--port", type=int, default=8080)
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning")
