"""What a request over HTTP says beside its message: who calls, and which toolsets are asked for."""

from contextvars import ContextVar

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The name of the token of the request that is being answered; None where it has none."""

asked_toolsets: ContextVar[str] = ContextVar("asked_toolsets", default="")
"""The names in the header X-MCP-Toolsets of the request that is being answered; "" where it has none."""
