"""The local server: one site's files, for this machine alone, and nothing else of the disk."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, command

from vtbench.publishing.server import HOST, Server, place
from vtbench.results.sites import MARKER
from vtbench.types.errors import VtbenchError


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serve")
    # As a build leaves it, whose pages all begin like this one.
    shutil.copytree(ROOT / "leaderboard" / "assets", root / "site" / "assets")
    shutil.copy(ROOT / "leaderboard" / "templates" / "base.html.j2", root / "site" / "index.html")
    (root / "site" / MARKER).write_text('{"vtbench": "site"}')
    (root / "secret.txt").write_text("the secret")
    (root / "site-2").mkdir()
    (root / "site-2" / "secret.txt").write_text("the secret")
    (root / "site" / "out.txt").symlink_to(root / "secret.txt")
    (root / "site" / ".hidden").write_text("the secret")
    os.mkfifo(root / "site" / "pipe")
    return root / "site"


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    running = Server(site)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def _asked(
    server: Server, target: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=10)
    connection.putrequest(method, target, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{server.server_address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


@pytest.mark.parametrize(
    ("target", "file", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html?x=1#y", "index.html", "text/html; charset=utf-8"),
        ("/assets/site.css", "assets/site.css", "text/css; charset=utf-8"),
        ("/assets/table.js", "assets/table.js", "text/javascript; charset=utf-8"),
        ("/%69ndex.html", "index.html", "text/html; charset=utf-8"),
    ],
)
def test_a_page_and_its_assets(server: Server, target: str, file: str, kind: str) -> None:
    status, headers, body = _asked(server, target)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert body == (server.site / file).read_bytes()
    assert _asked(server, target, "HEAD")[2] == b""


def test_the_policy_is_that_of_the_page(server: Server) -> None:
    """The header holds at least what the page says of itself."""
    _, headers, body = _asked(server, "/")
    stated = re.search(r'Content-Security-Policy" content="([^"]+)"', body.decode())
    assert stated is not None
    policy = set(headers["Content-Security-Policy"].split("; "))
    assert {part.replace("&#39;", "'") for part in stated[1].split("; ")} <= policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/%5c..%5csecret.txt",
        "//etc/passwd",
        "/../site-2/secret.txt",
        "/out.txt",
        "/.hidden",
        "/%00",
        "/index.html%00.txt",
        "/assets",
        "/assets/",
        "/pipe",
        "/no-such-page.html",
        f"/{'a' * 5000}",
        "http://example.org/../secret.txt",
        "secret.txt",
    ],
)
def test_nothing_else_of_the_disk(server: Server, target: str) -> None:
    status, headers, body = _asked(server, target)
    assert status == 404
    assert b"secret" not in body
    assert "Content-Security-Policy" in headers


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "evil:80", "localhost.evil"])
def test_a_request_for_another_host_is_refused(server: Server, host: str) -> None:
    """A page elsewhere whose name is turned to this machine reads nothing (DNS rebinding)."""
    assert _asked(server, "/", host=host)[0] == 421
    assert _asked(server, "/", host=f"localhost:{server.server_address[1]}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(server: Server, method: str) -> None:
    assert _asked(server, "/", method)[0] == 501


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_and_a_folder_that_is_no_site(site: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(VtbenchError, match="--port 0 takes any"):
            Server(site, taken.getsockname()[1])
    for port in (-1, 65536):
        with pytest.raises(VtbenchError, match="give 0"):
            Server(site, port)
    code, _, err = command("leaderboard", "serve", str(tmp_path))
    assert code == 2
    assert "is no page of vtbench" in err


def test_a_path_outside_is_no_path(site: Path) -> None:
    assert place(site, "/index.html") == site / "index.html"
    assert place(site, "/../site/index.html") is None


def test_ctrl_c_ends_it_without_complaint(site: Path) -> None:
    words = [sys.executable, "-m", "vtbench", "leaderboard", "serve", str(site), "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)", line)
        assert match is not None, line
        connection = http.client.HTTPConnection(HOST, int(match[1]), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        try:
            _, complaints = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, complaints) == (0, "")
