"""What the models are for, each in a line: what an assistant chooses by."""

from collections.abc import Mapping

MODEL_PURPOSES: Mapping[str, str] = {
    "sync-3": "best quality, and the only one that takes an image",
    "lipsync-2": "natural lip-sync of a video",
    "lipsync-2-pro": "as lipsync-2 with finer detail, at a higher price",
    "lipsync-1.9.0-beta": "the cheapest and fastest",
    "react-1": "also changes emotion and head movement; clips up to 15 s",
}
