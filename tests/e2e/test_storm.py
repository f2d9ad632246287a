"""Rude clients on a gateway with too little of everything: it stays up, and in the end everything comes home."""

import random
import socket
import struct
import threading
from contextlib import suppress

import pytest

import raw
from gateway import until
from raw import Connection, get, open_websocket, post
from test_control import samples, total

CLIENTS, TURNS, HELD_MAX, PATIENCE = 8, 250, 30, 0.2
SCARCE = {
    "CONNECTIONS_MAX": "150",
    "RING_ENTRIES": "64",
    "RECV_BUFFERS": "16",
    "RECV_BUFFER_SIZE": "1KiB",
    "OUTBOX_BYTES_MAX": "128KiB",
    "SEND_UNSENT_BYTES_MAX": "16KiB",
    "MEMORY_BYTES_MAX": "2MiB",
    "HISTORY_TTL": "1s",
    "HEAD_TIMEOUT": "1s",
    "PING_INTERVAL": "1s",
    "PONG_TIMEOUT": "1s",
    "CLOSE_TIMEOUT": "1s",
}


class Rude:
    """Opens, half-opens, floods, stops reading, resets, in an order that its dice give."""

    def __init__(self, gateway, seed: int):
        self.gateway, self.dice = gateway, random.Random(seed)
        self.held: list[Connection] = []

    def run(self):
        for _ in range(TURNS):
            # What becomes of each of these is the gateway's to decide, a reset or a refusal among them.
            with suppress(OSError, AssertionError):
                others = [self.flood, self.post, self.sip, self.leave] if self.held else []
                self.dice.choices([self.open, *others], [4, 3, 2, 1, 1][: 1 + len(others)])[0]()
            while len(self.held) > HELD_MAX:
                self.held.pop(0).socket.close()
        for connection in self.held:
            connection.socket.close()

    def path(self) -> str:
        return self.dice.choice(["/topics/a", "/topics/b", "/topics/c/d", "/echo"])

    def open(self):
        connection = Connection(self.gateway.listen, self.dice.choice([None, 4096]))
        connection.socket.settimeout(PATIENCE)
        self.held.append(connection)
        head = raw.upgrade(self.path(), self.gateway.host)
        if self.dice.random() < 0.2:
            head = raw.head("GET /topics/a HTTP/1.1", f"Host: {self.gateway.host}", "Accept: text/event-stream")
        if self.dice.random() < 0.2:
            head = head[: self.dice.randrange(len(head))]
        connection.send(head)
        if self.dice.random() < 0.7:
            connection.head()

    def flood(self):
        frames = [self.frame() for _ in range(self.dice.randrange(20))]
        self.dice.choice(self.held).send(b"".join(frames))

    def frame(self) -> bytes:
        if self.dice.random() < 0.1:
            return raw.frame(raw.BINARY, bytes(self.dice.randrange(60_000)), mask=b"\1\2\3\4")
        return raw.frame(self.dice.choice([raw.TEXT, raw.BINARY, raw.PING]), b"x" * self.dice.randrange(125), mask=b"\1\2\3\4")

    def post(self):
        post(self.gateway.listen, self.path(), b"z" * self.dice.randrange(60_000))

    def sip(self):
        connection = self.dice.choice(self.held)
        connection.socket.settimeout(0.01)
        try:
            connection.socket.recv(1 << 18)
        finally:
            connection.socket.settimeout(PATIENCE)

    def leave(self):
        connection = self.held.pop(self.dice.randrange(len(self.held)))
        match self.dice.randrange(3):
            case 0:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                connection.send(raw.close(1000))
        connection.socket.close()


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_after_the_storm_everything_comes_home(start, shards):
    """K4, K7, N2, N7: no connection, subscription, slot, buffer or byte stays behind, and it serves as before."""
    gateway = start(**SCARCE, SHARDS=str(shards))
    clients = [Rude(gateway, seed).run for seed in range(CLIENTS)]
    threads = [threading.Thread(target=run, daemon=True) for run in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()

    def left_behind():
        found = samples(gateway)
        names = ["connections", "slots_used", "subscriptions", "outbox_bytes", "outboxes_dirty", "memory_bytes"]
        left = {name: total(found, name) for name in [*names, "lanes_unread", "lanes_waiting"]}
        left["receive buffers lent"] = 16 * shards - total(found, "receive_buffers_free")
        return {name: count for name, count in left.items() if count}

    until("everything to come home", lambda: not left_behind())
    assert all(entry["subscribers"] == 0 for entry in get(gateway.control, "/topics").json())
    with open_websocket(gateway.listen, "/topics/a") as one, open_websocket(gateway.listen, "/topics/a") as other:
        one.send(raw.frame(raw.TEXT, b"calm again"))
        assert one.frame() == other.frame() == (raw.TEXT, b"calm again")
