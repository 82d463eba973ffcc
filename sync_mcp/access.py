"""The API's key and origin, and the URL of a database: what can be said of each before it is used."""

import re
from urllib.parse import parse_qsl, urlsplit

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


_DATABASE_PARAMETERS = frozenset(
    {
        "application_name",
        "channel_binding",
        "host",
        "pgbouncer",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    }
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIED = ("verify-ca", "verify-full")


def check_database_url(url: str) -> str:
    """Return the URL of a PostgreSQL database without the spaces around it.

    Raises:
        ValueError: with the end of a sentence, in which nothing of the URL stands: any part of one that is
            wrong may be the password.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"is no URL: {_ESCAPED}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://")
    if parts.fragment or not url.isprintable() or " " in url:
        raise ValueError(f"is no URL: {_ESCAPED}")
    if not parts.path.strip("/") or "/" in parts.path[1:]:
        raise ValueError("names no database: postgresql://user:password@host:5432/database does")
    given = parse_qsl(parts.query, keep_blank_values=True)
    parameters = dict(given)
    if len(parameters) < len(given) or not parameters.keys() <= _DATABASE_PARAMETERS:
        known = ", ".join(sorted(_DATABASE_PARAMETERS))
        raise ValueError(
            f"may have these after ?, each once: {known}; and the password belongs before the host"
        )
    folder = parameters.get("host")
    if folder is not None and (host or not folder.startswith("/")):
        raise ValueError(
            "names its host after //; host= names the folder of a socket, in a URL without a host"
        )
    if parameters.get("pgbouncer", "true") not in ("true", "false"):
        raise ValueError("may have pgbouncer=true, where a pooler hands out connections")
    mode = parameters.get("sslmode", "verify-full")
    if mode not in _SSL_MODES or (host and host not in LOOPBACK and mode not in _VERIFIED):
        raise ValueError(
            "must leave sslmode at verify-full where the database is not on this machine: else its "
            "password goes to whoever answers; sslrootcert=FILE names its certificate's authority"
        )
    return url


_ESCAPED = "in its name and password %40 stands for @, %2F for /, %3A for :, %23 for # and %3F for ?"


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
