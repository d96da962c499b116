"""Metric weights at first use, from a server on this machine that stands for every host of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backbones import random_backbone
from file_server import Server
from PIL import Image
from support import command

from vtbench.images import web
from vtbench.metrics import weights
from vtbench.types.errors import Unavailable

NAME = "squeezenet1.1"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return random_backbone("squeeze", tmp_path_factory.mktemp("backbone")).read_bytes()


@pytest.fixture
def server(backbone: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for variable, folder in (("VTBENCH_CACHE", "cache"), ("TORCH_HOME", "torch"), ("HOME", "home")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setattr(weights, "_failed", {})
    served = Server(backbone)
    released(monkeypatch, served.url("plain"), hashlib.sha256(backbone).hexdigest())
    yield served
    served.close()


def released(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str) -> None:
    monkeypatch.setitem(weights.TABLE, NAME, replace(weights.TABLE[NAME], url=url, sha256=sha256))


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")


SCORE = ("score", "a", "b", "--metrics", "mse,lpips-squeeze")


def test_the_first_use_brings_them_and_the_second_asks_nobody(server: Server, backbone: bytes, pairs: None) -> None:
    code, out, _ = command(*SCORE)
    assert code == 0
    assert "lpips-squeeze" in out
    assert "null" not in out
    place = weights.own_folder() / weights.TABLE[NAME].file
    assert place.read_bytes() == backbone
    assert server.ranges == [None]
    assert command(*SCORE)[1] == out
    assert len(server.ranges) == 1


def test_offline_asks_nobody_and_says_what_brings_them(
    server: Server, pairs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    code, out, _ = command(*SCORE)
    assert code == 0
    assert "lpips-squeeze: null, because" in out
    assert "VTBENCH_OFFLINE forbids the network: `vtbench fetch --metrics` brings it" in out
    assert "curl" not in out
    assert server.ranges == []


def test_a_broken_download_goes_on(server: Server, backbone: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(backbone).hexdigest()
    released(monkeypatch, server.url("cut"), digest)
    with pytest.raises(Unavailable, match="it goes on where it stopped"):
        weights.find(NAME)
    monkeypatch.setattr(weights, "_failed", {})
    released(monkeypatch, server.url("plain"), digest)
    assert weights.find(NAME).read_bytes() == backbone
    first, second = server.ranges
    assert first is None
    # What had come, but for the piece that was under way.
    assert second is not None
    assert len(backbone) // 2 - web.CHUNK <= int(second.removeprefix("bytes=").removesuffix("-")) <= len(backbone) // 2


def test_another_file_is_refused_and_deleted_and_asked_for_once(
    server: Server, pairs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(monkeypatch, server.url("plain"), "0" * 64)
    code, out, _ = command(*SCORE)
    assert code == 0, "the rest of the run goes on"
    assert "lpips-squeeze: null, because" in out
    assert "the file was deleted" in out
    assert [p for p in weights.own_folder().iterdir() if p.suffix != ".lock"] == []
    asked = len(server.ranges)
    with pytest.raises(Unavailable, match="the file was deleted"):
        weights.find(NAME)
    assert len(server.ranges) == asked == 1
    monkeypatch.setattr(weights, "ASKED_AGAIN", 0.0)
    with pytest.raises(Unavailable, match="the file was deleted"):
        weights.find(NAME)
    assert len(server.ranges) == 2


def test_no_server_is_one_reason(server: Server, pairs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server.close()
    released(monkeypatch, "http://127.0.0.1:9/x.pth", "0" * 64)
    code, out, _ = command(*SCORE)
    assert code == 0
    assert "could not be downloaded" in out
    assert "no connection" in out


def test_a_cache_that_cannot_be_written_is_one_reason(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match="cache"):
        weights.find(NAME)


def test_two_at_once_share_one_download(server: Server, backbone: bytes) -> None:
    """A process that holds the lock, and one that waits for it and takes what it brought."""
    place = weights.own_folder() / weights.TABLE[NAME].file
    place.parent.mkdir(parents=True)
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); "
            "sys.stdin.read(); open(sys.argv[2], 'wb').write(open(sys.argv[3], 'rb').read())",
            str(place.with_name(place.name + ".lock")),
            str(place),
            str(place.parent / "brought"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    (place.parent / "brought").write_bytes(backbone)
    assert other.stdout is not None
    assert other.stdin is not None
    other.stdout.readline()
    answers: list[Path] = []
    waiting = threading.Thread(target=lambda: answers.append(weights.find(NAME)))
    waiting.start()
    waiting.join(0.3)
    assert not answers, "it did not wait"
    other.stdin.close()
    other.wait(20)
    waiting.join(20)
    assert answers == [place]
    assert server.ranges == []


@pytest.fixture
def one_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all networks that come by themselves, the server's alone."""
    for name, one in list(weights.TABLE.items()):
        if name != NAME and one.comes_by_itself:
            monkeypatch.delitem(weights.TABLE, name)


def test_fetch_brings_them_ahead_of_time(
    server: Server, one_network: None, pairs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command("fetch", "--metrics", "kmeans-vq", "jpeg", "--json")
    assert code == 0
    answered = json.loads(out)
    assert {*answered["here"]} == {NAME, "kmeans-vq"}
    assert Path(answered["here"][NAME]).is_file()
    asked = len(server.ranges)
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    assert "null" not in command(*SCORE)[1]
    assert len(server.ranges) == asked == 1


def test_fetch_says_what_failed_and_brings_the_rest(
    server: Server, one_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(monkeypatch, server.url("plain"), "0" * 64)
    code, out, err = command("fetch", "--metrics", "kmeans-vq")
    assert code == 1
    assert "1 here, 1 failed" in out
    assert "the file was deleted" in err


@pytest.mark.parametrize(
    ("words", "offline", "said"),
    [
        ((), False, "nothing was asked for"),
        (("kmeans-vq",), True, "VTBENCH_OFFLINE forbids the network"),
        (("kmeans-vq", "no-such-model"), False, "no-such-model"),
        (("llamagen",), False, "llamagen-vq-ds16-c2i"),
    ],
)
def test_fetch_refuses_before_it_asks_anybody(
    server: Server, words: tuple[str, ...], offline: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    code, _, err = command("fetch", *words)
    assert code == 2
    assert said in err
    assert server.ranges == []
