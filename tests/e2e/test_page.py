"""The page in Chromium: two tabs are a chat, and everything a person is told is true."""

import base64
import hashlib
import os
import re
import subprocess

import pytest
from playwright.sync_api import Page, expect, sync_playwright

import raw
from cutter import Cutter
from gateway import PATIENCE, ROOT, until
from raw import get, post

PATIENCE_MS = 60_000
SOURCE = ROOT / "crates/moongate/page/index.html"
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--no-proxy-server"]
        )
        yield chromium
        chromium.close()


class Tab:
    """A tab that remembers what went wrong in it, and where it tried to go."""

    def __init__(self, page: Page, host: str):
        self.page, self.host = page, host
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))

    def _note(self, url: str):
        if url.split("/")[2] != self.host and not url.startswith("data:"):
            self.outside.append(url)

    def open(self, path: str):
        self.page.goto(f"http://{self.host}{path}")
        return self

    def is_open(self):
        expect(self.page.locator("#state")).to_have_text("Open")
        return self

    def say(self, text: str, kind: str = "text"):
        self.page.select_option("#kind", kind)
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    @property
    def messages(self):
        return self.page.locator("[data-testid=message] .said")

    def heard(self, *texts: str):
        expect(self.messages).to_have_text(list(texts), use_inner_text=True)


@pytest.fixture
def tab(browser, gateway):
    """Makes tabs; none of them may have had an error or have asked anyone but the gateway for anything."""
    contexts, tabs = [], []

    def make(one=gateway, **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        tabs.append(Tab(context.new_page(), one.host))
        return tabs[-1]

    yield make
    for each in tabs:
        assert not each.errors, each.errors
        assert not each.outside, each.outside
    for context in contexts:
        context.close()


def test_two_tabs_are_a_chat(tab, shelf):
    one = tab().open("/topics/garden").is_open()
    other = tab(color_scheme="dark").open("/topics/garden").is_open()
    one.say("The moon is up over the east wall.")
    other.heard("The moon is up over the east wall.")
    other.say("Seen from here too.")
    one.heard("The moon is up over the east wall.", "Seen from here too.")
    one.say("00 ff 7A", kind="binary")
    other.heard("The moon is up over the east wall.", "Seen from here too.", "00 ff 7a")
    expect(other.page.locator("[data-testid=message]").last).to_contain_text("binary, 3 B")
    expect(one.page.locator("[data-testid=message].own .said")).to_have_text(["The moon is up over the east wall.", "00 ff 7a"])
    expect(one.page.locator("#sent")).to_have_text("2")
    expect(one.page.locator("#heard")).to_have_text("3")
    one.page.screenshot(path=shelf / "chat-light.png", full_page=True)
    other.page.screenshot(path=shelf / "chat-dark.png", full_page=True)


def test_the_start_page_picks_a_topic(tab, topic):
    one = tab().open("/")
    expect(one.page.locator("#topic")).to_have_value("news")
    expect(one.page.locator("#state")).to_have_text("Not open yet")
    one.page.fill("#topic", f"{topic}/café au lait?")
    one.page.press("#topic", "Enter")
    one.is_open()
    assert one.page.url.endswith(f"/topics/{topic}/caf%C3%A9%20au%20lait%3F")
    expect(one.page.locator("#request")).to_contain_text("Sec-WebSocket-Protocol: moongate.v1")
    expect(one.page.locator("#known")).to_contain_text(f'"topic":"{topic}/café au lait?"')
    again = tab().open(one.page.url.split(one.host)[1]).is_open()
    expect(again.page.locator("#topic")).to_have_value(f"{topic}/café au lait?")
    one.say("same place")
    again.heard("same place")


def test_names_that_are_no_topics_are_told_why(tab):
    one = tab().open("/")
    for name in ["", "a//b", "..", "$sys", "a*", "x" * 256]:
        one.page.fill("#topic", name)
        one.page.click("#open")
        expect(one.page.locator("#fault")).not_to_be_empty()
        expect(one.page.locator("#state")).to_have_text("Not open yet")


def test_event_stream_and_post(gateway, tab, topic, shelf):
    """The other way in hears the same topic, and speaks by POST."""
    one = tab().open(f"/topics/{topic}").is_open()
    other = tab().open(f"/topics/{topic}").is_open()
    other.page.check("#way-events", force=True)
    other.is_open()
    expect(other.page.locator("#request")).to_contain_text("Accept: text/event-stream")
    one.say("from a WebSocket\nin two lines")
    other.heard("from a WebSocket\nin two lines")
    other.say("by POST")
    one.heard("from a WebSocket\nin two lines", "by POST")
    expect(other.page.locator("[data-testid=message].own .said")).to_have_text(["by POST"])
    other.say("de ad", kind="binary")
    one.heard("from a WebSocket\nin two lines", "by POST", "de ad")
    expect(other.page.locator("#known")).to_contain_text('"offset"')
    other.page.screenshot(path=shelf / "events.png", full_page=True)


def test_messages_are_text_and_never_markup(gateway, tab, topic):
    one = tab().open(f"/topics/{topic}").is_open()
    evil = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
    post(gateway.listen, f"/topics/{topic}", evil.encode())
    one.heard(evil)
    assert one.page.locator("#log img, #log b").count() == 0
    assert one.page.title() != "owned"


def test_the_list_is_bounded_and_follows(gateway, tab, topic):
    one = tab().open(f"/topics/{topic}").is_open()
    with raw.open_websocket(gateway.listen, f"/topics/{topic}") as speaker:
        speaker.send(b"".join(raw.frame(raw.TEXT, f"message {number}".encode()) for number in range(1200)))
        expect(one.messages.last).to_have_text("message 1199")
        expect(one.page.locator("#heard")).to_have_text("1200")
        assert one.page.locator("#log > *").count() == 500
        expect(one.messages.last).to_be_in_viewport()
        one.page.locator("#log").evaluate("log => log.scrollTop = 0")
        speaker.send(raw.frame(raw.TEXT, b"one more"))
        expect(one.messages.last).to_have_text("one more")
        expect(one.page.locator("#jump")).to_be_visible()
        assert one.page.locator("#log").evaluate("log => log.scrollTop") == 0, "who scrolled up stays there"
        one.page.click("#jump")
        expect(one.messages.last).to_be_in_viewport()


def test_who_may_only_listen_is_told(start, tab, shelf):
    """With the setting that would change it; and whoever closes is told of that too."""
    one = tab(start(ANONYMOUS="subscribe")).open("/topics/quiet").is_open()
    one.say("may I?")
    expect(one.page.locator("#write-fault")).to_contain_text("MOONGATE_ANONYMOUS")
    one.is_open()
    one.page.screenshot(path=shelf / "listening.png", full_page=True)
    one.page.click("#close")
    expect(one.page.locator("#state")).to_have_text("Closed")
    expect(one.page.locator("#ending-code")).to_contain_text("1000")


def test_the_gateway_going_away_is_explained(start, browser):
    gateway = start(DRAIN_DELAY="0s", DRAIN_TIMEOUT="1s")
    context = browser.new_context()
    # Not a `tab`: that nobody answers is an error on its console.
    one = Tab(context.new_page(), gateway.host).open("/topics/news").is_open()
    assert gateway.stop() == 0
    expect(one.page.locator("#state")).to_have_text("Coming back…")
    expect(one.page.locator("#log")).to_contain_text("closed, code 1001")
    expect(one.page.locator("#log")).to_contain_text("the gate did not open")
    expect(one.page.get_by_test_id("note").filter(has_text="closed")).to_have_count(1)
    context.close()


def test_it_comes_back_and_asks_for_what_it_missed(gateway, browser, topic):
    """Through a network that breaks: nothing that was said meanwhile is missing."""
    context = browser.new_context()
    with Cutter(gateway.listen) as cutter:
        one = Tab(context.new_page(), cutter.host).open(f"/topics/{topic}").is_open()
        texts = []
        for number in range(3):
            cutter.cut()
            texts.append(f"while it was away, {number}")
            post(gateway.listen, f"/topics/{topic}", texts[-1].encode())
            one.heard(*texts)
        expect(one.page.locator("#log")).to_contain_text("closed, code 1006")
    context.close()


def test_what_is_gone_is_told(start, browser, shelf):
    gateway = start(HISTORY_MESSAGES="2")
    context = browser.new_context()
    with Cutter(gateway.listen) as cutter:
        one = Tab(context.new_page(), cutter.host).open("/topics/garden").is_open()
        post(gateway.listen, "/topics/garden", b"heard")
        one.heard("heard")
        # What is said while the page is offline is more than the gateway keeps.
        context.set_offline(True)
        cutter.cut()
        expect(one.page.locator("#state")).to_have_text("Coming back…")
        for number in range(2, 6):
            post(gateway.listen, "/topics/garden", f"number {number}".encode())
        context.set_offline(False)
        one.heard("heard", "number 4", "number 5")
        expect(one.page.locator("#log .gap")).to_contain_text("#2 to #3 were missed and are gone")
        one.page.screenshot(path=shelf / "gap.png", full_page=True)
    context.close()


def test_it_does_without_upgrades(gateway, browser, topic):
    """Behind a proxy that removes `Upgrade`: on an event stream, and it says so."""
    context = browser.new_context()
    with Cutter(gateway.listen, strips=True) as cutter:
        one = Tab(context.new_page(), cutter.host).open(f"/topics/{topic}").is_open()
        expect(one.page.locator("#ending-code")).to_contain_text("do not get through")
        expect(one.page.locator("#log")).to_contain_text("on an event stream")
        expect(one.page.locator("#request")).to_contain_text("Accept: text/event-stream")
        one.say("by POST")
        one.heard("by POST")
    context.close()


def test_a_refusal_that_the_browser_hides_is_found_out(start, browser, shelf):
    """A full gateway: the browser says 1006 to the page; the page asks once more and shows the hint."""
    # What the browser opened and never used has its place only for so long.
    gateway = start(SHARDS="1", CONNECTIONS_MAX="10", HEAD_TIMEOUT="2s")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{gateway.host}/")
    held = []

    def fill():
        while len(held) < 10:
            connection = raw.Connection(gateway.listen)
            connection.send(raw.upgrade("/topics/full", gateway.host))
            if connection.head().status != 101:
                connection.socket.close()
                return False
            held.append(connection)
        return True

    until("the gateway to be full", fill)
    page.click("#open")
    expect(page.locator("#ending-code")).to_contain_text("1006")
    expect(page.locator("#ending-words")).to_contain_text("503")
    expect(page.locator("#ending-words")).to_contain_text("MOONGATE_CONNECTIONS_MAX")
    page.screenshot(path=shelf / "refused.png", full_page=True)
    for connection in held:
        connection.socket.close()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(gateway, tab, topic, shelf, scheme):
    one = tab(viewport={"width": 360, "height": 740}, color_scheme=scheme, device_scale_factor=2)
    one.open(f"/topics/{topic}").is_open()
    one.say("a word without any space in it: " + "x" * 300)
    expect(one.messages).to_have_count(1)
    assert one.page.evaluate("document.documentElement.scrollWidth") == 360, "nothing sticks out"
    one.page.screenshot(path=shelf / f"phone-{scheme}.png", full_page=True)


def test_it_works_by_keyboard_and_says_what_is_what(gateway, tab, topic):
    one = tab().open("/")
    expect(one.page.get_by_role("textbox", name="Topic")).to_be_visible()
    expect(one.page.get_by_role("radio", name="WebSocket")).to_be_checked()
    expect(one.page.get_by_role("log", name="Messages")).to_be_visible()
    expect(one.page.get_by_role("status").first).to_have_text("Not open yet")
    one.page.get_by_role("textbox", name="Topic").fill(topic)
    for _ in range(40):
        one.page.keyboard.press("Tab")
        if one.page.evaluate("document.activeElement.name") == "way":
            break
    one.page.keyboard.press("ArrowRight")
    expect(one.page.get_by_role("radio", name="Event stream + POST")).to_be_checked()
    one.page.keyboard.press("ArrowLeft")
    one.page.get_by_role("button", name="Open", exact=True).focus()
    one.page.keyboard.press("Enter")
    one.is_open()
    one.page.get_by_role("textbox", name="Message").focus()
    one.page.keyboard.type("typed")
    one.page.keyboard.press("Enter")
    one.heard("typed")


def test_the_shell_lines_work(gateway, tab, topic):
    """What a person copies does what the page says."""
    one = tab().open(f"/topics/{topic}/o'clock").is_open()
    speak = one.page.locator("#curl-speak").inner_text()
    done = subprocess.run(["bash", "-c", speak + " --silent --noproxy '*'"], capture_output=True, text=True, timeout=PATIENCE)
    assert '"offset"' in done.stdout, done
    one.heard("hello")
    shake = one.page.locator("#curl-handshake").inner_text()
    answer = b""
    with subprocess.Popen(["bash", "-c", f"exec {shake} --silent --noproxy '*'"], stdout=subprocess.PIPE) as curl:
        os.set_blocking(curl.stdout.fileno(), False)

        def told() -> bool:
            """Curl shows the head together with what comes behind it."""
            nonlocal answer
            post(gateway.listen, f"/topics/{topic}/o'clock", b"tick")
            answer += curl.stdout.read() or b""
            return b"tick" in answer

        until("the answer and a message", told)
        curl.terminate()
    assert answer.startswith(b"HTTP/1.1 101 ") and raw.ACCEPT.encode() in answer, answer
    assert raw.ACCEPT in one.page.content()


def test_the_page_is_under_a_strict_policy(gateway):
    """No outside resource, nothing evaluated, and only the script that is in it and the client, which is served beside it."""
    source = SOURCE.read_text()
    answer = get(gateway.listen, "/", "Accept: text/html")
    assert answer.status == 200 and answer.body.decode() == source, "the program serves the file as it is"
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', source)[1]
    assert "default-src 'none'" in policy
    script = re.search(r'<script type="module">(.*)</script>', source, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in policy, f"the script changed: write 'sha256-{digest}' into the policy"
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", source)
    assert len(source.encode()) < 34_000
    client = get(gateway.listen, "/moongate.js")
    assert client.status == 200 and client.body == (ROOT / "clients/js/moongate.js").read_bytes()
    assert client.one("content-type") == "text/javascript; charset=utf-8"
    assert client.one("access-control-allow-origin") == "*"


def test_without_the_page_there_is_no_script(start):
    assert get(start(PAGE="off").listen, "/moongate.js").status == 404
