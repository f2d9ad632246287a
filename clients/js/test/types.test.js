// The types against TypeScript, and against what there is at run time.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as module from '../moongate.js';
import { need } from './fake.js';
import { both, fake, keep, listen, until } from './help.js';
import { members } from './types.ts';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** What the compiler says: nothing, if all is well. */
function compile(...options) {
  const compiler = need('typescript', (require) => require.resolve('typescript/package.json')).replace('package.json', 'bin/tsc');
  const { stdout, stderr } = spawnSync(process.execPath, [compiler, ...options], { cwd: here('.'), encoding: 'utf8' });
  return stdout + stderr;
}

test('every export is used as its types say, and what they forbid is an error', () => {
  assert.equal(compile('--project', here('tsconfig.json')), '');
});

test('a wrong use that types let pass is an error of types.ts, so that the test above can fail', () => {
  assert.match(compile('--project', here('tsconfig.json'), '--noEmit', '--strict', 'false'), /TS2578: Unused '@ts-expect-error' directive/);
});

test('the client itself has the types that are declared for it', () => {
  assert.equal(compile('--project', here('tsconfig.client.json')), '');
});

/** The names that others may use: its own and those of its class. */
function namesOf(thing) {
  const names = [...Object.keys(thing), ...Object.getOwnPropertyNames(Object.getPrototypeOf(thing))];
  return names.filter((name) => name !== 'constructor' && !name.startsWith('_')).sort();
}

const declared = (name) => Object.keys(members[name]).sort();

test('the module exports what is declared, and nothing else', () => {
  assert.deepEqual(Object.keys(module).sort(), declared('module'));
});

both('everything has the members that are declared, and no others', async (transport) => {
  const told = { state: [], gap: [], message: [], subscribed: [] };
  const client = keep(module.connect(fake.url, { transport, backoff: { base: 2 }, onstate: (detail) => told.state.push(detail) }));
  assert.deepEqual(namesOf(client), declared('client'));
  fake.say('news', 'one');
  const { subscription } = await listen(client, 'news', {
    since: '00000000000000b2-7',
    onmessage: (message) => told.message.push(message),
    ongap: (gap) => told.gap.push(gap),
    onsubscribed: (how) => told.subscribed.push(how),
  });
  assert.deepEqual(namesOf(subscription), declared('subscription'));
  const published = await client.publish('news', { two: 2 });
  assert.deepEqual(Object.keys(published).sort(), declared('published'));
  await until('both messages', () => told.message.length === 2);
  fake.cut();
  await until('the cut', () => told.state.some(({ state }) => state === 'resuming'));
  client.close();
  const error = await client.publish('news', 'x').catch((why) => why);
  assert.ok(error instanceof module.MoongateError);
  assert.deepEqual(Object.keys(error).filter((name) => name !== 'name').sort(), declared('error'));
  for (const kind of ['state', 'gap', 'subscribed']) {
    assert.ok(told[kind].length, kind);
    for (const one of told[kind]) assert.deepEqual(Object.keys(one).sort(), declared(kind), kind);
  }
  for (const message of told.message) assert.deepEqual(namesOf(message), declared('message'));
});

test('an event has the members that are declared', async () => {
  const [event] = await Array.fromAsync(module.eventsOf(new Blob(['id: 1\ndata: x\n\n']).stream()));
  assert.deepEqual(Object.keys(event).sort(), declared('event'));
});

test('every option is declared and has a default', () => {
  const options = /export interface Options \{(.*?)^\}/ms.exec(readFileSync(here('../moongate.d.ts'), 'utf8'))[1];
  const named = [...options.matchAll(/^  (\w+)\?:/gm)].map(([, name]) => name);
  const known = /^const DEFAULTS = \{(.*?)^\};/ms.exec(readFileSync(here('../moongate.js'), 'utf8'))[1];
  const defaults = [...known.matchAll(/^  (\w+):/gm)].map(([, name]) => name);
  assert.deepEqual(named.filter((name) => !['onstate', 'WebSocket', 'fetch'].includes(name)), defaults);
});
