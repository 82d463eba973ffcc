"""What the API lists of itself: the models that an account can use, and its error codes."""

from typing import Literal

from sync_mcp.api.models import CamelModel, Moment


class ModelInfo(CamelModel):
    """A model that this account can use; `name` is what a generation's `model` takes (API §7)."""

    id: str | None = None
    name: str
    type: Literal["lipsync", "react"] | str | None = None
    version: str | None = None
    description: str | None = None
    deprecated_at: Moment | None = None


class ErrorInfo(CamelModel):
    """An entry of the API's catalogue of error codes (`GET /v2/errors`)."""

    code: str
    message: str | None = None
    suggestion: str | None = None
