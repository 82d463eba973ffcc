"""`sync-mcp config`: what to paste into a host, for the server as it is set here."""

import argparse
import sys

from sync_mcp.access import LOOPBACK
from sync_mcp.cli.flags import HTTP_FLAGS, read_settings, read_tokens
from sync_mcp.cli.hosts import Installation, configuration, http_origin
from sync_mcp.cli.screen import show_pasted
from sync_mcp.errors import ConfigurationError
from sync_mcp.machine.installed import this_command
from sync_mcp.settings import Settings
from sync_mcp.tools.catalogue import TOOLS
from sync_mcp.tools.toolsets import select_tools

_TOLD_TO_HOSTS = {"api_key", "sandbox", "log_level", "media_roots", "http", "http_token", *HTTP_FLAGS}


def run(arguments: argparse.Namespace) -> None:
    """Print the configuration of one host, and on standard error what is set here and not in it."""
    settings = read_settings(arguments)
    # A server with such names would not start.
    select_tools(TOOLS, toolsets=settings.toolsets, names=settings.tools)
    token = None
    if settings.http:
        _check_reachable(settings)
        [token] = read_tokens(settings) if settings.makes_token else [None]
    level = ("--log-level", settings.log_level) if "log_level" in settings.model_fields_set else ()
    roots = (word for root in settings.media_roots or () for word in ("--root", str(root)))
    server = Installation(
        command=(*this_command(), *level, *roots),
        sandbox=settings.sandbox,
        url=_url(settings) if settings.http else None,
        has_token=settings.has_token,
        token=token,
        has_token_file=settings.http_tokens_file is not None,
        http_flags=_http_flags(settings),
    )
    show_pasted(configuration(arguments.client, server))
    untold = [
        variable
        for name, variable in settings.VARIABLES.items()
        if name in settings.model_fields_set - _TOLD_TO_HOSTS
    ]
    if untold:
        told = f"set here and not in this configuration: {', '.join(untold)}"
        print(f"sync-mcp: {told}; the server needs it in its own environment.", file=sys.stderr)


def _url(settings: Settings) -> str:
    address, names = settings.http_host, settings.http_allowed_hosts
    # The server answers to its own address on loopback alone; elsewhere it has to be called by a name.
    called_by_address = address in LOOPBACK or address in ("0.0.0.0", "::") or address in names  # noqa: S104
    return f"{http_origin(address if called_by_address else names[0], settings.http_port)}/mcp"


def _check_reachable(settings: Settings) -> None:
    """Refuse to describe a server that would not start, or whose place nobody can know."""
    # Takes as long to import as all the rest.
    from sync_mcp.serving.http import check_exposure

    check_exposure(settings.http_host, settings.http_allowed_hosts, has_token=settings.has_token)
    if settings.http_port == 0:
        raise ConfigurationError("Port 0 takes a free port, which nobody knows beforehand: give --port.")


def _http_flags(settings: Settings) -> tuple[str, ...]:
    changed = settings.model_dump(include={"http_host", "http_port"}, exclude_defaults=True)
    names = (part for name in settings.http_allowed_hosts for part in ("--allowed-host", name))
    return (*(part for name, value in changed.items() for part in (HTTP_FLAGS[name], str(value))), *names)
