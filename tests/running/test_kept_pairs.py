"""`score` of folders that is stopped goes on where it was: rows and features of finished batches are kept, for the very
same files, on one side and on the other, in one process and by workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_features
from PIL import Image

from vtbench.errors import VtbenchError
from vtbench.results import cache_files
from vtbench.running import folders, kept_work

posix = pytest.mark.skipif(os.name != "posix", reason="a process is forked and killed")
PICTURES, BATCHES = 42, 6
"""Of which the last is not a whole one."""
CALLS = 3
"""Of the network for a batch: the originals and two candidates."""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("metric")
    tiny_features.counting(folder, tiny_features.KILLED, tag="keptpairs", dim=4)
    return ["psnr", f"{folder / 'metrics_of_keptpairs.py'}@keptpairs-fid"]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Originals and two candidates; the tenth of the second cannot be read."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTBENCH_TEST_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("VTBENCH_TEST_LAST", "1000")
    for seed, name in enumerate(("real", "one", "two")):
        (tmp_path / name).mkdir()
        for k, rgb in enumerate(np.random.default_rng(seed).integers(0, 256, (PICTURES, 16, 16, 3), np.uint8)):
            Image.fromarray(rgb).save(tmp_path / name / f"{k:03d}.png")
    (tmp_path / "two" / "010.png").write_bytes(b"no picture")
    return [tmp_path / name for name in ("real", "one", "two")]


def score(pictures: list[Path], metrics: list[str], **more: Any) -> dict[str, Any]:
    """All of it: scores, rows and what could not be read."""
    return folders.score(pictures[0], pictures[1:], metrics, **more).as_dict()


def kept(pictures: list[Path]) -> list[Path]:
    return [*(pictures[0].with_name("cache") / cache_files.IN_WORK).glob("*")]


def calls(pictures: list[Path]) -> int:
    """How often the network was asked since this was last looked at."""
    return len(tiny_features.calls(pictures[0].parent))


def killed(pictures: list[Path], metrics: list[str], after: int) -> None:
    """The command in a process of its own, killed when the network is asked once more than `after` times."""
    pid = os.fork()
    if pid == 0:
        os.environ["VTBENCH_TEST_LAST"] = str(after)
        try:
            score(pictures, metrics)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert calls(pictures) == after + 1


def stopped(pictures: list[Path], metrics: list[str], after: int, **more: Any) -> None:
    """The command ended by Ctrl-C after so many images."""

    def stop(done: int, _: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(pictures, metrics, progress=stop, **more)
    calls(pictures)


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("after", [0, 2, 3, 4, 10, 16])
def test_what_was_finished_is_not_made_again(after: int, pictures: list[Path], metrics: list[str]) -> None:
    wanted = score(pictures, metrics)
    assert calls(pictures) == CALLS * BATCHES
    assert [*wanted["bad"]] == ["010.png"]
    assert not kept(pictures), "a command that is through leaves nothing"
    killed(pictures, metrics, after)
    assert len(kept(pictures)) == 1
    assert score(pictures, metrics) == wanted
    assert calls(pictures) == CALLS * (BATCHES - after // CALLS)
    assert not kept(pictures)


@pytest.mark.parametrize("side", ["real", "one", "two"])
def test_other_pixels_on_any_side_are_another_question(side: str, pictures: list[Path], metrics: list[str]) -> None:
    stopped(pictures, metrics, 24)
    path = pictures[0].with_name(side) / "003.png"
    times = path.stat()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = score(pictures, metrics)
    assert calls(pictures) == CALLS * BATCHES
    assert found == score(pictures, metrics)


@pytest.mark.parametrize("what", ["features", "reference", "rows", "a line", "folder"])
def test_what_is_damaged_is_made_again(what: str, pictures: list[Path], metrics: list[str]) -> None:
    wanted = score(pictures, metrics)
    stopped(pictures, metrics, 24)
    (place,) = kept(pictures)
    if what == "rows":
        path = place / "1" / "rows.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
    elif what == "a line":
        path = place / "1" / "rows.jsonl"
        path.write_bytes(path.read_bytes().replace(b'{"item"', bytes(7), 1))
    elif what == "folder":
        (place / "1" / "rows.jsonl").unlink()
    else:
        (path,) = (p for p in place.glob("0/features/*.f32") if ("reference" in p.name) == (what == "reference"))
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    calls(pictures)
    assert score(pictures, metrics) == wanted
    assert calls(pictures) == CALLS * {"rows": 4, "a line": 6, "folder": 6, "features": 6, "reference": 6}[what]


def test_what_could_not_be_read_then_is_read_now(
    pictures: list[Path], metrics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that did not answer is no fault of the picture."""
    wanted = score(pictures, metrics)
    whole, names = folders._whole, {"011.png"}

    def unread(sides: Any) -> Any:
        sides = whole(sides)
        if sides[0].item.id not in names:
            return sides
        return (folders.replace(sides[0], rgb=None, why="the disk did not answer"), *sides[1:])

    monkeypatch.setattr(folders, "_whole", unread)
    stopped(pictures, metrics, 24)
    names.clear()
    assert score(pictures, metrics) == wanted
    # From the batch on that holds the picture.
    assert calls(pictures) == CALLS * (BATCHES - 1)


@pytest.mark.parametrize("other", ["metrics", "order", "candidates", "icc"])
def test_another_question_begins_anew(other: str, pictures: list[Path], metrics: list[str]) -> None:
    stopped(pictures, metrics, 24)
    asked: dict[str, Any] = {"pictures": pictures, "metrics": metrics}
    asked |= {
        "metrics": {"metrics": metrics[1:]},
        "order": {"metrics": metrics[::-1]},
        "candidates": {"pictures": [pictures[0], pictures[2], pictures[1]]},
        "icc": {"icc": "srgb"},
    }[other]
    assert score(**asked)["bad"]
    assert calls(pictures) == CALLS * BATCHES


def test_two_commands_and_an_unwritable_cache_cost_nothing(
    pictures: list[Path], metrics: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = score(pictures, metrics)
    stopped(pictures, metrics, 24)
    (place,) = kept(pictures)
    with kept_work.held(place, ["1"], tmp_path / "scratch"):
        calls(pictures)
        assert score(pictures, metrics) == wanted
        assert calls(pictures) == CALLS * BATCHES
    below = tmp_path / "file"
    below.write_text("no folder")
    monkeypatch.setenv("VTBENCH_CACHE", str(below / "cache"))
    assert score(pictures, metrics) == wanted


def test_a_metric_that_raises_keeps_what_was_finished(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "raising.py"
    file.write_text(
        """
import os

from vtbench.types.metric import ImageMetric, MetricCard, Value


class Raising(ImageMetric):
    card = MetricCard("raising", "Raising", 1, "", "lower", "test")

    def measure(self, batch):
        names = [item.id for item in batch.reference.items]
        with open(os.environ["VTBENCH_TEST_CALLS"], "a") as calls:
            calls.write(f"{len(names)} ")
        if os.environ.get("VTBENCH_TEST_RAISES") in names:
            raise RuntimeError("no memory left")
        return [Value(float(name[:3])) for name in names]


METRICS = (Raising,)
"""
    )
    spec = [f"{file}@raising"]
    monkeypatch.setenv("VTBENCH_TEST_RAISES", "030.png")
    with pytest.raises(VtbenchError, match=r"raised RuntimeError on 030\.png"):
        score(pictures, spec)
    monkeypatch.delenv("VTBENCH_TEST_RAISES")
    calls(pictures)
    found = score(pictures, spec)
    # Two candidates' batches from the fourth on.
    assert calls(pictures) == 2 * (BATCHES - 3)
    (first, _) = found["candidates"]
    assert [row["values"].get("raising") for row in first["rows"]] == [None if k == 10 else k for k in range(PICTURES)]
