"""One report that can be pasted into a bug report: what is installed, what is set, and what is wrong."""

import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from pydantic import SecretStr

from sync_mcp._version import __version__
from sync_mcp.api.client import AsyncSync, Ping
from sync_mcp.errors import APIStatusError, ConfigurationError, SyncError
from sync_mcp.settings import Settings
from sync_mcp.text import safe

_PACKAGES = ("mcp", "httpx", "pydantic", "anyio", "starlette", "uvicorn")
_TIMEOUT_SECONDS = 10.0
_SHOWN = 200
_NOT_INSTALLED = "not installed"
_CLOCK_TOLERANCE_SECONDS = 120.0
_INSTALL_MEDIA = "pip install 'sync-mcp[media]'"
_MAKE_KEY = "Make a key at https://sync.so/settings/api-keys and set SYNC_API_KEY."
_SET_CLOCK = "Set this machine's clock: certificates and signed URLs go by it."
_CHECK_NETWORK = "Check the network, any proxy on the way, and SYNC_BASE_URL."


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report; `remedy` is there only where something is wrong."""

    name: str
    state: str
    remedy: str | None = None

    def __str__(self) -> str:
        # Much of it is the API's own words: they must not make lines of their own.
        line = f"{self.name:<10} {safe(self.state, _SHOWN)}"
        return line if self.remedy is None else f"{line}\n  WRONG -> {safe(self.remedy, _SHOWN)}"


async def examine(
    settings: Settings, sources: Mapping[str, str], *, has_media: bool, sandbox_url: str | None
) -> list[Finding]:
    """Look at this installation and at the API; `sources` tells where each setting came from.

    With `sandbox_url` the sandbox there stands in for the API. Nothing is changed and nothing costs money.
    """
    return [
        *_software(),
        *_shown(settings, sources),
        *_exposure(settings),
        _media(has_media, needed=settings.sandbox),
        *await _network(settings, sandbox_url),
    ]


def unusable(fault: ConfigurationError) -> list[Finding]:
    """Return the findings of an installation whose settings cannot even be read."""
    return [*_software(), Finding("settings", "cannot be used", fault.message)]


def report(findings: list[Finding]) -> str:
    """Return the findings as text, ending in how many of them are wrong."""
    wrong = faults(findings)
    last = "All is well." if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong."
    return "\n".join([*map(str, findings), last])


def faults(findings: list[Finding]) -> int:
    """Return how many things are wrong."""
    return sum(finding.remedy is not None for finding in findings)


def _software() -> Iterator[Finding]:
    yield Finding("sync-mcp", __version__)
    yield Finding("python", f"{platform.python_version()} {platform.python_implementation()}")
    yield Finding("platform", f"{platform.platform()} ({sys.platform})")
    yield Finding("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def _shown(settings: Settings, sources: Mapping[str, str]) -> Iterator[Finding]:
    for name, variable in Settings.VARIABLES.items():
        value = getattr(settings, name)
        yield Finding("setting", f"{variable} = {_plain(value)} ({sources[name]})")


def _plain(value: object) -> str:
    match value:
        case SecretStr():
            return "set, not shown"
        case None | ():
            return "not set"
        case bool():
            return str(int(value))
        case tuple():
            return ", ".join(map(str, cast(tuple[object, ...], value)))
        case _:
            return str(value)


def _exposure(settings: Settings) -> Iterator[Finding]:
    if not settings.http:
        return
    # Takes as long to import as all the rest.
    from sync_mcp.http import check_exposure

    token = settings.http_token.get_secret_value() if settings.http_token else None
    try:
        check_exposure(settings.http_host, settings.http_allowed_hosts, token)
    except ConfigurationError as error:
        yield Finding("http", "does not start", error.message)


def _media(has_media: bool, *, needed: bool) -> Finding:
    found = _version("av")
    if has_media:
        return Finding("media", f"PyAV {found}")
    fault = "PyAV is not installed" if found == _NOT_INSTALLED else f"PyAV {found} cannot be imported"
    if needed:
        return Finding("media", f"{fault}, and the sandbox needs it", f"Run {_INSTALL_MEDIA}.")
    return Finding("media", f"{fault}; only the sandbox needs it: {_INSTALL_MEDIA}")


async def _network(settings: Settings, sandbox_url: str | None) -> list[Finding]:
    if settings.sandbox and sandbox_url is None:
        return [Finding("api", "not asked: the sandbox cannot start")]
    key = settings.api_key.get_secret_value() if settings.api_key and not settings.sandbox else ""
    async with AsyncSync(
        # Without a key the API's public list of errors can still be read.
        api_key=key or "none",
        base_url=sandbox_url or settings.base_url,
        timeout=_TIMEOUT_SECONDS,
        max_retries=0,
    ) as sync:
        try:
            reached, answers = list(_reached(sync, await sync.ping())), True
        except SyncError as error:
            reached, answers = [Finding("api", error.message, _remedy(error))], False
        return [*reached, await _key(sync, settings, answers=answers)]


def _reached(sync: AsyncSync, ping: Ping) -> Iterator[Finding]:
    mark = " (SANDBOX)" if sync.sandboxed else ""
    yield Finding("api", f"{sync.base_url} answers in {ping.latency_seconds * 1000:.0f} ms{mark}")
    if ping.clock_offset_seconds is None:
        yield Finding("clock", "not compared: the API tells no time")
    else:
        yield _clock(round(ping.clock_offset_seconds))


def _clock(seconds: int) -> Finding:
    remedy = _SET_CLOCK if abs(seconds) > _CLOCK_TOLERANCE_SECONDS else None
    return Finding("clock", f"{seconds:+d} s beside the API's", remedy)


async def _key(sync: AsyncSync, settings: Settings, *, answers: bool) -> Finding:
    if settings.sandbox:
        return Finding("key", "not needed on the sandbox")
    if not settings.api_key:
        return Finding("key", "not set", _MAKE_KEY)
    if not answers:
        return Finding("key", "not tried before the API answers")
    try:
        models = await sync.models.list()
    except SyncError as error:
        failed = "cannot be tried" if error.retryable else "does not work"
        return Finding("key", f"{failed}: {error.message}", _remedy(error))
    return Finding("key", f"works; models: {', '.join(model.name for model in models)}")


def _remedy(error: SyncError) -> str:
    if not isinstance(error, APIStatusError):
        return _CHECK_NETWORK
    if error.retryable:
        return "Run this again in a while."
    return error.next_step or _CHECK_NETWORK


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _NOT_INSTALLED
