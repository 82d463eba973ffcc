"""Signed URLs stay out of what the HTTP library logs of the client's own exchanges.

A signed URL is a credential for as long as it holds. httpx logs each URL at INFO, and httpcore the headers of
each answer at DEBUG, a redirect's Location among them. Whoever uses the client may turn both on, with or
without the server. So the client itself takes the queries out, from its own records alone: a program that
uses httpx for other things as well finds those in its log as they are.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from sync_mcp.texts import without_queries

_LOGGERS = ("httpx", "httpcore.http11")
_is_own = ContextVar("sync_mcp_own_exchange", default=False)


class _QueriesHidden(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _is_own.get():
            if isinstance(record.args, tuple):
                record.args = tuple(
                    part if isinstance(part, int | float) else without_queries(str(part))
                    for part in record.args
                )
            record.msg = without_queries(str(record.msg))
        return True


_FILTER = _QueriesHidden()


@contextmanager
def hide_queries() -> Generator[None]:
    """Keep the queries of URLs out of what the HTTP library logs within this block."""
    for name in _LOGGERS:
        # The same filter is added once only.
        logging.getLogger(name).addFilter(_FILTER)
    token = _is_own.set(True)
    try:
        yield
    finally:
        _is_own.reset(token)
