"""Arguments for a call of each tool: a new tool needs no line here, where what it requires can be made up."""

from collections.abc import Mapping
from typing import Any

from sync_mcp.tools import core
from sync_mcp.tools.catalogue import TOOLS

Facts = dict[str, Any]

NAMES = [tool.name for tool in TOOLS]
BY_DEFAULT = [tool.name for tool in core.TOOLS]
_INPUT = [
    {"type": "video", "url": "https://example.com/v.mp4"},
    {"type": "audio", "url": "https://example.com/a.wav"},
]
# What a schema alone does not say.
_SPECIAL: Mapping[str, Facts] = {
    "create_generation": {"input": _INPUT},
    "create_generations": {"requests": [{"input": _INPUT}]},
    "estimate_cost": {"input": _INPUT},
    "wait_for_generations": {"generation_ids": ["job-1"], "wait_seconds": 0},
    "upload_asset": {"url": "https://example.com/v.mp4"},
    "update_asset": {"asset_id": "asset-1", "name": "Talk"},
    "save_project": {"name": "Spring"},
    "create_batch": {
        "rows": [
            {
                "input": [
                    {"type": "video", "url": f"https://example.com/{number}.mp4"},
                    {"type": "audio", "url": "https://example.com/a.wav"},
                ]
            }
            for number in range(20)
        ]
    },
    "clone_voice": {
        "name": "Ada Li",
        "consent": "It is the voice of Ada Li, who agreed.",
        "asset_id": "asset-1",
    },
    "plan_campaign": {"clips": ["https://example.com/v.mp4"], "languages": ["fr"]},
    "transcribe": {"asset_id": "job-1", "wait_seconds": 0},
    "edit_dialogue": {"asset_id": "job-1", "changes": [{"words": "so"}], "wait_seconds": 0},
    "get_dialogue_edit": {"dialogue_edit_id": "job-1", "wait_seconds": 0},
}
_MADE_UP: Facts = {"string": "job-1", "integer": 1, "number": 1, "boolean": False, "object": {}}


def _required(schema: Facts) -> Facts:
    """Return what a schema requires, each of a value that its type allows."""
    parts = schema["properties"]
    return {
        name: parts[name]["enum"][0]
        if "enum" in parts[name]
        else _MADE_UP.get(parts[name]["type"], ["job-1"])
        for name in schema.get("required", ())
    }


ARGUMENTS: Mapping[str, Facts] = {
    tool.name: _SPECIAL.get(tool.name) or _required(tool.input_schema) for tool in TOOLS
}
