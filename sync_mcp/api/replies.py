"""The API's whole answers, and which error each that is no success stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar, cast

from pydantic import ValidationError

from sync_mcp.api.models import CamelModel
from sync_mcp.api.public_hosts import host_of
from sync_mcp.api.retry import may_pass, retry_after
from sync_mcp.errors import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    ConcurrencyLimitError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)

_ModelT = TypeVar("_ModelT", bound=CamelModel)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; `data` is None where the body is not JSON, and a string where the call is `plain`."""

    status: int
    headers: Mapping[str, str]
    """By their names in any case."""
    data: object

    @property
    def ok(self) -> bool:
        """Whether the API says that it did what was asked."""
        return 200 <= self.status < 300

    @property
    def server_time(self) -> datetime | None:
        """The API's clock when it answered, where it tells it."""
        try:
            told = parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, TypeError, OverflowError):
            return None
        return told if told.tzinfo else told.replace(tzinfo=UTC)

    @property
    def fields(self) -> Mapping[str, object]:
        """The body as an object; empty where it is none."""
        data = self.data
        return cast(Mapping[str, object], data) if isinstance(data, Mapping) else {}

    @property
    def entries(self) -> list[object] | None:
        """The body as an array, or None where it is none."""
        data = self.data
        return cast(list[object], data) if isinstance(data, list) else None

    def read_as(self, model: type[_ModelT], what: str) -> _ModelT:
        """Return the body as a model; `what` is the thing that was asked for, as in "no generation".

        Raises:
            APIResponseError: it is none.
        """
        try:
            return model.from_wire(self.data)
        except ValidationError as error:
            raise APIResponseError(f"The API's answer is no {what}.", status=self.status) from error

    def read_list(
        self, model: type[_ModelT], what: str, *, under: str | None = None
    ) -> tuple[list[_ModelT], int]:
        """Return the body, or what stands in it `under` a name, as models, and how many are unreadable.

        Raises:
            APIResponseError: it is no list; `what` is what was asked for.
        """
        entries = self.data if under is None else self.fields.get(under)
        if not isinstance(entries, list):
            raise APIResponseError(f"The API's {what} is no list.", status=self.status)
        entries = cast(list[object], entries)
        models = model.list_from_wire(entries)
        return models, len(entries) - len(models)

    def read_count(self, name: str | None = None) -> int:
        """Return the body, or what stands in it under a name, as a number of things.

        Raises:
            APIResponseError: it is none.
        """
        count = self.data if name is None else self.fields.get(name)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise APIResponseError("The API's answer is no count.", status=self.status)
        return count


def reply_error(reply: Reply, origin: str, scrub: Callable[[str], str]) -> APIStatusError | APIResponseError:
    """Return the error that an answer of the API at `origin` stands for; `scrub` cleans its words."""
    if 300 <= reply.status < 400:
        place = scrub(host_of(reply.headers.get("location", ""))) or "another place"
        message = f"{origin} redirects to {place}, and the key is not sent there."
    elif reply.ok or not isinstance(reply.data, Mapping):
        kind = scrub(reply.headers.get("content-type", "no content type").split(";")[0])
        message = f"HTTP {reply.status} from {origin} is not the API's JSON ({kind})."
    else:
        return _status_error(reply.status, reply.headers, reply.fields, scrub)
    error = APIResponseError(message, status=reply.status, retry_after_seconds=retry_after(reply.headers, {}))
    return error.advise(retryable=may_pass(reply.status))


_ERRORS: dict[int, type[APIStatusError]] = {
    400: RequestRejectedError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: RequestRejectedError,
    422: RequestRejectedError,
    429: RateLimitError,
}


def _status_error(
    status: int, headers: Mapping[str, str], body: Mapping[str, object], scrub: Callable[[str], str]
) -> APIStatusError:
    def word(*names: str) -> str | None:
        for name in names:
            value = body.get(name)
            if isinstance(value, str) and value.strip():
                return scrub(value)
        return None

    lines = body.get("message")
    message = (
        "; ".join(map(str, cast(list[object], lines)))
        if isinstance(lines, list)
        else word("message", "error")
    )
    line = _whole(body.get("lineNumber"))
    if line is not None:
        # Of a batch: the row that it is about.
        message = f"line {line}: {message or ''}"
    code = word("errorCode", "error_code")
    build: Callable[..., APIStatusError] = _error_class(status, code, message or "", body)
    if build is ConcurrencyLimitError:
        build = partial(
            ConcurrencyLimitError,
            active_generations=_whole(body.get("activeGenerations")),
            concurrency_limit=_whole(body.get("concurrencyLimit")),
        )
    return build(
        scrub(message or ""),
        status=status,
        api_code=code,
        suggestion=word("suggestion"),
        field=word("field"),
        request_id=word("requestId"),
        retry_after_seconds=retry_after(headers, body),
    )


def _error_class(
    status: int, code: str | None, message: str, body: Mapping[str, object]
) -> type[APIStatusError]:
    if status == 429:
        # Without a code there are the API's words alone: too many jobs need another wait than too many calls.
        told = code in ("concurrency_limit_reached", "batch_concurrency_limit_reached")
        guessed = code is None and ("concurrencyLimit" in body or "concurren" in message.lower())
        return ConcurrencyLimitError if told or guessed else RateLimitError
    return _ERRORS.get(status, ServerError)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
