"""What the tables of this folder are made of: a request byte for byte, and what has to come of it.

Each row is sent twice: whole, and every byte by itself. Both must get the same answer. Behind each request comes another
one, which would be answered were it ever parsed.
"""

import base64
import hashlib
import json
import socket
from dataclasses import dataclass, field

import raw
from raw import KEY, Answer, Connection, head, upgrade

# A topic, where a request with nothing wrong would get its 101.
PATH = "/topics/decisions"

# What follows a request on its connection. HOST stands for what a client writes into Host, here as in every row.
SECOND = head("GET /healthz HTTP/1.1", "Host: HOST")

# Longer requests are sent whole only.
DRIP_BYTES_MAX = 1000

# The fields of every refusal.
ALWAYS = {"date", "connection", "content-type", "content-length", "cache-control", "x-content-type-options"}

# What a refusal says that is about the reading of a topic: another Accept would have been answered otherwise.
READING = {"vary": "Accept"}

ESTABLISHED, CLOSED, CLOSE_WAIT = 1, 7, 8


@dataclass(frozen=True)
class Refused:
    """`label` is the problem's name, `hint` a part of what its hint tells a person to change."""

    sent: bytes
    status: int
    label: str
    hint: str
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Switched:
    """A request that gets its 101. `before` is what comes before that, `spoken` the subprotocol that is agreed on."""

    sent: bytes
    key: str = KEY
    before: bytes = b""
    spoken: str | None = None


@dataclass(frozen=True)
class Answered:
    """A request that gets an ordinary answer, whatever it says about upgrading."""

    sent: bytes
    status: int = 200
    media_type: str | None = None
    more: dict[str, str] = field(default_factory=dict)


def plain(*fields: str, method: str = "GET", path: str = PATH, version: str = "HTTP/1.1") -> bytes:
    """A request without an upgrade."""
    return head(f"{method} {path} {version}", "Host: HOST", *fields)


def wish(*changes: str, path: str = PATH, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """A right request for a WebSocket, with `changes` in place of the lines of the same name; `Name:` takes one away."""
    names = {change.split(":")[0] for change in changes}
    lines = upgrade(path, "HOST").decode().split("\r\n")[1:-2]
    kept = [line for line in lines if line.split(":")[0] not in names]
    return head(f"{method} {path} {version}", *kept, *(change for change in changes if not change.endswith(":")))


def parametrized(rows: dict):
    """For `pytest.mark.parametrize`: the rows, with their keys as the names of the cases."""
    return {"argvalues": rows.values(), "ids": rows.keys()}


def ways(gateway, sent: bytes, behind: bytes):
    """The ways to send a row: pieces, each of which is a send of its own."""
    data = sent.replace(b"HOST", gateway.host.encode()) + behind.replace(b"HOST", gateway.host.encode())
    yield [data]
    if len(sent) <= DRIP_BYTES_MAX:
        yield [data[at : at + 1] for at in range(len(data))]


def tcp_state(connection: Connection) -> int:
    return connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def check_staged_end(connection: Connection):
    """A30, E7: the stream has ended, and what is sent all the same is taken: nothing answers it, not even a reset."""
    assert not connection.more()
    connection.send(SECOND)
    assert tcp_state(connection) == CLOSE_WAIT, "a reset may eat an answer that is not read yet"
    assert not connection.more()


def check_refused(gateway, row: Refused):
    seen = set()
    for pieces in ways(gateway, row.sent, SECOND):
        with Connection(gateway.listen) as connection:
            for piece in pieces:
                connection.send(piece)
            answer = connection.answer()
            check_staged_end(connection)
        check_problem(answer, row)
        seen.add((tuple(pair for pair in answer.fields if pair[0] != "date"), answer.body))
    assert len(seen) == 1, "A31: not the same answer for every way of sending"


def check_problem(answer: Answer, row: Refused):
    """Status, exactly the fields that must be there, one whole body, and words that help."""
    assert answer.status == row.status, answer
    expect = {name.lower(): value for name, value in row.more.items()}
    if row.status == 426:
        assert answer.one("Upgrade") == "websocket", "C6"
        assert answer.one("Connection") == "Upgrade, close", "C6, A30"
        expect["upgrade"] = "websocket"
    else:
        assert answer.one("Connection") == "close", "A30"
    if row.label.startswith("ws_version_"):
        expect["sec-websocket-version"] = "13"
    assert sorted(name for name, _ in answer.fields) == sorted(ALWAYS | expect.keys()), answer
    for name, value in expect.items():
        assert answer.one(name) == value, answer
    assert answer.one("Content-Type") == "application/problem+json"
    assert answer.one("Cache-Control") == "no-store"
    if row.sent.lstrip().startswith(b"HEAD "):
        assert answer.body == b"" and int(answer.one("Content-Length")) > 0, "A33"
        return
    assert len(answer.body) == int(answer.one("Content-Length")), f"B30: nothing but one answer: {answer}"
    problem = json.loads(answer.body)
    assert problem.keys() == {"type", "title", "status", "detail", "hint"}
    assert problem["type"] == f"urn:moongate:problem:{row.label}"
    assert problem["status"] == row.status and problem["title"] and problem["detail"]
    assert row.hint in problem["hint"], problem["hint"]


def accept(key: str) -> str:
    """What the 101 says to `key` (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return base64.b64encode(digest).decode()


def switching(key: str, spoken: str | None = None) -> bytes:
    """C1, C2: the whole 101 to a request with which nothing is agreed on but perhaps a subprotocol."""
    agreed = f"Sec-WebSocket-Protocol: {spoken}\r\n" if spoken else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(key)}\r\n{agreed}\r\n"
    ).encode()


def check_switched(gateway, row: Switched):
    """The 101 to the last byte, then frames: the first of them came right behind the head (B29)."""
    for pieces in ways(gateway, row.sent, raw.frame(raw.PING, b"first")):
        with Connection(gateway.listen) as connection:
            for piece in pieces:
                connection.send(piece)
            expect = row.before + switching(row.key, row.spoken)
            assert connection.take(len(expect)) == expect
            assert connection.frame() == (raw.PONG, b"first")
            connection.send(raw.close(1000))
            assert connection.close_frame() == (1000, "")
            assert connection.rest() == b""


def check_answered(gateway, row: Answered):
    for pieces in ways(gateway, row.sent, SECOND):
        with Connection(gateway.listen) as connection:
            for piece in pieces:
                connection.send(piece)
            answer = connection.head()
            assert answer.status == row.status, answer
            assert answer.one("Connection") == "close", "C7: no answer but a 426 names a protocol"
            assert not answer.all("Upgrade") and not answer.all("Sec-WebSocket-Accept"), answer
            assert not answer.all("Transfer-Encoding"), answer
            if row.media_type:
                assert answer.one("Content-Type").split(";")[0] == row.media_type, answer
            for name, value in row.more.items():
                assert answer.one(name) == value, answer
            is_head = row.sent.startswith(b"HEAD ")
            is_stream = row.media_type == "text/event-stream"
            if is_stream:
                assert not answer.all("Content-Length"), "J3"
            if is_stream and not is_head:
                assert connection.take(7) == b"retry: "
                continue
            body = connection.rest()
            has_body = row.status != 204 and not is_head
            assert len(body) == (int(answer.one("Content-Length")) if has_body else 0), "B30, A33"
            if row.status == 204:
                assert not answer.all("Content-Length"), "A33"
            check_staged_end(connection)
