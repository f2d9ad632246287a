// What the tests share: a gateway of their own for each, and clients that end with it.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { connect } from '../moongate.js';
import { Fake } from './fake.js';

export let fake;
let clients;
beforeEach(async () => {
  fake = await Fake.start();
  clients = [];
});
afterEach(async () => {
  for (const client of clients) client.close();
  await fake.stop();
});

const quick = { backoff: { base: 2, cap: 20 }, openTimeout: 30_000 };

/** Ends a client with the test. */
export function keep(client) {
  clients.push(client);
  return client;
}

/** A client that remembers its states. */
export function open(options = {}) {
  const client = keep(connect(fake.url, { ...quick, ...options }));
  client.states = [];
  client.addEventListener('state', (event) => client.states.push(event.detail));
  return client;
}

export async function until(what, check) {
  const deadline = Date.now() + 30_000;
  while (!check()) {
    assert.ok(Date.now() < deadline, `waited in vain for ${what}`);
    await new Promise((wake) => setTimeout(wake, 2));
  }
}

export const isOpen = (client) => until('the client to be open', () => client.state === 'open');

/** Subscribes and remembers what is heard: texts, and gaps as [from, to]. */
export async function listen(client, topic, options) {
  const heard = [];
  const subscription = client.subscribe(topic, {
    onmessage: (message) => heard.push(message.data),
    ongap: ({ from, to }) => heard.push([from, to]),
    ...options,
  });
  await subscription.ready;
  return { heard, subscription };
}

/** One test for each transport. */
export function both(name, body) {
  for (const transport of ['websocket', 'events']) test(`${name} (${transport})`, () => body(transport));
}
