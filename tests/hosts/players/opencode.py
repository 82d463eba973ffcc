# pyright: basic
import json
import os
from pathlib import Path
from typing import Any

from model import StandIn
from player import Answer, Turn, named_server, picture, text

PREFIX = "sync_"


class ChatCompletions:
    """The chat completions of OpenAI, which many models speak."""

    def read_tools(self, request: dict[str, Any]) -> list[str]:
        names = [tool["function"]["name"] for tool in request.get("tools", ())]
        return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]

    def read_answer(self, request: dict[str, Any], call: str) -> Answer | None:
        messages = request["messages"]
        for number, message in enumerate(messages):
            if message["role"] == "tool" and message["tool_call_id"] == call:
                # Pictures follow in a message of their own.
                return Answer([part for told in messages[number:] for part in read(told["content"])])
        return None

    def write(self, call: str, turn: Turn | None) -> list[dict[str, Any]]:
        if turn is None:
            delta: dict[str, Any] = {"role": "assistant", "content": "done"}
        else:
            tool, arguments = turn
            function = {"name": PREFIX + tool, "arguments": json.dumps(arguments)}
            called = {"index": 0, "id": call, "type": "function", "function": function}
            delta = {"role": "assistant", "tool_calls": [called]}
        chunk = {"id": call, "object": "chat.completion.chunk", "created": 0, "model": "stand-in"}
        end = "tool_calls" if turn else "stop"
        return [
            {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": end}]},
        ]


def read(content: Any) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [text(part["text"]) if part["type"] == "text" else picture(part["type"]) for part in parts]


def main() -> None:
    server = named_server()
    reached: dict[str, Any] = (
        {"type": "remote", "url": server.url}
        if server.url
        else {"type": "local", "command": server.command, "environment": server.env}
    )
    seeing = {
        "name": "stand-in",
        "attachment": True,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
    }
    with StandIn(ChatCompletions()) as model:
        maker = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "stand-in",
            "options": {"baseURL": f"{model.url}/v1", "apiKey": "stand-in"},
            "models": {"stand-in": seeing},
        }
        settings = {
            "autoupdate": False,
            "share": "disabled",
            "model": "stand-in/stand-in",
            "small_model": "stand-in/stand-in",
            "provider": {"stand-in": maker},
            "mcp": {"sync": {**reached, "timeout": 60_000}},
        }
        Path("opencode.json").write_text(json.dumps(settings), encoding="utf-8")
        model.run(["opencode", "run", "Make it."], dict(os.environ))


main()
