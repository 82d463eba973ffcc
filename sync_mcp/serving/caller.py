"""Who calls, where clients over HTTP have names: by the token that they came with."""

from contextvars import ContextVar

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The name of the token of the request that is being answered; None where it has none."""
