"""Debian's Firefox, driven by WebDriver BiDi over a WebSocket, with nothing installed in between."""

import itertools
import json
import re
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway import PATIENCE, until

ENTER = "\ue007"
READY = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
# Nothing leaves the machine: no name is ever looked up, and nothing is fetched for the browser's own sake.
PREFERENCES = {
    "network.dns.disabled": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "services.settings.server": "data:,",
    # Whoever is cut off before it was open would wait for up to a minute, whatever the page wants.
    "network.websocket.delay-failed-reconnects": False,
    "remote.prefs.recommended": True,
}


class Firefox:
    """One browser with a profile of its own in `folder`, while the block lasts."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self):
        with ExitStack() as stack:
            url = self._start(stack)
            # A browser that is busy with something else is not gone.
            patient = {"open_timeout": PATIENCE, "ping_interval": None}
            self._socket = stack.enter_context(connect(f"{url}/session", proxy=None, max_size=None, **patient))
            self.call("session.new", capabilities={})
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        # It may be gone before its answer is here.
        with self._stack, suppress(ConnectionClosed):
            self.call("browser.close")

    def _start(self, stack: ExitStack) -> str:
        """Where it listens."""
        profile, log = self._folder / "profile", self._folder / "log"
        profile.mkdir(parents=True)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
        (profile / "user.js").write_text("".join(lines))
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", "--", "firefox-esr", "--headless", "--no-remote"),
                *("--profile", str(profile), "--remote-debugging-port", "0", "about:blank"),
            ],
            stdout=stack.enter_context(log.open("w")),
            stderr=subprocess.STDOUT,
        )
        stack.callback(end, process)
        return until("Firefox to listen", lambda: READY.search(log.read_text()), PATIENCE * 3)[1]

    def call(self, method: str, **parameters) -> dict:
        """One command and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE * 2))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def open(self, url: str) -> "Tab":
        context = self.call("browsingContext.create", type="tab")["context"]
        self.call("browsingContext.navigate", context=context, url=url, wait="complete")
        return Tab(self, context)


def end(process: subprocess.Popen):
    """It was asked to, or never got that far."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Tab:
    def __init__(self, firefox: Firefox, context: str):
        self._firefox, self._context = firefox, context

    def show(self):
        """Brings it to the front. One behind it draws less and less often, the longer it has been there."""
        self._firefox.call("browsingContext.activate", context=self._context)

    def evaluate(self, expression: str):
        """The value of an expression, which must be one that JSON has."""
        result = self._firefox.call(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self._context},
            awaitPromise=False,
        )
        assert result["type"] == "success", result
        return json.loads(result["result"]["value"])

    def text(self, selector: str) -> str:
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector: str) -> list[str]:
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)")

    def click(self, selector: str):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click() ?? null")

    def type(self, selector: str, text: str):
        """Key by key, into the element."""
        self.show()
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus() ?? null")
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": keys}
        self._firefox.call("input.performActions", context=self._context, actions=[keyboard])
