"""Peers that do not read, that never finish, that are not there any more; and who else is to suffer from them: nobody."""

import hashlib
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest

import raw
from gateway import PATIENCE, Gateway, until
from gauges import KIB, MIB, check_all_came_home, gauge, resident_bytes, running
from raw import BINARY, CLOSE, Connection, check_problem, head, open_websocket, post
from test_limits import payload

MASK = b"\0\0\0\0"
SIZE = 16_000
# Nobody is pinged and no timer ends anybody, so that what ends is ended by what it did.
PATIENT = {"PING_INTERVAL": "1h", "PONG_TIMEOUT": "1h", "HEAD_TIMEOUT": "10m", "CLOSE_TIMEOUT": "10m"}


def server_frame(data: bytes) -> bytes:
    """A binary message as every subscriber gets it (RFC 6455 §5.2), of a length that takes 16 bits."""
    return b"\x82\x7e" + len(data).to_bytes(2, "big") + data


class Crowd:
    """WebSockets on one topic that read along, each with the length and the digest of what it has heard."""

    def __init__(self, gateway: Gateway, path: str, size: int):
        self.members = [open_websocket(gateway.listen, path) for _ in range(size)]
        self.length = dict.fromkeys(self.members, 0)
        self.digest = {member: hashlib.blake2b() for member in self.members}
        self.selector = selectors.DefaultSelector()
        for member in self.members:
            self.selector.register(member.socket, selectors.EVENT_READ, member)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.socket.close()

    def hear(self, size: int):
        """Reads until everyone has heard `size` bytes."""
        missing = {member for member, length in self.length.items() if length < size}
        deadline = time.monotonic() + PATIENCE
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} miss something"
            self.hear_some(1)
            missing = {member for member in missing if self.length[member] < size}

    def hear_some(self, seconds: float = 0):
        """Reads what is there for anyone, or comes within some time."""
        for key, _ in self.selector.select(seconds):
            data = key.data.socket.recv(1 << 18)
            assert data, "closed, though it reads"
            self.digest[key.data].update(data)
            self.length[key.data] += len(data)

    def check_heard(self, transcript: bytes):
        """Every byte of it, in order, and nothing else."""
        expect = hashlib.blake2b(transcript).digest()
        assert set(self.length.values()) == {len(transcript)}
        assert {digest.digest() for digest in self.digest.values()} == {expect}


def publish(gateway: Gateway, path: str, data: bytes):
    answer = post(gateway.listen, path, data, "Content-Type: application/octet-stream")
    assert answer.status == 200, answer


def publish_if_there_is_room(gateway: Gateway, path: str, data: bytes) -> bool:
    answer = post(gateway.listen, path, data, "Content-Type: application/octet-stream")
    assert answer.status in (200, 503), answer
    return answer.status == 200


def check_prefix_then_cut(connection: Connection, said: list[bytes], word: bytes = b"") -> int:
    """An unbroken beginning of what was said, then 1013. Returns how much was heard."""
    for number, expect in enumerate(said):
        opcode, data = connection.frame()
        if opcode == CLOSE:
            assert int.from_bytes(data[:2], "big") == 1013 and word in data[2:]
            assert connection.rest() == b"", "the FIN follows, and does not wait for the peer"
            return number
        assert (opcode, data) == (BINARY, expect)
    raise AssertionError("it was never cut")


@pytest.fixture(scope="module")
def narrow():
    with running(OUTBOX_BYTES_MAX="256KiB", SEND_UNSENT_BYTES_MAX="32KiB", **PATIENT) as one:
        yield one


def test_k3_five_stop_reading_and_a_hundred_hear_everything(narrow):
    """K3, K8, D16: in order and to the last byte; those who stopped are cut, after an unbroken beginning."""
    path = "/topics/hundred"
    sleepers = [open_websocket(narrow.listen, path, receive_buffer=8192) for _ in range(5)]
    said = [payload(number, SIZE) for number in range(150)]
    with Crowd(narrow, path, 100) as crowd:
        length = 0
        for number, data in enumerate(said):
            publish(narrow, path, data)
            length += len(server_frame(data))
            # Nobody who reads is ever half an outbox behind.
            if number % 4 == 3:
                crowd.hear(length)
        crowd.hear(length)
        crowd.check_heard(b"".join(server_frame(data) for data in said))
        assert gauge(narrow, "subscribers_ended_total", '"outbox_full"') == len(sleepers)
    for sleeper in sleepers:
        check_prefix_then_cut(sleeper, said)
        sleeper.socket.close()


def test_k3_who_speaks_and_never_listens_is_cut_as_well(narrow):
    """K3: a publisher is its own topic's subscriber; what it does not read is held for it no longer than for others."""
    path = "/topics/monologue"
    resident, ended = resident_bytes(narrow), gauge(narrow, "subscribers_ended_total", '"outbox_full"')
    before = gauge(narrow, "messages_ordered_total")
    said = []
    with open_websocket(narrow.listen, path, receive_buffer=8192) as speaker, Crowd(narrow, path, 1) as crowd:
        while gauge(narrow, "subscribers_ended_total", '"outbox_full"') == ended:
            assert len(said) < 1000
            said.append(payload(len(said), SIZE))
            speaker.send(raw.frame(BINARY, said[-1], mask=MASK))
        assert resident_bytes(narrow) - resident < 8 * MIB
        check_prefix_then_cut(speaker, said)
        # What it sent after it was cut is not looked at; the other one hears all that was, also what waited for its place.
        until("all to have its place", lambda: crowd.hear_some() or gauge(narrow, "deferred_bytes") == 0)
        ordered = int(gauge(narrow, "messages_ordered_total") - before)
        transcript = b"".join(server_frame(data) for data in said[:ordered])
        crowd.hear(len(transcript))
        crowd.check_heard(transcript)
        assert resident_bytes(narrow) - resident < 8 * MIB


@pytest.fixture(scope="module")
def small():
    """Two megabytes for everything that is not finished or not sent."""
    with running(SHARDS="1", MEMORY_BYTES_MAX="2MiB", OUTBOX_BYTES_MAX="64MiB", SEND_UNSENT_BYTES_MAX="16KiB", **PATIENT) as one:
        yield one


def test_k4_memory_is_full_and_its_largest_holders_go(small):
    """K4: those with most of a message, one by one, with 1013; who has less stays, and who has nothing notices nothing."""
    path, files = "/topics/small", small.open_files()
    modest = [open_websocket(small.listen, "/echo") for _ in range(20)]
    greedy = [open_websocket(small.listen, "/echo") for _ in range(60)]
    said = [payload(number, SIZE) for number in range(60)]
    with Crowd(small, path, 20) as crowd:
        length = 0
        for connection in modest:
            connection.send(raw.frame(BINARY, b"m" * 4_000, fin=False))
        for connection, data in zip(greedy, said, strict=True):
            connection.send(raw.frame(BINARY, b"g" * 60_000, fin=False))
            # In the moment in which there is too much, and the largest has yet to go, it is told to come back.
            until("memory for a message", lambda data=data: publish_if_there_is_room(small, path, data))
            length += len(server_frame(data))
            crowd.hear(length)
        crowd.check_heard(b"".join(server_frame(data) for data in said))
    until("enough to have gone", lambda: gauge(small, "memory_bytes") <= 2 * MIB)
    gone = int(gauge(small, "memory_evictions_total"))
    assert 60 * 60_000 - gone * 128 * KIB < 2 * MIB and gone < 60, gone
    for connection in modest + greedy:
        connection.send(raw.frame(0, b"end"))
    for connection in modest:
        assert connection.frame() == (BINARY, b"m" * 4_000 + b"end")
    told = 0
    for connection in greedy:
        opcode, data = connection.frame()
        if opcode == CLOSE:
            assert int.from_bytes(data[:2], "big") == 1013 and b"memory" in data[2:]
            told += 1
        else:
            assert data == b"g" * 60_000 + b"end"
    assert told == gauge(small, "memory_evictions_total")
    for connection in modest + greedy:
        connection.socket.close()
    check_all_came_home(small, 1024, files)


def test_k4_bodies_that_fill_the_memory(small):
    """K4: the same for POST: 503 for the largest; the others end as they would have."""
    files, evicted = small.open_files(), gauge(small, "memory_evictions_total")
    length = 60_000
    crowd = [Connection(small.listen) for _ in range(60)]
    for connection in crowd:
        connection.send(
            head("POST /topics/bodies HTTP/1.1", f"Host: {small.host}", f"Content-Length: {length}") + b"x" * (length - 1)
        )
    until("enough to have gone", lambda: gauge(small, "memory_evictions_total") > evicted and gauge(small, "memory_bytes") <= 2 * MIB)
    statuses = []
    for connection in crowd:
        connection.send(b"x")
        statuses.append(connection.answer().status)
        connection.socket.close()
    assert set(statuses) == {200, 503}
    check_all_came_home(small, 1024, files)


def test_k4_b25_heads_that_fill_the_memory(start):
    """K4, B25: 503 and when to come back for the largest, as for every request that finds no memory; no bare reset."""
    gateway = start(SHARDS="1", HEAD_BYTES_MAX="64KiB", MEMORY_BYTES_MAX="1MiB", **PATIENT)
    files, size = gateway.open_files(), 60_000
    crowd = [Connection(gateway.listen) for _ in range(40)]
    for connection in crowd:
        connection.send(head("GET /healthz HTTP/1.1", f"Host: {gateway.host}", "X-Filler: " + "x" * size)[:-2])
    until("enough to have gone", lambda: gauge(gateway, "memory_evictions_total") > 0 and gauge(gateway, "memory_bytes") <= MIB)
    statuses = []
    for connection in crowd:
        connection.send(b"\r\n")
        answer = connection.answer()
        statuses.append(answer.status)
        if answer.status == 503:
            check_problem(answer, 503)
            assert int(answer.one("Retry-After")) > 0
        connection.socket.close()
    assert set(statuses) == {200, 503}
    assert gauge(gateway, "subscribers_ended_total") == 0, "nobody here was a subscriber"
    check_all_came_home(gateway, 1024, files)


def test_k5_a_window_that_stays_shut(start):
    """K5: who takes nothing for as long as TCP_USER_TIMEOUT is given up by the kernel, and its outbox is freed."""
    gateway = start(TCP_USER_TIMEOUT="1s", SHARDS="1", OUTBOX_BYTES_MAX="64MiB", **PATIENT)
    files = gateway.open_files()
    accept = "Accept: text/event-stream"
    streams = [Connection(gateway.listen, receive_buffer=4096) for _ in range(5)]
    for stream in streams:
        stream.send(head("GET /topics/shut HTTP/1.1", f"Host: {gateway.host}", accept))
        assert stream.head().status == 200
    for number in range(300):
        publish(gateway, "/topics/shut", payload(number, SIZE))
    assert gauge(gateway, "outbox_bytes") > 0, "they are owed something"
    until("all to be given up", lambda: gauge(gateway, "subscribers_ended_total", '"tcp_timeout"') == len(streams))
    check_all_came_home(gateway, 1024, files)
    for stream in streams:
        stream.socket.close()


def own_loopback() -> list[str]:
    """What runs a program in a network of its own; as root without asking for a user namespace, which may be forbidden."""
    for wish in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if subprocess.run([*wish, "true"], capture_output=True).returncode == 0:
            return wish
    pytest.skip("neither network nor user namespaces may be made here, so no cable can be pulled")


def test_k5_e12_peers_that_vanish_without_a_word():
    """K5, E12: no FIN, no RST, only silence: TCP_USER_TIMEOUT ends what pings and heartbeats found nobody for."""
    script = Path(__file__).with_name("vanish.py")
    done = subprocess.run([*own_loopback(), sys.executable, str(script)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-5000:]


def test_n3_who_is_idle_is_told_so_by_a_fin(start):
    """N3: our end is seen at once, not when the slot is freed or a timer fires: the client has only to read."""
    gateway = start(HEAD_TIMEOUT="300ms", CLOSE_TIMEOUT="10m")
    silent = [Connection(gateway.listen) for _ in range(100)]
    for connection in silent:
        answer = connection.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert gauge(gateway, "close_timeouts_total") == 0
    # And theirs is all it waits for.
    for connection in silent:
        connection.socket.close()
    until("all slots to be free", lambda: gauge(gateway, "slots_used") == 0)
    assert gauge(gateway, "close_timeouts_total") == 0
