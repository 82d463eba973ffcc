"""The settings of a command: those of the environment, and over them what its flags say."""

import argparse
import os
from collections.abc import Collection, Generator
from contextlib import contextmanager, nullcontext

from sync_mcp.errors import ConfigurationError
from sync_mcp.machine.home import home_folder
from sync_mcp.machine.installed import name_home
from sync_mcp.serving.tokens import own_token, read_named_tokens
from sync_mcp.settings import Settings

HTTP_FLAGS = {name: Settings.FLAGS[name] for name in ("http_host", "http_port", "http_allowed_hosts")}
"""The flags of serving HTTP, by the settings that they override."""
MEND_DEAFNESS = "Set the organization's secret as SYNC_MCP_WEBHOOK_SECRET, or leave SYNC_MCP_PUBLIC_URL out."


def read_settings(arguments: argparse.Namespace, *, only: Collection[str] | None = None) -> Settings:
    """Return the settings, of the environment `only` these where they are named: those that the command uses.

    Raises:
        ConfigurationError: one is wrong, or a flag says nothing without another.
    """
    settings = Settings.from_environment(os.environ, only, **settings_of_flags(arguments))
    idle = [flag for name, flag in HTTP_FLAGS.items() if vars(arguments).get(name) is not None]
    if idle and not settings.http:
        raise ConfigurationError(f"{', '.join(idle)} says nothing without --http: add that, or leave it out.")
    if settings_of_flags(arguments).get("home") is not None:
        # As every flag does: whose file is named means that one, whatever the environment names.
        return settings.model_copy(update={"database_url": None})
    return settings


def find_deafness(settings: Settings) -> str | None:
    """Return why this server does not take the webhooks that its jobs name it for; None where it does."""
    if settings.http and settings.public_url is not None and settings.webhook_secret is None:
        return (
            "SYNC_MCP_PUBLIC_URL is set without SYNC_MCP_WEBHOOK_SECRET: this server takes no webhooks, and "
            "unless another one with the same ledger does, ends of jobs are noticed late"
        )
    return None


@contextmanager
def home_of_flags(arguments: argparse.Namespace) -> Generator[None]:
    """Have the commands that are told meanwhile go to the ledger that `--home` names, where it is given."""
    home = settings_of_flags(arguments).get("home")
    try:
        folder = home_folder(str(home)) if home else None
    except RuntimeError:
        raise ConfigurationError("--home names no user's folder: give the whole path.") from None
    with nullcontext() if folder is None else name_home(folder):
        yield


def settings_of_flags(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings that flags give, by their names."""
    return {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}


def sources(arguments: argparse.Namespace) -> dict[str, str]:
    """Return where each setting came from, by its name: `flag`, `environment` or `default`."""
    return {
        name: "flag"
        if vars(arguments).get(name) is not None
        else "environment"
        if os.environ.get(variable, "").strip()
        else "default"
        for name, variable in Settings.VARIABLES.items()
    }


def read_tokens(settings: Settings) -> dict[str, str | None]:
    """Return the tokens that clients may come with over HTTP, and the name of each that has one.

    The server's own token is made where it is needed and missing.

    Raises:
        ConfigurationError: a file of them cannot be used.
    """
    tokens: dict[str, str | None] = {}
    try:
        if settings.http_tokens_file is not None:
            tokens.update(read_named_tokens(settings.http_tokens_file))
        if settings.http_token is not None:
            tokens.setdefault(settings.http_token.get_secret_value(), None)
        if settings.makes_token:
            tokens[own_token(home_folder(settings.home))] = None
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return tokens
