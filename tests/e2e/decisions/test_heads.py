"""Section A of docs/protocol.md: each line of it as raw bytes, sent to the running program."""

import email.utils
import socket
import time

import pytest

import raw
from raw import KEY, Connection, exchange, head
from table import (
    PATH, READING, SECOND, Answered, Refused, Switched, check_answered, check_refused, check_switched, parametrized, plain, wish,
)

POST = {"method": "POST"}
CHUNKED = "Transfer-Encoding: chunked"


def many(count: int, size: int) -> bytes:
    return plain(*(f"X-Field-{number}: {'v' * size}" for number in range(count)))


def sized(length: int) -> bytes:
    """A right request for a WebSocket whose head has `length` bytes once HOST is the usual 15 of a loopback address."""
    short = wish("X-Filler: x")
    return wish("X-Filler: x" + "x" * (length - len(short) - len("127.0.0.1:12345") + len("HOST")))


def target(length: int) -> str:
    return f"{PATH}?" + "q" * (length - len(PATH) - 1)


HOSTS = [
    "", "a b", "a/b", "a,b", "user@a", "a:b", "a:80:80", "a:65536", "a:+1", ":80", "[::1", "[::1]x", "[]", "[a]", "[::1%25eth0]",
    "::1", "a?b", "a#b", "a\\b", "a%2", "a%zz", "caf\xe9", "http://a", "<a>",
]  # fmt: skip
LENGTHS = ["+5", "-5", "", "5a", "0x5", "5, 5", "5 5", "5.0", "18446744073709551616", "99999999999999999999"]
CODINGS = ["gzip", "identity", "chunked, gzip", "", ",", "chunked;a=b", "xchunked", "chunked, chunked"]
CHUNKS = {
    "no digit": b"xyz\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "overflow": b"f" * 17 + b"\r\n",
    "LF alone": b"5\nhello\r\n",
    "longer than it says": b"4\r\nhello\r\n",
    "a NUL in an extension": b"5;\0\r\nhello\r\n",
    "extensions without end": b"1;" + b"x" * 5000 + b"\r\na\r\n0\r\n\r\n",
    "trailers without end": b"0\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
}

REFUSED = {
    "A2 lf-only": Refused(plain().replace(b"\r\n", b"\n"), 400, "lone_lf", "\\r\\n"),
    "A2 one lone LF": Refused(plain("A: b", "C: d").replace(b"b\r\n", b"b\n"), 400, "lone_lf", "\\r\\n"),
    "A2 LF at the end": Refused(plain()[:-2] + b"\n", 400, "lone_lf", "\\r\\n"),
    "A2 HTTP/0.9": Refused(b"GET /\n", 400, "lone_lf", "\\r\\n"),
    "A3 bare-cr": Refused(plain("A: b\rc"), 400, "lone_cr", "carriage return"),
    "A3 CR CR LF": Refused(plain("A: b\r"), 400, "lone_cr", "carriage return"),
    "A4 three empty lines": Refused(b"\r\n" * 3 + plain(), 400, "empty_lines", "method"),
    "A4 a thousand empty lines": Refused(b"\r\n" * 1000 + plain(), 400, "empty_lines", "method"),
    "A5 lead-ws": Refused(head(f"GET {PATH} HTTP/1.1", " Host: HOST"), 400, "leading_whitespace", "Start every field line"),
    "A5 lead-ws, a tab": Refused(head(f"GET {PATH} HTTP/1.1", "\tHost: HOST"), 400, "leading_whitespace", "Start every field line"),
    "A6 ws-before-colon": Refused(plain("Name : value"), 400, "space_before_colon", "Name: value"),
    "A6 a tab before the colon": Refused(plain("Content-Length\t: 5", **POST), 400, "space_before_colon", "Name: value"),
    "A7 obs-fold": Refused(plain("Name: value", "  and more"), 400, "obs_fold", "one line"),
    "A7 obs-fold-conn": Refused(wish("Connection: foo,", "\tUpgrade"), 400, "obs_fold", "one line"),
    "A8 empty-name": Refused(plain(": value"), 400, "bad_field_name", "Name: value"),
    "A8 no-colon": Refused(plain("Name"), 400, "bad_field_name", "Name: value"),
    "A8 a control byte in a name": Refused(plain("Na\x01me: value"), 400, "bad_field_name", "Name: value"),
    "A8 an 8-bit name": Refused(plain("N\xe4me: value"), 400, "bad_field_name", "Name: value"),
    "A8 a delimiter in a name": Refused(plain("Na(me: value"), 400, "bad_field_name", "Name: value"),
    "A9 nul-value": Refused(plain("Name: va\x00lue"), 400, "bad_field_value", "NUL"),
    "A9 ctl-value": Refused(plain("Name: va\x07lue"), 400, "bad_field_value", "control characters"),
    "A9 DEL": Refused(plain("Name: value\x7f"), 400, "bad_field_value", "control characters"),
    "A11 target-space": Refused(plain(path="/topics/hand shake"), 400, "bad_request_line", "%20"),
    "A11 two spaces": Refused(head(f"GET  {PATH} HTTP/1.1", "Host: HOST"), 400, "bad_request_line", "GET /topics/news HTTP/1.1"),
    "A11 a tab for a space": Refused(head(f"GET\t{PATH} HTTP/1.1", "Host: HOST"), 400, "bad_request_line", "GET /topics/news HTTP/1.1"),
    "A11 a space behind the version": Refused(head(f"GET {PATH} HTTP/1.1 ", "Host: HOST"), 400, "bad_request_line", "HTTP/1.1"),
    "A11 no version": Refused(head(f"GET {PATH}", "Host: HOST"), 400, "bad_request_line", "HTTP/1.1"),
    "A12 target-8bit": Refused(plain(path="/topics/caf\xe9"), 400, "bad_target", "Percent-encode"),
    "A12 target-nul": Refused(plain(path="/topics/a\x00b"), 400, "bad_target", "Percent-encode"),
    "A12 a tab in the target": Refused(plain(path="/topics/a\tb"), 400, "bad_target", "Percent-encode"),
    "A13 lower-get": Refused(plain(method="get"), 501, "method_unknown", "capital letters"),
    "A13 an unknown method": Refused(plain(method="BREW"), 501, "method_unknown", "POST to publish"),
    "A13 an overlong method": Refused(plain(method="A" * 5000), 501, "method_unknown", "POST to publish"),
    "A13 no token": Refused(plain(method="G(T"), 400, "bad_method", "GET"),
    "A13 known, not allowed on a topic": Refused(
        plain(method="DELETE"), 405, "method_not_allowed", "POST on a topic", {"Allow": "GET, HEAD, POST, OPTIONS"}
    ),
    "A13 known, not allowed on the page": Refused(
        plain(method="POST", path="/"), 405, "method_not_allowed", "GET to listen", {"Allow": "GET, HEAD, OPTIONS"}
    ),
    "A14 HTTP/2.0": Refused(plain(version="HTTP/2.0"), 505, "http_version_unsupported", "--http1.1"),
    "A14 HTTP/0.9": Refused(plain(version="HTTP/0.9"), 505, "http_version_unsupported", "HTTP/1.1"),
    "A14 HTTP/1.1x": Refused(plain(version="HTTP/1.1x"), 400, "bad_version", "HTTP/1.1"),
    "A14 HTTP/1.10": Refused(plain(version="HTTP/1.10"), 400, "bad_version", "HTTP/1.1"),
    "A14 lower case": Refused(plain(version="http/1.1"), 400, "bad_request_line", "HTTP/1.1"),
    "A15 no-host": Refused(head(f"GET {PATH} HTTP/1.1"), 400, "no_host", "Host: localhost:8080"),
    "A15 no-host in HTTP/1.2": Refused(head(f"GET {PATH} HTTP/1.2"), 400, "no_host", "Host: localhost:8080"),
    "A15 host-dup": Refused(plain("Host: other.example"), 400, "many_hosts", "one Host line"),
    "A15 host-dup, the same twice": Refused(plain("Host: HOST"), 400, "many_hosts", "one Host line"),
    **{f"A15 host-bad {host!a}": Refused(head(f"GET {PATH} HTTP/1.1", f"Host: {host}"), 400, "bad_host", "[::1]:8080") for host in HOSTS},
    "A16 absolute without Host": Refused(head(f"GET http://HOST{PATH} HTTP/1.1"), 400, "no_host", "Host"),
    "A16 absolute-ws": Refused(wish(path=f"ws://HOST{PATH}"), 400, "bad_scheme", "http://"),
    "A16 absolute-ftp": Refused(plain(path=f"ftp://HOST{PATH}"), 400, "bad_scheme", "http://"),
    "A16 the authority wins over Host": Refused(
        wish("Origin: http://HOST", path=f"http://gate.example{PATH}"), 403, "origin_refused", "MOONGATE_ORIGINS", READING
    ),
    "A16 user information": Refused(plain(path=f"http://u:p@HOST{PATH}"), 400, "bad_host", "example.com"),
    "A17 CONNECT": Refused(head("CONNECT HOST HTTP/1.1", "Host: HOST"), 501, "connect_refused", "proxy settings"),
    "A17 authority-form with GET": Refused(plain(path="HOST"), 400, "bad_target_form", "/topics/news"),
    "A17 asterisk-form with GET": Refused(plain(path="*"), 400, "bad_target_form", "/topics/news"),
    "A18 fragment": Refused(plain(path=f"{PATH}#part"), 400, "fragment", "%23"),
    "A18 fragment in the query": Refused(plain(path=f"{PATH}?a#part"), 400, "fragment", "%23"),
    "A19 uri-9k": Refused(plain(path=target(9000)), 414, "target_too_long", "Shorten"),
    "A19 one byte more than the longest": Refused(plain(path=target(8193)), 414, "target_too_long", "Shorten"),
    "A20 head-16k": Refused(many(20, 1000), 431, "head_too_large", "MOONGATE_HEAD_BYTES_MAX"),
    "A20 head-70k": Refused(many(70, 1000), 431, "head_too_large", "MOONGATE_HEAD_BYTES_MAX"),
    "A20 hdr-150": Refused(many(150, 1), 431, "too_many_fields", "join list fields"),
    "A20 hdr-3000": Refused(many(3000, 1), 431, "too_many_fields", "join list fields"),
    "A21 CL+TE": Refused(plain("Content-Length: 5", CHUNKED, **POST) + b"0\r\n\r\n", 400, "length_and_encoding", "one of the two"),
    "A21 TE+CL": Refused(plain(CHUNKED, "Content-Length: 5", **POST) + b"0\r\n\r\n", 400, "length_and_encoding", "one of the two"),
    **{
        f"A22 {coding!r} does not end in chunked, once": Refused(
            plain(f"Transfer-Encoding: {coding}", **POST), 400, "encoding_not_chunked", "Transfer-Encoding: chunked"
        )
        for coding in CODINGS
    },
    "A22 an unknown coding": Refused(plain("Transfer-Encoding: gzip, chunked", **POST), 501, "encoding_unknown", "chunked alone"),
    "A22 chunked twice, on two lines": Refused(plain(CHUNKED, CHUNKED, **POST), 400, "encoding_not_chunked", "Content-Length"),
    "A23 HTTP/1.0 with TE": Refused(plain(CHUNKED, version="HTTP/1.0", **POST), 400, "encoding_in_http10", "HTTP/1.1"),
    **{f"A24 CL {value!r}": Refused(plain(f"Content-Length: {value}", **POST), 400, "bad_length", "Content-Length: 5") for value in LENGTHS},
    "A24 CL-dup-diff": Refused(plain("Content-Length: 5", "Content-Length: 6", **POST), 400, "many_lengths", "exactly one"),
    "A24 CL-dup-same": Refused(plain("Content-Length: 5", "Content-Length: 5", **POST), 400, "many_lengths", "exactly one"),
    "A24 larger than any message": Refused(
        plain("Content-Length: 18446744073709551615", **POST), 413, "body_too_large", "MOONGATE_MESSAGE_BYTES_MAX", {"Vary": "Origin"}
    ),
    **{
        f"A25 chunk: {name}": Refused(plain(CHUNKED, **POST) + body, 400, "bad_chunk", "Content-Length", {"Vary": "Origin"})
        for name, body in CHUNKS.items()
    },
    "A25 chunk: far too large": Refused(
        plain(CHUNKED, **POST) + b"ffffffffffffffff\r\n", 413, "body_too_large", "MOONGATE_MESSAGE_BYTES_MAX", {"Vary": "Origin"}
    ),
    "A27 under_score in the key": Refused(
        wish("Sec-WebSocket-Key:", f"Sec_WebSocket_Key: {KEY}"), 400, "ws_key_missing", "openssl rand", READING
    ),
    "A27 under_score in Host": Refused(head(f"GET {PATH} HTTP/1.1", "Ho_st: HOST"), 400, "no_host", "Host"),
    "A29 members are bounded": Refused(plain("Connection: " + "," * 64), 400, "list_too_long", "needed"),
    "A29 members are bounded over all lines": Refused(
        plain("Accept: " + "," * 32, "Accept: " + "," * 32), 400, "list_too_long", "needed"
    ),
    "A29 60 KiB of commas": Refused(plain("Upgrade: " + "," * 60 * 1024), 431, "head_too_large", "MOONGATE_HEAD_BYTES_MAX"),
    "A32 h2-preface": Refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505, "http2_preface", "--http1.1"),
    "A32 tls-hello": Refused(bytes.fromhex("1603010200010001fc0303") + b"\x00" * 505, 400, "tls_on_plain_port", "wss://"),
    "A33 HEAD, refused": Refused(plain(method="HEAD"), 426, "upgrade_required", "", READING),
    "A33 HEAD, refused while it is parsed": Refused(plain("A : b", method="HEAD"), 400, "space_before_colon", ""),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(REFUSED))
def test_refused(gateway, row):
    """A30: each says why, names what to change, arrives whole, and ends in stages; A34: with a date."""
    check_refused(gateway, row)


SWITCHED = {
    "A1 bytes that some decoders take for line ends": Switched(wish("X-Name: a\xe5\x98\x8d\xe5\x98\x8aHost: b \xc0\x8d\xc0\x8aHost: c")),
    "A4 lead-crlf": Switched(b"\r\n" + wish()),
    "A4 two empty lines": Switched(b"\r\n\r\n" + wish()),
    "A6 no whitespace behind the colon, and much": Switched(wish("Upgrade:websocket", "Connection: \t  Upgrade \t ")),
    "A8 every byte of a token": Switched(wish("!#$%&'*+-.^_`|~09azAZ: x")),
    "A10 F5 bytes above 0x7F in a value": Switched(wish("X-Name: caf\xe9\xff\x80")),
    "A13 names in any case": Switched(wish("Upgrade:", "Connection:", "UPGRADE: websocket", "cOnNeCtIoN: upgrade")),
    "A14 HTTP/1.2 is handled as 1.1": Switched(wish(version="HTTP/1.2")),
    "A14 HTTP/1.9 is handled as 1.1": Switched(wish(version="HTTP/1.9")),
    "A15 a name": Switched(wish("Host: gate.example:8080")),
    "A15 an address": Switched(wish("Host: [::1]:8080")),
    "A16 absolute-form": Switched(wish(path=f"http://HOST{PATH}")),
    "A16 absolute-form, https": Switched(wish(path=f"HTTPS://HOST{PATH}")),
    "A16 the authority wins over Host": Switched(wish("Origin: http://gate.example", path=f"http://gate.example{PATH}")),
    "A19 a target of 8000 bytes": Switched(wish(path=target(8000))),
    "A19 the longest target": Switched(wish(path=target(8192))),
    "A20 a head of 16,000 bytes": Switched(sized(16_000)),
    "A20 a hundred fields": Switched(wish(*(f"X-{number}: v" for number in range(95)))),
    "A27 under_score in a length": Switched(wish("Content_Length: 5")),
    "A28 unknown fields": Switched(wish("X-Anything: at all", "Sec-WebSocket-Whatever: 1")),
    "A29 conn-2-lines": Switched(wish("Connection: keep-alive", "Connection: foo, UPGRADE")),
    "A29 empty members": Switched(wish("Connection: , ,Upgrade,, ")),
    "A29 as many members as there may be": Switched(wish("Connection: Upgrade" + "," * 63)),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(SWITCHED))
def test_switched(gateway, row):
    check_switched(gateway, row)


ANSWERED = {
    "A14 HTTP/1.0 without Host": Answered(head("GET /healthz HTTP/1.0"), 200, "text/plain"),
    "A17 asterisk-form with OPTIONS": Answered(plain(method="OPTIONS", path="*"), 204),
    "A17 asterisk-form as a proxy sends it": Answered(plain(method="OPTIONS", path="http://HOST"), 204),
    "A22 chunked in any case": Answered(plain("Transfer-Encoding: CHUNKED", **POST) + b"5\r\nhello\r\n0\r\n\r\n", 200, "application/json"),
    "A24 leading zeros": Answered(plain("Content-Length: 0005", **POST) + b"hello", 200, "application/json"),
    "A25 extensions and trailers": Answered(
        plain(CHUNKED, **POST) + b'5;a=b;c="d"\r\nhello\r\n0\r\nX: y\r\n\r\n', 200, "application/json"
    ),
    "A33 HEAD of the page": Answered(plain(method="HEAD", path="/"), 200, "text/html"),
    "A33 HEAD of health": Answered(plain(method="HEAD", path="/healthz"), 200, "text/plain"),
    "A33 HEAD of an event stream": Answered(plain("Accept: text/event-stream", method="HEAD"), 200, "text/event-stream"),
    "A33 HEAD of a topic": Answered(plain("Accept: text/html", method="HEAD"), 200, "text/html"),
    "A33 a 204 has no length": Answered(plain(method="OPTIONS"), 204, more={"Allow": "GET, HEAD, POST, OPTIONS"}),
}  # fmt: skip


@pytest.mark.parametrize("row", **parametrized(ANSWERED))
def test_answered(gateway, row):
    check_answered(gateway, row)


def test_a16_a_wrong_host_is_wrong_beside_an_authority(gateway):
    check_refused(gateway, Refused(head(f"GET http://HOST{PATH} HTTP/1.1", "Host: a b"), 400, "bad_host", "example.com"))


def test_a20_k1_the_limit_is_exact(gateway):
    for more, status in [(0, 101), (1, 431)]:
        request = wish("X-Filler: x").replace(b"HOST", gateway.host.encode())
        request = request.replace(b"X-Filler: x", b"X-Filler: x" + b"x" * (16 * 1024 - len(request) + more))
        with Connection(gateway.listen) as connection:
            connection.send(request)
            assert connection.head().status == status


def test_a26_a_head_of_16_kib_in_single_bytes(gateway):
    """Neither the answer nor the limit depends on how much comes at once."""
    for more, status in [(0, 101), (1, 431)]:
        request = wish("X-Filler: x").replace(b"HOST", gateway.host.encode())
        request = request.replace(b"X-Filler: x", b"X-Filler: x" + b"x" * (16 * 1024 - len(request) + more))
        with Connection(gateway.listen) as connection:
            for at in range(len(request)):
                connection.send(request[at : at + 1])
            assert connection.head().status == status


def test_a31_cut_in_two_at_every_byte(gateway):
    """No byte is lost and none is read twice, wherever the head ends within what arrives."""
    data = wish(path="/echo").replace(b"HOST", gateway.host.encode()) + raw.frame(raw.TEXT, b"first") + raw.frame(raw.TEXT, b"second")
    for cut in range(1, len(data)):
        with Connection(gateway.listen) as connection:
            connection.send(data[:cut])
            time.sleep(0.001)
            connection.send(data[cut:])
            assert connection.head().status == 101
            assert connection.frame() == (raw.TEXT, b"first")
            assert connection.frame() == (raw.TEXT, b"second")


def test_a30_the_answer_arrives_while_the_client_still_sends(gateway):
    """The end comes in stages, so that no reset eats the 413."""
    with Connection(gateway.listen) as connection:
        connection.send(plain("Content-Length: 5000000", **POST).replace(b"HOST", gateway.host.encode()))
        for _ in range(24):
            connection.send(b"x" * 8192)
            time.sleep(0.002)
        answer = connection.answer()
        assert answer.status == 413 and len(answer.body) == int(answer.one("Content-Length"))


def test_a30_who_has_asked_may_close_its_side(gateway):
    """RFC 9112 §9.6: a client that is done with sending still gets its answer."""
    with Connection(gateway.listen) as connection:
        connection.send(SECOND.replace(b"HOST", gateway.host.encode()))
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().status == 200


def test_a34_no_100_for_http_1_0(gateway):
    """An interim answer goes only to who can know what it is."""
    request = head(f"POST {PATH} HTTP/1.0", f"Host: {gateway.host}", "Expect: 100-continue", "Content-Length: 5")
    assert exchange(gateway.listen, request + b"hello").status == 200


def test_a34_the_date_is_now(gateway):
    date = email.utils.parsedate_to_datetime(exchange(gateway.listen, SECOND.replace(b"HOST", gateway.host.encode())).one("Date"))
    assert abs(date.timestamp() - time.time()) < 30
