"""Everything a user may set, read once from the environment; flags of the command override it."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from sync_mcp.errors import ConfigurationError
from sync_mcp.text import clean, near

PREFIX = "SYNC_MCP_"

LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseModel):
    """The server's settings; the environment variable of each stands in `VARIABLES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(
        default=None, description="Key of the Sync API, made at https://sync.so/settings/api-keys."
    )
    base_url: str = Field(
        default="https://api.sync.so", description="Origin of the Sync API; https, or http on this machine."
    )
    sandbox: bool = Field(
        default=False,
        description="Run on the embedded sandbox: no key is needed, and `SYNC_API_KEY` is never used.",
    )
    log_level: LogLevel = Field(
        default="info", description="Least severe log line that goes to standard error."
    )

    VARIABLES: ClassVar[Mapping[str, str]] = {
        "api_key": "SYNC_API_KEY",
        "base_url": "SYNC_BASE_URL",
        "sandbox": "SYNC_MCP_SANDBOX",
        "log_level": "SYNC_MCP_LOG_LEVEL",
    }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **flags: Any) -> Self:
        """Read the settings; a flag that is None was not given.

        Raises:
            ConfigurationError: a bad value, or a `SYNC_MCP_` variable that does not exist.
        """
        _refuse_unknown(environment, set(cls.VARIABLES.values()))
        values: dict[str, Any] = {
            name: environment[variable].strip()
            for name, variable in cls.VARIABLES.items()
            if environment.get(variable, "").strip()
        }
        values |= {name: value for name, value in flags.items() if value is not None}
        if isinstance(values.get("log_level"), str):
            values["log_level"] = values["log_level"].lower()
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = str(fault["loc"][0])
            raise ConfigurationError(_complaint(cls.VARIABLES[name], name, fault["input"])) from None


_WANTED = {
    "sandbox": "1 or 0",
    "log_level": "debug, info, warning or error",
}


def _complaint(variable: str, name: str, value: object) -> str:
    shown = "" if name == "api_key" else f", not {clean(str(value), 60)!r}"
    return f"{variable} must be {_WANTED.get(name, 'a text')}{shown}."


def _refuse_unknown(environment: Mapping[str, str], known: set[str]) -> None:
    # A misspelt limit must not be no limit.
    for variable in environment:
        if variable.upper().startswith(PREFIX) and variable not in known:
            raise ConfigurationError(f"There is no setting {variable}{near(variable, known)}")
