"""Everything a user may set, read once from the environment; flags of the command override it."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from sync_mcp.access import check_database_url, check_key, check_origin, is_on_loopback, is_placeholder
from sync_mcp.errors import ConfigurationError
from sync_mcp.serving.tokens import SHORTEST, is_token
from sync_mcp.texts import did_you_mean, find_near, safe, split_names, without_secrets

PREFIX = "SYNC_MCP_"

_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_PUBLIC_URL = re.compile(r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[\w.~-]+)*", re.ASCII)
_UNFILLED = re.compile(r"\$\{user_config\.(\w{1,40})\}")

HIGHEST_USD = Decimal(1_000_000)
Dollars = Annotated[Decimal, Field(ge=0, le=HIGHEST_USD)]

LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseModel):
    """The server's settings; the environment variable of each stands in `VARIABLES`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

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

    home: str | None = Field(
        default=None,
        description="Folder of the ledger of paid calls; by default the user's data directory.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL database that holds the ledger in place of a file, for several machines: "
        "`postgresql://user:password@host/database`. It needs the extra `postgres`; `SYNC_MCP_HOME` is then "
        "for files alone.",
    )
    approve_above_usd: Dollars | Literal["never"] = Field(
        default=Decimal(1),
        description="Most that may be paid within 24 hours without asking the user, all jobs together; what "
        "would pass it, and every unknown price, is asked about; 0 asks each time. `never` is for unattended "
        "work: it asks about no price and takes no quote but where the API publishes no price at all, "
        "refuses what else must be asked, and asks nobody before a deletion.",
    )
    approve_by: Literal["ask", "user", "quote"] = Field(
        default="ask",
        description="How the user is asked: `ask` by the host's own form, and by a quote where the host has "
        "none; `user` by the form or not at all; `quote` always by a quote, where the host's forms fail.",
    )
    webhook_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts that may be told of a finished job and its URL unasked, with commas between; any "
        "other webhook is asked about.",
    )
    public_url: str | None = Field(
        default=None,
        description="Where the API reaches the server over HTTP, such as `https://mcp.example.com`: the end "
        "of a job that names no webhook is told to `/webhooks/sync` there.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that the organization's webhooks are signed by, `whsec_...`; over HTTP they are "
        "then taken at `/webhooks/sync`, by their signature in place of a token.",
    )
    max_usd_per_job: Dollars | None = Field(
        default=None, description="Most that one job may cost, by its estimate."
    )
    budget_usd_per_day: Dollars | None = Field(
        default=None, description="Most that all jobs of a day (UTC) may cost together."
    )
    budget_usd: Dollars | None = Field(
        default=None, description="Most that all jobs in the ledger may cost together."
    )
    unpriced_usd: Dollars | None = Field(
        default=None,
        description="What to hold for a thing for which the API publishes no price, such as speech or a "
        "cloned voice, which is asked about all the same; where nothing is set, none is made under a limit.",
    )
    resend_hours: Annotated[float, Field(ge=0, le=168)] = Field(
        default=12.0,
        description="How long after its first send a create of unknown outcome may be sent again, under the "
        "same key.",
    )
    campaign_slots: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Most jobs that a campaign has made at once; by default, and at most, what the API "
        "allows the account.",
    )
    toolsets: tuple[str, ...] = Field(
        default=(),
        description="Sets of tools to offer, with commas between: `default`, `all`, or names (`core`, "
        "`library`, `usage`); where nothing is set `default`, beside `SYNC_MCP_TOOLS` none.",
    )
    tools: tuple[str, ...] = Field(
        default=(), description="Single tools to offer beside the sets, by name, with commas between."
    )
    read_only: bool = Field(
        default=False,
        description="Offer no tool that pays for or changes anything, whichever is named above.",
    )

    media_roots: tuple[Path, ...] | None = Field(
        default=None,
        description="Folders whose media may be read and where results may be saved, with `:` (Windows: `;`) "
        "between; by default the working directory, Desktop, Documents, Downloads, Videos (macOS: Movies), "
        "Music and Pictures, over HTTP none.",
    )
    download_dir: Path | None = Field(
        default=None, description="Folder that results are saved in; by default the user's Downloads."
    )

    http: bool = Field(default=False, description="Serve Streamable HTTP instead of stdio.")
    http_host: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="Address that HTTP is served on."
    )
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="Port that HTTP is served on; 0 takes a free one."
    )
    http_token: SecretStr | None = Field(
        default=None,
        description="Bearer token that clients must send; where none is set the server makes one, except on "
        "the sandbox.",
    )
    http_tokens_file: Path | None = Field(
        default=None,
        description="File of more bearer tokens, one `name token` a line: one token is one person.",
    )
    http_allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Further names that clients may call the server by, with commas between."
    )

    VARIABLES: ClassVar[Mapping[str, str]]
    """The environment variable of each field, in their order."""

    FLAGS: ClassVar[Mapping[str, str]] = {
        "sandbox": "--sandbox",
        "log_level": "--log-level",
        "home": "--home",
        "media_roots": "--root",
        "http": "--http",
        "http_host": "--host",
        "http_port": "--port",
        "http_allowed_hosts": "--allowed-host",
    }
    """The command's flags, by the settings that they override."""

    LIMITS: ClassVar[Mapping[str, str]] = {
        "per_job_usd": "max_usd_per_job",
        "per_day_usd": "budget_usd_per_day",
        "ever_usd": "budget_usd",
    }
    """The limits on money, as the payments call them, and their settings."""

    @field_validator("base_url")
    @classmethod
    def _usable_origin(cls, url: str) -> str:
        return check_origin(url)

    @field_validator("api_key")
    @classmethod
    def _possible_key(cls, key: SecretStr | None) -> SecretStr | None:
        return SecretStr(check_key(key.get_secret_value())) if key else None

    @field_validator("home")
    @classmethod
    def _possible_home(cls, home: str | None) -> str | None:
        try:
            Path(home or "").expanduser()
        except RuntimeError:
            raise ValueError("is no folder of a user") from None
        return home

    @field_validator("database_url")
    @classmethod
    def _usable_database(cls, url: SecretStr | None) -> SecretStr | None:
        return SecretStr(check_database_url(url.get_secret_value())) if url else None

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url is None:
            return None
        origin = check_origin(url)
        if not _PUBLIC_URL.fullmatch(origin):
            raise ValueError("is no plain https URL")
        return origin

    @field_validator("webhook_secret")
    @classmethod
    def _possible_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret and not is_token(secret.get_secret_value()):
            raise ValueError("is no secret")
        return secret

    @field_validator("http_token")
    @classmethod
    def _possible_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token and not is_token(token.get_secret_value()):
            raise ValueError("is no bearer token")
        return token

    @field_validator("http_allowed_hosts", "webhook_hosts", mode="before")
    @classmethod
    def _split(cls, hosts: object) -> object:
        return split_names(hosts) if isinstance(hosts, str) else hosts

    @field_validator("toolsets", "tools", mode="before")
    @classmethod
    def _split_names(cls, names: object) -> object:
        if not isinstance(names, str):
            return names
        given = split_names(names.lower())
        if not given:
            raise ValueError("names nothing")
        return given

    @field_validator("webhook_hosts")
    @classmethod
    def _bare_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_HOST.fullmatch(host) and ":" not in host for host in hosts):
            raise ValueError("is no name of a host")
        return tuple(host.rstrip(".").lower() for host in hosts)

    @field_validator("http_allowed_hosts")
    @classmethod
    def _plain_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError("is no name of a host")
        return hosts

    @field_validator("media_roots", mode="before")
    @classmethod
    def _split_folders(cls, folders: object) -> object:
        if not isinstance(folders, str):
            return folders
        named = [folder.strip() for folder in folders.split(os.pathsep) if folder.strip()]
        if not named:
            raise ValueError("names no folder")
        return named

    @field_validator("media_roots", "download_dir", "http_tokens_file")
    @classmethod
    def _whole_paths(cls, value: tuple[Path, ...] | Path | None) -> tuple[Path, ...] | Path | None:
        for folder in (value,) if isinstance(value, Path) else value or ():
            if not _is_whole(folder):
                raise ValueError("is no whole path")
        return value

    @property
    def limits(self) -> Mapping[str, Decimal]:
        """The limits on money that are set, in US dollars, by what the payments call them."""
        amounts = {limit: getattr(self, setting) for limit, setting in self.LIMITS.items()}
        return {limit: amount for limit, amount in amounts.items() if amount is not None}

    @property
    def public_host(self) -> str | None:
        """The name by which the API calls the server; None where it does not."""
        host = None if self.public_url is None else urlsplit(self.public_url).hostname
        return host and host.rstrip(".")

    @property
    def told_hosts(self) -> tuple[str, ...]:
        """The hosts that may be told of a finished job unasked, this server's own too."""
        return (*self.webhook_hosts, *([self.public_host] if self.public_host else []))

    @property
    def makes_token(self) -> bool:
        """Whether the server makes its clients' token over HTTP: none is set, and real money is at stake."""
        return not (self.sandbox or self.http_token or self.http_tokens_file)

    @property
    def has_token(self) -> bool:
        """Whether clients over HTTP need a token."""
        return self.makes_token or self.http_token is not None or self.http_tokens_file is not None

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], only: Collection[str] | None = None, /, **flags: object
    ) -> Self:
        """Read the settings; a flag that is None was not given.

        Of the environment `only` these are read, where they are named: a fault of another one is nobody's.

        Raises:
            ConfigurationError: bad values, or `SYNC_MCP_` variables that do not exist, all of them.
        """
        settings, faults = cls._read(environment, flags, cls.VARIABLES if only is None else only)
        if settings is None or faults:
            raise ConfigurationError(" ".join(faults))
        return settings

    @classmethod
    def faults(cls, environment: Mapping[str, str], **flags: object) -> list[str]:
        """Return what is wrong with the settings, a sentence for each."""
        settings, faults = cls._read(environment, flags, cls.VARIABLES)
        sent = settings._placeholder_sent if settings is not None else None
        return [*faults, sent] if sent else faults

    @classmethod
    def _read(
        cls, environment: Mapping[str, str], flags: Mapping[str, object], only: Collection[str]
    ) -> tuple[Self | None, list[str]]:
        variables = {name: cls.VARIABLES[name] for name in only}
        faults = cls._find_unknown(environment, set(variables.values()))
        values: dict[str, object] = {
            name: environment[variable].strip()
            for name, variable in variables.items()
            if environment.get(variable, "").strip()
        }
        values |= {name: value for name, value in flags.items() if value is not None}
        unfilled = {name: field for name in values if (field := _find_unfilled(values[name])) is not None}
        # A key is not needed everywhere, see `sends_placeholder`.
        unfilled.pop("api_key", None)
        typed = {name: flag for name, flag in cls.FLAGS.items() if flags.get(name) is not None}
        # A fault is told by the name that the user gave the value under.
        names = {**cls.VARIABLES, **typed}
        faults += [_UNFILLED_TOLD.format(names[name], field) for name, field in unfilled.items()]
        values = {name: value for name, value in values.items() if name not in unfilled}
        for name in ("log_level", "approve_above_usd", "approve_by"):
            word = values.get(name)
            if isinstance(word, str):
                values[name] = word.lower()
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            # More than one thing may be wrong with a value, which is told once.
            wrong = {
                str(fault["loc"][0]): fault["input"] for fault in reversed(error.errors(include_url=False))
            }
            why = {str(fault["loc"][0]): fault["msg"] for fault in error.errors(include_url=False)}
            faults += [
                _complaint(names[name], name, wrong[name], why[name], is_flag=name in typed)
                for name in cls.VARIABLES
                if name in wrong
            ]
            return None, faults
        return settings, faults

    @classmethod
    def _find_unknown(cls, environment: Mapping[str, str], read: set[str]) -> list[str]:
        known = set(cls.VARIABLES.values())
        unknown = {
            variable: find_near(variable, known)
            for variable in environment
            if variable.upper().startswith(PREFIX) and variable not in known
        }
        # A misspelt limit must not be no limit; but who reads no limit need not mind.
        return [
            f"There is no setting {variable}{did_you_mean(*meant)}"
            for variable, meant in unknown.items()
            if read == known or not read.isdisjoint(meant)
        ]

    @property
    def sends_placeholder(self) -> bool:
        """Whether the API would get a placeholder for a key; a sandbox takes any."""
        if self.api_key is None or self.sandbox or is_on_loopback(self.base_url):
            return False
        return is_placeholder(self.api_key.get_secret_value())

    def check_key(self) -> None:
        """Refuse a placeholder that would be sent for a key.

        Raises:
            ConfigurationError: it would be.
        """
        sent = self._placeholder_sent
        if sent:
            raise ConfigurationError(sent)

    @property
    def _placeholder_sent(self) -> str | None:
        """What is wrong where a placeholder would be sent for a key; None where none would be."""
        if self.api_key is None or not self.sends_placeholder:
            return None
        field = _find_unfilled(self.api_key.get_secret_value())
        return f"{_UNFILLED_TOLD.format('SYNC_API_KEY', field)} {_NO_KEY}" if field else _PLACEHOLDER_SENT


Settings.VARIABLES = {
    # What the client reads without a server has no name of the server's.
    name: f"{'SYNC_' if name in ('api_key', 'base_url') else PREFIX}{name.upper()}"
    for name in Settings.model_fields
}

_NO_KEY = "A key is made at https://sync.so/settings/api-keys; the sandbox needs none."
_UNFILLED_TOLD = (
    "{} was left unfilled by the host, as ${{user_config.{}}}: "
    "fill in that field in the extension's settings."
)
_PLACEHOLDER_SENT = (
    "SYNC_API_KEY is a placeholder: put a key in its place, made at https://sync.so/settings/api-keys, or "
    "take --sandbox, which needs none."
)
_SECRETS = ("api_key", "database_url", "http_token", "webhook_secret")
_WANTED = {
    "api_key": "a key in plain letters and signs; copy it again",
    "base_url": "https://host (or http on this machine), without credentials or query",
    "sandbox": "1 or 0",
    "log_level": "debug, info, warning or error",
    "home": "a folder",
    "approve_above_usd": "an amount of US dollars such as 2.50, 0, or never",
    "approve_by": "ask, user or quote",
    "webhook_hosts": "names of hosts, such as hooks.example.com, with commas between",
    "public_url": "https://host, with a port or a path where it has one",
    "webhook_secret": f"the organization's secret, at least {SHORTEST} letters and signs without spaces",
    "max_usd_per_job": "an amount of US dollars such as 2.50",
    "budget_usd_per_day": "an amount of US dollars such as 20",
    "budget_usd": "an amount of US dollars such as 100",
    "unpriced_usd": "an amount of US dollars such as 0.1",
    "resend_hours": "a number of hours from 0 to 168",
    "campaign_slots": "a whole number from 1 to 1000",
    "toolsets": "default, all, or names of toolsets such as core, with commas between",
    "tools": "names of tools such as list_voices, with commas between",
    "read_only": "1 or 0",
    "media_roots": f"whole paths of folders, such as ~/Movies, with {os.pathsep!r} between",
    "download_dir": "the whole path of a folder, such as ~/Movies/dubbed",
    "http": "1 or 0",
    "http_host": "an address of this machine",
    "http_port": "a port from 0 to 65535",
    "http_token": f"at least {SHORTEST} letters and signs without spaces",
    "http_tokens_file": "the whole path of a file, such as ~/.config/sync-mcp/tokens",
    "http_allowed_hosts": "names of hosts, such as mcp.example.com, with commas between",
}
_WANTED_OF_FLAGS = {
    "media_roots": "the whole path of a folder, such as ~/Movies, each time it is given",
    "http_allowed_hosts": "the name of a host, such as mcp.example.com, each time it is given",
}
"""Of what is given once for each value, and not with signs between."""


def _find_unfilled(value: object) -> str | None:
    """Return the field of an extension's settings that the host left unfilled, where a value names one."""
    words = cast(list[object], value) if isinstance(value, list) else [value]
    found = (_UNFILLED.search(word) for word in words if isinstance(word, str))
    return next((match[1] for match in found if match), None)


def _complaint(told: str, name: str, value: object, why: str, *, is_flag: bool) -> str:
    if name == "database_url":
        # There are too many ways to be wrong for one sentence, and the value is not shown.
        return f"{told} {why.removeprefix('Value error, ')}."
    wanted = _WANTED_OF_FLAGS.get(name, _WANTED[name]) if is_flag else _WANTED[name]
    if isinstance(value, list):
        given = list(map(str, cast(list[object], value)))
        # Of what was given one by one, the first that is wrong.
        wrong = (one for one in given if not _IS_POSSIBLE[name](one))
        value = next(wrong, "") if is_flag else os.pathsep.join(given)
    shown = "" if name in _SECRETS else f", not {safe(without_secrets(str(value)), 60)!r}"
    return f"{told} must be {wanted}{shown}."


def _is_whole(folder: Path) -> bool:
    # Relative to what, would depend on who starts the server.
    return (folder.is_absolute() or folder.parts[:1] == ("~",)) and "\0" not in str(folder)


_IS_POSSIBLE: Mapping[str, Callable[[str], bool]] = {
    "media_roots": lambda folder: _is_whole(Path(folder)),
    "http_allowed_hosts": lambda host: _HOST.fullmatch(host) is not None,
}
"""Of the settings whose flags are given once for each value."""
