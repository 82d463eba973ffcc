"""Who may come in: callers by this machine's own names, no pages of others; with a token where one is set.

This is a way of its own, beside that of the server: what checked both would find no fault in either.
"""

import hmac
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_mcp.sandbox.api.answers import refusal_answer
from sync_mcp.sandbox.api.catalogue import Refusal
from sync_mcp.sandbox.api.files import STORAGE

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_PLACE = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:/\[\]]+)(:[0-9]{1,5})?")


class Entrance:
    """Answers strangers itself, and lets all others through to the application behind it."""

    def __init__(self, app: ASGIApp, names: Collection[str], tokens: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in (*OWN_NAMES, *names))
        self._tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        # A page whose own name was made to lead here calls by that name.
        if len(hosts) != 1 or not self._is_named(hosts[0]):
            return PlainTextResponse("Invalid Host header", 421)
        for origin in headers.getlist("origin"):
            scheme, _, place = origin.lower().partition("://")
            if scheme not in ("http", "https") or not self._is_named(place):
                return PlainTextResponse("Invalid Origin header", 403)
        # The storage's URLs are signed or known to nobody else, and no key may be sent to them.
        if self._tokens and not scope["path"].startswith(STORAGE) and not self._has_token(headers):
            return refusal_answer(Refusal(401, {"message": "Unauthorized", "statusCode": 401}))
        return None

    def _is_named(self, place: str) -> bool:
        place = place.lower()
        found = _PLACE.fullmatch(place)
        return place in self._names or (found is not None and found["name"] in self._names)

    def _has_token(self, headers: Headers) -> bool:
        given = headers.getlist("x-api-key")
        key = given[0].strip().encode("latin-1", "replace") if len(given) == 1 else b""
        # All of them, so that the time that it takes tells nothing.
        return sum(hmac.compare_digest(key, token) for token in self._tokens) > 0
