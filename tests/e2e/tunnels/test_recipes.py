"""The recipes of docs/tunnels.md, word for word but for addresses, with real applications at both ends."""

import json
import re
import subprocess
from contextlib import ExitStack

import pytest
from websockets.sync.client import connect

import raw
from applications import Server, run, socketio
from client import LIBRARIES, Client
from gateway import PATIENCE, ROOT, until
from proxies import Haproxy, Nginx, free_port, program
from raw import Connection, exchange, get, upgrade
from upstream import opened

PAGE = ROOT / "docs/tunnels.md"


def recipe(name: str, **upstreams: str) -> str:
    """The table of routes in the row that begins with `name`, with `upstreams` for those that it has as examples."""
    (text,) = re.findall(rf"^\| {re.escape(name)} \|[^`]*`([^`]+)`", PAGE.read_text(), re.M)
    for example, real in upstreams.items():
        written = EXAMPLES[example]
        assert written in text, f"{PAGE.name}, {name}: no {written} in {text}"
        text = text.replace(written, real)
    return text


EXAMPLES = {
    "local": "127.0.0.1:3000",
    "unix": "unix:/run/rpc.sock",
    "named": "app.internal:3000",
    "one": "10.0.0.7:3000",
    "two": "10.0.0.8:3000",
}


@pytest.fixture
def application():
    """Starts servers: `application(program, arguments)`."""
    with ExitStack() as stack:

        def one(*arguments: str) -> Server:
            server = Server(*arguments)
            stack.callback(server.stop)
            return server

        yield one


@pytest.fixture
def ws_server(application) -> str:
    return f"127.0.0.1:{application('ws_server.cjs').said}"


@pytest.fixture
def socketio_server(application) -> str:
    return f"127.0.0.1:{application('socketio_server.cjs').said}"


MESSAGES = ["hello", b"\x00\xff", "", "x" * 65_536, b"y" * 300_000, "zażółć 🌕"]


def check_echo(url: str) -> dict:
    """Messages come back as they were; what the server saw of the handshake is returned."""
    with connect(url, proxy=None, max_size=None, subprotocols=["beta", "alpha"]) as client:
        seen = json.loads(client.recv(timeout=PATIENCE))
        assert client.subprotocol == "beta"
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        for message in MESSAGES:
            client.send(message)
            assert client.recv(timeout=PATIENCE) == message
        assert client.ping().wait(PATIENCE)
        client.close(4000, "enough")
        assert client.close_code == 4000
    return seen


def test_a_websocket_application(start, ws_server):
    gateway = start(ROUTES=recipe("A WebSocket application", local=ws_server))
    seen = check_echo(gateway.ws("/chat/room?x=y"))
    assert seen["url"] == "/chat/room?x=y"
    assert seen["headers"]["host"] == gateway.host and seen["headers"]["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_other_clients(start, ws_server, library):
    gateway = start(ROUTES=recipe("A WebSocket application", local=ws_server))
    with Client(library, gateway.ws("/chat/x"), "deflate") as one:
        assert "permessage-deflate" in one.opened()
        assert one.hear("text")
        for message in ["hello", "word " * 10_000, b"\x00" * 30_000]:
            one.send(message)
            one.heard(message)
        one.close(3000, "enough")
        assert one.closed()[0] == 3000


def test_socket_io_as_it_comes(start, socketio_server):
    """A default client polls first, over the same path, and then upgrades."""
    gateway = start(ROUTES=recipe("socket.io, with any client", local=socketio_server))
    said = socketio(gateway.url("/"), "default")
    assert said == {"transports": ["polling", "websocket"], "answers": ["websocket"] * 3}, said
    said = socketio(gateway.url("/"), "polling")
    assert said == {"transports": ["polling"], "answers": ["polling"] * 3}, said


def test_socket_io_with_websockets_alone(start, socketio_server):
    gateway = start(ROUTES=recipe("socket.io, with `transports: ['websocket']`", local=socketio_server))
    said = socketio(gateway.url("/"), "websocket")
    assert said == {"transports": ["websocket"], "answers": ["websocket"] * 3}, said
    assert "error" in socketio(gateway.url("/"), "polling"), "that needs the other recipe"


def test_a_whole_application(start, socketio_server):
    """Its page, its polling and its WebSocket; and the gateway's own health before it."""
    gateway = start(ROUTES=recipe("A whole application", local=socketio_server))
    assert get(gateway.listen, "/any/page?x").body.endswith(b"page for /any/page?x")
    assert get(gateway.listen, "/healthz").body == b"ok\n"
    assert socketio(gateway.url("/"), "default")["transports"] == ["polling", "websocket"]


def test_topics_beside_an_application(start, socketio_server, topic):
    gateway = start(ROUTES=recipe("Topics beside an application", local=socketio_server))
    with raw.open_websocket(gateway.listen, f"/topics/{topic}") as listener:
        assert raw.post(gateway.listen, f"/topics/{topic}", b"hi").status == 200
        assert listener.frame() == (raw.TEXT, b"hi")
    assert get(gateway.listen, "/").body.endswith(b"page for /")


def test_a_protocol_of_ones_own(start, application, tmp_path):
    path = tmp_path / "rpc.sock"
    application("acme.py", "serve", str(path))
    gateway = start(ROUTES=recipe("A protocol of your own", unix=f"unix:{path}"))
    host, port = gateway.listen
    assert run("acme.py", "call", host, str(port), "/rpc", "3", "-4", "1000000007") == "9 16 1000000014000000049"


def test_another_path(start, ws_server):
    gateway = start(ROUTES=recipe("An application under another path", local=ws_server))
    assert check_echo(gateway.ws("/live/room"))["url"] == "/ws/room"


def test_another_host(start, ws_server):
    gateway = start(ROUTES=recipe("An application that looks at `Host`", local=ws_server))
    headers = check_echo(gateway.ws("/chat/x"))["headers"]
    assert (headers["host"], headers["x-forwarded-host"]) == ("app.example", gateway.host)


def test_several_servers(start, serve):
    """They take turns; one that is not there is stepped over, and nobody is refused."""
    one, two = serve(), serve()
    gateway = start(ROUTES=recipe("Several servers", one=one.name, two=two.name), SHARDS="1")
    clients = [Connection(gateway.listen) for _ in range(6)]
    for client in clients:
        client.send(upgrade("/chat/x", "gate.example"))
    for server in (one, two):
        for _ in range(3):
            server.accept()
        assert server.is_left_alone(0.1)
    one.stop()
    for _ in range(6):
        opened(gateway.listen, "/chat/x", two)


def test_a_name(start, serve):
    """Whatever it resolves to is tried, here ::1 first perhaps, where nobody listens."""
    upstream = serve()
    gateway = start(ROUTES=recipe("A server by its name", named=f"localhost:{upstream.port}"))
    opened(gateway.listen, "/chat/x", upstream)


def test_a_name_that_does_not_resolve(start):
    gateway = start(ROUTES="/chat/* tunnel app.invalid:3000", UPSTREAM_REFRESH="1s")
    gateway.says("app.invalid:3000.*does not resolve|does not resolve.*app.invalid:3000")
    answer = exchange(gateway.listen, upgrade("/chat/x", "gate.example"))
    raw.check_problem(answer, 502)
    assert answer.json()["type"] == "urn:moongate:problem:upstream_unresolved", answer.json()


@pytest.fixture
def front(tmp_path):
    """Puts a proxy in front of a gateway, as docs/behind-a-proxy.md configures it."""
    running = []

    def one(kind, gateway):
        running.append(kind(gateway, tmp_path / f"proxy-{len(running)}", {}))
        return running[-1]

    yield one
    for proxy in running:
        proxy.stop()


@pytest.mark.parametrize("kind", [Nginx, Haproxy], ids=["nginx", "haproxy"])
def test_a_proxy_in_front(start, front, kind, socketio_server, ws_server):
    gateway = start(ROUTES=f"/socket.io/* tunnel {socketio_server} http=pass; /chat/* tunnel {ws_server}")
    proxy = front(kind, gateway)
    assert socketio(proxy.url("/"), "default")["transports"] == ["polling", "websocket"]
    seen = check_echo(proxy.ws("/chat/x"))
    assert "moongate" in seen["headers"]["via"]


NGINX = """\
daemon off;
pid {folder}/pid;
worker_processes 1;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"""

HAPROXY = """\
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout tunnel 75s
frontend web
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server app {upstream}
"""


@pytest.fixture
def behind(tmp_path):
    """Starts a proxy in front of an application, to stand behind a gateway: its address."""
    running = []

    def one(kind: str, upstream: str) -> str:
        folder = tmp_path / f"behind-{len(running)}"
        folder.mkdir()
        port = free_port()
        template, file = {"nginx": (NGINX, "nginx.conf"), "haproxy": (HAPROXY, "haproxy.cfg")}[kind]
        (folder / file).write_text(template.format(folder=folder, port=port, upstream=upstream))
        arguments = {
            "nginx": ["-p", str(folder), "-c", str(folder / file), "-e", "stderr"],
            "haproxy": ["-db", "-f", str(folder / file)],
        }[kind]
        running.append(
            subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", program(kind), *arguments], stderr=subprocess.DEVNULL)
        )

        def listens() -> bool:
            try:
                Connection(("127.0.0.1", port)).socket.close()
            except ConnectionRefusedError:
                return False
            return True

        until(f"{kind} to listen", listens)
        return f"127.0.0.1:{port}"

    yield one
    for process in running:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_proxy_behind(start, behind, kind, socketio_server, ws_server):
    chat, io = behind(kind, ws_server), behind(kind, socketio_server)
    gateway = start(ROUTES=f"/socket.io/* tunnel {io} http=pass; /chat/* tunnel {chat}")
    assert socketio(gateway.url("/"), "default")["transports"] == ["polling", "websocket"]
    assert check_echo(gateway.ws("/chat/x"))["url"] == "/chat/x"


def test_a_gateway_behind_a_gateway(start, ws_server):
    inner = start(ROUTES=f"/chat/* tunnel {ws_server}")
    outer = start(ROUTES=f"/chat/* tunnel {inner.host}")
    seen = check_echo(outer.ws("/chat/x"))
    assert seen["headers"]["via"].count("moongate") == 2
