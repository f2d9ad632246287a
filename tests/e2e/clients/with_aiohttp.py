"""aiohttp's client, in the lines that README.md describes."""

import asyncio
import sys

import aiohttp

TYPES = {
    aiohttp.WSMsgType.TEXT: "text",
    aiohttp.WSMsgType.BINARY: "binary",
    aiohttp.WSMsgType.PING: "pinged",
    aiohttp.WSMsgType.PONG: "pong",
}


def say(*words):
    print(*words, flush=True)


def to_hex(data: bytes | str) -> str:
    return (data.encode() if isinstance(data, str) else data).hex() or "-"


async def obey(socket, lines):
    while line := await lines.readline():
        order, *words = line.decode().split()
        data = bytes.fromhex(words[-1].strip("-"))
        match order:
            case "text":
                await socket.send_str(data.decode())
            case "binary":
                await socket.send_bytes(data)
            case "ping":
                await socket.ping(data)
            case "close":
                await socket.close(code=int(words[0]), message=data)


async def listen(socket):
    """To the end. After a close of our own, the library keeps the code that came back, and not the reason."""
    while True:
        message = await socket.receive()
        match message.type:
            case aiohttp.WSMsgType.CLOSE:
                return say("close", message.data, to_hex(message.extra))
            case aiohttp.WSMsgType.CLOSING:
                while socket.close_code is None:
                    await asyncio.sleep(0.01)
                return say("close", socket.close_code, "-")
            case aiohttp.WSMsgType.CLOSED | aiohttp.WSMsgType.ERROR:
                return say("close", socket.close_code, "-")
        say(TYPES[message.type], to_hex(message.data))
        if message.type == aiohttp.WSMsgType.PING:
            await socket.pong(message.data)


async def main(url: str, *options: str):
    origin = next((option.removeprefix("origin=") for option in options if option.startswith("origin=")), None)
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with aiohttp.ClientSession() as session:
        try:
            # Without autoping, so that pings and pongs are seen.
            compress = 15 if "deflate" in options else 0
            socket = await session.ws_connect(url, autoping=False, compress=compress, origin=origin)
        except aiohttp.WSServerHandshakeError as refusal:
            say("refused", refusal.status, "-")
            return
        say("open", to_hex("permessage-deflate" if socket.compress else ""))
        tasks = [asyncio.create_task(task) for task in (obey(socket, lines), listen(socket))]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        # A close that was ordered is still under way in one when the other has said so.
        await asyncio.gather(*waiting)


asyncio.run(main(*sys.argv[1:]))
