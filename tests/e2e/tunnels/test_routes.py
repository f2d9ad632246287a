"""Tables of routes as an operator meets them: read from the environment or a file, checked, logged, resolved."""

import os
import shlex
import subprocess
import time

import pytest

import raw
from gateway import binary, run_to_end
from gauges import gauge
from raw import check_problem, exchange, get, head, upgrade
from upstream import opened

TABLE = "/topics/* topics; /chat/* tunnel 127.0.0.1:9 http=pass"


def test_check_prints_the_table_as_it_is_understood():
    done = run_to_end("check", ROUTES="/a/* tunnel App.Internal:80,unix:/x upgrade=Acme/2 strip=/a/; / page")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[1:] == [
        "/healthz  health",
        "/readyz   ready",
        "/a/*      tunnel app.internal:80,unix:/x upgrade=Acme/2 strip=/a connect_timeout=5s answer_timeout=1m idle_timeout=1h lifetime=none",
        "/         page",
    ]


def test_errors_point_at_the_spot():
    """All of them at once, each with its line and a caret under the word."""
    done = run_to_end("check", ROUTES="/a topics; /b tunnel x\n/c tunnel a:1 upgrade=websocket,h2c")
    assert done.returncode == 2 and not done.stdout
    said = done.stderr.splitlines()
    assert [line.startswith("error: MOONGATE_ROUTES: ") for line in said[::3]] == [True] * 3, said
    for line, caret, word in zip(said[1::3], said[2::3], ["/a", "x", "h2c"]):
        assert line[caret.index("^") : caret.rindex("^") + 1] == word, said


def test_what_replaces_the_table_stands_alone():
    for name in ("ECHO", "PAGE"):
        done = run_to_end("check", **{"ROUTES": TABLE, name: "on"})
        assert done.returncode == 2 and done.stderr.startswith(f"error: MOONGATE_{name}: "), done.stderr
        assert run_to_end("check", **{"ROUTES": TABLE, name: "auto"}).returncode == 0


def test_a_table_in_a_file(start, serve, tmp_path):
    upstream = serve()
    file = tmp_path / "routes"
    file.write_text(f"# Who goes where.\n/topics/* topics\n/chat/* tunnel {upstream.name} # the chat\n")
    gateway = start(ROUTES_FILE=str(file))
    opened(gateway.listen, "/chat/x", upstream)
    assert get(gateway.listen, "/echo").status == 404
    done = run_to_end("check", ROUTES_FILE=str(file), ROUTES=TABLE)
    assert done.returncode == 2 and "only one of them" in done.stderr
    done = run_to_end("check", ROUTES_FILE=str(tmp_path / "nothing"))
    assert done.returncode == 2 and "wants a file with routes" in done.stderr


def test_the_log_says_what_is_served_and_what_is_gone(start):
    gateway = start(ROUTES=TABLE)
    for line in (r"route: /healthz\s+health", r"route: /chat/\*\s+tunnel 127.0.0.1:9 .*http=pass"):
        gateway.says(line)
    for gone in ("/echo echo", "/ page"):
        gateway.says(f"does not have it: {gone}")
    assert "does not have it: /topics" not in gateway.log
    assert get(gateway.listen, "/").status == get(gateway.listen, "/echo").status == 404


def test_health_is_there_unless_it_is_off_or_taken(start, serve):
    assert get(start(ROUTES="/topics/* topics").listen, "/healthz").status == 200
    assert get(start(ROUTES="/topics/* topics", HEALTH="off").listen, "/healthz").status == 404
    upstream = serve()
    gateway = start(ROUTES=f"/healthz tunnel {upstream.name}; /alive health")
    opened(gateway.listen, "/healthz", upstream)
    assert get(gateway.listen, "/alive").status == get(gateway.listen, "/readyz").status == 200


def test_topics_under_another_path(start):
    """The same topics, by what the star stands for; the page knows only its own path."""
    gateway = start(ROUTES="/live/* topics; /topics/* topics; / page")
    with raw.open_websocket(gateway.listen, "/live/a/b") as one, raw.open_websocket(gateway.listen, "/topics/a/b") as two:
        assert raw.post(gateway.listen, "/live/a/b", b"hi").json()["topic"] == "a/b"
        assert one.frame() == two.frame() == (raw.TEXT, b"hi")
    assert get(gateway.listen, "/topics/a", "Accept: text/html").status == 200
    check_problem(get(gateway.listen, "/live/a", "Accept: text/html"), 426)


def test_refusals_are_counted_and_logged(start):
    gateway = start(ROUTES="/a/* tunnel 127.0.0.1:9")
    check_problem(exchange(gateway.listen, upgrade("/a/b?secret=x", "gate.example")), 502)
    line = gateway.says(r".*refused .*upstream_unreachable.*").group()
    assert "/a/b" in line and "secret" not in line
    assert gauge(gateway, "tunnel_refused_total", 'route="/a/*"', 'reason="upstream_unreachable"') == 1
    check_problem(exchange(gateway.listen, head("GET /a/b HTTP/1.1", "Host: x")), 426)
    assert gauge(gateway, "requests_total", 'reason="upgrade_required"') == 1


@pytest.fixture
def own_hosts(tmp_path, monkeypatch):
    """A gateway with an /etc/hosts of its own, in a mount namespace of its own: the file, to be written to."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    wrapper = tmp_path / "moongate"
    inside = f"mount --bind {shlex.quote(str(hosts))} /etc/hosts && exec {shlex.quote(binary())} \"$@\""
    wrapper.write_text(f"#!/bin/sh\nexec unshare --map-root-user --mount sh -c {shlex.quote(inside)} sh \"$@\"\n")
    wrapper.chmod(0o755)
    if subprocess.run([wrapper, "--version"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    monkeypatch.setenv("MOONGATE_BIN", str(wrapper))
    return hosts


def write(hosts, *lines: str):
    """In place: the file is mounted."""
    with open(hosts, "r+") as file:
        file.truncate()
        file.write("\n".join(["127.0.0.1 localhost", *lines, ""]))
        file.flush()
        os.fsync(file.fileno())


def test_addresses_move(own_hosts, start, serve):
    """A name that did not resolve does, moves elsewhere, and keeps its address when it no longer resolves."""
    upstream = serve()
    gateway = start(ROUTES=f"/a/* tunnel app.internal:{upstream.port} connect_timeout=2s", UPSTREAM_REFRESH="1s")
    request = upgrade("/a/b", "gate.example")

    def reason() -> str:
        return exchange(gateway.listen, request).json()["type"].rsplit(":", 1)[1]

    assert reason() == "upstream_unresolved"
    write(own_hosts, "127.0.0.1 app.internal")
    gateway.says(r"an upstream's name resolves.*127\.0\.0\.1")
    time.sleep(0.2)
    client, call = opened(gateway.listen, "/a/b", upstream)
    # Nobody listens on that address.
    write(own_hosts, "127.0.0.99 app.internal")
    gateway.says(r"an upstream's name resolves.*127\.0\.0\.99")
    time.sleep(0.2)
    assert reason() == "upstream_unreachable"
    client.send(b"still open")
    assert call.take(10) == b"still open"
    write(own_hosts, "127.0.0.1 app.internal")
    gateway.says(r"an upstream's name resolves(?s:.*)127\.0\.0\.99(?s:.*)an upstream's name resolves.*127\.0\.0\.1")
    write(own_hosts)
    time.sleep(2.5)
    gateway.says("does not resolve, and is tried again")
    opened(gateway.listen, "/a/b", upstream)
    assert gateway.log.count("does not resolve, and is tried again") == 2, "once per change"
