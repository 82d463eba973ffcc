"""The bearer tokens of a server over HTTP: one of its own in a file, or one for each person."""

import os
import re
import secrets
import stat
from pathlib import Path

SHORTEST = 16
"""How many characters a token has at least."""
FILE_NAME = "http-token"
_TOKEN = re.compile(rf"[!-~]{{{SHORTEST},}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")
_BYTES = 32
_MOST_BYTES = 1024
_REMEDY = "Delete it, and another one is made; or set SYNC_MCP_HTTP_TOKEN."


def is_token(text: str) -> bool:
    """Return whether it can stand in a header, and is not short."""
    return _TOKEN.fullmatch(text) is not None


def own_token(folder: Path) -> str:
    """Return the token that is kept in a folder; where there is none yet, it is made, for this user alone.

    Raises:
        ValueError: with a sentence: it cannot be read or kept, or is no longer a secret.
    """
    path = folder / FILE_NAME
    try:
        if not path.exists():
            _keep(path, secrets.token_urlsafe(_BYTES))
        return _own(path)
    except OSError as error:
        raise ValueError(f"The token {path} cannot be kept: {_reason(error)}.") from error


def check_own_token(folder: Path) -> None:
    """Look at the token that is kept in a folder, where there is one.

    Raises:
        ValueError: as `own_token`.
    """
    path = folder / FILE_NAME
    try:
        if path.exists():
            _own(path)
    except OSError as error:
        raise ValueError(f"The token {path} cannot be read: {_reason(error)}.") from error


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{token}\n")
        # It gets its name when it is whole, and takes it from no other that was faster.
        try:
            new.hardlink_to(path)
        except OSError:
            # Another was faster, or the file system has no second names.
            if not path.exists():
                new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _own(path: Path) -> str:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        token = file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    if os.name == "posix" and (found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or found.st_uid != os.geteuid()):
        raise ValueError(f"The token {path} is not this user's alone. {_REMEDY}")
    if not is_token(token):
        raise ValueError(f"There is no token in {path}. {_REMEDY}")
    return token


def read_named_tokens(path: Path) -> dict[str, str]:
    """Return the name of each token in a file, one `name token` a line; `#` begins a comment.

    Raises:
        ValueError: with a sentence, in which no token stands.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"The file of tokens {path} cannot be read: {_reason(error)}.") from error
    except UnicodeDecodeError:
        raise ValueError(f"The file of tokens {path} is no text.") from None
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, *rest = line.split() or ["#"]
        if name.startswith("#"):
            continue
        if len(rest) != 1 or not _NAME.fullmatch(name) or not is_token(rest[0]):
            raise ValueError(
                f"Line {number} of the file of tokens {path} must be a name of letters and digits, a space, "
                f"and a token of at least {SHORTEST} letters and signs."
            )
        if rest[0] in names or name in names.values():
            raise ValueError(f"Line {number} of the file of tokens {path} repeats a name or a token.")
        names[rest[0]] = name
    if not names:
        raise ValueError(f"There is no token in the file of tokens {path}.")
    return names


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
