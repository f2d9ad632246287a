"""The JavaScript client in Chromium, Firefox and Node, cut off again and again while topics are busy: nothing is lost and
nothing comes twice."""

import json
import os
import random
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest
from playwright.sync_api import sync_playwright
from websockets.sync.client import connect

from client import asleep
from cutter import Cutter
from firefox import Firefox
from gateway import PATIENCE, ROOT, until
from gauges import gauge
from raw import post

CLIENT = ROOT / "clients/js"
NODE = ROOT / "target/test-env/bin/node"
SURVIVOR = ROOT / "tests/e2e/clients/survivor.js"
CUTS = 50
TOPICS = ["busy/one", "busy/two", "busy/three"]
OWN = "own"
# Between two messages of a topic, in seconds.
PAUSE = 0.005
# How many of the upgrades do not get through, and what the client is told to do. Left to itself, it would take a network that
# cuts many upgrades in a row for one without: by its rule, rightly.
STRIPPED = {"websocket": 0, "events": 1, "either": 0.8}
OPTIONS = {"websocket": {"transport": "websocket"}, "events": {}, "either": {"upgradeRetry": 100}}
# Everything that is said during a test is kept.
HISTORY = {"HISTORY_MESSAGES": "65536", "HISTORY_BYTES": "4MiB", "OUTBOX_BYTES_MAX": "8MiB"}


class Node:
    """Evaluates expressions in a Node of its own, while the block lasts."""

    def __enter__(self):
        script = ROOT / "tests/e2e/clients/survivor.mjs"
        self._process = subprocess.Popen(
            [str(NODE), str(script), str(CLIENT / "moongate.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(PATIENCE)

    def asleep(self):
        return asleep(self._process)

    def evaluate(self, expression: str):
        self._process.stdin.write(expression.replace("\n", " ") + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def node(host: str, _folder):
    with Node() as one:
        yield one


@contextmanager
def chromium(host: str, _folder):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--no-proxy-server"]
        )
        page = browser.new_page()
        page.goto(f"http://{host}/")
        load(page)
        yield page
        browser.close()


@contextmanager
def firefox(host: str, folder):
    with Firefox(folder) as browser:
        tab = browser.open(f"http://{host}/")
        load(tab)
        yield tab


def load(page):
    """The client as the gateway serves it, into a page of that gateway's."""
    page.evaluate("(import('/moongate.js').then((client) => { window.connect = client.connect; }), null)")
    until("the client to be loaded", lambda: page.evaluate("typeof connect === 'function'"))
    source = SURVIVOR.read_text().split("\n", 1)[1]
    page.evaluate(f"(window.survive = ({source}), null)")


class Speaker:
    """Says numbers on a topic, over a connection that nobody cuts, until it is told to stop."""

    def __init__(self, url: str, seed: int):
        self._random = random.Random(seed)
        self.said: list[str] = []
        self._stop = threading.Event()
        self._url = url
        self._thread = threading.Thread(target=self._speak)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE)

    def _speak(self):
        # It hears itself too, and reads that, or its outbox would fill.
        with connect(self._url, proxy=None) as socket:
            while not self._stop.is_set():
                text = f"{len(self.said) + 1} {'x' * self._random.randint(0, 300)}"
                socket.send(text)
                assert socket.recv(timeout=PATIENCE) == text
                self.said.append(text)
                time.sleep(PAUSE)


@pytest.fixture
def seed() -> int:
    """Of all that is random in a test; a failure shows it. SEED=… has the same cuts fall again, as far as the machine lets them."""
    chosen = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={chosen}")
    return chosen


@pytest.fixture
def busy(start, seed):
    """A gateway that keeps all that is said, and speakers on its topics."""
    gateway = start(**HISTORY)
    with ExitStack() as stack:

        def speaker(number: int, topic: str) -> Speaker:
            return stack.enter_context(Speaker(gateway.ws(f"/topics/{topic}"), seed + number))

        yield gateway, {topic: speaker(number, topic) for number, topic in enumerate(TOPICS)}


def cut_at_random(cutter: Cutter, opened, chance: random.Random):
    """Cuts `CUTS` connections that were open, and some that were not yet: after a moment that is shorter than it takes to
    make one, or long enough for many messages. Every other time it waits for the next one, so that there is one however long
    that takes."""
    while (before := opened()) <= CUTS:
        time.sleep(chance.choice([0.005, 0.03, 0.1, 0.25]) * chance.uniform(0.5, 1.5))
        cutter.cut()
        deadline = time.monotonic() + chance.choice([0, PATIENCE])
        while opened() == before and time.monotonic() < deadline:
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("world", "way"),
    # Where one upgrade in five gets through, it goes over from one way to the other and back.
    [*((world, way) for world in (node, chromium, firefox) for way in ("websocket", "events")), (node, "either")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fifty_cuts_lose_nothing(busy, seed, world, way, tmp_path):
    gateway, speakers = busy
    with Cutter(gateway.listen, strips=STRIPPED[way], seed=seed) as cutter, world(cutter.host, tmp_path / "profile") as client:
        topics = json.dumps([*TOPICS, OWN])
        options = json.dumps(OPTIONS[way])
        client.evaluate(f"(globalThis.report = survive(connect, 'http://{cutter.host}', {topics}, '{OWN}', {options}), null)")
        until("the first connection", lambda: client.evaluate("report.opened.length") > 0)
        cut_at_random(cutter, lambda: client.evaluate("report.opened.length"), random.Random(seed))
        until("enough to be said", lambda: all(len(speaker.said) > CUTS for speaker in speakers.values()))
        until("enough to be published", lambda: client.evaluate("report.published.length") > CUTS)
        for speaker in speakers.values():
            speaker.stop()
        client.evaluate("(report.stopped = true, null)")
        until("the last publish", lambda: client.evaluate("report.ended === true"))

        for topic, speaker in speakers.items():
            heard = f"report.heard['{topic}'].length"
            until(f"all of {topic}", lambda: client.evaluate(heard) >= len(speaker.said))
            numbered = [[number, text] for number, text in enumerate(speaker.said, 1)]
            assert client.evaluate(f"report.heard['{topic}']") == numbered
        check_own(client)
        assert client.evaluate("report.gaps") == []
        assert client.evaluate("report.errors") == []
        opened = client.evaluate("report.opened")
        assert way == "either" or {transport for transport, _ in opened} == {way}
        assert all(("do not get through" in reason) == (transport == "events") for transport, reason in opened), "it says so"
        client.evaluate("(report.close(), null)")


def check_own(client):
    """What was confirmed was heard at its place, once; what was not, at most once; and nothing else."""
    published = client.evaluate("report.published")
    unknown = client.evaluate("report.unknown")
    last = max(offset for offset, _ in published)
    until("the own messages", lambda: client.evaluate(f"report.heard['{OWN}'].at(-1)?.[0] >= {last}"))
    heard = client.evaluate(f"report.heard['{OWN}']")
    assert [offset for offset, _ in heard] == list(range(1, len(heard) + 1))
    assert all(entry in heard for entry in published)
    texts = [text for _, text in heard]
    assert len(set(texts)) == len(texts)
    assert {text for _, text in published} <= set(texts) <= {text for _, text in published} | set(unknown)


def test_a_restart_is_a_gap(start):
    """What a gateway knew ends with it, and the client says so before it goes on."""
    first = start()
    settings = {"LISTEN": first.host}
    with Node() as client:
        client.evaluate(f"(globalThis.report = survive(connect, 'http://{first.host}', ['news'], '{OWN}'), null)")
        until("the connection", lambda: client.evaluate("report.opened.length") == 1)
        assert post(first.listen, "/topics/news", b"one").status == 200
        until("the message", lambda: client.evaluate("report.heard.news") == [[1, "one"]])
        client.evaluate("(report.stopped = true, null)")
        until("the last publish", lambda: client.evaluate("report.ended === true"))
        assert first.stop() == 0
        second = start(**settings)
        assert post(second.listen, "/topics/news", b"anew").status == 200
        until("what is new", lambda: client.evaluate("report.heard.news") == [[1, "one"], [1, "anew"]])
        [gap] = client.evaluate("report.gaps")
        assert (gap["from"], gap["to"]) == (1, 0) and gap["previousEpoch"] != gap["epoch"]
        client.evaluate("(report.close(), null)")


@pytest.mark.parametrize("way", ["websocket", "events"])
def test_a_reader_that_was_too_slow_is_told_what_it_missed(start, way):
    """What the gateway dropped for it and what it heard are all that was said, each message once."""
    gateway = start(OUTBOX_POLICY="drop-oldest", OUTBOX_BYTES_MAX="256KiB", SLOW_READER_TIMEOUT="0ms")
    with Node() as client, connect(gateway.ws("/topics/news"), proxy=None) as speaker:

        def say(text: str):
            speaker.send(text)
            assert speaker.recv(timeout=PATIENCE) == text

        options = json.dumps({"transport": way})
        client.evaluate(f"(globalThis.report = survive(connect, '{gateway.url('')}', ['news'], '{OWN}', {options}), null)")
        client.evaluate("(report.stopped = true, null)")
        say("first")
        until("the first message", lambda: client.evaluate("report.heard.news.length") == 1)
        with client.asleep():
            for number in count(2):
                say(f"{number} {'x' * 20_000}")
                if number % 50 == 0 and gauge(gateway, "messages_dropped_total") > 0:
                    break
                assert number < 5000, "somebody reads it all"
        say("last")
        until("the last message", lambda: client.evaluate("report.heard.news.at(-1)[1]") == "last")
        heard = client.evaluate("report.heard.news.map(([offset]) => [offset, offset])")
        gaps = client.evaluate("report.gaps.map(({ topic, from, to }) => [from, to])")
        assert gaps, "it was told"
        pieces = sorted(heard + gaps)
        assert pieces[0][0] == 1 and pieces[-1][1] == number + 1
        assert all(end + 1 == begin for (_, end), (begin, _) in zip(pieces, pieces[1:], strict=False)), pieces
        assert heard == sorted(heard) and gaps == sorted(gaps)
        assert client.evaluate("report.errors") == []
        client.evaluate("(report.close(), null)")


@pytest.mark.once
def test_the_client_alone():
    """Its own tests, against a small gateway of their own."""
    tests = sorted(str(path) for path in (CLIENT / "test").glob("*.test.js"))
    done = subprocess.run([str(NODE), "--test", *tests], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
