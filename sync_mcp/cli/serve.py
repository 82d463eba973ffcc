"""Serving over stdio or HTTP, as the settings say."""

import argparse
import gc
import logging
import socket
import sys
from functools import partial

import anyio

from sync_mcp.cli.flags import MEND_DEAFNESS, find_deafness, read_settings, read_tokens
from sync_mcp.cli.hosts import http_origin
from sync_mcp.cli.sandbox import own_sandbox
from sync_mcp.cli.streams import log_to_stderr
from sync_mcp.machine.home import home_folder, open_fault, open_to_others
from sync_mcp.machine.installed import command_here
from sync_mcp.machine.scratch import sweep
from sync_mcp.serving.late_sdk import put_off_sdk_packages
from sync_mcp.serving.tokens import FILE_NAME
from sync_mcp.settings import Settings

logger = logging.getLogger("sync_mcp")

_LAST_MOMENTS_SECONDS = 0.5
"""How long the end may take when something cannot be cancelled."""


def run(arguments: argparse.Namespace) -> None:
    """Serve until the client goes away or the process is told to end."""
    # The server's models are still to be built: as in `main`.
    gc.disable()
    # First: no server is needed to tell what is set wrong.
    settings = read_settings(arguments)
    settings.check_key()
    log_to_stderr(settings.log_level)
    _warn_of_open_home(settings)
    deafness = find_deafness(settings)
    if deafness is not None:
        logger.warning("%s. %s", deafness, MEND_DEAFNESS)
    if settings.database_url is not None and not settings.sandbox:
        _check_database(settings)
    sweep()
    put_off_sdk_packages()
    if settings.http:
        _serve_http(settings)
    else:
        _serve_stdio(settings)


def _check_database(settings: Settings) -> None:
    # Loaded where the ledger is in a database alone: no other server needs it before its first paid call.
    from sync_mcp.cli.ledgers import check_usable, open_ledger

    ledger = open_ledger(settings)
    try:
        missed = check_usable(ledger)
    finally:
        ledger.close()
    if missed is not None:
        logger.warning("%s Paid calls are refused until it can.", missed.message)


def _warn_of_open_home(settings: Settings) -> None:
    place = None if settings.sandbox else open_to_others(home_folder(settings.home))
    if place is not None:
        logger.warning("%s", open_fault(place))


def _serve_stdio(settings: Settings) -> None:
    # Over stdio no web server is loaded, and a wrong setting is told before any server is loaded.
    from sync_mcp.server import create_server
    from sync_mcp.serving.ending import exit_within
    from sync_mcp.serving.stdio import serve_stdio

    if sys.stdin.isatty():
        hint = "Waiting for MCP on standard input: a host should start this, see"
        print(f"{hint} {command_here()} config --help.", file=sys.stderr)
    with own_sandbox(settings) as sandbox:
        server = create_server(settings, sandbox_url=sandbox.url if sandbox else None)
        gc.freeze()
        gc.enable()
        anyio.run(partial(serve_stdio, server, on_stop=partial(exit_within, _LAST_MOMENTS_SECONDS)))


def _serve_http(settings: Settings) -> None:
    # As for stdio.
    from sync_mcp.server import WEBHOOK_PATH, WebhookDoor, create_server
    from sync_mcp.serving.http import MCP_PATH, Hook, check_exposure, create_app, listen, serve_http

    check_exposure(settings.http_host, settings.http_allowed_hosts, has_token=settings.has_token)
    tokens = read_tokens(settings)
    with (
        listen(settings.http_host, settings.http_port) as listening,
        # Its webhooks come in here by no detour.
        own_sandbox(settings, webhook_origin=f"http://127.0.0.1:{_port(listening)}") as sandbox,
    ):
        stopping = anyio.Event()
        secret = settings.webhook_secret
        webhooks = None if secret is None else WebhookDoor(secret.get_secret_value())
        server = create_server(
            settings, sandbox_url=sandbox.url if sandbox else None, stopping=stopping, webhooks=webhooks
        )
        own_name = [settings.public_host] if settings.public_host else []
        hook = None if webhooks is None else Hook(WEBHOOK_PATH, own_name, webhooks.take)
        app = create_app(server, allowed_hosts=settings.http_allowed_hosts, tokens=tokens, hook=hook)
        gc.freeze()
        gc.enable()
        logger.info("serving %s%s", http_origin(settings.http_host, _port(listening)), MCP_PATH)
        if settings.makes_token:
            place = home_folder(settings.home) / FILE_NAME
            logger.info(
                "clients need the token in %s: %s config CLIENT --http prints its header",
                place,
                command_here(),
            )
        serve_http(app, listening, on_stop=stopping.set)


def _port(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])
