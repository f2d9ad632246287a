"""The control listener: for operators, and for nobody's web page."""

import re

import pytest

import raw
from events import EventStream
from gateway import until
from raw import check_problem, get, open_websocket, post


def test_health(gateway):
    for path in ("/healthz", "/readyz"):
        assert get(gateway.control, path).status == 200


def test_publish(gateway, topic):
    """As on the public listener: text, binary, place; and the same rules for names and bodies."""
    with open_websocket(gateway.listen, f"/topics/{topic}") as listener:
        first = post(gateway.control, f"/topics/{topic}", "grüße".encode())
        assert first.status == 200, first
        assert listener.frame() == (raw.TEXT, "grüße".encode())
        second = post(gateway.control, f"/topics/{topic}", b"\x00\xff", "Content-Type: application/octet-stream")
        assert listener.frame() == (raw.BINARY, b"\x00\xff")
        third = post(gateway.control, f"/topics/{topic}", b'{"degrees": 12.50}', "Content-Type: application/json")
        assert third.status == 200 and listener.frame() == (raw.TEXT, b'{"degrees": 12.50}')
        one, two = first.json(), second.json()
        assert one["topic"] == topic and one["epoch"] == two["epoch"] and two["offset"] == one["offset"] + 1
    json = "Content-Type: application/json"
    for path, body, status, *fields in [
        ("a//b", b"x", 400), ("%24sys", b"x", 400), ("a", b"\xff", 415), ("a", b"x" * 70_000, 413), ("a", b"{", 400, json),
    ]:
        answer = post(gateway.control, f"/topics/{path}", body, *fields)
        assert answer.status == status, (path, answer)
        assert answer.json()["hint"]


def test_topics_are_listed(gateway, topic):
    """Topic, subscribers over all shards, epoch, offset."""

    def listed():
        answer = get(gateway.control, "/topics?limit=1000")
        assert answer.status == 200, answer
        return {entry["topic"]: entry for entry in topics_of(answer.json())}

    name = f"{topic}/café"
    path = f"/topics/{topic}/caf%C3%A9"
    clients = [open_websocket(gateway.listen, path) for _ in range(8)]
    place = post(gateway.listen, path, b"one").json()
    entry = listed()[name]
    assert entry["subscribers"] == 8
    assert entry["epoch"] == place["epoch"] and entry["offset"] == place["offset"]
    for client in clients:
        assert client.frame() == (raw.TEXT, b"one")
        client.send(raw.close(1000))
        client.close_frame()
        client.socket.close()
    until("all to have left", lambda: listed().get(name, {"subscribers": 0})["subscribers"] == 0)


def topics_of(document) -> list[dict]:
    return document["topics"] if isinstance(document, dict) else document


@pytest.mark.parametrize(
    "fields",
    [
        ["Host: HOST", "Origin: http://evil.example"],
        ["Host: HOST", "Origin: null"],
        ["Host: evil.example"],
        ["Host: evil.example:80"],
        ["Host: 127.0.0.1.evil.example"],
    ],
    ids=["foreign origin", "null origin", "foreign host", "foreign host and port", "host that looks like loopback"],
)
def test_no_web_page_may_publish(gateway, topic, fields):
    """A page could otherwise reach it from the operator's own browser, by name or by DNS rebinding."""
    host = f"{gateway.control[0]}:{gateway.control[1]}"
    fields = [line.replace("HOST", host) for line in fields]
    for first in (f"POST /topics/{topic} HTTP/1.1", "GET /topics HTTP/1.1", "GET /metrics HTTP/1.1"):
        answer = raw.exchange(gateway.control, raw.head(first, *fields, "Content-Length: 0", "Connection: close"))
        assert answer.status == 403, answer
        assert answer.one("Content-Type") == "application/problem+json" and answer.json()["hint"]


def test_loopback_names_are_right_hosts(gateway):
    port = gateway.control[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        answer = raw.exchange(gateway.control, raw.head("GET /topics HTTP/1.1", f"Host: {host}", "Connection: close"))
        assert answer.status == 200, answer


def test_configured_hosts_and_origins(start):
    gateway = start(CONTROL_HOSTS="gate.internal", CONTROL_ORIGINS="https://ops.example")
    request = raw.head("GET /topics HTTP/1.1", "Host: gate.internal", "Origin: https://ops.example", "Connection: close")
    assert raw.exchange(gateway.control, request).status == 200


def test_a_token_guards_all_but_health(start, tmp_path):
    """From a file, as every secret may."""
    secret = tmp_path / "token"
    secret.write_text("moon-river-42\n")
    gateway = start(CONTROL_TOKEN_FILE=str(secret))
    assert get(gateway.control, "/healthz").status == 200
    for fields in ([], ["Authorization: Bearer wrong"], ["Authorization: Basic bW9vbi1yaXZlci00Mg=="]):
        answer = get(gateway.control, "/topics", *fields)
        assert answer.status == 401, answer
        assert answer.one("WWW-Authenticate").startswith("Bearer")
    assert get(gateway.control, "/topics", "Authorization: Bearer moon-river-42").status == 200
    assert "moon-river-42" not in gateway.log


METRIC = re.compile(r"^([a-z_][a-z0-9_]*)(\{[^}]*\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$")


def samples(gateway) -> dict[str, float]:
    """Every sample by `name{labels}`, of every shard: they are left out of it when they are too busy to answer in time."""

    def whole() -> dict[str, float] | None:
        found = parsed(gateway)
        return found if all(value for name, value in found.items() if name.startswith("moongate_shard_up{")) else None

    return until("all shards to say what they counted", whole)


def parsed(gateway) -> dict[str, float]:
    """The text is checked line by line."""
    answer = get(gateway.control, "/metrics")
    assert answer.status == 200 and answer.one("Content-Type").startswith("text/plain"), answer
    found, announced = {}, set()
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            name = line.split(" ")[2]
            assert name not in announced, f"{name} is announced twice"
            announced.add(name)
        if not line or line.startswith("#"):
            continue
        match = METRIC.match(line)
        assert match, line
        key = match[1] + (match[2] or "")
        assert key not in found, f"{key} is there twice"
        found[key] = float(match[3])
        assert any(match[1] in (name, f"{name}_bucket", f"{name}_sum", f"{name}_count") for name in announced), line
    return found


def total(found: dict[str, float], name: str, *labels: str) -> float:
    """The sum over shards of the samples of one metric that have all of `labels`."""
    parts = [(key.split("{")[0], key, value) for key, value in found.items()]
    return sum(value for metric, key, value in parts if metric == f"moongate_{name}" and all(label in key for label in labels))


def test_metrics_count_what_happened(start):
    """Two WebSockets that hear each other ten times, one event stream, one POST, one refusal."""
    gateway = start()
    found = samples(gateway)
    assert {'moongate_connections{shard="0"}', 'moongate_connections{shard="1"}'} <= found.keys()
    path = "/topics/counted"
    with open_websocket(gateway.listen, path) as one, open_websocket(gateway.listen, path) as two, EventStream(gateway.url(path)) as stream:
        for _ in range(9):
            one.send(raw.frame(raw.TEXT, b"hello"))
        assert post(gateway.listen, path, b"hello").status == 200
        for _ in range(10):
            assert one.frame() == two.frame() == (raw.TEXT, b"hello")
            stream.next()
        raw.exchange(gateway.listen, raw.upgrade("/nowhere", gateway.host))
        expect = [
            (3, "connections"),
            (5, "accepted_total"),
            (2, "requests_total", 'outcome="switched"'),
            (1, "requests_total", 'outcome="event_stream"'),
            (1, "requests_total", 'outcome="published"'),
            (1, "requests_total", 'outcome="refused"', 'reason="not_found"'),
            (10, "messages_in_total"),
            (50, "messages_in_bytes_total"),
            (10, "messages_ordered_total"),
            (30, "messages_out_total"),
            (0, "messages_dropped_total"),
            (3, "subscriptions"),
            (1, "topics"),
        ]

        def wrong():
            found = samples(gateway)
            return [(total(found, *names), "in place of", right, *names) for right, *names in expect if total(found, *names) != right]

        until("the counts to settle", lambda: not wrong())
