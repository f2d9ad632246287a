"""The real program, started on free ports of 127.0.0.1, watched, and always taken down again."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from raw import authority

ROOT = Path(__file__).resolve().parents[2]
# In text and in JSON.
READY = re.compile(r'\bready\b.*?\blisten"?[=:]"?([^\s"]+)"?.*?\bcontrol"?[=:]"?([^\s"]+)')

# How long anything may take that has no time of its own: long enough for a busy machine with two cores.
PATIENCE = 60.0

# What drives the gateways under test, unless a test says so itself.
DRIVER = os.environ.get("DRIVER") or "auto"

# Quick to start and to stop; every test may say otherwise. Two shards, so that most topics have subscribers away from home.
USUAL = {
    "DRIVER": DRIVER,
    "LISTEN": "127.0.0.1:0",
    "CONTROL": "127.0.0.1:0",
    "SHARDS": "2",
    "CONNECTIONS_MAX": "2000",
    "DRAIN_DELAY": "0s",
    "DRAIN_TIMEOUT": "1s",
    # So that what comes is what was said, however long a test takes, and who reads nothing meanwhile is not given up.
    "PING_INTERVAL": "1h",
    "TCP_USER_TIMEOUT": "1h",
}


def binary() -> str:
    """The program under test."""
    path = Path(os.environ.get("MOONGATE_BIN", ROOT / "target/checked/moongate"))
    if not path.exists():
        raise AssertionError(f"{path} is missing: cargo build --profile checked -p moongate, or set MOONGATE_BIN")
    return str(path)


def environment(settings: dict[str, str | None]) -> dict[str, str]:
    """The caller's environment without its own MOONGATE_ names, and with `settings` (None: unset)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOONGATE_")}
    return clean | {f"MOONGATE_{name}": value for name, value in settings.items() if value is not None}


def run_to_end(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the program with nothing but `settings` until it ends by itself."""
    return subprocess.run(
        [binary(), *arguments], env=environment(settings), capture_output=True, text=True, timeout=PATIENCE
    )


def until(what: str, check, patience: float = PATIENCE):
    """Calls `check` until it gives something true, and returns that."""
    deadline = time.monotonic() + patience
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.02)


class Gateway:
    """One process. `listen` and `control` are (host, port); `stop` is called by the fixture that made it."""

    def __init__(self, under: Sequence[str] = (), **settings: str | None):
        """`under` is a command that runs the program under something."""
        # The kernel kills it should this process die first.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *under, binary()],
            env=environment(USUAL | settings),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or not READY.search(self.log):
            self.kill()
            raise AssertionError(f"the gateway did not get ready; it said:\n{self.log}")
        listen, control = READY.search(self.log).groups()
        self.addresses = [split_address(address) for address in listen.split(",")]
        self.listen = self.addresses[0]
        self.control = split_address(control) if ":" in control else None

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if READY.search(line):
                self._ready.set()
        self._ready.set()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def driver(self) -> str:
        """What drives it, as it said at start."""
        return self.says(r'\bdriver"?[=:]"([a-z-]+)"')[1]

    @property
    def files_each(self) -> int:
        """How many open files a connection is."""
        return 0 if self.driver == "uring" else 1

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def host(self) -> str:
        """What a client writes into Host."""
        return authority(self.listen)

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def ws(self, path: str) -> str:
        return f"ws://{self.host}{path}"

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def says(self, pattern: str, patience: float = PATIENCE) -> re.Match:
        """Waits until the log has `pattern`."""
        return until(f"{pattern!r} in the log:\n{self.log}", lambda: re.search(pattern, self.log), patience)

    def signal(self, number: signal.Signals):
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit code; a process that does not end is killed and is a failure."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the gateway did not end within {patience:.0f} s; it said:\n{self.log}") from None
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)

    def check_sound(self):
        """No invariant of its own was found broken."""
        assert "panicked" not in self.log, self.log


def split_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
