"""Whoever comes and goes, and whenever the gateway is told to go itself: nothing stays behind, and it ends as it should."""

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import raw
from gateway import Gateway
from gauges import gauge
from raw import BINARY, PING, TEXT, Connection, head, open_websocket

MASK = b"\0\0\0\0"


def test_n2_n7_connections_come_and_go_for_half_a_minute():
    """N2, N3, N7, K4: as many as fit, cut off at any moment; no slot, lease, descriptor or byte is lost."""
    script = Path(__file__).with_name("soak.py")
    done = subprocess.run([sys.executable, str(script), "--seconds", "25"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    print(done.stdout)


class Attack:
    """Everything at once that a gateway does not like, until told to stop or until it has gone."""

    def __init__(self, gateway: Gateway):
        self.gateway, self.stop = gateway, threading.Event()
        self.held: list[Connection] = []
        self.threads = [threading.Thread(target=self.keep_on, args=(wave,), daemon=True) for wave in self.waves()]

    def waves(self):
        return [
            self.ping_without_reading, self.echo_without_reading, self.listen_without_reading, self.drip_heads, self.drip_bodies,
            self.topic_for_every_post, self.reset, self.half_a_message, self.bad_frames,
        ]  # fmt: skip

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(raw.PATIENCE)
            assert not thread.is_alive()
        for connection in self.held:
            connection.socket.close()

    def keep_on(self, wave):
        while not self.stop.is_set():
            # What becomes of each is the gateway's to decide; when it has gone, connecting fails.
            with suppress(OSError, AssertionError):
                wave()
            self.stop.wait(0.01)

    def connection(self, path: str | None = None, small: bool = False) -> Connection:
        receive_buffer = 4096 if small else None
        connection = Connection(self.gateway.listen, receive_buffer)
        connection.socket.settimeout(0.3)
        self.held.append(connection)
        if path:
            connection.send(raw.upgrade(path, self.gateway.host))
            connection.head()
        while len(self.held) > 300:
            self.held.pop(0).socket.close()
        return connection

    def ping_without_reading(self):
        self.connection("/topics/attack", small=True).send(raw.frame(PING, b"p" * 125, mask=MASK) * 2000)

    def echo_without_reading(self):
        self.connection("/echo", small=True).send(raw.frame(BINARY, b"e" * 10_000, mask=MASK) * 100)

    def listen_without_reading(self):
        self.connection("/topics/attack", small=True)
        raw.post(self.gateway.listen, "/topics/attack", b"x" * 30_000)

    def drip_heads(self):
        connection = self.connection()
        for byte in raw.upgrade("/topics/attack", self.gateway.host)[:100]:
            connection.send(bytes([byte]))

    def drip_bodies(self):
        self.connection().send(head("POST /topics/attack HTTP/1.1", f"Host: {self.gateway.host}", "Content-Length: 9000") + b"x" * 99)

    def topic_for_every_post(self):
        raw.post(self.gateway.listen, f"/topics/attack/{time.monotonic_ns()}", b"x")

    def reset(self):
        connection = self.connection("/topics/attack")
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()

    def half_a_message(self):
        self.connection("/topics/attack").send(raw.frame(TEXT, b"h" * 50_000, fin=False))

    def bad_frames(self):
        self.connection("/echo").send(b"\xff" * 1000)


@pytest.mark.parametrize("shards", [1, 2])
def test_e11_sigterm_in_the_middle_of_all_this(start, shards):
    """E11, K5, N1: it drains in the time that was set, whatever is going on, and the exit code says that all went well."""
    gateway = start(
        SHARDS=str(shards), OUTBOX_BYTES_MAX="128KiB", MEMORY_BYTES_MAX="4MiB", TOPICS_MAX="500", TOPIC_LINGER="500ms",
        RING_ENTRIES="64", RECV_BUFFERS="16", HEAD_TIMEOUT="1s", PING_INTERVAL="500ms", PONG_TIMEOUT="1m", CLOSE_TIMEOUT="500ms",
        DRAIN_DELAY="300ms", DRAIN_TIMEOUT="1s",
    )  # fmt: skip
    with open_websocket(gateway.listen, "/topics/calm") as bystander, Attack(gateway):
        bystander.socket.settimeout(raw.PATIENCE)
        deadline = time.monotonic() + 3
        # It answers every ping up to the signal, also where the attack takes long to begin.
        while time.monotonic() < deadline or gauge(gateway, "accepted_total") <= 100:
            opcode, data = bystander.frame()
            if opcode == PING:
                bystander.send(raw.frame(raw.PONG, data))
        gateway.signal(signal.SIGTERM)
        # The one that behaves is told, even so.
        opcode, data = bystander.frame()
        while opcode == PING:
            bystander.send(raw.frame(raw.PONG, data))
            opcode, data = bystander.frame()
        assert gateway.wait() == 0, gateway.log
        assert opcode == raw.CLOSE and data[:2] == struct.pack("!H", 1001)
