"""Upstreams and gateways for the tests of tunnels."""

from contextlib import ExitStack

import pytest

from upstream import Upstream


@pytest.fixture
def serve(tmp_path):
    """Starts upstreams: at a free port, or with a name at a Unix socket."""
    with ExitStack() as stack:

        def one(name: str | None = None, backlog: int = 128) -> Upstream:
            server = Upstream(tmp_path / name if name else None, backlog)
            stack.callback(server.stop)
            return server

        yield one


@pytest.fixture(params=["tcp", "unix"])
def upstream(request, serve) -> Upstream:
    """One upstream; each test runs with either kind."""
    return serve("app.sock" if request.param == "unix" else None)


@pytest.fixture
def tunnel(start, upstream):
    """Starts a gateway whose paths below /t/ lead to the upstream: `tunnel(options, **settings)`."""

    def one(options: str = "", **settings: str):
        return start(ROUTES=f"/t/* tunnel {upstream.name} {options}; /topics/* topics", **settings)

    return one
