"""Sections C, J and L of docs/protocol.md as far as they show on the wire: the 101, event streams, origins."""

import base64
import os
import re
import threading

import pytest

import raw
from gateway import Gateway
from raw import ACCEPT, KEY, Connection, check_problem, exchange, head, open_websocket, upgrade
from table import PATH, Switched, accept, check_switched, parametrized, plain, switching, wish


def sent_to(gateway, request: bytes) -> bytes:
    return request.replace(b"HOST", gateway.host.encode())


def test_c1_the_example_of_the_rfc():
    assert accept(KEY) == ACCEPT == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


KEYS = {f"C1 key {number}": base64.b64encode(os.urandom(16)).decode() for number in range(8)} | {
    "C1 the example": KEY,
    "C1 all zeros": "A" * 22 + "==",
    "C1 every digit that is no letter": "++++////++++////++++//==",
}


@pytest.mark.parametrize("row", **parametrized({name: Switched(wish(f"Sec-WebSocket-Key: {key}"), key=key) for name, key in KEYS.items()}))
def test_c1_c2_the_answer_to_the_last_byte(gateway, row):
    """Three fields, one accept key, no content, and frames right behind."""
    check_switched(gateway, row)


NAMED = {
    "C3 no subprotocol is agreed on": ["Sec-WebSocket-Protocol: chat, superchat"],
    "C3 one subprotocol on each line": ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"],
    "C4 no extension is known": ["Sec-WebSocket-Extensions: x-webkit-deflate-frame, mux; max-channels=4"],
    "C5 only what is switched to is named": ["Upgrade: h2c, irc/6.9, websocket, TLS/1.3"],
    "C5 in our own spelling": ["Upgrade: WEBSOCKET"],
}


@pytest.mark.parametrize("changes", **parametrized(NAMED))
def test_the_answer_names_nothing_else(gateway, changes):
    check_switched(gateway, Switched(wish(*changes)))


INJECTIONS = {
    "the path": plain(path="/topics/x%0d%0aSet-Cookie:%20zzz=1"),
    "the path, on a WebSocket": wish(path="/topics/zzz%0d%0aZzz:%20zzz"),
    "an unknown path": wish(path="/zzz"),
    "the host": wish("Host: zzz.example", "Origin: http://elsewhere.example"),
    "the protocol": wish("Upgrade: zzz"),
    "the version": wish("Sec-WebSocket-Version: zzz"),
    "the key": wish("Sec-WebSocket-Key: zzz"),
    "the origin": wish("Origin: http://zzz.example"),
    "a subprotocol": wish("Sec-WebSocket-Protocol: zzz, zzz"),
    "an extension": wish("Sec-WebSocket-Extensions: zzz="),
    "an expectation": wish("Expect: zzz"),
    "the method": plain(method="ZZZ"),
    "a preflight": plain("Origin: http://zzz.example", "Access-Control-Request-Method: ZZZ", method="OPTIONS"),
}


@pytest.mark.parametrize("request_bytes", **parametrized({f"C8 {name}": request for name, request in INJECTIONS.items()}))
def test_c8_nothing_of_a_request_is_in_its_refusal(gateway, request_bytes):
    with Connection(gateway.listen) as connection:
        connection.send(sent_to(gateway, request_bytes))
        assert b"zzz" not in connection.rest().lower()


def test_c9_the_101_comes_before_every_frame(gateway, topic):
    """Many connect while somebody speaks without pause: each gets its 101 first, then whole messages in order."""
    done = threading.Event()
    request, expect = upgrade(f"/topics/{topic}", gateway.host), switching(KEY)
    with open_websocket(gateway.listen, f"/topics/{topic}") as speaker:

        def speak():
            number = 0
            while not done.is_set():
                speaker.send(raw.frame(raw.TEXT, str(number).encode()))
                number += 1
                assert speaker.frame()[0] == raw.TEXT

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            for _ in range(200):
                with Connection(gateway.listen) as connection:
                    connection.send(request)
                    assert connection.take(len(expect)) == expect
                    first = int(connection.frame()[1])
                    assert [int(connection.frame()[1]) for _ in range(3)] == [first + 1, first + 2, first + 3]
        finally:
            done.set()
            thread.join()


def test_c11_no_cookie_is_ever_set(gateway):
    for request in (wish("Cookie: session=zzz"), wish("Cookie: session=zzz", path="/nowhere"), plain(path="/")):
        with Connection(gateway.listen) as connection:
            connection.send(sent_to(gateway, request))
            assert b"set-cookie" not in connection.head_bytes().lower()


STREAM_FIELDS = ["date", "connection", "content-type", "cache-control", "x-content-type-options", "vary", "x-accel-buffering"]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_j1_j2_j3_an_event_stream_byte_for_byte(gateway, topic, version):
    """One form for both versions: until the connection's end, never stored, every line end of a message split."""
    with Connection(gateway.listen) as stream:
        stream.send(sent_to(gateway, plain("Accept: text/event-stream", path=f"/topics/{topic}", version=version)))
        answer = stream.head()
        assert answer.status == 200
        assert sorted(name for name, _ in answer.fields) == sorted(STREAM_FIELDS)
        assert answer.one("Content-Type") == "text/event-stream" and answer.one("Cache-Control") == "no-store"
        assert answer.one("Connection") == "close" and answer.members("Vary") == ["accept", "origin"]
        expect = b"retry: 2000\n\n"
        assert stream.take(len(expect)) == expect
        # J4: where it begins.
        begins = stream.take(len("id: 0123456789abcdef-0\n\n"))
        for body, kind, lines in [
            (b"plain", "text/plain", b"data: plain\n"),
            (b"a\nb\r\nc\rd", "text/plain", b"data: a\ndata: b\ndata: c\ndata: d\n"),
            (b"id: 7\nevent: x\n\ndata: y\n", "text/plain", b"data: id: 7\ndata: event: x\ndata: \ndata: data: y\ndata: \n"),
            (b"\xef\xbb\xbfbom \0 and NUL", "text/plain", b"data: \xef\xbb\xbfbom \0 and NUL\n"),
            (b"\x00\xff\n", "application/octet-stream", b"event: binary\ndata: AP8K\n"),
        ]:
            place = raw.post(gateway.listen, f"/topics/{topic}", body, f"Content-Type: {kind}").json()
            assert begins == f"id: {place['epoch']}-0\n\n".encode()
            expect = f"id: {place['epoch']}-{place['offset']}\n".encode() + lines + b"\n"
            assert stream.take(len(expect)) == expect
            assert re.fullmatch(rb"id: [0-9a-f]{16}-[1-9][0-9]*", expect.split(b"\n")[0])


def test_j2_a_last_event_id_is_no_reason_to_refuse(gateway, topic):
    """There is no history yet: the stream goes on with what is new."""
    for last in ["0123456789abcdef-7", "anything else", ""]:
        with Connection(gateway.listen) as stream:
            stream.send(sent_to(gateway, plain("Accept: text/event-stream", f"Last-Event-ID: {last}", path=f"/topics/{topic}")))
            assert stream.head().status == 200


def test_j3_what_is_sent_on_an_event_stream_is_not_read(gateway, topic):
    """B30: an event stream is the answer to the only request of its connection."""
    publish = plain("Content-Length: 5", path=f"/topics/{topic}", method="POST") + b"never"
    with Connection(gateway.listen) as stream:
        stream.send(sent_to(gateway, plain("Accept: text/event-stream", path=f"/topics/{topic}") + publish))
        stream.head()
        stream.take(len(b"retry: 2000\n\n"))
        stream.send(sent_to(gateway, publish))
        assert raw.post(gateway.listen, f"/topics/{topic}", b"first").json()["offset"] == 1
        assert stream.take(4) == b"id: "


SAME = {
    "http://HOST": 101,
    "HTTP://HOST": 101,
    "http://elsewhere.example": 403,
    "http://HOST.evil.example": 403,
    "http://evil.exampleHOST": 403,
    "http://evil.example/HOST": 403,
    "http://HOST/": 403,
    "http://user@HOST": 403,
    "http://HOST, http://HOST": 403,
    "HOST": 403,
    "//HOST": 403,
    "null": 403,
    "": 403,
    "file://": 403,
    "http://caf\xe9": 403,
}
LISTED = {
    "https://app.example": 101,
    "https://app.example:443": 101,
    "HTTPS://APP.EXAMPLE": 101,
    "https://other.example:8443": 101,
    "http://app.example": 403,
    "https://app.example:8443": 403,
    "https://other.example": 403,
    "https://xapp.example": 403,
    "https://sub.app.example": 403,
    "https://app.example.evil.example": 403,
    "https://app.exampl": 403,
    "https://app.example.": 403,
    "http://HOST": 403,
    "null": 403,
    "": 403,
}


@pytest.fixture(scope="module")
def listed():
    """A gateway for the pages of two origins."""
    gateway = Gateway(ORIGINS="https://app.example, https://other.example:8443")
    yield gateway
    assert gateway.stop() == 0, gateway.log
    gateway.check_sound()


@pytest.mark.parametrize(("origin", "status"), SAME.items(), ids=[f"L1 same {origin!a}" for origin in SAME])
def test_l1_the_same_origin(gateway, origin, status):
    check_origin(gateway, origin, status)


@pytest.mark.parametrize(("origin", "status"), LISTED.items(), ids=[f"L1 listed {origin!a}" for origin in LISTED])
def test_l1_listed_origins(listed, origin, status):
    check_origin(listed, origin, status)


def check_origin(gateway, origin: str, status: int):
    """L8: the same for a WebSocket and for publishing, which is all a page could do in its user's name."""
    with Connection(gateway.listen) as connection:
        connection.send(sent_to(gateway, wish(f"Origin: {origin}")))
        assert connection.head().status == status
    answer = exchange(gateway.listen, sent_to(gateway, plain(f"Origin: {origin}", "Content-Length: 5", method="POST") + b"hello"))
    assert answer.status == (200 if status == 101 else 403), answer
    readable = [origin.replace("HOST", gateway.host)] if status == 101 else []
    assert answer.all("Access-Control-Allow-Origin") == readable, "who may not, is not told more"
    assert "origin" in answer.members("Vary")
    if status == 403:
        check_problem(answer, 403)
        assert "MOONGATE_ORIGINS" in answer.json()["hint"]


@pytest.mark.parametrize(
    ("origin", "allowed"), [("http://HOST", True), ("http://elsewhere.example", False), ("null", False)], ids=["L1 own", "L1 foreign", "L1 null"]
)
def test_l8_what_a_browser_asks_before_it_publishes_bytes(gateway, origin, allowed):
    """A preflight of a page of another origin gets no leave, and so the page's bytes never come."""
    fields = [f"Origin: {origin}", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"]
    answer = exchange(gateway.listen, sent_to(gateway, plain(*fields, method="OPTIONS")))
    assert answer.status == 204 and "origin" in answer.members("Vary"), answer
    assert answer.all("Access-Control-Allow-Origin") == ([f"http://{gateway.host}"] if allowed else [])
    assert ("post" in answer.members("Access-Control-Allow-Methods")) == allowed
    assert ("content-type" in answer.members("Access-Control-Allow-Headers")) == allowed
    assert not answer.all("Access-Control-Allow-Credentials")


def test_l3_secrets_in_a_query_are_not_logged(start):
    """And no subprotocol that carries one is ever agreed on."""
    gateway = start()
    request = wish("Sec-WebSocket-Protocol: bearer.zzz-secret", "Origin: null", "Authorization: Bearer zzz-secret", path=f"{PATH}?token=zzz-secret")
    check_problem(exchange(gateway.listen, sent_to(gateway, request)), 403)
    gateway.says("origin_refused")
    assert "zzz-secret" not in gateway.log
    with Connection(gateway.listen) as connection:
        connection.send(sent_to(gateway, wish("Sec-WebSocket-Protocol: bearer.zzz-secret")))
        assert connection.head_bytes() == switching(KEY)


def test_l5_l6_a_token_nobody_has(start):
    """One answer to a wrong one, a nearly right one and a right one with more behind it: nothing tells them apart."""
    gateway = start(CONTROL_TOKEN="moon-river-42")
    assert "error" not in raw.get(gateway.control, "/topics").one("WWW-Authenticate"), "RFC 6750 §3.1: none was sent"
    seen = set()
    for token in ["x", "moon-river-43", "moon-river-4", "moon-river-421", "Moon-river-42"]:
        line = f"Authorization: Bearer {token}"
        answer = raw.get(gateway.control, "/topics", line)
        assert answer.status == 401 and answer.one("WWW-Authenticate"), answer
        seen.add((tuple(pair for pair in answer.fields if pair[0] != "date"), answer.body))
    assert len(seen) == 1


def test_l7_who_may_not_speak_may_not_by_any_way(start):
    """E13: 403, and 1008 where a Close has to say it."""
    gateway = start(ANONYMOUS="subscribe")
    check_problem(exchange(gateway.listen, head(f"POST {PATH} HTTP/1.1", f"Host: {gateway.host}", "Content-Length: 0")), 403)
    with open_websocket(gateway.listen, PATH) as speaker:
        speaker.send(raw.frame(raw.TEXT, b"begun", fin=False) + raw.frame(0x0, b"ended"))
        code, reason = speaker.close_frame()
        assert code == 1008 and "MOONGATE_ANONYMOUS" in reason
