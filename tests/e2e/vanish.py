"""Peers that vanish without a FIN or a RST, on a loopback of their own whose cable is pulled. Run by test_bug_classes_slow.py:

    unshare --map-root-user --net python vanish.py
"""

import fcntl
import re
import socket
import struct
from pathlib import Path

from gateway import Gateway, until
from gauges import check_all_came_home
from raw import Connection, open_websocket
from test_control import samples, total

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
WEBSOCKETS, STREAMS = 30, 10


def set_loopback(up: bool):
    """netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP if up else 0))


def established(port: int) -> int:
    """How many connections the side that listens on `port` has (proc_pid_net(5))."""
    lines = Path("/proc/net/tcp").read_text()
    return len(re.findall(rf"^ *\d+: \w+:{port:04X} \w+:\w+ 01 ", lines, re.MULTILINE))


def main():
    set_loopback(True)
    # Nobody here answers pings, so each WebSocket gets one: it must not come before the cable is pulled.
    gateway = Gateway(TCP_USER_TIMEOUT="1s", PING_INTERVAL="5s", PONG_TIMEOUT="1h", HEAD_TIMEOUT="10m", CLOSE_TIMEOUT="10m")
    try:
        files = gateway.open_files()
        peers = [open_websocket(gateway.listen, "/topics/vanish") for _ in range(WEBSOCKETS)]
        request = f"GET /topics/vanish HTTP/1.1\r\nHost: {gateway.host}\r\nAccept: text/event-stream\r\n\r\n"
        peers += [open_stream(gateway, request) for _ in range(STREAMS)]
        assert established(gateway.listen[1]) == len(peers)
        set_loopback(False)
        until("the kernel to give all of them up", lambda: established(gateway.listen[1]) == 0)
        set_loopback(True)
        check_all_came_home(gateway, 2 * 1024, files)
        found = samples(gateway)
        ended = {reason: total(found, "subscribers_ended_total", f'"{reason}"') for reason in ("tcp_timeout", "vanished")}
        # The kernel names the time-out by what the last try came to, which here is that there is no way to the peer.
        assert sum(ended.values()) == WEBSOCKETS + STREAMS, ended
        assert gateway.stop() == 0, gateway.log
        gateway.check_sound()
        print(f"{WEBSOCKETS} WebSockets and {STREAMS} event streams vanished, and were given up as {ended}")
    finally:
        gateway.kill()


def open_stream(gateway: Gateway, request: str):
    connection = Connection(gateway.listen)
    connection.send(request.encode())
    assert connection.head().status == 200
    return connection


if __name__ == "__main__":
    main()
