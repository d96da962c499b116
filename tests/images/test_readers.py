"""Readers as processes: the same pictures, whoever reads; killed, crashed and hanging ones; nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import picture, save

from vtbench.images import ahead, processes
from vtbench.images.opening import open_suite
from vtbench.images.stream import Original, batches, source_of
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

posix = pytest.mark.skipif(os.name != "posix", reason="readers are processes where pipes can be waited for")


@dataclass(frozen=True)
class Acting:
    """A source of one grey level an image and the pid of who read it; on some items it misbehaves, in children only
    where `parent` is the pid of the tests. `marks`: a folder in which a deed is noted, to be done once."""

    parent: int
    marks: str = ""
    deed: str = ""
    on: int = -1

    def __call__(self, item: Item) -> Original:
        if item.place == self.on and os.getpid() != self.parent:
            mark = Path(self.marks, f"{item.place}")
            if self.deed == "hang":
                time.sleep(60)
            if self.deed == "crash" or not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return Original(item, np.full((2, 3, 3), item.place, np.uint8), flags={"pid": os.getpid()})


def items(count: int) -> list[Item]:
    return [Item(f"{k:03d}", k) for k in range(count)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for every reader, from the second image on and whatever the work; and no image before it is there."""
    monkeypatch.setattr(processes, "LOOKED_AT", 1)
    monkeypatch.setattr(processes, "PAYS", 1e-12)
    monkeypatch.setattr(processes.Child, "begin", processes.Child._start)
    monkeypatch.setattr(ahead, "cores", lambda: 4)


def read(source: Any, count: int, *, size: int = 4, threads: int = 2) -> list[Original]:
    return [sides[0] for batch in batches([source], items(count), size, threads=threads) for sides in batch]


def children() -> set[int]:
    """Processes of this one that are alive and read for it."""
    mine = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and b"children import serve" in command:
            mine.add(int(entry.name))
    return mine


@posix
@pytest.mark.usefixtures("at_once")
def test_children_read_what_threads_read_in_order(tmp_path: Path) -> None:
    read_by = read(Acting(os.getpid()), 30)
    assert [o.item.place for o in read_by] == list(range(30))
    assert [int(o.rgb[0, 0, 0]) for o in read_by if o.rgb is not None] == list(range(30))
    assert 1 <= len({o.flags["pid"] for o in read_by} - {os.getpid()}) <= 2
    assert not children()
    # Of files, with hashes and a bad one among them.
    for k in range(9):
        save(tmp_path / f"{k}.png", picture(k, 20, 30 + k % 2))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    suite = open_suite(str(tmp_path))
    source = source_of(suite, View.parse("16"))
    again = Item("pid", "0.png")
    many = [*suite.items, *suite.items, *suite.items, again]
    apart = [sides[0] for batch in batches([source], many, 3) for sides in batch]
    here = [source(item) for item in many]
    assert [(o.item, o.sha256, o.flags, o.why) for o in apart] == [(o.item, o.sha256, o.flags, o.why) for o in here]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(apart, here, strict=True) if a.rgb is not None)


@posix
@pytest.mark.usefixtures("at_once")
def test_a_reader_that_is_killed_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vtbench"):
        originals = read(Acting(os.getpid(), str(tmp_path), "once", 25), 30)
    assert [int(o.rgb[0, 0, 0]) for o in originals if o.rgb is not None] == list(range(30))
    assert ["SIGKILL" in m and "025 is read again" in m for m in caplog.messages] == [True]


@posix
@pytest.mark.usefixtures("at_once")
def test_an_image_that_kills_its_readers_is_a_failed_row(tmp_path: Path) -> None:
    originals = read(Acting(os.getpid(), str(tmp_path), "crash", 25), 30)
    failed = {o.item.id: o.why for o in originals if o.rgb is None}
    assert failed == {"025": "025 cannot be read: 2 processes that read it ended (SIGKILL)"}
    assert len(originals) == 30


@posix
@pytest.mark.usefixtures("at_once")
def test_a_reader_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = batches([Acting(os.getpid(), str(tmp_path), "hang", 25)], items(30), 4, threads=2)
    originals = [*next(reading), *next(reading)]
    # The children are there.
    monkeypatch.setattr(ahead, "PATIENCE", 1.0)
    originals += [sides for batch in reading for sides in batch]
    failed = {o.item.id: o.why for (o,) in originals if o.rgb is None}
    assert failed == {"025": "025 was not read within 1 s: does its disk answer?"}
    assert len(originals) == 30
    assert not children()


@pytest.mark.parametrize("sides", [1, 2])
def test_a_thread_that_hangs_is_given_up(sides: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 0.1)
    stuck = threading.Event()

    def source(item: Item) -> Original:
        if item.place in (1, 2):
            stuck.wait(20)
        return Original(item, np.zeros((2, 2, 3), np.uint8))

    began = time.monotonic()
    rows = [row for batch in batches([source] * sides, items(8), 4, threads=2) for row in batch]
    stuck.set()
    assert time.monotonic() - began < 10
    why = "00{} was not read within 0.1 s: does its disk answer?"
    assert [[o.why for o in row] for row in rows] == [
        [why.format(k) if k in (1, 2) else None] * sides for k in range(8)
    ]


@posix
@pytest.mark.usefixtures("at_once")
def test_readers_that_are_left_end(tmp_path: Path) -> None:
    ahead_of = batches([Acting(os.getpid())], items(500), 4, threads=3)
    end = time.monotonic() + 20
    while len(children()) < 3 and time.monotonic() < end:
        next(ahead_of)
        time.sleep(0.05)
    assert len(children()) == 3
    ahead_of.close()  # type: ignore[attr-defined]
    assert not children()


@pytest.mark.usefixtures("at_once")
def test_what_only_this_process_has_is_read_by_threads() -> None:
    def source(item: Item) -> Original:
        return Original(item, np.zeros((2, 2, 3), np.uint8), flags={"pid": os.getpid()})

    assert {o.flags["pid"] for o in read(source, 30)} == {os.getpid()}


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_where_no_more_threads_may_begin_those_that_are_there_read(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that is allowed few of them."""
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(begun) >= allowed:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    def source(item: Item) -> Original:
        return Original(item, np.full((2, 2, 3), item.place, np.uint8))

    monkeypatch.setattr(threading.Thread, "start", limited)
    if not allowed:
        pool: ahead.Pool[int, int] = ahead.Pool(abs, 50, "none")
        for number in range(2):
            with pytest.raises(VtbenchError, match=r"begin no more threads .* give fewer --readers"):
                pool.begin(number)
        return
    originals = read(source, 60, threads=50)
    assert [int(o.rgb[0, 0, 0]) for o in originals if o.rgb is not None] == list(range(60))


@posix
def test_a_reader_that_no_thread_starts_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOOKED_AT", 1)
    monkeypatch.setattr(processes, "PAYS", 1e-12)
    monkeypatch.setattr(ahead, "cores", lambda: 4)
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "child-start":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert {o.flags["pid"] for o in read(Acting(os.getpid()), 30)} == {os.getpid()}


def test_small_runs_start_no_process() -> None:
    assert {o.flags["pid"] for o in read(Acting(os.getpid()), 24)} == {os.getpid()}


@pytest.mark.parametrize(
    ("cores", "variable", "ranks", "count"),
    [
        (1, "", "", 2),
        (2, "", "", 2),
        (8, "", "", 7),
        (64, "", "", 16),
        (8, "3", "", 3),
        (2, " 40 ", "8", 40),
        (64, "", "8", 7),
        (8, "", "8", 2),
        (8, "", "0", 7),
        (8, "", "many", 7),
    ],
)
def test_readers_follow_the_machine(
    cores: int, variable: str, ranks: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "cores", lambda: cores)
    monkeypatch.setenv(ahead.VARIABLE, variable)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert ahead.readers() == count


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1025", "9" * 30, "²"])
def test_a_number_of_readers_that_means_nothing_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ahead.VARIABLE, text)
    with pytest.raises(VtbenchError, match=r"give the number of images that are read at a time, 1 to 1024"):
        ahead.readers()


@pytest.mark.parametrize(("images", "children"), [(1000, 0), (2000, 1), (5000, 2)])
def test_a_thousand_small_images_are_read_by_threads(
    images: int, children: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 3 ms an image, as PNG files of 256 px take: children began to pay at some two thousand."""
    monkeypatch.setattr(ahead, "cores", lambda: 2)
    reading: processes.Processes[int, int] = processes.Processes(abs, max, images, 2)
    reading._seconds, reading._seen = 0.036, 12
    reading._decide()
    assert reading._most == children
