"""Output URLs that were told here, and how one is recognised that has lost its signature."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlsplit

from sync_mcp.texts import plain_id

SIGNATURE_IS_MISSING = "its signature is missing: copy it whole, or get_generation gives a fresh one."
_MOST_KEPT = 1000
_LEAST_ID = 16


class OwnOutputs:
    """The places of outputs, each with the names in its query; `knows_job` tells jobs of this ledger."""

    def __init__(self, api_host: Callable[[], str], knows_job: Callable[[str], Awaitable[bool]]) -> None:
        self._api_host = api_host
        self._knows_job = knows_job
        self._places: OrderedDict[str, frozenset[str]] = OrderedDict()

    def note(self, url: str | None) -> None:
        """Note an output URL that is told."""
        place, names = _place_and_names(url or "")
        if place and names:
            self._places[place] = names
            self._places.move_to_end(place)
            if len(self._places) > _MOST_KEPT:
                self._places.popitem(last=False)

    async def lacks_signature(self, url: str) -> bool:
        """Return whether a URL is that of an output, without what signs it."""
        place, names = _place_and_names(url)
        if place in self._places:
            return not self._places[place] <= names
        # Told by another process: the file goes by its job, where outputs lie.
        hosts = {self._api_host(), *(known.partition("/")[0] for known in self._places)}
        host, _, path = place.partition("/")
        if names or host not in hosts:
            return False
        parts = [part for segment in path.split("/") for part in (segment, segment.rpartition(".")[0])]
        ids = [part for part in parts if len(part) >= _LEAST_ID and plain_id(part)]
        return any([await self._knows_job(id) for id in ids])


def _place_and_names(url: str) -> tuple[str, frozenset[str]]:
    """Return the host and path of a URL, and the names in its query."""
    try:
        parts = urlsplit(url.strip())
        names = frozenset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return f"{parts.netloc.lower()}{parts.path}", names
    except ValueError:
        return "", frozenset()
