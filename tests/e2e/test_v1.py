"""moongate.v1: many topics on one WebSocket, with a client that others wrote; all that is said is held against the schema."""

import base64
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from events import EventStream
from gateway import PATIENCE, ROOT, until
from gauges import resident_bytes, running
from raw import TEXT, Connection, authority, frame, get, post, upgrade
from test_control import samples, total

NAME = "moongate.v1"
SCHEMA = json.loads((ROOT / "docs/protocols/moongate-v1.schema.json").read_text())
REQUEST, ANSWER = (
    Draft202012Validator({"$ref": f"#/$defs/{side}", "$defs": SCHEMA["$defs"]}) for side in ("request", "answer")
)


class V1:
    """A connection that speaks it. What comes is checked, and taken in order."""

    def __init__(self, gateway, path: str = "/connect"):
        self._opening = connect(gateway.ws(path), subprotocols=[NAME])

    def __enter__(self):
        self.socket = self._opening.__enter__()
        assert self.socket.subprotocol == NAME
        return self

    def __exit__(self, *exception):
        self._opening.__exit__(*exception)

    def say(self, kind: str, **members):
        request = {"type": kind} | members
        REQUEST.validate(request)
        self.socket.send(json.dumps(request))

    def hear(self) -> dict:
        text = self.socket.recv(PATIENCE)
        assert isinstance(text, str), "text frames alone"
        answer = json.loads(text)
        ANSWER.validate(answer)
        return answer

    def ask(self, kind: str, **members) -> dict:
        """Says it, and takes what comes next for the answer."""
        self.say(kind, **members)
        return self.hear()

    def subscribe(self, topic: str, number=1, **members) -> dict:
        answer = self.ask("subscribe", id=number, topic=topic, **members)
        assert (answer["type"], answer["id"], answer["topic"]) == ("subscribed", number, topic)
        return answer

    def is_quiet(self) -> bool:
        """Nothing waits before the answer to what is asked now."""
        return self.ask("ping", id="quiet") == {"type": "pong", "id": "quiet"}


def error(answer: dict) -> tuple:
    """The id and the code of an error, which has words for a person."""
    assert answer["type"] == "error" and answer["reason"] and answer["hint"], answer
    return answer.get("id"), answer["code"]


def test_what_is_published_is_heard_in_every_way(gateway, topic):
    with (
        V1(gateway) as one,
        V1(gateway) as other,
        connect(gateway.ws(f"/topics/{topic}")) as plain,
        EventStream(gateway.url(f"/topics/{topic}")) as stream,
    ):
        joined = one.subscribe(topic)
        other.subscribe(topic, "x")
        payloads = [("text", "the moon is up\n\"\\\u0000é"), ("json", {"a": [1, None, "b"]}), ("base64", "AP96")]
        for number, (member, payload) in enumerate(payloads, 1):
            one.say("publish", id=number, topic=topic, **{member: payload})
            heard = [one.hear(), one.hear()]
            place = {"topic": topic, "epoch": joined["epoch"], "offset": joined["offset"] + number}
            message = {"type": "message"} | place | {member: payload}
            assert {"type": "published", "id": number} | place in heard and message in heard
            assert other.hear() == message
        assert plain.recv(PATIENCE) == payloads[0][1]
        assert json.loads(plain.recv(PATIENCE)) == payloads[1][1]
        assert plain.recv(PATIENCE) == base64.b64decode("AP96")
        for number, _ in enumerate(payloads, 1):
            assert stream.next().id == f"{joined['epoch']}-{joined['offset'] + number}"


def test_what_others_say_comes_as_it_was_said(gateway, topic):
    with V1(gateway) as listener, connect(gateway.ws(f"/topics/{topic}")) as plain:
        listener.subscribe(topic)
        plain.send("text")
        assert listener.hear()["text"] == "text"
        plain.send(b"\x00\xff")
        assert listener.hear()["base64"] == "AP8="
        assert post(gateway.listen, f"/topics/{topic}", b"hello").status == 200
        assert listener.hear()["text"] == "hello"
        said = b'{"degrees": 12.50}'
        for address in (gateway.listen, gateway.control):
            assert post(address, f"/topics/{topic}", said, "Content-Type: application/json").status == 200
            assert listener.hear()["json"] == json.loads(said)


def test_json_is_passed_on_verbatim(gateway, topic):
    with V1(gateway) as one, connect(gateway.ws(f"/topics/{topic}")) as plain:
        said = '{ "degrees": 12.50, "big": 123456789012345678901234567890, "e":"\\u00e9" }'
        one.socket.send(f'{{"type":"publish","topic":"{topic}","json":{said}}}')
        assert plain.recv(PATIENCE) == said


def test_many_topics_and_none_of_the_others(gateway, topic):
    names = [f"{topic}/{number}" for number in range(20)]
    with V1(gateway) as listener, V1(gateway) as speaker:
        for number, name in enumerate(names):
            listener.subscribe(name, number)
        for name in names[::2]:
            answer = listener.ask("unsubscribe", id=name, topic=name)
            assert answer == {"type": "unsubscribed", "id": name, "topic": name}
        for name in names:
            assert speaker.ask("publish", id=name, topic=name, text=name)["type"] == "published"
        heard = {listener.hear()["topic"] for _ in names[1::2]}
        assert heard == set(names[1::2]) and listener.is_quiet()
        again = listener.subscribe(names[0])
        assert again["offset"] == 1, "what was said meanwhile counts"


def test_a_topics_url_starts_subscribed(gateway, topic):
    with V1(gateway, f"/topics/{topic}") as one:
        first = one.hear()
        assert (first["type"], first["topic"], "id" in first) == ("subscribed", topic, False)
        one.say("publish", topic=topic, text="x")
        assert one.hear()["offset"] == first["offset"] + 1
        assert error(one.ask("subscribe", id=1, topic=topic)) == (1, "already-subscribed")
        one.subscribe(f"{topic}/more", 2)


def test_requests_without_id_are_answered_by_errors_alone(gateway, topic):
    with V1(gateway) as one:
        one.subscribe(topic)
        one.say("publish", topic=topic, text="x")
        assert one.hear()["type"] == "message"
        one.say("unsubscribe", topic=topic)
        assert one.is_quiet()
        assert error(one.ask("unsubscribe", topic=topic)) == (None, "not-subscribed")
        assert one.ask("ping") == {"type": "pong"}
        one.say("subscribe", topic=topic)
        # Until it has begun, what is said is not heard.
        while (heard := one.ask("publish", id=1, topic=topic, text="y"))["type"] == "published":
            pass
        assert heard["type"] == "message"


@pytest.mark.parametrize(
    ("request_text", "expect"),
    [
        ("{}", (None, "request-type")),
        ('{"type":"speak","id":1}', (1, "request-type")),
        ('{"type":"ping","id":{}}', (None, "request-id")),
        (f'{{"type":"ping","id":"{"x" * 64}"}}', (None, "request-id")),
        ('{"type":"subscribe","id":2}', (2, "topic-name")),
        ('{"type":"subscribe","id":3,"topic":"a//b"}', (3, "topic-name")),
        ('{"type":"subscribe","id":3,"topic":"a/*"}', (3, "topic-name")),
        ('{"type":"subscribe","id":4,"topic":"a","since":"1"}', (4, "since")),
        ('{"type":"unsubscribe","id":5,"topic":"a"}', (5, "not-subscribed")),
        ('{"type":"publish","id":6,"topic":"a"}', (6, "payload")),
        ('{"type":"publish","id":"7","topic":"a","text":"","json":1}', ("7", "payload")),
        ('{"type":"publish","id":8,"topic":"a","base64":"A"}', (8, "payload")),
        (f'{{"type":"publish","id":9,"topic":"a","json":{"[" * 500}{"]" * 500}}}', (9, "payload")),
    ],
)
def test_a_mistake_is_answered_and_nothing_ends(gateway, request_text, expect):
    with V1(gateway) as one:
        one.socket.send(request_text)
        assert error(one.hear()) == expect
        assert one.is_quiet()


@pytest.mark.parametrize(
    ("said", "code"),
    [("hello", 1007), ("[]", 1007), ('{"type":"ping"', 1007), ('{"type":"ping"}{}', 1007), (b"{}", 1003)],
)
def test_what_is_no_request_at_all_ends_it(gateway, said, code):
    with V1(gateway) as one:
        one.say("ping", id=1)
        one.socket.send(said)
        assert one.hear() == {"type": "pong", "id": 1}
        with pytest.raises(ConnectionClosed) as ended:
            one.socket.recv(PATIENCE)
        assert ended.value.rcvd.code == code and NAME in ended.value.rcvd.reason


def test_members_that_are_not_known_are_passed_over(gateway, topic):
    with V1(gateway) as one:
        one.socket.send(f' {{"later":{{"type":[]}},"topic":"{topic}","type":"subscribe","id":1,"id":2}} ')
        assert one.hear()["id"] == 2


def test_who_may_only_listen(start, topic):
    gateway = start(ANONYMOUS="subscribe")
    with V1(gateway) as one:
        one.subscribe(topic)
        assert error(one.ask("publish", id=1, topic=topic, text="x")) == (1, "may-only-listen")
        assert one.is_quiet()


def test_subscriptions_and_topics_are_bounded(start):
    gateway = start(SUBSCRIPTION_TOPICS_MAX="3", TOPICS_MAX="4", SHARDS="1")
    with V1(gateway) as one, V1(gateway) as other:
        for number in range(3):
            one.subscribe(f"t{number}")
        assert error(one.ask("subscribe", id=9, topic="t3")) == (9, "subscriptions-full")
        one.ask("unsubscribe", id=10, topic="t0")
        one.subscribe("t3")
        # t0 is remembered for a while.
        assert error(other.ask("subscribe", id=11, topic="t4")) == (11, "topics-full")
        assert error(other.ask("publish", id=12, topic="t5", text="")) == (12, "topics-full")
        other.subscribe("t1")
        assert other.is_quiet()


def test_all_answers_come_however_few_may_be_in_flight(start, topic):
    gateway = start(REQUESTS_IN_FLIGHT_MAX="2")
    names = [f"{topic}/{number}" for number in range(50)]
    with V1(gateway) as one:
        for name in names:
            one.say("subscribe", id=f"s{name}", topic=name)
            one.say("publish", id=f"p{name}", topic=name, text="x")
        answers, heard = {}, {}
        while len(answers) < 100:
            said = one.hear()
            if said["type"] == "message":
                assert f"s{said['topic']}" in answers, "subscribed comes first"
                heard[said["topic"]] = said["offset"]
            else:
                answers[said["id"]] = said
        assert answers.keys() == {f"{kind}{name}" for kind in "sp" for name in names}
        # It was ordered before the subscription began, or it is heard.
        expect = {name for name in names if answers[f"s{name}"]["offset"] == 0}
        while len(heard) < len(expect):
            message = one.hear()
            heard[message["topic"]] = message["offset"]
        assert heard == dict.fromkeys(expect, 1) and one.is_quiet()


def test_publishes_to_one_topic_are_answered_in_order(gateway, topic):
    with V1(gateway) as one:
        for number in range(500):
            one.say("publish", id=number, topic=topic, text="x" * 100)
        heard = [one.hear() for _ in range(500)]
        assert [it["id"] for it in heard] == list(range(500))
        assert [it["offset"] for it in heard] == list(range(1, 501))


def test_nothing_comes_after_unsubscribed_and_nothing_is_missed_after_subscribed(gateway, topic):
    """Subscriptions that come and go while a topic is spoken to without pause."""
    done = threading.Event()

    def speak():
        with V1(gateway) as speaker:
            while not done.is_set():
                speaker.ask("publish", id=1, topic=topic, text="x")

    def listen(seed: int):
        rng = random.Random(seed)
        with V1(gateway) as one:
            for _ in range(30):
                place = one.subscribe(topic)["offset"]
                for _ in range(rng.randrange(5)):
                    message = one.hear()
                    assert (message["type"], message["offset"]) == ("message", place + 1)
                    place += 1
                one.say("unsubscribe", id=2, topic=topic)
                while (heard := one.hear())["type"] != "unsubscribed":
                    assert heard["offset"] == place + 1
                    place += 1
                assert one.is_quiet()

    with ThreadPoolExecutor() as pool:
        speaking = pool.submit(speak)
        try:
            for listening in [pool.submit(listen, seed) for seed in range(4)]:
                listening.result(PATIENCE)
        finally:
            done.set()
        speaking.result(PATIENCE)


def test_a_subscribe_taken_back_is_answered(gateway, topic):
    with V1(gateway) as one:
        for number in range(20):
            name = f"{topic}/{number}"
            one.say("subscribe", id=1, topic=name)
            one.say("unsubscribe", id=2, topic=name)
            first, second = one.hear(), one.hear()
            assert first["type"] == "subscribed" or error(first) == (1, "cancelled")
            assert second == {"type": "unsubscribed", "id": 2, "topic": name}
        assert one.is_quiet()


def test_the_clients_first_that_is_enabled_is_spoken(start, topic):
    gateway = start(SUBPROTOCOLS="off")
    with connect(gateway.ws(f"/topics/{topic}"), subprotocols=[NAME]) as plain:
        assert plain.subprotocol is None
        plain.send("bare")
        assert plain.recv(PATIENCE) == "bare"
    refused = Connection(gateway.listen)
    refused.send(upgrade("/connect", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
    answer = refused.head()
    assert answer.status == 400
    refused.socket.close()


def test_connect_is_for_subprotocols(gateway):
    assert get(gateway.listen, "/connect").status == 426
    with pytest.raises(InvalidStatus, match="400"), connect(gateway.ws("/connect")):
        pass
    with connect(gateway.ws("/connect"), subprotocols=["other", NAME]) as one:
        assert one.subprotocol == NAME


def test_sessions_are_counted_by_what_they_speak(start, topic):
    gateway = start()

    def sessions() -> list[float]:
        found = samples(gateway)
        return [total(found, "sessions", f'protocol="{name}"') for name in (NAME, "wamp.2.json")]

    with (
        V1(gateway), V1(gateway, f"/topics/{topic}"), connect(gateway.ws("/connect"), subprotocols=["wamp.2.json"]),
        connect(gateway.ws(f"/topics/{topic}")),
    ):
        until("all to be there", lambda: sessions() == [2, 1])
    until("all to have gone", lambda: sessions() == [0, 0])


def place(message: dict) -> str:
    return f"{message['epoch']}-{message['offset']}"


def speak(gateway, topic: str, texts) -> list[dict]:
    """The places that these messages were given."""
    with V1(gateway) as speaker:
        return [speaker.ask("publish", id=1, topic=topic, text=text) for text in texts]


def test_who_comes_back_hears_what_it_missed(gateway, topic):
    places = [place(it) for it in speak(gateway, topic, "abcde")]
    with V1(gateway) as one:
        joined = one.subscribe(topic, since=places[1])
        assert (place(joined), joined["recovered"]) == (places[4], True)
        assert [one.hear()["text"] for _ in "cde"] == [*"cde"]
        speak(gateway, topic, "f")
        assert one.hear()["text"] == "f" and one.is_quiet()
    with V1(gateway, f"/topics/{topic}?since={places[3]}") as other:
        first = other.hear()
        assert (first["type"], first["recovered"]) == ("subscribed", True)
        assert [other.hear()["text"] for _ in "ef"] == [*"ef"] and other.is_quiet()
    with V1(gateway, f"/topics/{topic}?since=0") as whole:
        assert whole.hear()["recovered"] is True
        assert [whole.hear()["text"] for _ in "abcdef"] == [*"abcdef"] and whole.is_quiet()


def test_who_missed_too_much_is_told_what(start, topic):
    gateway = start(HISTORY_MESSAGES="3")
    places = speak(gateway, topic, "abcdefg")
    with V1(gateway) as one:
        joined = one.subscribe(topic, since=place(places[0]))
        assert joined["recovered"] is False
        gap = {"type": "gap", "topic": topic, "epoch": joined["epoch"], "from": 2, "to": 4}
        assert one.hear() == gap
        assert [one.hear()["text"] for _ in "efg"] == [*"efg"]
    with V1(gateway) as stranger:
        joined = stranger.subscribe(topic, since="00000000000000a1-7")
        assert joined["recovered"] is False
        assert stranger.hear() == gap | {"from": 1, "previous_epoch": "00000000000000a1"}
        assert [stranger.hear()["text"] for _ in "efg"] == [*"efg"] and stranger.is_quiet()


def test_who_reads_too_slowly_is_told_what_was_dropped(start, topic):
    gateway = start(OUTBOX_POLICY="drop-oldest", OUTBOX_BYTES_MAX="300000", SLOW_READER_TIMEOUT="0ms")
    texts = [f"{number} {'x' * 10_000}" for number in range(600)]
    listener = Connection(gateway.listen, receive_buffer=4096)
    listener.send(upgrade(f"/topics/{topic}", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
    assert listener.head().status == 101
    last = json.loads(listener.frame()[1])["offset"]
    speak(gateway, topic, texts)
    missing = 0
    while last < len(texts):
        said = json.loads(listener.frame()[1])
        ANSWER.validate(said)
        if said["type"] == "gap":
            assert said["from"] == last + 1
            missing += said["to"] - last
            last = said["to"]
        else:
            assert (said["offset"], said["text"]) == (last + 1, texts[last])
            last += 1
    assert missing > 0
    listener.socket.close()


@pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
def test_what_is_dropped_is_told_within_its_subscription(start, topic, policy):
    """Who leaves a topic and comes back while it is behind: each place is a message or in a gap, of the one or the other."""
    narrow = {"OUTBOX_BYTES_MAX": "600000", "SLOW_READER_TIMEOUT": "0ms", "SHARDS": "1"}
    gateway = start(OUTBOX_POLICY=policy, **narrow)
    names = [f"{topic}/{name}" for name in "ab"]
    listener = Connection(gateway.listen, receive_buffer=4096)
    listener.send(upgrade("/connect", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
    assert listener.head().status == 101

    def ask(kind: str, name: str):
        listener.send(frame(TEXT, json.dumps({"type": kind, "id": name, "topic": name}).encode()))

    def said(name: str, count: int):
        return speak(gateway, name, ["x" * 10_000] * count)[-1]["offset"]

    def subscribers() -> int:
        return sum(entry["subscribers"] for entry in get(gateway.control, "/topics").json() if entry["topic"] == names[0])

    for name in names:
        ask("subscribe", name)
    until("both to be heard", lambda: total(samples(gateway), "subscriptions") == 2)
    # What waits is a few messages, so that it is still read from.
    while total(samples(gateway), "outbox_bytes") == 0:
        said(names[0], 3)
    ask("unsubscribe", names[0])
    until("it to have left", lambda: subscribers() == 0)
    ask("subscribe", names[0])
    until("it to be back", lambda: subscribers() == 1)
    last = [said(name, 100) for name in names]
    assert total(samples(gateway), "messages_dropped_total", "outbox_full_dropped") > 0

    places, ended, missing, newest = {}, 0, 0, {}
    while places.get(names[1]) != last[1]:
        word = json.loads(listener.frame()[1])
        ANSWER.validate(word)
        name = word["topic"]
        match word["type"]:
            case "subscribed":
                assert name not in places
                places[name] = word["offset"]
            case "unsubscribed":
                ended = places.pop(name)
            case "gap":
                assert word["from"] == places[name] + 1
                missing += word["to"] - places[name]
                places[name] = word["to"]
            case "message":
                assert word["offset"] == places[name] + 1
                places[name] = newest[name] = word["offset"]
    assert places == dict(zip(names, last, strict=True)) and ended > 0
    assert missing == total(samples(gateway), "messages_dropped_total", "outbox_full_dropped")
    if policy == "latest":
        assert newest == places
    listener.socket.close()


def test_who_comes_back_to_many_topics_is_not_cut(start, topic):
    """They keep many times what an outbox holds: it gets them one after the other, as fast as it reads."""
    gateway = start(OUTBOX_BYTES_MAX="100KiB")
    topics = [f"{topic}/{number}" for number in range(20)]
    texts = [f"{number} {'x' * 9_000}" for number in range(4)]
    for name in topics:
        speak(gateway, name, texts)
    listener = Connection(gateway.listen, receive_buffer=4096)
    listener.send(upgrade("/connect", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
    assert listener.head().status == 101
    requests = [{"type": "subscribe", "id": name, "topic": name, "since": "0"} for name in topics]
    listener.send(b"".join(frame(TEXT, json.dumps(request).encode()) for request in requests))
    for name in topics:
        joined = json.loads(listener.frame()[1])
        assert (joined["type"], joined["topic"], joined["recovered"]) == ("subscribed", name, True)
        assert [json.loads(listener.frame()[1])["text"] for _ in texts] == texts
    listener.socket.close()


def test_cuts_while_a_topic_is_spoken_to(start, topic):
    """Each listener leaves without a word again and again, and hears every message once."""
    count = 400
    # However long one is away.
    gateway = start(HISTORY_MESSAGES=str(count))

    def listen(seed: int) -> list[int]:
        rng = random.Random(seed)
        since, heard = "0", []
        while len(heard) < count:
            connection = Connection(gateway.listen)
            connection.send(upgrade("/connect", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
            assert connection.head().status == 101
            asked = {"type": "subscribe", "id": 1, "topic": topic, "since": since}
            connection.send(frame(TEXT, json.dumps(asked).encode()))
            joined = json.loads(connection.frame()[1])
            assert (joined["type"], joined["recovered"]) == ("subscribed", True)
            for _ in range(rng.randrange(60)):
                if len(heard) == count:
                    break
                message = json.loads(connection.frame()[1])
                assert message["type"] == "message"
                since = place(message)
                heard.append(int(message["text"]))
            connection.socket.close()
        return heard

    with ThreadPoolExecutor() as pool:
        listeners = [pool.submit(listen, seed) for seed in range(4)]
        with V1(gateway) as speaker:
            for number in range(count):
                speaker.ask("publish", id=1, topic=topic, text=str(number))
                time.sleep(0.002)
        for listener in listeners:
            assert listener.result(PATIENCE) == list(range(count))


TOPICS = [f"weight/{number}" for number in range(10)]


@pytest.mark.once
def test_a_connection_with_ten_subscriptions_weighs_a_kibibyte():
    """What is resident grows by no more than that for each of many. On epoll, which runs everywhere and keeps little for a
    connection; what tokio-uring keeps in its tasks is in docs/capacity.md, and the same for all connections."""
    few, many = 1000, 5000
    with running(DRIVER="epoll", SHARDS="1", CONNECTIONS_MAX="6000", CONTROL="off") as gateway:
        connections, weights = [], []
        requests = b"".join(
            frame(TEXT, json.dumps({"type": "subscribe", "id": topic, "topic": topic}).encode()) for topic in TOPICS
        )
        for count in (few, many):
            while len(connections) < count:
                connection = Connection(gateway.listen)
                connection.send(upgrade("/connect", authority(gateway.listen), f"Sec-WebSocket-Protocol: {NAME}"))
                assert connection.head().status == 101
                connection.send(requests)
                for _ in TOPICS:
                    assert json.loads(connection.frame()[1])["type"] == "subscribed"
                connections.append(connection)
            time.sleep(1)
            weights.append(resident_bytes(gateway))
        each = (weights[1] - weights[0]) / (many - few)
        print(f"{each:.0f} bytes for each")
        assert each <= 1024
        for connection in connections:
            connection.socket.close()
