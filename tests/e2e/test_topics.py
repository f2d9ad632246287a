"""A topic is a URL: WebSockets, event streams and POST on it, with clients that others wrote."""

import asyncio
import json
import subprocess

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

from events import EventStream
from gateway import PATIENCE, ROOT
from raw import check_problem, get, head, open_websocket, exchange, post

NODE = str(ROOT / "target/test-env/bin/node")


def curl(*arguments: str, data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one curl call."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}", *arguments],
        input=data, capture_output=True, timeout=PATIENCE + 5,
    )
    assert done.returncode == 0, done.stderr.decode()
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_two_clients_hear_each_other_and_themselves(gateway, topic):
    """Text stays text, binary stays binary, and the publisher hears its own message."""
    url = gateway.ws(f"/topics/{topic}")
    with connect(url, proxy=None) as one, connect(url, proxy=None) as other:
        for speaker, message in [(one, "hello"), (other, b"\x00\xff\x7a"), (one, "zażółć 🌕"), (other, ""), (one, b"")]:
            speaker.send(message)
            for listener in (one, other):
                heard = listener.recv(timeout=PATIENCE)
                assert heard == message and type(heard) is type(message)


def test_topics_are_apart(gateway, topic):
    with (
        connect(gateway.ws(f"/topics/{topic}/a"), proxy=None) as a,
        connect(gateway.ws(f"/topics/{topic}/b"), proxy=None) as b,
    ):
        a.send("only here")
        b.send("only there")
        assert a.recv(timeout=PATIENCE) == "only here"
        assert b.recv(timeout=PATIENCE) == "only there"


def test_all_see_the_same_order(gateway, topic):
    """Twenty WebSockets on two shards, five of them speaking at once, and an event stream: one order for all."""
    listeners, speakers, messages = 20, 5, 100
    url = gateway.ws(f"/topics/{topic}")

    async def scenario():
        clients = await asyncio.gather(*(connect_async(url, proxy=None) for _ in range(listeners)))

        async def speak(number, client):
            for count in range(messages):
                await client.send(f"{number}:{count}")

        async def listen(client):
            return [await client.recv() for _ in range(speakers * messages)]

        heard = asyncio.gather(*(listen(client) for client in clients))
        await asyncio.gather(*(speak(number, clients[number]) for number in range(speakers)))
        heard = await asyncio.wait_for(heard, PATIENCE * 2)
        await asyncio.gather(*(client.close() for client in clients))
        return heard

    with EventStream(gateway.url(f"/topics/{topic}")) as stream:
        heard = asyncio.run(scenario())
        events = [stream.next() for _ in range(speakers * messages)]
    order = heard[0]
    assert all(other == order for other in heard)
    assert [event.data for event in events] == order
    for number in range(speakers):
        own = [message for message in order if message.startswith(f"{number}:")]
        assert own == [f"{number}:{count}" for count in range(messages)], "a speaker's own order is kept"
    check_offsets(events)


def check_offsets(events):
    """Ids are `epoch-offset`: one epoch, 16 hexadecimal digits, and offsets without a gap."""
    places = [event.id.split("-") for event in events]
    assert len({epoch for epoch, _ in places}) == 1
    assert len(places[0][0]) == 16 and int(places[0][0], 16) >= 0
    offsets = [int(offset) for _, offset in places]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def test_fragments_become_one_message(gateway, topic):
    """D8, D10: with a ping in between, which is answered at once."""
    with connect(gateway.ws(f"/topics/{topic}"), proxy=None) as one, connect(gateway.ws(f"/topics/{topic}"), proxy=None) as two:
        def parts():
            yield "first, "
            pong = one.ping("now")
            assert pong.wait(PATIENCE), "D8: a ping between fragments is answered before the message ends"
            yield ""
            yield "second"

        one.send(parts())
        assert two.recv(timeout=PATIENCE) == "first, second"
        assert one.recv(timeout=PATIENCE) == "first, second"


def test_large_messages_pass_whole(gateway, topic):
    message = "".join(chr(0x4E00 + number % 500) for number in range(21_000))
    with connect(gateway.ws(f"/topics/{topic}"), proxy=None) as one:
        for _ in range(5):
            one.send(message)
        for _ in range(5):
            assert one.recv(timeout=PATIENCE) == message


def test_echo(gateway):
    """/echo sends each message back, to nobody else."""
    with connect(gateway.ws("/echo"), proxy=None) as one, connect(gateway.ws("/echo"), proxy=None) as other:
        for message in ["text", b"\x00binary", "x" * 65_536]:
            one.send(message)
            assert one.recv(timeout=PATIENCE) == message
        other.send("mine")
        assert other.recv(timeout=PATIENCE) == "mine"


NODE_CHAT = """
const [url, count] = [process.argv[1], Number(process.argv[2])];
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail('timed out'), 30000);
const sockets = [new WebSocket(url), new WebSocket(url)];
const heard = [[], []];
let open = 0, closed = 0;
sockets.forEach((socket, index) => {
  socket.binaryType = 'arraybuffer';
  socket.onerror = (event) => fail('error: ' + event.message);
  socket.onopen = () => { if (++open === 2) for (let i = 0; i < count; i++) sockets[i % 2].send(i % 3 ? `text ${i}` : Uint8Array.of(i, 255)); };
  socket.onmessage = ({ data }) => {
    heard[index].push(typeof data === 'string' ? data : 'bytes ' + Buffer.from(data).toString('hex'));
    if (heard[index].length === count) socket.close(4000, 'enough');
  };
  socket.onclose = (event) => {
    if (event.code !== 4000 || !event.wasClean) fail(`closed ${event.code} ${event.reason}`);
    if (++closed === 2) { console.log(JSON.stringify(heard)); process.exit(0); }
  };
});
"""


def test_the_websocket_of_node(gateway, topic):
    count = 60
    done = subprocess.run(
        [NODE, "--eval", NODE_CHAT, "--", gateway.ws(f"/topics/{topic}"), str(count)],
        capture_output=True, text=True, timeout=PATIENCE * 2,
    )
    assert done.returncode == 0, done.stderr
    one, other = json.loads(done.stdout)
    assert one == other
    assert sorted(one) == sorted(f"text {i}" if i % 3 else f"bytes {i:02x}ff" for i in range(count))


def test_an_event_stream_hears_text_binary_and_lines(gateway, topic):
    """J1, J2: every kind of line end splits; binary is base64; nothing in a message can start a field of its own."""
    url = gateway.url(f"/topics/{topic}")
    messages = ["plain", "two\nlines", "a\rb\r\nc", "", "\n", "id: 7\nevent: evil\n\ndata: x", " leading space", ": no comment", "🌕"]
    with EventStream(url) as stream, connect(gateway.ws(f"/topics/{topic}"), proxy=None) as speaker:
        assert stream.status == 200
        assert stream.fields["content-type"].split(";")[0] == "text/event-stream"
        assert stream.fields["cache-control"] in ("no-store", "no-cache"), "J3"
        assert "transfer-encoding" not in stream.fields and "content-length" not in stream.fields, "J3"
        assert "accept" in stream.fields["vary"].lower()
        for message in messages:
            speaker.send(message)
        speaker.send(bytes(range(256)))
        events = [stream.next() for _ in messages]
        assert [event.data for event in events] == [message.replace("\r\n", "\n").replace("\r", "\n") for message in messages]
        assert all(event.name == "message" for event in events)
        binary = stream.next()
        assert binary.name == "binary" and binary.bytes() == bytes(range(256))
        check_offsets([*events, binary])
        assert stream.retry is not None


def test_an_event_stream_for_http_1_0(gateway, topic):
    """J3: the end of the connection is the end of the stream, so one form serves 1.0 too."""
    with EventStream(gateway.url(f"/topics/{topic}"), "--http1.0") as stream:
        assert stream.status == 200
        assert post(gateway.listen, f"/topics/{topic}", b"old friend").status == 200
        assert stream.next().data == "old friend"


def test_curl_publishes(gateway, topic):
    """POST with a length, chunked, as text and as binary; each is told its place in the topic."""
    url = gateway.url(f"/topics/{topic}")
    with connect(gateway.ws(f"/topics/{topic}"), proxy=None) as listener:
        calls = [
            (["--data", "hello"], None, "hello"),
            (["--header", "Content-Type: text/plain", "--data", "typed"], None, "typed"),
            (["--header", "Transfer-Encoding: chunked", "--data-binary", "@-"], b"c" * 30_000, "c" * 30_000),
            (["--header", "Content-Type: application/octet-stream", "--data-binary", "@-"], b"\x00\xff", b"\x00\xff"),
            (["--header", "Content-Type:", "--data-binary", "@-"], "no type ☾".encode(), "no type ☾"),
            (["--header", "Expect: 100-continue", "--data", "expected"], None, "expected"),
        ]
        places = []
        for arguments, data, expect in calls:
            status, body = curl(*arguments, url, data=data)
            assert status == 200, body
            place = json.loads(body)
            assert place["topic"] == topic
            places.append((place["epoch"], place["offset"]))
            assert listener.recv(timeout=PATIENCE) == expect
    epoch, first = places[0]
    assert places == [(epoch, first + number) for number in range(len(calls))]


def test_the_place_told_is_the_place_heard(gateway, topic):
    with EventStream(gateway.url(f"/topics/{topic}")) as stream:
        for number in range(3):
            place = post(gateway.listen, f"/topics/{topic}", f"message {number}".encode()).json()
            event = stream.next()
            assert event.id == f"{place['epoch']}-{place['offset']}" and event.data == f"message {number}"


@pytest.mark.parametrize(
    ("body", "fields", "status"),
    [
        (b"x" * 70_000, [], 413),
        (b"\xff\xfe", [], 415),
        (b"\xff\xfe", ["Content-Type: text/plain"], 415),
    ],
    ids=["too big", "not UTF-8", "not UTF-8 as text"],
)
def test_what_cannot_be_published(gateway, topic, body, fields, status):
    answer = post(gateway.listen, f"/topics/{topic}", body, *fields)
    check_problem(answer, status)


def test_a_chunked_body_that_grows_too_big(gateway, topic):
    """413 comes at the first byte too many, not at the body's end."""
    request = head(f"POST /topics/{topic} HTTP/1.1", f"Host: {gateway.host}", "Transfer-Encoding: chunked")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    check_problem(exchange(gateway.listen, request + chunk * 6), 413)


def test_curl_with_a_huge_file_still_reads_the_413(gateway, topic):
    """A30, with a client that sends on as long as it can."""
    status, _ = curl("--data-binary", "@-", gateway.url(f"/topics/{topic}"), data=b"x" * 300_000)
    assert status == 413


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("100%25", "100%"),
        ("a%2541", "a%41"),
        ("sport/tennis", "sport/tennis"),
        ("a/$b", "a/$b"),
        ("...", "..."),
        ("%F0%9F%8C%95", "🌕"),
        ("a%20b?and=nothing", "a b"),
        ("a" * 255, "a" * 255),
    ],
)
def test_a_topic_is_its_decoded_path(gateway, path, name):
    """Decoded once, after the split; the query never names it."""
    answer = post(gateway.listen, f"/topics/{path}", b"hello")
    assert answer.status == 200, answer
    assert answer.json()["topic"] == name


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "a/", "/a", "a//b", ".", "..", "a/./b", "a/../b", "%2e%2e", "a%2Fb", "$sys", "%24sys", "a*", "a/+", "%23", "a+b",
        "%", "%4", "%zz", "%ff", "%C3", "a%00b", "a%0Ab", "a%7Fb", "a%C2%85b", "a" * 256, "%41" * 256,
    ],
)
def test_what_is_no_topic(gateway, path):
    """400 on every way in."""
    check_problem(post(gateway.listen, f"/topics/{path}", b"hello"), 400)
    check_problem(get(gateway.listen, f"/topics/{path}", "Accept: text/event-stream"), 400)


def test_a_name_spelt_in_two_ways_is_one_topic(gateway, topic):
    with open_websocket(gateway.listen, f"/topics/{topic}/caf%C3%A9") as connection:
        post(gateway.listen, f"/topics/{topic}/c%61f%c3%a9", b"same place")
        assert connection.frame()[1] == b"same place"


def test_who_has_seen_the_101_hears_everything_after_it(gateway, topic):
    """Publishing from another connection, right behind each 101."""
    for number in range(30):
        with open_websocket(gateway.listen, f"/topics/{topic}/{number}") as connection:
            assert post(gateway.listen, f"/topics/{topic}/{number}", b"after").status == 200
            assert connection.frame()[1] == b"after"


def test_more_subscribers_than_one_submission_takes(start, topic):
    """A topic heard by many, across both shards: each gets each message once."""
    gateway = start()
    clients = [open_websocket(gateway.listen, f"/topics/{topic}") for _ in range(1200)]
    for number in range(3):
        assert post(gateway.listen, f"/topics/{topic}", f"round {number}".encode()).status == 200
    try:
        for client in clients:
            assert [client.frame()[1] for _ in range(3)] == [b"round 0", b"round 1", b"round 2"]
            assert not client.pending
        assert gateway.open_files() < 200 + gateway.files_each * len(clients)
    finally:
        for client in clients:
            client.socket.close()
