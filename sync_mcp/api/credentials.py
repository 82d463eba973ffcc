"""The key and the origin that a client is given, checked before anything is sent."""

from sync_mcp.access import check_key, check_origin, is_on_loopback, is_placeholder
from sync_mcp.errors import ConfigurationError
from sync_mcp.texts import without_secrets


def check_base_url(base_url: str) -> str:
    """Return the API's origin in its one spelling.

    Raises:
        ConfigurationError: it is none, or the key would travel in the clear.
    """
    try:
        return check_origin(base_url)
    except ValueError as error:
        raise ConfigurationError(f"The API's base URL {without_secrets(base_url)!r} {error}.") from None


def check_api_key(api_key: str, base_url: str) -> str:
    """Return the key without the spaces around it.

    Raises:
        ConfigurationError: there is none, or it cannot be one.
    """
    try:
        key = check_key(api_key)
    except ValueError as error:
        raise ConfigurationError(f"The API key {error}.") from None
    if not key:
        raise ConfigurationError("There is no API key.", code="api_key_missing")
    # A sandbox takes any.
    if is_placeholder(key) and not is_on_loopback(base_url):
        raise ConfigurationError("The API key is a placeholder.", code="api_key_missing")
    return key
