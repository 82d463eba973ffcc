"""`sync-mcp sandbox`, the sandbox alone, and the one that is embedded in a server or a report."""

import argparse
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from sync_mcp.cli.flags import read_tokens
from sync_mcp.cli.streams import stop
from sync_mcp.machine.installed import media_install
from sync_mcp.settings import Settings

if TYPE_CHECKING:
    from sync_mcp.sandbox import Sandbox

logger = logging.getLogger("sync_mcp")

_MEDIA_MISSING = "the sandbox renders real video and needs PyAV, which is not installed"


def run(arguments: argparse.Namespace) -> None:
    """Serve the sandbox until the process is told to end."""
    require_media()
    # What renders needs PyAV, and a server without --sandbox imports this module too.
    from sync_mcp.sandbox.server import serve
    from sync_mcp.serving.http import check_exposure

    # Its callers are let in as those of the server over HTTP are.
    settings = Settings.from_environment(
        os.environ,
        ["http_token", "http_tokens_file", "http_allowed_hosts"],
        sandbox=True,
        http=True,
        http_allowed_hosts=arguments.http_allowed_hosts,
    )
    check_exposure(arguments.host, settings.http_allowed_hosts, has_token=settings.has_token)
    try:
        serve(
            arguments.host,
            arguments.port,
            plan=arguments.plan,
            job_seconds=arguments.job_seconds,
            tokens=read_tokens(settings),
            allowed_hosts=settings.http_allowed_hosts,
        )
    except OSError as error:
        stop(error.strerror or str(error))


def own_sandbox(
    settings: Settings, *, webhook_origin: str | None = None
) -> "AbstractContextManager[Sandbox | None]":
    """Return what runs a sandbox of this process's own, None where the settings want none.

    Its webhooks go to `webhook_origin`, signed by the secret of the settings. The program ends where PyAV is
    missing.
    """
    if not settings.sandbox:
        return nullcontext()
    require_media()
    # As above.
    from sync_mcp.sandbox import Sandbox

    logger.info("SANDBOX: answers come from a stand-in; no money is spent")
    secret = settings.webhook_secret
    if secret is None:
        return Sandbox()
    return Sandbox(webhook_secret=secret.get_secret_value(), webhook_origin=webhook_origin)


def require_media() -> None:
    """End the program, saying what to install, where PyAV is missing."""
    if not has_media():
        stop(f"{_MEDIA_MISSING}: {media_install()}")


def has_media() -> bool:
    """Return whether PyAV can be imported, having done so."""
    try:
        import_module("av")
    except ImportError:
        # Not there, or there and broken: the same command mends both.
        return False
    return True
