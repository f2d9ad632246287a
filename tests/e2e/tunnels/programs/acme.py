"""
Both ends of a protocol of one's own, acme-rpc/2: each line is a number, and its square comes back. In 30 lines, because
after the 101 there is nothing to it but bytes.
"""

import socket
import sys


def head(connection) -> bytes:
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += connection.recv(1)
    return text


def serve(path: str):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        assert b"Upgrade: acme-rpc/2\r\n" in head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: acme-rpc/2\r\nConnection: Upgrade\r\n\r\n")
        for line in connection.makefile():
            connection.sendall(b"%d\n" % int(line) ** 2)
        connection.close()


def call(host: str, port: int, path: str, *numbers: str):
    connection = socket.create_connection((host, port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: acme-rpc/2\r\nConnection: Upgrade\r\n\r\n".encode())
    assert head(connection).startswith(b"HTTP/1.1 101 ")
    connection.sendall("".join(f"{number}\n" for number in numbers).encode())
    connection.shutdown(socket.SHUT_WR)
    print(*connection.makefile().read().split())


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else call(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
