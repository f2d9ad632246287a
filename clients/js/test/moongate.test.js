import assert from 'node:assert/strict';
import { test } from 'node:test';

import { checkTopic, connect, eventsOf, topicPath } from '../moongate.js';
import { both, fake, isOpen, keep, listen, open, until } from './help.js';

both('messages come as they were said', async (transport) => {
  const client = open({ transport });
  const { heard } = await listen(client, 'sky/new moon');
  const place = await client.publish('sky/new moon', 'ri\nsing');
  assert.deepEqual(place, { topic: 'sky/new moon', epoch: '00000000000000a1', offset: 1 });
  await client.publish('sky/new moon', new Uint8Array([0, 255, 122]));
  await client.publish('sky/new moon', { degrees: 12.5 });
  await client.publish('sky/new moon', 'a string', { as: 'json' });
  await until('four messages', () => heard.length === 4);
  assert.deepEqual(fake.topic('sky/new moon').said, [{ text: 'ri\nsing' }, { base64: 'AP96' }, { json: { degrees: 12.5 } }, { json: 'a string' }]);
  const json = transport === 'events' ? ['{"degrees":12.5}', '"a string"'] : [{ degrees: 12.5 }, 'a string'];
  assert.deepEqual(heard, ['ri\nsing', new Uint8Array([0, 255, 122]), ...json]);
});

test('json() is the same on both transports', async () => {
  for (const transport of ['websocket', 'events']) {
    const client = open({ transport });
    const values = [];
    await listen(client, 'news', { onmessage: (message) => values.push(message.json()) });
    await client.publish('news', { moon: ['up', null] });
    await until('the value', () => values.length === 1);
    assert.deepEqual(values, [{ moon: ['up', null] }]);
  }
});

both('a cut is resumed where it was, also before the first message', async (transport) => {
  const client = open({ transport });
  const { heard } = await listen(client, 'news');
  fake.say('quiet', 'before');
  const quiet = await listen(client, 'quiet');
  await until('its place', () => quiet.subscription.place);
  for (let round = 0; round < 20; round += 1) {
    fake.say('news', `${round} a`);
    fake.cut();
    fake.say('news', `${round} b`);
    await until('both', () => heard.length === 2 * round + 2);
  }
  fake.cut();
  fake.say('quiet', 'meanwhile');
  await until('everything', () => heard.length === 40 && quiet.heard.length === 1);
  assert.deepEqual(heard, Array.from({ length: 40 }, (_, at) => `${at >> 1} ${'ab'[at & 1]}`));
  assert.deepEqual(quiet.heard, ['meanwhile']);
  if (transport === 'websocket') assert.ok(client.states.filter(({ state }) => state === 'open').length > 20);
});

both('what is gone is a gap', async (transport) => {
  const client = open({ transport });
  const { heard, subscription } = await listen(client, 'news');
  fake.say('news', 'one');
  await until('the first', () => heard.length === 1);
  fake.cut();
  for (const text of ['two', 'three', 'four']) fake.say('news', text);
  fake.forget('news', 4);
  await until('the rest', () => heard.length === 3);
  assert.deepEqual(heard, ['one', [2, 3], 'four']);
  assert.equal(subscription.place, '00000000000000a1-4');
});

both('a new epoch is a gap that names the old one', async (transport) => {
  const client = open({ transport });
  const gaps = [];
  const { heard } = await listen(client, 'news', { ongap: (gap) => gaps.push(gap) });
  fake.say('news', 'one');
  await until('the first', () => heard.length === 1);
  fake.restart('news', '00000000000000b2');
  fake.say('news', 'anew');
  fake.cut();
  await until('the next', () => heard.length === 2);
  assert.deepEqual(gaps, [{ topic: 'news', epoch: '00000000000000b2', from: 1, to: 0, previousEpoch: '00000000000000a1' }]);
});

test('a hole that nobody told of is a gap, and what came before does not come again', async () => {
  const client = open();
  const gaps = [];
  const { heard } = await listen(client, 'news', { ongap: ({ from, to, previousEpoch }) => gaps.push([from, to, previousEpoch]) });
  const [socket] = fake.sockets.clients;
  const say = (epoch, offset) => socket.send(JSON.stringify({ type: 'message', topic: 'news', epoch, offset, text: `${offset}` }));
  for (const offset of [1, 1, 3, 2, 4]) say('00000000000000a1', offset);
  say('00000000000000b2', 3);
  socket.send(JSON.stringify({ type: 'gap', topic: 'news', epoch: '00000000000000b2', from: 2, to: 5 }));
  socket.send(JSON.stringify({ type: 'gap', topic: 'news', epoch: '00000000000000b2', from: 4, to: 5 }));
  socket.send(JSON.stringify({ type: 'new', topic: 'news', anything: 1 }));
  say('00000000000000b2', 6);
  await until('the last', () => heard.at(-1) === '6');
  assert.deepEqual(heard, ['1', '3', '4', '3', '6']);
  assert.deepEqual(gaps, [[2, 2, undefined], [1, 2, '00000000000000a1'], [4, 5, undefined]]);
});

both('since 0 replays what is kept, and since a place what came after', async (transport) => {
  for (const text of ['one', 'two', 'three']) fake.say('news', text);
  fake.forget('news', 2);
  const all = await listen(open({ transport }), 'news', { since: '0' });
  const some = await listen(open({ transport }), 'news', { since: '00000000000000a1-2' });
  fake.say('news', 'four');
  await until('both', () => all.heard.length === 3 && some.heard.length === 2);
  assert.deepEqual(all.heard, ['two', 'three', 'four']);
  assert.deepEqual(some.heard, ['three', 'four']);
  assert.throws(() => open().subscribe('news', { since: 'yesterday' }), { code: 'since' });
});

test('an iterator gets every message, with its gap, until the end', async () => {
  const client = open();
  const subscription = client.subscribe('news');
  await subscription.ready;
  const heard = [];
  const done = (async () => { for await (const message of subscription) heard.push([message.data, message.gap?.to ?? null]); })();
  fake.say('news', 'one');
  await until('the first', () => heard.length === 1);
  fake.cut();
  fake.say('news', 'two');
  fake.say('news', 'three');
  fake.forget('news', 3);
  await until('the second', () => heard.length === 2);
  subscription.unsubscribe();
  await done;
  assert.deepEqual(heard, [['one', null], ['three', 2]]);
  assert.ok(subscription.closed);
});

test('leaving the loop unsubscribes, and the topic can be heard again', async () => {
  const client = open();
  const subscription = client.subscribe('news', { since: '0' });
  assert.throws(() => client.subscribe('news'), { code: 'already-subscribed' });
  fake.say('news', 'one');
  for await (const message of subscription) {
    assert.equal(message.place, '00000000000000a1-1');
    break;
  }
  const again = await listen(client, 'news');
  assert.deepEqual(fake.requests.map(({ type }) => type), ['subscribe', 'unsubscribe', 'subscribe']);
  fake.say('news', 'two');
  await until('the second', () => again.heard.length === 1);
});

test('a reader that falls behind is told, not kept for', async () => {
  const client = open({ bufferMax: 3 });
  const subscription = client.subscribe('news');
  await subscription.ready;
  for (const text of ['1', '2', '3', '4', '5']) fake.say('news', text);
  await until('the end', () => subscription.closed);
  const heard = [];
  await assert.rejects(async () => { for await (const { data } of subscription) heard.push(data); }, { code: 'buffer-full' });
  assert.deepEqual(heard, ['1', '2', '3']);
});

test('a publish that was sent and not answered has an unknown outcome', async () => {
  const client = open();
  await isOpen(client);
  fake.answers = () => null;
  const first = client.publish('news', 'one');
  await until('the request', () => fake.requests.length === 1);
  fake.cut();
  await assert.rejects(first, { code: 'unknown-outcome' });
  fake.answers = (request) => request;
  assert.equal((await client.publish('news', 'two')).offset, 1, 'it was not sent again');
});

test('publishes wait for the connection, in order, and not without bound', async () => {
  const client = open({ inFlightMax: 2, waitingMax: 3 });
  const all = ['one', 'two', 'three'].map((text) => client.publish('news', text));
  await assert.rejects(client.publish('news', 'four'), { code: 'waiting-full' });
  assert.deepEqual((await Promise.all(all)).map(({ offset }) => offset), [1, 2, 3]);
});

test('what waits is said as it was', async () => {
  const client = open();
  const [value, bytes] = [{ moon: 'up' }, new Uint8Array([1])];
  const all = [client.publish('news', value), client.publish('news', bytes)];
  value.moon = 'down';
  bytes[0] = 2;
  await Promise.all(all);
  assert.deepEqual(fake.topic('news').said, [{ json: { moon: 'up' } }, { base64: 'AQ==' }]);
  for (const none of [undefined, () => {}, 1n]) await assert.rejects(client.publish('news', none), TypeError);
});

both('the order of publishes is kept', async (transport) => {
  const client = open({ transport });
  const texts = Array.from({ length: 100 }, (_, at) => `${at}`);
  await Promise.all(texts.map((text) => client.publish('news', text)));
  assert.deepEqual(fake.topic('news').said.map(({ text }) => text), texts);
});

test('a signal gives up a publish', async () => {
  const client = open();
  const early = new AbortController();
  const waiting = client.publish('news', 'never', { signal: early.signal });
  early.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  await isOpen(client);
  fake.answers = () => null;
  const late = new AbortController();
  const sent = client.publish('news', 'perhaps', { signal: late.signal });
  await until('the request', () => fake.requests.length === 1);
  late.abort();
  await assert.rejects(sent, { code: 'unknown-outcome' });
});

test('errors reject what they are about', async () => {
  const client = open();
  fake.answers = ({ id, type }) => ({ type: 'error', id, code: type === 'publish' ? 'may-only-listen' : 'topics-full', reason: 'No.', hint: 'Ask.' });
  await assert.rejects(client.publish('news', 'x'), { code: 'may-only-listen', message: 'No.', hint: 'Ask.' });
  let told;
  const subscription = client.subscribe('news', { onmessage() {}, onerror: (error) => { told = error; } });
  await assert.rejects(subscription.ready, { code: 'topics-full' });
  assert.equal(told.code, 'topics-full');
  assert.ok(subscription.closed);
});

test('a busy topic is asked again', async () => {
  const client = open();
  let times = 0;
  fake.answers = (request) => (request.type === 'subscribe' && ++times < 4 ? { type: 'error', id: request.id, code: 'busy', reason: 'Busy.', hint: '' } : request);
  const { heard } = await listen(client, 'news');
  fake.say('news', 'one');
  await until('the message', () => heard.length === 1);
  assert.equal(times, 4);
});

test('a final Close ends it, with its code and reason', async () => {
  const client = open();
  const { subscription } = await listen(client, 'news');
  const waits = [];
  fake.answers = () => null;
  waits.push(client.publish('news', 'x'));
  await until('the request', () => fake.requests.length === 2);
  fake.cut(1008, 'not you');
  await assert.rejects(waits[0], { code: 'unknown-outcome' });
  await until('the end', () => client.state === 'closed');
  assert.deepEqual(client.states.at(-1), { state: 'closed', code: 1008, reason: 'not you', attempt: 0, retryIn: 0, transport: null });
  assert.ok(subscription.closed);
  await assert.rejects(client.publish('news', 'y'), { code: 'closed' });
  assert.throws(() => client.subscribe('news'), { code: 'closed' });
});

test('any other Close is come back from', async () => {
  const client = open();
  await isOpen(client);
  fake.cut(1013, 'too slow');
  const cut = () => client.states.find(({ state }) => state === 'resuming');
  await until('the cut', cut);
  assert.deepEqual([cut().code, cut().reason], [1013, 'too slow']);
  await isOpen(client);
});

test('close() ends everything at once', async () => {
  const client = open();
  const subscription = client.subscribe('news');
  const never = client.publish('news', 'x');
  client.close();
  assert.equal(client.state, 'closed');
  await assert.rejects(never, { code: 'closed' });
  await assert.rejects(subscription.ready, { code: 'closed' });
  for await (const _ of subscription) assert.fail('nothing was said');
  await new Promise((wake) => setTimeout(wake, 20));
  assert.equal(fake.sockets.clients.size, 0);
});

test('where upgrades do not get through, event streams and POST do, and it says so', async () => {
  fake.upgrades = false;
  const client = open();
  const { heard } = await listen(client, 'news');
  assert.equal(client.transport, 'events');
  assert.match(client.states.find(({ state }) => state === 'open').reason, /do not get through/);
  await client.publish('news', 'one');
  fake.cut();
  await client.publish('news', 'two');
  await until('both', () => heard.length === 2);
  assert.deepEqual(heard, ['one', 'two']);
});

test('upgrades are tried again after a while', async () => {
  fake.upgrades = false;
  const client = open({ upgradeRetry: 0 });
  const { heard } = await listen(client, 'news');
  fake.upgrades = true;
  fake.cut();
  fake.say('news', 'one');
  await until('the WebSocket', () => client.transport === 'websocket');
  await until('the message', () => heard.length === 1);
  assert.deepEqual(heard, ['one']);
});

test('where upgrades have worked, more of them must be lost', async () => {
  const client = open();
  await isOpen(client);
  fake.upgrades = false;
  fake.cut();
  await until('event streams', () => client.transport === 'events');
  assert.deepEqual(fake.paths, [...Array(5).fill('GET /connect'), 'OPTIONS /connect']);
});

test('one upgrade that is lost is no reason to do without', async () => {
  fake.upgrades = false;
  const client = open({ backoff: { base: 200 } });
  await until('the question why', () => fake.paths.length === 1);
  fake.upgrades = true;
  await isOpen(client);
  assert.equal(client.transport, 'websocket');
});

test('a full gateway is waited for', async () => {
  fake.upgrades = false;
  fake.refuses = { status: 503, type: 'urn:moongate:problem:connections_full', title: 'Connections full', detail: 'No.' };
  const client = open();
  await until('some attempts', () => client.states.length > 5);
  assert.equal(client.state, 'connecting');
  assert.match(client.states.findLast(({ retryIn }) => retryIn > 0).reason, /503 Connections full: No\./);
  fake.refuses = null;
  fake.upgrades = true;
  await isOpen(client);
  assert.equal(client.transport, 'websocket');
});

test('a refusal ends only the stream it is about', async () => {
  const client = open({ transport: 'events' });
  const { heard } = await listen(client, 'news');
  fake.refuses = { status: 403, type: 'urn:moongate:problem:subscribe_only', title: 'May only listen' };
  await assert.rejects(client.subscribe('other').ready, { code: 'may-only-listen' });
  await assert.rejects(client.publish('news', 'x'), { code: 'may-only-listen' });
  fake.say('news', 'one');
  await until('the message', () => heard.length === 1);
  assert.equal(client.state, 'open');
});

test('problems of plain HTTP are errors of the protocol', async () => {
  const client = open({ transport: 'events' });
  await isOpen(client);
  for (const [status, type, code] of [
    [403, 'urn:moongate:problem:origin_refused', 'may-only-listen'],
    [400, 'urn:moongate:problem:not_json', 'payload'],
    [413, 'urn:moongate:problem:body_too_large', 'payload'],
    [400, 'urn:moongate:problem:topic_reserved', 'topic-name'],
    [503, 'urn:moongate:problem:topics_full', 'topics-full'],
    [503, 'urn:moongate:problem:draining', 'busy'],
    [503, 'urn:moongate:problem:not_ordered', 'unknown-outcome'],
    // Whose answer this is, and whether the gateway has heard of it, nobody knows.
    [502, 'https://proxy.example/problems#bad', 'unknown-outcome'],
    [502, undefined, 'unknown-outcome'],
  ]) {
    fake.refuses = { status, type, title: 'No' };
    await assert.rejects(client.publish('news', 'x'), { name: 'MoongateError', code }, type);
  }
  fake.refuses = { status: 401, type: 'about:blank', title: 'Who are you?' };
  await assert.rejects(client.subscribe('news').ready, { code: 'refused', message: '401 Who are you?' });
});

test('one of several streams is opened anew without the others', async () => {
  const client = open({ transport: 'events' });
  const one = await listen(client, 'one');
  const other = await listen(client, 'other');
  fake.say('one', '1');
  fake.say('other', '1');
  await until('both', () => one.heard.length + other.heard.length === 2);
  [...fake.streams][0].destroy();
  fake.say('one', '2');
  fake.say('other', '2');
  await until('both again', () => one.heard.length + other.heard.length === 4);
  assert.equal(client.states.filter(({ state }) => state === 'open').length, 1);
});

test('a silent connection is tried with a ping and then given up', async () => {
  const client = open({ pingInterval: 30, pongTimeout: 2000 });
  await until('some pings', () => fake.requests.filter(({ type }) => type === 'ping').length >= 3);
  assert.equal(client.states.filter(({ state }) => state === 'open').length, 1);
  fake.answers = () => null;
  await until('the cut', () => client.states.some(({ reason }) => /ping/.test(reason)));
  fake.answers = (request) => request;
  await isOpen(client);
});

test('a silent stream is opened anew', async () => {
  const client = open({ transport: 'events', streamSilence: 50 });
  await listen(client, 'news');
  await until('the cut', () => client.states.some(({ reason }) => /silent/.test(reason)));
});

test('waits are random, grow, are capped, and begin anew after a stable while', async () => {
  const { url } = fake;
  const port = Number(new URL(url).port);
  const random = Math.random;
  Math.random = () => 1;
  try {
    const client = connect(url, { backoff: { base: 10, cap: 80, stable: 100 } });
    keep(client);
    const waits = [];
    client.addEventListener('state', ({ detail }) => { if (detail.retryIn) waits.push(detail.retryIn); });
    await isOpen(client);
    await fake.stop();
    await until('six attempts', () => waits.length === 6);
    assert.deepEqual(waits, [10, 20, 40, 80, 80, 80]);
    await fake.listen(port);
    await isOpen(client);
    await new Promise((wake) => setTimeout(wake, 150));
    fake.cut();
    await until('another', () => waits.length > 6);
    assert.equal(waits.at(-1), 10);
  } finally {
    Math.random = random;
  }
});

test('what a handler throws does not stop the others', async () => {
  const client = open();
  const thrown = [];
  globalThis.reportError = (error) => thrown.push(error.message);
  try {
    const heard = [];
    await listen(client, 'news', { onmessage: ({ data }) => { heard.push(data); throw new Error(data); } });
    fake.say('news', 'one');
    fake.say('news', 'two');
    await until('both', () => heard.length === 2);
    assert.deepEqual(thrown, ['one', 'two']);
  } finally {
    delete globalThis.reportError;
  }
});

test('topics and their paths', () => {
  const path = (name, expect) => assert.equal(topicPath(name), expect);
  path('news', '/topics/news');
  path("sky/new moon/o'clock?", '/topics/sky/new%20moon/o%27clock%3F');
  path('café', '/topics/caf%C3%A9');
  for (const name of ['', 'a//b', '/a', 'a/', '..', 'a/./b', '$sys', 'a*', 'a+', '#', 'a\n', 'x'.repeat(256), 'é'.repeat(128), '\ud800', 7, undefined])
    assert.throws(() => checkTopic(name), { code: 'topic-name' }, String(name));
});

test('event streams are read as HTML says, wherever the bytes are cut', async () => {
  const text = '\ufeffretry: 1\n\n:\n\nid: 1\ndata: a\ndata:  b\r\ndata\n\ndata:é\r\rid: 2\nevent: gap\n\nevent: binary\ndata:x\nid: 3\u0000\n\ndata: lost';
  const expect = [
    { id: '1', name: '', data: 'a\n b\n' },
    { id: '', name: '', data: 'é' },
    { id: '2', name: 'gap', data: null },
    { id: '', name: 'binary', data: 'x' },
  ];
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.slice(at * size, (at + 1) * size));
    assert.deepEqual(await Array.fromAsync(eventsOf(ReadableStream.from(parts))), expect, `in parts of ${size}`);
  }
});
