"""Section H of docs/protocol.md up to the 101: what goes upstream and when, and what comes of its answer."""

import socket
import time

import pytest

import raw
from raw import Connection, authority, check_problem, exchange, head, upgrade
from upstream import SWITCH, fill, is_quiet, is_reset, opened, passed, pattern, reset

HOST = "gate.example"


def ask(gateway, *more: str, path: str = "/t/x") -> Connection:
    """A client that wants to switch, and has said no more than that."""
    client = Connection(gateway.listen)
    client.send(upgrade(path, HOST, *more))
    return client


def check_refused(client: Connection, status: int, problem: str):
    answer = client.answer()
    check_problem(answer, status)
    assert answer.json()["type"] == f"urn:moongate:problem:{problem}", answer.json()


def check_ended(call: Connection):
    """Nothing more came, and its connection is over, one way or the other."""
    is_reset(call)
    assert not call.pending


def test_h1_no_101_before_the_upstreams_own(tunnel, upstream):
    gateway = tunnel()
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        assert is_quiet(client), "H1"
        call.send(SWITCH[:-1])
        assert is_quiet(client), "H1: one byte is missing"
        call.send(SWITCH[-1:])
        assert client.head_bytes() == SWITCH


def test_h2_nothing_goes_upstream_before_its_101(tunnel, upstream):
    """Neither what came with the head nor what came later; then all of it, in order."""
    gateway = tunnel()
    with Connection(gateway.listen) as client:
        early = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
        client.send(upgrade("/t/x", HOST) + early)
        call = upstream.accept()
        call.head_bytes()
        client.send(b"more")
        assert is_quiet(call), "H2"
        call.send(SWITCH)
        assert call.take(len(early) + 4) == early + b"more", "H2"
        assert client.head().status == 101


def test_h2_what_comes_early_is_bounded(tunnel, upstream):
    """Past the limit the client is not read from; nothing is lost."""
    gateway = tunnel(HEAD_BYTES_MAX="16KiB")
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        sent = fill(client, 64 << 20)
        assert sent < 32 << 20, "H2: somebody takes it all"
        assert is_quiet(call), "H2"
        call.send(SWITCH)
        at = 0
        while at < sent:
            piece = call.take(min(65536, sent - at))
            assert piece == pattern(at, len(piece))
            at += len(piece)
        assert client.head().status == 101


ANSWERS = {
    "200 with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", "5"),
    "200 in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: t\r\n\r\n", 200, None, None),
    "200 until close": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", None),
    "200 of HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", None),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", None),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 99\r\n\r\n', 304, b"", "99"),
    "401": (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nhello", 401, b"hello", "5"),
    "503 empty": (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", 503, b"", "0"),
}  # fmt: skip


def unchunked(body: bytes) -> bytes:
    """By a reading of its own."""
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            assert body == b"\r\n", body
            return out
        out, body = out + body[:length], body[length:].removeprefix(b"\r\n")


@pytest.mark.parametrize("name", ANSWERS)
def test_h3_any_other_status_is_an_ordinary_answer(tunnel, upstream, name):
    """With its body; both connections end; what the client sent early goes nowhere."""
    answer, status, body, length = ANSWERS[name]
    gateway = tunnel()
    with ask(gateway) as client:
        client.send(b"early bytes")
        call = upstream.accept()
        call.head_bytes()
        call.send(answer)
        call.socket.shutdown(1)
        got = client.answer()
        assert got.status == status, got
        if got.all("Transfer-Encoding"):
            assert got.all("Transfer-Encoding") == ["chunked"] and not got.all("Content-Length")
            assert unchunked(got.body) == b"hello"
        else:
            assert got.body == body and got.all("Content-Length") == ([length] if length else [])
        assert got.members("Connection") == ["close"], got
        assert not got.all("Upgrade")
        assert call.rest() == b"", "H3: no byte of a tunnel"


def test_h3_a_200_that_names_the_protocol_is_no_tunnel(tunnel, upstream):
    gateway = tunnel()
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(head("HTTP/1.1 200 OK", "Upgrade: websocket", "Connection: Upgrade"))
        got = client.head()
        assert got.status == 200 and not got.all("Upgrade") and got.members("Connection") == ["close"]
        client.send(b"GET /admin HTTP/1.1\r\n\r\n")
        assert is_quiet(call), "H3: nothing of the client's goes on"


WRONG = {
    "no Upgrade": ["Connection: Upgrade"],
    "no Connection": ["Upgrade: websocket"],
    "something else": ["Upgrade: h2c", "Connection: Upgrade"],
    "something more": ["Upgrade: websocket, h2c", "Connection: Upgrade"],
    "what was asked for and not offered": ["Upgrade: acme", "Connection: Upgrade"],
}


@pytest.mark.parametrize("name", WRONG)
def test_h4_a_101_names_what_was_offered(tunnel, upstream, name):
    gateway = tunnel("upgrade=websocket,other")
    with ask(gateway, "Upgrade: acme") as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(head("HTTP/1.1 101 Switching", *WRONG[name]))
        check_refused(client, 502, "upstream_switched")
        check_ended(call)


def test_h5_a_101_that_nobody_asked_for(tunnel, upstream):
    gateway = tunnel("http=pass")
    with Connection(gateway.listen) as client:
        client.send(head("GET /t/x HTTP/1.1", f"Host: {HOST}"))
        call = upstream.accept()
        call.head_bytes()
        call.send(SWITCH)
        check_refused(client, 502, "upstream_switched")


def test_h6_h7_h8_the_head_is_written_anew(tunnel, upstream):
    """Every line that arrives, for a request with everything in it that should not."""
    gateway = tunnel()
    with ask(
        gateway,
        "Connection: keep-alive, X-Forwarded-For, Authorization, Sec-WebSocket-Key, Host, Hop",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Hop: 1",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Authorization: Bearer secret",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=203.0.113.9",
        "X-Real-IP: 203.0.113.9",
        "X_Forwarded_For: 203.0.113.9",
        "Via: 1.1 before",
        "Cookie: a=b",
        path="/t/x?y=z",
    ):
        first, fields = upstream.accept().request()
        assert first == "GET /t/x?y=z HTTP/1.1"
        assert fields == [
            ("Host", HOST),
            ("Sec-WebSocket-Key", raw.KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Authorization", "Bearer secret"),
            ("Via", "1.1 before"),
            ("Cookie", "a=b"),
            ("Via", "1.1 moongate"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", HOST),
            ("Forwarded", f'for=127.0.0.1;host="{HOST}";proto=http'),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
        ], "H6, H7, H8"


def test_h9_content_and_upgrade_do_not_go_together(tunnel, upstream):
    gateway = tunnel("http=pass")
    for more in (["Content-Length: 5"], ["Transfer-Encoding: chunked"]):
        with ask(gateway, *more) as client:
            check_refused(client, 400, "upgrade_with_content")
    assert upstream.is_left_alone(), "H9"
    with ask(gateway, "Content-Length: 0"):
        assert "Content-Length" not in dict(upstream.accept().request()[1]), "H9"


def test_h10_what_comes_with_the_101_belongs_to_the_tunnel(tunnel, upstream):
    gateway = tunnel()
    behind = b"\x81\x05helloHTTP/1.1 200 OK\r\n\r\n" + bytes(range(256)) * 40
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(SWITCH + behind)
        assert client.head().status == 101
        assert client.take(len(behind)) == behind, "H10"


def test_h10_a_101_in_pieces(tunnel, upstream):
    gateway = tunnel()
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        for byte in SWITCH + b"first":
            call.send(bytes([byte]))
            time.sleep(0.001)
        assert client.head().status == 101
        assert client.take(5) == b"first"


def test_h14_nobody_listens(start):
    # Who has the port does not listen, and nobody else can have it.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        gateway = start(ROUTES=f"/t/* tunnel {authority(bound.getsockname())}; /u/* tunnel unix:/nonexistent/app.sock")
        for path in ("/t/x", "/u/x"):
            with ask(gateway, path=path) as client:
                check_refused(client, 502, "upstream_unreachable")


def test_h14_a_connection_takes_too_long(start, serve):
    """A backlog that is full: the kernel drops what asks to connect."""
    full = serve(backlog=0)
    others = [socket.socket() for _ in range(2)]
    for other in others:
        other.setblocking(False)
        other.connect_ex(("127.0.0.1", full.port))
    time.sleep(0.1)
    gateway = start(ROUTES=f"/t/* tunnel {full.name} connect_timeout=500ms")
    since = time.monotonic()
    with ask(gateway) as client:
        check_refused(client, 504, "upstream_connect_timeout")
    assert passed(since) > 0.4
    for other in others:
        other.close()


def test_h14_an_answer_takes_too_long(tunnel, upstream):
    gateway = tunnel("answer_timeout=500ms")
    since = time.monotonic()
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(SWITCH[:-2])
        check_refused(client, 504, "upstream_answer_timeout")
        assert passed(since) > 0.4
        check_ended(call)


@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_h14_the_upstream_goes_away(tunnel, upstream, ending):
    gateway = tunnel()
    for before in (b"", SWITCH[:30]):
        with ask(gateway) as client:
            call = upstream.accept()
            call.head_bytes()
            call.send(before)
            if ending == "RST":
                reset(call)
            else:
                call.socket.close()
            check_refused(client, 502, "upstream_closed")


def test_h14_interim_answers(tunnel, upstream):
    """They are bounded; 100 goes on to who asked for it, and to nobody else."""
    gateway = tunnel("http=pass")
    interims = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for expects in (True, False):
        with Connection(gateway.listen) as client:
            more = ["Expect: 100-continue", "Content-Length: 2"] if expects else ["Content-Length: 2"]
            client.send(head("POST /t/x HTTP/1.1", f"Host: {HOST}", *more))
            call = upstream.accept()
            _, fields = call.request()
            assert (("Expect", "100-continue") in fields) == expects
            call.send(interims)
            if expects:
                assert client.head_bytes() == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"hi")
            assert call.take(2) == b"hi"
            call.send(final)
            assert client.answer().status == 200
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 40)
        check_refused(client, 502, "upstream_malformed")


def test_h15_no_connection_is_used_twice(tunnel, upstream):
    gateway = tunnel("http=pass")
    for _ in range(3):
        client, call = opened(gateway.listen, "/t/x", upstream)
        client.socket.close()
        assert call.rest() == b"", "H15"
    for _ in range(3):
        with Connection(gateway.listen) as client:
            client.send(head("GET /t/x HTTP/1.1", f"Host: {HOST}"))
            call = upstream.accept()
            assert ("Connection", "close") in call.request()[1]
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
            assert client.answer().body == b"hi"
            assert call.rest() == b"", "H15"


GARBAGE = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "LF alone": b"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_h16_answers_are_read_strictly(tunnel, upstream, name):
    gateway = tunnel()
    with ask(gateway) as client:
        call = upstream.accept()
        call.head_bytes()
        call.send(GARBAGE[name])
        check_refused(client, 502, "upstream_malformed")


REFUSED_TOKENS = ["h2c", "TLS/1.0", "acme", "websocket/13", "acme-rpc/3", "acme-rpc"]


@pytest.mark.parametrize("token", REFUSED_TOKENS)
def test_h18_only_listed_protocols(tunnel, upstream, token):
    gateway = tunnel("upgrade=websocket,acme-rpc/2")
    answer = exchange(gateway.listen, head("GET /t/x HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade", f"Upgrade: {token}"))
    check_problem(answer, 426)
    assert answer.one("Upgrade") == "websocket, acme-rpc/2" and answer.members("Connection") == ["upgrade", "close"]
    assert upstream.is_left_alone(0.1), "H18"


def test_h18_the_clients_first_choice_that_is_listed(tunnel, upstream):
    gateway = tunnel("upgrade=websocket,acme-rpc/2")
    with Connection(gateway.listen) as client:
        client.send(head("GET /t/x HTTP/1.1", f"Host: {HOST}", "Connection: upgrade", "Upgrade: h2c, ACME-RPC/2, websocket"))
        call = upstream.accept()
        assert call.request()[1][-1] == ("Upgrade", "acme-rpc/2")
        call.send(head("HTTP/1.1 101 Yes", "Upgrade: Acme-RPC/2", "Connection: upgrade"))
        assert client.head().one("Upgrade") == "acme-rpc/2"


def test_h19_no_request_chooses_where_it_goes(tunnel, upstream, serve):
    gateway, decoy = tunnel(), serve()
    away = authority(("127.0.0.1", decoy.port))
    for first, host in [("GET /t/x HTTP/1.1", away), (f"GET http://{away}/t/x HTTP/1.1", HOST)]:
        with Connection(gateway.listen) as client:
            client.send(head(first, f"Host: {host}", "Connection: upgrade", "Upgrade: websocket"))
            line, fields = upstream.accept().request()
            assert line == "GET /t/x HTTP/1.1" and fields[0] == ("Host", away)
    for path in ("/t/../x", "/t/%2e%2e/x", "/t/..;/x", "/t/a%2f..%2fb"):
        with ask(gateway, path=path) as client:
            check_refused(client, 400, "path_dot_segment")
    assert decoy.is_left_alone() and upstream.is_left_alone(0.05), "H19"


def test_who_goes_before_the_answer_lets_the_upstream_go(tunnel, upstream):
    gateway = tunnel()
    client = ask(gateway)
    call = upstream.accept()
    call.head_bytes()
    reset(client)
    check_ended(call)


def test_many_open_at_once(tunnel, upstream):
    """Each gets its own."""
    gateway = tunnel()
    clients = [ask(gateway, path=f"/t/{number}") for number in range(100)]
    for _ in clients:
        call = upstream.accept()
        path = call.request()[0].split(" ")[1]
        call.send(SWITCH + path.encode())
    for number, client in enumerate(clients):
        assert client.head().status == 101
        name = f"/t/{number}".encode()
        assert client.take(len(name)) == name
        client.socket.close()
