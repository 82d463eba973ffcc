# pyright: basic
import json
import os
from pathlib import Path
from typing import Any

from model import StandIn
from player import Answer, Turn, data, named_server, picture, text

PREFIX = "mcp_sync_"


class GenerateContent:
    """The Gemini API of Google."""

    def read_tools(self, request: dict[str, Any]) -> list[str]:
        declared = [
            each for tool in request.get("tools", ()) for each in tool.get("functionDeclarations", ())
        ]
        names = [each["name"] for each in declared]
        return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]

    def read_answer(self, request: dict[str, Any], call: str) -> Answer | None:
        parts = [part for content in request["contents"] for part in content["parts"]]
        for number, part in enumerate(parts):
            if part.get("functionResponse", {}).get("id") == call:
                return read(part["functionResponse"], parts[number + 1 :])
        return None

    def write(self, call: str, turn: Turn | None) -> list[dict[str, Any]]:
        if turn is None:
            part: dict[str, Any] = {"text": "done"}
        else:
            tool, arguments = turn
            part = {"functionCall": {"id": call, "name": PREFIX + tool, "args": arguments}}
        content = {"role": "model", "parts": [part]}
        return [{"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}]


def read(answered: dict[str, Any], after: list[dict[str, Any]]) -> Answer:
    """What stands in the answer itself, and beside it."""
    response = answered["response"]
    told = [text(response[name]) for name in ("output", "error") if isinstance(response.get(name), str)]
    beside = [*answered.get("parts", ()), *after]
    pictures = [picture(part["inlineData"]["mimeType"]) for part in beside if "inlineData" in part]
    return Answer([*(told or data(response)), *pictures], error="`error`" if "error" in response else None)


def main() -> None:
    server = named_server()
    command, *arguments = server.command
    reached: dict[str, Any] = (
        {"httpUrl": server.url} if server.url else {"command": command, "args": arguments, "env": server.env}
    )
    settings = {
        "mcpServers": {"sync": {**reached, "timeout": 60_000, "trust": True}},
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
    }
    folder = Path.home() / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with StandIn(GenerateContent()) as model:
        model.run(
            ["gemini", "--model", "gemini-2.5-pro", "--yolo", "--prompt", "Make it."],
            {**os.environ, "GEMINI_API_KEY": "stand-in", "GOOGLE_GEMINI_BASE_URL": model.url},
        )


main()
