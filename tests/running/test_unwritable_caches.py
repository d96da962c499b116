"""A cache that cannot be written costs time, what is damaged in it is made anew: no number depends on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_features
from support import command, cuts

from vtbench.images import identity
from vtbench.images.opening import open_suite
from vtbench.metrics import ocr
from vtbench.models import files
from vtbench.models.downloads import fetch_file
from vtbench.results.cache_files import prune, read_checked, write_cache, write_checked
from vtbench.results.record import read_run
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError


def below_a_file(cache: Path, patch: pytest.MonkeyPatch) -> Path:
    cache.write_text("no folder")
    return cache / "below"


def in_a_link_to_nowhere(cache: Path, patch: pytest.MonkeyPatch) -> Path:
    cache.symlink_to(cache.with_name("gone") / "further")
    return cache


def failing(number: int, what: str) -> Callable[[Path, pytest.MonkeyPatch], Path]:
    """A cache below which a call of the system fails: as where the disk is full, or mounted to be read."""

    def made(cache: Path, patch: pytest.MonkeyPatch) -> Path:
        real = getattr(os, what)

        def refuse(*words: Any, **more: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{words[0]}") if isinstance(words[0], int) else os.fspath(words[0])
            if str(path).startswith(str(cache)):
                raise OSError(number, os.strerror(number), path)
            return real(*words, **more)

        patch.setattr(os, what, refuse)
        return cache

    return made


CACHES: dict[str, Callable[[Path, pytest.MonkeyPatch], Path]] = {
    "below a file": below_a_file,
    "a dangling link": in_a_link_to_nowhere,
    "full": failing(errno.ENOSPC, "fsync"),
    "over quota at the rename": failing(errno.EDQUOT, "replace"),
    "read-only": failing(errno.EROFS, "open"),
    "no folders": failing(errno.EACCES, "mkdir"),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.task(tmp_path_factory.mktemp("task"), tag="cached")


@pytest.mark.parametrize("kind", CACHES)
def test_a_run_with_features_is_finished(kind: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cuts(tmp_path / "in", 6, ((64, 64),))
    words = ["evaluate", "jpeg", "--images", images, "--view", "native", "--task", task, "--out"]
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "good"))
    code, _, err = command(*words, tmp_path / "wanted")
    assert code == 0, err
    with monkeypatch.context() as patch:
        patch.setenv("VTBENCH_CACHE", str(CACHES[kind](tmp_path / "cache", patch)))
        code, out, err = command(*words, tmp_path / "out")
    assert code == 0, err
    assert "cached-fid" in out
    wanted, run = (read_run(next((tmp_path / name).iterdir())) for name in ("wanted", "out"))
    assert run.info.status == "complete"
    assert {s.metric: s.value for s in run.scores if s.metric.startswith("cached")} == {
        s.metric: s.value for s in wanted.scores if s.metric.startswith("cached")
    }
    litter = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] if kind != "below a file" else []
    assert litter == [], "what could not be finished is removed"


@pytest.mark.parametrize("kind", CACHES)
def test_other_files_of_the_cache(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CACHES[kind](tmp_path / "cache", monkeypatch)
    monkeypatch.setenv("VTBENCH_CACHE", str(cache))
    assert not write_checked(cache / "readings" / "x.json", ["text"])
    assert read_checked(cache / "readings" / "x.json") is None
    # Digests of files are appended.
    assert len(open_suite(str(cuts(tmp_path / "in", 2))).hash) == 64
    weight = Weights(file="model.pt", url="https://example.org/model.pt")
    if kind in ("below a file", "a dangling link", "no folders"):
        with pytest.raises(VtbenchError, match="set VTBENCH_CACHE to another folder"):
            fetch_file(str(weight.url), files.place_in_cache(weight), sha256=None)


class Reader:
    """A reading engine that counts; its text is a fact of the picture."""

    id, calls = "counting-1", 0

    def read(self) -> list[str]:
        self.calls += 1
        return ["a text"]


def damaged(path: Path) -> list[bytes]:
    """The file with every kind of damage that leaves it there."""
    data = path.read_bytes()
    changed = data.replace(b"a text", b"b text")
    assert changed != data
    return [b"", data[:-3], data[:70], changed, b"\0" * len(data), b'["a text"]', b"[" * 100_000, b"\xff" * 100]


def test_readings_carry_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path))
    engine, image = Reader(), np.zeros((4, 4, 3), np.uint8)
    for _ in range(2):
        assert ocr.kept(engine, image, "page", engine.read) == ["a text"]  # type: ignore[arg-type]
    assert engine.calls == 1
    (path,) = (p for p in (tmp_path / "readings").rglob("*") if p.is_file())
    for number, data in enumerate(damaged(path), 2):
        path.write_bytes(data)
        assert ocr.kept(engine, image, "page", engine.read) == ["a text"]  # type: ignore[arg-type]
        assert engine.calls == number, data[:20]
    assert prune(everything=True).files == 1


def test_digests_carry_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One digit of a digest changed on the disk would make the folder another suite for ever."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    images = cuts(tmp_path / "in", 3)
    for path in images.iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(identity, "YOUNG", -1.0)
    wanted = open_suite(str(images)).hash
    (memory,) = (tmp_path / "cache" / "hashes").iterdir()
    lines = memory.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    for place in (5, 40, 99, 105):
        changed = bytearray(lines[0])
        changed[place] = ord("0") if changed[place] != ord("0") else ord("1")
        memory.write_bytes(bytes(changed) + lines[1][:-5] + b"\n" + lines[2])
        assert open_suite(str(images)).hash == wanted
    # What was not taken is written anew behind it, and taken.
    assert len([*identity.Memory(images)._lines()]) == 3


def test_a_file_of_the_cache_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushed before it is renamed; what fails while it is made is raised, and leaves nothing."""
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, name=name, real=real: (calls.append(name), real(*words)))
    assert write_cache(tmp_path / "features" / "x.f32", [b"a", b"b"])
    assert calls == ["fsync", "replace"]
    assert (tmp_path / "features" / "x.f32").read_bytes() == b"ab"

    def torn() -> Any:
        yield b"a"
        raise OSError("the source cannot be read")

    with pytest.raises(OSError, match="the source"):
        write_cache(tmp_path / "features" / "y.f32", torn())
    assert [p.name for p in (tmp_path / "features").iterdir()] == ["x.f32"]
