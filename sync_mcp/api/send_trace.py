"""Whether a request has begun to leave."""

from collections.abc import Mapping


class SendTrace:
    """Whether a request has begun to leave: only until then is it certain that the API has not seen it.

    On this stands whether a create that failed is called "not sent", and its money let go. It may be said of
    nothing that was sent; the opposite mistake costs a search. An error does not tell: the same kinds are
    raised by a connection that never came about and by one that broke off after the request. So the
    connection itself is listened to. The first byte of the headers is the earliest that the API can see, and
    what has once begun stays so, whatever the pool tries next.
    """

    def __init__(self) -> None:
        self.sent = False

    async def note(self, event: str, info: Mapping[str, object]) -> None:
        if event.endswith("send_request_headers.started"):
            # What is said to a proxy to reach the API is not said to the API.
            to_proxy = getattr(info.get("request"), "method", b"") == b"CONNECT"
            self.sent = self.sent or not to_proxy
