"""Connections without end: they come, say something or nothing, and leave at any moment, most of them without a word.

    tests/e2e/soak.py --connections 1000000

Nothing may stay behind: no slot, no receive buffer, no descriptor, no byte of memory. `make soak` runs it for a million;
the end-to-end tests run as many as fit into half a minute.
"""

import argparse
import multiprocessing
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

import raw
from gateway import Gateway, until
from gauges import MIB, check_all_came_home, gauge, resident_bytes
from raw import BINARY, TEXT

SHARDS, BUFFERS = 2, 256
CLIENTS = 4
PATIENCE = 60.0
# How far memory may grow after the first quarter: what an allocator keeps, not what a leak loses.
GROWTH_BYTES_MAX = 8 * MIB
RESET = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24


class Client:
    """One process' connections, one after the other, each of them cut off where its dice say."""

    def __init__(self, address: tuple[str, int], seed: int):
        self.address, self.dice = address, random.Random(seed)
        host = raw.authority(address)
        self.upgrades = [raw.upgrade(path, host) for path in ("/topics/soak", "/topics/soak/2", "/echo")]
        self.stream = raw.head("GET /topics/soak HTTP/1.1", f"Host: {host}", "Accept: text/event-stream")
        self.post = raw.head("POST /topics/soak HTTP/1.1", f"Host: {host}", "Content-Length: 2000") + b"x" * 2000
        self.lives: list[Callable[[socket.socket], None]] = [
            self.leave_at_once, self.leave_in_a_request, self.leave_before_the_answer, self.hear_the_101,
            self.speak_and_part, self.speak_and_go, self.open_and_close_in_one, self.leave_in_a_frame, self.publish,
        ]  # fmt: skip

    def live(self):
        """One connection, from its start to its end."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            # From any address of loopback, or all ports would soon be waiting for their TIME-WAIT to pass.
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((f"127.{self.dice.randrange(1, 250)}.{self.dice.randrange(250)}.1", 0))
            connection.settimeout(PATIENCE)
            connection.connect(self.address)
            try:
                self.dice.choice(self.lives)(connection)
            except (ConnectionResetError, BrokenPipeError):
                # Whoever leaves an answer unread may find that the gateway has gone first.
                pass
            if self.dice.random() < 0.6:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def leave_at_once(self, connection: socket.socket):
        pass

    def leave_in_a_request(self, connection: socket.socket):
        request = self.dice.choice([*self.upgrades, self.post])
        connection.sendall(request[: self.dice.randrange(len(request))])

    def leave_before_the_answer(self, connection: socket.socket):
        connection.sendall(self.dice.choice([*self.upgrades, self.stream, self.post]))

    def hear_the_101(self, connection: socket.socket):
        connection.sendall(self.dice.choice([*self.upgrades, self.stream]))
        connection.recv(4096)

    def speak_and_part(self, connection: socket.socket):
        connection.sendall(self.upgrades[self.dice.randrange(3)])
        connection.recv(4096)
        connection.sendall(raw.frame(TEXT, b"hello") + raw.close(1000))
        while connection.recv(4096):
            pass

    def speak_and_go(self, connection: socket.socket):
        connection.sendall(self.dice.choice(self.upgrades) + raw.frame(BINARY, b"x" * self.dice.randrange(3000), mask=b"\0\0\0\0"))

    def open_and_close_in_one(self, connection: socket.socket):
        connection.sendall(self.dice.choice(self.upgrades) + raw.close(1000))
        while connection.recv(4096):
            pass

    def leave_in_a_frame(self, connection: socket.socket):
        half = raw.frame(BINARY, b"y" * 500, fin=self.dice.random() < 0.5)[: self.dice.randrange(500)]
        connection.sendall(self.dice.choice(self.upgrades) + half)

    def publish(self, connection: socket.socket):
        connection.sendall(self.post)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 "), answer


def client_process(address: tuple[str, int], seed: int, wanted: int, until_time: float, done):
    """Lives `wanted` lives, or as many as there is time for. `done` counts them for everybody to see."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client = Client(address, seed)
    for number in range(wanted):
        if number % 50 == 0 and time.monotonic() > until_time:
            break
        client.live()
        done.value += 1


def soak(connections: int, seconds: float, seed: int) -> str:
    """Runs it all, and says what it came to."""
    gateway = Gateway(
        SHARDS=str(SHARDS), RECV_BUFFERS=str(BUFFERS), RING_ENTRIES="256", CONNECTIONS_MAX="10000", TOPIC_LINGER="1s",
        HISTORY_TTL="1s", HEAD_TIMEOUT="10s", CLOSE_TIMEOUT="5s", LOG="warn",
    )  # fmt: skip
    spawn = multiprocessing.get_context("spawn")
    counts = [spawn.Value("Q", 0) for _ in range(CLIENTS)]
    clients = [
        spawn.Process(
            target=client_process,
            args=(gateway.listen, seed + number, connections // CLIENTS, time.monotonic() + seconds, counts[number]),
            daemon=True,
        )
        for number in range(CLIENTS)
    ]
    try:
        files = gateway.open_files()
        began = time.monotonic()
        for client in clients:
            client.start()
        warm = None
        while any(client.is_alive() for client in clients):
            time.sleep(0.2)
            lived = sum(count.value for count in counts)
            passed = max(lived / connections, (time.monotonic() - began) / seconds)
            if warm is None and passed > 0.25:
                warm = resident_bytes(gateway)
        took = time.monotonic() - began
        assert [client.exitcode for client in clients] == [0] * CLIENTS, "a client failed; what it said is above"
        lived = sum(count.value for count in counts)
        check_all_came_home(gateway, SHARDS * BUFFERS, files)
        seen = int(gauge(gateway, "accepted_total") + gauge(gateway, "accept_aborted_total"))
        assert seen == lived, f"{lived} connected, {seen} were seen"
        until("the topics to be forgotten", lambda: gauge(gateway, "topics") == 0)
        grown = resident_bytes(gateway) - (warm or 0)
        assert warm and grown < GROWTH_BYTES_MAX, f"{grown / MIB:.1f} MiB more than after the first quarter"
        assert gateway.stop() == 0, gateway.log
        gateway.check_sound()
    finally:
        for client in clients:
            client.kill()
        gateway.kill()
    return (
        f"{lived} connections came and went in {took:.0f} s (seed {seed}): every slot, buffer and descriptor is back, "
        f"and memory is {grown / MIB:+.1f} MiB from what it was after a quarter of them"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    try:
        print(soak(options.connections, options.seconds, options.seed))
    except AssertionError as failure:
        print(f"FAILED (seed {options.seed}): {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
