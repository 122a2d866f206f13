"""The proxies of `deploy/proxies/` before a receiver: their own files, with other addresses, ports and paths."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.lines import server_context
from lab.processes import ROOT, free_port, listens, program, running

FILES = ROOT / "deploy" / "proxies"
NAME = "callvault.example.com"


@dataclass(frozen=True)
class _Proxy:
    """How one is started.

    Attributes:
        file: in `deploy/proxies`.
        listen: how the file writes the port that it listens on, around `443`.
        package: of Debian; it brings a program of the same name.
        options: of the program, by the folder with the file `conf`.
        around: makes the program's whole configuration from the file, by the folder.
    """

    file: str
    listen: str
    package: str
    options: Callable[[Path], list[str]]
    around: Callable[[Path, str], str] = lambda _, text: text


def _around_nginx(folder: Path, text: str) -> str:
    """A server's own nginx.conf, which includes the file."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return (
        f"worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off; user root;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n"
    )


PROXIES = {
    "nginx": _Proxy(
        "nginx.conf",
        "listen 443 ",
        "nginx-light",
        lambda at: ["-e", str(at / "error.log"), "-p", str(at), "-c", str(at / "conf")],
        _around_nginx,
    ),
    "caddy": _Proxy(
        "Caddyfile",
        f"{NAME}:443",
        "caddy",
        lambda at: ["run", "--adapter", "caddyfile", "--config", str(at / "conf")],
    ),
    "haproxy": _Proxy("haproxy.cfg", "bind :443 ", "haproxy", lambda at: ["-db", "-f", str(at / "conf")]),
}


@contextmanager
def proxy(name: str, receiver_port: int, folder: Path) -> Iterator[tuple[int, ssl.SSLContext, Path]]:
    """Run a proxy before a receiver; gives its port, a context of clients that trust it, and its certificate.

    Raises:
        lab.processes.Missing: it is not installed and cannot be installed here.
    """
    one = PROXIES[name]
    path = program(name, one.package)
    _, certificate = server_context(folder, NAME)
    key = folder / "key.pem"
    (folder / "certificate-and-key.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    port = free_port()
    text = (FILES / one.file).read_text()
    for old, new in (
        (one.listen, one.listen.replace("443", f"127.0.0.1:{port}" if ":443" not in one.listen else str(port))),
        ("/etc/ssl/callvault", str(folder)),
        ("127.0.0.1:8080", f"127.0.0.1:{receiver_port}"),
    ):
        assert text.count(old) >= 1, f"{one.file} no longer has {old!r}"
        text = text.replace(old, new)
    (folder / "conf").write_text(one.around(folder, text))
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    environment = home | {"CADDY_ADMIN": f"127.0.0.1:{free_port()}"}  # otherwise always 2019
    with running([path, *one.options(folder)], lambda: listens(port), environment):
        yield port, ssl.create_default_context(cafile=str(certificate)), certificate
