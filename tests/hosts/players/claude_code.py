# pyright: basic
import json
import os
from typing import Any

from model import StandIn
from player import Answer, Turn, named_server, picture, text

PREFIX = "mcp__sync__"


class Messages:
    """The Messages API of Anthropic."""

    def read_tools(self, request: dict[str, Any]) -> list[str]:
        names = [tool["name"] for tool in request.get("tools", ())]
        return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]

    def read_answer(self, request: dict[str, Any], call: str) -> Answer | None:
        for message in request["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else ():
                if block["type"] == "tool_result" and block["tool_use_id"] == call:
                    told = block["content"]
                    parts: list[Any] = [{"type": "text", "text": told}] if isinstance(told, str) else told
                    return Answer(
                        [
                            text(part["text"])
                            if part["type"] == "text"
                            else picture(part["source"]["media_type"])
                            for part in parts
                        ],
                        error="`is_error`" if block.get("is_error") else None,
                    )
        return None

    def write(self, call: str, turn: Turn | None) -> list[dict[str, Any]]:
        message = {"id": f"msg_{call}", "type": "message", "role": "assistant", "model": "stand-in"}
        if turn is None:
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta: dict[str, Any] = {"type": "text_delta", "text": "done"}
        else:
            tool, arguments = turn
            block = {"type": "tool_use", "id": call, "name": PREFIX + tool, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        usage = {"input_tokens": 1, "output_tokens": 1}
        stop = {"stop_reason": "tool_use" if turn else "end_turn", "stop_sequence": None}
        return [
            {"type": "message_start", "message": {**message, "content": [], **stop, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": usage},
            {"type": "message_stop"},
        ]


def main() -> None:
    server = named_server()
    command, *arguments = server.command
    reached: dict[str, Any] = (
        {"type": "http", "url": server.url}
        if server.url
        else {"command": command, "args": arguments, "env": server.env}
    )
    with StandIn(Messages()) as model:
        told = ["--mcp-config", json.dumps({"mcpServers": {"sync": reached}}), "--strict-mcp-config"]
        model.run(
            ["claude", "--print", "Make it.", *told, "--allowedTools", "mcp__sync"],
            {
                **os.environ,
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "stand-in",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                # By default the model gets a tool's schema only when it has searched for it.
                "ENABLE_TOOL_SEARCH": "false",
            },
        )


main()
