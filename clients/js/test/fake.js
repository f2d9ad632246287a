// A gateway of a few lines: moongate.v1, event streams and POST on topics whose history never ends. What tests want to go
// wrong goes wrong on demand.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

/** Requires packages from where the project's tests keep them, or from wherever Node finds them. */
export function need(name, how = (require) => require(name)) {
  const roots = [process.env.MOONGATE_NPM ?? new URL('../../../target/test-env/npm/x', import.meta.url), import.meta.url];
  for (const root of roots) {
    try { return how(createRequire(root)); } catch { /* Then the next. */ }
  }
  throw new Error(`The package ${name} is missing: npm install, or tests/install.sh in the project.`);
}

const { WebSocketServer } = need('ws');

export class Fake {
  topics = new Map();
  streams = new Set();
  requests = [];            // what was asked in moongate.v1, in order
  paths = [];               // what was asked in HTTP
  upgrades = true;          // whether upgrades get through
  refuses = null;           // { status, retryAfter, …problem } for every HTTP request
  held = null;              // a promise that every POST, or with `holdsAll` every request, waits for
  holdsAll = false;
  answers = (request) => request;   // changes a request before it is taken; null: it is lost

  static async start() {
    const fake = new Fake();
    fake.server = createServer((request, response) => fake.#http(request, response));
    fake.sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => offered.has('moongate.v1') && 'moongate.v1' });
    fake.sockets.on('connection', (socket) => fake.#session(socket));
    fake.server.on('upgrade', (request, socket, head) => {
      if (!fake.upgrades) {
        socket.end('HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      fake.sockets.handleUpgrade(request, socket, head, (upgraded) => fake.sockets.emit('connection', upgraded, request));
    });
    await fake.listen(0);
    return fake;
  }

  async listen(port) {
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  async stop() {
    this.cut();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  topic(name) {
    if (!this.topics.has(name)) this.topics.set(name, { epoch: '00000000000000a1', said: [], first: 1, listeners: new Set() });
    return this.topics.get(name);
  }

  /** Says something on a topic; `payload` is a string or a member such as { json: 1 }. */
  say(name, payload) {
    const topic = this.topic(name);
    topic.said.push(typeof payload === 'string' ? { text: payload } : payload);
    const offset = topic.first + topic.said.length - 1;
    for (const listener of topic.listeners) listener(offset, topic.said.at(-1));
    return offset;
  }

  /** Forgets all messages before `offset`. */
  forget(name, offset) {
    const topic = this.topic(name);
    topic.said.splice(0, offset - topic.first);
    topic.first = offset;
  }

  /** Begins the topic anew. */
  restart(name, epoch) {
    Object.assign(this.topic(name), { epoch, said: [], first: 1 });
  }

  /** Ends all connections, as a broken network would, or with a Close frame. */
  cut(code, reason) {
    for (const socket of this.sockets.clients) code ? socket.close(code, reason) : socket.terminate();
    for (const stream of this.streams) stream.destroy();
  }

  /** Calls `frame` with what `since` makes of a topic, then with what is said; returns how to stop. */
  #listen(name, since, begin, frame) {
    const topic = this.topic(name);
    const last = topic.first + topic.said.length - 1;
    const place = (offset) => ({ topic: name, epoch: topic.epoch, offset });
    const [epoch, offset] = since && since !== '0' ? since.split('-') : [topic.epoch, since ? 0 : last];
    const isOld = epoch !== topic.epoch;
    const from = isOld ? 1 : Number(offset) + 1;
    const recovered = since === '0' || (!isOld && from >= topic.first);
    begin({ ...place(last), ...(since && { recovered }) });
    if (!recovered && since) frame({ type: 'gap', topic: name, epoch: topic.epoch, from, to: topic.first - 1, ...(isOld && { previous_epoch: epoch }) });
    for (let at = Math.max(from, topic.first); at <= last; at += 1) frame({ type: 'message', ...place(at), ...topic.said[at - topic.first] });
    const listener = (at, payload) => frame({ type: 'message', topic: name, epoch: topic.epoch, offset: at, ...payload });
    topic.listeners.add(listener);
    return () => topic.listeners.delete(listener);
  }

  #session(socket) {
    const stops = new Map();
    const send = (frame) => socket.send(JSON.stringify(frame));
    socket.on('close', () => stops.forEach((stop) => stop()));
    socket.on('message', (data) => {
      const asked = JSON.parse(data);
      this.requests.push(asked);
      const request = this.answers(asked);
      if (!request) return;
      const { type, id, topic, since, ...payload } = request;
      if (type === 'error') send(request);
      if (type === 'ping') send({ type: 'pong', id });
      if (type === 'subscribe') stops.set(topic, this.#listen(topic, since, (begun) => send({ type: 'subscribed', id, ...begun }), send));
      if (type === 'unsubscribe') {
        stops.get(topic)?.();
        stops.delete(topic);
        if (id !== undefined) send({ type: 'unsubscribed', id, topic });
      }
      if (type === 'publish') {
        const offset = this.say(topic, payload);
        send({ type: 'published', id, topic, epoch: this.topic(topic).epoch, offset });
      }
    });
  }

  async #http(request, response) {
    const url = new URL(request.url, this.url);
    this.paths.push(`${request.method} ${request.url}`);
    if (this.holdsAll || request.method === 'POST') await this.held;
    const problem = ({ status, retryAfter, ...body }) => {
      const fields = { 'Content-Type': 'application/problem+json', ...(retryAfter && { 'Retry-After': retryAfter }) };
      response.writeHead(status, fields).end(JSON.stringify({ status, ...body }));
    };
    if (this.refuses) return problem(this.refuses);
    if (!url.pathname.startsWith('/topics/')) return problem({ status: 426, type: 'urn:moongate:problem:upgrade_required', title: 'Upgrade required' });
    const name = url.pathname.slice('/topics/'.length).split('/').map(decodeURIComponent).join('/');
    if (request.method === 'POST') {
      const body = Buffer.concat(await request.toArray());
      const type = request.headers['content-type'];
      const payload = type.startsWith('text/') ? { text: `${body}` } : type === 'application/json' ? { json: JSON.parse(body) } : { base64: body.toString('base64') };
      const offset = this.say(name, payload);
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ topic: name, epoch: this.topic(name).epoch, offset }));
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    this.streams.add(response);
    const since = request.headers['last-event-id'] ?? url.searchParams.get('since') ?? undefined;
    const write = ({ type, topic, ...frame }) => {
      if (type === 'gap') return response.write(`event: gap\ndata: ${JSON.stringify(frame)}\n\n`);
      const { epoch, offset, base64, text, json } = frame;
      const data = base64 ?? text ?? JSON.stringify(json);
      response.write(`id: ${epoch}-${offset}\n${base64 === undefined ? '' : 'event: binary\n'}data: ${data.replaceAll('\n', '\ndata: ')}\n\n`);
    };
    const begin = ({ epoch, offset }) => response.write(since === undefined ? `retry: 2000\n\nid: ${epoch}-${offset}\n\n` : 'retry: 2000\n\n');
    const stop = this.#listen(name, since, begin, write);
    response.on('close', () => { stop(); this.streams.delete(response); });
  }
}
