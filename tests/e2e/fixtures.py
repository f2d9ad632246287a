"""Gateways for tests: one shared by all that need nothing special, others made to measure."""

import hashlib
from contextlib import ExitStack

import pytest

from gateway import ROOT, Gateway


@pytest.fixture(scope="session")
def gateway():
    """A gateway with the usual settings. Each test uses topics of its own: see `topic`."""
    shared = Gateway()
    yield shared
    try:
        assert shared.stop() == 0, shared.log
        shared.check_sound()
    finally:
        shared.kill()


@pytest.fixture
def start():
    """Starts gateways with settings of the test's own; each must still end cleanly when the test has not ended it."""
    with ExitStack() as stack:

        def start_one(**settings):
            one = Gateway(**settings)
            stack.callback(finish, one)
            return one

        yield start_one


def finish(gateway: Gateway):
    ended = gateway.process.poll() is not None
    try:
        code = gateway.stop()
        assert ended or code == 0, gateway.log
        gateway.check_sound()
    finally:
        gateway.kill()


@pytest.fixture
def topic(request) -> str:
    """A topic name that no other test uses."""
    return f"test/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"


@pytest.fixture(scope="session")
def shelf():
    """Where a test leaves what a person may want to look at."""
    folder = ROOT / "target/e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
