"""What a run writes down as it goes: its seed and every outcome, a line of JSON each."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Called:
    """One call of create_generation and what came of it; times are by the sandbox's clock."""

    number: int
    take: int
    began: datetime
    ended: datetime
    code: str
    generation_id: str | None = None
    above_usd: Decimal | None = None
    """What its server may pay unasked within a day; None where nobody is asked (`never`)."""
    has_quote: bool = False
    """Whether the user has agreed to it."""
    has_webhook: bool = False


class Records:
    """The lines, in the order in which things came to pass."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def into(cls, path: Path) -> Generator["Records"]:
        """Write them into a file, which holds each line as soon as it is written."""
        with path.open("w", encoding="utf-8", buffering=1) as file:
            yield cls(file)

    def write(self, what: str, **facts: object) -> None:
        """Write one line."""
        self._file.write(f"{json.dumps({'what': what, **facts}, default=_plain)}\n")

    def write_call(self, call: Called, server: int, text: str = "") -> None:
        """Write what came of a call, and the text of an answer that is no job."""
        self.write("call", server=server, **asdict(call), **({"text": text} if text else {}))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
