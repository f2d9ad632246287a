#!/usr/bin/env python3
"""Fifteen thousand subscribers on one topic, every message counted and compared.

    fifteen_thousand.py [--subscribers 15000] [--messages 100] [--shards 2]

One more subscriber, the witness, keeps a transcript. Four publishers speak at once: two WebSockets and two that POST.
The transcript must hold each of their messages once, unchanged, in its speaker's own order. Then every subscriber's
bytes must be the transcript's bytes, all of them and nothing else, followed by one Close 1001 when the gateway stops.

The clients live in several processes and on several addresses of 127.0.0.0/8, so that neither the limit of open files
nor the ephemeral ports of one address run out. Where the limits are too low all the same, it fails and says what to do.
"""

import argparse
import hashlib
import multiprocessing
import random
import resource
import selectors
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection as Pipe

import raw
from gateway import Gateway, until
from raw import KEY, open_websocket, post

TOPIC = "/topics/fifteen/thousand"
OPEN_FILES_MAX = 200
SOURCES = 5            # 127.0.1.1 and following, in every process
CONNECTING_MAX = 128   # per process: fewer than the listener's backlog
SPARE_FILES = 100
IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; the socket module has no name for it before Python 3.12
PATIENCE = 240.0


class Subscriber:
    """One WebSocket that only listens: how far it is, and the digest of all it heard."""

    __slots__ = ("socket", "head", "length", "digest", "ending")

    def __init__(self, connected: socket.socket):
        self.socket = connected
        self.head = b""
        self.length = 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.ending = b""


class Crowd:
    """The subscribers of one process. The parent speaks to it over a pipe."""

    def __init__(self, pipe: Pipe, address: tuple[str, int], size: int):
        self.pipe, self.address, self.size = pipe, address, size
        self.selector = selectors.EpollSelector()
        self.request = raw.upgrade(TOPIC, raw.authority(address))
        self.subscribers: list[Subscriber] = []

    def run(self):
        self.connect()
        self.pipe.send("open")
        expected = self.pipe.recv()
        self.listen(expected)
        self.pipe.send([(one.length, one.digest.hexdigest()) for one in self.subscribers])
        self.pipe.recv()
        self.part()
        self.pipe.send([one.ending for one in self.subscribers])

    def connect(self):
        """Opens all, a bounded number at a time, and reads each 101."""
        opening = 0
        deadline = time.monotonic() + PATIENCE
        while len(self.subscribers) < self.size or opening:
            while len(self.subscribers) < self.size and opening < CONNECTING_MAX:
                self.open_one(len(self.subscribers))
                opening += 1
            for key, _ in self.selector.select(1.0):
                opening -= self.shake_hands(key.data)
            check(time.monotonic() < deadline, f"{opening} of {len(self.subscribers)} handshakes are still open")

    def open_one(self, number: int):
        client = socket.socket()
        client.setblocking(False)
        # The port is chosen at connect, so that each pair of addresses has all of them.
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((f"127.0.1.{1 + number % SOURCES}", 0))
        client.connect_ex(self.address)
        one = Subscriber(client)
        self.subscribers.append(one)
        self.selector.register(client, selectors.EVENT_WRITE, one)

    def shake_hands(self, one: Subscriber) -> bool:
        """The next step of one handshake; whether it was the last."""
        if one.head == b"":
            if self.selector.get_key(one.socket).events == selectors.EVENT_WRITE:
                failed = one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                check(failed == 0, f"connect: error {failed}")
                one.socket.send(self.request)
                self.selector.modify(one.socket, selectors.EVENT_READ, one)
                return False
        # Nothing follows a 101 before all are open, so whatever comes belongs to the head.
        data = one.socket.recv(4096)
        check(data, f"closed within the handshake after {one.head!r}")
        one.head += data
        if not one.head.endswith(b"\r\n\r\n"):
            check(one.head.startswith(b"HTTP/1.1 101"[: len(one.head)]), f"no 101: {one.head!r}")
            return False
        check(one.head.startswith(b"HTTP/1.1 101 "), f"no 101: {one.head!r}")
        check(raw.ACCEPT.encode() in one.head, f"no answer to {KEY}: {one.head!r}")
        return True

    def listen(self, expected: int):
        """Reads until every one has `expected` bytes; more than that is wrong and is seen in the length."""
        missing = sum(one.length < expected for one in self.subscribers)
        deadline = time.monotonic() + PATIENCE
        while missing:
            for key, _ in self.selector.select(1.0):
                one = key.data
                data = one.socket.recv(1 << 18)
                check(data, f"a subscriber was closed after {one.length} of {expected} bytes: {one.socket.getsockname()}")
                before = one.length
                one.length += len(data)
                one.digest.update(data)
                missing -= before < expected <= one.length
            check(time.monotonic() < deadline, f"{missing} subscribers still miss something")

    def part(self):
        """Hears the Close, answers it, and reads to the end."""
        left = len(self.subscribers)
        deadline = time.monotonic() + PATIENCE
        goodbye = raw.close(1001)
        while left:
            for key, _ in self.selector.select(1.0):
                one = key.data
                data = one.socket.recv(4096)
                if data:
                    first = not one.ending
                    one.ending += data
                    if first:
                        one.socket.send(goodbye)
                    continue
                self.selector.unregister(one.socket)
                one.socket.close()
                left -= 1
            check(time.monotonic() < deadline, f"{left} subscribers were not closed")


def crowd_process(pipe: Pipe, address: tuple[str, int], size: int):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Crowd(pipe, address, size).run()
    except (Failure, OSError) as failure:
        pipe.send(Failure(str(failure)))


class Failure(Exception):
    """What a person is told."""


def check(right: object, otherwise: str):
    if not right:
        raise Failure(otherwise)


def raise_limit(subscribers: int, shards: int) -> int:
    """Raises the soft limit of open files to the hard one; how many clients one process may have then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A ring's table of direct descriptors is bounded by the same limit, so a shard's share must fit as well.
    needed = subscribers // shards + 1000
    check(
        hard == resource.RLIM_INFINITY or hard >= needed,
        f"the hard limit of open files is {hard}, and {needed} are needed: run `ulimit -Hn {needed + SPARE_FILES}` as root"
        f" (or `ulimit -n {needed + SPARE_FILES}` where the hard limit allows it) and try again",
    )
    soft = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft - SPARE_FILES


def message(speaker: int, number: int) -> bytes:
    """Text of a length and content that only this message has."""
    dice = random.Random(f"{speaker}/{number}")
    return f"{speaker}:{number}:".encode() + bytes(dice.choices(range(0x20, 0x7F), k=dice.randrange(250)))


class Witness(threading.Thread):
    """Keeps the transcript of a topic: every frame as it came, until `count` messages are there."""

    def __init__(self, address: tuple[str, int], count: int):
        super().__init__(daemon=True)
        self.connection = open_websocket(address, TOPIC)
        self.connection.socket.settimeout(PATIENCE)
        self.count = count
        self.messages: list[bytes] = []
        self.start()

    def run(self):
        while len(self.messages) < self.count:
            opcode, payload = self.connection.frame()
            if opcode == raw.TEXT:
                self.messages.append(payload)

    def transcript(self) -> bytes:
        self.join(PATIENCE)
        check(not self.is_alive(), f"the witness heard {len(self.messages)} of {self.count} messages")
        return b"".join(server_frame(payload) for payload in self.messages)


def server_frame(payload: bytes) -> bytes:
    """A text frame as a server sends it (RFC 6455 §5.2)."""
    if len(payload) < 126:
        return bytes([0x81, len(payload)]) + payload
    return bytes([0x81, 126]) + len(payload).to_bytes(2, "big") + payload


def close_code(ending: bytes) -> int | None:
    """The code of a Close frame that is all there is."""
    alone = len(ending) >= 4 and ending[0] == 0x88 and len(ending) == 2 + ending[1]
    return int.from_bytes(ending[2:4], "big") if alone else None


def speak(gateway: Gateway, speaker: int, messages: int):
    """Even speakers hold a WebSocket and read along, odd ones POST."""
    if speaker % 2:
        for number in range(messages):
            answer = post(gateway.listen, TOPIC, message(speaker, number))
            check(answer.status == 200, f"a POST was answered {answer}")
        return
    with open_websocket(gateway.listen, TOPIC) as connection:
        connection.socket.settimeout(PATIENCE)
        for number in range(messages):
            own = message(speaker, number)
            connection.send(raw.frame(raw.TEXT, own))
            while connection.frame()[1] != own:
                pass


def check_transcript(heard: list[bytes], speakers: int, messages: int):
    for speaker in range(speakers):
        own = [text for text in heard if text.startswith(f"{speaker}:".encode())]
        check(own == [message(speaker, number) for number in range(messages)], f"speaker {speaker} was heard wrongly")
    check(len(heard) == speakers * messages, f"{len(heard)} messages in the transcript")


def hear(pipe: Pipe):
    """A crowd's next answer."""
    check(pipe.poll(PATIENCE + 30), "a crowd does not answer")
    answer = pipe.recv()
    if isinstance(answer, Failure):
        raise answer
    return answer


def run(subscribers: int, messages: int, shards: int) -> str:
    speakers = 4
    each = max(messages // speakers, 1)
    per_process = raise_limit(subscribers, shards)
    crowds_wanted = max(4, -(-subscribers // per_process))
    sizes = [subscribers // crowds_wanted + (number < subscribers % crowds_wanted) for number in range(crowds_wanted)]
    began = time.monotonic()
    gateway = Gateway(
        SHARDS=str(shards), CONNECTIONS_MAX=str(subscribers + 2000), PING_INTERVAL="1h", PONG_TIMEOUT="1h",
        DRAIN_DELAY="0s", DRAIN_TIMEOUT="10s", CLOSE_TIMEOUT="1m",
    )
    spawn = multiprocessing.get_context("spawn")
    crowds, pipes = [], []
    try:
        for size in sizes:
            here, there = spawn.Pipe()
            process = spawn.Process(target=crowd_process, args=(there, gateway.listen, size), daemon=True)
            process.start()
            there.close()
            crowds.append(process)
            pipes.append(here)
        for pipe in pipes:
            hear(pipe)
        opened = time.monotonic()
        files = gateway.open_files()
        most = OPEN_FILES_MAX + gateway.files_each * subscribers
        check(files < most, f"the gateway holds {files} open files for {subscribers} connections")

        witness = Witness(gateway.listen, speakers * each)
        wrong: list[BaseException] = []
        threads = [
            threading.Thread(target=attempt, args=(wrong, speak, gateway, speaker, each), daemon=True)
            for speaker in range(speakers)
        ]
        # The crowds read from the start, so that none of them is slow.
        expected = sum(len(server_frame(message(speaker, number))) for speaker in range(speakers) for number in range(each))
        for pipe in pipes:
            pipe.send(expected)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        check(not wrong, f"a speaker failed: {wrong}")
        transcript = witness.transcript()
        check_transcript(witness.messages, speakers, each)
        right = (len(transcript), hashlib.blake2b(transcript, digest_size=16).hexdigest())
        heard = [place for pipe in pipes for place in hear(pipe)]
        check(len(heard) == subscribers, f"{len(heard)} subscribers answered")
        others = [place for place in heard if place != right]
        check(not others, f"{len(others)} subscribers heard something else than {right}, such as {others[:3]}")
        spoken = time.monotonic()

        for pipe in pipes:
            pipe.send("part")
        witness.connection.socket.close()
        gateway.signal(signal.SIGTERM)
        codes = {close_code(ending) for pipe in pipes for ending in hear(pipe)}
        check(codes == {1001}, f"not all heard one Close 1001 and nothing else: {codes}")
        code = gateway.wait()
        check(code == 0, f"the gateway ended with {code}")
        gateway.check_sound()
    finally:
        gateway.kill()
        for process in crowds:
            process.kill()
            process.join()
    return (
        f"{subscribers} subscribers x {speakers * each} messages = {subscribers * speakers * each} deliveries, all right: "
        f"open after {opened - began:.1f} s, heard after {spoken - opened:.1f} s more, closed after "
        f"{time.monotonic() - spoken:.1f} s more; {files} open files in the gateway"
    )


def attempt(wrong: list, action, *arguments):
    try:
        action(*arguments)
    except (Failure, AssertionError, OSError) as error:
        wrong.append(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=15_000)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--shards", type=int, default=2)
    options = parser.parse_args()
    try:
        print(run(options.subscribers, options.messages, options.shards))
    except (Failure, AssertionError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
