"""The sandbox's storage: files behind signed URLs, which answer as an object store does (API §6.2, §19)."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from sync_mcp.machine.scratch import ScratchFolder
from sync_mcp.sandbox.clock import Clock

_SIGNED_AT = "%Y%m%dT%H%M%SZ"


class StorageRefusal(Exception):
    """The storage refuses a request, with a code of its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Signer:
    """Signs URLs in the form of Amazon S3 and knows its signatures again, by the sandbox's clock."""

    def __init__(self, clock: Clock, secret: str) -> None:
        self._clock = clock
        self._secret = secret
        self._signed = 0

    def query(self, path: str, seconds: float, content_type: str = "") -> str:
        """Return the query that makes `path` a signed one; each is different."""
        self._signed += 1
        claims = {
            "X-Amz-Credential": f"sandbox/{self._signed}",
            "X-Amz-Date": self._clock.now().strftime(_SIGNED_AT),
            "X-Amz-Expires": str(int(seconds)),
        }
        if content_type:
            claims["X-Sandbox-Content-Type"] = content_type
        signed = urlencode(claims, quote_via=quote, safe="")
        return f"{signed}&X-Amz-Signature={self._signature(path, signed)}"

    def check(self, path: str, query: str, content_type: str = "") -> None:
        """Check a signed request, whose query must be letter for letter what was signed.

        Raises:
            StorageRefusal: 403, for a signature that is missing, wrong or out of time.
        """
        signed, _, signature = query.partition("&X-Amz-Signature=")
        if not signature:
            raise StorageRefusal(403, "AccessDenied", "The URL is not signed.")
        claims = {name: values[0] for name, values in parse_qs(signed).items()}
        wrong_type = claims.get("X-Sandbox-Content-Type", "") != content_type
        if signature != self._signature(path, signed) or wrong_type:
            message = (
                "The signature does not fit the request: path, query and Content-Type must be as signed."
            )
            raise StorageRefusal(403, "SignatureDoesNotMatch", message)
        signed_at = datetime.strptime(claims["X-Amz-Date"], _SIGNED_AT).replace(tzinfo=UTC)
        if self._clock.now() >= signed_at + timedelta(seconds=int(claims["X-Amz-Expires"])):
            raise StorageRefusal(403, "AccessDenied", "The URL has expired.")

    def _signature(self, path: str, signed: str) -> str:
        digest = hashlib.sha256(f"{self._secret}\n{path}\n{signed}".encode()).hexdigest()
        # An encoded slash in it shows whether a client sends the URL as it got it.
        return f"{digest[:32]}%2F{digest[32:]}"


@dataclass(slots=True)
class StoredFile:
    """A place in the storage that a client may upload to."""

    path: Path
    content_type: str
    uploaded: bool = False


class Storage:
    """The files of one sandbox, in a temporary folder of its own."""

    def __init__(self) -> None:
        self._scratch = ScratchFolder("sandbox")
        self.root = self._scratch.path
        self.uploads: dict[str, StoredFile] = {}
        self._made = 0
        self._make_folders()

    def reserve(self, url_path: str, content_type: str) -> None:
        """Make room for an upload to `url_path`."""
        self.uploads[url_path] = StoredFile(self.fresh("uploads"), content_type)

    def fresh(self, folder: str, suffix: str = "") -> Path:
        """Return a path in `folder` (uploads, inputs, outputs) that nothing is at yet."""
        self._made += 1
        return self.root / folder / f"{self._made}{suffix}"

    def clear(self) -> None:
        """Remove every file."""
        self.uploads.clear()
        self._scratch.clear()
        self._make_folders()

    def remove(self) -> None:
        """Remove the folder itself."""
        self._scratch.remove()

    def _make_folders(self) -> None:
        for folder in ("uploads", "inputs", "outputs"):
            (self.root / folder).mkdir(exist_ok=True)
