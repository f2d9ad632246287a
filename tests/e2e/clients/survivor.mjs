// The survivor in Node: takes expressions on standard input, a line each, and answers each with its value as JSON.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const { connect } = await import(process.argv[2]);
const survive = (0, eval)(`(${readFileSync(new URL('survivor.js', import.meta.url), 'utf8').replace(/^\/\/.*$/m, '')})`);
Object.assign(globalThis, { connect, survive });
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify((0, eval)(line)) ?? 'null'}\n`);
}
process.exit();
