// A socket.io server: gives back what it is asked, and says by which transport it heard it. Prints its port.
const http = require('node:http');
const { Server } = require('socket.io');

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.end(`page for ${request.url}`);
});
const io = new Server(server, { transports: ['polling', 'websocket'] });
io.on('connection', (socket) => {
  socket.on('ask', (value, answer) => answer({ value, transport: socket.conn.transport.name }));
  socket.on('bytes', (value, answer) => answer(value));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
