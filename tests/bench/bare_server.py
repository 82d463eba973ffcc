"""What we are measured against: the SDK's own server with one tool that makes one httpx request."""

import os
import sys
from typing import Any

# Its logging would use this where it happens to be installed, to our advantage.
sys.modules["rich"] = None  # type: ignore[assignment]

import httpx  # noqa: E402
from mcp.server import MCPServer  # noqa: E402

server = MCPServer("bare", log_level="WARNING")
_http: list[httpx.AsyncClient] = []


@server.tool()
async def get_generation(generation_id: str) -> dict[str, Any]:
    """Get a generation."""
    if not _http:
        _http.append(httpx.AsyncClient(base_url=os.environ["SYNC_BASE_URL"], headers={"x-api-key": "bench"}))
    response = await _http[0].get(f"/v2/generate/{generation_id}")
    return response.json()


def main() -> None:
    if "--http" in sys.argv:
        import socket

        import uvicorn

        # With its protocol named, asyncio sends small packets at once, as on a socket of its own.
        with socket.socket(proto=socket.IPPROTO_TCP) as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            sys.stderr.write(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp\n")
            app = server.streamable_http_app(stateless_http=True)
            config = uvicorn.Config(app, log_config=None, access_log=False)
            uvicorn.Server(config).run(sockets=[listening])
    else:
        server.run("stdio")


if __name__ == "__main__":
    main()
