"""Which driver is chosen, how it is said, and what differs between them."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import raw
from gateway import PATIENCE, ROOT, binary, environment, until
from gauges import check_all_came_home, cpu_seconds, gauge
from raw import TEXT, Connection, get, open_websocket, post
from test_control import samples

pytestmark = pytest.mark.once

DRIVERS = ["uring", "tokio-uring", "epoll"]
PROFILE = ROOT / "packaging/seccomp/moongate.json"
FORBID = [sys.executable, str(Path(__file__).with_name("forbid.py"))]


def forbidding(error: str, what: str) -> list[str]:
    return [*FORBID, error, what, "--"]


def run_under(under: list[str], *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*under, binary(), *arguments], env=environment(settings), capture_output=True, text=True, timeout=PATIENCE
    )


def check_serves(gateway):
    """A handshake, a message there and back, a POST, a Close."""
    with open_websocket(gateway.listen, "/topics/drivers") as connection:
        connection.send(raw.frame(TEXT, b"through"))
        assert connection.frame() == (TEXT, b"through")
        assert post(gateway.listen, "/topics/drivers", b"posted").status == 200
        assert connection.frame() == (TEXT, b"posted")


@pytest.mark.parametrize(
    ("under", "driver", "reason"),
    [
        ([], "uring", "the best there is"),
        (forbidding("EPERM", "io_uring_setup"), "epoll", "Operation not permitted"),
        (forbidding("ENOSYS", "io_uring_setup"), "epoll", "Function not implemented"),
        (forbidding("EPERM", "io_uring_enter"), "epoll", "Operation not permitted"),
        (forbidding("EPERM", "io_uring_register"), "tokio-uring", "Operation not permitted"),
        (forbidding("EPERM", "buffer_rings"), "tokio-uring", "a ring of receive buffers"),
    ],
    ids=["nothing forbidden", "setup EPERM", "setup ENOSYS", "enter EPERM", "register EPERM", "buffer rings EPERM"],
)
def test_n9_auto_takes_the_best_that_can_run_and_says_so(start, under, driver, reason):
    """N9."""
    gateway = start(DRIVER="auto", under=under)
    assert gateway.driver == driver
    first = [line for line in gateway.lines if not re.search("starting|not the default|cannot run here", line)][0]
    assert f'driver="{driver}"' in first and reason in first, gateway.log
    health = json.loads(get(gateway.control, "/healthz").body)
    assert health["status"] == "ok" and health["driver"] == driver and reason in health["reason"]
    info = [name for name in samples(gateway) if name.startswith("moongate_driver_info")]
    assert len(info) == 1 and f'driver="{driver}"' in info[0] and reason in info[0], info
    check_serves(gateway)


@pytest.mark.parametrize("driver", ["uring", "tokio-uring"])
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_n9_one_asked_for_that_cannot_run_is_an_error_with_the_way_out(driver, error):
    """N9: no other is taken in silence."""
    done = run_under(
        forbidding(error, "io_uring_setup"), LISTEN="127.0.0.1:0", CONTROL="127.0.0.1:0", DRIVER=driver
    )
    assert done.returncode == 1
    for part in ["MOONGATE_DRIVER", f"the driver {driver} cannot run here", "seccomp", "docs/containers.md", "MOONGATE_DRIVER=auto"]:
        assert part in done.stderr, (part, done.stderr)


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_asked_for_by_name_is_taken(start, driver):
    gateway = start(DRIVER=driver)
    assert gateway.driver == driver
    assert json.loads(get(gateway.control, "/healthz").body)["reason"] == "asked for"
    check_serves(gateway)


def test_the_verb_drivers_shows_them_all():
    free = run_under([], "drivers")
    assert free.returncode == 0
    for driver in DRIVERS:
        assert re.search(rf"^{driver} +can run here", free.stdout, re.MULTILINE), free.stdout
    bound = run_under(forbidding("EPERM", "io_uring_setup"), "drivers")
    assert bound.returncode == 0
    for driver in ["uring", "tokio-uring"]:
        assert re.search(rf"^{driver} +cannot run here: .*seccomp", bound.stdout, re.MULTILINE), bound.stdout
    assert re.search(r"^epoll +can run here, and is what MOONGATE_DRIVER=auto takes", bound.stdout, re.MULTILINE), bound.stdout


@pytest.mark.parametrize(("driver", "each"), [("uring", 0), ("tokio-uring", 1), ("epoll", 1)])
def test_what_a_connection_costs_in_open_files(start, driver, each):
    """Nothing where connections are direct descriptors, else one; and none stays."""
    count = 300
    gateway = start(DRIVER=driver)
    files = gateway.open_files()
    clients = [open_websocket(gateway.listen, "/topics/idle") for _ in range(count)]
    assert 0 <= gateway.open_files() - files - each * count < 20
    for client in clients:
        client.socket.close()
    check_all_came_home(gateway, 2 * 1024, files)


@pytest.mark.parametrize("driver", ["tokio-uring", "epoll"])
def test_k6_no_file_is_left_for_a_connection(start, driver):
    """K6: where connections are open files, who finds none waits; accepting rests and goes on by itself."""
    gateway = start(DRIVER=driver, SHARDS="1")
    files = gateway.open_files()
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (files + 20, 20_000))
    crowd = [Connection(gateway.listen) for _ in range(60)]
    for connection in crowd:
        connection.send(raw.upgrade("/topics/files", gateway.host))
    for connection in crowd[:5]:
        assert connection.head().status == 101
    before = cpu_seconds(gateway)
    until("accepting to rest a few times", lambda: gateway_rested(gateway, crowd))
    assert cpu_seconds(gateway) - before < 0.5, "it goes round in circles"
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (20_000, 20_000))
    for connection in crowd[5:]:
        assert connection.head().status == 101
    assert gauge(gateway, "accept_errors_total") > 0
    for connection in crowd:
        connection.socket.close()
    check_all_came_home(gateway, 1024, files)


def gateway_rested(gateway, crowd) -> bool:
    """No more than the limit allows have come, though all have asked: that is seen from outside, without a file."""
    return gateway.open_files() >= resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)[0] - 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_profile_for_containers_lets_every_driver_run(start, driver):
    """Whatever the profile does not allow is refused; a Close, a drain and the control listener are within it too."""
    gateway = start(DRIVER=driver, under=forbidding("EPERM", str(PROFILE)))
    check_serves(gateway)
    assert get(gateway.control, "/readyz").status == 200
    assert gateway.stop() == 0


def test_the_profile_without_its_rings_leaves_epoll(start, tmp_path):
    profile = json.loads(PROFILE.read_text())
    profile["syscalls"] = [rule for rule in profile["syscalls"] if "io_uring_setup" not in rule["names"]]
    without = tmp_path / "without.json"
    without.write_text(json.dumps(profile))
    gateway = start(DRIVER="auto", under=forbidding("EPERM", str(without)))
    assert gateway.driver == "epoll"
    check_serves(gateway)


def test_tokio_uring_reads_and_writes_through_its_ring(start, tmp_path):
    """No accept, read, receive, write or send is called for a client's socket: all of it goes through the ring."""
    strace = shutil.which("strace")
    assert strace, "tests/install.sh installs it"
    trace = tmp_path / "trace"
    calls = "accept,accept4,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,io_uring_enter"
    gateway = start(DRIVER="tokio-uring", under=[strace, "-D", "-f", "-yy", "-o", str(trace), "-e", f"trace={calls}"])
    check_serves(gateway)
    gateway.stop()
    until("the trace's end", lambda: "+++ exited" in trace.read_text())
    lines = trace.read_text().splitlines()
    assert any("io_uring_enter(" in line for line in lines)
    # The trial at the start has a client of its own, at the other end.
    ours = f"<TCP:[127.0.0.1:{gateway.listen[1]}"
    assert not [line for line in lines if ours in line]
