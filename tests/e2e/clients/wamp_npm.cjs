// The npm package autobahn, in the lines of JSON that README.md describes.
const autobahn = require('autobahn');
const { createInterface } = require('node:readline');

const [url, realm] = process.argv.slice(2);
const say = (...words) => process.stdout.write(JSON.stringify(words) + '\n');
const failed = (error) => say('error', error.error, error.args ?? []);

const connection = new autobahn.Connection({ url, realm, use_es6_promises: true, max_retries: 0 });
const subscriptions = new Map();
connection.onopen = (session, details) => {
  const orders = {
    async subscribe(topic, options) {
      const handler = (args, kwargs, event) => say('event', topic, args ?? [], kwargs ?? {}, event.publication);
      const subscription = await session.subscribe(topic, handler, options);
      subscriptions.set(topic, subscription);
      say('subscribed', topic, subscription.id);
    },
    async unsubscribe(topic) {
      await session.unsubscribe(subscriptions.get(topic));
      say('unsubscribed', topic);
    },
    async publish(topic, args, kwargs, options) {
      const publication = await session.publish(topic, args, kwargs, options);
      if (options.acknowledge) say('published', publication.id);
    },
    async call(procedure) { say('result', await session.call(procedure)); },
    async register(procedure) { await session.register(procedure, () => 0); },
    async leave() { connection.close('wamp.close.normal', 'enough'); },
  };
  say('joined', session.id, details.realm, details.transport.protocol.split('.')[2]);
  createInterface({ input: process.stdin }).on('line', (line) => {
    const [order, ...words] = JSON.parse(line);
    orders[order](...words).catch(failed);
  });
};
connection.onclose = (how, details) => {
  say('left', details.reason, details.message);
  process.exit();
};
connection.open();
