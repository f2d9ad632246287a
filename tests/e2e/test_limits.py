"""What happens at each limit: to the one who reaches it, and to nobody else."""

import hashlib
import socket
import struct
import threading
import time

import pytest
from websockets.sync.client import connect

import raw
from events import EventStream
from gateway import PATIENCE, until
from raw import Connection, check_problem, get, head, open_websocket
from test_control import samples, total


def payload(number: int, size: int) -> bytes:
    """Bytes that say which message they are, all the way through."""
    block = hashlib.sha256(str(number).encode()).digest()
    return number.to_bytes(4, "big") + (block * (size // 32 + 1))[: size - 4]


COUNT, SIZE, BATCH = 400, 16_000, 8
NARROW = {
    "OUTBOX_BYTES_MAX": "256KiB", "SEND_UNSENT_BYTES_MAX": "32KiB",
    "PING_INTERVAL": "5m", "PONG_TIMEOUT": "5m", "TCP_USER_TIMEOUT": "5m",
}  # fmt: skip


def speak_a_torrent(speaker: Connection, *quick: Connection):
    """More than a peer that does not read can be owed. A batch is half an outbox, so who reads along is never slow."""
    for first in range(0, COUNT, BATCH):
        batch = [payload(number, SIZE) for number in range(first, first + BATCH)]
        speaker.send(b"".join(raw.frame(raw.BINARY, data, mask=b"\0\0\0\0") for data in batch))
        for connection in (speaker, *quick):
            for data in batch:
                assert connection.frame() == (raw.BINARY, data)


def test_a_slow_subscriber_is_cut_and_nobody_else_suffers(start):
    """K3: 1013 for the one who does not read, after an unbroken prefix; every message for those who do."""
    gateway = start(**NARROW, CLOSE_TIMEOUT="2m")
    path = "/topics/torrent"
    with (
        open_websocket(gateway.listen, path, receive_buffer=8192) as slow,
        open_websocket(gateway.listen, path) as quick,
        open_websocket(gateway.listen, path) as speaker,
    ):
        speak_a_torrent(speaker, quick)
        heard = 0
        while True:
            opcode, data = slow.frame()
            if opcode == raw.CLOSE:
                break
            assert (opcode, data) == (raw.BINARY, payload(heard, SIZE))
            heard += 1
        assert int.from_bytes(data[:2], "big") == 1013 and data[2:]
        assert heard < COUNT
        slow.send(raw.close(1013))
        assert slow.rest() == b""
        found = samples(gateway)
        assert total(found, "messages_dropped_total", "outbox_full_cut") > 0, "nothing is dropped uncounted"
        assert total(found, "subscribers_ended_total", "outbox_full") == 1


@pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
def test_other_policies_drop_whole_messages_and_keep_the_connection(start, policy):
    """What the slow one hears is whole, in order, and ends with the newest."""
    gateway = start(**NARROW, OUTBOX_POLICY=policy)
    with (
        open_websocket(gateway.listen, "/topics/torrent", receive_buffer=8192) as slow,
        open_websocket(gateway.listen, "/topics/torrent") as speaker,
    ):
        speak_a_torrent(speaker)
        heard = []
        while not heard or heard[-1] != COUNT - 1:
            opcode, data = slow.frame()
            assert opcode == raw.BINARY
            number = int.from_bytes(data[:4], "big")
            assert data == payload(number, SIZE), "whole"
            heard.append(number)
        assert heard == sorted(set(heard)) and len(heard) < COUNT
        dropped = total(samples(gateway), "messages_dropped_total", "outbox_full_dropped")
        assert dropped == COUNT - len(heard), "each drop is counted"


def test_pings_are_sent_and_who_answers_stays(start):
    """K5: one ping an interval, however long an answer might have taken."""
    gateway = start(PING_INTERVAL="1s", PONG_TIMEOUT="10m")
    with open_websocket(gateway.listen, "/topics/pings") as polite:
        for _ in range(4):
            opcode, data = polite.frame()
            assert opcode == raw.PING
            polite.send(raw.frame(raw.PONG, data))
        with connect(gateway.ws("/topics/pings"), proxy=None) as speaker:
            speaker.send("still here")
            opcode, data = polite.frame()
            while opcode == raw.PING:
                polite.send(raw.frame(raw.PONG, data))
                opcode, data = polite.frame()
            assert data == b"still here"


def test_who_never_answers_a_ping_is_closed(start):
    """K5, E10: its kernel still takes bytes, but there is no sign of the one behind it."""
    gateway = start(PING_INTERVAL="1s", PONG_TIMEOUT="1s", CLOSE_TIMEOUT="1s")
    with open_websocket(gateway.listen, "/topics/pings") as silent:
        assert silent.frame()[0] == raw.PING
        try:
            silent.rest()
        except ConnectionResetError:
            pass
        until("it to be forgotten", lambda: subscribers(gateway, "pings") == 0)
        assert total(samples(gateway), "subscribers_ended_total", "pong_timeout") == 1


def subscribers(gateway, topic: str) -> int:
    """How many hear `topic`, over all shards; 0 also when nobody knows it any more."""
    entries = get(gateway.control, "/topics").json()
    return sum(entry["subscribers"] for entry in entries if entry["topic"] == topic)


def test_event_streams_get_a_heartbeat(start):
    """J1: a comment, which no EventSource shows."""
    gateway = start(PING_INTERVAL="1s")
    with EventStream(gateway.url("/topics/quiet")) as stream:
        until("two heartbeats", lambda: len(stream.comments) >= 2)


@pytest.mark.parametrize("sent", [b"GET /topics/slow HT", b"GET /topics/slow HTTP/1.1\r\nHost: x\r\n", b"\r\n"], ids=["line", "fields", "empty line"])
def test_a_slow_head_is_answered_408(start, sent):
    """C10."""
    gateway = start(HEAD_TIMEOUT="1s")
    with Connection(gateway.listen) as connection:
        connection.send(sent)
        check_problem(connection.answer(), 408)


def test_a_dripping_head_does_not_win_time(start):
    """C10: the deadline counts from the accept, not from the last byte."""
    gateway = start(HEAD_TIMEOUT="1s")
    with Connection(gateway.listen) as connection:
        connection.send(b"GET /topics/slow HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        connection.socket.settimeout(0.1)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            connection.send(b"x")
            try:
                connection.more()
                break
            except TimeoutError:
                continue
        connection.socket.settimeout(PATIENCE)
        check_problem(connection.answer(), 408)


def test_a_silent_connection_ends_too(start):
    """K7: no state without a timer."""
    gateway = start(HEAD_TIMEOUT="1s")
    with Connection(gateway.listen) as connection:
        answer = connection.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_connections_past_the_maximum_are_told_so(start):
    """B25: 503 and when to come back; a place that gets free is used."""
    gateway = start(SHARDS="1", CONNECTIONS_MAX="3")
    held = [open_websocket(gateway.listen, "/topics/full") for _ in range(3)]
    with Connection(gateway.listen) as connection:
        connection.send(raw.upgrade("/topics/full", gateway.host))
        answer = connection.answer()
        check_problem(answer, 503)
        assert int(answer.one("Retry-After")) > 0
    held[0].send(raw.close(1000))
    held[0].close_frame()
    held[0].socket.close()

    def comes_in():
        with Connection(gateway.listen) as connection:
            connection.send(raw.upgrade("/topics/full", gateway.host))
            return connection.head().status == 101

    until("the free place to be given away", comes_in)
    for connection in held:
        connection.socket.close()


def test_topics_past_the_maximum_are_told_so(start):
    """B25: 503 on every way in; the topics that exist go on."""
    gateway = start(SHARDS="1", TOPICS_MAX="2")
    with open_websocket(gateway.listen, "/topics/1") as one, open_websocket(gateway.listen, "/topics/2"):
        for answer in [
            raw.exchange(gateway.listen, raw.upgrade("/topics/3", gateway.host)),
            get(gateway.listen, "/topics/3", "Accept: text/event-stream"),
            raw.post(gateway.listen, "/topics/3", b"hello"),
        ]:
            check_problem(answer, 503)
            assert int(answer.one("Retry-After")) > 0
        assert raw.post(gateway.listen, "/topics/1", b"hello").status == 200
        assert one.frame() == (raw.TEXT, b"hello")


def test_when_memory_is_full_its_largest_holder_goes(start):
    """K4: with 1013, whatever its outbox may still have allowed it; who holds nothing stays."""
    gateway = start(**NARROW | {"OUTBOX_BYTES_MAX": "64MiB"}, SHARDS="1", MEMORY_BYTES_MAX="1MiB", CLOSE_TIMEOUT="2m")
    with (
        open_websocket(gateway.listen, "/topics/torrent", receive_buffer=8192) as slow,
        open_websocket(gateway.listen, "/topics/torrent") as speaker,
    ):
        speak_a_torrent(speaker)
        opcode, data = slow.frame()
        heard = 0
        while opcode == raw.BINARY:
            assert data == payload(heard, SIZE)
            heard += 1
            opcode, data = slow.frame()
        assert opcode == raw.CLOSE and int.from_bytes(data[:2], "big") == 1013
        assert b"memory" in data[2:]
        assert total(samples(gateway), "memory_evictions_total") == 1


def test_a_body_that_never_ends_is_given_up(start):
    """K7: a POST that stops half-way does not hold its place for ever."""
    gateway = start(HEAD_TIMEOUT="1s")
    with Connection(gateway.listen) as connection:
        connection.send(head("POST /topics/slow HTTP/1.1", f"Host: {gateway.host}", "Content-Length: 100") + b"half")
        answer = connection.answer()
        check_problem(answer, 408)


def test_a_peer_that_resets_is_forgotten(start):
    """E12: no Close, no FIN, and the others do not notice."""
    gateway = start()
    with open_websocket(gateway.listen, "/topics/reset") as stays:
        for _ in range(20):
            goes = open_websocket(gateway.listen, "/topics/reset")
            goes.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            goes.socket.close()
        raw.post(gateway.listen, "/topics/reset", b"who is left?")
        assert stays.frame() == (raw.TEXT, b"who is left?")

        until("the resets to be seen", lambda: subscribers(gateway, "reset") == 1)
        assert total(samples(gateway), "subscribers_ended_total", "vanished") == 20


def test_a_firehose_does_not_starve_its_neighbour(start):
    """K8: on the same shard, one who sends without pause and one who says a word now and then."""
    gateway = start(SHARDS="1")
    stop = threading.Event()
    with open_websocket(gateway.listen, "/echo") as hose, open_websocket(gateway.listen, "/topics/calm") as calm:
        block = b"".join(raw.frame(raw.BINARY, b"x" * 1000, mask=b"\0\0\0\0") for _ in range(60))

        def pour():
            hose.socket.settimeout(1)
            while not stop.is_set():
                try:
                    hose.socket.sendall(block)
                except OSError:
                    return

        def drink():
            while not stop.is_set():
                try:
                    if not hose.socket.recv(1 << 20):
                        return
                except OSError:
                    continue

        threads = [threading.Thread(target=action, daemon=True) for action in (pour, drink)]
        for thread in threads:
            thread.start()
        try:
            for number in range(50):
                calm.send(raw.frame(raw.TEXT, str(number).encode()))
                assert calm.frame() == (raw.TEXT, str(number).encode())
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
