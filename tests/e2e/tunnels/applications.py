"""Real applications as programs: servers to stand behind a tunnel, and their clients."""

import json
import os
import subprocess
import sys
from pathlib import Path

from client import ENVIRONMENT
from gateway import PATIENCE

PROGRAMS = Path(__file__).parent / "programs"
NODE = str(ENVIRONMENT / "bin/node")
ENVIRON = os.environ | {"NODE_PATH": str(ENVIRONMENT / "npm/node_modules")}


def command(program: str, *arguments: str) -> list[str]:
    return [NODE if program.endswith(".cjs") else sys.executable, str(PROGRAMS / program), *arguments]


class Server:
    """A running one. Its first line, once it listens, is `said`."""

    def __init__(self, program: str, *arguments: str):
        # The kernel kills it should this process die first.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command(program, *arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRON,
        )
        self.said = self._process.stdout.readline().strip()
        assert self.said, f"{program} did not start"

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def run(program: str, *arguments: str) -> str:
    """Runs a client to its end; what it printed."""
    done = subprocess.run(command(program, *arguments), capture_output=True, text=True, timeout=PATIENCE, env=ENVIRON)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def socketio(url: str, transports: str) -> dict:
    """What came of a socket.io client's talk."""
    done = subprocess.run(
        command("socketio_client.cjs", url, transports), capture_output=True, text=True, timeout=PATIENCE, env=ENVIRON
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
