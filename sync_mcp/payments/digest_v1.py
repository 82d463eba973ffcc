"""Version 1 of the digest, as it was: by it the ledger finds what an older version of this package wrote.

It never changes, whatever is wrong with it: what it then found no more would be paid again. Wrong is that it
takes the names below for a signature whoever used them, so that `?policy=a` and `?policy=b` are one clip.
"""

from typing import Any
from urllib.parse import unquote

from sync_mcp.api.models import Json
from sync_mcp.payments.canonical import canonical, sha256_of, walk

_STARTS = ("x-amz-", "x-goog-")
_NAMES = frozenset(
    {
        "awsaccesskeyid",
        "expires",
        "googleaccessid",
        "key-pair-id",
        "ossaccesskeyid",
        "policy",
        "q-ak",
        "q-header-list",
        "q-key-time",
        "q-sign-algorithm",
        "q-sign-time",
        "q-signature",
        "q-url-param-list",
        "security-token",
        "sig",
        "signature",
        "x-oss-access-key-id",
        "x-oss-additional-headers",
        "x-oss-credential",
        "x-oss-date",
        "x-oss-expires",
        "x-oss-security-token",
        "x-oss-signature",
        "x-oss-signature-version",
    }
)
# Of Azure: short words, which mean a signature only beside one.
_BESIDE_SIG = frozenset(
    {"se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"}
)


def body_digest(made: Json, account: str, base_url: str) -> str:
    """Return the SHA-256 of what is made for one account, for whichever take."""
    # In order only then: a signature must not decide which input comes first.
    return sha256_of([1, base_url, account, canonical(drop_signatures(made))])


def digest(body: str, take: int) -> str:
    """Return the SHA-256 of an intention."""
    return sha256_of([body, take])


def drop_signatures(value: object) -> Any:
    """Return a JSON value with all that version 1 takes for a signature left out of its URLs."""
    return walk(value, drop_signatures, _same_clip)


def _same_clip(url: str) -> str:
    whole, hash_sign, fragment = url.partition("#")
    place, _, query = whole.partition("?")
    pairs = [(unquote(pair.partition("=")[0]).lower(), pair) for pair in query.split("&")]
    dropped = _BESIDE_SIG if any(name == "sig" for name, _ in pairs) else frozenset[str]()
    kept = [pair for name, pair in pairs if not _is_signature(name) and name not in dropped]
    if len(kept) == len(pairs):
        return url
    return f"{place}{'?' if kept else ''}{'&'.join(kept)}{hash_sign}{fragment}"


def _is_signature(name: str) -> bool:
    return name in _NAMES or name.startswith(_STARTS)
