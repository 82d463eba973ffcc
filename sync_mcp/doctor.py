"""One report that can be pasted into a bug report: what is installed, what is set, and what is wrong."""

import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pydantic import SecretStr

from sync_mcp._version import __version__
from sync_mcp.api.client import AsyncSync, Ping
from sync_mcp.errors import SyncError
from sync_mcp.settings import Settings
from sync_mcp.text import safe

_PACKAGES = ("mcp", "httpx", "pydantic", "anyio", "starlette", "uvicorn")
_TIMEOUT_SECONDS = 10.0
_SHOWN = 200
_CLOCK_TOLERANCE_SECONDS = 120.0
_CHECK_NETWORK = "Check the network, any proxy on the way, and SYNC_BASE_URL."


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report; `remedy` is there only where something is wrong."""

    name: str
    state: str
    remedy: str | None = None

    def __str__(self) -> str:
        line = f"{self.name:<10} {self.state}"
        return f"{line}\n  WRONG -> {self.remedy}" if self.remedy else line


async def examine(settings: Settings, sources: Mapping[str, str], sandbox_url: str | None) -> list[Finding]:
    """Look at this installation and at the API; `sources` tells where each setting came from.

    With `sandbox_url` the sandbox there stands in for the API. Nothing is changed and nothing costs money.
    """
    return [
        *_software(),
        *_shown(settings, sources),
        _media(needed=settings.sandbox),
        *await _network(settings, sandbox_url),
    ]


_NO_KEY = Finding("key", "not set", "Make a key at https://sync.so/settings/api-keys and set SYNC_API_KEY.")


def report(findings: list[Finding]) -> str:
    """Return the findings as text, ending in how many of them are wrong."""
    wrong = sum(finding.remedy is not None for finding in findings)
    last = "All is well." if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong."
    return "\n".join([*map(str, findings), last])


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
    if isinstance(value, SecretStr):
        return "set, not shown"
    if value is None or value == ():
        return "not set"
    if isinstance(value, bool):
        return str(int(value))
    return safe(str(value), _SHOWN)


def _media(*, needed: bool) -> Finding:
    try:
        return Finding("media", f"PyAV {version('av')}")
    except PackageNotFoundError:
        remedy = "Install it: pip install 'sync-mcp[media]'." if needed else None
        return Finding("media", "PyAV is not installed; only the sandbox needs it", remedy)


async def _network(settings: Settings, sandbox_url: str | None) -> list[Finding]:
    base_url = sandbox_url or settings.base_url
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    key = "sk_embedded_sandbox" if sandbox_url else key
    # Without a key the API's public list of errors can still be read.
    async with AsyncSync(
        api_key=key or "none", base_url=base_url, timeout=_TIMEOUT_SECONDS, max_retries=0
    ) as sync:
        try:
            ping = await sync.ping()
        except SyncError as error:
            reached = [Finding("api", error.message, _CHECK_NETWORK)]
        else:
            reached = list(_reached(base_url, ping, sandboxed=sync.sandboxed))
        return [*reached, await _key(sync) if key else _NO_KEY]


def _reached(base_url: str, ping: Ping, *, sandboxed: bool) -> Iterator[Finding]:
    mark = " (SANDBOX)" if sandboxed else ""
    yield Finding("api", f"{base_url} answers in {ping.latency_seconds * 1000:.0f} ms{mark}")
    offset = ping.clock_offset_seconds
    if offset is not None:
        remedy = "Set this machine's clock." if abs(offset) > _CLOCK_TOLERANCE_SECONDS else None
        yield Finding("clock", f"{offset:+.0f} s beside the API's", remedy)


async def _key(sync: AsyncSync) -> Finding:
    try:
        models = await sync.models.list()
    except SyncError as error:
        return Finding("key", error.message, error.next_step)
    return Finding("key", f"works; models: {', '.join(model.name for model in models)}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
