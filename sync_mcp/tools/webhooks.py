"""Taking the API's webhooks: each is believed by its signature alone, and only has its job read again."""

import logging
from collections.abc import Mapping
from functools import partial

from sync_mcp.api.webhooks import WebhookEvent, Webhooks
from sync_mcp.background.work import do_in_thread
from sync_mcp.texts import FAULT_LIMIT, ID_LIMIT, WORD_LIMIT, clean, safe
from sync_mcp.tools.context import Served

logger = logging.getLogger("sync_mcp.tools")

_MOST_AT_ONCE = 200
"""How many may wait to be written down: the API is told to come again before they pile up."""


class WebhookReceiver:
    """Writes down which job a webhook tells of; whoever waits for that, in whichever process, reads it again.

    Nothing else of what a webhook says is used.
    """

    def __init__(self, served: Served, secret: str) -> None:
        self._served = served
        self._secret = secret
        self._waiting = 0

    def take(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take what came as a webhook; return whether there was room for it.

        The caller is not held up by what follows from it.

        Raises:
            WebhookRefused: the API has not sent it, or not now, or it cannot be read.
        """
        event = Webhooks.verify(body, headers, self._secret)
        if self._waiting >= _MOST_AT_ONCE:
            return False
        self._waiting += 1
        self._served.process.tasks.start_soon(self._keep, event)
        return True

    async def _keep(self, event: WebhookEvent) -> None:
        id, status = clean(event.id, ID_LIMIT), clean(event.status, WORD_LIMIT)
        try:
            ledger, base_url = self._served.process.guard.ledger, self._served.account.base_url
            is_news = await do_in_thread(partial(ledger.keep_delivery, base_url, id, status))
            logger.debug("a webhook %s of job %s: %s", "tells" if is_news else "tells again", id, status)
        except Exception as error:  # noqa: BLE001 - no fault here may end the process
            # Who waits for the job learns of its end by looking.
            logger.warning("what a webhook told is not written down: %s", safe(repr(error), FAULT_LIMIT))
        finally:
            self._waiting -= 1
