"""`vtbench leaderboard serve SITE`: a page on this machine alone, for a browser that opens no pages from disk.

It reads the files of one site and nothing else: no listing, no link that leads out, no other method than GET and HEAD,
no request that names another host (a page elsewhere whose name is turned to this machine would read it otherwise).
"""

from __future__ import annotations

import contextlib
import errno
import http.server
import mimetypes
import os
import posixpath
import shutil
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from typing import Any

from vtbench.results.files import open_regular
from vtbench.results.sites import MARKER
from vtbench.types.errors import VtbenchError

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Hosts that a request may name."""
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the pages say of themselves (templates/base.html.j2), and that nobody frames them, which only a header can."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".css": "text/css", ".jsonl": "application/jsonl", ".svg": "image/svg+xml"}
"""As this page needs them, whatever a machine's own table says."""


class Server(http.server.ThreadingHTTPServer):
    """Serves `site` at HOST and `port` (0: any that is free). VtbenchError for what is no site, or a port that is
    taken."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def __init__(self, site: Path, port: int = 0) -> None:
        self.site = site.resolve()
        if not (self.site / MARKER).is_file():
            raise VtbenchError(f"{site} is no page of vtbench (no {MARKER}): make one with leaderboard build")
        if not 0 <= port < 1 << 16:
            raise VtbenchError(f"--port {port}: give 0 (any that is free) to 65535")
        try:
            super().__init__((HOST, port), Handler)
        except OSError as bad:
            if bad.errno in (errno.EADDRINUSE, errno.EACCES):
                raise VtbenchError(
                    f"port {port} is taken, or not this user's ({bad.strerror}): --port 0 takes any"
                ) from bad
            raise

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def until_stopped(self) -> None:
        """Serves until Ctrl-C, which is no failure."""
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever(poll_interval=0.1)
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version = "vtbench"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        host = self.headers.get("Host", "")
        if host.rsplit(":", 1)[0] not in NAMES and host not in NAMES:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, body)
            return
        path = place(self.server.site, self.path)
        try:
            source: Any = None if path is None else open_regular(path)
        except (OSError, VtbenchError, ValueError):
            source = None
        if path is None or source is None:
            self._refuse(HTTPStatus.NOT_FOUND, body)
            return
        with source:
            self.send_response(HTTPStatus.OK)
            self._headers(media_type(path), os.fstat(source.fileno()).st_size)
            if body:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    shutil.copyfileobj(source, self.wfile)

    def _refuse(self, status: HTTPStatus, body: bool) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self._headers("text/plain; charset=utf-8", len(text))
        if body:
            self.wfile.write(text)

    def _headers(self, kind: str, size: int) -> None:
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what a browser asks for is no news."""


def place(site: Path, target: str) -> Path | None:
    """The file of the site that a request's target names; None where it names none, or one outside."""
    text = urllib.parse.unquote(urllib.parse.urlsplit(target).path, errors="surrogateescape")
    parts = text.split("/")[1:] if text.startswith("/") else None
    if parts is None or "\0" in text or "\\" in text or any(part == ".." or part.startswith(".") for part in parts):
        return None
    path = site.joinpath(*[part for part in parts if part])
    if text.endswith("/") or path == site:
        path /= "index.html"
    try:
        whole = path.resolve()
    except (OSError, RuntimeError):
        return None
    return whole if whole.is_relative_to(site) else None


def media_type(path: Path) -> str:
    suffix = posixpath.splitext(path.name)[1].lower()
    kind = TYPES.get(suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_text = kind.startswith("text/") or kind in ("application/json", "application/jsonl", "image/svg+xml")
    return f"{kind}; charset=utf-8" if is_text else kind
