"""Servers behind a tunnel that do only what a test tells them, and know exactly what arrived and when."""

import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import raw
from raw import PATIENCE, Connection, authority, head

# How long nothing has to come before it counts as nothing.
SILENCE = 0.3

SWITCH = head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")


class Call(Connection):
    """One connection that somebody made: a socket, with what has arrived on it and was not used yet."""

    def __init__(self, made: socket.socket):
        self.socket = made
        self.socket.settimeout(PATIENCE)
        if made.family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def request(self) -> tuple[str, list[tuple[str, str]]]:
        """The head of a request: its first line, and its fields in order, as they are spelt."""
        first, *rest = self.head_bytes().decode("latin-1").split("\r\n")
        return first, [tuple(line.split(": ", 1)) for line in rest if line]

    def line(self) -> bytes:
        """The next line, without its end."""
        while b"\r\n" not in self.pending:
            assert self.more(), f"ended within a line: {self.pending[:500]!r}"
        return self.take(self.pending.index(b"\r\n") + 2)[:-2]


def is_quiet(connection: Connection, seconds: float = SILENCE) -> bool:
    """Whether nothing comes for so long; neither bytes nor an end."""
    connection.socket.settimeout(seconds)
    try:
        found = connection.socket.recv(65536)
    except TimeoutError:
        return not connection.pending
    finally:
        connection.socket.settimeout(PATIENCE)
    connection.pending += found
    return False


def half_close(connection: Connection):
    connection.socket.shutdown(socket.SHUT_WR)


def reset(connection: Connection):
    """Ends it with a RST (socket(7): SO_LINGER of zero)."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


def is_reset(connection: Connection) -> bool:
    """Whether the connection ends with a RST, rather than with an end of its stream."""
    try:
        while connection.more():
            pass
    except ConnectionResetError:
        return True
    return False


class Upstream:
    """Listens at an address of its own; `name` is how a table of routes writes it."""

    def __init__(self, path: Path | None = None, backlog: int = 128):
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.name = f"unix:{path}"
        else:
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
            self.name = authority(self._listener.getsockname())
        self._listener.listen(backlog)
        self._calls = ExitStack()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def accept(self, patience: float = PATIENCE) -> Call:
        self._listener.settimeout(patience)
        call = Call(self._listener.accept()[0])
        self._calls.enter_context(call)
        return call

    def is_left_alone(self, seconds: float = SILENCE) -> bool:
        try:
            self.accept(seconds)
        except TimeoutError:
            return True
        return False

    def stop(self):
        self._listener.close()
        self._calls.close()


def opened(address: tuple[str, int], path: str, upstream: Upstream, *more: str) -> tuple[Connection, Call]:
    """A tunnel: the client's end and the upstream's, both past the 101."""
    client = Connection(address)
    client.send(raw.upgrade(path, authority(address), *more))
    call = upstream.accept()
    call.head_bytes()
    call.send(SWITCH)
    answer = client.head()
    assert answer.status == 101, answer
    return client, call


def fill(connection: Connection, bound: int, quiet: float = 1.0) -> int:
    """Sends until nobody takes any more, or `bound` bytes: how many went."""
    connection.socket.settimeout(quiet)
    sent = 0
    try:
        while sent < bound:
            sent += connection.socket.send(pattern(sent, 65536))
    except TimeoutError:
        pass
    finally:
        connection.socket.settimeout(PATIENCE)
    return sent


# Repeats after so many bytes, a number that no buffer is a multiple of.
PERIOD = 65_521
_ROUND = bytes((index * 167 + index // 256) % 256 for index in range(PERIOD))
_LONG = _ROUND * 4


def pattern(start: int, length: int) -> bytes:
    """A part of one endless stream of bytes, of which no two near places look alike."""
    offset = start % PERIOD
    assert offset + length <= len(_LONG)
    return _LONG[offset : offset + length]


def check_pattern(connection: Connection, length: int):
    """The next `length` bytes are the stream's first."""
    at = 0
    while at < length:
        if not connection.pending:
            assert connection.more(), f"ended after {at} of {length} bytes"
        piece, connection.pending = connection.pending[: length - at], connection.pending[length - at :]
        for offset in range(0, len(piece), PERIOD):
            part = piece[offset : offset + PERIOD]
            assert part == pattern(at + offset, len(part)), f"between {at + offset} and {at + offset + len(part)}"
        at += len(piece)


def passed(since: float) -> float:
    return time.monotonic() - since
