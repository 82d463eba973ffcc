# pyright: basic
import json
import os
from typing import Any

from model import StandIn
from player import Answer, Turn, named_server, picture, text

SPACE = "mcp__sync"


class Responses:
    """The Responses API of OpenAI."""

    def read_tools(self, request: dict[str, Any]) -> list[str]:
        spaces = [tool for tool in request.get("tools", ()) if tool.get("name") == SPACE]
        return [tool["name"] for space in spaces for tool in space["tools"]]

    def read_answer(self, request: dict[str, Any], call: str) -> Answer | None:
        for item in request["input"]:
            if item["type"] == "function_call_output" and item["call_id"] == call:
                told = item["output"]
                parts = [{"type": "input_text", "text": told}] if isinstance(told, str) else told
                return Answer(
                    [
                        # Before it stands how long it took.
                        text(part["text"].rpartition("Output:\n")[2])
                        if part["type"] == "input_text"
                        else picture(part["type"])
                        for part in parts
                    ]
                )
        return None

    def write(self, call: str, turn: Turn | None) -> list[dict[str, Any]]:
        if turn is None:
            told = [{"type": "output_text", "text": "done", "annotations": []}]
            item: dict[str, Any] = {"type": "message", "id": call, "role": "assistant", "content": told}
        else:
            tool, arguments = turn
            item = {
                "type": "function_call",
                "id": f"fc_{call}",
                "call_id": call,
                "namespace": SPACE,
                "name": tool,
            }
            item["arguments"] = json.dumps(arguments)
        response = {"id": f"resp_{call}"}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        return [
            {"type": "response.created", "response": response},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {**response, "usage": usage}},
        ]


def main() -> None:
    server = named_server()
    command, *arguments = server.command
    reached: dict[str, Any] = (
        {"url": server.url} if server.url else {"command": command, "args": arguments, "env": server.env}
    )
    # Unattended it starts before the server has: until then the model has no tools.
    reached |= {"required": True, "startup_timeout_sec": 60, "tool_timeout_sec": 60}
    # Nobody is there to let a tool that changes something run.
    reached["default_tools_approval_mode"] = "approve"
    with StandIn(Responses()) as model:
        maker = {"name": "stand-in", "base_url": f"{model.url}/v1", "wire_api": "responses"}
        settings: dict[str, Any] = {
            "model": "stand-in",
            "model_provider": "stand-in",
            "approval_policy": "never",
            "model_providers.stand-in": maker,
            "mcp_servers.sync": reached,
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={toml(value)}")]
        model.run(["codex", "exec", "--skip-git-repo-check", *flags, "Make it."], dict(os.environ))


def toml(value: Any) -> str:
    """A value as TOML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


main()
