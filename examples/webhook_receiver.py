"""Be told of the ends of your jobs: a small server that takes the API's webhooks and prints each end once.

    SYNC_API_KEY=... python examples/webhook_receiver.py --port 8080

Give jobs the address by which the API reaches it as their webhook_url: https, as of a tunnel or a proxy.
On the sandbox (`sync-mcp sandbox`, running beside it) any key will do, and its webhooks are sent here:

    SYNC_API_KEY=any SYNC_BASE_URL=http://127.0.0.1:8787 python examples/webhook_receiver.py --port 8080
    curl -X PATCH http://127.0.0.1:8787/sandbox/settings -H 'content-type: application/json' \
        -d '{"webhook_origin": "http://127.0.0.1:8080"}'
"""

import argparse
import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sync_mcp import AsyncSync, SyncError, WebhookRefused

MOST_BYTES = 1024 * 1024
MOST_SEEN = 10_000
"""How many ends are remembered: one that is delivered twice comes again soon."""


class Receiver:
    """Takes webhooks at any path; what is told in one is read from the API before it is printed."""

    def __init__(self, sync: AsyncSync, secret: str) -> None:
        self.sync = sync
        self.secret = secret
        self.seen: dict[tuple[str, str], None] = {}

    def is_new(self, end: tuple[str, str]) -> bool:
        """Return whether an end is told for the first time, as far as the latest ones are remembered."""
        if end in self.seen:
            return False
        self.seen[end] = None
        if len(self.seen) > MOST_SEEN:
            del self.seen[next(iter(self.seen))]
        return True

    async def take(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return PlainTextResponse("Too large", 413)
        try:
            # The body byte for byte: JSON that was written anew has another signature.
            event = self.sync.webhooks.verify(body, request.headers, self.secret)
        except WebhookRefused as error:
            print(f"refused: {error.message}", file=sys.stderr)
            return PlainTextResponse(error.message, 401)
        if not self.is_new(event.identity):
            # It was delivered twice.
            return Response(status_code=204)
        # The answer is not held up by what follows from it.
        return Response(status_code=204, background=BackgroundTask(self.tell, event.id))

    async def tell(self, generation_id: str) -> None:
        try:
            generation = await self.sync.generations.get(generation_id)
        except SyncError as error:
            print(f"{generation_id}: {error.code}: {error.message}", file=sys.stderr)
            return
        print(generation.id, generation.status, generation.output_url or generation.error, flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Print the end of each job that the API tells.")
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    async with AsyncSync() as sync:
        receiver = Receiver(sync, await sync.webhooks.secret())
        routes = [Route("/{path:path}", receiver.take, methods=["POST"])]
        config = uvicorn.Config(Starlette(routes=routes), port=port, log_level="warning")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except KeyboardInterrupt:
        pass
