"""The conversations of the end-to-end tests, with clients that take minutes to build."""

import pytest

from client import Library
from gateway import ROOT
from test_clients import (  # noqa: F401
    test_chat,
    test_fragments,
    test_many_messages_at_once,
    test_pings,
    test_pings_of_the_gateway_are_answered,
    test_refusals,
    test_the_client_closes,
    test_the_client_closes_without_a_code,
    test_the_gateway_closes,
)

BUILT = ROOT / "target/interop/build/debug"
LIBRARIES = [
    Library("tokio-tungstenite", [str(BUILT / "with-tungstenite")], deflate=False),
    Library("fastwebsockets", [str(BUILT / "with-fastwebsockets")], deflate=False, shows_bodies=False),
]


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request) -> Library:
    return request.param
