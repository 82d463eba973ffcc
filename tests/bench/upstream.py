"""A trivial stand-in for the API: every request gets the same finished job.

Run as a script, it prints its port.
"""

import asyncio
import json
import sys

JOB_ID = "6533643b-aceb-4c40-967e-d9ba9baac39e"
_JOB = {
    "id": JOB_ID,
    "createdAt": "2026-10-02T09:30:00.000Z",
    "status": "COMPLETED",
    "model": "lipsync-2",
    "input": [
        {"type": "video", "url": "https://example.com/v.mp4"},
        {"type": "audio", "url": "https://example.com/a.wav"},
    ],
    "options": {"sync_mode": "loop"},
    "outputUrl": "https://example.com/out.mp4?X-Amz-Date=20261002T093000Z&X-Amz-Expires=3600&X-Amz-Signature=0a1b",
    "outputDuration": 4.5,
}
_BODY = json.dumps(_JOB).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
) + _BODY


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
