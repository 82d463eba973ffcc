"""Whether a request has begun to leave: the one question on which the money of a failed create stands.

A create that failed before anything left is called "not sent", and its money is let go. A create that may
have left is called "unknown": its money stays held, and the API's list is searched. So "nothing was sent" may
never be said of a request of which the API saw a byte: the job would run, be paid, and be made a second time.
The opposite mistake costs no more than a search.

An error does not tell which of the two it is: httpx raises the same kinds for a connection that never came
about and for one that broke off after the request. Nor does the clock: a time limit may end an exchange at
any point. So the connection itself is listened to, by the `trace` extension of httpcore. The event before the
first byte of the headers is the earliest moment at which the API can see anything. What has once begun stays
so, whatever the pool tries next on a second connection.
"""

from collections.abc import Mapping


class SendTrace:
    """Listens to one request; `note` is what httpcore's `trace` extension calls at each step."""

    def __init__(self) -> None:
        self.sent = False
        """Whether the request has begun to leave."""

    async def note(self, event: str, info: Mapping[str, object]) -> None:
        """Take in one step of the connection, by httpcore's name of it."""
        if event.endswith("send_request_headers.started"):
            # What is said to a proxy to reach the API is not said to the API.
            to_proxy = getattr(info.get("request"), "method", b"") == b"CONNECT"
            self.sent = self.sent or not to_proxy
