"""Section H of docs/protocol.md once a tunnel is open: bytes, ends, pressure and time."""

import hashlib
import os
import random
import signal
import threading
import time

import pytest

from gateway import PATIENCE, until
from gauges import check_all_came_home, gauge
from raw import Connection, check_problem, exchange, upgrade
from upstream import SWITCH, check_pattern, fill, half_close, is_quiet, is_reset, opened, passed, reset

# How much goes each way; a whole GiB with TUNNEL_MIB=1024.
BYTES = int(os.environ.get("TUNNEL_MIB", "64")) << 20


class Talker(threading.Thread):
    """Sends random bytes in random pieces, with a pause now and then, and half-closes."""

    def __init__(self, end, size: int, seed: int):
        super().__init__(daemon=True)
        self.end, self.size, self.random = end, size, random.Random(seed)
        self.digest = hashlib.sha256()
        self.start()

    def run(self):
        pool = self.random.randbytes(1 << 20)
        sent = 0
        while sent < self.size:
            length = min(self.random.choice([1, 7, 125, 1460, 4096, 65536, 300_000]), self.size - sent)
            at = self.random.randrange(len(pool) - length)
            piece = pool[at : at + length]
            self.end.socket.sendall(piece)
            self.digest.update(piece)
            sent += length
            if self.random.random() < 0.01:
                time.sleep(self.random.random() / 200)
        half_close(self.end)


class Listener(threading.Thread):
    """Takes everything until the end, in random pieces, with a pause now and then."""

    def __init__(self, end, seed: int):
        super().__init__(daemon=True)
        self.end, self.random = end, random.Random(seed)
        self.digest, self.size = hashlib.sha256(), 0
        self.start()

    def run(self):
        while piece := self.end.socket.recv(self.random.choice([100, 4096, 65536, 262_144])):
            self.digest.update(piece)
            self.size += len(piece)
            if self.random.random() < 0.005:
                time.sleep(self.random.random() / 200)


@pytest.mark.timeout(900)
def test_h11_h12_random_bytes_both_ways_at_once(tunnel, upstream):
    """None altered, added, lost or moved; each way ends by itself, after its last byte."""
    gateway = tunnel()
    seed = random.randrange(1 << 32)
    client, call = opened(gateway.listen, "/t/x", upstream)
    for end in (client, call):
        end.socket.settimeout(None)
    talkers = [Talker(client, BYTES, seed), Talker(call, BYTES, seed + 1)]
    listeners = [Listener(call, seed + 2), Listener(client, seed + 3)]
    for thread in [*talkers, *listeners]:
        thread.join(800)
        assert not thread.is_alive(), f"seed {seed}"
    for talker, listener in zip(talkers, listeners):
        assert listener.size == BYTES and talker.digest.digest() == listener.digest.digest(), f"H11: seed {seed}"
    until("the tunnel to be gone", lambda: gauge(gateway, "tunnels") == 0)
    for way in ("from_client", "from_upstream"):
        assert gauge(gateway, "tunnel_bytes_total", f'way="{way}"', 'route="/t/*"') == BYTES
    assert gauge(gateway, "tunnels_opened_total") == gauge(gateway, "upstream_connect_seconds_count") == 1


def test_h11_every_byte_there_is(tunnel, upstream):
    """Each way, one by one and all at once. D17: what looks like frames or like HTTP means nothing here."""
    gateway = tunnel()
    client, call = opened(gateway.listen, "/t/x", upstream)
    everything = bytes(range(256)) + b"\x00" * 5 + b"\xff" * 5 + b"HTTP/1.1 400 Bad Request\r\n\r\n"
    for one, other in ((client, call), (call, client)):
        for byte in everything:
            one.send(bytes([byte]))
            assert other.take(1) == bytes([byte])
        one.send(everything * 100)
        assert other.take(len(everything) * 100) == everything * 100


def test_h12_the_clients_half(tunnel, upstream):
    """Its end passes on after its last byte; the other way goes on until its own."""
    gateway = tunnel()
    client, call = opened(gateway.listen, "/t/x", upstream)
    client.send(b"last words")
    half_close(client)
    assert call.rest() == b"last words", "H12"
    for number in range(5):
        call.send(b"%d" % number)
        assert client.take(1) == b"%d" % number
        time.sleep(0.05)
    call.send(b"the end" * 10_000)
    half_close(call)
    assert client.rest() == b"the end" * 10_000, "H12"


def test_h12_the_upstreams_half(tunnel, upstream):
    gateway = tunnel()
    client, call = opened(gateway.listen, "/t/x", upstream)
    call.send(b"last words")
    half_close(call)
    assert client.rest() == b"last words", "H12"
    for number in range(5):
        client.send(b"%d" % number)
        assert call.take(1) == b"%d" % number
    client.send(b"the end" * 10_000)
    half_close(client)
    assert call.rest() == b"the end" * 10_000, "H12"
    until("the tunnel to be gone", lambda: gauge(gateway, "tunnels") == 0)


def test_h12_a_half_close_behind_the_head(tunnel, upstream):
    """Sent before the 101 has come: it counts behind what came early."""
    gateway = tunnel()
    with Connection(gateway.listen) as client:
        client.send(upgrade("/t/x", "gate.example") + b"all of it")
        half_close(client)
        call = upstream.accept()
        call.head_bytes()
        assert is_quiet(call), "H2"
        call.send(SWITCH + b"answer")
        assert call.rest() == b"all of it"
        half_close(call)
        assert client.head().status == 101
        assert client.rest() == b"answer"


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_h12_a_reset_is_a_reset(tunnel, start, serve, who):
    """TCP on both sides: a Unix socket knows no RST."""
    upstream = serve()
    gateway = start(ROUTES=f"/t/* tunnel {upstream.name}")
    client, call = opened(gateway.listen, "/t/x", upstream)
    client.send(b"hello")
    assert call.take(5) == b"hello"
    one, other = (client, call) if who == "client" else (call, client)
    reset(one)
    assert is_reset(other), "H12"


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_h13_who_does_not_read_is_not_written_to(start, upstream, who):
    """The other one can send only so much; then all of it arrives. The other direction is not held up meanwhile."""
    gateway = start(ROUTES=f"/t/* tunnel {upstream.name}", TUNNEL_BUFFER_BYTES_MAX="64KiB", RECV_BUFFERS="64")
    client, call = opened(gateway.listen, "/t/x", upstream)
    sender, receiver = (client, call) if who == "upstream" else (call, client)
    sent = fill(sender, 256 << 20)
    assert sent < 64 << 20, "H13: somebody takes it all"
    # The buffer, and what one tick brings at most: all receive buffers of a shard, 64 of 2 KiB.
    assert gauge(gateway, "outbox_bytes") <= (64 + 2 * 64) << 10, "H13"
    assert gauge(gateway, "memory_bytes") < 1 << 20, "H13"
    receiver.send(b"still here")
    assert sender.take(10) == b"still here"
    half_close(sender)
    check_pattern(receiver, sent)
    assert receiver.rest() == b""


def test_h17_silence_ends_it(tunnel, upstream):
    """After the idle timeout, and not while anything moves, either way."""
    gateway = tunnel("idle_timeout=1s")
    client, call = opened(gateway.listen, "/t/x", upstream)
    since = time.monotonic()
    for number in range(6):
        one, other = (client, call) if number % 2 else (call, client)
        time.sleep(0.4)
        one.send(b"x")
        assert other.take(1) == b"x"
    assert passed(since) > 2
    since = time.monotonic()
    is_reset(client)
    is_reset(call)
    assert 0.8 < passed(since) < 10, "H17"
    until("the tunnel to be gone", lambda: gauge(gateway, "connections") == 0)


def test_h17_silence_ends_a_half_closed_one(tunnel, upstream):
    gateway = tunnel("idle_timeout=500ms")
    client, call = opened(gateway.listen, "/t/x", upstream)
    half_close(client)
    assert call.rest() == b""
    is_reset(client)
    until("the tunnel to be gone", lambda: gauge(gateway, "connections") == 0)


def test_h17_a_lifetime_ends_what_is_in_use(tunnel, upstream):
    """Counted from the 101, whatever moves. It is an ordinary end: FIN, behind all that was said."""
    gateway = tunnel("idle_timeout=1m lifetime=2s")
    client, call = opened(gateway.listen, "/t/x", upstream)
    since = time.monotonic()
    while passed(since) < 1.5:
        call.send(b"still here")
        assert client.take(10) == b"still here"
        time.sleep(0.05)
    assert not is_reset(client) and not is_reset(call), "H17"
    assert 1.5 < passed(since) < 10, "H17"
    assert gauge(gateway, "tunnels_ended_total", 'reason="lifetime"') == 1
    assert gauge(gateway, "tunnels_ended_total", 'reason="idle"') == 0
    client.socket.close()
    call.socket.close()
    until("the tunnel to be gone", lambda: gauge(gateway, "connections") == 0)


def test_h17_draining_ends_it(tunnel, upstream):
    """In the time that everybody has; what moves until then moves on."""
    gateway = tunnel(DRAIN_DELAY="500ms", DRAIN_TIMEOUT="2s")
    pairs = [opened(gateway.listen, "/t/x", upstream) for _ in range(5)]
    gateway.signal(signal.SIGTERM)
    time.sleep(0.2)
    for client, call in pairs:
        client.send(b"still")
        assert call.take(5) == b"still"
    since = time.monotonic()
    for client, call in pairs:
        is_reset(client)
        is_reset(call)
    assert gateway.wait() == 0
    assert passed(since) < PATIENCE / 2, "H17"


def test_two_for_each_tunnel(start, upstream):
    """A tunnel takes two of MOONGATE_CONNECTIONS_MAX; past it, 503 and nothing goes upstream."""
    gateway = start(ROUTES=f"/t/* tunnel {upstream.name}", CONNECTIONS_MAX="4", SHARDS="1")
    pairs = [opened(gateway.listen, "/t/x", upstream) for _ in range(2)]
    check_problem(exchange(gateway.listen, upgrade("/t/x", "gate.example")), 503)
    for client, call in pairs:
        client.socket.close()
        call.socket.close()
    until("room", lambda: gauge(gateway, "connections") == 0)
    opened(gateway.listen, "/t/x", upstream)


def test_it_all_comes_home(tunnel, upstream):
    """Slots, leases, memory and descriptors, after tunnels that ended in every way."""
    gateway = tunnel(RECV_BUFFERS="64")
    files = gateway.open_files()
    for number in range(60):
        client, call = opened(gateway.listen, "/t/x", upstream)
        client.send(os.urandom(random.randrange(1, 300_000)) if number % 3 else b"x")
        call.send(os.urandom(random.randrange(1, 300_000)))
        ends = [client, call]
        random.shuffle(ends)
        for end in ends:
            if random.random() < 0.5 and end.socket.family.name != "AF_UNIX":
                reset(end)
            else:
                end.socket.close()
    check_all_came_home(gateway, buffers=2 * 64, files=files)
