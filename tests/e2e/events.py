"""An event stream through curl, read as the HTML standard says (section 9.2.6)."""

import base64
import queue
import subprocess
import threading
from dataclasses import dataclass

PATIENCE = 60.0


@dataclass
class Event:
    id: str
    name: str
    data: str

    def bytes(self) -> bytes:
        return base64.b64decode(self.data, validate=True)


class EventStream:
    """`curl -N` on a URL. Once it is there, the subscription is: the answer's head has arrived."""

    def __init__(self, url: str, *more: str):
        self.process = subprocess.Popen(
            [
                "curl", "--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--max-time", "280",
                "--include", "--header", "Accept: text/event-stream", *more, url,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.status = int(self._line().split(b" ")[1])
        self.fields = {}
        while line := self._line().strip():
            name, _, value = line.decode().partition(":")
            self.fields[name.lower()] = value.strip()
        self.retry: int | None = None
        self.comments: list[str] = []
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)

    def _line(self) -> bytes:
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"curl ended: {self.process.stderr.read().decode()}")
        return line

    def _read(self):
        last, name, data = "", "", []
        for line in self.process.stdout:
            text = line.decode().rstrip("\n")
            if not text:
                if data:
                    self._events.put(Event(last, name or "message", "\n".join(data)))
                name, data = "", []
                continue
            label, _, value = text.partition(":")
            value = value.removeprefix(" ")
            match label:
                case "":
                    self.comments.append(value)
                case "data":
                    data.append(value)
                case "event":
                    name = value
                case "id":
                    last = value
                case "retry":
                    self.retry = int(value)
        self._events.put(None)

    def next(self) -> Event:
        event = self._events.get(timeout=PATIENCE)
        assert event is not None, "the stream ended"
        return event

    def wait_for_end(self):
        """The server ends the stream; what comes before is skipped."""
        while self._events.get(timeout=PATIENCE) is not None:
            pass
