"""WAMP through the clients that others wrote, with each other and with everyone else; and byte for byte, where they are
too polite to go."""

import json
import queue
import sys
from contextlib import ExitStack
from itertools import count

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from client import ENVIRONMENT, FOLDER, Program
from events import EventStream
from gateway import PATIENCE, until
from gauges import gauge
from raw import post
from test_control import samples, total

COMMANDS = {
    "npm": [str(ENVIRONMENT / "bin/node"), str(FOLDER / "wamp_npm.cjs")],
    "pypi": [sys.executable, str(FOLDER / "wamp_pypi.py")],
}
BROKER = {"broker": {"features": {"publisher_exclusion": True}}}


class Autobahn(Program):
    """A running client: orders go in and what it says comes out, each a line of JSON."""

    def __init__(self, name: str, url: str, realm: str = "realm1"):
        self.name = name
        # Events come before or after the answers to requests.
        self._said: queue.Queue[list | None] = queue.Queue()
        self._events: queue.Queue[list | None] = queue.Queue()
        super().__init__(*COMMANDS[name], url, realm)

    def __str__(self) -> str:
        return self.name

    def _say(self, line: str | None):
        if line is None:
            self._said.put(None)
            self._events.put(None)
        # autobahn-js logs on standard output too.
        elif line.startswith("["):
            said = json.loads(line)
            (self._events if said[0] == "event" else self._said).put(said)

    def order(self, *words):
        self._order(json.dumps(words))

    def hear(self, kind: str) -> list:
        """What comes next, which must be of this kind."""
        said = self._take(self._events if kind == "event" else self._said)
        assert said is not None and said[0] == kind, f"{kind!r} expected of {self}: {said} {self.complaints}"
        return said[1:]

    def subscribe(self, topic: str) -> int:
        self.order("subscribe", topic, {})
        name, subscription = self.hear("subscribed")
        assert name == topic
        return subscription

    def publish(self, topic: str, args: list, kwargs: dict | None = None, **options) -> int:
        self.order("publish", topic, args, kwargs or {}, {"acknowledge": True} | options)
        (publication,) = self.hear("published")
        return publication

    def heard(self, topic: str, args: list, kwargs: dict | None = None) -> int:
        """The next thing it hears is this; the publication's id."""
        name, found_args, found_kwargs, publication = self.hear("event")
        assert (name, found_args, found_kwargs) == (topic, args, kwargs or {})
        return publication

    def refused(self, *order) -> tuple[str, str]:
        """Does what is answered with an error: its URI and its words."""
        self.order(*order)
        uri, (words,) = self.hear("error")
        return uri, words


@pytest.fixture
def uri(topic) -> str:
    """A topic that no other test uses, as a URI."""
    return f"com.example.{topic.replace('/', '.')}"


@pytest.fixture
def npm(gateway):
    with Autobahn("npm", gateway.ws("/connect")) as client:
        assert client.hear("joined")[1:] == ["realm1", "json"]
        yield client


@pytest.fixture
def pypi(gateway):
    with Autobahn("pypi", gateway.ws("/connect")) as client:
        assert client.hear("joined")[1:] == ["realm1", "json"]
        yield client


def test_both_clients_an_event_stream_and_a_websocket(npm, pypi, gateway, uri):
    """What one says all others hear: text as text, anything else as JSON with its arguments."""
    path = f"/topics/{uri}"
    with EventStream(gateway.url(path)) as stream, connect(gateway.ws(path), proxy=None) as plain:
        assert npm.subscribe(uri) == pypi.subscribe(uri), "the id is the topic's"
        for one, other in ((npm, pypi), (pypi, npm)):
            for args, kwargs, payload in [
                (["zażółć 🌕"], {}, "zażółć 🌕"),
                ([""], {}, ""),
                (["x", 2, [None, 1.5]], {}, {"args": ["x", 2, [None, 1.5]], "kwargs": {}}),
                ([], {"color": "orange", "sizes": [23, 42, 7]}, {"args": [], "kwargs": {"color": "orange", "sizes": [23, 42, 7]}}),
                (["a"], {"b": {"c": True}}, {"args": ["a"], "kwargs": {"b": {"c": True}}}),
                ([], {}, {"args": [], "kwargs": {}}),
            ]:
                publication = one.publish(uri, args, kwargs)
                assert other.heard(uri, args, kwargs) == publication
                for told in (stream.next().data, plain.recv(timeout=PATIENCE)):
                    assert (told if isinstance(payload, str) else json.loads(told)) == payload
        # And the other way round.
        plain.send("by WebSocket")
        assert plain.recv(timeout=PATIENCE) == "by WebSocket", "it has its place before the next is said"
        assert post(gateway.listen, path, b"by POST").status == 200
        assert post(gateway.listen, path, b'{"a": [1]}', "Content-Type: application/json").status == 200
        arguments = b'{"kwargs": {"k": 1}, "args": [7]}'
        assert post(gateway.listen, path, arguments, "Content-Type: application/json").status == 200
        for client in (npm, pypi):
            client.heard(uri, ["by WebSocket"])
            client.heard(uri, ["by POST"])
            client.heard(uri, [{"a": [1]}])
            client.heard(uri, [7], {"k": 1})


def test_bytes(npm, pypi, gateway, uri):
    """Bytes are bytes for who knows the convention, and a string that begins with U+0000 for who does not."""
    path = f"/topics/{uri}"
    with connect(gateway.ws(path), proxy=None) as plain:
        npm.subscribe(uri)
        pypi.subscribe(uri)
        pypi.publish(uri, [{"bytes": "00ff7a"}], exclude_me=False)
        assert plain.recv(timeout=PATIENCE) == b"\x00\xff\x7a"
        pypi.heard(uri, [{"bytes": "00ff7a"}])
        npm.heard(uri, ["\0AP96"])
        plain.send(b"")
        pypi.heard(uri, [{"bytes": ""}])
        npm.heard(uri, ["\0"])
        # A client that takes it for base64 must not end over it.
        plain.send("\0?")
        pypi.heard(uri, [{"bytes": b"\0?".hex()}])
        post(gateway.listen, path, b'["\\u0000?"]', "Content-Type: application/json")
        pypi.heard(uri, [{"bytes": b'["\\u0000?"]'.hex()}])
        pypi.publish(uri, ["still here"])
        npm.heard(uri, ["\0AD8="])


def test_exclude_me(npm, pypi, uri):
    """Who publishes does not hear it, unless it says so; the others always do, in order."""
    npm.subscribe(uri)
    pypi.subscribe(uri)
    for one, other in ((npm, pypi), (pypi, npm)):
        for number in range(20):
            excluded = number % 3 != 0
            one.publish(uri, [number], **({} if number % 3 == 1 else {"exclude_me": excluded}))
            if not excluded:
                one.heard(uri, [number])
        for number in range(20):
            other.heard(uri, [number])


def test_exclude_me_at_once(npm, pypi, uri):
    """The same, many in one tick."""
    npm.subscribe(uri)
    pypi.subscribe(uri)
    for number in range(300):
        npm.order("publish", uri, [number], {}, {"exclude_me": number % 2 == 0})
    for number in range(300):
        pypi.heard(uri, [number])
    for number in range(1, 300, 2):
        npm.heard(uri, [number])


def test_unsubscribe(npm, pypi, uri):
    npm.subscribe(uri)
    npm.subscribe(uri + ".other")
    npm.order("unsubscribe", uri)
    assert npm.hear("unsubscribed") == [uri]
    pypi.publish(uri, ["unheard"])
    pypi.publish(uri + ".other", ["heard"])
    npm.heard(uri + ".other", ["heard"])
    npm.subscribe(uri)
    pypi.publish(uri, ["again"])
    npm.heard(uri, ["again"])


def test_what_is_not_offered(npm, pypi, uri):
    for client in (npm, pypi):
        for policy in ("prefix", "wildcard"):
            found, words = client.refused("subscribe", uri, {"match": policy})
            assert found == "wamp.error.option_not_allowed" and "pattern" in words
        found, words = client.refused("publish", uri, [1], {}, {"acknowledge": True, "eligible": [1]})
        assert found == "wamp.error.option_not_allowed" and "heard by all" in words
        assert client.refused("call", uri)[0] == "wamp.error.no_such_procedure"
        assert client.refused("register", uri)[0] == "wamp.error.not_authorized"
        found, words = client.refused("subscribe", f"{uri}/*", {})
        assert found == "wamp.error.invalid_uri"
        client.subscribe(uri)


@pytest.mark.parametrize("name", COMMANDS)
def test_leave(name, gateway):
    with Autobahn(name, gateway.ws("/connect")) as client:
        client.hear("joined")
        client.order("leave")
        client.hear("left")


@pytest.mark.parametrize("name", COMMANDS)
def test_another_realm(name, start):
    gateway = start(WAMP_REALM="com.example.app")
    with Autobahn(name, gateway.ws("/connect"), "realm1") as client:
        reason, message = client.hear("left")
        assert reason == "wamp.error.no_such_realm" and "com.example.app" in message
    with Autobahn(name, gateway.ws("/connect"), "com.example.app") as client:
        assert client.hear("joined")[1] == "com.example.app"


def test_who_may_only_listen(start, uri):
    gateway = start(ANONYMOUS="subscribe")
    with Autobahn("npm", gateway.ws("/connect")) as client:
        client.hear("joined")
        client.subscribe(uri)
        found, words = client.refused("publish", uri, [1], {}, {"acknowledge": True})
        assert found == "wamp.error.not_authorized" and "MOONGATE_ANONYMOUS" in words
        client.order("publish", uri, [1], {}, {})
        control = post(gateway.control, f"/topics/{uri}", b"by the operator")
        assert control.status == 200
        client.heard(uri, ["by the operator"])


def test_who_comes_back_too_late_is_told_what_is_missing(start, uri):
    """If it asks to be: to who does not, the same events come and nothing else."""
    gateway = start(HISTORY_MESSAGES="3")
    said = [post(gateway.listen, f"/topics/{uri}", text.encode()).json() for text in "abcdefg"]
    epoch = said[0]["epoch"]
    with Wire(gateway) as asks, Wire(gateway) as silent, Autobahn("npm", gateway.ws("/connect")) as npm:
        npm.hear("joined")

        def check(since: str, missing: dict):
            options = {"_since": since, "_gaps": True}
            code, _, subscription = asks.ask(32, 1, options, uri)
            code, same, publication, *gap = asks.hear()
            assert (code, same) == (36, subscription) and 1 <= publication <= 2**53
            assert gap == [{"_epoch": epoch, "_offset": 4, "_gap": missing}, [], {"_gap": missing}]
            events = [asks.hear() for _ in "efg"]
            assert silent.ask(32, 1, {"_since": since}, uri) == [33, 1, subscription]
            assert events == [silent.hear() for _ in "efg"]
            assert [event[4] for event in events] == [["e"], ["f"], ["g"]]
            npm.order("subscribe", uri, options)
            npm.hear("subscribed")
            npm.heard(uri, [], {"_gap": missing})
            for text in "efg":
                npm.heard(uri, [text])
            for wire in (asks, silent):
                assert wire.ask(34, 2, subscription) == [35, 2]
            npm.order("unsubscribe", uri)
            npm.hear("unsubscribed")

        check(f"{epoch}-1", {"epoch": epoch, "from": 2, "to": 4})
        check("00000000000000a1-7", {"epoch": epoch, "from": 1, "to": 4, "previous_epoch": "00000000000000a1"})
        # Nothing is missing.
        assert asks.ask(32, 3, {"_since": f"{epoch}-6", "_gaps": True}, uri)[0] == 33
        assert asks.hear()[4] == ["g"]


def test_who_reads_too_slowly_is_told_what_was_dropped(start, uri):
    gateway = start(OUTBOX_POLICY="drop-oldest", OUTBOX_BYTES_MAX="256KiB", SLOW_READER_TIMEOUT="0ms")
    with Autobahn("npm", gateway.ws("/connect")) as npm, Wire(gateway) as speaker:
        npm.hear("joined")
        npm.order("subscribe", uri, {"_gaps": True})
        npm.hear("subscribed")
        with npm.asleep():
            for number in count(1):
                assert speaker.ask(16, number, {"acknowledge": True}, uri, [f"{number} {'x' * 20_000}"])[0] == 17
                if number % 50 == 0 and gauge(gateway, "messages_dropped_total") > 0:
                    break
                assert number < 5000, "somebody reads it all"
        last = missing = 0
        while last < number:
            _, args, kwargs, _ = npm.hear("event")
            if gap := kwargs.get("_gap"):
                assert args == [] and gap["from"] == last + 1
                missing += gap["to"] - last
                last = gap["to"]
            else:
                last += 1
                assert args[0].startswith(f"{last} ")
        assert missing == gauge(gateway, "messages_dropped_total") > 0


# Byte for byte.


class Wire:
    """A WebSocket with nothing of WAMP in it."""

    def __init__(self, gateway, hello: bool = True, subprotocol: str = "wamp.2.json"):
        self._connecting = connect(gateway.ws("/connect"), subprotocols=[subprotocol], proxy=None)
        self._subprotocol, self._hello = subprotocol, hello

    def __enter__(self):
        self.socket = self._connecting.__enter__()
        assert self.socket.subprotocol == self._subprotocol
        if self._hello:
            code, session, details = self.ask(1, "realm1", {"roles": {"subscriber": {}, "publisher": {}}})
            assert code == 2 and 1 <= session <= 2**53 and details["roles"] == BROKER
        return self

    def __exit__(self, *why):
        self._connecting.__exit__(*why)

    def send(self, *elements):
        self.socket.send(json.dumps(elements))

    def hear(self) -> list:
        return json.loads(self.socket.recv(timeout=PATIENCE))

    def ask(self, *elements) -> list:
        self.send(*elements)
        return self.hear()

    def ended(self) -> int:
        with pytest.raises(ConnectionClosed):
            self.socket.recv(timeout=PATIENCE)
        return self.socket.close_code


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "[]",
        '["1"]',
        '[2,1,{"roles":{}}]',
        "[36,1,2,{}]",
        '[8,68,1,{},"x"]',
        "[70,1,{}]",
        '[32,0,{},"t"]',
        '[32,1,{},"t",1]',
        '[16,1,{"acknowledge":1},"t"]',
        '[1,"realm1",{"roles":{"caller":{}}}]',
        "[999]",
    ],
)
def test_protocol_violations(gateway, message):
    """§2.3.3: ABORT says why, and the connection ends; the same before there is a session."""
    for hello in (True, False):
        if not hello and message.startswith("[1,"):
            continue
        with Wire(gateway, hello) as wire:
            wire.socket.send(message)
            code, details, reason = wire.hear()
            assert (code, reason) == (3, "wamp.error.protocol_violation") and len(details["message"]) > 20
            assert wire.ended() == 1002


def test_binary_messages(gateway):
    with Wire(gateway) as wire:
        wire.socket.send(b"[6]")
        assert wire.hear()[::2] == [3, "wamp.error.protocol_violation"]
        assert wire.ended() == 1003


def test_goodbye_and_abort(gateway):
    with Wire(gateway) as wire:
        assert wire.ask(6, {}, "wamp.close.close_realm") == [6, {}, "wamp.close.goodbye_and_out"]
        assert wire.ended() == 1000
    for hello in (True, False):
        with Wire(gateway, hello) as wire:
            wire.send(3, {}, "wamp.error.authentication_failed")
            assert wire.ended() == 1000


def test_subscriptions_and_places(gateway, uri):
    """The same id for all; named again to who subscribes twice; an event says its place, from which one goes on."""
    with Wire(gateway) as wire, Wire(gateway) as other:
        code, request, subscription = wire.ask(32, 7, {}, uri)
        assert (code, request) == (33, 7) and 1 <= subscription <= 2**53
        assert wire.ask(32, 8, {}, uri) == [33, 8, subscription]
        assert other.ask(32, 1, {}, uri) == [33, 1, subscription]
        events = []
        for number in range(3):
            code, request, publication = other.ask(16, number + 2, {"acknowledge": True}, uri, ["a", number])
            assert (code, request) == (17, number + 2)
            events.append(wire.hear())
            assert events[-1][:3] == [36, subscription, publication] and events[-1][4:] == [["a", number]]
        places = [event[3] for event in events]
        assert [place["_offset"] for place in places] == [1, 2, 3]
        assert wire.ask(34, 9, subscription) == [35, 9]
        assert wire.ask(34, 10, subscription)[:5] == [8, 34, 10, {}, "wamp.error.no_such_subscription"]
        assert wire.ask(32, 11, {"_since": f"{places[0]['_epoch']}-1"}, uri) == [33, 11, subscription]
        assert [wire.hear(), wire.hear()] == events[1:]
        assert wire.ask(32, 12, {"_since": "x"}, uri + ".x")[:5] == [8, 32, 12, {}, "wamp.error.invalid_argument"]


def test_subscribed_to_again_before_it_is_answered(gateway, uri):
    """Both are answered, in order and with the same id, wherever the topic's home is; and each event comes once."""
    with Wire(gateway) as wire, Wire(gateway) as other:
        for number in range(8):
            name = f"{uri}.{number}"
            for request in (1, 2, 3):
                wire.send(32, request, {}, name)
            answers = [wire.hear() for _ in range(3)]
            assert [answer[:2] for answer in answers] == [[33, 1], [33, 2], [33, 3]]
            assert len({answer[2] for answer in answers}) == 1
            other.send(16, 1, {}, name, [number])
            other.send(16, 2, {}, name, ["last"])
            assert [wire.hear()[4] for _ in range(2)] == [[number], ["last"]]


@pytest.mark.parametrize("shards", [1, 2])
def test_an_event_is_written_once_for_all(start, uri, shards):
    """It is the same byte for byte, and handed to a shard once, however many hear it there and whoever is left out."""
    gateway = start(SHARDS=str(shards))
    count, listeners = 40, 6
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(gateway)) for _ in range(listeners)]
        for wire in wires:
            assert wire.ask(32, 1, {}, uri)[0] == 33
        for number in range(count):
            # Every second is heard by who speaks, too.
            wires[number % 2].send(16, number + 2, {"acknowledge": True, "exclude_me": number % 4 < 2}, uri, [number])
            published = [wires[number % 2].socket.recv(timeout=PATIENCE)]
            if number % 4 >= 2:
                published.append(wires[number % 2].socket.recv(timeout=PATIENCE))
            texts = {wire.socket.recv(timeout=PATIENCE) for wire in wires if wire is not wires[number % 2]}
            assert len(texts) == 1
            (text,) = texts
            assert json.loads(text)[4] == [number]
            assert [it for it in published if it.startswith("[36,")] == ([text] if number % 4 >= 2 else [])
        own = sum(1 for number in range(count) if number % 4 < 2)
        found = samples(gateway)
        assert total(found, "messages_out_total") == count * listeners - own
        assert count <= total(found, "runs_total") <= count * shards


def test_topics_full(start, uri):
    gateway = start(SUBSCRIPTION_TOPICS_MAX="2")
    with Wire(gateway) as wire:
        for number in (1, 2):
            assert wire.ask(32, number, {}, f"{uri}.{number}")[0] == 33
        found = wire.ask(32, 3, {}, f"{uri}.3")
        assert found[:5] == [8, 32, 3, {}, "wamp.error.unavailable"] and "SUBSCRIPTION_TOPICS_MAX" in found[5][0]


def test_names_of_the_subprotocol(start, gateway, uri):
    """The bare name only where it is asked for; none where WAMP is not enabled."""
    with connect(gateway.ws(f"/topics/{uri}"), subprotocols=["wamp"], proxy=None) as plain:
        assert plain.subprotocol is None
    alias = start(WAMP_ALIAS="on")
    with Wire(alias, subprotocol="wamp") as wire:
        assert wire.ask(32, 1, {}, uri)[0] == 33
    without = start(SUBPROTOCOLS="moongate.v1", WAMP_ALIAS="on")
    with connect(without.ws(f"/topics/{uri}"), subprotocols=["wamp.2.json", "wamp", "moongate.v1"], proxy=None) as v1:
        assert v1.subprotocol == "moongate.v1"
