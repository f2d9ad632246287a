"""Ordinary requests on a tunnel's route: 426, or passed on one by one where the route says http=pass."""

import threading

import pytest

from gateway import until
from gauges import gauge
from raw import Connection, check_problem, exchange, head
from upstream import is_quiet, is_reset, reset

HOST = "gate.example"
OK = head("HTTP/1.1 200 OK", "Content-Length: 2") + b"ok"


def request(method: str, *more: str, version: str = "1.1") -> bytes:
    return head(f"{method} /t/x HTTP/{version}", f"Host: {HOST}", *more)


def test_without_it_they_are_426(tunnel, upstream):
    gateway = tunnel()
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = exchange(gateway.listen, request(method))
        check_problem(answer, 426)
        assert answer.one("Upgrade") == "websocket" and "http=pass" in answer.json()["hint"]
    assert upstream.is_left_alone(0.1)


@pytest.fixture
def passing(tunnel):
    return tunnel("http=pass")


def test_a_request_and_its_answer(passing, upstream):
    with Connection(passing.listen) as client:
        client.send(request("GET", "Accept: text/html", "Connection: keep-alive"))
        call = upstream.accept()
        first, fields = call.request()
        assert first == "GET /t/x HTTP/1.1"
        assert ("Accept", "text/html") in fields and ("Connection", "close") in fields
        call.send(head("HTTP/1.1 200 Fine", "Content-Type: text/html", "Content-Length: 5", "Set-Cookie: a", "Set-Cookie: b") + b"hello")
        answer = client.answer()
        assert (answer.status, answer.reason, answer.body) == (200, "Fine", b"hello")
        assert answer.all("Set-Cookie") == ["a", "b"] and answer.all("Connection") == ["close"]
        assert answer.one("Date").endswith(" GMT")
        assert call.rest() == b""


def test_h9_a_body_of_a_length(passing, upstream):
    """It goes on as it comes, and what follows it does not."""
    with Connection(passing.listen) as client:
        client.send(request("POST", "Content-Length: 100000") + b"a" * 1000)
        call = upstream.accept()
        assert ("Content-Length", "100000") in call.request()[1]
        assert call.take(1000) == b"a" * 1000
        client.send(b"b" * 99_000 + b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert call.take(99_000) == b"b" * 99_000
        assert is_quiet(call), "H9: nothing follows the body"
        call.send(OK)
        assert client.answer().body == b"ok"


def test_h9_a_body_in_chunks(passing, upstream):
    """In chunks of our own, without extensions and trailers."""
    with Connection(passing.listen) as client:
        body = b"5;ext=1\r\nhello\r\n0006\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"
        client.send(request("PUT", "Transfer-Encoding: chunked") + body)
        call = upstream.accept()
        fields = call.request()[1]
        assert ("Transfer-Encoding", "chunked") in fields and "Content-Length" not in dict(fields)
        found = b""
        while True:
            size = call.line()
            assert b";" not in size
            found += call.take(int(size, 16))
            assert call.take(2) == b"\r\n"
            if int(size, 16) == 0:
                break
        assert found == b"hello world"
        assert is_quiet(call), "H9: nothing follows the body"
        call.send(OK)
        assert client.answer().body == b"ok"


def test_h9_malformed_chunks_never_pass_for_a_whole_body(passing, upstream):
    with Connection(passing.listen) as client:
        client.send(request("POST", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        call = upstream.accept()
        call.head_bytes()
        assert call.take(10) == b"5\r\nhello\r\n"
        client.send(b"zz\r\n")
        is_reset(call)
        assert b"\r\n0\r\n\r\n" not in call.pending, "the last chunk is not made up"


def test_a_body_that_stops_short(passing, upstream):
    with Connection(passing.listen) as client:
        client.send(request("POST", "Content-Length: 10") + b"half")
        call = upstream.accept()
        call.head_bytes()
        assert call.take(4) == b"half"
        reset(client)
        is_reset(call)
        assert call.pending == b""


def test_head_has_no_body(passing, upstream):
    with Connection(passing.listen) as client:
        client.send(request("HEAD"))
        call = upstream.accept()
        assert call.request()[0] == "HEAD /t/x HTTP/1.1"
        call.send(head("HTTP/1.1 200 OK", "Content-Length: 99"))
        answer = client.answer()
        assert (answer.status, answer.one("Content-Length"), answer.body) == (200, "99", b"")


def test_http_1_0(passing, upstream):
    """It knows no chunks: the answer ends with its connection."""
    with Connection(passing.listen) as client:
        client.send(request("GET", "Connection: keep-alive", version="1.0"))
        call = upstream.accept()
        first, fields = call.request()
        assert first == "GET /t/x HTTP/1.1" and ("Via", "1.0 moongate") in fields
        call.send(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
        answer = client.answer()
        assert answer.body == b"hello" and not answer.all("Transfer-Encoding") and not answer.all("Content-Length")


def test_a_large_answer_to_a_slow_reader(passing, upstream):
    """In chunks, until close and by length; a reader that takes its time."""
    body = bytes(range(256)) * 8192
    for fields, sent in [
        (["Transfer-Encoding: chunked"], b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces(body, 70_000)) + b"0\r\n\r\n"),
        ([f"Content-Length: {len(body)}"], body),
        ([], body),
    ]:
        with Connection(passing.listen, receive_buffer=8192) as client:
            client.send(request("GET"))
            call = upstream.accept()
            call.head_bytes()
            threading.Thread(target=say, args=(call, head("HTTP/1.1 200 OK", *fields) + sent)).start()
            answer = client.answer()
            assert (unchunked(answer.body) if answer.all("Transfer-Encoding") else answer.body) == body


def say(call, everything: bytes):
    call.send(everything)
    call.socket.close()


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def unchunked(body: bytes) -> bytes:
    out = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        out.append(body[:length])
        body = body[length + 2 :]
        if length == 0:
            return b"".join(out)


@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_h16_an_answer_that_stops_short_is_not_a_whole_one(passing, upstream, ending):
    """The client cannot take what it has for all of it."""
    for fields, part in [(["Content-Length: 10"], b"half"), (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n")]:
        with Connection(passing.listen) as client:
            client.send(request("GET"))
            call = upstream.accept()
            call.head_bytes()
            call.send(head("HTTP/1.1 200 OK", *fields) + part)
            assert client.head().status == 200
            if ending == "RST":
                reset(call)
            else:
                call.socket.close()
            assert is_reset(client) or not client.pending.endswith(b"0\r\n\r\n")


def test_an_answer_before_the_body_has_come(passing, upstream):
    """It is passed on at once, and the rest of the body is nobody's."""
    with Connection(passing.listen) as client:
        client.send(request("POST", "Content-Length: 1000000") + b"a" * 1000)
        call = upstream.accept()
        call.head_bytes()
        call.send(head("HTTP/1.1 413 Too Large", "Content-Length: 0", "Connection: close"))
        answer = client.head()
        assert answer.status == 413


def test_trace_is_not_passed_on(passing, upstream):
    answer = exchange(passing.listen, request("TRACE"))
    check_problem(answer, 405)
    assert "GET" in answer.one("Allow") and upstream.is_left_alone(0.1)


def test_nothing_stays_behind(passing, upstream):
    for _ in range(20):
        with Connection(passing.listen) as client:
            client.send(request("GET"))
            call = upstream.accept()
            call.head_bytes()
            call.send(OK)
            assert client.answer().status == 200
    until("all to be gone", lambda: gauge(passing, "connections") == 0 and gauge(passing, "memory_bytes") == 0)
