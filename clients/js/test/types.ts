// Every export, every member and every event, as TypeScript sees them: what it takes and, below @ts-expect-error, what it must
// not take. `members` is read at run time too, by types.test.js, which holds it against what there really is.
import * as everything from 'moongate-client';
import { MoongateError, PROTOCOL, checkTopic, connect, eventsOf, topicPath } from 'moongate-client';
import type {
  Client, Gap, Json, Message, Options, Place, PublishOptions, Published, State, StateDetail, StreamEvent, Subscribed,
  SubscribeOptions, Subscription, Transport,
} from 'moongate-client';

/** All names of a type, no more and no fewer. */
type Names<T> = { [Name in keyof Required<T>]: true };

export const members = {
  module: { PROTOCOL: true, connect: true, MoongateError: true, checkTopic: true, topicPath: true, eventsOf: true } satisfies Names<typeof everything>,
  client: { state: true, transport: true, subscribe: true, publish: true, close: true } satisfies Names<Omit<Client, keyof EventTarget>>,
  subscription: { topic: true, place: true, live: true, closed: true, ready: true, unsubscribe: true } satisfies Names<Omit<Subscription, symbol>>,
  message: { topic: true, epoch: true, offset: true, place: true, gap: true, json: true, kind: true, data: true } satisfies Names<Message>,
  gap: { topic: true, epoch: true, from: true, to: true, previousEpoch: true } satisfies Names<Gap>,
  subscribed: { topic: true, epoch: true, offset: true, recovered: true } satisfies Names<Subscribed>,
  published: { topic: true, epoch: true, offset: true } satisfies Names<Published>,
  state: { state: true, transport: true, code: true, reason: true, attempt: true, retryIn: true } satisfies Names<StateDetail>,
  error: { code: true, hint: true } satisfies Names<Omit<MoongateError, keyof Error>>,
  event: { id: true, name: true, data: true } satisfies Names<StreamEvent>,
};

/** Never called: that it compiles is the test. */
export async function use(): Promise<void> {
  const protocol: 'moongate.v1' = PROTOCOL;
  const options: Required<Options> = {
    transport: 'auto', backoff: { base: 1, cap: 2, stable: 3 }, openTimeout: 1, pingInterval: 1, pongTimeout: 1, streamSilence: 1,
    upgradeRetry: 1, inFlightMax: 1, waitingMax: 1, bufferMax: 1, WebSocket, fetch,
    onstate: ({ state, transport, code, reason, attempt, retryIn }: StateDetail) => {
      const known: [State, Transport | null, number | null, string, number, number] = [state, transport, code, reason, attempt, retryIn];
      void known;
    },
  };
  connect();
  connect(new URL('https://gate.example'));
  // @ts-expect-error A URL is a string or a URL.
  connect(443);
  // @ts-expect-error There is no such transport.
  connect('https://gate.example', { transport: 'sockets' });
  // @ts-expect-error Nor such an option.
  connect('https://gate.example', { retries: 3 });
  const gate: Client = connect('https://gate.example', options);

  gate.addEventListener('state', (event) => {
    const detail: StateDetail = event.detail;
    // @ts-expect-error What is told does not change.
    detail.state = 'open';
    // @ts-expect-error There is no such state.
    if (detail.state === 'paused') return;
  }, { once: true });
  // @ts-expect-error The detail of other events is not known.
  gate.addEventListener('message', (event) => event.detail);
  // @ts-expect-error The client alone says in what state it is.
  gate.state = 'open';
  const transport: 'websocket' | 'events' | null = gate.transport;

  const since: Place = '00000198f0a1b2c3-42';
  const handlers: Required<SubscribeOptions> = {
    since,
    onmessage: (message: Message) => void message.offset,
    ongap: ({ topic, epoch, from, to, previousEpoch }: Gap) => void [topic, epoch, to - from, previousEpoch?.length],
    onsubscribed: ({ topic, epoch, offset, recovered }: Subscribed) => void [topic, epoch?.length, offset?.toFixed(), recovered === true],
    onerror: (error) => void error.code.length,
  };
  const subscription: Subscription = gate.subscribe('news', handlers);
  for (const start of ['0', 0, null, undefined] as const) gate.subscribe('news', { since: start }).unsubscribe();
  // @ts-expect-error A place is text.
  gate.subscribe('news', { since: 42 });
  // @ts-expect-error A topic has a name.
  gate.subscribe();
  // @ts-expect-error A handler takes a message, not a text.
  gate.subscribe('news', { onmessage: (text: string) => text });
  const { recovered } = await subscription.ready;
  const flags: boolean[] = [subscription.live, subscription.closed, recovered ?? false];
  const place: string | null = subscription.place;
  // @ts-expect-error There may be no place yet.
  const certain: string = subscription.place;

  for await (const message of gate.subscribe('sky/moon')) {
    const from: string = message.topic + message.epoch + message.place;
    if (message.gap) handlers.ongap(message.gap);
    if (message.kind === 'text') message.data.trim();
    if (message.kind === 'binary') message.data.subarray(1);
    // @ts-expect-error A text is not bytes.
    if (message.kind === 'text') message.data.subarray(1);
    // @ts-expect-error There is no such kind.
    if (message.kind === 'blob') break;
    const degrees: number = message.json().degrees;
    void [from, degrees];
  }

  const json: Json = { moon: ['up', 12.5, null, { full: true }] };
  interface Moon { degrees: number }
  const moon: Moon = { degrees: 12.5 };
  const how: Required<PublishOptions> = { as: 'json', signal: AbortSignal.timeout(1) };
  for (const data of ['text', new Uint8Array(1), new ArrayBuffer(1), json, moon, null, 7, true]) await gate.publish('news', data, how);
  const published: Published = await gate.publish('news', 'text');
  published.offset.toFixed();
  // @ts-expect-error Nothing is no JSON.
  await gate.publish('news', undefined);
  // @ts-expect-error Nor is a number too large for one.
  await gate.publish('news', 1n);
  // @ts-expect-error There is no such way to say it.
  await gate.publish('news', 'text', { as: 'xml' });
  gate.close();

  try {
    checkTopic('news');
  } catch (error) {
    if (error instanceof MoongateError) void [error.code.length, error.message, error.hint.length, error instanceof Error];
  }
  new MoongateError('code', 'reason', 'hint');
  // @ts-expect-error An error has a reason.
  new MoongateError('code');
  const path: string = topicPath('news');
  // @ts-expect-error Its path is a text.
  const wrong: URL = topicPath('news');
  const { body } = await fetch('/topics/news');
  if (body) for await (const { id, name, data } of eventsOf(body, () => {})) void [id.length, name.length, data?.length];
  // @ts-expect-error A stream is of bytes.
  eventsOf('data: x');
  void [protocol, transport, flags, place, certain, path, wrong];
}
