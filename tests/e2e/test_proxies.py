"""Through nginx and HAProxy, configured as docs/behind-a-proxy.md says: everything arrives as without them."""

import json
import signal
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

import raw
from client import LIBRARIES, Client
from events import EventStream
from gateway import PATIENCE, until
from proxies import Haproxy, Nginx
from raw import head, open_websocket, post, upgrade


@pytest.fixture(params=[Nginx, Haproxy], ids=["nginx", "haproxy"])
def kind(request):
    return request.param


@pytest.fixture
def front(tmp_path):
    """Puts proxies in front of gateways: `front(kind, gateway, changes, certificate)`."""
    running = []

    def one(kind, gateway, changes: dict[str, str] | None = None, certificate: Path | None = None):
        running.append(kind(gateway, tmp_path / f"proxy-{len(running)}", changes or {}, certificate))
        return running[-1]

    yield one
    for proxy in running:
        proxy.stop()


def ask(proxy, request: bytes) -> raw.Answer:
    """One answer, and as much body as it announces: the proxy keeps the connection."""
    with raw.Connection(proxy.address) as connection:
        connection.send(request)
        answer = connection.head()
        answer.body = connection.take(int(answer.one("Content-Length")))
        return answer


def check_problem_through(answer: raw.Answer, status: int, kind: str):
    """The gateway's own words have arrived, whatever the proxy does with the connection."""
    assert answer.status == status, answer
    assert answer.one("Content-Type") == "application/problem+json", answer
    problem = answer.json()
    assert problem["type"] == f"urn:moongate:problem:{kind}" and problem["hint"], problem


def test_chat(kind, front, gateway, topic):
    """WebSockets, an event stream and POST through the proxy, and one WebSocket beside it."""
    proxy = front(kind, gateway)
    path = f"/topics/{topic}"
    with (
        EventStream(proxy.url(path)) as stream,
        connect(proxy.ws(path), proxy=None) as one,
        connect(gateway.ws(path), proxy=None) as beside,
    ):
        assert stream.status == 200 and stream.fields["content-type"].startswith("text/event-stream")
        for message in ["hello", b"\x00\xff", "", "x" * 65_536, b"y" * 65_536, "zażółć 🌕"]:
            for speaker in (one, beside):
                speaker.send(message)
                assert one.recv(timeout=PATIENCE) == message
                assert beside.recv(timeout=PATIENCE) == message
                event = stream.next()
                assert (event.data if isinstance(message, str) else event.bytes()) == message
        place = json.loads(ask(proxy, post_request(path, b"by POST")).body)
        assert place["topic"] == topic
        assert one.recv(timeout=PATIENCE) == "by POST"
        event = stream.next()
        assert event.data == "by POST" and event.id == f"{place['epoch']}-{place['offset']}"
        one.close(4000, "enough")
        assert one.close_code == 4000


def post_request(path: str, body: bytes) -> bytes:
    return head(f"POST {path} HTTP/1.1", "Host: gate.example", f"Content-Length: {len(body)}") + body


def test_tls_ends_at_the_proxy(kind, front, gateway, topic, tmp_path):
    """A page of the same origin, which is https, and an event stream."""
    certificate = self_signed(tmp_path)
    proxy = front(kind, gateway, certificate=certificate)
    path, host = f"/topics/{topic}", raw.authority(proxy.address)
    trust = ssl.create_default_context(cafile=certificate)
    with (
        EventStream(f"https://{host}{path}", "--cacert", str(certificate)) as stream,
        connect(f"wss://{host}{path}", proxy=None, ssl=trust, origin=f"https://{host}") as one,
    ):
        one.send("under wraps")
        assert one.recv(timeout=PATIENCE) == stream.next().data == "under wraps"


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", *kind, *name, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    return both


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_other_clients(kind, front, gateway, topic, library):
    """With permessage-deflate, a ping, and a close."""
    proxy = front(kind, gateway)
    with Client(library, proxy.ws(f"/topics/{topic}"), "deflate") as one:
        assert "permessage-deflate" in one.opened()
        for message in ["hello", "word " * 10_000, b"\x00" * 30_000]:
            one.send(message)
            one.heard(message)
        one.ping(b"there?")
        one.ponged(b"there?")
        one.close(3000, "enough")
        assert one.closed()[0] == 3000


def test_refusals_arrive(kind, front, gateway, topic):
    """With the body that says why, and what to change."""
    proxy = front(kind, gateway)
    path = f"/topics/{topic}"
    for request, status, problem in [
        (upgrade("/topics/a//b", "gate.example"), 400, "topic_empty_segment"),
        (upgrade("/nowhere", "gate.example"), 404, "not_found"),
        (upgrade(path, "gate.example", "Origin: http://evil.example"), 403, "origin_refused"),
        (upgrade(path, "gate.example").replace(b"Version: 13", b"Version: 12"), 426, "ws_version_unsupported"),
        (head(f"GET {path} HTTP/1.1", "Host: gate.example"), 426, "upgrade_required"),
        (post_request(path, b"\xff"), 415, "not_text"),
        (post_request(path, b"x" * 300_000), 413, "body_too_large"),
    ]:
        check_problem_through(ask(proxy, request), status, problem)


def test_origins_are_compared_with_the_host_the_client_named(kind, front, gateway, topic):
    """Its port included; and `https`, though it ended at the proxy."""
    proxy = front(kind, gateway)
    for host, origin, status in [
        (raw.authority(proxy.address), f"http://{raw.authority(proxy.address)}", 101),
        ("gate.example", "https://gate.example", 101),
        ("gate.example", "http://gate.example", 101),
        ("gate.example:8443", "https://gate.example:8443", 101),
        ("gate.example:8443", "https://gate.example", 403),
        ("gate.example", "https://gate.example.evil.example", 403),
        (raw.authority(proxy.address), f"http://{gateway.host}", 403),
        ("gate.example", "null", 403),
    ]:
        with raw.Connection(proxy.address) as connection:
            connection.send(upgrade(f"/topics/{topic}", host, f"Origin: {origin}"))
            assert connection.head().status == status, (host, origin)


def test_silence_is_outlived(kind, front, start, topic):
    """Timeouts of the proxy that are longer than the ping interval end nothing: two of them pass in silence."""
    gateway = start(PING_INTERVAL="200ms")
    proxy = front(kind, gateway, {"75s": "2s"})
    path = f"/topics/{topic}"
    with EventStream(proxy.url(path)) as stream, connect(proxy.ws(path), proxy=None, ping_interval=None) as one:
        time.sleep(5)
        post(gateway.listen, path, b"still here")
        assert one.recv(timeout=PATIENCE) == "still here"
        assert stream.next().data == "still here"


def test_silence_that_is_too_long_is_not(kind, front, start, topic):
    """The other way round, so that the line in the page that says so has been seen to be needed."""
    proxy = front(kind, start(PING_INTERVAL="20s"), {"75s": "500ms"})
    with open_websocket(proxy.address, f"/topics/{topic}") as connection:
        assert connection.rest() == b""


def test_draining_is_seen(front, start, topic):
    """HAProxy: the server is DOWN while Moongate still takes connections; who is on it hears 1001 through the proxy."""
    gateway = start(DRAIN_DELAY="10s", DRAIN_TIMEOUT="1s")
    proxy = front(Haproxy, gateway)
    with open_websocket(proxy.address, f"/topics/{topic}") as connection:
        gateway.signal(signal.SIGTERM)
        until("HAProxy to see it", lambda: "Server moongate/one is DOWN" in proxy.log, 9)
        assert "code: 503" in proxy.log, proxy.log
        with raw.Connection(proxy.address) as late:
            late.send(upgrade(f"/topics/{topic}", "gate.example"))
            assert late.head().status == 503
        open_websocket(gateway.listen, f"/topics/{topic}").socket.close()
        code, _ = connection.close_frame()
        assert code == 1001
        connection.send(raw.close(1001))
    assert gateway.wait() == 0


def test_draining_is_seen_through_nginx(front, start, topic):
    """Whoever asks /readyz through it; and the 1001 comes through."""
    gateway = start(DRAIN_DELAY="5s", DRAIN_TIMEOUT="1s")
    proxy = front(Nginx, gateway)
    readyz = head("GET /readyz HTTP/1.1", "Host: gate.example")
    assert ask(proxy, readyz).status == 200
    with open_websocket(proxy.address, f"/topics/{topic}") as connection:
        gateway.signal(signal.SIGTERM)
        until("the answer to change", lambda: ask(proxy, readyz).status == 503, 4)
        code, _ = connection.close_frame()
        assert code == 1001
        connection.send(raw.close(1001))
    assert gateway.wait() == 0


@pytest.mark.parametrize(
    ("line", "status", "problem"),
    [
        ("proxy_set_header Connection $connection_upgrade;", 426, "connection_lacks_upgrade"),
        ("proxy_http_version 1.1;", 426, "upgrade_in_http10"),
        ("proxy_set_header Upgrade $http_upgrade;", 426, "upgrade_removed"),
        ("proxy_set_header Host $http_host;", 403, "origin_refused"),
    ],
    ids=["Connection", "HTTP/1.1", "Upgrade", "Host"],
)
def test_what_a_missing_line_looks_like(front, gateway, topic, line, status, problem):
    """The page's table, and a hint that names the line."""
    proxy = front(Nginx, gateway, {line: ""})
    answer = ask(proxy, upgrade(f"/topics/{topic}", "gate.example", "Origin: http://gate.example"))
    check_problem_through(answer, status, problem)
    assert line.split(" $")[0] in answer.json()["hint"], answer.json()["hint"]


def test_what_buffering_looks_like(front, gateway, topic):
    """An event stream asks nginx not to buffer it. The page's line is for an nginx that is told not to listen to that."""
    off, deaf = "proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;"
    request = head(f"GET /topics/{topic} HTTP/1.1", "Host: gate.example", "Accept: text/event-stream")
    for line in ("", deaf + off):
        with raw.Connection(front(Nginx, gateway, {off: line}).address) as connection:
            connection.send(request)
            connection.head()
            post(gateway.listen, f"/topics/{topic}", b"an event")
            while b"an event" not in connection.pending:
                assert connection.more()
    with raw.Connection(front(Nginx, gateway, {off: deaf}).address) as connection:
        connection.send(request)
        connection.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.more()
