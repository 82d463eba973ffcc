import { MCPClient } from "@mastra/mcp";
import { data, picture, server, takeTurns, text } from "./player.mjs";

const [command, ...args] = server.command;
const reached = server.url ? { url: new URL(server.url) } : { command, args, env: server.env };
// A call may take 55 seconds.
const client = new MCPClient({ servers: { sync: reached }, timeout: 60_000 });
try {
  const listed = Object.entries(await client.listTools());
  // It puts the server's name before that of each tool.
  const tools = Object.fromEntries(listed.map(([name, tool]) => [name.replace(/^sync_/, ""), tool]));
  await takeTurns(Object.keys(tools), async (name, input) => {
    const output = await tools[name].execute(input, {});
    const shown = tools[name].toModelOutput?.(output) ?? { type: "json", value: output };
    return { parts: read(shown), beside: data(output), error: output.isError ? "`isError`" : null };
  });
} finally {
  await client.disconnect();
}

function read({ type, value }) {
  if (type !== "content") return type === "json" ? data(value) : [text(value)];
  return value.map((part) => (part.type === "text" ? text(part.text) : picture(part.mediaType)));
}
