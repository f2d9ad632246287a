"""wsproto over a plain socket, in the lines that README.md describes."""

import os
import select
import socket
import sys
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason


def say(*words):
    print(*words, flush=True)


def to_hex(data: bytes) -> str:
    return data.hex() or "-"


class Client:
    def __init__(self, url: str, *options: str):
        parts = urlsplit(url)
        self.tcp = socket.create_connection((parts.hostname, parts.port))
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.message = b""
        self.text_begun = False
        self.refused: int | None = None
        self.over = False
        origins = [option.removeprefix("origin=") for option in options if option.startswith("origin=")]
        self.send(
            Request(
                host=parts.netloc,
                target=parts.path,
                extensions=[PerMessageDeflate()] if "deflate" in options else [],
                extra_headers=[(b"Origin", origin.encode()) for origin in origins],
            )
        )

    def send(self, event):
        self.tcp.sendall(self.protocol.send(event))

    def obey(self, line: str):
        order, *words = line.split()
        data = bytes.fromhex(words[-1].strip("-"))
        match order:
            case "text" | "text-part":
                self.text_begun = True
                self.send(TextMessage(data.decode(), message_finished=order == "text"))
            case "binary" | "binary-part":
                self.text_begun = False
                self.send(BytesMessage(data, message_finished=order == "binary"))
            case "part" | "last":
                part = data.decode() if self.text_begun else data
                kind = TextMessage if self.text_begun else BytesMessage
                self.send(kind(part, message_finished=order == "last"))
            case "ping":
                self.send(Ping(data))
            case "close":
                code = int(words[0]) or CloseReason.NO_STATUS_RCVD
                self.send(CloseConnection(code, data.decode() or None))

    def hear(self, event):
        match event:
            case AcceptConnection():
                say("open", to_hex(",".join(extension.name for extension in event.extensions).encode()))
            case RejectConnection():
                self.refused = event.status_code
            case RejectData():
                self.message += event.data
                if event.body_finished:
                    say("refused", self.refused, to_hex(self.message))
                    self.over = True
            case Message():
                self.message += event.data.encode() if isinstance(event, TextMessage) else event.data
                if event.message_finished:
                    say("text" if isinstance(event, TextMessage) else "binary", to_hex(self.message))
                    self.message = b""
            case Ping():
                say("pinged", to_hex(event.payload))
                self.send(event.response())
            case Pong():
                say("pong", to_hex(event.payload))
            case CloseConnection():
                # RFC 6455 §7.1.1: whoever is the client waits for the server to end the connection.
                if self.protocol.state.name == "REMOTE_CLOSING":
                    self.send(event.response())
                say("close", int(event.code), to_hex((event.reason or "").encode()))
                self.over = True

    def run(self):
        orders = b""
        while not self.over:
            ready, _, _ = select.select([self.tcp, sys.stdin.fileno()], [], [])
            if self.tcp in ready:
                self.protocol.receive_data(self.tcp.recv(65536) or None)
                for event in self.protocol.events():
                    self.hear(event)
            if sys.stdin.fileno() in ready:
                read = os.read(sys.stdin.fileno(), 65536)
                *lines, orders = (orders + read).split(b"\n")
                for line in lines:
                    self.obey(line.decode())
                if not read:
                    return
        while self.tcp.recv(65536):
            pass


Client(*sys.argv[1:]).run()
