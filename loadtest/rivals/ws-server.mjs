// Broadcast and echo with the npm package ws, in one process: node ws-server.mjs [--listen 127.0.0.1:0]
//
// As its documentation has it: one HTTP server, one WebSocketServer without its own, no compression. A frame is put
// together once per connection, by the package. It has no back-pressure but the process's memory.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// The package is where install.sh has put it.
const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(here, "../../target/rivals/npm/"));
const { WebSocket, WebSocketServer } = require("ws");

const place = process.argv.indexOf("--listen");
const [host, port] = (place < 0 ? "127.0.0.1:0" : process.argv[place + 1]).split(":");

const rooms = new Map();
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });
const server = createServer((_, response) => response.writeHead(426).end());

server.on("upgrade", (request, socket, head) => {
  socket.setNoDelay(true);
  sockets.handleUpgrade(request, socket, head, (connection) => {
    connection.on("error", () => {});
    if (request.url === "/echo") {
      connection.on("message", (data, binary) => connection.send(data, { binary }));
      return;
    }
    const room = rooms.get(request.url) ?? new Set();
    rooms.set(request.url, room.add(connection));
    connection.on("close", () => room.delete(connection));
    connection.on("message", (data, binary) => {
      for (const member of room) {
        if (member.readyState === WebSocket.OPEN) member.send(data, { binary });
      }
    });
  });
});

server.listen({ host, port: Number(port), backlog: 65535 }, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
