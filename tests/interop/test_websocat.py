"""websocat, which people use in shells: lines are text messages, what a pipe brings at once is a binary one."""

import os
import subprocess

import pytest
from websockets.sync.client import connect

from events import EventStream
from gateway import PATIENCE, ROOT
from raw import post

WEBSOCAT = str(ROOT / "target/interop/bin/websocat")


@pytest.fixture
def websocat():
    """Starts one: `websocat(url, *options)`, a process with pipes."""
    running = []

    def start_one(*arguments: str) -> subprocess.Popen:
        running.append(
            subprocess.Popen(
                [WEBSOCAT, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        )
        return running[-1]

    yield start_one
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_lines(websocat, gateway, topic):
    """Text both ways, with another library, an event stream and POST; the end of its input is a Close."""
    path = f"/topics/{topic}"
    with EventStream(gateway.url(path)) as stream, connect(gateway.ws(path), proxy=None) as other:
        shell = websocat("--text", gateway.ws(path))
        for number, message in enumerate(["hello", "zażółć gęślą jaźń 🌕", "x" * 1000]):
            shell.stdin.write(message.encode() + b"\n")
            assert other.recv(timeout=PATIENCE).rstrip("\n") == message
            assert stream.next().data.rstrip("\n") == message
            assert shell.stdout.readline().decode().rstrip("\n") == message
            other.send(f"answer {number}")
            assert shell.stdout.readline() == f"answer {number}\n".encode()
            assert other.recv(timeout=PATIENCE) == stream.next().data
        assert post(gateway.listen, path, b"by POST").status == 200
        assert shell.stdout.readline() == b"by POST\n"
        shell.stdin.close()
        assert shell.wait(PATIENCE) == 0, shell.stderr.read()


def test_bytes(websocat, gateway, topic):
    """What one write brought is one binary message; larger ones come back whole."""
    url = gateway.ws(f"/topics/{topic}")
    with connect(url, proxy=None) as other:
        shell = websocat("--binary", url)
        for data in (b"\x00\xff\x7a", bytes(range(256)) * 4):
            shell.stdin.write(data)
            assert other.recv(timeout=PATIENCE) == data
            assert read(shell, len(data)) == data
        data = os.urandom(60_000)
        other.send(data)
        assert read(shell, len(data)) == data


def read(process: subprocess.Popen, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = process.stdout.read(size - len(found))
        assert more, f"{size} bytes were expected after {found[:100]!r}"
        found += more
    return found


def test_a_pipe_through_the_echo(websocat, gateway):
    """A file goes in, the same file comes out, and then it ends."""
    shell = websocat("--text", gateway.ws("/echo"))
    lines = "".join(f"line {number}\n" for number in range(2000)).encode()
    shell.stdin.write(lines)
    assert read(shell, len(lines)) == lines
    shell.stdin.close()
    assert shell.wait(PATIENCE) == 0, shell.stderr.read()


def test_pings_are_answered(websocat, start, topic):
    gateway = start(PING_INTERVAL="200ms", PONG_TIMEOUT="1s")
    shell = websocat("--text", gateway.ws(f"/topics/{topic}"))
    with EventStream(gateway.url(f"/topics/{topic}")) as stream:
        shell.stdin.write(b"first\n")
        assert stream.next().data.rstrip("\n") == "first"
        with pytest.raises(subprocess.TimeoutExpired):
            shell.wait(4)
        shell.stdin.write(b"second\n")
        assert stream.next().data.rstrip("\n") == "second"


def test_a_refusal_fails(websocat, gateway):
    """It says nothing about why, so only its exit code does."""
    shell = websocat("--text", gateway.ws("/nowhere"))
    assert shell.wait(PATIENCE) != 0
