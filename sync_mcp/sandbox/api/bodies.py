"""JSON bodies of requests, read by their shape."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from sync_mcp.sandbox.api.answers import json_body
from sync_mcp.sandbox.api.catalogue import bare_refusal
from sync_mcp.sandbox.api.contract import sentences


class Body(BaseModel):
    """An object that the API spells in camelCase; what it does not know is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, strict=True)


BodyT = TypeVar("BodyT", bound=Body)


async def read_body(request: Request, kind: type[BodyT]) -> BodyT:
    """Return the body of a request.

    Raises:
        Refusal: 400 with a sentence for every fault of its shape.
    """
    try:
        return kind.model_validate(await json_body(request))
    except ValidationError as error:
        raise bare_refusal(400, sentences(error)) from error
