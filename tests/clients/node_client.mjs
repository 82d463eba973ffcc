// A client on the SDK for Node makes a video on the sandbox. It runs from a folder that has the SDK installed.
//
// SNAPSHOTS=tests/snapshots node node_client.mjs URL
// SNAPSHOTS=tests/snapshots node node_client.mjs COMMAND [ARGUMENT...]

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

// The snapshots are generated, one for each tool.
const TOOLS = readdirSync(process.env.SNAPSHOTS)
  .filter((file) => file.startsWith("tool_"))
  .map((file) => file.slice("tool_".length, -".json".length))
  .sort();
const LIMIT_MS = 60_000;

async function makeVideo(client) {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);

  const [video, , audio] = client.getInstructions().match(/http:\/\/\S+\/samples\/[\w.]+/g);
  const created = await call(client, "create_generation", {
    input: [
      // Of its own: the same request again would be answered with the job of the client before.
      { type: "video", url: `${video}?${randomUUID()}` },
      { type: "audio", url: audio },
    ],
  });
  const finished = await call(client, "get_generation", {
    generation_id: created.generation_id,
    wait_seconds: 40,
  });
  assert.equal(finished.status, "COMPLETED");
  assert.match(finished.output_url, /^http/);
}

async function call(client, name, args) {
  const told = [];
  const result = await client.callTool({ name, arguments: args }, undefined, {
    onprogress: ({ message }) => told.push(message),
  });
  const text = result.content.map((block) => block.text).join("\n");
  assert.ok(!result.isError, text);
  for (const [field, value] of Object.entries(result.structuredContent)) {
    // What is more than a word stands in quotes.
    const told = [value, JSON.stringify(value)].some((shown) => text.includes(`${field}: ${shown}`));
    assert.ok(typeof value === "object" || told, `the text lacks ${field}`);
  }
  assert.match(text, /SANDBOX/);
  assert.ok(told.length > 0 || !("wait_seconds" in args), `${name} told no progress`);
  return result.structuredContent;
}

const [target, ...args] = process.argv.slice(2);
setTimeout(() => {
  console.error(`not done after ${LIMIT_MS} ms`);
  process.exit(1);
}, LIMIT_MS).unref();
const transport = target.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(target))
  : new StdioClientTransport({ command: target, args });
const client = new Client({ name: "old-client", version: "1" });
await client.connect(transport);
try {
  await makeVideo(client);
} finally {
  await client.close();
}
console.log("ok: the SDK for Node");
