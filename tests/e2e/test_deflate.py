"""Compressed messages (RFC 7692): with clients that others wrote, and byte for byte."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import time
import zlib

import aiohttp
import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

import raw
from events import EventStream
from gateway import PATIENCE, until
from gauges import cpu_seconds
from raw import CLOSE, TEXT, BINARY, Connection, authority, frame, open_websocket, upgrade
from test_control import samples, total
from test_topics import NODE

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
RSV1 = 0x40
TAIL = b"\x00\x00\xff\xff"
MIB = 1 << 20


def deflate(payload: bytes, level: int = 6) -> bytes:
    """A message on its own, without its tail."""
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflate(payload: bytes, window_bits: int = 15) -> bytes:
    return zlib.decompressobj(wbits=-window_bits).decompress(payload + TAIL)


def compressed(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A masked frame whose payload, compressed bytes, begins a compressed message."""
    first, *rest = frame(opcode, payload, fin)
    return bytes([first | RSV1, *rest])


def open_compressed(address, path: str, offer: str = OFFER) -> Connection:
    connection = Connection(address)
    connection.send(upgrade(path, authority(address), offer))
    answer = connection.head()
    assert answer.status == 101 and answer.one("Sec-WebSocket-Extensions").startswith(BOTH), answer
    return connection


def any_frame(connection: Connection) -> tuple[bool, int, bytes]:
    """Whether it is compressed, the opcode, the payload."""
    first, second = connection.take(2)
    length = second
    if second == 126:
        (length,) = struct.unpack("!H", connection.take(2))
    elif second == 127:
        (length,) = struct.unpack("!Q", connection.take(8))
    assert first & 0xB0 == 0x80, f"FIN, and of the other bits at most RSV1, in {first:#x}"
    return bool(first & RSV1), first & 0x0F, connection.take(length)


def message(connection: Connection) -> tuple[int, bytes]:
    is_compressed, opcode, payload = any_frame(connection)
    return opcode, inflate(payload) if is_compressed else payload


def story(length: int) -> str:
    """Text that compresses as text does."""
    words = (f"{number * 7919 % 1000} bottles of beer on wall {number}, " for number in range(length))
    return "".join(words)[:length]


def test_websockets_chats_with_others(start, topic):
    """G4, G14: Python's client compresses as it comes; who does not, and an event stream, hear the same. Each message is
    compressed once, for however many subscribers."""
    gateway = start()
    url = gateway.ws(f"/topics/{topic}")
    documents = [json.dumps({"number": number, "text": story(number * 97)}) for number in range(100)]
    with (
        connect(url, proxy=None) as one,
        connect(url, proxy=None) as other,
        connect(url, proxy=None, compression=None) as plain,
        EventStream(gateway.url(f"/topics/{topic}")) as stream,
    ):
        assert one.response.headers["Sec-WebSocket-Extensions"].startswith(BOTH)
        assert "Sec-WebSocket-Extensions" not in plain.response.headers
        for speaker in (one, plain):
            for document in documents:
                speaker.send(document)
            for document in documents:
                for listener in (one, other, plain):
                    assert listener.recv(timeout=PATIENCE) == document
                assert stream.next().data == document
        for speaker in (one, plain):
            speaker.send(bytes(100_000 // 2))
            for listener in (one, other, plain):
                assert listener.recv(timeout=PATIENCE) == bytes(50_000)
            assert stream.next().bytes() == bytes(50_000)
    found = samples(gateway)
    large = sum(len(document) >= 256 for document in documents) + 1
    # One whole tick's budget is more than all of this.
    assert total(found, "compression_messages_total", 'way="deflate"') == 2 * large
    assert total(found, "compression_messages_total", 'way="inflate"') == len(documents) + 1
    sent, heard = (total(found, f"compression_bytes_{way}_total", 'way="deflate"') for way in ("out", "in"))
    assert 0 < sent < heard / 2


def test_aiohttp(gateway, topic):
    """G4: aiohttp keeps its context unless it is told not to; here it is told."""

    async def scenario():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(gateway.url(f"/topics/{topic}"), compress=15, max_msg_size=0) as one,
            session.ws_connect(gateway.url(f"/topics/{topic}"), compress=0) as plain,
        ):
            assert (one.compress, plain.compress) == (15, 0) and one.client_notakeover
            for said in [story(5000), story(5000), "short", story(60_000), story(300)]:
                for speaker in (one, plain):
                    await speaker.send_str(said)
                    for listener in (one, plain):
                        assert await listener.receive_str(timeout=PATIENCE) == said

    asyncio.run(scenario())


NODE_SCRIPT = """
const socket = new WebSocket(process.argv[1]);
const said = Array.from({ length: 20 }, (_, number) => "moon gate ".repeat(number * 40));
let heard = 0;
socket.onopen = () => said.forEach((text) => socket.send(text));
socket.onmessage = ({ data }) => {
  if (data !== said[heard]) throw new Error(`message ${heard} differs`);
  heard += 1;
  if (heard === said.length) socket.close(1000);
};
socket.onclose = ({ code }) => console.log(JSON.stringify({ extensions: socket.extensions, heard, code }));
"""


def test_node(gateway):
    """G3: Node's own WebSocket offers as browsers do."""
    done = subprocess.run(
        [NODE, "--experimental-websocket", "-e", NODE_SCRIPT, gateway.ws("/echo")],
        capture_output=True, text=True, timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"extensions": BOTH, "heard": 20, "code": 1000}


@pytest.mark.parametrize("bits", range(9, 16))
def test_every_window(gateway, topic, bits):
    """G2: what is said is inflated by someone who has no more memory than it asked for."""
    extension = ClientPerMessageDeflateFactory(
        server_max_window_bits=bits, client_max_window_bits=bits, server_no_context_takeover=True
    )
    far = os.urandom(3000)
    messages = [story(20_000), far + bytes(100) + far + far, story(300), "short", story(60_000)]
    for path in ("/echo", f"/topics/{topic}"):
        with connect(gateway.ws(path), proxy=None, compression=None, extensions=[extension]) as client:
            assert client.response.headers["Sec-WebSocket-Extensions"] == f"{BOTH}; server_max_window_bits={bits}"
            for said in messages:
                client.send(said)
            for said in messages:
                assert client.recv(timeout=PATIENCE) == said


ANSWERS = {
    "G4": ("permessage-deflate", BOTH),
    "G3 a browser": ("permessage-deflate; client_max_window_bits", BOTH),
    "G2": ("permessage-deflate; server_max_window_bits=\"10\"", f"{BOTH}; server_max_window_bits=10"),
    "G2 8 bits, then the next": ("permessage-deflate; server_max_window_bits=8, permessage-deflate", BOTH),
    "G1 7": ("permessage-deflate; server_max_window_bits=7", None),
    "G1 16": ("permessage-deflate; client_max_window_bits=16", None),
    "G1 08": ("permessage-deflate; server_max_window_bits=08", None),
    "G1 unknown": ("permessage-deflate; level=9", None),
    "G1 twice": ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_answered(gateway, name):
    offer, expect = ANSWERS[name]
    with Connection(gateway.listen) as connection:
        connection.send(upgrade("/echo", gateway.host, f"Sec-WebSocket-Extensions: {offer}"))
        assert connection.head().all("Sec-WebSocket-Extensions") == ([expect] if expect else [])


ENDS = {
    "G7 BFINAL": (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
    "G7 two blocks": (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
    "G7 nothing": (b"\x00", b""),
    "F4 not UTF-8 once inflated": (deflate(b"abc\xff"), 1007),
    "F4 a character cut short": (deflate("€".encode()[:2]), 1007),
    "G9 no deflate": (b"\x06\x77\x77", 1007),
    "G9 cut short": (deflate(story(1000).encode())[:-9], 1007),
    "G12 garbage after BFINAL": (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06\x77", 1007),
    "G12 a million bytes of nothing": (b"\x00\x00\x00\xff\xff" * 14_000 + b"\x00", b""),
    "G12 last blocks of nothing": (b"\x03\x00" * 30_000 + b"\x00", b""),
    "G10 one byte too much": (deflate(bytes(65_537)), 1009),
    "G10 as much as may be": (deflate(bytes(65_536)), bytes(65_536)),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_message_and_what_comes_of_it(gateway, name):
    """Each also in two fragments, with a ping between them (D8)."""
    payload, expect = ENDS[name]
    half = len(payload) // 2
    ping = frame(raw.PING, b"?")
    for frames in (
        compressed(TEXT, payload),
        compressed(TEXT, payload[:half], fin=False) + ping + frame(0, payload[half:]),
    ):
        with open_compressed(gateway.listen, "/echo") as connection:
            connection.send(frames)
            if ping in frames:
                assert any_frame(connection) == (False, raw.PONG, b"?")
            if isinstance(expect, int):
                code, reason = connection.close_frame()
                assert code == expect and reason
                assert connection.rest() == b""
            else:
                assert message(connection) == (TEXT, expect)


D3 = {
    "D3 not agreed on": (None, compressed(TEXT, deflate(b"x"))),
    "D3 RSV2": (OFFER, bytes([0xA1]) + frame(TEXT, b"x")[1:]),
    "D3 RSV1 and RSV3": (OFFER, bytes([0xD1]) + frame(TEXT, b"x")[1:]),
    "G6 a ping": (OFFER, compressed(raw.PING, deflate(b"x"))),
    "G6 a Close": (OFFER, compressed(CLOSE, struct.pack("!H", 1000))),
    "G6 a continuation": (OFFER, compressed(TEXT, b"\x4b", fin=False) + compressed(0, b"\x04\x00")),
}


@pytest.mark.parametrize("name", D3)
def test_frames_that_must_not_say_so(gateway, name):
    offer, frames = D3[name]
    with open_compressed(gateway.listen, "/echo", offer) if offer else open_websocket(gateway.listen, "/echo") as connection:
        connection.send(frames)
        assert connection.close_frame()[0] == 1002


def test_a_client_that_keeps_context(gateway):
    """G4, G8: the first message is fine, the second refers to it."""
    said = story(2000).encode()
    compressor = zlib.compressobj(wbits=-15)
    first, second = (
        (compressor.compress(said) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL) for _ in range(2)
    )
    assert len(second) < 100
    with open_compressed(gateway.listen, "/echo") as connection:
        connection.send(compressed(TEXT, first))
        assert message(connection) == (TEXT, said)
        connection.send(compressed(TEXT, second))
        code, reason = connection.close_frame()
        assert code == 1007 and "context" in reason


def test_messages_cut_at_every_byte(gateway):
    """D11: a message in three fragments, in two parts of TCP, cut at every place."""
    payload = deflate(b"Hello, hello, hello!")
    frames = compressed(TEXT, payload[:3], fin=False) + frame(0, payload[3:4], fin=False) + frame(0, payload[4:])
    with open_compressed(gateway.listen, "/echo") as connection:
        for cut in range(1, len(frames)):
            connection.send(frames[:cut])
            time.sleep(0.002)
            connection.send(frames[cut:])
            assert message(connection) == (TEXT, b"Hello, hello, hello!"), cut


def test_small_messages_stay_as_they_are(start, topic):
    """G15."""
    gateway = start(DEFLATE_MIN_BYTES="100")
    for path in ("/echo", f"/topics/{topic}"):
        with open_compressed(gateway.listen, path) as connection:
            for said, expect in [(b"a" * 99, False), (b"a" * 100, True), (os.urandom(3000), False), (b"", False)]:
                connection.send(frame(BINARY, said))
                is_compressed, opcode, payload = any_frame(connection)
                assert (is_compressed, opcode) == (expect, BINARY)
                assert (inflate(payload) if is_compressed else payload) == said
    assert total(samples(gateway), "deflate_skipped_total", 'reason="not_smaller"') == 2


def test_it_can_be_turned_off(start):
    gateway = start(DEFLATE="off")
    with connect(gateway.ws("/echo"), proxy=None) as client:
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        client.send(story(5000))
        assert client.recv(timeout=PATIENCE) == story(5000)
    with open_websocket(gateway.listen, "/echo", OFFER) as connection:
        connection.send(compressed(TEXT, deflate(b"x")))
        assert connection.close_frame()[0] == 1002


def test_nothing_is_lost_or_moved_while_messages_wait(start, topic):
    """G11, K8: far more than one tick inflates, with plain messages and a Close, or a FIN, behind it."""
    gateway = start(MESSAGE_BYTES_MAX="2MiB", OUTBOX_BYTES_MAX="64MiB")
    large = [bytes([number]) * (MIB + number) for number in range(12)]
    frames = [compressed(BINARY, deflate(said)) + frame(TEXT, str(len(said)).encode()) for said in large]
    with open_websocket(gateway.listen, f"/topics/{topic}") as listener:
        for ending in (raw.close(1000), None):
            with open_compressed(gateway.listen, f"/topics/{topic}") as speaker:
                speaker.send(b"".join(frames) + (ending or b""))
                if ending is None:
                    speaker.socket.shutdown(socket.SHUT_WR)
                for said in large:
                    assert listener.frame() == (BINARY, said)
                    assert listener.frame() == (TEXT, str(len(said)).encode())
                if ending:
                    while True:
                        opcode, payload = message(speaker)
                        if opcode == CLOSE:
                            break
                    assert payload[:2] == struct.pack("!H", 1000)
    assert total(samples(gateway), "inflate_waited_total") > 0


def peak_memory(gateway) -> int:
    """The most that was resident since the last reset, in bytes."""
    with open(f"/proc/{gateway.pid}/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def reset_peak(gateway):
    with open(f"/proc/{gateway.pid}/clear_refs", "w") as refs:
        refs.write("5")


def bomb(size: int) -> bytes:
    """`size` zeros, compressed twice as hard as need be: about a thousandth of it."""
    compressor = zlib.compressobj(9, wbits=-15)
    parts = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*parts, compressor.flush(zlib.Z_SYNC_FLUSH)]).removesuffix(TAIL)


@pytest.mark.parametrize("size", [6 * MIB, 100 * MIB, 1024 * MIB], ids=lambda size: f"{size // MIB} MiB")
def test_a_bomb(start, size):
    """G10: 1009, whole or in fragments, and no memory for what it would be."""
    gateway = start(MESSAGE_BYTES_MAX="2MiB", OUTBOX_BYTES_MAX="4MiB")
    payload = bomb(size)
    third = len(payload) // 3
    reset_peak(gateway)
    before = peak_memory(gateway)
    for frames in (
        compressed(BINARY, payload),
        compressed(BINARY, payload[:third], fin=False) + frame(0, payload[third:-third], fin=False) + frame(0, payload[-third:]),
    ):
        with open_compressed(gateway.listen, "/echo") as connection:
            connection.send(frames)
            assert connection.close_frame()[0] == 1009
    # The message as it came and as much of it as may be, each while it grows; not what it would be.
    assert peak_memory(gateway) - before < 48 * MIB
    assert total(samples(gateway), "inflate_refused_total", 'reason="too_big"') == 2


def test_a_hundred_bombs_at_once(start):
    """G10, G11, K8: the others are served meanwhile, and memory is that of the bombs as they came."""
    gateway = start(MESSAGE_BYTES_MAX="16MiB", OUTBOX_BYTES_MAX="32MiB", SHARDS="1")
    payload = bomb(100 * MIB)
    attackers = [open_compressed(gateway.listen, "/echo") for _ in range(100)]
    reset_peak(gateway)
    before = peak_memory(gateway)
    with open_websocket(gateway.listen, "/echo") as bystander:
        for attacker in attackers:
            attacker.send(compressed(BINARY, payload))
        most = 0.0
        for number in range(50):
            before = cpu_seconds(gateway)
            bystander.send(frame(TEXT, str(number).encode()))
            assert bystander.frame() == (TEXT, str(number).encode())
            most = max(most, cpu_seconds(gateway) - before)
        for attacker in attackers:
            assert attacker.close_frame()[0] == 1009
            attacker.socket.close()
    # 100 bombs of 16 MiB are more than a second of inflating; a tick's share is a few milliseconds. Counted is the work
    # between a word and its echo, and not how long it took: the machine may have others to serve.
    assert most < 0.25, most
    assert peak_memory(gateway) - before < 2 * 100 * len(payload) + 64 * MIB
    found = samples(gateway)
    assert total(found, "inflate_refused_total", 'reason="too_big"') == 100
    until("the memory of all of it to be free", lambda: total(samples(gateway), "memory_bytes") < MIB)
