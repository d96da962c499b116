"""A server on this machine that stands for a host of weights: whole, resumed, and one that means no good."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Gives its content in the way that the first part of the path says; `ranges`: what was asked for."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
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
                elif first >= len(content):
                    self._head(416)
                elif way == "cut":
                    self._head(200, length=len(content))
                    self.wfile.write(content[: len(content) // 2])
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
                        self.wfile.write(content)
                else:
                    part = content if way == "norange" else content[first:]
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

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
