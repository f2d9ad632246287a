"""Requests byte for byte, answers byte for byte, and WebSocket frames without a library in between."""

import json
import os
import socket
import struct
from dataclasses import dataclass, field

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
PATIENCE = 60.0

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def authority(address: tuple[str, int]) -> str:
    """An address as a URL and Host write it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def head(first_line: str, *fields: str) -> bytes:
    return "\r\n".join([first_line, *fields, "", ""]).encode("latin-1")


def upgrade(path: str, host: str, *more: str, without: str = "") -> bytes:
    """A complete request for a WebSocket; `without` names a field to leave out."""
    fields = [
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in fields if not without or not line.startswith(f"{without}:")]
    return head(f"GET {path} HTTP/1.1", *kept, *more)


@dataclass
class Answer:
    """One HTTP answer. Field names are in lower case."""

    status: int
    reason: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name.lower()]

    def one(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, f"{name} is there {len(values)} times: {self}"
        return values[0]

    def members(self, name: str) -> list[str]:
        return [member.strip().lower() for value in self.all(name) for member in value.split(",")]

    def json(self):
        return json.loads(self.body)


def parse_head(text: bytes) -> Answer:
    first, *rest = text.decode("latin-1").split("\r\n")
    version, status, reason = first.split(" ", 2)
    assert version == "HTTP/1.1", first
    pairs = (line.split(":", 1) for line in rest if line)
    return Answer(int(status), reason, [(name.lower(), value.strip()) for name, value in pairs])


class Connection:
    """A TCP connection with what has arrived and was not used yet."""

    def __init__(self, address: tuple[str, int], receive_buffer: int | None = None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(address)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data: bytes):
        self.socket.sendall(data)

    def more(self) -> bool:
        """Waits for bytes; False at the end of the stream."""
        data = self.socket.recv(65536)
        self.pending += data
        return bool(data)

    def take(self, size: int) -> bytes:
        while len(self.pending) < size:
            assert self.more(), f"ended after {len(self.pending)} of {size} bytes: {self.pending[:200]!r}"
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def head_bytes(self) -> bytes:
        while b"\r\n\r\n" not in self.pending:
            assert self.more(), f"ended within a head: {self.pending[:500]!r}"
        return self.take(self.pending.index(b"\r\n\r\n") + 4)

    def head(self) -> Answer:
        return parse_head(self.head_bytes())

    def rest(self) -> bytes:
        """Everything until the stream's end, which must be a clean one: a reset raises."""
        while self.more():
            pass
        taken, self.pending = self.pending, b""
        return taken

    def answer(self) -> Answer:
        """A final answer whose end is the connection's end, as every plain answer of the gateway's public listeners."""
        answer = self.head()
        answer.body = self.rest()
        return answer

    def frame(self) -> tuple[int, bytes]:
        """One frame from the server: opcode and payload. It is final, unmasked and minimal (RFC 6455 §5.2)."""
        first, second = self.take(2)
        assert first & 0xF0 == 0x80, f"FIN alone expected in {first:#x}"
        assert second < 0x80, "a server's frame is not masked"
        length = second
        if second == 126:
            (length,) = struct.unpack("!H", self.take(2))
            assert length > 125
        elif second == 127:
            (length,) = struct.unpack("!Q", self.take(8))
            assert length > 65535
        return first & 0x0F, self.take(length)

    def close_frame(self) -> tuple[int | None, str]:
        """The next frame, which must be a Close: its code and reason."""
        opcode, payload = self.frame()
        assert opcode == CLOSE, f"opcode {opcode}: {payload[:200]!r}"
        if not payload:
            return None, ""
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def frame(opcode: int, payload: bytes, fin: bool = True, mask: bytes | None = None) -> bytes:
    """One frame as a client sends it: masked."""
    mask = mask or os.urandom(4)
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        start = struct.pack("!BB", first, 0x80 | len(payload))
    elif len(payload) < 65536:
        start = struct.pack("!BBH", first, 0x80 | 126, len(payload))
    else:
        start = struct.pack("!BBQ", first, 0x80 | 127, len(payload))
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
    return start + mask + masked


def close(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


def exchange(address: tuple[str, int], request: bytes) -> Answer:
    """One request, one answer, and the connection's end."""
    with Connection(address) as connection:
        connection.send(request)
        return connection.answer()


def get(address: tuple[str, int], path: str, *fields: str, method: str = "GET") -> Answer:
    return exchange(address, head(f"{method} {path} HTTP/1.1", f"Host: {authority(address)}", "Connection: close", *fields))


def post(address: tuple[str, int], path: str, body: bytes, *fields: str) -> Answer:
    return exchange(
        address,
        head(
            f"POST {path} HTTP/1.1",
            f"Host: {authority(address)}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *fields,
        )
        + body,
    )


def open_websocket(address: tuple[str, int], path: str, *more: str, receive_buffer: int | None = None) -> Connection:
    """A connection past its 101."""
    connection = Connection(address, receive_buffer)
    connection.send(upgrade(path, authority(address), *more))
    answer = connection.head()
    assert answer.status == 101, answer
    return connection


def check_problem(answer: Answer, status: int):
    """The shape that every refusal has: RFC 9457, with a hint, a date, a length and an announced end."""
    assert answer.status == status, answer
    assert answer.one("Content-Type") == "application/problem+json", answer
    assert int(answer.one("Content-Length")) == len(answer.body), answer
    assert answer.one("Date").endswith(" GMT"), answer
    assert "close" in answer.members("Connection"), answer
    problem = answer.json()
    assert problem["status"] == status, problem
    for name in ("type", "title", "detail", "hint"):
        assert isinstance(problem[name], str) and problem[name], problem
