"""Too few files, too few buffers, too small a ring, too many topics: less comes in, nothing is lost, and all of it ends."""

import resource
import signal
import socket
import struct
import subprocess
import time

import pytest

import raw
from gateway import PATIENCE, Gateway, binary, environment, until
from gauges import KIB, MIB, check_all_came_home, cpu_seconds, gauge, resident_bytes, running
from raw import BINARY, TEXT, Connection, check_problem, open_websocket, post
from test_control import samples

MASK = b"\0\0\0\0"


def check_at_rest(gateway: Gateway, seconds: float, log_lines_max: int):
    """K6: whatever it cannot have now, it does not ask for without pause, nor does it complain without pause."""
    lines, before, began = len(gateway.lines), cpu_seconds(gateway), time.monotonic()
    time.sleep(seconds)
    assert cpu_seconds(gateway) - before < seconds / 4, "it goes round in circles"
    # Waking up may have taken longer.
    assert len(gateway.lines) - lines <= log_lines_max * (time.monotonic() - began) / seconds, gateway.log


def test_k6_too_few_files_to_start_with():
    """A hard limit of 80 files leaves no room: it says so, with what to change, instead of failing later."""
    done = subprocess.run(
        ["prlimit", "--nofile=80:80", binary()],
        env=environment({"LISTEN": "127.0.0.1:0", "CONTROL": "127.0.0.1:0"}), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode not in (0, 101) and "ulimit" in done.stderr, done.stderr


def test_k6_eighty_files_and_120_connections(start):
    """K6: the connections of the public listeners take no descriptors at all."""
    gateway = start()
    if gateway.files_each:
        pytest.skip("with this driver they do: test_drivers.py has what follows")
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (80, 80))
    crowd = [open_websocket(gateway.listen, "/topics/files") for _ in range(120)]
    crowd[0].send(raw.frame(TEXT, b"all here?"))
    for connection in crowd:
        assert connection.frame() == (TEXT, b"all here?")
        connection.socket.close()
    assert gauge(gateway, "accept_errors_total") == 0


def test_k6_no_file_is_left_for_the_control_listener(start):
    """K6: EMFILE at accept: it rests, says so now and then, and accepts again when there are files."""
    gateway = start()
    files = gateway.open_files()
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (files + 20, 20_000))
    crowd = [Connection(gateway.control) for _ in range(40)]
    gateway.says("accepting on the control listener")
    check_at_rest(gateway, 2, 25)
    if gateway.files_each == 0:
        with open_websocket(gateway.listen, "/topics/files") as connection:
            connection.send(raw.frame(TEXT, b"unharmed"))
            assert connection.frame() == (TEXT, b"unharmed")
    for connection in crowd:
        connection.socket.close()
    check_all_came_home(gateway, 2 * 1024, files)


def test_k6_the_table_of_connections_is_full(start):
    """K6, N12: it stops accepting before the kernel would have to drop anyone, and goes on when places are free."""
    served, spare, waiting = 44, 256, 120
    gateway = start(SHARDS="1", CONNECTIONS_MAX=str(served), HEAD_TIMEOUT="10m", CLOSE_TIMEOUT="10m")
    crowd = [Connection(gateway.listen) for _ in range(served + spare + waiting)]
    for connection in crowd:
        connection.send(raw.upgrade("/topics/table", gateway.host))
    answered = {connection: connection.head() for connection in crowd[: served + spare]}
    assert [answer.status for answer in answered.values()] == [101] * served + [503] * spare
    check_at_rest(gateway, 1, 5)
    assert gauge(gateway, "slots_used") == served + spare and gauge(gateway, "accept_errors_total") == 0
    # Those who were refused keep their places as long as they do not end as well.
    for connection in crowd[served : served + waiting]:
        connection.socket.close()
    for connection in crowd[served + spare :]:
        check_problem(connection.answer(), 503)
    for connection in crowd:
        connection.socket.close()
    until("all places to be free", lambda: gauge(gateway, "slots_used") == 0)
    open_websocket(gateway.listen, "/topics/table").socket.close()


def test_n4_eight_buffers_for_a_hundred_connections(start):
    """N4, N7: whoever finds no buffer (ENOBUFS) gets its turn when one has come back; every word is answered."""
    gateway = start(SHARDS="1", RECV_BUFFERS="8", RECV_BUFFER_SIZE="256B")
    files, rounds, words = gateway.open_files(), 10, 20
    crowd = [open_websocket(gateway.listen, "/echo") for _ in range(100)]
    for turn in range(rounds):
        said = [struct.pack("!HHH", turn, number, word) * 50 for number in range(len(crowd)) for word in range(words)]
        for number, connection in enumerate(crowd):
            own = said[number * words : (number + 1) * words]
            connection.send(b"".join(raw.frame(BINARY, word, mask=MASK) for word in own))
        for number, connection in enumerate(crowd):
            for word in said[number * words : (number + 1) * words]:
                assert connection.frame() == (BINARY, word)
    assert gauge(gateway, "receive_buffers_exhausted_total") > 0, "there were too many buffers for this test"
    for connection in crowd:
        connection.socket.close()
    check_all_came_home(gateway, 8, files)


@pytest.mark.parametrize("shards", [1, 2])
def test_n5_a_burst_of_ten_thousand_events_on_the_smallest_ring(start, shards):
    """N5, N8: while the gateway stands still, more becomes ready than its queues have entries for; nothing is lost."""
    gateway = start(
        SHARDS=str(shards), RING_ENTRIES="64", RECV_BUFFER_SIZE="256B", CONNECTIONS_MAX="4000", HEAD_TIMEOUT="1m", PING_INTERVAL="1h"
    )
    files, size, words = gateway.open_files(), 1200, 25
    said = [b"%02d" % word + b"x" * 94 for word in range(words)]
    frames = b"".join(raw.frame(TEXT, word, mask=MASK) for word in said)

    gateway.signal(signal.SIGSTOP)
    crowd = [Connection(gateway.listen) for _ in range(size)]
    for connection in crowd:
        connection.send(raw.upgrade("/echo", gateway.host) + frames)
    gateway.signal(signal.SIGCONT)
    for connection in crowd:
        assert connection.head().status == 101
        for word in said:
            assert connection.frame() == (TEXT, word)

    # Once more, with receives that are armed already.
    gateway.signal(signal.SIGSTOP)
    for connection in crowd:
        connection.send(frames)
    gateway.signal(signal.SIGCONT)
    for connection in crowd:
        for word in said:
            assert connection.frame() == (TEXT, word)

    # And once more, with as many who reset as who speak.
    gateway.signal(signal.SIGSTOP)
    for number, connection in enumerate(crowd):
        connection.send(frames)
        if number % 2:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()
    gateway.signal(signal.SIGCONT)
    for connection in crowd[::2]:
        for word in said:
            assert connection.frame() == (TEXT, word)
        connection.socket.close()
    # 2,500 bytes are at least ten receives each: 12,000 events a burst, for a completion queue of 512.
    assert gauge(gateway, "bytes_in_total") >= 2 * size * len(frames)
    check_all_came_home(gateway, shards * 1024, files)


def test_k4_a_topic_for_every_post():
    """K4: as many as there may be; then 503 and when to come back, at the price of a refusal; later they are forgotten."""
    most, more = 2_000, 3_000
    with running(SHARDS="1", TOPICS_MAX=str(most), TOPIC_LINGER="1h") as gateway:
        for _ in range(most):
            post(gateway.listen, "/topics/warm", b"x")
        resident = resident_bytes(gateway)
        long_name = "n" * 240
        answers = [post(gateway.listen, f"/topics/{long_name}/{number}", b"x") for number in range(most - 1)]
        assert {answer.status for answer in answers} == {200}
        assert gauge(gateway, "topics") == most
        full = resident_bytes(gateway)
        assert full - resident < most * 2 * KIB + 4 * MIB
        lines, began = len(gateway.lines), time.monotonic()
        for number in range(more):
            answer = post(gateway.listen, f"/topics/{long_name}/another/{number}", b"x")
            check_problem(answer, 503)
            assert int(answer.one("Retry-After")) > 0
        assert gauge(gateway, "topics") <= most
        assert resident_bytes(gateway) - full < 2 * MIB, "a refused topic leaves nothing behind"
        assert len(gateway.lines) - lines <= 21 * (time.monotonic() - began + 2), "twenty a second, and one that counts the others"
    with running(SHARDS="1", TOPICS_MAX="50", TOPIC_LINGER="3s", HISTORY_TTL="1s") as gateway:

        def full():
            return any(post(gateway.listen, f"/topics/{number}", b"x").status == 503 for number in range(100))

        until("there to be no room", full)
        until("the topics to be forgotten", lambda: gauge(gateway, "topics") == 0)
        assert post(gateway.listen, "/topics/again", b"x").status == 200


def homes(gateway: Gateway, names: list[str]) -> list[int]:
    """Which shard orders each topic's messages: the one whose count goes up."""
    found = []
    for name in names:
        before = ordered(gateway)
        assert post(gateway.listen, f"/topics/{name}", b"x").status == 200
        found.append(next(shard for shard, (now, then) in enumerate(zip(ordered(gateway), before, strict=True)) if now > then))
    return found


def ordered(gateway: Gateway) -> list[float]:
    found = samples(gateway)
    return [found[f'moongate_messages_ordered_total{{shard="{shard}"}}'] for shard in range(2)]


def test_k4_nobody_can_choose_names_that_meet():
    """Hash flooding: names are spread by a key that every process draws anew, so what met once does not meet again.

    The key's use in the tables themselves is in crates/hub/src/name.rs, which the unit tests there check.
    """
    names = [f"flood/{number}" for number in range(48)]
    with running() as one, running() as other:
        places = homes(one, names)
        # That two keys agree on 48 names has a chance of 2 to the power of -48.
        assert places != homes(other, names)
        assert homes(one, names) == places
        for number in range(1_000):
            assert post(one.listen, f"/topics/spread/{number}", b"x").status == 200
        found = samples(one)
        spread = [found[f'moongate_topics{{shard="{shard}"}}'] for shard in range(2)]
        # Fair coins leave this range with a chance below 10 to the power of -8.
        assert min(spread) > 0.4 * sum(spread), spread
