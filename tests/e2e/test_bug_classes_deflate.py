"""Compression as a lever: offers that crash, bombs in pieces, bombs that are legal, and bombs whose sender has gone.

What one bomb, and a hundred at once, come to is in test_deflate.py.
"""

import signal
import socket
import struct

import pytest

from gateway import until
from gauges import KIB, MIB, check_all_came_home, gauge, resident_bytes, running
from raw import BINARY, TEXT, Connection, check_problem, frame, open_websocket, upgrade
from test_deflate import any_frame, bomb, compressed, deflate, open_compressed

MASK = b"\0\0\0\0"
# What a shard's inflater, which serves everybody, may keep of its memory (crates/wire/src/deflate/inflater.rs).
KEPT_BYTES = 256 * KIB
MESSAGE_BYTES_MAX = 64 * KIB
# A message as large as it may be, in under a hundred bytes.
LEGAL = deflate(bytes(MESSAGE_BYTES_MAX), 9)


@pytest.fixture(scope="module")
def gateway():
    """The usual limits; nobody is pinged."""
    with running(SHARDS="1", PING_INTERVAL="1h", PONG_TIMEOUT="1h", CLOSE_TIMEOUT="1m") as one:
        yield one


# Windows that are none, as other servers took them to heart: into a shift, an allocation, or a panic.
WINDOWS = ["7", "16", "08", "0", "00", "1", "015", "255", "256", "264", "4294967304", "18446744073709551624", "9.0", "0x9", "x", "-9", "1e1"]


@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
@pytest.mark.parametrize("window", [*WINDOWS, *(f'"{window}"' for window in WINDOWS)])
def test_g1_windows_that_are_none(gateway, name, window):
    """G1: 101 without the extension, and the connection works; the next offer is taken if there is one."""
    for more, agreed in [("", 0), (", permessage-deflate", 1)]:
        with Connection(gateway.listen) as connection:
            connection.send(upgrade("/echo", gateway.host, f"Sec-WebSocket-Extensions: permessage-deflate; {name}={window}{more}"))
            answer = connection.head()
            assert answer.status == 101 and len(answer.all("Sec-WebSocket-Extensions")) == agreed, answer
            connection.send(frame(TEXT, b"fine"))
            assert connection.frame() == (TEXT, b"fine")


EMPTY = {
    "server, no value": ("server_max_window_bits", 101, 0),
    "client, no value": ("client_max_window_bits", 101, 1),
    "server, nothing behind the sign": ("server_max_window_bits=", 400, 0),
    "client, nothing behind the sign": ("client_max_window_bits=", 400, 0),
    "server, an empty string": ('server_max_window_bits=""', 400, 0),
    "client, an empty string": ('client_max_window_bits=""', 400, 0),
    "an empty parameter": ("", 400, 0),
}


@pytest.mark.parametrize(("parameter", "status", "agreed"), EMPTY.values(), ids=EMPTY.keys())
def test_g1_b23_windows_that_are_empty(gateway, parameter, status, agreed):
    """G1, B23: a missing value declines where one must be; what is no grammar at all is 400 (RFC 6455 §9.1)."""
    with Connection(gateway.listen) as connection:
        connection.send(upgrade("/echo", gateway.host, f"Sec-WebSocket-Extensions: permessage-deflate; {parameter}"))
        if status == 400:
            return check_problem(connection.answer(), 400)
        answer = connection.head()
        assert answer.status == status and len(answer.all("Sec-WebSocket-Extensions")) == agreed, answer


def in_pieces(message: bytes, size: int) -> bytes:
    """A compressed message in fragments of `size` bytes, with an empty one behind each."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    empty = frame(0, b"", fin=False, mask=MASK)
    frames = [frame(0, part, fin=False, mask=MASK) + empty for part in parts[1:]]
    return compressed(BINARY, parts[0], fin=False) + empty + b"".join(frames) + frame(0, b"", mask=MASK)


@pytest.mark.parametrize(
    ("size", "piece"), [(6 * MIB, 2), (60 * MIB, 20), (60 * MIB, 1), (100 * MIB, 100)], ids=lambda value: str(value)
)
def test_g10_a_bomb_in_pieces(gateway, size, piece):
    """G10, K2: 1009, for what it would be, for how much arrives, or for how many pieces it is in; memory stays flat."""
    pieces = in_pieces(bomb(size), piece)
    with open_compressed(gateway.listen, "/echo") as warm:
        warm.send(compressed(BINARY, LEGAL))
        any_frame(warm)
    resident = resident_bytes(gateway)
    crowd = [open_compressed(gateway.listen, "/echo") for _ in range(10)]
    for connection in crowd:
        connection.send(pieces)
    for connection in crowd:
        assert connection.close_frame()[0] == 1009
        assert connection.rest() == b""
        connection.socket.close()
    assert resident_bytes(gateway) - resident < 16 * MIB


def test_g11_legal_bombs_that_nobody_reads(gateway):
    """G11, K3, K4: 40 KB become 32 MB of messages that are in order, 20 times over; who does not read them is cut."""
    files, speakers = gateway.open_files(), 20
    names = [f"/topics/bombs/{number}" for number in range(speakers)]
    sleepers = [open_websocket(gateway.listen, name, receive_buffer=4096) for name in names]
    crowd = [open_compressed(gateway.listen, name) for name in names]
    resident, before = resident_bytes(gateway), gauge(gateway, "messages_in_total")
    with open_websocket(gateway.listen, "/echo") as bystander:
        for speaker in crowd:
            speaker.send(compressed(BINARY, LEGAL) * 500)
        for number in range(50):
            bystander.send(frame(TEXT, b"%d" % number))
            assert bystander.frame() == (TEXT, b"%d" % number)
            assert gauge(gateway, "memory_bytes") < 2 * speakers * 2 * MIB
    until("all of it to be said", lambda: gauge(gateway, "messages_in_total") - before >= speakers * 50)
    until("the sleepers to be cut", lambda: gauge(gateway, "subscribers_ended_total", '"outbox_full"') >= speakers)
    assert resident_bytes(gateway) - resident < 2 * speakers * 2 * MIB
    for connection in sleepers + crowd:
        connection.socket.close()
    check_all_came_home(gateway, 1024, files, KEPT_BYTES)


def hundred_bombs(gateway) -> list[Connection]:
    """A hundred connections, each with more to inflate than a tick does, and with words behind it."""
    words = compressed(BINARY, LEGAL) * 100 + frame(TEXT, b"after") + compressed(BINARY, bomb(6 * MIB))
    crowd = [open_compressed(gateway.listen, "/echo") for _ in range(100)]
    for connection in crowd:
        connection.send(words)
    return crowd


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "fin"])
def test_g11_n7_bombs_whose_sender_has_gone(gateway, reset):
    """G11, N2, N7, E12: what waits to be inflated goes with its connection; nothing is inflated for nobody."""
    files = gateway.open_files()
    for connection in hundred_bombs(gateway):
        if reset:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()
    check_all_came_home(gateway, 1024, files, KEPT_BYTES)
    with open_compressed(gateway.listen, "/echo") as connection:
        connection.send(compressed(BINARY, LEGAL))
        assert any_frame(connection)[:2] == (True, BINARY)


def test_g11_e11_stopping_with_a_hundred_bombs_at_hand(start):
    """E11: the gateway ends in its time, bombs or not."""
    gateway = start(SHARDS="1", MESSAGE_BYTES_MAX="1MiB", OUTBOX_BYTES_MAX="2MiB", DRAIN_TIMEOUT="1s", CLOSE_TIMEOUT="300ms")
    crowd = hundred_bombs(gateway)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0, gateway.log
    for connection in crowd:
        connection.socket.close()
