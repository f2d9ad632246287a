"""The page in Firefox, whose WebSocket and EventSource are other ones than Chromium's."""

import pytest
from websockets.sync.client import connect

from firefox import ENTER, Firefox, Tab
from gateway import PATIENCE, until
from raw import post


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    with Firefox(tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


def wait_for_state(tab: Tab, state: str):
    until(f"the tab to be {state!r}", lambda: tab.text("#state") == state)


def wait_for_messages(tab: Tab, messages: list[str]):
    tab.show()
    until(f"the tab to show {messages}", lambda: tab.texts("[data-testid=message] .said") == messages)


def test_chat(firefox, gateway, topic):
    """A tab on a WebSocket, a tab on an event stream and POST, another library, and POST by hand."""
    path = f"/topics/{topic}"
    with connect(gateway.ws(path), proxy=None) as other:
        one = firefox.open(gateway.url(path))
        wait_for_state(one, "Open")
        two = firefox.open(gateway.url(path))
        two.click("#way-events")
        until("the event stream", lambda: "text/event-stream" in two.text("#request"))
        wait_for_state(two, "Open")
        one.type("#text", f"from Firefox 🌕{ENTER}")
        assert other.recv(timeout=PATIENCE) == "from Firefox 🌕"
        two.type("#text", f"by POST{ENTER}")
        assert other.recv(timeout=PATIENCE) == "by POST"
        long = "0123456789" * 100
        for message in (long, b"\x00\xff\x7a"):
            other.send(message)
            # Only then does it have its place before what comes over another connection.
            assert other.recv(timeout=PATIENCE) == message
        post(gateway.listen, path, "by hand".encode())
        for tab in (one, two):
            wait_for_messages(tab, ["from Firefox 🌕", "by POST", long, "00 ff 7a", "by hand"])


def test_compression_is_agreed(firefox, gateway, topic):
    """What Firefox offers is taken, and messages pass through it both ways."""
    tab = firefox.open(gateway.url("/"))
    tab.evaluate(
        f"""(window.socket = new WebSocket({gateway.ws("/echo")!r}),
            window.heard = [],
            socket.onmessage = (event) => heard.push(event.data),
            socket.onopen = () => socket.send('word '.repeat(5000)), null)"""
    )
    until("the echo", lambda: tab.evaluate("heard.length") == 1)
    assert tab.evaluate("socket.extensions").startswith("permessage-deflate")
    assert tab.evaluate("heard[0] === 'word '.repeat(5000)")
    tab.evaluate("socket.close(4001, 'enough') ?? null")
    until("the close", lambda: tab.evaluate("socket.readyState") == 3)


def test_the_gateway_going_away_is_explained(firefox, start):
    gateway = start()
    tab = firefox.open(gateway.url("/topics/news"))
    wait_for_state(tab, "Open")
    assert gateway.stop() == 0
    wait_for_state(tab, "Coming back…")
    until("the reason", lambda: "closed, code 1001" in tab.text("#log"))


def test_pages_of_others_are_kept_out(firefox, gateway, start):
    """`MOONGATE_ORIGINS=same`: a page of one gateway may not use another, and one that is listed may."""
    tab = firefox.open(gateway.url("/"))
    for settings, event in [({}, "error"), ({"ORIGINS": f"http://{gateway.host}"}, "open")]:
        other = start(**settings)
        tab.evaluate(
            f"""(window.outcome = null, window.socket = new WebSocket({other.ws("/topics/news")!r}),
                socket.onopen = () => outcome = 'open', socket.onerror = () => outcome ??= 'error', null)"""
        )
        until("an outcome", lambda: tab.evaluate("outcome"))
        assert tab.evaluate("outcome") == event
