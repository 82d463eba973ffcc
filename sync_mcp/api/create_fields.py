"""What a create takes, by name, and the request that is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Required, Unpack, cast

from pydantic import ValidationError

from sync_mcp.api.fields import REQUEST
from sync_mcp.api.models import GenerationRequest, Input, ModelName, RequestFields
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import near


class CreateFields(RequestFields, total=False):
    """One request: what `AsyncSync.generations.create` takes, by name."""

    model: Required[ModelName]
    input: Required[Sequence[Input]]
    take: int
    request_options: RequestOptions | None


_NAMES = tuple(CreateFields.__annotations__)


def make_request(
    *, model: ModelName, input: Sequence[Input], **fields: Unpack[RequestFields]
) -> GenerationRequest:
    """Return the request that has these fields.

    Raises:
        InvalidRequestError: a value is unreadable.
        TypeError: there is no such field.
    """
    for name in fields:
        if name not in REQUEST:
            raise TypeError(f"a create takes no keyword argument {name!r}")
    segments = fields.get("segments")
    whole = {**fields, "model": model, "input": list(input), "segments": list(segments) if segments else None}
    try:
        return GenerationRequest.model_validate(whole)
    except ValidationError as error:
        raise InvalidRequestError(
            [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}."
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def read_fields(given: object) -> CreateFields:
    """Return a request as `create` takes it.

    Raises:
        InvalidRequestError: it has other fields than those, or lacks one that it needs.
    """
    if isinstance(given, GenerationRequest):
        # All that it has, and not what a list names: what is left out would be paid for all the same.
        known: dict[str, Any] = {name: getattr(given, name) for name in type(given).model_fields}
        faults = [
            _say_unknown(name) for name, value in known.items() if value is not None and name not in REQUEST
        ]
        if faults:
            raise InvalidRequestError(faults)
        known = {name: known[name] for name in REQUEST}
        if given.model_extra:
            known["request_options"] = {"additional_body_parameters": given.model_extra}
        return cast(CreateFields, known)
    if not isinstance(given, Mapping):
        raise InvalidRequestError("A request is a mapping of what create takes, or a GenerationRequest.")
    fields = cast(Mapping[str, object], given)
    faults = [_say_unknown(name) for name in fields if name not in _NAMES]
    faults += [f"A request needs {name}." for name in ("model", "input") if fields.get(name) is None]
    faults += [
        f"{name} must be a list."
        for name in ("input", "segments")
        if not isinstance(fields.get(name) or [], Sequence)
    ]
    if not isinstance(fields.get("request_options") or {}, Mapping):
        faults.append("request_options must be a mapping.")
    if faults:
        raise InvalidRequestError(faults)
    return cast(CreateFields, dict(fields))


def _say_unknown(name: object) -> str:
    return f"A request has no field {name!r}{near(str(name), _NAMES)}"
