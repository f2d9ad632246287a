"""WebSocket clients that others wrote, as programs that speak in lines: clients/README.md has the words."""

import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway import PATIENCE, ROOT

FOLDER = Path(__file__).parent / "clients"
ENVIRONMENT = ROOT / "target/test-env"


@dataclass(frozen=True)
class Library:
    """One of them: how to start it, and what it can do and can show."""

    name: str
    command: list[str]
    fragments: bool = True
    pings: bool = True
    deflate: bool = True
    shows_bodies: bool = True
    closes_without_code: bool = True

    def __str__(self) -> str:
        return self.name


@contextmanager
def asleep(process: subprocess.Popen):
    """It runs nothing, and so reads nothing, while the block lasts."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Program:
    """A program that takes orders and says things, in lines, while the block lasts. Who inherits
    says in `_say` where its lines go."""

    def __init__(self, *command: str):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"NODE_PATH": str(ENVIRONMENT / "npm/node_modules")},
            text=True,
        )
        self._complaints: list[str] = []
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_complaints)]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def asleep(self):
        return asleep(self._process)

    def _read(self):
        for line in self._process.stdout:
            self._say(line.rstrip("\n"))
        self._say(None)

    def _read_complaints(self):
        self._complaints.extend(self._process.stderr)

    def _say(self, line: str | None):
        """What it said, on a thread of its own."""
        raise NotImplementedError

    def _order(self, line: str):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _take(self, said: queue.Queue):
        """What it said next of this sort; None: it has ended."""
        try:
            return said.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"{self} says nothing any more: {self.complaints}") from None

    @property
    def complaints(self) -> str:
        return "".join(self._complaints)


class Client(Program):
    """A running client. What it says is taken in order, each line by the call that expects it."""

    def __init__(self, kind: Library, url: str, *options: str):
        self.kind = kind
        self._said: queue.Queue[str | None] = queue.Queue()
        self._next: str | None = None
        super().__init__(*kind.command, url, *options)

    def __str__(self) -> str:
        return str(self.kind)

    def _say(self, line: str | None):
        self._said.put(line)

    def order(self, *words: str):
        self._order(" ".join(words))

    def next_kind(self) -> str:
        """What kind of line comes next; it is left there."""
        if self._next is None:
            self._next = self._take(self._said)
            assert self._next is not None, f"{self.kind} ended: {self.complaints}"
        return self._next.split(" ")[0]

    def hear(self, kind: str) -> list[str]:
        """The words of the next line, which must be of this kind."""
        found = self.next_kind()
        assert found == kind, f"{kind!r} was expected of {self.kind}: {self._next[:300]}"
        (_, *words), self._next = self._next.split(" "), None
        return words

    def opened(self) -> str:
        """Waits until it is open: the extensions agreed."""
        return of_hex(self.hear("open")[0]).decode()

    def send(self, message: str | bytes):
        self.order("text" if isinstance(message, str) else "binary", to_hex(message))

    def begin(self, part: str | bytes):
        """The first frame of a message; `part` and `last` send the others."""
        self.order("text-part" if isinstance(part, str) else "binary-part", to_hex(part))

    def part(self, part: str | bytes):
        self.order("part", to_hex(part))

    def last(self, part: str | bytes):
        self.order("last", to_hex(part))

    def heard(self, message: str | bytes):
        """The next thing it says is this message, with this type."""
        (words,) = self.hear("text" if isinstance(message, str) else "binary")
        assert of_hex(words) == as_bytes(message)

    def ping(self, payload: bytes):
        self.order("ping", to_hex(payload))

    def pinged(self) -> bytes:
        return of_hex(self.hear("pinged")[0])

    def ponged(self, payload: bytes):
        assert of_hex(self.hear("pong")[0]) == payload

    def close(self, code: int = 0, reason: str = ""):
        self.order("close", str(code), to_hex(reason))

    def closed(self) -> tuple[int, str]:
        """Waits for the end: the code and the reason that came."""
        code, reason = self.hear("close")
        return int(code), of_hex(reason).decode()

    def refused(self) -> tuple[int, bytes]:
        status, body = self.hear("refused")
        return int(status), of_hex(body)


def as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def to_hex(message: str | bytes) -> str:
    return as_bytes(message).hex() or "-"


def of_hex(word: str) -> bytes:
    return bytes.fromhex("" if word == "-" else word)


def python(script: str) -> list[str]:
    return [sys.executable, str(FOLDER / script)]


# What installs in seconds.
LIBRARIES = [
    Library("ws", [str(ENVIRONMENT / "bin/node"), str(FOLDER / "ws.cjs")]),
    Library(
        "aiohttp",
        python("with_aiohttp.py"),
        fragments=False,
        shows_bodies=False,
        closes_without_code=False,
    ),
    Library("wsproto", python("with_wsproto.py")),
]
