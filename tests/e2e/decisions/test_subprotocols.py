"""C3 and B22 of docs/protocol.md, route by route: what a client offers, and what is enabled where it comes."""

import json

import pytest
from websockets.sync.client import connect

from fixtures import finish
from gateway import PATIENCE, Gateway, run_to_end
from raw import check_problem, get, post
from table import READING, Refused, Switched, check_refused, check_switched, parametrized, wish

TABLE = """
/chat/* topics subprotocols=moongate.v1
/wamp connect subprotocols=wamp.2.json
/both connect subprotocols=wamp.2.json,moongate.v1
/plain/* topics subprotocols=off
/topics/* topics
/connect connect
"""


@pytest.fixture(scope="module")
def routed():
    one = Gateway(ROUTES=TABLE, SUBPROTOCOLS="moongate.v1", WAMP_ALIAS="on")
    yield one
    finish(one)


def offer(path: str, *lines: str) -> bytes:
    """A wish for a WebSocket whose subprotocols are on these lines."""
    return wish(*(f"Sec-WebSocket-Protocol: {line}" for line in lines), path=path)


V1, WAMP = "moongate.v1", "wamp.2.json"

SWITCHED = {
    "C3 the client's order decides": Switched(offer("/both", f"{V1}, {WAMP}"), spoken=V1),
    "C3 the client's order decides, the other way round": Switched(offer("/both", f"{WAMP}, {V1}"), spoken=WAMP),
    "C3 the order runs over all lines": Switched(offer("/both", "nobody.knows", V1, WAMP), spoken=V1),
    "C3 the order runs over all lines, the other way round": Switched(offer("/both", "x, y", f"z,{WAMP}", V1), spoken=WAMP),
    "C3 what the route has not is passed over": Switched(offer("/wamp", f"{V1}, {WAMP}"), spoken=WAMP),
    "C3 what the route says is not what the setting says": Switched(offer("/wamp", WAMP), spoken=WAMP),
    "C3 where the route says nothing the setting counts": Switched(offer("/connect", f"{WAMP}, {V1}"), spoken=V1),
    "C3 the alias, where WAMP is": Switched(offer("/wamp", f"wamp, {WAMP}"), spoken="wamp"),
    "C3 no alias where WAMP is not": Switched(offer("/topics/decisions", f"wamp, {WAMP}")),
    "B22 none is enabled on a topic": Switched(offer("/plain/decisions", f"{V1}, {WAMP}")),
    "B22 another one is enabled on a topic": Switched(offer("/chat/decisions", WAMP, "wamp")),
    "B22 nobody knows what is offered to a topic": Switched(offer("/chat/decisions", "x", "y, z")),
}


@pytest.mark.parametrize("row", **parametrized(SWITCHED))
def test_switched(routed, row):
    check_switched(routed, row)


def required(path: str, *lines: str, hint: str) -> Refused:
    return Refused(offer(path, *lines), 400, "subprotocol_required", hint)


REFUSED = {
    "B22 another one is enabled where one is needed": required("/wamp", V1, hint=f"Offer one of {WAMP}, wamp, as in"),
    "B22 nobody knows what is offered": required("/both", "x", "y, z", hint=f"Offer one of {WAMP}, {V1}, wamp, as in"),
    "B22 the setting's own": required("/connect", WAMP, "wamp", hint=f"Offer one of {V1}, as in"),
    "B22 nothing is offered": required("/connect", hint=f"Offer one of {V1}, as in"),
    "B21 comes before B22": Refused(offer("/wamp", V1, V1), 400, "subprotocol_repeated", "once"),
    "B21 where none is enabled": Refused(offer("/plain/decisions", "a b"), 400, "subprotocol_malformed", "commas", READING),
}


@pytest.mark.parametrize("row", **parametrized(REFUSED))
def test_refused(routed, row):
    check_refused(routed, row)


def test_two_routes_speak_each_its_own(routed, topic):
    """One topic by three routes: in moongate.v1, in WAMP and bare, whatever a client would rather speak."""
    name, everything = topic.replace("/", "."), [WAMP, V1]
    with (
        connect(routed.ws(f"/chat/{name}"), subprotocols=everything, proxy=None) as chat,
        connect(routed.ws("/wamp"), subprotocols=everything, proxy=None) as wamp,
        connect(routed.ws(f"/plain/{name}"), subprotocols=everything, proxy=None) as plain,
    ):
        assert (chat.subprotocol, wamp.subprotocol, plain.subprotocol) == (V1, WAMP, None)
        assert json.loads(chat.recv(PATIENCE))["type"] == "subscribed"

        def ask(*request):
            wamp.send(json.dumps(request))
            return json.loads(wamp.recv(PATIENCE))

        assert ask(1, "realm1", {"roles": {"subscriber": {}}})[0] == 2
        assert ask(32, 1, {}, name)[:2] == [33, 1]
        assert post(routed.listen, f"/topics/{name}", b"hi").status == 200
        heard = json.loads(chat.recv(PATIENCE))
        assert (heard["type"], heard["topic"], heard["text"]) == ("message", name, "hi")
        event = json.loads(wamp.recv(PATIENCE))
        assert event[0] == 36 and event[4] == ["hi"]
        assert plain.recv(PATIENCE) == "hi"


def test_check_prints_them_and_points_at_what_is_none():
    done = run_to_end("check", ROUTES=TABLE, SUBPROTOCOLS=V1, HEALTH="off")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["/chat/*", "topics", f"subprotocols={V1}"],
        ["/wamp", "connect", f"subprotocols={WAMP}"],
        ["/both", "connect", f"subprotocols={WAMP},{V1}"],
        ["/plain/*", "topics", "subprotocols=off"],
        ["/topics/*", "topics", f"subprotocols={V1}"],
        ["/connect", "connect", f"subprotocols={V1}"],
    ]
    done = run_to_end("check", ROUTES=f"/a/* topics subprotocols={V1},mqtt\n/b echo subprotocols=off")
    assert done.returncode == 2 and not done.stdout
    said = done.stderr.splitlines()
    assert f"{V1} or {WAMP}" in said[0] and "not an option of echo" in said[3], said
    for line, caret, word in zip(said[1::3], said[2::3], ["mqtt", "subprotocols"]):
        assert line[caret.index("^") : caret.rindex("^") + 1] == word, said


def test_a_route_that_nobody_could_open_is_no_route(start):
    """In a table that somebody wrote; without one `/connect` stays, and says why it refuses."""
    for table, settings in ((f"/x connect subprotocols={V1}; /y connect", {"SUBPROTOCOLS": "off"}), ("/y connect subprotocols=off", {})):
        done = run_to_end("check", ROUTES=table, **settings)
        assert done.returncode == 2 and "nobody could ever connect" in done.stderr and "/y connect" in done.stderr, done.stderr
    without = start(SUBPROTOCOLS="off")
    check_refused(without, required("/connect", V1, hint="None is enabled: set MOONGATE_SUBPROTOCOLS"))
    check_problem(get(without.listen, "/connect"), 426)
