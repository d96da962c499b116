"""Files that this process cannot open, and memory that it does not get: no image is said to be bad because of them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import BAD_ADAPTERS, command, cuts, evaluate, python, stable

from vtbench.images import identity, reading
from vtbench.images.opening import open_set, open_suite
from vtbench.images.pairing import size_of
from vtbench.images.stream import batches, read_original, source_of
from vtbench.images.views import View
from vtbench.types import shortage
from vtbench.types.foreign import reading as reading_of
from vtbench.types.shortage import Short

resource = pytest.importorskip("resource", reason="NOT TESTED: this system has no limits of open files")
VIEW = View.parse("native")


@contextlib.contextmanager
def no_more_files() -> Iterator[int]:
    """As under `ulimit -n` with all that it allows in use; yields the limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    limit = max(map(int, os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield limit
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def folder(place: Path) -> str:
    return str(cuts(place / "images", 3))


def tar(place: Path) -> str:
    with tarfile.open(place / "x.tar", "w") as archive:
        archive.add(cuts(place / "images", 3), arcname=".")
    return str(place / "x.tar")


def zip_(place: Path) -> str:
    with zipfile.ZipFile(place / "x.zip", "w") as archive:
        for path in sorted(cuts(place / "images", 3).iterdir()):
            archive.write(path, path.name)
    return str(place / "x.zip")


def manifest(place: Path) -> str:
    lines: list[dict[str, Any]] = [{"suite": "mine", "version": "1"}]
    for path in sorted(cuts(place / "images", 3).iterdir()):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append({"item": path.stem, "file": f"images/{path.name}", "sha256_file": sha256})
    (place / "x.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(place / "x.jsonl")


def questions(place: Path) -> str:
    names = sorted(path.name for path in cuts(place / "images", 3).iterdir())
    entries = [{"id": n, "image": f"images/{n}", "question": "What is it?", "answers": ["it"]} for n in names]
    (place / "x.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return str(place / "x.jsonl")


def rows(place: Path) -> str:
    datasets = pytest.importorskip("datasets", reason="NOT TESTED: datasets is not installed")
    paths = [str(path) for path in sorted(cuts(place / "saved" / "images", 3).iterdir())]
    rows = datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image(decode=False))
    rows.save_to_disk(str(place / "saved"))
    return str(place / "saved")


SUITES = (folder, tar, zip_, manifest, questions)


@pytest.fixture(autouse=True)
def no_memory_of_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("make", SUITES)
def test_no_image_is_bad_since_this_process_has_too_many_files_open(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    suite = open_suite(make(tmp_path))
    item = suite.items[0]
    good = read_original(suite, VIEW, item)
    assert good.rgb is not None
    with no_more_files() as limit:
        with pytest.raises(Short) as short:
            read_original(suite, VIEW, item)
        with pytest.raises(Short):
            list(batches([source_of(suite, VIEW)], suite.items, 2))
        with pytest.raises(Short):
            list(suite.contents())
    assert f"this process may have no more than {limit} files open: raise that by ulimit -n" in str(short.value)
    assert f"({item.id} was being read; what is finished is kept, and the same command goes on)" in str(short.value)
    assert read_original(suite, VIEW, item).sha256 == good.sha256
    assert identity.UNREADABLE not in list(suite.contents())


@pytest.mark.parametrize("make", [*SUITES, rows])
def test_nothing_opens_as_less_than_it_holds(make: Callable[[Path], str], tmp_path: Path) -> None:
    spec = make(tmp_path)
    whole = open_suite(spec)
    with no_more_files(), pytest.raises(Short):
        open_suite(spec)
    assert [item.id for item in open_suite(spec).items] == [item.id for item in whole.items]


def test_what_was_left_out_is_said_or_nothing_opens(tmp_path: Path) -> None:
    """A file that is no image by its name is looked at, to say that it was left out."""
    for path in sorted(cuts(tmp_path / "images", 3).iterdir())[1:]:
        path.rename(path.with_suffix(""))
    assert open_suite(str(tmp_path / "images")).left_out == {"without a suffix": 2}
    listed = os.scandir

    class Listed:
        """The folder, listed before the last file is opened."""

        def __init__(self, place: Any) -> None:
            with listed(place) as entries:
                self.entries = list(entries)
            full.enter_context(no_more_files())

        def __enter__(self) -> Any:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            self.entries = []

    with contextlib.ExitStack() as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", Listed)
        with pytest.raises(Short):
            open_suite(str(tmp_path / "images"))


def test_sizes_and_arrays(tmp_path: Path) -> None:
    suite = open_suite(folder(tmp_path))
    np.savez(tmp_path / "x.npz", np.zeros((3, 8, 8, 3), np.uint8))
    images = open_set(tmp_path / "x.npz")
    assert size_of(suite, suite.items[0]) == (64, 64)
    with no_more_files():
        with pytest.raises(Short):
            size_of(suite, suite.items[0])
        with pytest.raises(Short):
            list(images.read())
        with pytest.raises(Short):
            open_set(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENFILE, "the system may have no more files open"),
        (errno.ENOMEM, "this process gets no more memory"),
        (errno.ENOSPC, "the disk is full: free space"),
        (errno.EDQUOT, "the disk quota is used up: free space"),
    ],
)
def test_each_lack_is_named(number: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = open_suite(folder(tmp_path))

    def fail(*_: Any) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("vtbench.images.suite.read_regular", fail)
    with pytest.raises(Short, match=sentence):
        read_original(suite, VIEW, suite.items[0])
    with pytest.raises(Short, match=sentence), reading_of("file", "a thing"):
        fail()
    number = errno.EIO
    assert "00.png cannot be read" in (read_original(suite, VIEW, suite.items[0]).why or "")


def test_memory_that_is_refused_is_the_files_fault_only_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = open_suite(folder(tmp_path))
    refused: list[int] = []
    turns = 0
    decode = reading._stored

    def stored(data: bytes, name: str) -> Any:
        refused.append(1)
        if len(refused) <= turns:
            raise MemoryError
        return decode(data, name)

    monkeypatch.setattr(reading, "_stored", stored)
    turns = 1
    # Another had the memory at that moment.
    assert read_original(suite, VIEW, suite.items[0]).rgb is not None
    refused.clear()
    turns = 9
    why = read_original(suite, VIEW, suite.items[0]).why or ""
    assert "00.png cannot be read as an image (MemoryError" in why
    monkeypatch.setattr(shortage, "ROOM", 1 << 62)
    with pytest.raises(Short, match="this process gets no more memory"):
        read_original(suite, VIEW, suite.items[0])


def test_it_comes_through_a_pipe_as_what_it_is() -> None:
    bad = pickle.loads(pickle.dumps(Short("nothing is left")))
    assert (type(bad), str(bad), bad.code) == (Short, "nothing is left", 1)


EVALUATE = """
import os, resource, sys
import vtbench
images, out, adapters = sys.argv[1:]
taken = []


def take(model, task, done, total):
    # The first batch is kept: from now on no file can be opened.
    if task == "compression" and done and not taken:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, hard))
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass


try:
    vtbench.evaluate([f"{adapters}@right", f"{adapters}@slow"], images=images, view="native", tasks=["compression"],
                     out=out, batch_size=2, progress=take)
except vtbench.VtbenchError as bad:
    for handle in taken:
        os.close(handle)
    print(type(bad).__name__, bad.code, bad)
"""


def test_a_run_ends_in_one_sentence_and_the_same_command_goes_on(tmp_path: Path) -> None:
    images = cuts(tmp_path / "images", 12)
    said = python(EVALUATE, images, tmp_path / "out", BAD_ADAPTERS)
    assert said.startswith("Short 1 this process may have no more than ")
    assert said.count("\n") == 1
    (path,) = (tmp_path / "out").glob("right*")
    begun = stable(path)
    assert 0 < len(begun) < 12
    assert not any("*" in row["why"] for row in begun)
    (run,) = evaluate("right", images, tmp_path / "out", batch_size=2).runs
    assert run.path == path
    assert stable(path) == stable(evaluate("right", images, tmp_path / "whole", batch_size=2).runs[0].path)


METRIC = """
import errno
from vtbench import ImageMetric, MetricCard


class Lacks(ImageMetric):
    card = MetricCard("lacks-in-WHERE", "Lacks", 1, "", "lower", "test")

    def load(self, device):
        if "WHERE" == "load":
            raise OSError(errno.EMFILE, "Too many open files")

    def measure(self, batch):
        raise OSError(errno.EMFILE, "Too many open files")


METRICS = (Lacks,)
"""


@pytest.mark.parametrize("where", ["load", "measure"])
def test_a_metric_that_can_open_no_file_ends_the_command_too(where: str, tmp_path: Path) -> None:
    """Not a number that is missing for a reason that is none of the metric's."""
    (tmp_path / "lacks.py").write_text(METRIC.replace("WHERE", where))
    images = folder(tmp_path)
    code, out, err = command("score", images, images, "--metrics", f"psnr,{tmp_path / 'lacks.py'}@lacks-in-{where}")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("vtbench: this process may have no more than")


@pytest.mark.parametrize(("number", "code"), [(errno.EMFILE, 1), (errno.ENOENT, 2)])
def test_a_compiled_module_that_cannot_be_opened_is_no_fault_of_ours(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb() -> None:
        raise ImportError(f"libtorch.so: cannot open shared object file: {os.strerror(number)}")

    monkeypatch.setattr(sys.modules["vtbench.cli.main"], "app", verb)
    found, _, err = command()
    assert found == code
    assert ("this process may have no more than" in err) == (code == 1)
