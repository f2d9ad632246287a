"""nginx and HAProxy as docs/behind-a-proxy.md configures them, in front of a gateway."""

import os
import pwd
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from gateway import ROOT, Gateway, until
from raw import authority

PAGE = ROOT / "docs/behind-a-proxy.md"
UNPACKED = ROOT / "target/test-env-proxies"

# What a person's /etc/nginx/nginx.conf says around the page's part, in a folder of the test's own.
NGINX = """\
daemon off;
user {user};
pid {folder}/pid;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/moongate.conf;
}}
"""


def documented(language: str) -> str:
    """The page's one configuration in this language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return block


def replace(text: str, changes: dict[str, str]) -> str:
    """Each key stands in the text, and gives way to its value."""
    for old, new in changes.items():
        assert old in text, f"{PAGE.name} no longer says {old!r}"
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    """The machine's own, or the one that tests/install.sh unpacked."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(UNPACKED / name)])
    found = shutil.which(name, path=path)
    assert found, f"{name} is missing: run tests/install.sh"
    return found


class Proxy:
    """
    One running proxy. `address` is where clients connect; `changes` are made to the page's configuration. With a
    `certificate`, a file that has its key too, it speaks TLS as the page's comment says.
    """

    # As the page says them, in `documented`: where clients connect, and where the gateway is.
    BIND: str
    SERVER = "127.0.0.1:8080"

    def __init__(self, gateway: Gateway, folder: Path, changes: dict[str, str], certificate: Path | None = None):
        self.folder = folder
        folder.mkdir()
        self.address = ("127.0.0.1", free_port())
        ports = {self.BIND: self.bind(certificate), self.SERVER: gateway.host}
        self.configure(replace(documented(type(self).__name__.lower()), changes | ports))
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(f"the proxy to listen; it said:\n{self.log}", self._listens)

    def bind(self, certificate: Path | None) -> str:
        raise NotImplementedError

    def configure(self, text: str):
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"the proxy ended:\n{self.log}"
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    @property
    def log(self) -> str:
        return self._log.read_text()

    def url(self, path: str) -> str:
        return f"http://{authority(self.address)}{path}"

    def ws(self, path: str) -> str:
        return f"ws://{authority(self.address)}{path}"

    def stop(self):
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()


class Nginx(Proxy):
    BIND = "listen 80;"

    def bind(self, certificate: Path | None) -> str:
        if not certificate:
            return f"listen {authority(self.address)};"
        return f"listen {authority(self.address)} ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate};"

    def configure(self, text: str):
        (self.folder / "moongate.conf").write_text(text)
        user = pwd.getpwuid(os.geteuid()).pw_name
        (self.folder / "nginx.conf").write_text(NGINX.format(folder=self.folder, user=user))

    def command(self) -> list[str]:
        return [program("nginx"), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]


class Haproxy(Proxy):
    BIND = "bind :80 "

    def bind(self, certificate: Path | None) -> str:
        tls = f"ssl crt {certificate} alpn http/1.1 " if certificate else ""
        return f"bind {authority(self.address)} {tls}"

    def configure(self, text: str):
        # It starts only if it may open twice as many files.
        (self.folder / "haproxy.cfg").write_text(replace(text, {"maxconn 20000": "maxconn 200"}))

    def command(self) -> list[str]:
        return [program("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")]


def free_port() -> int:
    """A port that nobody else is given for a minute: one in TIME_WAIT, where only who sets SO_REUSEADDR may listen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            listener.accept()[0].close()
            # Who ends first is the one to wait.
            assert client.recv(1) == b""
        return listener.getsockname()[1]
