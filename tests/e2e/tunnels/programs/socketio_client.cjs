// A socket.io client: its transports (or `default`) come as the second argument. Prints what came of it as JSON.
const { io } = require('socket.io-client');

const [url, transports] = process.argv.slice(2);
const options = { reconnection: false, timeout: 30000, ...(transports !== 'default' && { transports: transports.split(',') }) };
const socket = io(url, options);
const said = { transports: [], answers: [] };
const fail = (why) => {
  console.log(JSON.stringify({ ...said, error: String(why?.description?.message ?? why?.message ?? why) }));
  process.exit(1);
};
setTimeout(() => fail('no answer'), 50000).unref();

async function talk() {
  for (const value of ['hello', 'zażółć 🌕', 'x'.repeat(100_000)]) {
    const answer = await socket.timeout(30000).emitWithAck('ask', value);
    if (answer.value !== value) throw new Error('another value came back');
    said.answers.push(answer.transport);
  }
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256));
  const back = await socket.timeout(30000).emitWithAck('bytes', bytes);
  if (!bytes.equals(Buffer.from(back))) throw new Error('other bytes came back');
}

socket.on('connect_error', fail);
// A default client polls first and then upgrades, before or after it counts as connected.
const settled = new Promise((resolve) => {
  socket.io.once('open', () => {
    const { engine } = socket.io;
    said.transports.push(engine.transport.name);
    if (engine.transport.name !== 'polling' || transports === 'polling') return resolve();
    engine.once('upgrade', () => {
      said.transports.push(engine.transport.name);
      resolve();
    });
  });
});
socket.on('connect', async () => {
  try {
    await settled;
    await talk();
  } catch (error) {
    fail(error);
  }
  console.log(JSON.stringify(said));
  socket.disconnect();
  process.exit(0);
});
