"""Section B of docs/protocol.md, the decision table: each of its 30 rows as raw bytes, sent to the running program."""

import signal
import socket
import time

import pytest

import raw
from raw import KEY, Connection, check_problem, exchange, head, open_websocket, upgrade
from table import (
    PATH, READING, SECOND, Answered, Refused, Switched, check_answered, check_refused, check_staged_end, check_switched,
    parametrized, plain, switching, wish,
)  # fmt: skip

ECHO = "/echo"
EVENTS = "Accept: text/event-stream"
HTML = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
METHODS = ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "HEAD"]
KEYS = {
    "of 15 bytes": "dGhlIHNhbXBsZSBub25j",
    "of 17 bytes": "dGhlIHNhbXBsZSBub25jZQA=",
    "empty": "",
    "short of padding": "dGhlIHNhbXBsZSBub25jZQ=",
    "with too much padding": "dGhlIHNhbXBsZSBub25jZ===",
    "with a byte that is no digit": "dGhlIHNhbXBsZSBub25j!Q==",
    "in the alphabet for URLs": "dGhlIHNhbXBsZSBub2-_ZQ==",
    "with more behind it": f"{KEY}, {KEY}",
}
EXTENSIONS = ["", ",", ";a", "a b", "a;", "a;b=", "a;=b", 'a; b="c', 'a; b="c d"', 'a; b=""', "a,(b)", "a; b c", 'a; b="c"d']
# Offers of what nobody knows, which are no reason to refuse.
DECLINED = ["x-unknown", "x-unknown ;p = q ,, y", 'x; a; a; a="b"', "deflate-frame", "permessage-bzip2; level=9"]

REFUSED = {
    "B1 syntax comes before the route": Refused(wish(path="/nowhere#part"), 400, "fragment", "%23"),
    "B1 syntax comes before the protocol": Refused(wish("Host:"), 400, "no_host", "Host"),
    "B1 a version that is not spoken": Refused(wish(version="HTTP/3.0"), 505, "http_version_unsupported", "HTTP/1.1"),
    "B2 HTTP/1.0 on a topic": Refused(wish(version="HTTP/1.0"), 426, "upgrade_in_http10", "proxy_http_version 1.1", READING),
    "B2 HTTP/1.0 where only WebSocket is spoken": Refused(
        wish(path=ECHO, version="HTTP/1.0"), 426, "upgrade_in_http10", "proxy_http_version 1.1"
    ),
    "B2 HTTP/1.0, Expect ignored": Refused(
        wish("Expect: tea", path=ECHO, version="HTTP/1.0"), 426, "upgrade_in_http10", "proxy_http_version 1.1"
    ),
    "B3 no such route": Refused(wish(path="/nothing/here"), 404, "not_found", "/topics/<name>"),
    "B3 no such route, without an upgrade": Refused(plain(path="/Echo"), 404, "not_found", "/topics/<name>"),
    "B3 no such route, whatever else is wrong": Refused(
        wish("Sec-WebSocket-Version: 8", "Origin: null", path="/nowhere", method="DELETE"), 404, "not_found", "MOONGATE_PAGE"
    ),
    "B3 no topic": Refused(wish(path="/topics/a//b"), 400, "topic_empty_segment", "between the slashes", READING),
    "B4 Connection lacks upgrade": Refused(
        wish("Connection: keep-alive"), 426, "connection_lacks_upgrade", 'proxy_set_header Connection "upgrade"', READING
    ),
    "B4 no Connection": Refused(wish("Connection:"), 426, "connection_lacks_upgrade", "proxy_set_header Upgrade $http_upgrade", READING),
    "B4 a longer token": Refused(
        wish("Connection: upgrades, xupgrade"), 426, "connection_lacks_upgrade", "Connection: Upgrade", READING
    ),
    "B6 websocket/13": Refused(wish("Upgrade: websocket/13"), 426, "upgrade_unknown", "without a version", READING),
    "B6 notwebsocket": Refused(wish("Upgrade: notwebsocket, websocket2"), 426, "upgrade_unknown", "Upgrade: websocket", READING),
    "B7 no token": Refused(plain(path=ECHO), 426, "upgrade_required", "new WebSocket("),
    "B7 no token, another method": Refused(plain(path=ECHO, method="POST"), 426, "upgrade_required", "curl --http1.1"),
    "B7 no token on a topic": Refused(plain(), 426, "upgrade_required", "Accept: text/event-stream", READING),
    "B7 an empty Upgrade": Refused(wish("Upgrade: ,", path=ECHO), 426, "upgrade_unknown", "Upgrade: websocket"),
    "B9 h2c": Refused(plain(*H2C), 426, "upgrade_unknown", "HTTP/2", READING),
    "B9 h2c where only WebSocket is spoken": Refused(plain(*H2C, path=ECHO), 426, "upgrade_unknown", "HTTP/2"),
    "B10 TLS/1.0": Refused(wish("Upgrade: TLS/1.0"), 426, "upgrade_unknown", "TLS", READING),
    "B10 TLS/1.3": Refused(wish("Upgrade: TLS/1.3", path=ECHO), 426, "upgrade_unknown", "TLS"),
    "B11 a token that is not on offer": Refused(wish("Upgrade: connect-tcp"), 426, "upgrade_unknown", "Upgrade: websocket", READING),
    **{
        f"B12 {method}": Refused(
            wish(method=method), 405, "upgrade_method", "Use GET", {"Allow": "GET"} | (READING if method == "HEAD" else {})
        )
        for method in METHODS
    },
    "B12 POST on the echo": Refused(wish(path=ECHO, method="POST"), 405, "upgrade_method", "Use GET", {"Allow": "GET"}),
    "B13 with content": Refused(wish("Content-Length: 5") + b"hello", 400, "upgrade_with_content", "Leave Content-Length", READING),
    "B13 with content that looks like a frame": Refused(
        wish("Content-Length: 11", path=ECHO) + raw.frame(raw.TEXT, b"hello"), 400, "upgrade_with_content", "Leave Content-Length"
    ),
    "B13 with chunked content": Refused(
        wish("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "upgrade_with_content", "Transfer-Encoding out", READING
    ),
    "B14 version missing": Refused(wish("Sec-WebSocket-Version:"), 400, "ws_version_missing", "Sec-WebSocket-Version: 13", READING),
    **{
        f"B15 version {version}": Refused(
            wish(f"Sec-WebSocket-Version: {version}"), 426, "ws_version_unsupported", "Sec-WebSocket-Version: 13", READING
        )
        for version in ["0", "8", "12", "14", "255"]
    },
    **{
        f"B16 version {version!r}": Refused(
            wish(f"Sec-WebSocket-Version: {version}"), 400, "ws_version_malformed", "Sec-WebSocket-Version: 13", READING
        )
        for version in ["013", "13, 8", "13,13", "+13", "256", "1a", "13.0", ""]
    },
    "B16 two lines": Refused(
        wish("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 400, "ws_version_malformed", "once", READING
    ),
    "B17 key missing": Refused(wish("Sec-WebSocket-Key:"), 400, "ws_key_missing", "openssl rand -base64 16", READING),
    **{
        f"B17 a key {name}": Refused(wish(f"Sec-WebSocket-Key: {key}"), 400, "ws_key_malformed", "16 random bytes", READING)
        for name, key in KEYS.items()
    },
    "B17 two keys": Refused(
        wish(f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"), 400, "ws_key_repeated", "exactly one", READING
    ),
    "B19 a foreign origin": Refused(wish("Origin: http://elsewhere.example"), 403, "origin_refused", "MOONGATE_ORIGINS", READING),
    "B19 null": Refused(wish("Origin: null"), 403, "origin_refused", "MOONGATE_ORIGINS", READING),
    "B19 two origins": Refused(wish("Origin: http://HOST", "Origin: http://HOST"), 403, "origin_refused", "MOONGATE_ORIGINS", READING),
    "B19 comes before B21": Refused(wish("Origin: null", "Sec-WebSocket-Protocol: ("), 403, "origin_refused", "MOONGATE_ORIGINS", READING),
    **{
        f"B21 subprotocols {value!a}": Refused(
            wish(f"Sec-WebSocket-Protocol: {value}"), 400, "subprotocol_malformed", "separated by commas", READING
        )
        for value in ["a b", "a, b/c", "a;b", ",", "", "caf\xe9"]
    },
    "B21 a subprotocol twice": Refused(wish("Sec-WebSocket-Protocol: a, b, a"), 400, "subprotocol_repeated", "once", READING),
    "B21 a subprotocol twice, on two lines": Refused(
        wish("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"), 400, "subprotocol_repeated", "once", READING
    ),
    **{
        f"B23 extensions {value!r}": Refused(
            wish(f"Sec-WebSocket-Extensions: {value}"), 400, "extensions_malformed", "permessage-deflate", READING
        )
        for value in EXTENSIONS
    },
    "B23 a second line at fault": Refused(
        wish("Sec-WebSocket-Extensions: x", "Sec-WebSocket-Extensions: y="), 400, "extensions_malformed", "permessage-deflate", READING
    ),
    "B27 Expect, refused at once": Refused(
        wish("Expect: 100-continue", "Sec-WebSocket-Key:"), 400, "ws_key_missing", "openssl rand", READING
    ),
    "B27 Expect, no such route": Refused(wish("Expect: 100-continue", path="/nowhere"), 404, "not_found", "/topics/<name>"),
    "B27 Expect, a body that is too large": Refused(
        plain("Expect: 100-continue", "Content-Length: 65537", method="POST"), 413, "body_too_large", "MOONGATE_MESSAGE_BYTES_MAX",
        {"Vary": "Origin"},
    ),
    "B28 another expectation": Refused(wish("Expect: 200-ok"), 417, "expectation", "Leave the Expect field out", READING),
    "B28 another one beside 100-continue": Refused(wish("Expect: 100-continue, tea"), 417, "expectation", "Expect", READING),
    "B28 on a page": Refused(plain("Expect: tea", path="/"), 417, "expectation", "Expect"),
    "B28 comes last": Refused(wish("Expect: tea", "Origin: null"), 403, "origin_refused", "MOONGATE_ORIGINS", READING),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(REFUSED))
def test_refused(gateway, row):
    """B30: what follows is no request; C6: each 426 names the protocol it wants."""
    check_refused(gateway, row)


SWITCHED = {
    "B4 upgrade in any case on any line": Switched(wish("Connection: keep-alive", "Connection: foo, uPGRADE")),
    "B4 close beside upgrade": Switched(wish("Connection: close, Upgrade")),
    "B4 Connection and Upgrade as the last fields": Switched(wish("Connection: Upgrade", "Upgrade: websocket")),
    "B5 a list": Switched(wish("Upgrade: h2c, foo/2, WebSocket")),
    "B5 several lines": Switched(wish("Upgrade: TLS/1.3", "Upgrade: websocket")),
    "B5 the same twice": Switched(wish("Upgrade: websocket, websocket", "Upgrade: websocket")),
    "B8 a WebSocket comes before a page": Switched(wish(HTML)),
    "B13 a length of nothing": Switched(wish("Content-Length: 0")),
    "B18 a key with trailing bits": Switched(wish("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="), key="dGhlIHNhbXBsZSBub25jZR=="),
    "B18 a key with all trailing bits": Switched(wish("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZf=="), key="dGhlIHNhbXBsZSBub25jZf=="),
    "B17 blanks around the key": Switched(wish(f"Sec-WebSocket-Key: \t {KEY} \t")),
    "B19 the same origin": Switched(wish("Origin: http://HOST")),
    "B19 no origin": Switched(wish()),
    "B21 one subprotocol on each line": Switched(wish("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: ,b,")),
    "B22 no common subprotocol": Switched(wish("Sec-WebSocket-Protocol: chat.nobody.knows, another")),
    **{f"B24 an offer of {value!r}": Switched(wish(f"Sec-WebSocket-Extensions: {value}")) for value in DECLINED},
    "B24 an unknown parameter": Switched(wish("Sec-WebSocket-Extensions: permessage-deflate; no_such_thing=1")),
    "B24 a repeated parameter": Switched(
        wish("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; client_max_window_bits")
    ),
    "B24 invalid window bits": Switched(wish("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16")),
    "B26 Expect": Switched(wish("Expect: 100-continue"), before=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "B26 Expect in any case, on the echo": Switched(wish("Expect: 100-Continue", path=ECHO), before=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "B29 the first frame comes with the head": Switched(wish(path=ECHO)),
    "the query never names the topic": Switched(wish(path=f"{PATH}?topic=other/../../x")),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(SWITCHED))
def test_switched(gateway, row):
    """B29: what follows is the new protocol; C3, C4, C5: the 101 names nothing that was not agreed."""
    check_switched(gateway, row)


ANSWERED = {
    "B2 HTTP/1.0, the page": Answered(wish("Expect: tea", path="/", version="HTTP/1.0"), 200, "text/html"),
    "B2 HTTP/1.0, an event stream": Answered(wish(EVENTS, version="HTTP/1.0"), 200, "text/event-stream"),
    "B4 not asked for, an event stream": Answered(wish(EVENTS, "Connection:"), 200, "text/event-stream"),
    "B8 the page": Answered(wish(path="/"), 200, "text/html"),
    "B8 the page, a wish that is all wrong": Answered(
        wish("Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 8", "Origin: null", path="/"), 200, "text/html"
    ),
    "B8 health": Answered(wish(path="/healthz"), 200, "text/plain"),
    "B8 readiness": Answered(wish(path="/readyz"), 200, "text/plain"),
    "B8 a topic in a browser": Answered(plain(HTML), 200, "text/html", READING),
    "B8 a topic in a browser, h2c": Answered(plain(HTML, *H2C), 200, "text/html", READING),
    "B8 a topic as an event stream, websocket/13": Answered(wish(EVENTS, "Upgrade: websocket/13"), 200, "text/event-stream"),
    "B9 h2c on the page": Answered(plain(*H2C, path="/"), 200, "text/html"),
    "B9 h2c on an event stream": Answered(plain(EVENTS, *H2C), 200, "text/event-stream"),
    "B9 h2c beside a publish": Answered(plain("Content-Length: 5", *H2C, method="POST") + b"hello", 200, "application/json"),
    "B10 TLS on the page": Answered(wish("Upgrade: TLS/1.0", path="/"), 200, "text/html"),
    "B10 TLS on the whole server": Answered(wish("Upgrade: TLS/1.0", path="*", method="OPTIONS"), 204),
    "B11 another token on health": Answered(wish("Upgrade: IRC/6.9", path="/healthz"), 200, "text/plain"),
    "B28 100-continue where there is nothing to continue": Answered(plain("Expect: 100-continue", path="/"), 200, "text/html"),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(ANSWERED))
def test_answered(gateway, row):
    check_answered(gateway, row)


def test_b20_no_credentials_and_not_entitled(start):
    """The control listener takes a token; the public one knows only who may speak without any."""
    gateway = start(CONTROL_TOKEN="moon-river-42", ANONYMOUS="subscribe")
    for line in ["X-None: x", "Authorization: Bearer wrong", "Authorization: Bearer moon-river-4", "Authorization: bearer"]:
        answer = raw.get(gateway.control, "/topics", line)
        assert answer.status == 401 and answer.one("WWW-Authenticate").startswith("Bearer"), answer
        assert answer.json()["hint"]
    answer = raw.post(gateway.listen, PATH, b"hello")
    check_problem(answer, 403)
    assert "MOONGATE_ANONYMOUS" in answer.json()["hint"]


def test_b25_no_room_for_one_more(start):
    """Answered before the request is there, and not read when it comes."""
    gateway = start(SHARDS="1", CONNECTIONS_MAX="1")
    with open_websocket(gateway.listen, PATH), Connection(gateway.listen) as connection:
        answer = connection.answer()
        check_problem(answer, 503)
        assert int(answer.one("Retry-After")) > 0 and "MOONGATE_CONNECTIONS_MAX" in answer.json()["hint"]
        check_staged_end(connection)


def test_b25_while_the_gateway_stops(start):
    """Readiness is gone first; who has connected and not yet asked for all of it is told to come back."""
    gateway = start(SHARDS="1", DRAIN_DELAY="1s", DRAIN_TIMEOUT="2s")
    with open_websocket(gateway.listen, PATH), Connection(gateway.listen) as waiting:
        waiting.send(b"GET / HTTP/1.1\r\n")
        gateway.signal(signal.SIGTERM)
        gateway.says("SIGTERM")
        answer = waiting.answer()
        check_problem(answer, 503)
        assert int(answer.one("Retry-After")) > 0
    assert gateway.wait() == 0, gateway.log


def test_b26_100_comes_before_the_content(gateway):
    """The client may wait for it, so that a body that is not wanted is never sent."""
    with Connection(gateway.listen) as connection:
        connection.send(plain("Expect: 100-continue", "Content-Length: 5", method="POST").replace(b"HOST", gateway.host.encode()))
        assert connection.head_bytes() == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"hello")
        assert connection.answer().status == 200


def test_b29_a_message_cut_in_two_behind_the_head(gateway, topic):
    second = raw.frame(raw.TEXT, b"second")
    with Connection(gateway.listen) as connection:
        connection.send(upgrade(f"/topics/{topic}", gateway.host) + raw.frame(raw.TEXT, b"first") + second[:5])
        assert connection.head().status == 101
        assert connection.frame() == (raw.TEXT, b"first")
        connection.send(second[5:])
        assert connection.frame() == (raw.TEXT, b"second")


def test_b29_many_messages_behind_the_head(gateway, topic):
    """More than a head may have: kept, in order, until the topic's home has confirmed."""
    messages = [f"{number}:{'x' * 900}".encode() for number in range(60)]
    with Connection(gateway.listen) as connection:
        frames = b"".join(raw.frame(raw.TEXT, message) for message in messages)
        connection.send(upgrade(f"/topics/{topic}", gateway.host) + frames)
        expect = switching(KEY)
        assert connection.take(len(expect)) == expect
        for message in messages:
            assert connection.frame() == (raw.TEXT, message)


def test_b29_all_at_once_and_then_no_more(gateway, topic):
    """A request, a message, a Close and a FIN in one segment: heard, answered and ended, wherever the topic's home is."""
    for number in range(16):
        path = f"/topics/{topic}/{number}"
        with open_websocket(gateway.listen, path) as listener, Connection(gateway.listen) as connection:
            connection.send(upgrade(path, gateway.host) + raw.frame(raw.TEXT, b"in one go") + raw.close(1000))
            connection.socket.shutdown(socket.SHUT_WR)
            assert connection.head().status == 101
            *_, (opcode, payload) = iter_frames(connection)
            assert (opcode, payload) == (raw.CLOSE, b"\x03\xe8")
            assert listener.frame() == (raw.TEXT, b"in one go")


def iter_frames(connection: Connection):
    """Frames until the end of the stream."""
    while connection.pending or connection.more():
        yield connection.frame()


def test_b30_no_request_follows_an_answer(gateway, topic):
    """Neither one sent together with the first, nor one sent later: a publish among them would be heard."""
    publish = plain("Content-Length: 5", path=f"/topics/{topic}", method="POST") + b"hello"
    publish = publish.replace(b"HOST", gateway.host.encode())
    with open_websocket(gateway.listen, f"/topics/{topic}") as listener:
        for first in [wish(path="/nowhere"), SECOND, plain(path="/"), plain(method="OPTIONS"), wish("Sec-WebSocket-Key:")]:
            first = first.replace(b"HOST", gateway.host.encode())
            with Connection(gateway.listen) as connection:
                connection.send(first + publish)
                answer = connection.answer()
                assert len(answer.body) == int((answer.all("Content-Length") or ["0"])[0])
                connection.send(publish)
                time.sleep(0.01)
                check_staged_end(connection)
        listener.send(raw.frame(raw.PING, b"all is quiet"))
        assert listener.frame() == (raw.PONG, b"all is quiet")


def test_the_hint_on_a_topic_shows_every_way_in(gateway):
    """B7: hear and speak, hear, speak."""
    answer = exchange(gateway.listen, plain("Accept: */*").replace(b"HOST", gateway.host.encode()))
    check_problem(answer, 426)
    for way in ["new WebSocket(", "new EventSource(", "Accept: text/event-stream", "curl -d"]:
        assert way in answer.json()["hint"]
