"""What a model says of a field of a create beside its type and its name."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["makes", "names", "tells"]
"""What a field of a create decides: what is *made*, so that another value is another create and another
payment; what the job is *named* and where it is filed; who is *told* of its end, which is a secret between
the two."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a field of a create means, beside its type; `sync_mcp/api/fields.py` makes tables of it.

    Attributes:
        default: the value that the API takes where it is left out, where one is documented; spelled out it
            means the same, so it does not count in the digest. One that was declared never changes: a digest
            rests on it.
        role: what it decides.
    """

    default: str | float | bool | None = None
    role: Role = "makes"
