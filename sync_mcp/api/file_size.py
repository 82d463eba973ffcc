"""How large a file may be, and what is said of one that is larger."""

from sync_mcp.errors import FileRefused

LARGEST_BYTES = 5 * 1024**3
"""The largest file that the API takes (API §6.2)."""


def check_size_to_send(name: str, size: int) -> None:
    """Check that the API takes a file of this size; `name` is what it is called.

    Raises:
        FileRefused: `file_empty`, `file_too_large`.
    """
    if not size:
        raise FileRefused(f"{name} is empty.", code="file_empty")
    if size > LARGEST_BYTES:
        raise FileRefused(
            f"{name} has {size:,} bytes; the API takes {LARGEST_BYTES:,} at most.",
            code="file_too_large",
            next_step="Cut or compress it and name the smaller file.",
        )


def check_size_to_fetch(size: int | None, limit_bytes: int) -> None:
    """Check that a file may be fetched, as far as its size is told.

    Raises:
        FileRefused: `file_too_large`.
    """
    if size is not None and size > limit_bytes:
        raise FileRefused(
            f"The file has {size:,} bytes; {limit_bytes:,} are fetched at most.", code="file_too_large"
        )
