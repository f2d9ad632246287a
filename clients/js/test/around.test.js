// What happens around the client: to the page it is in, to the program, to the network, to a gateway with too much to do.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { connect } from '../moongate.js';
import { both, fake, isOpen, keep, listen, open, until } from './help.js';

const HOUR = 3_600_000;

/** Runs `body` where there is a page: it gets what fires an event there, and what is listened to. */
async function inPage(body) {
  const page = new EventTarget();
  const listening = new Set();
  globalThis.document = { hidden: false };
  globalThis.addEventListener = (name, listener) => { listening.add(name); page.addEventListener(name, listener); };
  globalThis.removeEventListener = (name, listener) => { listening.delete(name); page.removeEventListener(name, listener); };
  try {
    await body((name, members) => page.dispatchEvent(Object.assign(new Event(name), members)), listening);
  } finally {
    delete globalThis.document;
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
}

/** Runs `body` where every random number is this. */
async function withRandom(number, body) {
  const { random } = Math;
  Math.random = () => number;
  try { await body(); } finally { Math.random = random; }
}

for (const turn of ['online', 'pageshow', 'visibilitychange']) {
  test(`who waits tries at once: ${turn}`, () => inPage((fire) => withRandom(0.9, async () => {
    const client = open({ backoff: { base: HOUR, cap: HOUR } });
    await isOpen(client);
    fake.cut();
    await until('the wait', () => client.states.at(-1).retryIn > HOUR / 2);
    fire(turn);
    await isOpen(client);
  })));
}

test('a page that is hidden is no reason to try', () => inPage((fire) => withRandom(0.9, async () => {
  const client = open({ backoff: { base: HOUR, cap: HOUR } });
  await isOpen(client);
  fake.cut();
  await until('the wait', () => client.states.at(-1).retryIn > 0);
  const before = client.states.length;
  globalThis.document.hidden = true;
  fire('visibilitychange');
  assert.equal(client.states.length, before, 'an attempt is told at once');
})));

test('what is open when the network changed must prove it', () => inPage(async (fire) => {
  const client = open({ pingInterval: HOUR, pongTimeout: 2000 });
  await isOpen(client);
  fire('online');
  await until('the ping', () => fake.requests.some(({ type }) => type === 'ping'));
  await client.publish('news', 'after the answer to it');
  fake.answers = () => null;
  fire('visibilitychange');
  await until('the cut', () => client.states.some(({ reason }) => /did not answer a ping/.test(reason)));
}));

both('a page that is left and come back to holds no connection meanwhile, and misses nothing', (transport) => inPage((fire) => withRandom(0.9, async () => {
  const client = open({ transport, backoff: { base: HOUR, cap: HOUR } });
  const { heard } = await listen(client, 'news');
  fake.say('news', 'one');
  await until('the first', () => heard.length === 1);
  fire('pagehide', { persisted: false });
  assert.equal(client.state, 'open', 'a page that ends needs nothing');
  fire('pagehide', { persisted: true });
  assert.deepEqual([client.state, client.states.at(-1).reason], ['resuming', 'the page was left']);
  await until('no connection', () => fake.sockets.clients.size + fake.streams.size === 0);
  fake.say('news', 'two');
  fire('pageshow', { persisted: true });
  await until('the second', () => heard.length === 2);
  assert.deepEqual(heard, ['one', 'two']);
})));

test('close() listens to the page no longer', () => inPage(async (fire, listening) => {
  const client = open();
  await isOpen(client);
  assert.deepEqual([...listening].sort(), ['online', 'pagehide', 'pageshow', 'visibilitychange']);
  client.close();
  assert.equal(listening.size, 0);
}));

/** A program that makes a `client` ends by itself after close() once it is `ready`; `said` is what it said, a line for each wait
 *  of a random length that it began. Whatever waits there waits for a quarter of an hour or more. */
async function endsAfterClose(setup, ready) {
  const script = `
    import { connect } from ${JSON.stringify(new URL('../moongate.js', import.meta.url))};
    process.stdin.once('data', () => { client.close(); process.stdin.destroy(); });
    Math.random = () => 0.25;
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (act, millis) => {
      if (millis > ${HOUR / 5} && millis !== ${HOUR}) console.log('waits');
      return setTimeout(act, millis);
    };
    let client; ${setup}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (data) => { said += data; });
  try {
    await until('the program', () => ready(said));
    child.stdin.write('close\n');
    await until('its end', () => child.exitCode !== null);
    assert.equal(child.exitCode, 0);
  } finally {
    child.kill();
  }
}

const long = `{ backoff: { base: ${HOUR}, cap: ${HOUR}, stable: ${HOUR} }, openTimeout: ${HOUR}, pingInterval: ${HOUR}, streamSilence: ${HOUR} }`;

both('close() leaves nothing running: an open connection', (transport) => endsAfterClose(
  `client = connect('${fake.url}', { ...${long}, transport: '${transport}' }); client.subscribe('news'); client.publish('news', 'x');`,
  () => fake.topic('news').said.length + fake.topic('news').listeners.size === 2,
));

test('close() leaves nothing running: a wait', () => {
  fake.upgrades = false;
  fake.refuses = { status: 503, retryAfter: 3600 };
  return endsAfterClose(`client = connect('${fake.url}', ${long});`, (said) => said);
});

test('close() leaves nothing running: the question why', () => {
  fake.upgrades = false;
  [fake.held, fake.holdsAll] = [new Promise(() => {}), true];
  return endsAfterClose(`client = connect('${fake.url}', ${long});`, () => fake.paths.length === 1);
});

test('close() leaves nothing running: a topic that is asked again', () => {
  fake.answers = (request) => ({ type: 'error', id: request.id, code: 'busy', reason: 'Busy.', hint: '' });
  return endsAfterClose(`client = connect('${fake.url}', ${long}); client.subscribe('news');`, (said) => said);
});

test('close() leaves nothing running: one stream of several that waits', () => endsAfterClose(
  `client = connect('${fake.url}', { ...${long}, transport: 'events' });
  await client.subscribe('one').ready;
  await client.subscribe('other').ready;
  client.publish('cut', 'now').catch(() => {});`,
  (said) => {
    if (fake.topic('cut').said.length && fake.streams.size === 2) [...fake.streams][0].destroy();
    return said;
  },
));

test('a Retry-After is waited for, and then some, so that no two come back together', () => withRandom(0.5, async () => {
  fake.upgrades = false;
  fake.refuses = { status: 503, retryAfter: 3600 };
  const client = open({ backoff: { base: 100 } });
  await until('the wait', () => client.states.at(-1)?.retryIn > 0);
  assert.equal(client.states.at(-1).retryIn, HOUR + 50);
}));

for (const status of [408, 429, 500, 502, 503, 504]) {
  test(`whoever answers ${status} says nothing about upgrades`, async () => {
    fake.upgrades = false;
    fake.refuses = { status };
    const client = open();
    await until('some attempts', () => client.states.filter(({ retryIn }) => retryIn > 0).length > 3);
    fake.refuses = null;
    fake.upgrades = true;
    await isOpen(client);
    assert.equal(client.transport, 'websocket');
  });
}

test('every topic is asked for once on each connection, also by who hears that it is open', async () => {
  const client = open();
  const ready = Array.from({ length: 300 }, (_, at) => client.subscribe(`topic/${at}`, { onmessage() {} }).ready);
  await Promise.all(ready);
  client.addEventListener('state', ({ detail }) => {
    if (detail.state !== 'open') return;
    client.subscribe('another', { onmessage() {} });
    client.subscribe('left').unsubscribe();
  });
  fake.requests.length = 0;
  fake.cut();
  await until('all of them', () => fake.requests.length >= 303);
  await client.publish('news', 'after them all');
  const asked = fake.requests.filter(({ type }) => type === 'subscribe').map(({ topic }) => topic);
  assert.equal(asked.length, 302);
  assert.equal(new Set(asked).size, 302);
});

test('POSTs keep their order across connections, and one that was not begun is not begun after close()', async () => {
  const client = open({ transport: 'events' });
  await listen(client, 'other');
  let release;
  fake.held = new Promise((wake) => { release = wake; });
  const first = ['a', 'b', 'c'].map((text) => client.publish('news', text));
  fake.cut();
  await until('the cut', () => client.states.some(({ state }) => state === 'resuming'));
  await isOpen(client);
  const all = [...first, client.publish('news', 'd')];
  const posts = () => fake.paths.filter((path) => path === 'POST /topics/news').length;
  await until('the first', () => posts() === 1);
  release();
  await Promise.all(all);
  assert.deepEqual(fake.topic('news').said.map(({ text }) => text), ['a', 'b', 'c', 'd']);

  fake.held = new Promise((wake) => { release = wake; });
  const last = ['e', 'f'].map((text) => client.publish('news', text));
  await until('the next', () => posts() === 5);
  client.close();
  for (const each of last) await assert.rejects(each, { code: 'unknown-outcome' });
  release();
  await until('what was begun', () => fake.topic('news').said.length === 5);
  const after = keep(connect(fake.url, { transport: 'events' }));
  await after.publish('other', 'later');
  assert.equal(posts(), 5);
});

test('a POST that is never answered has an unknown outcome', async () => {
  const client = open({ transport: 'events', streamSilence: 50 });
  fake.held = new Promise(() => {});
  await assert.rejects(client.publish('news', 'x'), { code: 'unknown-outcome' });
});

test('a page whose origin is not welcome is told what browsers hide', async () => {
  fake.upgrades = false;
  globalThis.location = new URL('https://page.example/');
  try {
    // What a page of another origin gets: an answer that it may not read, or none.
    const fetch = async (_, { mode }) => {
      if (mode === 'no-cors') return Response.error();
      throw new TypeError('Failed to fetch');
    };
    const client = open({ fetch });
    const { ready } = client.subscribe('news');
    const told = (words) => until(words, () => client.states.some(({ reason }) => reason.includes(words)));
    await told('Pages of another origin may not read the answer.');
    await told('Failed to fetch (or MOONGATE_ORIGINS does not name https://page.example)');
    client.close();
    await assert.rejects(ready, { code: 'closed' });
  } finally {
    delete globalThis.location;
  }
});

test('where no gateway can be, it says so', () => {
  for (const url of [undefined, '', 'ftp://gate.example', 'file:///gate'])
    assert.throws(() => connect(url), { name: 'MoongateError', code: 'url' }, String(url));
});

both('half a character is nobody’s text', async (transport) => {
  const client = open({ transport });
  await assert.rejects(client.publish('news', 'half \ud83c'), { code: 'payload' });
  assert.equal((await client.publish('news', 'whole 🌕')).offset, 1);
});

test('two who read one subscription share its messages, and both see its end', async () => {
  const client = open();
  const subscription = client.subscribe('news');
  await subscription.ready;
  const heard = [];
  const read = async () => { for await (const { data } of subscription) heard.push(data); };
  const readers = [read(), read()];
  for (const text of ['1', '2', '3', '4']) fake.say('news', text);
  await until('all', () => heard.length === 4);
  subscription.unsubscribe();
  await Promise.all(readers);
  assert.deepEqual(heard.sort(), ['1', '2', '3', '4']);
});

test('JSON that is no object is passed over, and what is no JSON ends it', async () => {
  const client = open();
  const { heard } = await listen(client, 'news');
  const [socket] = fake.sockets.clients;
  for (const frame of ['null', '7', '[]', '"news"']) socket.send(frame);
  fake.say('news', 'one');
  await until('the message', () => heard.length === 1);
  socket.send('<html>');
  await until('the end', () => client.state === 'closed');
  assert.deepEqual([client.states.at(-1).code, client.states.at(-1).reason], [1007, 'the gateway sent what is no JSON']);
});

test('onstate hears what the event says', async () => {
  const told = [];
  const client = open({ onstate: (detail) => told.push(detail) });
  await isOpen(client);
  fake.cut();
  await until('the cut', () => client.states.some(({ state }) => state === 'resuming'));
  await isOpen(client);
  client.close();
  assert.deepEqual(told, client.states);
});

test('it works in a worker', async () => {
  const code = `
    import { parentPort } from 'node:worker_threads';
    import { connect } from ${JSON.stringify(new URL('../moongate.js', import.meta.url))};
    const client = connect('${fake.url}');
    const heard = new Promise((resolve) => client.subscribe('news', { since: '0', onmessage: resolve }));
    await client.publish('news', 'from a worker');
    parentPort.postMessage((await heard).data);
    client.close();`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  const heard = [];
  worker.on('message', (data) => heard.push(data));
  const ended = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
  assert.equal(await ended, 0);
  assert.deepEqual(heard, ['from a worker']);
});

test('what README.md shows works as it stands there', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const blocks = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, block]) => block.replace(/^import .*$/m, ''));
  const AsyncFunction = (async () => {}).constructor;
  const said = [];
  const names = {
    connect: () => open(),
    console: { log: (...words) => said.push(words), warn: (...words) => said.push(words) },
    show: (...words) => said.push(words),
  };
  const run = (block) => new AsyncFunction(...Object.keys(names), block)(...Object.values(names));
  const [begin, hear, state] = blocks;
  assert.equal(blocks.length, 3);

  names.gate = await run(`${begin}; return gate;`);
  fake.say('news', 'and down');
  await until('the second message', () => said.length === 2);
  assert.deepEqual(said.splice(0), [[1, 'the moon is up'], [2, 'and down']]);
  const loop = run(hear);
  await until('the subscription', () => fake.topic('sky/moon').listeners.size === 1);
  for (const degrees of [80, 95, 100]) fake.say('sky/moon', { json: { degrees } });
  await loop;
  await run(state);
  fake.cut(1013, 'too slow');
  await until('both states', () => said.some(([name]) => name === 'open'));
  assert.deepEqual(said[0], ['resuming', 'too slow']);
});
