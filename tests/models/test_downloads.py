"""Downloads of weights from a server on this machine: whole, resumed, and by servers that mean no good."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vtbench.images import web
from vtbench.models import files
from vtbench.types.cards import Card, Fixed, Weights
from vtbench.types.errors import Unavailable, VtbenchError

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Gives CONTENT in the way that the first part of the path says; `ranges`: what was asked for."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                way = self.path.split("/")[1]
                try:
                    self._answer(way, first)
                except (BrokenPipeError, ConnectionResetError):
                    server.ranges.append("gone")

            def _answer(self, way: str, first: int) -> None:
                if way == "away":
                    self._head(302, Location="http://example.org/model.pt")
                elif way == "file":
                    self._head(302, Location="file:///etc/hostname")
                elif first >= len(CONTENT):
                    self._head(416)
                elif way == "cut":
                    self._head(200, length=len(CONTENT))
                    self.wfile.write(CONTENT[:1000])
                elif way == "drip":
                    self._head(200)
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.02)
                elif way == "huge":
                    self._head(200, length=1 << 40)
                elif way == "endless":
                    self._head(200)
                    for _ in range(4096):
                        self.wfile.write(CONTENT)
                else:
                    part = CONTENT if way == "norange" else CONTENT[first:]
                    self._head(206 if first and way != "norange" else 200, length=len(part))
                    self.wfile.write(part)

            def _head(self, status: int, length: int | None = None, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if length is not None or status >= 300:
                    self.send_header("Content-Length", str(length or 0))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{way}/model.pt"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)
    served = Server()
    yield served
    served.server.shutdown()
    served.server.server_close()


def fetch(url: str, sha256: str | None = SHA256) -> Path:
    weight = Weights(file="model.pt", url=url, sha256=sha256)
    return files.download(Card("m", "m", "discrete", "M", sizes=Fixed(256)), weight)


def test_whole_and_in_parts(server: Server) -> None:
    path = fetch(server.url("plain"))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["model.pt"]
    for way, kept in (("again", 5000), ("norange", 5000), ("done", len(CONTENT))):
        place = files.place_in_cache(Weights(file="model.pt", url=server.url(way)))
        place.parent.mkdir(parents=True)
        place.with_name("model.pt.part").write_bytes(CONTENT[:kept])
        assert fetch(server.url(way)).read_bytes() == CONTENT, way
        assert server.ranges[-1] == f"bytes={kept}-"


def test_another_file_is_deleted(server: Server) -> None:
    with pytest.raises(VtbenchError, match="the file was deleted"):
        fetch(server.url("plain"), "0" * 64)
    assert not [p for p in files.place_in_cache(Weights(file="model.pt", url=server.url("plain"))).parent.iterdir()]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("away", "would be asked unencrypted"),
        ("file", "no address of the web"),
        ("cut", "it goes on where it stopped"),
        ("drip", "no answer within 0.3 s"),
        ("huge", "longer than 1048576 bytes"),
        ("endless", "longer than 1048576 bytes"),
    ],
)
def test_servers_that_mean_no_good(server: Server, way: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STALL", 0.3)
    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=said):
        fetch(server.url(way))
    assert time.monotonic() - began < 2
    assert not files.place_in_cache(Weights(file="model.pt", url=server.url(way))).exists()


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://example.org/x", "http://example.org/x", "/etc/hostname"]
)
def test_addresses_of_cards_that_are_not_asked(url: str, server: Server) -> None:
    with pytest.raises(Unavailable, match=r"unencrypted|no address"):
        fetch(url)


def test_the_limit_on_a_drip_holds_for_its_head_too(server: Server) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with listening.accept()[0] as connection:
                try:
                    for _ in range(100):
                        connection.sendall(b"H")
                        time.sleep(0.02)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        question = web.Question(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        began = time.monotonic()
        with pytest.raises(web.Refused):
            web.fetch(question, seconds=0.3, most=1000)
        assert time.monotonic() - began < 1.5
