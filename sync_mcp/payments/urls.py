"""Which URLs name the same clip: however they are spelled, and whoever signed them for how long.

What is sent is never spelled anew: a URL may be signed letter for letter.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

# Hosts as browsers read them (UTS 46). The standard library reads them as of 2003: straße.de as strasse.de.
from idna import IDNAError, uts46_remap

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_PLACE = re.compile(r"([^:]*|\[[^]]*])(?::([0-9]*))?")
_LAST_DOT = re.compile(r"(?<=[^.])\.\Z")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|[^\x00-\x7f])*")
_LONGEST_HOST = 253

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What no URL may hold as it is, and who sends it escapes. Of a backslash some make a slash: it stays.
_TO_ESCAPE = re.compile(r'[^\x00-\x7f]+|[ "<>^`{|}]')


@dataclass(frozen=True)
class _Signature:
    """A signature in a query: it is one where all that it `needs` is there, `besides` what may be."""

    vendor: str
    needs: frozenset[str]
    besides: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_S3, _CLOUDFRONT, _GCS = "Amazon S3", "Amazon CloudFront", "Google Cloud Storage"
_AZURE, _OSS = "Azure Storage", "Alibaba Cloud OSS"
_SAS = _names(
    "st sp sip spr sr se si ss srt sdd ses skoid sktid skt ske sks skv skdutid saoid suoid sduoid scid"
)
# From the documentation of each vendor, in lower case.
_SIGNATURES = (
    _Signature(
        _S3,
        _names("x-amz-signature x-amz-credential x-amz-date"),
        _names(
            "x-amz-algorithm x-amz-content-sha256 x-amz-expires x-amz-region-set x-amz-s3session-token "
            "x-amz-security-token x-amz-signedheaders"
        ),
    ),
    _Signature(_S3, _names("awsaccesskeyid signature expires"), _names("x-amz-security-token")),
    _Signature(_CLOUDFRONT, _names("key-pair-id signature policy"), _names("expires hash-algorithm")),
    _Signature(_CLOUDFRONT, _names("key-pair-id signature expires"), _names("hash-algorithm")),
    _Signature(
        _GCS,
        _names("x-goog-signature x-goog-credential x-goog-date"),
        _names("x-goog-algorithm x-goog-expires x-goog-signedheaders"),
    ),
    _Signature(_GCS, _names("googleaccessid signature expires")),
    _Signature("Google Cloud CDN", _names("keyname signature expires")),
    _Signature(_AZURE, _names("sig sv se"), _SAS),
    _Signature(_AZURE, _names("sig sv si"), _SAS),
    _Signature(_OSS, _names("ossaccesskeyid signature expires"), _names("security-token")),
    _Signature(
        _OSS,
        _names("x-oss-signature-version x-oss-access-key-id x-oss-signature"),
        _names("x-oss-additional-headers x-oss-expires security-token"),
    ),
    _Signature(
        _OSS,
        _names("x-oss-signature-version x-oss-credential x-oss-signature"),
        _names("x-oss-additional-headers x-oss-date x-oss-expires x-oss-security-token"),
    ),
    _Signature(
        "Tencent COS",
        _names("q-sign-algorithm q-ak q-sign-time q-signature"),
        _names("q-header-list q-key-time q-url-param-list x-cos-security-token"),
    ),
    _Signature("Huawei OBS", _names("accesskeyid signature expires"), _names("x-obs-security-token")),
)


def find_signers(url: str) -> tuple[str, ...]:
    """Return whose signatures a URL carries, each for the user: "Amazon S3 signature"."""
    return tuple(dict.fromkeys(f"{one.vendor} signature" for one in _signatures_of(url)))


def without_signatures(url: str) -> str:
    """Return a URL without what only proves that it may be fetched; any other stays letter for letter."""
    dropped = frozenset[str]().union(*(one.needs | one.besides for one in _signatures_of(url)))
    if not dropped:
        return url
    whole, hash_sign, fragment = url.partition("#")
    place, _, query = whole.partition("?")
    kept = [pair for pair in query.split("&") if _name_of(pair) not in dropped]
    return f"{place}{'?' if kept else ''}{'&'.join(kept)}{hash_sign}{fragment}"


def _signatures_of(url: str) -> list[_Signature]:
    query = url.partition("#")[0].partition("?")[2]
    names = {_name_of(pair) for pair in query.split("&")}
    return [one for one in _SIGNATURES if one.needs <= names]


def _name_of(pair: str) -> str:
    return unquote(pair.partition("=")[0]).lower()


def plain_spelling(url: str) -> str:
    """Return a URL as RFC 3986 compares it (§6.2.2), with its host as DNS has it and no default port.

    What it cannot read stays as it is: two URLs are told apart rather than taken for one.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return url
    scheme, authority, path, query, fragment = found.groups(default="")
    scheme = scheme.lower()
    path = _without_dots(_plain_escapes(path))
    rest = f"{path}{_plain_escapes(query)}{_plain_escapes(fragment)}"
    return f"{scheme}://{_plain_authority(authority, scheme)}{rest}"


def _plain_authority(authority: str, scheme: str) -> str:
    user, at_sign, place = authority.rpartition("@")
    found = _PLACE.fullmatch(place)
    host, port = found.groups(default="") if found else (place, "")
    port = port.lstrip("0") or port[:1]
    shown = f":{port}" if port not in ("", _DEFAULT_PORTS.get(scheme)) else ""
    return f"{_plain_escapes(user)}{at_sign}{_plain_host(host)}{shown}"


def _plain_host(host: str) -> str:
    return _LAST_DOT.sub("", _name_in_dns(host) or host.lower())


def _name_in_dns(host: str) -> str | None:
    """Return a host as it is looked up, or None where it is none."""
    name = unquote(host)
    if len(name) > _LONGEST_HOST:
        return None
    # What an escape or a wide letter hides may be a slash: it must not become one.
    if _HOST.fullmatch(name) and not name.isascii():
        try:
            name = uts46_remap(name, std3_rules=False)
        except IDNAError:
            return None
    return ".".join(map(_label, name.lower().split("."))) if _HOST.fullmatch(name) else None


def _label(label: str) -> str:
    # Whether it may be registered does not matter here: there are hosts in emoji.
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


def _plain_escapes(part: str) -> str:
    if _BROKEN_ESCAPE.search(part):
        # What follows a lone percent sign would become an escape with it.
        return part
    escaped = _TO_ESCAPE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), part)
    return _ESCAPE.sub(_plain_escape, escaped)


def _plain_escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if character in _UNRESERVED else found[0].upper()


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1:] in (["."], [".."]):
        kept.append("")
    return f"/{'/'.join(kept)}"
