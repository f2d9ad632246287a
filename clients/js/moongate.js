/**
 * Moongate's client: many topics on one connection, resumed by itself, nothing lost without a word.
 *
 *     import { connect } from './moongate.js';
 *     const gate = connect('https://gate.example');
 *     gate.subscribe('news', { onmessage: (message) => console.log(message.data) });
 *     await gate.publish('news', { moon: 'up' });
 *
 * One file without dependencies, for browsers and Node 22 or later. It speaks moongate.v1 on a WebSocket, and event streams
 * with POST where upgrades do not get through. Types are in moongate.d.ts, words in README.md.
 */

/** @import * as Types from './moongate.js' */

export const PROTOCOL = 'moongate.v1';

const DEFAULTS = {
  transport: 'auto',
  backoff: { base: 500, cap: 30_000, stable: 60_000 },
  openTimeout: 10_000,
  pingInterval: 25_000,
  pongTimeout: 10_000,
  streamSilence: 90_000,
  upgradeRetry: 60_000,
  inFlightMax: 32,
  waitingMax: 1000,
  bufferMax: 1000,
};

/** After a Close with one of these, coming back would only repeat the mistake. */
const FINAL = new Set([1002, 1003, 1007, 1008, 1010]);
/** How many upgrades must fail in a row, while HTTP gets through, until event streams are tried: one may have met a gateway
 *  that was just full or restarting. Where an upgrade has worked before, a bad network is the likelier reason. */
const UPGRADES_LOST_MAX = { never: 2, before: 5 };
/** After these, a page's network may be another: back from sleep, from a tunnel, from the browser's cache of pages. */
const TURNS = ['online', 'visibilitychange', 'pageshow', 'pagehide'];
/** The longest wait that setTimeout can count. */
const WAIT_MAX = 2 ** 31 - 1;

/** Why something did not work: `code` for programs, `message` and `hint` for people. */
export class MoongateError extends Error {
  name = 'MoongateError';

  constructor(code, reason, hint = '') {
    super(reason);
    this.code = code;
    this.hint = hint;
  }
}

/** Connects to the gateway at `url`; without one, to where the page came from.
 *  @type {typeof Types.connect} */
export function connect(url, options) {
  return new Client(url, options);
}

// ---- Topics ----

/** Throws a MoongateError if no topic can have this name. */
export function checkTopic(name) {
  const fault = faultOf(name);
  if (fault) throw new MoongateError('topic-name', fault, 'Use 1 to 255 bytes of text, such as "news" or "sky/moon".');
}

function faultOf(name) {
  if (typeof name !== 'string') return 'A topic is a string.';
  if (!name.isWellFormed()) return 'A topic is Unicode text; this one holds half a character.';
  const bytes = new TextEncoder().encode(name).length;
  if (bytes < 1 || bytes > 255) return `A topic is 1 to 255 bytes long; this one is ${bytes}.`;
  if (/[\0-\x1f\x7f-\x9f]/.test(name)) return 'A topic holds no control characters.';
  if (/[*+#]/.test(name)) return '*, + and # are kept for patterns.';
  if (name.startsWith('$')) return 'Topics that start with $ are kept for the gateway.';
  if (name.split('/').some((part) => part === '' || part === '.' || part === '..'))
    return 'No part between slashes may be empty, “.” or “..”.';
  return '';
}

/** A topic's path, such as /topics/sky/new%20moon. */
export function topicPath(name) {
  checkTopic(name);
  const quote = (part) => encodeURIComponent(part).replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase());
  return '/topics/' + name.split('/').map(quote).join('/');
}

// ---- Messages ----

/** One message of a topic. `data` is a string, a JSON value or a Uint8Array, as `kind` says. */
class Message {
  constructor(frame) {
    this.topic = frame.topic;
    this.epoch = frame.epoch;
    this.offset = frame.offset;
    this.kind = 'json' in frame ? 'json' : 'base64' in frame ? 'binary' : 'text';
    this.data = { text: () => frame.text, json: () => frame.json, binary: () => toBytes(frame.base64) }[this.kind]();
    /** What is missing just before this message, or null. */
    this.gap = null;
  }

  /** Where it stands: what `since` takes to go on after it. */
  get place() { return `${this.epoch}-${this.offset}`; }

  /** The JSON value, also where the message came as a text that spells one, as all do on an event stream. */
  json() { return this.kind === 'json' ? this.data : JSON.parse(this.data); }
}

function toBytes(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

function toBase64(bytes) {
  let chars = '';
  for (let at = 0; at < bytes.length; at += 8192) chars += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(chars);
}

/** The member of a publish that carries `data`. */
function payloadOf(data, as) {
  if (as === 'json') return { json: snapshot(data) };
  if (typeof data === 'string') return { text: wellFormed(data) };
  if (data instanceof ArrayBuffer) return { base64: toBase64(new Uint8Array(data)) };
  if (ArrayBuffer.isView(data)) return { base64: toBase64(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) };
  return { json: snapshot(data) };
}

/** Half a character is nothing that UTF-8 could carry: it would be heard as another one. */
function wellFormed(text) {
  if (text.isWellFormed()) return text;
  throw new MoongateError('payload', 'A text is Unicode; this one holds half a character.', 'Cut text between characters, or say bytes.');
}

/** The JSON value as it is now: what is said may have to wait, and must not change meanwhile. */
function snapshot(value) {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError('This is no JSON value.');
  return JSON.parse(text);
}

function placeOf(text) {
  const [, epoch, offset] = /^([0-9a-f]{16})-(\d+)$/.exec(text) ?? [];
  return epoch ? { epoch, offset: Number(offset) } : null;
}

/** Waits, but no longer than until `signal` says so. @returns {Promise<void>} */
function pause(millis, signal) {
  return new Promise((wake) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      wake();
    };
    const timer = setTimeout(end, millis);
    signal.addEventListener('abort', end);
  });
}

/** Calls what the caller gave us; what it throws is its own and must not stop the connection. */
function call(handler, argument) {
  try {
    handler?.(argument);
  } catch (error) {
    if (globalThis.reportError) globalThis.reportError(error);
    else queueMicrotask(() => { throw error; });
  }
}

// ---- A subscription ----

/** One topic that is heard, across all connections until `unsubscribe`. Made by `client.subscribe`.
 *  @implements {Types.Subscription} */
class Subscription {
  #client;
  #handlers;
  #position;          // of the last message or gap
  #all;               // whether all that is kept was asked for, and none of it has come yet
  #gap = null;        // told, and not yet attached to a message
  #buffer = [];       // for the iterator, where there is no onmessage
  #readers = [];      // iterators that wait
  #settle;
  #end = null;        // { error } once it is over

  /** @param {Client} client @param {string} topic @param {Types.SubscribeOptions} options */
  constructor(client, topic, { since, onmessage, ongap, onsubscribed, onerror }) {
    this.#client = client;
    this.topic = topic;
    this.#handlers = { onmessage, ongap, onsubscribed, onerror };
    this.#all = since === '0' || since === 0;
    this.#position = since === undefined || since === null || this.#all ? null : placeOf(since);
    if (since !== undefined && since !== null && !this.#all && !this.#position)
      throw new MoongateError('since', `since is neither "0" nor a place: ${since}`, 'Use the place of a message.');
    /** Whether the server has confirmed it on the connection there is now. */
    this.live = false;
    /** Settled by the first answer to it. */
    this.ready = new Promise((resolve, reject) => { this.#settle = { resolve, reject }; });
    this.ready.catch(() => {});
  }

  /** The last place that was heard of, to hand to `since` some other time; null before there is one. */
  get place() { return this.#position && `${this.#position.epoch}-${this.#position.offset}`; }

  get closed() { return this.#end !== null; }

  unsubscribe() { this.#client._leave(this); }

  async *[Symbol.asyncIterator]() {
    if (this.#handlers.onmessage) throw new TypeError('This subscription has an onmessage: its messages go there.');
    try {
      for (;;) {
        if (this.#buffer.length) yield this.#buffer.shift();
        else if (this.#end?.error) throw this.#end.error;
        else if (this.#end) return;
        else await new Promise((wake) => { this.#readers.push(wake); });
      }
    } finally {
      this.unsubscribe();
    }
  }

  _since() { return this.place ?? (this.#all ? '0' : undefined); }

  _subscribed({ epoch, offset, recovered }) {
    this.live = true;
    this._begin(epoch, offset);
    this.#settle.resolve({ epoch, offset, recovered });
    call(this.#handlers.onsubscribed, { topic: this.topic, epoch, offset, recovered });
  }

  /** Where live messages begin; a replay says so by itself. */
  _begin(epoch, offset) {
    if (epoch !== undefined && !this.#position && !this.#all) this.#position = { epoch, offset };
  }

  _message(frame) {
    const last = this.#position;
    if (last?.epoch === frame.epoch) {
      if (frame.offset <= last.offset) return;
      if (frame.offset > last.offset + 1) this.#miss(frame.epoch, last.offset + 1, frame.offset - 1);
    } else if (last) {
      this.#miss(frame.epoch, 1, frame.offset - 1, last.epoch);
    }
    this.#position = { epoch: frame.epoch, offset: frame.offset };
    this.#all = false;
    const message = new Message(frame);
    message.gap = this.#gap;
    this.#gap = null;
    if (this.#handlers.onmessage) call(this.#handlers.onmessage, message);
    else this.#keep(message);
  }

  _gap({ epoch, from, to, previous_epoch: previous }) {
    const last = this.#position;
    if (last?.epoch === epoch) {
      if (to > last.offset) this.#miss(epoch, Math.max(from, last.offset + 1), to);
    } else {
      this.#miss(epoch, from, to, last?.epoch ?? previous);
    }
  }

  #miss(epoch, from, to, previousEpoch) {
    const gap = { topic: this.topic, epoch, from, to, ...(previousEpoch && { previousEpoch }) };
    this.#position = { epoch, offset: to };
    // Two in a row are one, as far as a message can say: it begins where the first did.
    this.#gap = this.#gap?.epoch === epoch ? { ...gap, ...this.#gap, to } : gap;
    call(this.#handlers.ongap, gap);
  }

  #keep(message) {
    if (this.#buffer.length < this.#client._options.bufferMax) this.#buffer.push(message);
    else {
      this.#client._leave(this, new MoongateError('buffer-full',
        `${this.#buffer.length} messages of ${this.topic} wait for the reader.`,
        'Read faster, raise bufferMax, or subscribe again with the place of the last message that was read.'));
    }
    this.#wake();
  }

  _finish(error) {
    if (this.#end) return;
    this.live = false;
    this.#end = { error };
    this.#settle.reject(error ?? new MoongateError('closed', 'The subscription was given up before it began.'));
    if (error) call(this.#handlers.onerror, error);
    this.#wake();
  }

  #wake() {
    for (const wake of this.#readers.splice(0)) wake();
  }
}

// ---- The client ----

/** A connection that comes back. Made by `connect`.
 *  @implements {Types.Client} */
class Client extends EventTarget {
  #base;
  #subscriptions = new Map();
  #waiting = [];            // publishes that have not been sent
  #asked = new Map();       // requests without answer, by id
  #inFlight = 0;            // publishes among them
  #number = 0;
  #state = /** @type {Types.State} */ ('connecting');
  #link = null;
  #attempt = 0;
  #lost = {};               // code and reason of the last connection's end
  #timer = null;            // until the next attempt
  #stable = null;           // until the connection counts as stable
  #upgraded = false;        // an upgrade has worked
  #upgradesLost = 0;        // in a row, while HTTP got through
  #fellBack = null;         // when, if on event streams for want of upgrades
  #lines = new Map();       // by topic: the last POST, so that they keep their order
  #ended = new AbortController();
  #turns = (event) => this.#turn(event);

  /** @param {string | URL} [url] @param {Types.Options} [options] */
  constructor(url = globalThis.location?.origin, options = {}) {
    super();
    if (!url) throw new MoongateError('url', 'No page says where the gateway is.', 'Name it, as in connect("https://gate.example").');
    this._options = { ...DEFAULTS, ...options, backoff: { ...DEFAULTS.backoff, ...options.backoff } };
    this.#base = new URL(url, globalThis.location?.href);
    this.#base.protocol = this.#base.protocol.replace(/^ws/, 'http');
    if (!/^https?:$/.test(this.#base.protocol)) throw new MoongateError('url', 'A gateway is at https, http, wss or ws.');
    this.#base.search = this.#base.hash = '';
    this.#base.pathname = this.#base.pathname.replace(/\/+$/, '');
    for (const turn of TURNS) globalThis.addEventListener?.(turn, this.#turns);
    // So that whoever made it can listen to its first state.
    queueMicrotask(() => { if (this.#state !== 'closed') this.#connect(); });
  }

  /** 'connecting', 'open', 'resuming' or 'closed'. */
  get state() { return this.#state; }

  /** 'websocket' or 'events' while there is a connection, else null. */
  get transport() { return this.#state === 'open' ? this.#link.transport : null; }

  /** Hears a topic until `unsubscribe`. @param {string} topic @param {Types.SubscribeOptions} [options] */
  subscribe(topic, options = {}) {
    checkTopic(topic);
    if (this.#state === 'closed') throw closed();
    if (this.#subscriptions.has(topic))
      throw new MoongateError('already-subscribed', `${topic} is heard already.`, 'Unsubscribe first, or share the subscription.');
    const subscription = new Subscription(this, topic, options);
    this.#subscriptions.set(topic, subscription);
    if (this.#state === 'open') this.#ask(subscription);
    return subscription;
  }

  /** Says `data` and resolves to its place. What was sent and not answered when the connection broke is not sent again.
   *  @param {string} topic @param {any} data @param {Types.PublishOptions} [options] @returns {Promise<Types.Published>} */
  async publish(topic, data, { as, signal } = {}) {
    checkTopic(topic);
    signal?.throwIfAborted();
    if (this.#state === 'closed') throw closed();
    if (this.#waiting.length >= this._options.waitingMax)
      throw new MoongateError('waiting-full', `${this.#waiting.length} publishes wait to be sent.`,
        'Await publish before the next, or raise waitingMax.');
    const request = { type: 'publish', topic, ...payloadOf(data, as) };
    return new Promise((resolve, reject) => {
      const publish = { request, resolve, reject };
      this.#waiting.push(publish);
      if (signal) this.#abandon(publish, signal);
      this.#flush();
    });
  }

  /** Rejects `publish` when `signal` says so; what was not sent yet never will be. */
  #abandon(publish, signal) {
    const { resolve, reject } = publish;
    const abort = () => {
      const place = this.#waiting.indexOf(publish);
      if (place >= 0) this.#waiting.splice(place, 1);
      reject(place >= 0 ? signal.reason : unknownOutcome('it was aborted before the answer came'));
    };
    const settle = (how) => (value) => {
      signal.removeEventListener('abort', abort);
      how(value);
    };
    [publish.resolve, publish.reject] = [settle(resolve), settle(reject)];
    signal.addEventListener('abort', abort, { once: true });
  }

  /** Ends it for good. Subscriptions end; publishes that were not sent are rejected. */
  close() {
    if (this.#state !== 'closed') this.#finish({ code: 1000, reason: '' });
  }

  // -- Connecting --

  #connect(fallsBack = false) {
    clearTimeout(this.#timer);
    this.#timer = null;
    const { transport, upgradeRetry } = this._options;
    const isRecent = this.#fellBack !== null && Date.now() - this.#fellBack < upgradeRetry;
    const onEvents = transport === 'events' || fallsBack || isRecent;
    const Link = onEvents ? EventsLink : SocketLink;
    const on = {
      lines: this.#lines,
      ended: this.#ended.signal,
      up: () => { if (this.#link === link) this.#up(); },
      // The answer to a POST is one, also when the streams beside it have ended.
      said: (frame) => { if (this.#link === link || this.#asked.get(frame.id)?.link === link) this.#hear(frame); },
      down: (how) => { if (this.#link === link) this.#down(how); },
    };
    let link;
    try {
      link = new Link(this.#base, this._options, on);
    } catch (error) {
      // No WebSocket here, or one that a page under https may not open.
      return this.#down({ opened: false, code: null, reason: error.message, unread: true });
    }
    this.#link = link;
    // A plain connecting was announced by whoever made the client.
    if (this.#attempt) this.#tell(this.#state, { ...this.#lost, attempt: this.#attempt, transport: link.transport });
  }

  /** What befell the page or its network: whoever waits tries at once, and what is open must prove it. */
  #turn({ type, persisted }) {
    if (type === 'visibilitychange' && globalThis.document?.hidden) return;
    if (type === 'pagehide') {
      // A page that is kept for the way back must not hold a connection, and could not answer on it.
      if (persisted && this.#link) {
        this.#link.close();
        this.#down({ opened: true, code: null, reason: 'the page was left' });
      }
    } else if (this.#timer) this.#connect();
    else this.#link?.prove();
  }

  #up() {
    const link = this.#link;
    if (link.transport === 'websocket') [this.#upgraded, this.#upgradesLost, this.#fellBack] = [true, 0, null];
    this.#stable = setTimeout(() => { this.#attempt = 0; }, this._options.backoff.stable);
    const reason = this.#fellBack === null ? '' : 'Upgrades to WebSocket do not get through; event streams and POST do.';
    const waiting = [...this.#subscriptions.values()];
    this.#tell('open', { transport: link.transport, reason });
    // Whoever was told may have done anything.
    for (const subscription of waiting) {
      if (this.#link === link && this.#subscriptions.get(subscription.topic) === subscription) this.#ask(subscription);
    }
    this.#flush();
  }

  /** `opened`: it was up before. `unread`: HTTP answers, but the upgrade did not get through. */
  #down({ opened, code, reason, unread = false, retryAfter = 0 }) {
    const { transport, backoff } = this._options;
    this.#forget(reason);
    if (opened && FINAL.has(code)) {
      return this.#finish({ code, reason }, new MoongateError('closed-by-gateway', `The gateway closed with ${code}: ${reason}`));
    }
    this.#upgradesLost = unread ? this.#upgradesLost + 1 : 0;
    const lostMax = this.#upgraded ? UPGRADES_LOST_MAX.before : UPGRADES_LOST_MAX.never;
    if (unread && transport === 'auto' && (this.#fellBack !== null || this.#upgradesLost >= lostMax)) {
      this.#fellBack = Date.now();
      return this.#connect(true);
    }
    // Full jitter, also after what the gateway asks for: whoever was cut off together does not come back together.
    const wait = Math.random() * Math.min(backoff.cap, backoff.base * 2 ** Math.min(this.#attempt, 30));
    const retryIn = Math.min(wait + retryAfter, WAIT_MAX);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), retryIn);
    const state = this.#state === 'connecting' ? 'connecting' : 'resuming';
    this.#lost = { code, reason };
    this.#tell(state, { ...this.#lost, attempt: this.#attempt, retryIn: Math.round(retryIn), transport: null });
  }

  /** The connection is gone, and with it every answer that was still to come on it. */
  #forget(reason) {
    this.#link = null;
    clearTimeout(this.#stable);
    for (const subscription of this.#subscriptions.values()) subscription.live = false;
    for (const [id, { link, publish }] of this.#asked) {
      if (publish && link.answersAlone && this.#state !== 'closed') continue;
      this.#asked.delete(id);
      if (publish) this.#inFlight -= 1;
      publish?.reject(unknownOutcome(reason));
    }
  }

  #finish({ code, reason }, error) {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#link?.close();
    this.#ended.abort();
    this.#state = 'closed';
    this.#forget(reason || 'the client was closed');
    for (const turn of TURNS) globalThis.removeEventListener?.(turn, this.#turns);
    for (const publish of this.#waiting.splice(0)) publish.reject(error ?? closed());
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    this.#tell('closed', { code, reason, transport: null });
    for (const subscription of subscriptions) subscription._finish(error);
  }

  #tell(state, detail) {
    this.#state = state;
    const whole = { state, code: null, reason: '', attempt: 0, retryIn: 0, ...detail };
    call(this._options.onstate, whole);
    this.dispatchEvent(new CustomEvent('state', { detail: whole }));
  }

  // -- Speaking --

  #send(request, asked) {
    const id = ++this.#number;
    this.#asked.set(id, { ...asked, link: this.#link });
    this.#link.send({ ...request, id });
  }

  #ask(subscription) {
    this.#send({ type: 'subscribe', topic: subscription.topic, since: subscription._since() }, { subscription });
  }

  #flush() {
    while (this.#state === 'open' && this.#waiting.length && this.#inFlight < this._options.inFlightMax) {
      const publish = this.#waiting.shift();
      this.#inFlight += 1;
      this.#send(publish.request, { publish });
    }
  }

  _leave(subscription, error) {
    if (this.#subscriptions.get(subscription.topic) === subscription) {
      this.#subscriptions.delete(subscription.topic);
      if (this.#state === 'open') this.#link.send({ type: 'unsubscribe', topic: subscription.topic });
    }
    subscription._finish(error);
  }

  // -- Hearing --

  #hear(frame) {
    const asked = this.#asked.get(frame.id);
    if (asked) {
      this.#asked.delete(frame.id);
      if (asked.publish) this.#inFlight -= 1;
    }
    const subscription = this.#subscriptions.get(frame.topic);
    switch (frame.type) {
      case 'message': if (subscription?.live) subscription._message(frame); break;
      case 'gap': if (subscription?.live) subscription._gap(frame); break;
      case 'place': if (subscription?.live) subscription._begin(frame.epoch, frame.offset); break;
      case 'subscribed': if (asked && asked.subscription === subscription) subscription._subscribed(frame); break;
      case 'published': asked?.publish?.resolve({ topic: frame.topic, epoch: frame.epoch, offset: frame.offset }); break;
      case 'error': if (asked) this.#fail(asked, frame); break;
    }
    if (asked?.publish) this.#flush();
  }

  #fail({ publish, subscription }, { code, reason, hint }) {
    const error = new MoongateError(code, reason, hint);
    publish?.reject(error);
    if (!subscription || this.#subscriptions.get(subscription.topic) !== subscription) return;
    if (code !== 'busy') {
      this.#subscriptions.delete(subscription.topic);
      subscription._finish(error);
      return;
    }
    const link = this.#link;
    pause(Math.random() * 2 * this._options.backoff.base, this.#ended.signal).then(() => {
      if (this.#link === link && this.#subscriptions.get(subscription.topic) === subscription) this.#ask(subscription);
    });
  }
}

function closed() {
  return new MoongateError('closed', 'The client is closed.', 'Make a new one with connect.');
}

function unknownOutcome(reason) {
  const words = reason || 'the connection broke before the answer came';
  return new MoongateError('unknown-outcome', `Nobody knows whether this was published: ${words}.`,
    'Listen to the topic to find out, or publish again if hearing it twice does no harm.');
}

// ---- moongate.v1 on a WebSocket ----

class SocketLink {
  transport = 'websocket';
  answersAlone = false;
  #socket;
  #options;
  #on;
  #base;
  #timer = null;
  #opened = false;
  #heard = false;
  #done = false;

  constructor(base, options, on) {
    [this.#base, this.#options, this.#on] = [base, options, on];
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) throw new Error('There is no WebSocket here: use Node 22 or later, or pass one as the option WebSocket.');
    const socket = new WebSocket(base.href.replace(/^http/, 'ws').replace(/\/$/, '') + '/connect', [PROTOCOL]);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#end(1006, 'the upgrade took too long'), options.openTimeout);
    socket.onopen = () => {
      if (socket.protocol !== PROTOCOL) return this.#end(1006, `the server does not speak ${PROTOCOL}`);
      clearTimeout(this.#timer);
      this.#opened = true;
      this.#watch();
      on.up();
    };
    socket.onmessage = ({ data }) => {
      this.#heard = true;
      let frame;
      try { frame = Object(JSON.parse(data)); } catch { return this.#end(1007, 'the gateway sent what is no JSON'); }
      on.said(frame);
    };
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // A close follows where there was a connection, and in most places also where there was none.
    socket.onerror = () => { if (!this.#opened) this.#end(1006, ''); };
  }

  send(request) { this.#socket.send(JSON.stringify(request)); }

  close() { this.#cut(1000); }

  /** Breaks silence with a ping. */
  #watch() {
    this.#heard = false;
    this.#timer = setTimeout(() => {
      if (this.#heard) this.#watch();
      else this.prove();
    }, this.#options.pingInterval);
  }

  /** If even a ping is not answered, the connection is dead. */
  prove() {
    if (!this.#opened) return;
    clearTimeout(this.#timer);
    this.#heard = false;
    this.send({ type: 'ping' });
    this.#timer = setTimeout(() => {
      if (this.#heard) this.#watch();
      else this.#end(1006, 'the gateway did not answer a ping');
    }, this.#options.pongTimeout);
  }

  /** A dead connection would take minutes to close in order, so nobody waits for that. */
  #cut(code) {
    if (this.#done) return false;
    this.#done = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Closing what is not open yet is an error of its own, and known.
    socket.onerror = () => {};
    if (socket.readyState < 2) socket.close(code);
    return true;
  }

  async #end(code, reason) {
    if (!this.#cut()) return;
    if (this.#opened) return this.#on.down({ opened: true, code, reason });
    const seen = await ask(this.#base, this.#options, this.#on.ended);
    this.#on.down({ opened: false, code, ...seen, reason: reason || seen.reason });
  }
}

/** Asks in plain HTTP whether anyone is there, and why an upgrade was refused, which browsers do not tell. */
async function ask(base, options, ended, wanted = 'GET') {
  const fetch = options.fetch ?? globalThis.fetch;
  // Other origins may not read the answer, but learn that there is one.
  const [mode, method] = isOther(base) ? ['no-cors', 'GET'] : ['cors', wanted];
  const signal = AbortSignal.any([ended, AbortSignal.timeout(options.openTimeout)]);
  try {
    const answer = await fetch(at(base, '/connect'), { method, mode, cache: 'no-store', signal });
    const { reason, hint } = await problemOf(answer);
    const retryAfter = Number(answer.headers.get('Retry-After') ?? 0) * 1000 || 0;
    // From nobody, or from a gateway that takes no one now: that does not say that upgrades are lost.
    return { unread: ![408, 429, 500, 502, 503, 504].includes(answer.status), retryAfter, reason: [reason, hint].filter(Boolean).join(' ') };
  } catch {
    return { unread: false, reason: `Nothing answers at ${base.host}.` };
  }
}

const isOther = (base) => globalThis.location !== undefined && globalThis.location.origin !== base.origin;
const at = (base, path) => base.href.replace(/\/$/, '') + path;

/** The code and the sentence of an RFC 9457 problem, or what there is instead. No code: it is not the gateway's. */
async function problemOf(answer) {
  try {
    const { type, title, detail, hint } = JSON.parse(await answer.text());
    const [, label] = /^urn:moongate:problem:(\w+)$/.exec(type) ?? [];
    return { code: label ? codeOf(label) : null, reason: [`${answer.status} ${title}`, detail].filter(Boolean).join(': '), hint };
  } catch {
    const reason = answer.status ? `${answer.status} ${answer.statusText}`.trim() : 'Pages of another origin may not read the answer.';
    return { code: null, reason, hint: '' };
  }
}

/** A problem's name as moongate.v1 has it, where it has one. */
function codeOf(label) {
  const known = {
    subscribe_only: 'may-only-listen', origin_refused: 'may-only-listen', topics_full: 'topics-full',
    body_too_large: 'payload', not_text: 'payload', not_json: 'payload', since_malformed: 'since',
    connections_full: 'busy', memory_full: 'busy', draining: 'busy', body_timeout: 'busy', body_incomplete: 'busy',
    not_ordered: 'unknown-outcome',
  };
  return known[label] ?? (label.startsWith('topic_') ? 'topic-name' : label.replaceAll('_', '-'));
}

// ---- The same on event streams and POST ----

/** Takes the requests of moongate.v1 and answers with its frames. */
class EventsLink {
  transport = 'events';
  /** Publishes are requests of their own: their answers may come when the streams have ended. */
  answersAlone = true;
  #base;
  #options;
  #on;
  #streams = new Map();     // by topic: { stop, isUp }
  #done = false;
  #fetch;

  constructor(base, options, on) {
    [this.#base, this.#options, this.#on] = [base, options, on];
    this.#fetch = (...all) => (options.fetch ?? globalThis.fetch)(...all);
    // Where that can be asked, it is the question that no console shows as a failure.
    ask(base, options, on.ended, 'OPTIONS').then(({ unread, reason, retryAfter }) => {
      if (unread) on.up();
      else on.down({ opened: false, code: null, reason, retryAfter });
    });
  }

  /** @param {any} request */
  send({ type, id, topic, since, ...payload }) {
    if (type === 'subscribe') this.#listen(id, topic, since);
    if (type === 'publish') {
      const { lines, ended } = this.#on;
      const before = lines.get(topic) ?? Promise.resolve();
      const line = before.then(() => ended.aborted || this.#post(id, topic, payload)).then(() => {
        if (lines.get(topic) === line) lines.delete(topic);
      });
      lines.set(topic, line);
    }
    if (type === 'unsubscribe') {
      this.#streams.get(topic)?.stop.abort();
      this.#streams.delete(topic);
    }
  }

  /** A browser ends what passed over a network that is gone; other silence ends by itself. */
  prove() {}

  close() {
    this.#done = true;
    for (const { stop } of this.#streams.values()) stop.abort();
  }

  /** Keeps one stream open for as long as another is; when none is left, everything begins anew. */
  async #listen(id, topic, since) {
    const stream = { stop: new AbortController(), isUp: false, place: since };
    this.#streams.set(topic, stream);
    const { base, cap, stable } = this.#options.backoff;
    for (let attempt = 0; !stream.stop.signal.aborted; attempt += 1) {
      const began = Date.now();
      let reason = 'the stream ended';
      try {
        const refused = await this.#read(id, topic, stream);
        if (refused) {
          this.#streams.delete(topic);
          return this.#say({ type: 'error', id, ...refused, code: refused.code ?? 'refused' });
        }
      } catch (error) {
        // Browsers tell a page neither that its origin is not welcome nor anything else of why.
        reason = isOther(this.#base) && !stream.isUp ? `${error.message} (or MOONGATE_ORIGINS does not name ${location.origin})` : error.message;
      }
      stream.isUp = false;
      if (this.#done || stream.stop.signal.aborted) return;
      if (![...this.#streams.values()].some((other) => other.isUp)) {
        this.close();
        return this.#on.down({ opened: true, code: null, reason });
      }
      if (Date.now() - began > stable) attempt = 0;
      await pause(Math.random() * Math.min(cap, base * 2 ** Math.min(attempt, 30)), stream.stop.signal);
    }
  }

  /** Reads one stream to its end; returns why it was refused for good, if it was. */
  async #read(id, topic, stream) {
    const { stop, place } = stream;
    const headers = { Accept: 'text/event-stream', ...(place && place !== '0' && { 'Last-Event-ID': place }) };
    const url = at(this.#base, topicPath(topic)) + (place === '0' ? '?since=0' : '');
    const cut = new AbortController();
    const silence = new Silence(this.#options.streamSilence, () => cut.abort(new Error('the stream fell silent')));
    const answer = await this.#fetch(url, { headers, cache: 'no-store', signal: AbortSignal.any([stop.signal, cut.signal]) }).catch((error) => {
      silence.end();
      throw error;
    });
    try {
      const isFinal = answer.status >= 400 && answer.status < 500 && answer.status !== 408 && answer.status !== 429;
      if (isFinal) return await problemOf(answer);
      if (!answer.ok) throw new Error((await problemOf(answer)).reason);
      const type = answer.headers.get('Content-Type') ?? 'nothing';
      if (!type.startsWith('text/event-stream')) throw new Error(`${type} came instead of an event stream`);
      stream.isUp = true;
      this.#say({ type: 'subscribed', id, topic });
      for await (const event of eventsOf(answer.body, () => silence.break())) {
        const frame = frameOf(topic, event);
        if (event.id) stream.place = event.id;
        if (frame) this.#say(frame);
      }
    } finally {
      silence.end();
    }
  }

  async #post(id, topic, { text, json, base64 }) {
    const [type, body] = text !== undefined ? ['text/plain; charset=utf-8', text]
      : base64 !== undefined ? ['application/octet-stream', toBytes(base64)]
      : ['application/json', JSON.stringify(json)];
    try {
      const signal = AbortSignal.timeout(this.#options.streamSilence);
      const answer = await this.#fetch(at(this.#base, topicPath(topic)), { method: 'POST', headers: { 'Content-Type': type }, body, signal });
      if (answer.ok) return this.#on.said({ type: 'published', id, ...await answer.json() });
      const { code, reason, hint } = await problemOf(answer);
      if (code) this.#on.said({ type: 'error', id, code, reason, hint });
      // Not the gateway's answer: whoever it came from may have passed the message on before.
      else this.#lost(id, reason);
    } catch (error) {
      this.#lost(id, error.message);
    }
  }

  #lost(id, reason) {
    const { code, message, hint } = unknownOutcome(reason);
    this.#on.said({ type: 'error', id, code, reason: message, hint });
  }

  #say(frame) {
    if (!this.#done) this.#on.said(frame);
  }
}

/** Calls `act` once nothing has broken it for so long. */
class Silence {
  #timer;
  #start;

  constructor(millis, act) {
    this.#start = () => { this.#timer = setTimeout(act, millis); };
    this.#start();
  }

  break() {
    clearTimeout(this.#timer);
    this.#start();
  }

  end() { clearTimeout(this.#timer); }
}

/** What an event says in moongate.v1. */
function frameOf(topic, { id, name, data }) {
  if (name === 'gap') return { type: 'gap', topic, ...JSON.parse(data) };
  const place = placeOf(id);
  if (!place) return null;
  if (data === null) return { type: 'place', topic, ...place };
  return { type: 'message', topic, ...place, ...(name === 'binary' ? { base64: data } : { text: data }) };
}

/** The events of a body, as HTML §9.2.6 reads them; of a block without data, only its id counts, and data is null. */
export async function* eventsOf(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = { id: '', name: '', data: null };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard?.();
      rest += value;
      // A CR at the end may be half a line end.
      const end = rest.endsWith('\r') ? rest.length - 1 : rest.length;
      let from = 0;
      for (const { 0: mark, index } of rest.slice(0, end).matchAll(/\r\n|\n|\r/g)) {
        const line = rest.slice(from, index);
        from = index + mark.length;
        if (line) field(line, event);
        else {
          if (event.data !== null || event.id) yield event;
          event = { id: '', name: '', data: null };
        }
      }
      rest = rest.slice(from);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function field(line, event) {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
  if (name === 'id' && !value.includes('\0')) event.id = value;
  if (name === 'event') event.name = value;
  if (name === 'data') event.data = event.data === null ? value : `${event.data}\n${value}`;
}
