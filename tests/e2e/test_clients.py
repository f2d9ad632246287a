"""Clients that others wrote chat with everyone else on a topic: another library, an event stream and POST."""

import pytest
from websockets.sync.client import connect

from client import LIBRARIES, Client, Library
from events import EventStream
from gateway import PATIENCE
from raw import post

# Both sides of every length that a frame's header writes differently (RFC 6455 §5.2), up to the longest allowed.
MESSAGES = [
    "hello",
    b"\x00\xff\x7a",
    "",
    b"",
    "zażółć gęślą jaźń 🌕",
    "a" * 125,
    b"b" * 126,
    "ż" * 32_767,
    b"d" * 65_535,
    "e" * 65_536,
]


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request) -> Library:
    return request.param


def offers_of(library: Library) -> list[list[str]]:
    """The options to connect with, one after the other."""
    return [[], ["deflate"]] if library.deflate else [[]]


def test_chat(library, gateway, topic):
    """Both directions, text and binary, of every size: with websockets, an event stream and POST on the same topic."""
    for number, offer in enumerate(offers_of(library)):
        path = f"/topics/{topic}/{number}"
        with (
            EventStream(gateway.url(path)) as stream,
            connect(gateway.ws(path), proxy=None) as other,
            Client(library, gateway.ws(path), *offer) as one,
        ):
            assert ("permessage-deflate" in one.opened()) == ("deflate" in offer)
            for message in MESSAGES:
                one.send(message)
                one.heard(message)
                assert other.recv(timeout=PATIENCE) == message
                event = stream.next()
                assert (event.data if isinstance(message, str) else event.bytes()) == message
                assert event.name == ("message" if isinstance(message, str) else "binary")
                other.send(message)
                one.heard(message)
                assert other.recv(timeout=PATIENCE) == message
                stream.next()
            assert post(gateway.listen, path, "by POST".encode()).status == 200
            assert post(gateway.listen, path, b"\xfe\x00", "Content-Type: application/octet-stream").status == 200
            one.heard("by POST")
            one.heard(b"\xfe\x00")


def test_many_messages_at_once(library, gateway, topic):
    """Sent without waiting: all come back, in order."""
    for number, offer in enumerate(offers_of(library)):
        with Client(library, gateway.ws(f"/topics/{topic}/{number}"), *offer) as one:
            one.opened()
            messages = [f"message {count} " * (count % 50) for count in range(500)]
            for message in messages:
                one.send(message)
            for message in messages:
                one.heard(message)


def test_fragments(library, gateway, topic):
    """D8: a ping between two fragments is answered at once; the fragments are one message to everybody."""
    if not library.fragments:
        pytest.skip(f"{library} sends no fragments")
    for number, offer in enumerate(offers_of(library)):
        url = gateway.ws(f"/topics/{topic}/{number}")
        with connect(url, proxy=None) as other, Client(library, url, *offer) as one:
            one.opened()
            for first, second, third in [("one, ", "", "two 🌕"), (b"\x00", b"\xff" * 300, b"")]:
                one.begin(first)
                one.ping(b"in between")
                one.ponged(b"in between")
                one.part(second)
                one.last(third)
                one.heard(first + second + third)
                assert other.recv(timeout=PATIENCE) == first + second + third


def test_pings(library, gateway, topic):
    if not library.pings:
        pytest.skip(f"{library} sends no pings of its user's")
    with Client(library, gateway.ws(f"/topics/{topic}")) as one:
        one.opened()
        for payload in (b"", b"\x00\xff", b"p" * 125):
            one.ping(payload)
            one.ponged(payload)


def test_pings_of_the_gateway_are_answered(library, start, topic):
    """Another one comes only to who has answered the one before."""
    gateway = start(PING_INTERVAL="200ms", PONG_TIMEOUT="1h")
    with Client(library, gateway.ws(f"/topics/{topic}")) as one:
        one.opened()
        for _ in range(8):
            one.pinged()
        assert post(gateway.listen, f"/topics/{topic}", b"still here").status == 200
        while one.next_kind() == "pinged":
            one.pinged()
        one.heard("still here")


def test_the_client_closes(library, gateway, topic):
    """The code comes back."""
    for code, reason in [(1000, ""), (1000, "enough"), (3000, "zażółć 🌕"), (4999, "r" * 123)]:
        with Client(library, gateway.ws(f"/topics/{topic}")) as one:
            one.opened()
            one.close(code, reason)
            assert one.closed()[0] == code


def test_the_client_closes_without_a_code(library, gateway, topic):
    if not library.closes_without_code:
        pytest.skip(f"{library} always sends a code")
    with Client(library, gateway.ws(f"/topics/{topic}")) as one:
        one.opened()
        one.close()
        assert one.closed() == (1005, "")


def test_the_gateway_closes(library, start, topic):
    """A message too big, a speaker who may only listen, the end of the process: each is told why."""
    gateway = start(ANONYMOUS="subscribe", ECHO="on", MESSAGE_BYTES_MAX="1KiB")
    for path, message, code, word in [
        ("/echo", "x" * 1025, 1009, "too big"),
        (f"/topics/{topic}", "may I?", 1008, "MOONGATE_ANONYMOUS"),
    ]:
        with Client(library, gateway.ws(path)) as one:
            one.opened()
            one.send(message)
            found, reason = one.closed()
            assert found == code and word in reason
    with Client(library, gateway.ws(f"/topics/{topic}")) as one:
        one.opened()
        assert gateway.stop() == 0
        assert one.closed()[0] == 1001


def test_refusals(library, gateway, topic):
    """A status that the library can show, and for those that show the body, the hint."""
    for path, options, status in [("/nowhere", [], 404), (f"/topics/{topic}", ["origin=http://evil.example"], 403)]:
        with Client(library, gateway.ws(path), *options) as one:
            found, body = one.refused()
            assert found == status
            if library.shows_bodies:
                assert b'"hint"' in body
