"""Folders as people have them, from the command line: no pair is dropped without a word, and one bad file is one row.
Truth: numpy on the pictures themselves."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import command

import vtbench
from vtbench.results.record import read_run
from vtbench.running import folders


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


def pixels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def folder(name: str, seeds: range) -> Path:
    """Pictures `000.png`, `001.png`, …"""
    Path(name).mkdir(exist_ok=True)
    for k, seed in enumerate(seeds):
        Image.fromarray(pixels(seed)).save(Path(name) / f"{k:03d}.png")
    return Path(name)


def mse(pairs: list[tuple[int, int]]) -> float:
    """The mean over pictures of these seeds."""
    return float(np.mean([((pixels(a).astype(float) - pixels(b)) ** 2).mean() for a, b in pairs]))


def scored() -> tuple[float | None, int]:
    """The mse of `ref` and `cand`, and of how many pictures it is."""
    command("score", "ref", "cand", "--metrics", "mse", "--json-file", "scored.json")
    score = json.loads(Path("scored.json").read_text())["candidates"][0]["scores"]["mse"]
    return score["value"], score["n"]


@pytest.mark.parametrize("end", [".jfif", ".jpe", ".pnm", ".apng", ".JFIF"])
def test_no_pair_is_dropped_for_its_suffix(end: str) -> None:
    for name in (folder("ref", range(3)), folder("cand", range(5, 8))):
        (name / "002.png").rename(name / f"002{end}")
    assert scored() == (pytest.approx(mse([(0, 5), (1, 6), (2, 7)]), rel=1e-12), 3)


def test_what_is_left_out_is_said_in_every_place() -> None:
    for name in (folder("ref", range(2)), folder("cand", range(2))):
        (name / "9.psd").write_bytes(b"8BPS")
    code, out, err = command("score", "ref", "cand", "--metrics", "mse", "--json-file", "x.json")
    assert (code, "n=2" in out) == (0, True)
    notes = json.loads(Path("x.json").read_text())["notes"]
    assert [note.partition(": ")[0] for note in notes] == ["ref", "cand"]
    assert all(f"vtbench: {note}" in err.splitlines() for note in notes)
    assert list(folders.score(Path("ref"), [Path("cand")], ["mse"]).notes) == notes
    code, out, _ = command("evaluate", "png", "--images", "ref", "--view", "native", "--task", "compression")
    assert code == 0
    assert out.count("left out, though they are or may hold pictures: 1 .psd, such as 9.psd") == 1
    (path,) = Path("out").glob("png*")
    assert read_run(path).info.suite.left_out == {".psd": 1}
    assert len(read_run(path).info.suite.notes) == 1
    run = vtbench.evaluate("folder:cand", images="ref", view="native", tasks=["reconstruction"], out="o2").runs[0]
    assert [note.startswith("cand: ") for note in run.info.suite.notes] == [False, True]
    code, out, _ = command("explain", "folder:cand", "--images", "ref", "--claim", "mse=0")
    assert (code, out.count("1 .psd")) == (0, 2)


def test_an_ordinary_record_has_no_word_of_it() -> None:
    run = vtbench.evaluate("png", images=folder("ref", range(2)), view="native", tasks=["compression"], out="o").runs[0]
    stated = json.loads((run.path / "run.json").read_text())["suite"]
    assert set(stated) == {"name", "hash", "n", "version", "spec"}


def test_a_pair_of_which_one_side_is_left_out_is_refused_with_the_reason() -> None:
    folder("ref", range(2))
    folder("cand", range(2))
    Path("ref/001.png").rename("ref/001.psd")
    code, _, err = command("score", "ref", "cand", "--metrics", "mse")
    assert code == 2
    assert "1 in cand without an original: 001.png" in err
    assert "1 .psd, such as 001.psd" in err


def test_names_of_macos_pair() -> None:
    for name, form, first in (("ref", "NFC", 0), ("cand", "NFD", 1)):
        for seed, word in enumerate(("café", "パフェ"), first):
            Path(name).mkdir(exist_ok=True)
            Image.fromarray(pixels(seed)).save(f"{name}/{unicodedata.normalize(form, word)}.png")
    assert scored() == (pytest.approx(mse([(0, 1), (1, 2)]), rel=1e-12), 2)


def dangling(path: Path) -> None:
    path.symlink_to("/nowhere/blob")


def to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("sides", [("ref",), ("cand",), ("ref", "cand")])
@pytest.mark.parametrize("spoil", [dangling, to_itself, empty])
def test_one_unreadable_file_is_one_row(sides: tuple[str, ...], spoil: Any) -> None:
    """Scored on the others, named, exit code 1; and no word of writing, where nothing was written."""
    folder("ref", range(3))
    folder("cand", range(5, 8))
    for name in sides:
        (Path(name) / "001.png").unlink()
        spoil(Path(name) / "001.png")
    assert scored() == (pytest.approx(mse([(0, 5), (2, 7)]), rel=1e-12), 2)
    code, out, err = command("score", "ref", "cand", "--metrics", "mse")
    assert code == 1
    assert "001.png" in err
    assert "could not be written" not in out + err


def test_a_dangling_link_is_one_row_of_a_run() -> None:
    folder("imgs", range(2))
    dangling(Path("imgs/zz.png"))
    code, out, err = command("evaluate", "png", "--images", "imgs", "--view", "native", "--task", "compression")
    assert code == 1
    assert "could not be written" not in out + err
    (path,) = Path("out").glob("png*")
    assert [row.item for row in read_run(path).rows() if row.failed] == ["zz.png"]
    assert read_run(path).info.status == "incomplete"
    assert len(list(read_run(path).rows())) == 3


def test_a_failed_access_says_what_failed_and_not_that_it_was_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from vtbench.results.files import trouble

    assert str(trouble(PermissionError(errno.EACCES, "Permission denied", "a.png"))).startswith(
        "a.png cannot be read (Permission denied)"
    )
    assert "the disk is full" in str(trouble(OSError(errno.ENOSPC, "No space left", "a")))
