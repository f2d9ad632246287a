"""The specification of moongate.v1 and its schema say the same."""

import json
import re

import pytest
from jsonschema import Draft202012Validator

from protocol_v1 import ANSWER, REQUEST, SCHEMA, SPECIFICATION

REQUESTS = {"subscribe", "unsubscribe", "publish", "ping"}
# A line of an example; in a conversation it says who speaks.
LINE = re.compile(r"^([<>] )?(\{\"type\":.*\})$", re.MULTILINE)


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_every_example_fits():
    examples = [(side, json.loads(text)) for side, text in LINE.findall(SPECIFICATION.read_text())]
    assert {frame["type"] for _, frame in examples} == REQUESTS | {
        "subscribed", "unsubscribed", "published", "pong", "message", "gap", "error"
    }
    for side, frame in examples:
        is_request = frame["type"] in REQUESTS
        assert side in ("", "> " if is_request else "< ")
        # One of the examples is there to be answered with an error.
        if side and frame == {"type": "publish", "id": 4, "topic": "news"}:
            assert not REQUEST.is_valid(frame)
            continue
        (REQUEST if is_request else ANSWER).validate(frame)
        assert not (ANSWER if is_request else REQUEST).is_valid(frame)


def test_every_code_is_explained():
    table = SPECIFICATION.read_text().split("## Errors")[1].split("## Closing")[0]
    codes = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert codes == SCHEMA["$defs"]["error"]["properties"]["code"]["enum"]


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": "speak"},
        {"type": "subscribe"},
        {"type": "subscribe", "topic": "a", "since": 0},
        {"type": "subscribe", "topic": "a", "since": "A1-1"},
        {"type": "ping", "id": True},
        {"type": "ping", "id": "x" * 63},
        {"type": "publish", "topic": "a"},
        {"type": "publish", "topic": "a", "text": "", "json": 1},
        {"type": "publish", "topic": "a", "text": 1},
        {"type": "publish", "topic": "a", "base64": "AP8"},
        *({"type": "subscribe", "topic": name} for name in ["", "/a", "a/", "a//b", "$a", ".", "a/..", "a*", "a+", "#", "a\nb"]),
    ],
    ids=json.dumps,
)
def test_what_is_no_request_does_not_fit(frame):
    assert not REQUEST.is_valid(frame)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "publish", "topic": "a", "json": None},
        {"type": "publish", "topic": "a", "text": "", "later": {"text": 1}},
        {"type": "ping", "id": -1.5e300},
        {"type": "subscribe", "topic": "..a/.b./café au lait", "since": "00000000000000a1-18446744073709551615"},
    ],
    ids=json.dumps,
)
def test_what_is_unusual_fits(frame):
    REQUEST.validate(frame)
