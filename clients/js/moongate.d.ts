/** The name in Sec-WebSocket-Protocol. */
export const PROTOCOL: 'moongate.v1';

/** Where a message stands in its topic, as text: `<epoch>-<offset>`. */
export type Place = string;

/** A value that JSON has. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** Messages that do not come: `from` to `to`, both included, of `epoch`. `to` is `from` - 1 where none of them is missing. */
export interface Gap {
  readonly topic: string;
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
  /** Where an earlier epoch has ended: what came at its end is unknown and gone. */
  readonly previousEpoch?: string;
}

interface MessageBase {
  readonly topic: string;
  readonly epoch: string;
  readonly offset: number;
  /** What `since` takes to go on after this message. */
  readonly place: Place;
  /** What is missing just before this message. */
  readonly gap: Gap | null;
  /** The JSON value; also of a text that spells one, as all JSON does on an event stream. */
  json(): any;
}

/** One message of a topic. */
export type Message =
  | (MessageBase & { readonly kind: 'text'; readonly data: string })
  | (MessageBase & { readonly kind: 'json'; readonly data: any })
  | (MessageBase & { readonly kind: 'binary'; readonly data: Uint8Array });

/** How a subscription began, on this connection. */
export interface Subscribed {
  readonly topic: string;
  /** The last place before what is heard live; not known on an event stream. */
  readonly epoch?: string;
  readonly offset?: number;
  /** Where it was resumed: whether nothing is missing. Not known on an event stream, where a gap tells. */
  readonly recovered?: boolean;
}

export interface SubscribeOptions {
  /** Begin after this place, or with all that is kept ('0'). Left out: with what is said from now on. */
  since?: Place | '0' | 0 | null;
  /** Gets every message, one after the other. Left out: they wait for the iterator. */
  onmessage?: (message: Message) => void;
  /** Told of what is missing, before the message that follows. */
  ongap?: (gap: Gap) => void;
  /** Told each time the gateway has confirmed it, so also after each resumption. */
  onsubscribed?: (how: Subscribed) => void;
  /** Told why it ended, where nobody asked it to. */
  onerror?: (error: MoongateError) => void;
}

/** One topic that is heard, across all connections until `unsubscribe`. Iterates over its messages. */
export interface Subscription extends AsyncIterable<Message> {
  readonly topic: string;
  /** The last place that was heard of; null before there is one. */
  readonly place: Place | null;
  /** Whether the gateway has confirmed it on the connection there is now. */
  readonly live: boolean;
  readonly closed: boolean;
  /** Settled by the first answer to it. */
  readonly ready: Promise<Omit<Subscribed, 'topic'>>;
  unsubscribe(): void;
}

export type State = 'connecting' | 'open' | 'resuming' | 'closed';
export type Transport = 'websocket' | 'events';

/** What a `state` event says. */
export interface StateDetail {
  readonly state: State;
  /** What it is open on or tries; null while it waits, and when it is closed. */
  readonly transport: Transport | null;
  /** Of the Close frame that ended the last connection; null where there was none. */
  readonly code: number | null;
  /** Why the last connection ended or did not come about, or why this is not a WebSocket. */
  readonly reason: string;
  /** How many attempts there were since a connection was last stable. */
  readonly attempt: number;
  /** How many milliseconds it waits before the next one. */
  readonly retryIn: number;
}

/** All times are in milliseconds. */
export interface Options {
  /** 'auto' (the default): a WebSocket, or event streams and POST where upgrades do not get through. */
  transport?: 'auto' | Transport;
  /** Waits are random between 0 and `base` (500) doubled with each attempt, at most `cap` (30000), and begin anew after a
   *  connection that held for `stable` (60000). */
  backoff?: { base?: number; cap?: number; stable?: number };
  /** How long an upgrade may take: 10000. */
  openTimeout?: number;
  /** After how long a silence the WebSocket is tried with a ping: 25000. */
  pingInterval?: number;
  /** How long the answer to that may take: 10000. */
  pongTimeout?: number;
  /** After how long a silence an event stream is opened anew, and a POST without answer has an unknown outcome: 90000. */
  streamSilence?: number;
  /** For how long no upgrade is tried once one did not get through: 60000. */
  upgradeRetry?: number;
  /** How many publishes are sent without waiting for their answers: 32. */
  inFlightMax?: number;
  /** How many publishes wait to be sent until further ones are rejected: 1000. */
  waitingMax?: number;
  /** How many messages wait for an iterator until its subscription ends with an error: 1000. */
  bufferMax?: number;
  /** Told each state, like the `state` event. */
  onstate?: (detail: StateDetail) => void;
  /** In place of the global ones. */
  WebSocket?: any;
  fetch?: typeof fetch;
}

export interface PublishOptions {
  /** Says a string, or bytes, as the JSON value they are in JavaScript. */
  as?: 'json';
  /** Gives up. What was sent before has an unknown outcome. */
  signal?: AbortSignal;
}

/** Where a published message stands. */
export interface Published {
  readonly topic: string;
  readonly epoch: string;
  readonly offset: number;
}

/** A connection that comes back until it is closed. */
export interface Client extends EventTarget {
  readonly state: State;
  readonly transport: Transport | null;
  subscribe(topic: string, options?: SubscribeOptions): Subscription;
  /** A string is said as text, bytes as binary, anything else as JSON. */
  publish(topic: string, data: string | ArrayBuffer | ArrayBufferView | Json | object, options?: PublishOptions): Promise<Published>;
  close(): void;
  addEventListener(type: 'state', listener: (event: CustomEvent<StateDetail>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}

/** Connects to the gateway at `url` (http, https, ws or wss); without one, to where the page came from. */
export function connect(url?: string | URL, options?: Options): Client;

/** Why something did not work. */
export class MoongateError extends Error {
  constructor(code: string, reason: string, hint?: string);
  /** One of the protocol's codes, or one of 'url', 'closed', 'closed-by-gateway', 'refused' (by something on the way to the gateway),
   *  'unknown-outcome', 'waiting-full' and 'buffer-full'. */
  readonly code: string;
  readonly hint: string;
}

/** Throws a MoongateError if no topic can have this name. */
export function checkTopic(name: string): void;

/** A topic's path, such as /topics/sky/new%20moon. */
export function topicPath(name: string): string;

/** One event of an event stream; `data` is null where only its id counts. */
export interface StreamEvent {
  readonly id: string;
  readonly name: string;
  readonly data: string | null;
}

/** Reads an event stream. `heard` is called whenever bytes come. */
export function eventsOf(body: ReadableStream<Uint8Array>, heard?: () => void): AsyncGenerator<StreamEvent, void>;
