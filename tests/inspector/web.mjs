// The Inspector's web page in a real browser: connect to `sync-mcp --sandbox`, list the tools, fill the form of
// create_generation, and read the answer.
//
//   TOOLS="NAME NAME" node web.mjs FOLDER_OF_NODE_MODULES BROWSER SCREENSHOT SERVER_COMMAND...

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [modules, executablePath, screenshot, ...server] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "node_modules", "/"))("playwright-core");

const WAIT_MS = 60_000;
// Those that are on by default.
const TOOLS = process.env.TOOLS.split(" ");
// The media of the API's own documentation; the sandbox serves its samples in their place.
const MEDIA = [
  ["video", "https://assets.sync.so/docs/example-video.mp4"],
  ["audio", "https://assets.sync.so/docs/example-audio.wav"],
];

const home = await mkdtemp(join(tmpdir(), "inspector-"));
const inspector = spawn(join(modules, "node_modules", ".bin", "mcp-inspector"), ["--web", ...server], {
  env: {
    ...process.env,
    HOME: home,
    MCP_AUTO_OPEN_ENABLED: "false",
    MCP_INSPECTOR_SECRET_STORE: "memory",
  },
  stdio: ["ignore", "pipe", "pipe"],
  // A group of its own, so that the server which it starts ends with it.
  detached: true,
});
let browser;
try {
  browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const page = await browser.newPage({ viewport: { width: 1400, height: 1400 } });
  page.setDefaultTimeout(WAIT_MS);
  try {
    await use(page, await address());
  } finally {
    await page.screenshot({ path: screenshot });
  }
} finally {
  await browser?.close();
  process.kill(-inspector.pid);
  await rm(home, { recursive: true, force: true });
}
console.log(`connected, ${TOOLS.length} tools, a form filled, an answer read`);
process.exit(0);

async function address() {
  let told = "";
  const found = new Promise((resolve, reject) => {
    const read = (data) => {
      told += data;
      const url = told.match(/http:\/\/127\.0\.0\.1:\d+\?MCP_INSPECTOR_API_TOKEN=\w+/);
      if (url) resolve(url[0]);
    };
    inspector.stdout.on("data", read);
    inspector.stderr.on("data", read);
    inspector.on("exit", () => reject(new Error(`the Inspector ended: ${told}`)));
    setTimeout(() => reject(new Error(`the Inspector told no address: ${told}`)), WAIT_MS).unref();
  });
  return found;
}

async function use(page, url) {
  await page.goto(url);
  // The switch itself is hidden behind what is drawn in its place.
  await page.getByRole("switch", { name: "Connect or disconnect" }).click({ force: true });
  await page.getByText("Connected", { exact: true }).first().waitFor();
  await page.getByText("Tools", { exact: true }).first().click();
  for (const tool of TOOLS) await page.getByText(tool, { exact: true }).waitFor();

  await page.getByText("create_generation", { exact: true }).click();
  for (const [place, [type, file]] of MEDIA.entries()) {
    await page.getByRole("button", { name: "Add item to input" }).click();
    await page.getByRole("textbox", { name: "type" }).nth(place).click();
    await page.getByRole("option", { name: type, exact: true }).click();
    await page.getByRole("textbox", { name: "url", exact: true }).nth(place).fill(file);
  }
  await page.getByRole("button", { name: "Execute Tool" }).click();
  for (const told of [/SANDBOX: nothing real/, /"?status"?: "?PENDING/, /get_generation with wait_seconds/]) {
    await page.getByText(told).first().waitFor();
  }
}
