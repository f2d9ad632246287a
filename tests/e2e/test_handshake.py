"""Request heads and handshakes, byte for byte (PROTOCOL.md sections A to C)."""

import socket
import time

import pytest

import raw
from raw import ACCEPT, KEY, Connection, check_problem, exchange, get, head, open_websocket, upgrade

# Where a request with nothing wrong would get its 101.
PATH = "/topics/handshake"


def test_the_101_is_exact(gateway):
    """C1, C2: status, the two fields, the accept key of the RFC's example, nothing else and no body."""
    with Connection(gateway.listen) as connection:
        connection.send(upgrade(PATH, gateway.host))
        assert connection.head_bytes() == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n"
        )
        connection.send(raw.frame(raw.PING, b"still here"))
        assert connection.frame() == (raw.PONG, b"still here")


ACCEPTED = {
    "B5 upgrade list": upgrade(PATH, "HOST", "Upgrade: h2c, foo/2, WebSocket", without="Upgrade"),
    "B5 upgrade on two lines": upgrade(PATH, "HOST", "Upgrade: foo", "Upgrade: websocket", without="Upgrade"),
    "B4 connection in capitals, on two lines": upgrade(
        PATH, "HOST", "Connection: keep-alive", "Connection: foo, UPGRADE", without="Connection"
    ),
    "A29 empty members": upgrade(PATH, "HOST", "Connection: , ,Upgrade,, ", without="Connection"),
    "A4 one empty line first": b"\r\n" + upgrade(PATH, "HOST"),
    "A10 bytes above 0x7F in a value": upgrade(PATH, "HOST", "X-Name: caf\xe9\xff"),
    "A14 HTTP/1.2 is handled as 1.1": upgrade(PATH, "HOST").replace(b"HTTP/1.1", b"HTTP/1.2"),
    "A16 absolute-form": upgrade(f"http://HOST{PATH}", "HOST"),
    "A28 unknown fields": upgrade(PATH, "HOST", "X-Anything: at all", "Sec-WebSocket-Whatever: 1"),
    "B18 key with trailing bits": upgrade(PATH, "HOST", f"Sec-WebSocket-Key: {KEY[:-3]}R==", without="Sec-WebSocket-Key"),
    "B22 no common subprotocol": upgrade(PATH, "HOST", "Sec-WebSocket-Protocol: chat.nobody.knows, another"),
    "B24 an offer with an unknown parameter": upgrade(
        PATH, "HOST", "Sec-WebSocket-Extensions: permessage-deflate; no_such_thing=1, x-other"
    ),
    "the query never names the topic": upgrade(f"{PATH}?topic=other/../../x", "HOST"),
}


@pytest.mark.parametrize("request_bytes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(gateway, request_bytes):
    with Connection(gateway.listen) as connection:
        connection.send(request_bytes.replace(b"HOST", gateway.host.encode()))
        answer = connection.head()
        assert answer.status == 101, answer
        assert answer.one("Upgrade") == "websocket"
        assert not answer.all("Sec-WebSocket-Protocol"), "C3"
        assert not answer.all("Sec-WebSocket-Extensions"), "C4"


def plain(*fields: str, method: str = "GET", path: str = PATH, version: str = "HTTP/1.1") -> bytes:
    return head(f"{method} {path} {version}", "Host: HOST", *fields)


def many(count: int, size: int) -> bytes:
    return plain(*(f"X-Field-{number}: {'v' * size}" for number in range(count)))


# What is sent (HOST stands for the right one), and the status of the refusal.
REFUSED = {
    "A2 lf-only": (plain().replace(b"\r\n", b"\n"), 400),
    "A2 one lone lf": (plain("A: b", "C: d").replace(b"b\r\n", b"b\n"), 400),
    "A3 bare-cr": (plain("A: b\rc"), 400),
    "A4 many empty lines": (b"\r\n" * 1000 + plain(), 400),
    "A5 lead-ws": (head(f"GET {PATH} HTTP/1.1", " Host: HOST"), 400),
    "A6 ws-before-colon": (plain("Name : value"), 400),
    "A7 obs-fold": (plain("Name: value", "  and more"), 400),
    "A7 obs-fold-conn": (upgrade(PATH, "HOST", "Connection: foo,", "\tUpgrade", without="Connection"), 400),
    "A8 empty-name": (plain(": value"), 400),
    "A8 no-colon": (plain("Name"), 400),
    "A8 control byte in a name": (plain("Na\x01me: value"), 400),
    "A9 nul-value": (plain("Name: va\x00lue"), 400),
    "A9 ctl-value": (plain("Name: va\x07lue"), 400),
    "A11 target-space": (plain(path="/topics/hand shake"), 400),
    "A11 two spaces": (head(f"GET  {PATH} HTTP/1.1", "Host: HOST"), 400),
    "A12 target-8bit": (plain(path="/topics/caf\xe9"), 400),
    "A12 target-nul": (plain(path="/topics/a\x00b"), 400),
    "A13 lower-get": (plain(method="get"), 501),
    "A13 unknown method": (plain(method="BREW"), 501),
    "A13 known but not allowed": (plain(method="DELETE"), 405),
    "A14 HTTP/2.0": (plain(version="HTTP/2.0"), 505),
    "A14 HTTP/1.1x": (plain(version="HTTP/1.1x"), 400),
    "A15 no-host": (head(f"GET {PATH} HTTP/1.1"), 400),
    "A15 host-dup": (plain("Host: HOST"), 400),
    "A15 host-bad": (head(f"GET {PATH} HTTP/1.1", "Host: a b"), 400),
    "A16 absolute-form with another scheme": (plain(path=f"ws://HOST{PATH}"), 400),
    "A17 connect": (head("CONNECT HOST HTTP/1.1", "Host: HOST"), 501),
    "A17 asterisk with GET": (plain(path="*"), 400),
    "A18 fragment": (plain(path=f"{PATH}#part"), 400),
    "A19 uri-9k": (plain(path="/topics/" + "a" * 9000), 414),
    "A20 head-16k": (many(20, 1000), 431),
    "A20 head-70k": (many(70, 1000), 431),
    "A20 hdr-150": (many(150, 1), 431),
    "A21 CL+TE": (plain("Content-Length: 5", "Transfer-Encoding: chunked", method="POST"), 400),
    "A22 not chunked last": (plain("Transfer-Encoding: chunked, gzip", method="POST"), 400),
    "A22 chunked twice": (plain("Transfer-Encoding: chunked, chunked", method="POST"), 400),
    "A22 unknown coding": (plain("Transfer-Encoding: gzip, chunked", method="POST"), 501),
    "A23 1.0 with TE": (plain("Transfer-Encoding: chunked", method="POST", version="HTTP/1.0"), 400),
    "A24 CL-plus": (plain("Content-Length: +5", method="POST"), 400),
    "A24 CL-dup-diff": (plain("Content-Length: 5", "Content-Length: 6", method="POST"), 400),
    "A24 CL-dup-same": (plain("Content-Length: 5", "Content-Length: 5", method="POST"), 400),
    "A24 overflow": (plain("Content-Length: 99999999999999999999", method="POST"), 400),
    "A25 chunk size": (plain("Transfer-Encoding: chunked", method="POST") + b"xyz\r\n", 400),
    "A25 chunk size overflow": (plain("Transfer-Encoding: chunked", method="POST") + b"f" * 17 + b"\r\n", 400),
    "A27 under_score": (upgrade(PATH, "HOST", f"Sec_WebSocket_Key: {KEY}", without="Sec-WebSocket-Key"), 400),
    "A32 h2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "A32 tls-hello": (bytes.fromhex("1603010200010001fc0303") + b"\x00" * 505, 400),
    "B2 HTTP/1.0 with Upgrade": (upgrade(PATH, "HOST").replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "B3 no such route": (upgrade("/nothing/here", "HOST"), 404),
    "B4 Connection lacks upgrade": (upgrade(PATH, "HOST", "Connection: keep-alive", without="Connection"), 426),
    "B6 websocket/13": (upgrade(PATH, "HOST", "Upgrade: websocket/13", without="Upgrade"), 426),
    "B6 notwebsocket": (upgrade(PATH, "HOST", "Upgrade: notwebsocket", without="Upgrade"), 426),
    "B7 no token": (plain(), 426),
    "B7 no token on echo": (plain(path="/echo"), 426),
    "B9 h2c": (plain("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), 426),
    "B10 TLS/1.0": (plain("Connection: Upgrade", "Upgrade: TLS/1.0"), 426),
    "B11 another token": (plain("Connection: Upgrade", "Upgrade: connect-tcp"), 426),
    "B12 not GET": (upgrade(PATH, "HOST").replace(b"GET", b"POST"), 405),
    "B13 with content": (upgrade(PATH, "HOST", "Content-Length: 5") + b"hello", 400),
    "B13 with chunked content": (upgrade(PATH, "HOST", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "B14 version missing": (upgrade(PATH, "HOST", without="Sec-WebSocket-Version"), 400),
    "B15 version 8": (upgrade(PATH, "HOST", "Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426),
    "B16 version 013": (upgrade(PATH, "HOST", "Sec-WebSocket-Version: 013", without="Sec-WebSocket-Version"), 400),
    "B16 versions 13, 8": (upgrade(PATH, "HOST", "Sec-WebSocket-Version: 13, 8", without="Sec-WebSocket-Version"), 400),
    "B16 two version lines": (upgrade(PATH, "HOST", "Sec-WebSocket-Version: 13"), 400),
    "B17 key missing": (upgrade(PATH, "HOST", without="Sec-WebSocket-Key"), 400),
    "B17 key of 15 bytes": (upgrade(PATH, "HOST", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA", without="Sec-WebSocket-Key"), 400),
    "B17 two keys": (upgrade(PATH, "HOST", f"Sec-WebSocket-Key: {KEY}"), 400),
    "B19 foreign origin": (upgrade(PATH, "HOST", "Origin: http://elsewhere.example"), 403),
    "B19 null origin": (upgrade(PATH, "HOST", "Origin: null"), 403),
    "B21 subprotocol malformed": (upgrade(PATH, "HOST", "Sec-WebSocket-Protocol: a b"), 400),
    "B21 subprotocol twice": (upgrade(PATH, "HOST", "Sec-WebSocket-Protocol: a, b, a"), 400),
    "B23 extensions malformed": (upgrade(PATH, "HOST", "Sec-WebSocket-Extensions: ;;="), 400),
    "B28 another expectation": (upgrade(PATH, "HOST", "Expect: 200-ok"), 417),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(gateway, request_bytes, status):
    """Each refusal says why and what to change, and arrives whole before a clean end (A30)."""
    answer = exchange(gateway.listen, request_bytes.replace(b"HOST", gateway.host.encode()))
    check_problem(answer, status)
    if status == 426:
        assert answer.members("Upgrade") == ["websocket"], "C6"
        assert "upgrade" in answer.members("Connection"), "C6"
    if status == 405:
        assert "GET" in answer.one("Allow")


@pytest.mark.parametrize("version", ["8", "99", None])
def test_refused_versions_name_the_right_one(gateway, version):
    """B14, B15."""
    more = [f"Sec-WebSocket-Version: {version}"] if version else []
    answer = exchange(gateway.listen, upgrade(PATH, gateway.host, *more, without="Sec-WebSocket-Version"))
    assert answer.one("Sec-WebSocket-Version") == "13"


def test_a_hint_tells_a_person_what_to_change(gateway):
    """B4: the commonest mistake of all, a proxy that drops Connection."""
    answer = exchange(gateway.listen, upgrade(PATH, gateway.host, without="Connection"))
    check_problem(answer, 426)
    assert "proxy_set_header" in answer.json()["hint"]


def test_expect_continue_gets_100_then_101(gateway):
    """B26."""
    with Connection(gateway.listen) as connection:
        connection.send(upgrade(PATH, gateway.host, "Expect: 100-continue"))
        assert connection.head_bytes() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.head().status == 101


def test_expect_continue_refused_gets_no_100(gateway):
    """B27."""
    check_problem(exchange(gateway.listen, upgrade("/nowhere", gateway.host, "Expect: 100-continue")), 404)


def test_bytes_after_the_head_are_the_first_of_the_new_protocol(gateway, topic):
    """B29: a whole frame and half of another in the same segment as the head."""
    second = raw.frame(raw.TEXT, b"second")
    with Connection(gateway.listen) as connection:
        connection.send(upgrade(f"/topics/{topic}", gateway.host) + raw.frame(raw.TEXT, b"first") + second[:5])
        assert connection.head().status == 101
        assert connection.frame() == (raw.TEXT, b"first")
        connection.send(second[5:])
        assert connection.frame() == (raw.TEXT, b"second")


def test_bytes_after_a_refused_head_are_no_second_request(gateway):
    """B30: one answer, and the end."""
    answer = exchange(gateway.listen, upgrade("/nowhere", gateway.host) + plain().replace(b"HOST", gateway.host.encode()))
    check_problem(answer, 404)


def test_a_head_byte_by_byte(gateway):
    """A26, A31: the same answer however slowly the head drips in."""
    with Connection(gateway.listen) as connection:
        for byte in upgrade(PATH, gateway.host, "X-Filler: " + "x" * 600):
            connection.send(bytes([byte]))
        assert connection.head().status == 101


def test_the_answer_arrives_while_the_client_still_sends(gateway, topic):
    """A30: the end comes in stages, so that no reset eats the 413."""
    with Connection(gateway.listen) as connection:
        connection.send(head(f"POST /topics/{topic} HTTP/1.1", f"Host: {gateway.host}", "Content-Length: 5000000"))
        chunk = b"x" * 8192
        for _ in range(24):
            connection.send(chunk)
            time.sleep(0.002)
        check_problem(connection.answer(), 413)


def test_half_closed_clients_get_their_answer(gateway):
    """9112 §9.6: a client may close its sending side as soon as it has asked."""
    with Connection(gateway.listen) as connection:
        connection.send(plain(path="/healthz").replace(b"HOST", gateway.host.encode()))
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().status == 200


def test_head_answers_have_no_body(gateway):
    """A33."""
    for path, accept in [("/", "text/html"), ("/healthz", "*/*"), (PATH, "*/*"), (PATH, "text/html")]:
        with Connection(gateway.listen) as connection:
            connection.send(
                head(f"HEAD {path} HTTP/1.1", f"Host: {gateway.host}", f"Accept: {accept}")
            )
            answer = connection.answer()
            assert answer.body == b"", (path, answer)
            assert int(answer.one("Content-Length")) > 0, (path, answer)


def test_options_of_the_whole_server(gateway):
    """B10: OPTIONS * is answered without switching; a 204 has no length (A33)."""
    answer = exchange(gateway.listen, head("OPTIONS * HTTP/1.1", f"Host: {gateway.host}"))
    assert answer.status in (200, 204), answer
    if answer.status == 204:
        assert not answer.all("Content-Length") and not answer.all("Transfer-Encoding") and not answer.body


def test_a_request_for_the_page_that_asks_to_upgrade_gets_the_page(gateway):
    """B8: nothing else is spoken at /."""
    answer = exchange(gateway.listen, upgrade("/", gateway.host))
    assert answer.status == 200 and answer.one("Content-Type").startswith("text/html"), answer


def test_the_page_on_a_topic_needs_no_upgrade(gateway):
    """B8: for a browser that navigates, the topic is a page; Accept decides, and the answer says so."""
    answer = get(gateway.listen, PATH, "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    assert answer.status == 200 and answer.one("Content-Type").startswith("text/html"), answer
    assert "accept" in answer.members("Vary")


@pytest.mark.parametrize(
    ("wrong", "code"),
    {
        "D1 unmasked": (b"\x81\x02hi", 1002),
        "D3 reserved bit": (b"\xc1\x82\0\0\0\0hi", 1002),
        "D4 unknown opcode": (raw.frame(0x3, b"hi"), 1002),
        "D5 non-minimal length": (b"\x81\xfe\x00\x02\0\0\0\0hi", 1002),
        "D6 length 2^63": (b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002),
        "D6 length 2^63-1": (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        "D7 fragmented ping": (raw.frame(raw.PING, b"hi", fin=False), 1002),
        "D9 continuation without start": (raw.frame(0x0, b"hi"), 1002),
        "E1 close of one byte": (raw.frame(raw.CLOSE, b"\x03"), 1002),
        "E2 close with 1005": (raw.close(1005), 1002),
        "F1 not UTF-8": (raw.frame(raw.TEXT, b"\xff"), 1007),
        "F2 not UTF-8 in an unfinished message": (raw.frame(raw.TEXT, b"\xff", fin=False), 1007),
        "K2 too big": (raw.frame(raw.BINARY, b"x" * 70_000), 1009),
    }.values(),
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_wrong_frames_close_with_their_code(gateway, wrong, code):
    with open_websocket(gateway.listen, PATH) as connection:
        connection.send(wrong)
        assert connection.close_frame()[0] == code
        assert connection.rest() == b"", "E7: nothing after the Close"


@pytest.mark.parametrize(
    ("sent", "expect"),
    [(raw.close(1000, "bye"), (1000, "bye")), (raw.close(4321), (4321, "")), (raw.frame(raw.CLOSE, b""), (None, ""))],
    ids=["E5 code and reason", "E5 private code", "E5 empty"],
)
def test_a_close_is_answered_and_the_server_ends_first(gateway, sent, expect):
    """E5, E6."""
    with open_websocket(gateway.listen, PATH) as connection:
        connection.send(sent)
        code, reason = connection.close_frame()
        assert code == expect[0] and reason in ("", expect[1])
        assert connection.rest() == b""
