"""A network that breaks: a TCP proxy that ends its connections when it is told to, in the middle of whatever passes."""

import asyncio
import random
import re
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Cutter:
    """Listens on a free port of 127.0.0.1 and passes bytes on to `target`, while the block lasts.

    To a share of the connections, `strips`, it does what old proxies do: their requests lose `Upgrade`.
    """

    def __init__(self, target: tuple[str, int], strips: float = 0, seed: int = 0):
        self._target, self._strips = target, strips
        self._random = random.Random(seed)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._pass, "127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        self.host = f"127.0.0.1:{self.address[1]}"
        return self

    def __exit__(self, *_):
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self):
        self._server.close()
        while True:
            # What was accepted in the last moment begins, so that it ends in order.
            for _ in range(3):
                await asyncio.sleep(0)
            passing = asyncio.all_tasks() - {asyncio.current_task()}
            if not passing:
                return
            await self._cut()
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    def _call(self, doing):
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(30)

    def cut(self) -> int:
        """Ends every connection, some with a reset and some with a FIN, and says how many there were."""
        return self._call(self._cut())

    async def _cut(self) -> int:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for writer in pair:
                if self._random.random() < 0.5:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
        return len(pairs)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        except BaseException as error:
            writer.transport.abort()
            if not isinstance(error, OSError):
                raise
            return
        pair = (writer, upstream)
        self._pairs.add(pair)
        try:
            if self._random.random() < self._strips:
                upstream.write(UPGRADE.sub(b"\r\nX-Was-Upgrade:", await self._head(reader)))
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as error:
            return getattr(error, "partial", b"")

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        """In pieces of any size, so that a cut falls anywhere into a frame."""
        try:
            while piece := await reader.read(self._random.randint(1, 2000)):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.transport.abort()
