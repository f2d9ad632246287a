"""Frames that lie about their length, come in endless pieces, or ask for answers that nobody reads."""

import struct

import pytest

import raw
from gateway import until
from gauges import KIB, MIB, check_all_came_home, gauge, resident_bytes, running
from raw import BINARY, CLOSE, PING, PONG, TEXT, open_websocket

CONTINUATION = 0x0
MASK = b"\0\0\0\0"
MESSAGE_BYTES_MAX = 1 << 30
CROWD = 100


@pytest.fixture(scope="module")
def gateway():
    """The largest messages that can be allowed: a length within this limit is worth nothing until its bytes are here."""
    with running(MESSAGE_BYTES_MAX="1GiB", OUTBOX_BYTES_MAX="2GiB", MEMORY_BYTES_MAX="8GiB", HEAD_TIMEOUT="1m") as one:
        yield one


@pytest.fixture(scope="module")
def usual():
    """Nobody is pinged, so that what comes is what was asked for."""
    with running(SHARDS="1", PING_INTERVAL="1h", PONG_TIMEOUT="1h") as one:
        yield one


def header(first: int, length: int, masked: bool = True) -> bytes:
    """A frame's header with its length in 64 bits."""
    return struct.pack("!BBQ", first, 0x7F | (0x80 if masked else 0), length) + (MASK if masked else b"")


LENGTHS = {"2^63-1": (1 << 63) - 1, "2^63": 1 << 63, "2^64-4": (1 << 64) - 4, "2^64-1": (1 << 64) - 1}
# What stands before the frame, and the frame's first byte.
PLACES = {
    "as text": (b"", 0x80 | TEXT),
    "as a first fragment": (b"", BINARY),
    "as a continuation": (raw.frame(BINARY, b"begun", fin=False), 0x80 | CONTINUATION),
}


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "not masked"])
@pytest.mark.parametrize(("before", "first"), PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS.keys())
def test_d6_lengths_that_overflow(gateway, length, before, first, masked):
    """D6, D1: told at the header, however large a message may be; no sum of lengths wraps round, nothing is reserved."""
    code = 1009 if length < 1 << 63 and masked else 1002
    resident = resident_bytes(gateway)
    crowd = [open_websocket(gateway.listen, "/echo") for _ in range(10)]
    for connection in crowd:
        connection.send(before + header(first, length, masked))
    for connection in crowd:
        assert connection.close_frame()[0] == code
        assert connection.rest() == b""
        connection.socket.close()
    assert resident_bytes(gateway) - resident < 8 * MIB


@pytest.mark.parametrize("first", [0x80 | PING, 0x80 | PONG, 0x80 | CLOSE], ids=["ping", "pong", "Close"])
@pytest.mark.parametrize("length", [126, 1 << 30, *LENGTHS.values()], ids=["126", "2^30", *LENGTHS.keys()])
def test_d7_long_control_frames(gateway, first, length):
    """D6, D7: in 64 bits, where 16 or 7 would do for the shortest of them."""
    with open_websocket(gateway.listen, "/echo") as connection:
        connection.send(header(first, length))
        assert connection.close_frame()[0] == 1002
        assert connection.rest() == b""


def test_d6_an_announced_gigabyte_costs_nothing(gateway):
    """K2: memory follows what has arrived, on frames and on bodies, never what was promised."""
    files = gateway.open_files()
    resident = resident_bytes(gateway)
    crowd = [open_websocket(gateway.listen, "/echo") for _ in range(CROWD)]
    for connection in crowd:
        connection.send(header(0x80 | BINARY, MESSAGE_BYTES_MAX) + b"x" * 1000)
    bodies = [raw.Connection(gateway.listen) for _ in range(CROWD)]
    for connection in bodies:
        length = f"Content-Length: {MESSAGE_BYTES_MAX}"
        connection.send(raw.head("POST /topics/large HTTP/1.1", f"Host: {gateway.host}", length) + b"x" * 1000)
    until("all of it to have arrived", lambda: gauge(gateway, "memory_bytes") >= 2 * CROWD * 1000)
    assert gauge(gateway, "memory_bytes") < 2 * CROWD * 8 * KIB
    assert resident_bytes(gateway) - resident < 16 * MIB
    for connection in crowd + bodies:
        connection.socket.close()
    check_all_came_home(gateway, 2 * 1024, files)


@pytest.mark.parametrize(
    ("fragment", "held_max"),
    [(raw.frame(CONTINUATION, b"", fin=False, mask=MASK), 1 * KIB), (raw.frame(CONTINUATION, b"x", fin=False, mask=MASK), 32 * KIB)],
    ids=["empty", "one byte"],
)
def test_k2_endless_fragments(usual, fragment, held_max):
    """K2: each counts for more than its payload, so they end with 1009; until then they hold what they brought."""
    files = usual.open_files()
    crowd = [open_websocket(usual.listen, "/echo") for _ in range(CROWD)]
    sent = int(gauge(usual, "bytes_in_total"))
    begin = raw.frame(BINARY, b"", fin=False, mask=MASK)
    for connection in crowd:
        connection.send(begin + fragment * 8000)
    sent += CROWD * (len(begin) + 8000 * len(fragment))
    until("all of them to be read", lambda: gauge(usual, "bytes_in_total") >= sent)
    assert gauge(usual, "memory_bytes") <= CROWD * held_max
    for connection in crowd:
        connection.send(fragment * 1000)
        code, reason = connection.close_frame()
        assert code == 1009 and "fragments" in reason
        assert connection.rest() == b""
        connection.socket.close()
    check_all_came_home(usual, 1024, files)


def test_k3_a_million_pings_from_a_peer_that_does_not_read(usual):
    """K3, D12: one pong waits, for the newest ping; those that it replaced have never been anywhere."""
    resident = resident_bytes(usual)
    count, batch = 1_000_000, 5_000
    with open_websocket(usual.listen, "/topics/pings", receive_buffer=4096) as connection:
        heard = gauge(usual, "bytes_in_total")
        for first in range(0, count, batch):
            pings = (struct.pack("!I", number) + b"p" * 121 for number in range(first, first + batch))
            connection.send(b"".join(b"\x89\xfd" + MASK + ping for ping in pings))
            if first % 100_000 == 0:
                assert gauge(usual, "outbox_bytes") <= 254
                assert resident_bytes(usual) - resident < 4 * MIB
        until("all of them to be read", lambda: gauge(usual, "bytes_in_total") >= heard + 131 * count)
        assert gauge(usual, "outbox_bytes") <= 254, "the one begun, and the newest"
        assert gauge(usual, "memory_bytes") <= 16 * KIB
        assert resident_bytes(usual) - resident < 4 * MIB
        answered = -1
        while answered != count - 1:
            opcode, payload = connection.frame()
            number = int.from_bytes(payload[:4], "big")
            assert opcode == PONG and payload[4:] == b"p" * 121
            assert number > answered, "in order, none twice"
            answered = number
        connection.send(raw.frame(TEXT, b"still one of us"))
        assert connection.frame() == (TEXT, b"still one of us")


def test_k3_pings_between_the_parts_of_an_endless_message(usual):
    """D8, K3: the same while a message is incomplete."""
    with open_websocket(usual.listen, "/echo", receive_buffer=4096) as connection:
        connection.send(raw.frame(TEXT, b"a", fin=False))
        ping, part = raw.frame(PING, b"p" * 125, mask=MASK), raw.frame(CONTINUATION, b"", fin=False, mask=MASK)
        for _ in range(70):
            connection.send((ping * 50 + part) * 100)
        until("all to be read", lambda: gauge(usual, "outbox_bytes") <= 254)
        connection.send(raw.frame(CONTINUATION, b"b") + raw.frame(PING, b"last"))
        seen = []
        while not seen or seen[-1] != (PONG, b"last"):
            frame = connection.frame()
            if frame != (PONG, b"p" * 125):
                seen.append(frame)
        assert seen == [(TEXT, b"ab"), (PONG, b"last")]


def test_k3_echoes_that_nobody_reads_stop_the_reading(usual):
    """K3, H13: what may wait for one connection is bounded; past it, it is not read from, and nothing is lost."""
    resident = resident_bytes(usual)
    with open_websocket(usual.listen, "/echo", receive_buffer=4096) as connection:
        block = b"".join(raw.frame(BINARY, struct.pack("!I", number) + b"x" * 996, mask=MASK) for number in range(1000))
        connection.socket.settimeout(1)
        # A timed out sendall does not say how much went; send does.
        sent = 0
        try:
            while sent < 64 * len(block):
                sent += connection.socket.send(block[sent % len(block) :])
            raise AssertionError("64 MB were taken from a peer that reads nothing")
        except TimeoutError:
            pass
        # Half of OUTBOX_BYTES_MAX stops the reading; what the shard's receive buffers (2 MiB) held by then still comes,
        # and so may a little that the kernel had begun to receive.
        assert gauge(usual, "outbox_bytes") <= 3 * MIB
        assert resident_bytes(usual) - resident < 8 * MIB
        connection.socket.settimeout(raw.PATIENCE)
        size = len(block) // 1000
        for number in range(sent // size):
            assert connection.frame() == (BINARY, struct.pack("!I", number % 1000) + b"x" * 996)
