"""One report that can be pasted into a bug report: what is installed, what is set, and what is wrong."""

import argparse
import errno
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import anyio
from anyio import to_thread
from pydantic import JsonValue, SecretStr

from sync_mcp._version import __version__
from sync_mcp.api.client import AsyncSync, Ping
from sync_mcp.api.public_hosts import may_be_public
from sync_mcp.cli.documents import print_document
from sync_mcp.cli.findings import Finding, describe, faults, report
from sync_mcp.cli.flags import (
    MEND_DEAFNESS,
    find_deafness,
    home_of_flags,
    read_settings,
    settings_of_flags,
    sources,
)
from sync_mcp.cli.sandbox import has_media, own_sandbox
from sync_mcp.cli.screen import show_lines, waiting
from sync_mcp.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    NotFoundError,
    SyncError,
)
from sync_mcp.machine.home import home_folder, open_fault, open_to_others
from sync_mcp.machine.installed import media_install
from sync_mcp.serving.tokens import check_own_token, read_named_tokens
from sync_mcp.settings import Settings
from sync_mcp.texts import safe
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.toolsets import Selection, select_tools

_PACKAGES = ("mcp", "httpx", "pydantic", "anyio", "starlette", "uvicorn", "sqlalchemy")
_TIMEOUT_SECONDS = 10.0
_HEALTH_SECONDS = 2.0
_HEALTH_BYTES = 100
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not served
_VALUE_LIMIT = 1000
_NOT_INSTALLED, _NOT_SET = "not installed", "not set"
_CLOCK_TOLERANCE_SECONDS = 120.0
_WITHOUT_MEDIA = (
    "preview_generation does not work, and files are not checked before they are paid for nor when saved"
)
_MEND_ROOTS = "Make the folder or give access to it, or correct SYNC_MCP_MEDIA_ROOTS or --root."
_MEND_PUBLIC_URL = "Set SYNC_MCP_PUBLIC_URL to where this server is reached from the internet."
_MEND_RESULTS = "Make the folder or give access to it, or correct SYNC_MCP_DOWNLOAD_DIR."
_MEND_QUOTES = "Take the quotes off SYNC_API_KEY: they are sent as a part of it."
_QUOTES = "\"'`"
_PRICED = {"create_generation", "create_generations", "create_batch"}
"""The tools that pay for what the API publishes a price of."""
_MAKE_KEY = "Make a key at https://sync.so/settings/api-keys and set SYNC_API_KEY."
_SET_CLOCK = "Set this machine's clock: certificates and signed URLs go by it."
_CHECK_NETWORK = "Check the network, any proxy on the way, and SYNC_BASE_URL."
_CHECK_CERTIFICATE = (
    "Check this machine's clock, any proxy on the way, and SSL_CERT_FILE where the proxy has a certificate "
    "of its own."
)
_CHECK_BASE_URL = "Check SYNC_BASE_URL: there is no Sync API."


def run(arguments: argparse.Namespace) -> None:
    """Print the report, and end the program: exit code 1 where something is wrong."""
    try:
        with home_of_flags(arguments), waiting("Asking the API ..."):
            findings = _examine(read_settings(arguments), arguments)
    except ConfigurationError as error:
        told = Settings.faults(os.environ, **settings_of_flags(arguments)) or [error.message]
        wrong = (Finding("settings", "cannot be used", fault, "configuration_error") for fault in told)
        findings = [*_software(), *wrong]
    if arguments.json:
        print_document(describe(findings, __version__))
    else:
        show_lines(report(findings))
    sys.exit(1 if faults(findings) else 0)


def _examine(settings: Settings, arguments: argparse.Namespace) -> list[Finding]:
    is_here = has_media()
    # Without PyAV there is no sandbox to ask; the report says what to do about it.
    with own_sandbox(settings) if is_here else nullcontext() as sandbox:
        url = sandbox.url if sandbox else None
        return anyio.run(partial(examine, settings, sources(arguments), has_media=is_here, sandbox_url=url))


async def examine(
    settings: Settings, origins: Mapping[str, str], *, has_media: bool, sandbox_url: str | None
) -> list[Finding]:
    """Look at this installation and at the API; `origins` tells where each setting came from.

    With `sandbox_url` the sandbox there stands in for the API. Nothing costs money, and nothing is changed.
    """
    return [
        *_software(),
        *_settings(settings, origins),
        _tools(settings),
        *_exposure(settings),
        *_webhooks(settings),
        _media(has_media, needed=settings.sandbox),
        *await to_thread.run_sync(_folders, settings),
        *_check_budget(settings),
        *_check_unpriced(settings),
        *await to_thread.run_sync(_ledger, settings),
        *_open_home(settings),
        *await _network(settings, sandbox_url),
    ]


def _software() -> Iterator[Finding]:
    python, implementation = platform.python_version(), platform.python_implementation()
    versions: dict[str, JsonValue] = {name: _version(name) for name in _PACKAGES}
    yield Finding("sync-mcp", __version__)
    yield Finding(
        "python", f"{python} {implementation}", facts={"version": python, "implementation": implementation}
    )
    yield Finding("platform", f"{platform.platform()} ({sys.platform})")
    yield Finding("packages", ", ".join(f"{name} {one}" for name, one in versions.items()), facts=versions)


def _settings(settings: Settings, origins: Mapping[str, str]) -> Iterator[Finding]:
    for name, variable in Settings.VARIABLES.items():
        value = getattr(settings, name)
        shown = _plain(value)
        known = not isinstance(value, SecretStr) and shown != _NOT_SET
        facts: dict[str, JsonValue] = {
            "variable": variable,
            "value": safe(shown, _VALUE_LIMIT) if known else None,
            "is_set": shown != _NOT_SET,
            "source": origins[name],
        }
        yield Finding("setting", f"{variable} = {shown} ({origins[name]})", facts=facts)


def _plain(value: object) -> str:
    match value:
        case SecretStr():
            return "set, not shown"
        case None | ():
            return _NOT_SET
        case bool():
            return str(int(value))
        case Decimal():
            return f"{value:f}"
        case tuple():
            return ", ".join(map(str, cast(tuple[object, ...], value)))
        case _:
            return str(value)


def _tools(settings: Settings) -> Finding:
    try:
        selection = _select_tools(settings)
    except ConfigurationError as error:
        return Finding("tools", "the server does not start", error.message, error.code)
    off = f"; off: {', '.join(_name_off(selection))}" if selection.withheld else ""
    on = len(TOOLS) - len(selection.withheld)
    remedy = None if on else "Correct SYNC_MCP_TOOLSETS and SYNC_MCP_TOOLS: an assistant sees no tool."
    return Finding(
        "tools",
        f"{on} of {len(TOOLS)} are on{off}",
        remedy,
        None if on else "no_tools",
        is_ours=True,
        facts={"on": on, "off": list(selection.withheld)},
    )


def _name_off(selection: Selection) -> Iterator[str]:
    """Yield the tools that are off, by their set where all of it is."""
    for toolset in dict.fromkeys(tool.toolset for tool in selection.tools.values()):
        names = [name for name, tool in selection.tools.items() if tool.toolset == toolset]
        off = [name for name in names if name in selection.withheld]
        yield from [f"the set {toolset.name}"] if off == names else off


def _select_tools(settings: Settings) -> Selection:
    return select_tools(
        TOOLS, toolsets=settings.toolsets, names=settings.tools, is_read_only=settings.read_only
    )


def _exposure(settings: Settings) -> Iterator[Finding]:
    if not settings.http:
        return
    # Takes as long to import as all the rest.
    from sync_mcp.serving.http import check_exposure, listen

    try:
        check_exposure(settings.http_host, settings.http_allowed_hosts, has_token=settings.has_token)
        if settings.http_tokens_file is not None:
            read_named_tokens(settings.http_tokens_file)
        if settings.makes_token:
            check_own_token(home_folder(settings.home))
    except (ConfigurationError, ValueError) as error:
        yield Finding("http", "does not start", str(error), "configuration_error")
        return
    place = f"{settings.http_host}:{settings.http_port}"
    try:
        listen(settings.http_host, settings.http_port).close()
    except ConfigurationError as error:
        if _is_taken(error) and _is_served(settings.http_host, settings.http_port):
            yield Finding("http", f"already served on {place}")
        else:
            remedy = f"{error.message} Give another --port or --host."
            yield Finding("http", "does not start", remedy, error.code)
    else:
        yield Finding("http", f"can be served on {place}")


def _is_taken(error: ConfigurationError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _is_served(host: str, port: int) -> bool:
    """Whether a server like this one answers there."""
    asked = HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_HEALTH_SECONDS)
    try:
        asked.request("GET", "/health")
        return asked.getresponse().read(_HEALTH_BYTES) == b'{"status":"ok"}'
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


def _webhooks(settings: Settings) -> Iterator[Finding]:
    """Yield what is to be said of webhooks, where a setting for them is set."""
    url, host, deafness = settings.public_url, settings.public_host, find_deafness(settings)
    if host is not None and not may_be_public(host):
        state = f"{url} is within a private network, where the API reaches nothing"
        yield Finding("webhooks", state, _MEND_PUBLIC_URL, "url_not_public")
    if deafness is not None:
        yield Finding("webhooks", deafness, MEND_DEAFNESS, "webhook_secret_missing", is_ours=True)
    elif url is not None and not settings.http:
        told = "jobs name SYNC_MCP_PUBLIC_URL, where a server over HTTP with the same ledger has to take them"
        yield Finding("webhooks", told)
    elif settings.webhook_secret is not None and not settings.http:
        yield Finding("webhooks", "not taken: SYNC_MCP_WEBHOOK_SECRET counts over HTTP alone")
    elif settings.webhook_secret is not None:
        who = (
            "no job by itself: SYNC_MCP_PUBLIC_URL is not set"
            if url is None
            else "each job that names no other"
        )
        yield Finding("webhooks", f"taken, and named by {who}")


def _media(has_media: bool, *, needed: bool) -> Finding:
    found, pillow = _version("av"), _version("pillow")
    if has_media and pillow != _NOT_INSTALLED:
        return Finding("media", f"PyAV {found}, Pillow {pillow}")
    if has_media:
        fault = "Pillow is not installed"
    else:
        fault = "PyAV is not installed" if found == _NOT_INSTALLED else f"PyAV {found} cannot be imported"
    if needed and not has_media:
        remedy = f"Run {media_install()}."
        return Finding("media", f"{fault}, and the sandbox needs it", remedy, "media_extra_missing")
    sandbox = "" if has_media else ", nor is there a sandbox"
    return Finding("media", f"{fault}; {_WITHOUT_MEDIA}{sandbox}: {media_install()}")


def _folders(settings: Settings) -> list[Finding]:
    """Look at the folders that are set for media and for results."""
    roots = [_root(root) for root in settings.media_roots or ()]
    results = [] if settings.download_dir is None else [_results(settings.download_dir)]
    return [finding for finding in (*roots, *results) if finding is not None]


def _root(root: Path) -> Finding | None:
    place = _expand(root)
    if place is None or not place.exists():
        state = f"{root} is not there, so no file in it can be used"
        return Finding("roots", state, _MEND_ROOTS, "folder_not_found")
    if not place.is_dir():
        state = f"{root} is no folder, so nothing can be read there"
        return Finding("roots", state, _MEND_ROOTS, "folder_not_found")
    if not os.access(place, os.R_OK | os.X_OK):
        state = f"{root} cannot be read by this user"
        return Finding("roots", state, _MEND_ROOTS, "folder_not_readable")
    return None


def _results(folder: Path) -> Finding | None:
    place = _expand(folder)
    if place is None:
        state = f"{folder} cannot be found: there is no such home folder"
        return Finding("results", state, _MEND_RESULTS, "folder_not_found")
    # The folder itself is made when it is needed, none above it.
    there = place if os.path.lexists(place) else place.parent
    if not there.is_dir():
        fault = "is no folder" if there == place else "cannot be made: there is no folder above it"
        return Finding("results", f"{folder} {fault}", _MEND_RESULTS, "folder_not_found")
    if not os.access(there, os.W_OK | os.X_OK):
        fault = "cannot be written to" if there == place else "cannot be made in the folder above it"
        return Finding("results", f"{folder} {fault}", _MEND_RESULTS, "folder_not_writable")
    return None


def _expand(folder: Path) -> Path | None:
    try:
        return folder.expanduser()
    except RuntimeError:
        return None


def _check_budget(settings: Settings) -> Iterator[Finding]:
    pays = not settings.sandbox and _has_paid_tool(settings)
    if pays and settings.approve_above_usd == "never" and not settings.limits.keys() - {"per_job_usd"}:
        yield Finding(
            "money",
            "nobody is asked about a price that the API publishes, and no budget is set: an assistant can "
            "spend without end. SYNC_MCP_BUDGET_USD_PER_DAY or SYNC_MCP_BUDGET_USD would stop it.",
        )


def _check_unpriced(settings: Settings) -> Iterator[Finding]:
    """Yield why what has no published price would be refused, where a tool for it is on."""
    tools = sorted(_list_paid_tools(settings) - _PRICED)
    if not tools or not settings.limits:
        return
    held, most = settings.unpriced_usd, min(settings.limits.values())
    if held is None:
        yield Finding(
            "money",
            f"{' and '.join(tools)} are refused under the limits that are set, since the API publishes no "
            "price: SYNC_MCP_UNPRICED_USD would say what to hold for each",
            is_ours=True,
        )
    elif held > most:
        yield Finding(
            "money",
            f"SYNC_MCP_UNPRICED_USD is above a limit, so that {' and '.join(tools)} are always refused",
            f"Set it to {most:f} at most, the lowest limit, or raise that.",
            "unpriced_above_limit",
            is_ours=True,
        )


def _has_paid_tool(settings: Settings) -> bool:
    return bool(_list_paid_tools(settings))


def _list_paid_tools(settings: Settings) -> set[str]:
    try:
        selection = _select_tools(settings)
    except ConfigurationError:
        # Such a server does not start.
        return set()
    return {name for name, tool in selection.tools.items() if tool.paid and name not in selection.withheld}


def _ledger(settings: Settings) -> list[Finding]:
    if settings.sandbox:
        return [Finding("ledger", "not looked at: the sandbox has its own, which ends with it")]
    # Takes long to import, and blocks for as long as the disk takes.
    from sync_mcp.cli.doctor_ledger import look_at_ledger

    return list(look_at_ledger(settings))


def _open_home(settings: Settings) -> Iterator[Finding]:
    place = None if settings.sandbox else open_to_others(home_folder(settings.home))
    if place is not None:
        mend = f"chmod go-w {shlex.quote(str(place))}"
        remedy = f"Make it yours alone ({mend}), or name another one in SYNC_MCP_HOME."
        yield Finding("home", open_fault(place), remedy, "folder_open_to_others")


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
            reached, answers = list(_describe_answer(sync, await sync.ping())), True
        except SyncError as error:
            reached, answers = [Finding("api", error.whole_message, _remedy(error), error.code)], False
        return [*reached, await _key(sync, settings, answers=answers)]


def _describe_answer(sync: AsyncSync, ping: Ping) -> Iterator[Finding]:
    mark = " (SANDBOX)" if sync.sandboxed else ""
    milliseconds = round(ping.latency_seconds * 1000)
    yield Finding(
        "api",
        f"{sync.base_url} answers in {milliseconds} ms{mark}",
        facts={"base_url": sync.base_url, "latency_ms": milliseconds, "is_sandbox": sync.sandboxed},
    )
    if ping.clock_offset_seconds is None:
        yield Finding("clock", "not compared: the API tells no time")
    else:
        yield _clock(round(ping.clock_offset_seconds))


def _clock(seconds: int) -> Finding:
    is_wrong = abs(seconds) > _CLOCK_TOLERANCE_SECONDS
    remedy, code = (_SET_CLOCK, "clock_wrong") if is_wrong else (None, None)
    return Finding(
        "clock", f"{seconds:+d} s beside the API's", remedy, code, facts={"offset_seconds": seconds}
    )


async def _key(sync: AsyncSync, settings: Settings, *, answers: bool) -> Finding:
    if settings.sandbox:
        return Finding("key", "not needed on the sandbox")
    if not settings.api_key:
        return Finding("key", "not set", _MAKE_KEY, "api_key_missing")
    key = settings.api_key.get_secret_value()
    if key.strip(_QUOTES) != key:
        return Finding("key", "stands in quotes", _MEND_QUOTES, "api_key_quoted")
    if not answers:
        return Finding("key", "not tried before the API answers")
    try:
        models = await sync.models.list()
    except SyncError as error:
        failed = "cannot be tried" if error.retryable else "does not work"
        return Finding("key", f"{failed}: {error.whole_message}", _remedy(error), error.code)
    return Finding("key", f"works; models: {', '.join(model.name for model in models)}")


def _remedy(error: SyncError) -> str:
    if isinstance(error, ConfigurationError):
        return error.next_step or _CHECK_NETWORK
    if isinstance(error, NotFoundError):
        return _CHECK_BASE_URL
    if not isinstance(error, APIStatusError):
        is_of_certificate = isinstance(error, APIConnectionError) and error.by_certificate
        return _CHECK_CERTIFICATE if is_of_certificate else _CHECK_NETWORK
    if error.retryable:
        return "Run this again in a while."
    return error.next_step or _CHECK_NETWORK


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _NOT_INSTALLED
