"""The web as far as weights go, on this machine: a proxy, and behind it one TLS server that stands for every host."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 1 << 16
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def hub_files(repository: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A repository of the hub by the paths of its files' addresses."""
    return {f"/{repository}/resolve/{at}/{name}": data for at in ("main", COMMIT) for name, data in files.items()}


class Files:
    """Answers HEAD and GET of `files` ({path: content}) as the hub does: commit, LFS digest, ranges. asked: the
    methods, hosts and paths. stated: {path: another digest than the content's}."""

    def __init__(self, files: Mapping[str, bytes], context: ssl.SSLContext | None = None) -> None:
        self.files = dict(files)
        self.asked: list[tuple[str, str, str]] = []
        self.stated: dict[str, str] = {}
        mine = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                path = urllib.parse.urlsplit(self.path).path
                mine.asked.append((self.command, self.headers.get("Host", ""), path))
                content = mine.files.get(path)
                if content is None:
                    self.answer(404, **{"X_Error_Code": "EntryNotFound"})
                    return
                digest = mine.stated.get(path) or hashlib.sha256(content).hexdigest()
                about = {"X_Repo_Commit": COMMIT, "ETag": f'"{digest}"', "X_Linked_Etag": f'"{digest}"'}
                first = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
                self.answer(206 if first else 200, content[int(first or 0) :], **about)

            do_HEAD = do_GET

        self.server = _serve(Handler, context)
        self.port = int(self.server.server_address[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Proxy:
    """Tunnels what is asked of any host to one port here; through: the hosts and ports that were asked for."""

    def __init__(self, port: int) -> None:
        self.through: list[str] = []
        mine = self

        class Handler(_Quiet):
            def do_CONNECT(self) -> None:
                mine.through.append(self.path)
                with socket.create_connection(("127.0.0.1", port)) as inner:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=_relay, args=(inner, self.connection), daemon=True)
                    back.start()
                    _relay(self.connection, inner)
                    back.join(5)
                self.close_connection = True

        self.server = _serve(Handler, None)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _serve(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(BLOCK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


class EveryHost:
    """The proxy and the server behind it, with a certificate for `hosts`; `files` by host and path of their address."""

    def __init__(self, hosts: list[str], files: Mapping[str, bytes], folder: Path) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*hosts).configure_cert(context)
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        self.files = Files(files, context)
        self.proxy = Proxy(self.files.port)

    def stand_for_the_web(self, patch: pytest.MonkeyPatch) -> None:
        """Has this process ask the proxy for everything, and believe the server's certificate."""
        for name in VARIABLES:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        patch.setenv("HTTPS_PROXY", self.proxy.url)
        patch.setenv("SSL_CERT_FILE", str(self.certificate))

    def close(self) -> None:
        self.proxy.close()
        self.files.close()
