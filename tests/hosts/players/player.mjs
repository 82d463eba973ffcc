// What the players of Node share, as player.py has it for those of Python.

import { createInterface } from "node:readline";

// A framework may print what it likes: the real output is kept for the answers.
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
console.log = console.info = console.debug = console.error;

const say = (value) => new Promise((resolve) => write(`${JSON.stringify(value)}\n`, resolve));

export const server = JSON.parse(process.argv[2]);
export const text = (words) => ({ text: String(words) });
export const data = (value) => (value === undefined || value === null ? [] : [{ data: value }]);
export const picture = (mediaType) => ({ picture: mediaType ?? "unknown" });

/** Says which tools there are; then calls what comes in, until nothing does. */
export async function takeTurns(tools, call) {
  await say({ tools });
  for await (const line of createInterface({ input: process.stdin })) {
    const { tool, arguments: args } = JSON.parse(line);
    let answer;
    try {
      answer = await call(tool, args);
    } catch (error) {
      // Whatever the host raises is how it tells an error.
      answer = { parts: [text(error.message)], error: `\`${error.constructor.name}\`` };
    }
    await say(answer);
  }
}
