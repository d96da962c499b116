"""Downloads of weights from a server on this machine: whole, resumed, and by servers that mean no good."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import CONTENT, SHA256, Server
from support import command

from vtbench.images import web
from vtbench.models import downloads, files, licences
from vtbench.types.cards import Card, Fixed, Weights
from vtbench.types.errors import Unavailable, VtbenchError


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


def left_in(folder: Path) -> list[str]:
    """Names of the files of a folder, but for the empty ones of locks."""
    return [p.name for p in folder.iterdir() if p.suffix != ".lock"]


def test_whole_and_in_parts(server: Server) -> None:
    path = fetch(server.url("plain"))
    assert path.read_bytes() == CONTENT
    assert left_in(path.parent) == ["model.pt"]
    for way, kept in (("again", 5000), ("norange", 5000), ("done", len(CONTENT))):
        place = files.place_in_cache(Weights(file="model.pt", url=server.url(way)))
        place.parent.mkdir(parents=True)
        place.with_name("model.pt.part").write_bytes(CONTENT[:kept])
        assert fetch(server.url(way)).read_bytes() == CONTENT, way
        assert server.ranges[-1] == f"bytes={kept}-"


def test_another_file_is_deleted(server: Server) -> None:
    with pytest.raises(VtbenchError, match="the file was deleted"):
        fetch(server.url("plain"), "0" * 64)
    assert left_in(files.place_in_cache(Weights(file="model.pt", url=server.url("plain"))).parent) == []


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
    monkeypatch.setattr(downloads, "STALL", 0.3)
    monkeypatch.setattr(downloads, "LARGEST", 1 << 20)
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


RESTRICTING = (
    "Adobe Research License (non-commercial)",
    "Apple ML Research Model licence (research only)",
    "Chameleon Research License",
    "CC-BY-NC-4.0",
    "CC BY-NC-SA 4.0, with the S-Lab licence",
    "Instella_T2I_1B, research-only RAIL-MS",
)
PLAIN = ("MIT", "Apache-2.0 (the hub's model card; the code states none)", "OpenRAIL++-M", None)


def licensed(licence: str | None, url: str) -> Path:
    card = Card("m", "m", "discrete", "M", sizes=Fixed(256), aliases=("em",), licence=licence)
    return files.download(card, Weights(file="model.pt", url=url, sha256=SHA256))


@pytest.mark.parametrize("licence", RESTRICTING)
def test_a_licence_that_restricts_wants_a_word_before_anything_is_asked(
    server: Server, licence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VtbenchError, match="--accept-licence m "):
        licensed(licence, server.url("plain"))
    monkeypatch.setenv(licences.VARIABLE, "another")
    with pytest.raises(VtbenchError, match="--accept-licence m "):
        licensed(licence, server.url("plain"))
    assert server.ranges == []
    monkeypatch.setenv(licences.VARIABLE, "another, em")
    path = licensed(licence, server.url("plain"))
    assert licence in capsys.readouterr().err
    # What is here is no download.
    monkeypatch.delenv(licences.VARIABLE)
    assert licensed(licence, server.url("plain")) == path
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("licence", PLAIN)
def test_any_other_licence_is_said_once(
    server: Server, licence: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    licensed(licence, server.url("plain"))
    assert (licence or "not known here") in capsys.readouterr().err
    licensed(licence, server.url("plain"))
    assert capsys.readouterr().err == ""


def test_the_command_takes_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    monkeypatch.setenv(licences.VARIABLE, "")
    words = ("evaluate", "anole-7b-v0.1-vqgan", "--images", "starter-natural", "--accept-licence")
    assert "did you mean" in command(*words, "anole-7b-v0.1-vqgn")[2]
    assert "VTBENCH_OFFLINE forbids" in command(*words, "anole-7b-v0.1-vqgan")[2]
