"""Coming back to a topic: nothing missed and nothing twice, or a gap that names exactly what is missing."""

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.sync.client import connect

from events import EventStream
from gateway import PATIENCE, until
from gauges import gauge
from raw import check_problem, get, post


def say(gateway, topic: str, *messages: str | bytes, media_type: str = "text/plain") -> tuple[str, int]:
    """Publishes these one after the other; epoch and offset of the last."""
    connection = None
    for message in messages:
        # One answer per connection.
        connection = http.client.HTTPConnection(*gateway.listen, timeout=PATIENCE)
        connection.request("POST", f"/topics/{topic}", body=message, headers={"Content-Type": media_type})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, said
        connection.close()
    return said["epoch"], said["offset"]


def listen(gateway, topic: str, query: str = ""):
    return connect(gateway.ws(f"/topics/{topic}{query}"), proxy=None)


def numbers(socket, count: int) -> list[int]:
    return [int(socket.recv(timeout=PATIENCE)) for _ in range(count)]


def test_j2_an_event_stream_goes_on_where_it_was(gateway, topic):
    """J2 J4: what a browser does by itself, also when it heard nothing before it was cut."""
    url = gateway.url(f"/topics/{topic}")
    with EventStream(url) as stream:
        say(gateway, topic, "1", "2", "3")
        last = [stream.next() for _ in range(3)][-1]
    epoch, _, offset = last.id.partition("-")
    assert (last.data, offset) == ("3", "3")
    say(gateway, topic, "4", "5\nand a line")
    with EventStream(url, "--header", f"Last-Event-ID: {last.id}") as stream:
        say(gateway, topic, "6")
        events = [stream.next() for _ in range(3)]
        assert [(event.id, event.data) for event in events] == [
            (f"{epoch}-4", "4"), (f"{epoch}-5", "5\nand a line"), (f"{epoch}-6", "6"),
        ]
    # The header is newer than what the page once asked for.
    with EventStream(f"{url}?since=0", "--header", f"Last-Event-ID: {epoch}-5") as stream:
        assert stream.next().data == "6"
    with EventStream(f"{url}?since=0") as stream:
        assert [stream.next().data for _ in range(6)][3:] == ["4", "5\nand a line", "6"]


def test_j4_a_stream_names_its_place_before_its_first_event(gateway, topic):
    """J4: an id alone, from which it can be resumed. B31: one that is resumed has its place already."""
    epoch, offset = say(gateway, topic, "1", "2")
    raw = http.client.HTTPConnection(*gateway.listen, timeout=PATIENCE)
    raw.request("GET", f"/topics/{topic}", headers={"Accept": "text/event-stream"})
    answer = raw.getresponse()
    assert answer.readline() == b"retry: 2000\n"
    assert (answer.readline(), answer.readline(), answer.readline()) == (b"\n", f"id: {epoch}-2\n".encode(), b"\n")
    raw.close()
    with EventStream(gateway.url(f"/topics/{topic}?since={epoch}-2")) as stream:
        say(gateway, topic, "3")
        assert stream.next().data == "3"


def test_b31_c12_a_websocket_asks_with_since(gateway, topic):
    """B31 C12: what is kept, what came after a place, and nothing said of it to who did not ask."""
    epoch, _ = say(gateway, topic, "1", "2", "3")
    with listen(gateway, topic, "?since=0") as socket:
        assert socket.response.headers["Moongate-Recovered"] == "true"
        assert numbers(socket, 3) == [1, 2, 3]
    with listen(gateway, topic, f"?since={epoch}-2") as socket, listen(gateway, topic) as fresh:
        assert socket.response.headers["Moongate-Recovered"] == "true"
        assert "Moongate-Recovered" not in fresh.response.headers
        fresh.send("4")
        assert numbers(socket, 2) == [3, 4]
        assert numbers(fresh, 1) == [4]
    for lost in (f"{'0' * 15}1-2", f"{epoch}-5"):
        with listen(gateway, topic, f"?since={lost}") as socket:
            assert socket.response.headers["Moongate-Recovered"] == "false"
            assert numbers(socket, 4) == [1, 2, 3, 4], "what is kept is heard all the same"
    for wrong in ("", "1", f"{epoch}", f"{epoch}-02", f"{epoch}-1&since=0"):
        answer = get(gateway.listen, f"/topics/{topic}?since={wrong}", "Accept: text/event-stream")
        check_problem(answer, 400)
        assert answer.json()["type"].endswith("since_malformed")


def test_j4_a_gap_names_exactly_what_is_missing(start, topic):
    """J4: too old, of another epoch, or never given out."""
    gateway = start(HISTORY_MESSAGES="2")
    epoch, _ = say(gateway, topic, *map(str, range(1, 8)))
    other = "00000000000000a1"
    check = {
        f"{epoch}-3": {"from": 4, "to": 5},
        f"{epoch}-5": None,
        f"{epoch}-8": {"from": 1, "to": 5, "previous_epoch": epoch},
        f"{other}-7": {"from": 1, "to": 5, "previous_epoch": other},
        "what is this": {"from": 1, "to": 5},
    }
    for last, missing in check.items():
        with EventStream(gateway.url(f"/topics/{topic}"), "--header", f"Last-Event-ID: {last}") as stream:
            if missing:
                gap = stream.next()
                assert (gap.name, json.loads(gap.data)) == ("gap", {"epoch": epoch} | missing), last
                assert gap.id == f"{epoch}-{missing['to']}"
            assert [stream.next().data for _ in range(2)] == ["6", "7"]


def test_j4_history_can_be_off_and_is_bounded_in_time_and_size(start, topic):
    off, short, small = start(HISTORY_MESSAGES="0"), start(HISTORY_TTL="100ms"), start(HISTORY_BYTES="10")
    for gateway in (off, short, small):
        epoch, _ = say(gateway, topic, "x" * 6, "y" * 6)
        kept = 1 if gateway is small else 0
        until("the others to be forgotten", lambda: gauge(gateway, "history_bytes") < 100 * kept + 1)
        with EventStream(gateway.url(f"/topics/{topic}?since={epoch}-0")) as stream:
            gap = json.loads(stream.next().data)
            assert gap == {"epoch": epoch, "from": 1, "to": 2 - kept}
    until("the gap to be counted", lambda: gauge(off, "resumes_total", 'outcome="gap"') == 1)


def test_cuts_at_any_time_lose_nothing(start, topic):
    """Ten clients are cut again and again while two publish: each hears one unbroken sequence, whatever shard it is on."""
    total, speakers = 600, 2
    gateway = start(HISTORY_MESSAGES=str(total))
    epoch, offset = say(gateway, topic, "begin")

    def speak(number):
        with listen(gateway, topic) as socket:
            for count in range(total // speakers):
                socket.send(f"{number}.{count}")
                socket.recv(timeout=PATIENCE)

    def hear(number):
        last, heard, cuts = f"{epoch}-{offset}", [], 0
        while len(heard) < total:
            url = gateway.url(f"/topics/{topic}")
            with EventStream(url, "--header", f"Last-Event-ID: {last}") as stream:
                for _ in range(min(7 + number, total - len(heard))):
                    event = stream.next()
                    assert event.name == "message", event
                    heard.append(int(event.id.partition("-")[2]))
                    last = event.id
            cuts += 1
        assert heard == list(range(offset + 1, offset + 1 + total)), f"after {cuts} cuts not in one piece"

    with ThreadPoolExecutor(10 + speakers) as pool:
        mouths = [pool.submit(speak, number) for number in range(speakers)]
        ears = [pool.submit(hear, number) for number in range(10)]
        for one in mouths + ears:
            one.result()


def test_j4_what_a_policy_drops_is_named_in_its_place(start, topic):
    """J4: ids and gaps together are one unbroken sequence."""
    gateway = start(OUTBOX_POLICY="drop-oldest", OUTBOX_BYTES_MAX="70KiB", SLOW_READER_TIMEOUT="0s", SHARDS="1")
    slow = socket.create_connection(gateway.listen)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(f"GET /topics/{topic} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
    slow.recv(100)
    count = 400
    with listen(gateway, topic) as speaker:
        for number in range(count):
            speaker.send(f"{number} ".ljust(30_000, "x"))
            speaker.recv(timeout=PATIENCE)
    slow.settimeout(PATIENCE)
    text, next_offset, gaps = b"", 1, 0
    while next_offset <= count:
        more = slow.recv(1 << 16)
        assert more, "the stream ended"
        text += more
        *blocks, text = text.split(b"\n\n")
        for block in blocks:
            fields = [line.partition(b": ")[::2] for line in block.split(b"\n") if b": " in line]
            named = dict(fields)
            if named.get(b"event") == b"gap":
                gap = json.loads(named[b"data"])
                assert gap["from"] == next_offset, (gap, next_offset)
                next_offset, gaps = gap["to"] + 1, gaps + 1
            elif b"data" in named:
                assert named[b"id"].endswith(f"-{next_offset}".encode()), (named[b"id"], next_offset)
                next_offset += 1
    slow.close()
    assert gaps > 0


def test_history_goes_before_any_connection_when_memory_is_short(start, topic):
    """K4: nobody is sent away for what is kept."""
    gateway = start(MEMORY_BYTES_MAX="2MiB", SHARDS="1", HISTORY_BYTES="1MiB", HISTORY_MESSAGES="1000")
    with listen(gateway, f"{topic}/stays") as stays:
        for number in range(8):
            say(gateway, f"{topic}/{number}", *(["x" * 60_000] * 6))
        until("some to be forgotten", lambda: gauge(gateway, "history_shed_total") > 0)
        stays.send("still here")
        assert stays.recv(timeout=PATIENCE) == "still here"
        with EventStream(gateway.url(f"/topics/{topic}/7?since=0")) as stream:
            assert stream.next().data == "x" * 60_000, "the newest is kept"


@pytest.mark.parametrize("body", ['{"a": [1, 2]}', '"text"'])
def test_json_is_checked(gateway, topic, body):
    """A body said to be JSON is, for those who get it verbatim."""
    say(gateway, topic, body, media_type="application/json; charset=utf-8")
    with listen(gateway, topic, "?since=0") as socket:
        assert socket.recv(timeout=PATIENCE) == body
    answer = post(gateway.listen, f"/topics/{topic}", b"{", "Content-Type: application/json")
    check_problem(answer, 400)
    assert answer.json()["type"].endswith("not_json")
