"""Who may: origins, who speaks without credentials, and what is served beside topics."""

import pytest
from websockets.sync.client import connect

import raw
from gateway import PATIENCE
from raw import check_problem, exchange, get, open_websocket, post, upgrade


def websocket_status(gateway, *fields: str) -> int:
    with raw.Connection(gateway.listen) as connection:
        connection.send(upgrade("/topics/origins", gateway.host, *fields))
        return connection.head().status


def test_same_origin_is_the_default(gateway):
    """B19, L1: the Origin's host and port are the Host's; no Origin is no web page."""
    assert websocket_status(gateway) == 101
    assert websocket_status(gateway, f"Origin: http://{gateway.host}") == 101
    host, port = gateway.listen
    for origin in [
        "http://elsewhere.example",
        f"http://{host}:{port + 1 if port < 65535 else 1}",
        f"http://{host}",
        f"http://{host}.evil.example:{port}",
        f"http://evil.example/{gateway.host}",
        "null",
        "",
    ]:
        assert websocket_status(gateway, f"Origin: {origin}") == 403, origin
        check_problem(post(gateway.listen, "/topics/origins", b"hello", f"Origin: {origin}"), 403)


def test_listed_origins(start):
    """L1: exact, and compared in lower case; event streams are told who may read them."""
    gateway = start(ORIGINS="https://app.example, https://other.example:8443")
    assert websocket_status(gateway, "Origin: https://app.example") == 101
    assert websocket_status(gateway, "Origin: HTTPS://APP.example") == 101
    assert websocket_status(gateway, "Origin: https://other.example:8443") == 101
    for origin in ["http://app.example", "https://app.example:8443", "https://xapp.example", "https://app.example.net", "null"]:
        assert websocket_status(gateway, f"Origin: {origin}") == 403, origin
    answer = post(gateway.listen, "/topics/origins", b"hello", "Origin: https://app.example")
    assert answer.status == 200 and answer.one("Access-Control-Allow-Origin") == "https://app.example"
    assert "origin" in answer.members("Vary")
    stream = event_stream_head(gateway, "Origin: https://app.example")
    assert stream.status == 200 and stream.one("Access-Control-Allow-Origin") == "https://app.example"
    assert "origin" in stream.members("Vary")


def test_any_origin(start):
    gateway = start(ORIGINS="*")
    assert websocket_status(gateway, "Origin: https://anywhere.example") == 101
    assert event_stream_head(gateway, "Origin: https://anywhere.example").all("Access-Control-Allow-Origin")


def event_stream_head(gateway, *fields: str) -> raw.Answer:
    with raw.Connection(gateway.listen) as connection:
        connection.send(
            raw.head("GET /topics/origins HTTP/1.1", f"Host: {gateway.host}", "Accept: text/event-stream", *fields)
        )
        return connection.head()


@pytest.mark.parametrize("message", [raw.frame(raw.TEXT, b"hello"), raw.frame(raw.BINARY, b"\x00")], ids=["text", "binary"])
def test_who_may_only_listen_is_told_the_setting(start, message):
    """1008 to a speaker on a WebSocket, 403 to a POST; listening goes on, and control may still publish."""
    gateway = start(ANONYMOUS="subscribe")
    with open_websocket(gateway.listen, "/topics/quiet") as listener, open_websocket(gateway.listen, "/topics/quiet") as speaker:
        speaker.send(message)
        code, reason = speaker.close_frame()
        assert code == 1008 and "MOONGATE_ANONYMOUS" in reason
        answer = post(gateway.listen, "/topics/quiet", b"hello")
        check_problem(answer, 403)
        assert "MOONGATE_ANONYMOUS" in answer.json()["hint"]
        listener.send(raw.frame(raw.PING, b"alive"))
        assert listener.frame() == (raw.PONG, b"alive")
        assert post(gateway.control, "/topics/quiet", b"from the operator").status == 200
        assert listener.frame() == (raw.TEXT, b"from the operator")


def test_echo_and_page_and_health_can_be_taken_away(start):
    gateway = start(ECHO="off", PAGE="off", HEALTH="off")
    check_problem(exchange(gateway.listen, upgrade("/echo", gateway.host)), 404)
    check_problem(get(gateway.listen, "/", "Accept: text/html"), 404)
    check_problem(get(gateway.listen, "/topics/news", "Accept: text/html"), 426)
    for path in ("/healthz", "/readyz"):
        check_problem(get(gateway.listen, path), 404)
    assert get(gateway.control, "/healthz").status == 200, "control always answers"
    with connect(gateway.ws("/topics/news"), proxy=None) as client:
        client.send("still here")
        assert client.recv(timeout=PATIENCE) == "still here"


def test_health_on_the_public_listener(gateway):
    for path in ("/healthz", "/readyz"):
        answer = get(gateway.listen, path)
        assert answer.status == 200, answer
        assert "close" in answer.members("Connection")


def test_a_plain_request_is_shown_the_ways_in(gateway):
    """426 with a hint that names a WebSocket, an event stream and POST."""
    answer = get(gateway.listen, "/topics/news", "Accept: */*")
    check_problem(answer, 426)
    hint = answer.json()["hint"]
    assert "text/event-stream" in hint and "WebSocket" in hint and ("POST" in hint or "curl -d" in hint)
    assert "accept" in answer.members("Vary")
