"""What costs other servers more than it costs who sends it: heads dripped, crowded, stuffed, and never ended."""

import struct
import time

import pytest

import raw
from gateway import until
from gauges import KIB, MIB, cpu_seconds, gauge, resident_bytes, running
from raw import BINARY, TEXT, Connection, check_problem, head, open_websocket

PATH = "/topics/heads"
BYTES = 64 * KIB


@pytest.fixture(scope="module")
def gateway():
    """Heads may be as large as anybody allows them, so that other bounds show; one shard, so that all the work is its."""
    with running(SHARDS="1", HEAD_BYTES_MAX="64KiB", HEAD_TIMEOUT="2m") as one:
        yield one


def start_of_head(host: str, *fields: str, method: str = "GET") -> bytes:
    """A head without its blank line."""
    return head(f"{method} {PATH} HTTP/1.1", f"Host: {host}", *fields)[:-2]


def filled(start: bytes, filler: bytes) -> bytes:
    return (start + filler * (BYTES // len(filler)))[:BYTES]


def one_field(host: str) -> bytes:
    return filled(start_of_head(host) + b"X-Filler: ", b"x")


def many_lines(host: str) -> bytes:
    return filled(start_of_head(host), b"X-Filler: " + b"y" * 700 + b"\r\n")


def message(opcode: int):
    """A message of the largest size but for its last byte; of text it is characters of two bytes."""
    header = struct.pack("!BBQ4x", 0x80 | opcode, 0x80 | 127, BYTES)
    return lambda _host: header + ("é" * (BYTES // 2)).encode()[:-1]


def fragments(_host: str) -> bytes:
    """A message of fragments of 20 bytes each."""
    begin, more = raw.frame(BINARY, b"x" * 20, fin=False), raw.frame(0, b"x" * 20, fin=False)
    return begin + more * (BYTES // len(more) - 1)


def chunks(host: str) -> bytes:
    return filled(start_of_head(host, "Transfer-Encoding: chunked", method="POST") + b"\r\n", b"4\r\nabcd\r\n")


def check_head_is_too_large(connection: Connection):
    connection.send(b"xx")
    check_problem(connection.answer(), 431)


def check_message_comes_back(opcode: int, payload: bytes, last: bytes):
    def check(connection: Connection):
        connection.send(last)
        assert connection.frame() == (opcode, payload)

    return check


def check_chunks_are_published(connection: Connection):
    connection.send(b"\r\n0\r\n\r\n")
    answer = connection.answer()
    # What the cut at 64 KiB left of the last chunk is not one.
    assert answer.status in (200, 400), answer


def spent(gateway) -> tuple[float, float]:
    """Processor time so far, and in how many turns of its shards."""
    turns = gauge(gateway, "tick_seconds_count")
    return cpu_seconds(gateway), turns


def check_not_dearer(first: tuple, last: tuple, spare: float = 0):
    """The last stretch took no more work than the first, `spare` seconds aside: altogether, or by the turn, for how many
    bytes a turn finds is up to what else the machine does. Each stretch is what was `spent` before and after it."""
    (first_cost, first_turns), (last_cost, last_turns) = (
        (after[0] - before[0], after[1] - before[1]) for before, after in (first, last)
    )
    assert last_cost < 3 * first_cost + spare or last_cost / last_turns < 3 * first_cost / first_turns, (first, last)


# What drips, what it follows (a 101 or nothing), and how it ends.
DRIPS = {
    "A26 one long field": (one_field, False, check_head_is_too_large),
    "A26 many lines": (many_lines, False, check_head_is_too_large),
    "A25 chunks": (chunks, False, check_chunks_are_published),
    "D11 F2 text": (message(TEXT), True, check_message_comes_back(TEXT, ("é" * (BYTES // 2)).encode(), "é".encode()[1:])),
    "D11 K2 fragments": (
        fragments, True, check_message_comes_back(BINARY, b"x" * (BYTES // 26 * 20), raw.frame(0, b"")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "upgraded", "check_end"), DRIPS.values(), ids=DRIPS.keys())
def test_a_byte_costs_the_same_wherever_it_comes(gateway, make, upgraded, check_end):
    """A26: dripped to its limit and past it; the last quarter takes no more work than the first."""
    data = make(gateway.host)
    # Several at once, so that the bytes of each are received one by one.
    open_one = (lambda: open_websocket(gateway.listen, "/echo")) if upgraded else (lambda: Connection(gateway.listen))
    drippers = [open_one() for _ in range(3)]
    heard = int(gauge(gateway, "bytes_in_total"))
    stretches = []
    for quarter in range(4):
        before = spent(gateway)
        for at in range(quarter * len(data) // 4, (quarter + 1) * len(data) // 4):
            byte = data[at : at + 1]
            for dripper in drippers:
                dripper.socket.send(byte)
        sent = heard + len(drippers) * ((quarter + 1) * len(data) // 4)
        until("all of it to be read", lambda: gauge(gateway, "bytes_in_total") >= sent)
        stretches.append((before, spent(gateway)))
    for dripper in drippers:
        check_end(dripper)
        dripper.socket.close()
    check_not_dearer(stretches[0], stretches[3], 0.1)


@pytest.fixture(scope="module")
def spacious():
    """The largest heads and long messages: looking through all of one takes far longer than receiving a byte."""
    with running(SHARDS="1", HEAD_BYTES_MAX="1MiB", MESSAGE_BYTES_MAX="1MiB", OUTBOX_BYTES_MAX="2MiB", HEAD_TIMEOUT="2m") as one:
        yield one


LONG = MIB - 4 * KIB
SPACIOUS = {
    "A26 one long field": (lambda host: start_of_head(host) + b"X-Filler: ", b"x", False),
    "A26 many lines": (start_of_head, b"X-Filler: " + b"y" * 16_000 + b"\r\n", False),
    "A25 chunks": (
        lambda host: start_of_head(host, "Transfer-Encoding: chunked", method="POST") + b"\r\n", b"4\r\nabcd\r\n", False,
    ),
    "D11 F2 text": (lambda _host: struct.pack("!BBQ4x", 0x80 | TEXT, 0x80 | 127, MIB), "é".encode(), True),
    "D11 K2 fragments": (lambda _host: raw.frame(TEXT, b"", fin=False), raw.frame(0, b"x" * 20, fin=False, mask=b"\0\0\0\0"), True),
}  # fmt: skip


@pytest.mark.parametrize(("make", "filler", "upgraded"), SPACIOUS.values(), ids=SPACIOUS.keys())
def test_a_late_byte_costs_what_an_early_one_costs(spacious, make, filler, upgraded):
    """A26 (CVE-2023-43669): who starts again from the first byte whenever one arrives takes ten times as long here."""
    data = make(spacious.host)
    data += filler * ((LONG - len(data)) // len(filler))
    with open_websocket(spacious.listen, "/echo") if upgraded else Connection(spacious.listen) as dripper:
        heard = gauge(spacious, "bytes_in_total")
        stretches = []
        for part, size in [(data[:2000], 1), (data[2000:-2000], MIB), (data[-2000:], 1)]:
            before = spent(spacious)
            for at in range(0, len(part), size):
                dripper.send(part[at : at + size])
                # So that each byte is received by itself.
                time.sleep(0.0001)
            heard += len(part)
            until("all of it to be read", lambda heard=heard: gauge(spacious, "bytes_in_total") >= heard)
            stretches.append((before, spent(spacious)))
    check_not_dearer(stretches[0], stretches[2])


def fields(count: int) -> bytes:
    return b"".join(b"X-%d: 1\r\n" % number for number in range(count))


def lists(member: bytes) -> bytes:
    return (member * (60 * KIB // len(member)))[: 60 * KIB]


# What there is too much of, as lines of a head, and what comes of it.
STUFFED = {
    "A20 150 fields": (fields(150), 431),
    "A20 3,000 fields": (fields(3000), 431),
    "A20 3,000 fields of one name": (b"Connection: Upgrade\r\n" * 3000, 431),
    "A29 commas in Connection": (b"Connection: " + lists(b","), 400),
    "A29 commas in Upgrade": (b"Upgrade: " + lists(b","), 400),
    "A29 commas and blanks in Connection": (b"Connection: " + lists(b", \t"), 400),
    "A29 members of Connection": (b"Connection: " + lists(b"a,"), 400),
    "A29 commas in Accept": (b"Accept: " + lists(b","), 400),
    "A29 members of Accept": (b"Accept: " + lists(b"a/b;q=1,"), 400),
    "A29 commas in Transfer-Encoding": (b"Transfer-Encoding: " + lists(b","), 400),
    "A29 commas in Expect": (b"Expect: " + lists(b","), 400),
    "A29 commas in Sec-WebSocket-Protocol": (b"Sec-WebSocket-Protocol: " + lists(b","), 400),
    "B21 subprotocols, all different": (b"Sec-WebSocket-Protocol: " + b",".join(b"p%d" % n for n in range(9000))[: 60 * KIB], 400),
    "A29 commas in Sec-WebSocket-Extensions": (b"Sec-WebSocket-Extensions: " + lists(b","), 400),
    "B23 offers": (b"Sec-WebSocket-Extensions: " + lists(b"x;a=1,"), 400),
    "G1 parameters of an unknown offer": (b"Sec-WebSocket-Extensions: x" + lists(b";a"), 101),
    "G1 parameters of a known offer": (
        b"Sec-WebSocket-Extensions: permessage-deflate" + lists(b";server_no_context_takeover"), 101,
    ),
    "G1 parameters of a known offer, all different": (
        b"Sec-WebSocket-Extensions: permessage-deflate" + b"".join(b";p%d" % n for n in range(9000))[: 60 * KIB], 101,
    ),
    "B23 a quoted string of backslashes": (b'Sec-WebSocket-Extensions: x;a="' + lists(b"\\"), 400),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "status"), STUFFED.values(), ids=STUFFED.keys())
def test_too_much_of_it_costs_little(gateway, lines, status):
    """A20, A29: refused, or not looked at, with little work in any case."""
    request = raw.upgrade(PATH, gateway.host)[:-2] + lines.rstrip(b"\r\n") + b"\r\n\r\n"
    before = cpu_seconds(gateway)
    for _ in range(20):
        with Connection(gateway.listen) as connection:
            connection.send(request)
            if status == 101:
                answer = connection.head()
                assert answer.status == 101 and not answer.all("Sec-WebSocket-Extensions"), answer
            else:
                check_problem(connection.answer(), status)
    assert cpu_seconds(gateway) - before < 20 * 0.01, "one such head takes less than 10 ms"


HELD = 500


@pytest.fixture(scope="module")
def hasty():
    """A gateway that waits two seconds for what it was promised, and soon forgets what was said."""
    with running(HEAD_TIMEOUT="2s", CLOSE_TIMEOUT="1m", HISTORY_TTL="100ms") as one:
        yield one


PROMISES = {
    "C10 a request line": lambda host: b"GET /topics/slow HT",
    "C10 fields": lambda host: start_of_head(host, "X-Filler: " + "x" * 10_000),
    "K7 a body": lambda host: start_of_head(host, "Content-Length: 60000", method="POST") + b"\r\n" + b"x" * 30_000,
    "K7 a chunk": lambda host: start_of_head(host, "Transfer-Encoding: chunked", method="POST") + b"\r\n8000\r\n" + b"x" * 30_000,
}


@pytest.mark.parametrize("make", PROMISES.values(), ids=PROMISES.keys())
def test_hundreds_who_never_end_their_request(hasty, make):
    """C10, K7: 408 and a clean end for every one, other requests are answered meanwhile, and the log is not flooded."""
    lines, began = len(hasty.lines), time.monotonic()
    slow = [Connection(hasty.listen) for _ in range(HELD)]
    for connection in slow:
        connection.send(make(hasty.host))
    assert raw.post(hasty.listen, PATH, b"in between").status == 200
    for connection in slow:
        check_problem(connection.answer(), 408)
        connection.socket.close()
    until("all to be forgotten", lambda: gauge(hasty, "connections") == 0 and gauge(hasty, "memory_bytes") == 0)
    check_log_is_not_flooded(hasty, lines, began)


def check_log_is_not_flooded(gateway, lines: int, began: float):
    """K6: since it had so many lines, it has got twenty a second on each shard, and one that counts the others."""
    assert len(gateway.lines) - lines <= 2 * 21 * (time.monotonic() - began + 2), "a line for each would be a weapon"


def test_unended_heads_hold_what_arrived_and_no_more(start):
    """K1, K2: a thousand heads of 15 KB are on the account of memory, and off it when they have ended."""
    gateway, count, size = start(HEAD_TIMEOUT="5m"), 1000, 15_000
    before = resident_bytes(gateway)
    slow = [Connection(gateway.listen) for _ in range(count)]
    try:
        for connection in slow:
            connection.send(start_of_head(gateway.host, "X-Filler: " + "x" * (size - 100)))
        until("all heads to be held", lambda: gauge(gateway, "memory_bytes") > count * (size - 200))
        assert gauge(gateway, "memory_bytes") < count * size * 2.5
        assert resident_bytes(gateway) - before < count * size * 3 + 8 * MIB
    finally:
        for connection in slow:
            connection.socket.close()
    until("all to be forgotten", lambda: gauge(gateway, "memory_bytes") == 0)
