// The npm package ws, in the lines that README.md describes.
const WebSocket = require('ws');
const { createInterface } = require('node:readline');

const [url, ...options] = process.argv.slice(2);
const origin = options.find((option) => option.startsWith('origin='))?.slice('origin='.length);
const hex = (bytes) => Buffer.from(bytes).toString('hex') || '-';
const bytes = (word) => Buffer.from(word === '-' ? '' : word, 'hex');
const say = (...words) => process.stdout.write(words.join(' ') + '\n');

const socket = new WebSocket(url, {
  perMessageDeflate: options.includes('deflate') && { threshold: 0 },
  ...(origin && { origin }),
});
socket.on('open', () => say('open', hex(socket.extensions)));
socket.on('unexpected-response', async (_, response) => {
  const body = await response.toArray();
  say('refused', response.statusCode, hex(Buffer.concat(body)));
  process.exit();
});
socket.on('message', (data, isBinary) => say(isBinary ? 'binary' : 'text', hex(data)));
socket.on('ping', (data) => say('pinged', hex(data)));
socket.on('pong', (data) => say('pong', hex(data)));
socket.on('error', (error) => say('error', hex(String(error))));
socket.on('close', (code, reason) => {
  say('close', code, hex(reason));
  process.exit();
});

const orders = {
  text: (data) => socket.send(data, { binary: false }),
  binary: (data) => socket.send(data, { binary: true }),
  'text-part': (data) => socket.send(data, { binary: false, fin: false }),
  'binary-part': (data) => socket.send(data, { binary: true, fin: false }),
  part: (data) => socket.send(data, { fin: false }),
  last: (data) => socket.send(data, { fin: true }),
  ping: (data) => socket.ping(data),
};
createInterface({ input: process.stdin }).on('line', (line) => {
  const [order, ...words] = line.split(' ');
  if (order !== 'close') return orders[order](bytes(words[0]));
  const code = Number(words[0]);
  return code ? socket.close(code, bytes(words[1])) : socket.close();
});
