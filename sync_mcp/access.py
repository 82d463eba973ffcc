"""The key and the origin of the API: what can be said of either before it is used."""

import re
from urllib.parse import urlsplit

_BETWEEN = re.compile(r"[\s_<>\[\]()\"'`-]+")
_PLACEHOLDER = re.compile(
    r"(?:sk)?(?:live|test)?(?:"
    r"(?:(?:paste|put|insert|enter|add)?(?:your|my|the|an?)(?:sync|so)*(?:api)?key|(?:sync|so)*apikey)"
    r"(?:goes)?(?:here)?|(?:key)?[x.*]{3,}|changeme|replaceme)"
)
_VARIABLE = re.compile(r"\$?\{[^{}]*\}|\{\{[^{}]*\}\}|%\w+%|\$[A-Z_]*KEY")

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_origin(url: str) -> str:
    """Return the API's origin without a slash at its end.

    Raises:
        ValueError: with the end of a sentence that begins with the URL.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or any(mark in url for mark in "?#@"):
        raise ValueError("must read https://host, without credentials or query")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ValueError("must use https: the key would travel in the clear")
    # One spelling for one API: the scheme decides about TLS, and the whole about whose ledger it is.
    shown = f"[{host}]" if ":" in host else host
    named = "" if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{named}{parts.path}".rstrip("/")


def is_on_loopback(url: str) -> bool:
    """Return whether an origin is on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def check_key(key: str) -> str:
    """Return the key without the spaces around it; it may be empty.

    Raises:
        ValueError: with the end of a sentence, in which the key does not stand.
    """
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ValueError("has characters that no key has; copy it again")
    return key


def is_placeholder(key: str) -> bool:
    """Return whether a key is what stands in examples in place of one, or a variable that nobody put in."""
    return bool(_VARIABLE.fullmatch(key) or _PLACEHOLDER.fullmatch(_BETWEEN.sub("", key.casefold())))
