import { createMCPClient } from "@ai-sdk/mcp";
import { Experimental_StdioMCPTransport as StdioTransport } from "@ai-sdk/mcp/mcp-stdio";
import { data, picture, server, takeTurns, text } from "./player.mjs";

const [command, ...args] = server.command;
const transport = server.url
  ? { type: "http", url: server.url }
  : new StdioTransport({ command, args, env: server.env });
const client = await createMCPClient({ transport });
try {
  const tools = await client.tools();
  await takeTurns(Object.keys(tools), async (name, input) => {
    const output = await tools[name].execute(input, { toolCallId: "1", messages: [] });
    const { type, value } = tools[name].toModelOutput({ output });
    const parts =
      type === "content"
        ? value.map((part) => (part.type === "text" ? text(part.text) : picture(part.mediaType)))
        : type === "json"
          ? data(value)
          : [text(value)];
    return { parts, beside: data(output.structuredContent), error: output.isError ? "`isError`" : null };
  });
} finally {
  await client.close();
}
