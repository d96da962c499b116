"""`score --set` that is killed goes on where it was: features of finished batches are kept, and compared by content."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_features
from PIL import Image

from vtbench.results import cache_files
from vtbench.running import sets

posix = pytest.mark.skipif(os.name != "posix", reason="a process is forked and killed")


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("metric")
    tiny_features.counting(folder, tiny_features.KILLED, tag="keptset", dim=4)
    return f"{folder / 'metrics_of_keptset.py'}@keptset-kid"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """70 originals and 70 candidates: three batches each; one of either cannot be read."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTBENCH_TEST_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("VTBENCH_TEST_LAST", "1000")
    for name, seed in (("real", 0), ("drawn", 1)):
        (tmp_path / name).mkdir()
        for k, rgb in enumerate(np.random.default_rng(seed).integers(0, 256, (70, 16, 16, 3), np.uint8)):
            Image.fromarray(rgb).save(tmp_path / name / f"{k:03d}.png")
        (tmp_path / name / "040.png").write_bytes(b"no picture")
    return tmp_path / "real", tmp_path / "drawn"


def score(folders: tuple[Path, Path], metric: str) -> Any:
    """The metric's score, whole, and what could not be read."""
    scored = sets.score(folders[0], [folders[1]], [metric])
    (found,) = scored.candidates[0].scores
    return found.as_dict(), scored.bad


def killed(folders: tuple[Path, Path], metric: str, after: int) -> None:
    """The command in a process of its own, killed when the network is asked once more than `after` times."""
    pid = os.fork()
    if pid == 0:
        os.environ["VTBENCH_TEST_LAST"] = str(after)
        try:
            score(folders, metric)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert len(tiny_features.calls(folders[0].parent)) == after + 1


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_what_was_finished_is_not_made_again(after: int, folders: tuple[Path, Path], metric: str) -> None:
    wanted = score(folders, metric)
    whole = tiny_features.calls(folders[0].parent)
    assert sorted(whole) == [6, 6, 31, 31, 32, 32]
    kept = folders[0].with_name("cache") / cache_files.IN_WORK
    assert not [*kept.iterdir()], "a command that is through leaves nothing"
    killed(folders, metric, after)
    assert [*kept.iterdir()]
    assert score(folders, metric) == wanted
    # The last batch of a set is not a whole one, and made again.
    again = tiny_features.calls(folders[0].parent)
    assert len(again) == len(whole) - after + (after > 2)
    assert not [*kept.iterdir()]


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("what", ["pixels", "features", "rows", "a line"])
def test_what_changed_meanwhile_is_made_again(what: str, folders: tuple[Path, Path], metric: str) -> None:
    killed(folders, metric, 2)
    kept = folders[0].with_name("cache") / cache_files.IN_WORK
    if what == "pixels":
        path = folders[0] / "033.png"
        times = path.stat()
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif what == "features":
        (path,) = kept.glob("*/set/features/*.f32")
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    else:
        (path,) = (p for p in kept.glob("*/set/rows.jsonl") if p.stat().st_size)
        text = path.read_bytes()
        path.write_bytes(text[:-20] if what == "rows" else text.replace(b'{"item"', bytes(7), 1))
    found = score(folders, metric)
    again = tiny_features.calls(folders[0].parent)
    assert len(again) == {"pixels": 5, "features": 6, "rows": 5, "a line": 6}[what]
    assert found == score(folders, metric)


def test_an_unwritable_cache_and_another_command_cost_nothing(
    folders: tuple[Path, Path], metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = score(folders, metric)
    # A set beside itself is one folder twice.
    assert (
        sets.score(folders[0], [folders[1], folders[1]], [metric]).candidates[1].scores[0].value == wanted[0]["value"]
    )
    below = folders[0].with_name("file")
    below.write_text("no folder")
    monkeypatch.setenv("VTBENCH_CACHE", str(below / "cache"))
    assert score(folders, metric) == wanted


def test_the_cache_lists_it_and_prune_leaves_what_grows(folders: tuple[Path, Path]) -> None:
    file = folders[0].with_name("cache") / cache_files.IN_WORK / "0123" / "rows.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("{}\n")
    assert next(p for p in cache_files.parts() if p.name == cache_files.IN_WORK).files == 1
    assert cache_files.prune(everything=True).files == 0
    os.utime(file, (1, 1))
    assert cache_files.prune(everything=True).files == 1
