"""The process: settings, its start, the signals that end it, and the one that does not."""

import json
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import raw
from events import EventStream
from gateway import PATIENCE, USUAL, run_to_end, until
from raw import get, open_websocket, post


def test_help_lists_every_setting():
    done = run_to_end("--help")
    assert done.returncode == 0
    for name in ("LISTEN", "CONTROL", "ANONYMOUS", "ORIGINS", "MESSAGE_BYTES_MAX", "DRAIN_TIMEOUT", "LOG_FORMAT"):
        assert f"MOONGATE_{name}" in done.stdout, name


def test_check_says_all_that_is_wrong_at_once():
    done = run_to_end(
        "check", LISTEN="nowhere", MESSAGE_BYTES_MAX="a lot", HEAD_TIMEOUT="10", SHARDS="-1", OUTBOX_POLICY="explode"
    )
    assert done.returncode == 2
    for name, saw in [
        ("LISTEN", "nowhere"), ("MESSAGE_BYTES_MAX", "a lot"), ("HEAD_TIMEOUT", "10"), ("SHARDS", "-1"), ("OUTBOX_POLICY", "explode"),
    ]:
        lines = [line for line in done.stderr.splitlines() if f"MOONGATE_{name}:" in line or f"MOONGATE_{name} " in line]
        assert any(saw in line for line in lines), f"{name}: {done.stderr}"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"LISTEN": "0.0.0.0:8080", "ANONYMOUS": "publish"}, "MOONGATE_INSECURE"),
        ({"CONTROL": "0.0.0.0:8081"}, "MOONGATE_CONTROL_TOKEN"),
        ({"OUTBOX_BYTES_MAX": "64KiB", "MESSAGE_BYTES_MAX": "64KiB"}, "MOONGATE_MESSAGE_BYTES_MAX"),
        ({"CONTROL_TOKEN_FILE": "/nonexistent/token"}, "MOONGATE_CONTROL_TOKEN_FILE"),
    ],
    ids=["publish in public", "control in public", "outbox below a message", "secret file missing"],
)
def test_settings_that_do_not_fit_together(settings, named):
    done = run_to_end("check", **settings)
    assert done.returncode == 2 and named in done.stderr, done.stderr
    assert run_to_end(**settings).returncode == 2, "it does not start with them either"


def test_right_settings_pass_the_check():
    done = run_to_end("check", LISTEN="127.0.0.1:0,[::1]:0", MESSAGE_BYTES_MAX="32KiB", PING_INTERVAL="30s", ORIGINS="")
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_a_warning_with_the_nearest_right_one():
    done = run_to_end("check", LISTN="127.0.0.1:0")
    assert done.returncode == 0
    assert "MOONGATE_LISTN" in done.stderr and re.search(r"MOONGATE_LISTEN\b", done.stderr), done.stderr
    assert run_to_end("check", "--strict", LISTN="127.0.0.1:0").returncode == 2


def test_an_outbox_too_small_for_a_message_in_its_longest_form_is_a_warning():
    done = run_to_end("check", MESSAGE_BYTES_MAX="1MiB", OUTBOX_BYTES_MAX="2MiB")
    assert done.returncode == 0
    assert "MOONGATE_OUTBOX_BYTES_MAX" in done.stderr and "MOONGATE_MESSAGE_BYTES_MAX" in done.stderr, done.stderr
    assert not run_to_end("check", MESSAGE_BYTES_MAX="128KiB").stderr


def test_names_that_kubernetes_injects_are_no_settings():
    done = run_to_end(
        "check", "--strict",
        SERVICE_HOST="10.0.0.1", SERVICE_PORT="8080", SERVICE_PORT_HTTP="8080", PORT="tcp://10.0.0.1:8080",
        PORT_8080_TCP="tcp://10.0.0.1:8080", PORT_8080_TCP_PROTO="tcp", PORT_8080_TCP_PORT="8080", PORT_8080_TCP_ADDR="10.0.0.1",
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_start_warns_too(start):
    gateway = start(LISTN="127.0.0.1:0")
    assert "MOONGATE_LISTN" in gateway.log


def test_the_log_has_no_colour_off_a_terminal(start):
    assert "\x1b" not in start().log


def test_a_second_gateway_on_the_same_port_is_an_error(start):
    first = start()
    done = run_to_end(**USUAL | {"LISTEN": f"127.0.0.1:{first.listen[1]}"})
    assert done.returncode == 1
    assert str(first.listen[1]) in done.stderr and "MOONGATE_LISTEN_SHARED" in done.stderr, done.stderr
    assert get(first.listen, "/healthz").status == 200


def test_listen_shared_lets_two_stand_at_one_port(start):
    first = start(LISTEN_SHARED="on")
    second = start(LISTEN=f"127.0.0.1:{first.listen[1]}", LISTEN_SHARED="on")
    assert second.listen == first.listen and second.control != first.control
    clients = [open_websocket(first.listen, "/topics/shared") for _ in range(40)]
    for client in clients:
        client.socket.close()


def test_several_listeners_are_one_gateway(start):
    """IPv6 too, where the machine has it."""
    second = "[::1]:0" if os.path.exists("/proc/net/if_inet6") else "127.0.0.2:0"
    gateway = start(LISTEN=f"127.0.0.1:0,{second}")
    here, there = gateway.addresses
    with open_websocket(here, "/topics/both") as one, open_websocket(there, "/topics/both") as two:
        one.send(raw.frame(raw.TEXT, b"across"))
        assert two.frame() == (raw.TEXT, b"across")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nobody_connected_it_exits_at_once(start, number):
    """Whatever the drain times are."""
    gateway = start(DRAIN_DELAY="10m", DRAIN_TIMEOUT="10m")
    gateway.signal(number)
    assert gateway.wait() == 0


def test_stopping_says_1001_to_all_and_ends_event_streams(start):
    """E11."""
    gateway = start(DRAIN_DELAY="0s", DRAIN_TIMEOUT="2s")
    clients = [open_websocket(gateway.listen, f"/topics/{number % 3}") for number in range(40)]
    with EventStream(gateway.url("/topics/1")) as stream:
        gateway.signal(signal.SIGTERM)
        for client in clients:
            code, _ = client.close_frame()
            assert code == 1001
            client.send(raw.close(1001))
            assert client.rest() == b""
            client.socket.close()
        stream.wait_for_end()
        assert "stopping" in stream.comments[-1]
    assert gateway.wait() == 0


def test_clients_that_do_not_answer_the_1001_do_not_hold_it_up(start):
    """E10."""
    gateway = start(DRAIN_DELAY="0s", DRAIN_TIMEOUT="1s", CLOSE_TIMEOUT="1s")
    clients = [open_websocket(gateway.listen, "/topics/deaf") for _ in range(10)]
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    for client in clients:
        client.socket.close()


def test_readiness_goes_first_and_a_second_signal_ends_it(start):
    """While it still accepts, load balancers already hear no."""
    gateway = start(DRAIN_DELAY="10m", DRAIN_TIMEOUT="10m")
    with open_websocket(gateway.listen, "/topics/late") as client:
        gateway.signal(signal.SIGTERM)
        until("/readyz to say no", lambda: get(gateway.listen, "/readyz").status == 503)
        assert get(gateway.control, "/readyz").status == 503
        assert get(gateway.listen, "/healthz").status == 200
        with open_websocket(gateway.listen, "/topics/late") as late:
            late.send(raw.frame(raw.TEXT, b"still served"))
            assert client.frame() == (raw.TEXT, b"still served")
            gateway.signal(signal.SIGTERM)
            gateway.wait()


def test_the_signal_itself_refuses_nobody(start):
    """One client stays connected, so the delay holds for all shards, also for those that have nobody."""
    gateway = start(SHARDS="4", DRAIN_DELAY="10m", DRAIN_TIMEOUT="10m")
    answers: list[int | str] = []
    told = threading.Event()

    def ask():
        after = 0
        while after < 50:
            after += told.is_set()
            try:
                answers.append(get(gateway.listen, "/healthz").status)
            except (AssertionError, OSError) as error:
                answers.append(repr(error))

    with open_websocket(gateway.listen, "/topics/late"), ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        until("the askers to be at it", lambda: len(answers) > 100)
        gateway.signal(signal.SIGTERM)
        told.set()
        for one in asking:
            one.result(PATIENCE)
        gateway.signal(signal.SIGTERM)
        gateway.wait()
    assert set(answers) == {200}


def test_a_hangup_never_ends_it(start):
    gateway = start()
    with open_websocket(gateway.listen, "/topics/steady") as client:
        gateway.signal(signal.SIGHUP)
        gateway.says(r"(?i)(hangup|SIGHUP)[^\n]*start")
        assert post(gateway.listen, "/topics/steady", b"here").status == 200
        assert client.frame() == (raw.TEXT, b"here")


def test_refusals_are_logged_without_their_query(start):
    gateway = start()
    get(gateway.listen, "/nowhere/at/all?token=hush")
    line = gateway.says(r"[^\n]*not_found[^\n]*")[0]
    assert "/nowhere/at/all" in line and "404" in line and "127.0.0.1" in line
    assert "hush" not in gateway.log


def test_json_logs_are_json(start):
    gateway = start(LOG_FORMAT="json")
    entries = [json.loads(line) for line in gateway.lines]
    assert any("ready" in json.dumps(entry) for entry in entries)
