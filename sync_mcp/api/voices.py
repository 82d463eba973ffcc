"""Voices: those that come with the API, and those that the account has cloned (API §8)."""

import logging
from builtins import list as list_of
from typing import Literal

from pydantic import JsonValue, ValidationError

from sync_mcp.api.models import GENERATION_ID, CamelModel
from sync_mcp.api.transport import Call, RequestOptions, Transport
from sync_mcp.errors import APIResponseError, InvalidRequestError

logger = logging.getLogger("sync_mcp.api")


class Voice(CamelModel):
    """A voice that a script can be spoken in."""

    id: str
    """What `Text.voice_id` takes."""
    internal_voice_id: str | None = None
    """The API's own id of a cloned voice."""
    voice_id: str | None = None
    """The provider's id."""
    name: str | None = None
    provider: Literal["elevenlabs"] | str | None = None
    preview_url: str | None = None
    """A recording of it."""
    restriction: JsonValue = None
    """What stands in the way of its use, as the API tells it."""


class Voices:
    """The voices of an account; reached as `AsyncSync.voices`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self, *, provider: str = "elevenlabs", request_options: RequestOptions | None = None
    ) -> list_of[Voice]:
        """Return all voices, hundreds of them; the API has no pages here and tells no language."""
        call = Call("GET", "/v2/voices", query={"provider": provider})
        reply = await self._transport.read(call, request_options)
        if reply.entries is None:
            raise APIResponseError("The API's list of voices is no list.", status=reply.status)
        voices: list_of[Voice] = []
        for entry in reply.entries:
            try:
                voices.append(Voice.from_wire(entry))
            except ValidationError:
                logger.warning("an entry of the API's list is no voice and was left out")
        return voices

    async def get(self, id: str, *, request_options: RequestOptions | None = None) -> Voice:
        """Return one voice.

        Raises:
            NotFoundError: the account has no voice by this id.
        """
        if not GENERATION_ID.fullmatch(id):
            raise InvalidRequestError("A voice id has letters, digits, _ and - only: copy it whole.")
        reply = await self._transport.read(Call("GET", f"/v2/voices/{id}"), request_options)
        try:
            return Voice.from_wire(reply.data)
        except ValidationError as error:
            raise APIResponseError("The API's answer is no voice.", status=reply.status) from error
