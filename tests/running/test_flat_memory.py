"""What is held for every image of 50,000 is counted: a few dozen bytes and its name, never its row."""

from __future__ import annotations

import gc
import itertools
import json
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vtbench.cli.main import app
from vtbench.explaining import runs as explained
from vtbench.explaining.columns import Column
from vtbench.images import pairing
from vtbench.images.folders import FolderSuite
from vtbench.images.prompts import open_prompts
from vtbench.models.load import load
from vtbench.reporting import compare as comparison
from vtbench.reporting import image_values
from vtbench.reporting.image_values import ImageValues, RowValues
from vtbench.reporting.reading import read_runs
from vtbench.results import spill, stores
from vtbench.results.drawings import SAMPLES, Samples, read_samples
from vtbench.running.draw import Order, draw, read_drawing
from vtbench.running.drawn import Drawn
from vtbench.running.folders import Scored
from vtbench.scoring.scores import tally
from vtbench.statistics.paired import paired
from vtbench.types.anew import From
from vtbench.types.item import Item

IMAGES = 4000


def held(make: Callable[[], Any]) -> float:
    """Bytes an image that are in use while the result is."""
    gc.collect()
    tracemalloc.start()
    result = make()
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return used / IMAGES


def rows() -> Iterator[dict[str, Any]]:
    values = {f"metric-{k}": k + 0.1 for k in range(8)}
    for k in range(IMAGES):
        yield {
            "item": f"n01440764/ILSVRC2012_val_{k:08d}.JPEG",
            "values": {name: value + k for name, value in values.items()},
            "weights": {},
            "why": {},
            "size": [256, 256],
            "sha256": f"{k:064x}",
            "seconds": {"encode": k + 0.5, "decode": k + 0.25},
            "cost": {"nfe": 2.0},
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of the same images."""
    folder = tmp_path_factory.mktemp("pair")
    out = [made_runs.write(folder / name, name=name) for name in ("one", "two")]
    for path in out:
        (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return out[0], out[1]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two images, whose lines say that there are many."""
    out = tmp_path_factory.mktemp("drawn") / "out"
    draw(load("ngram-kmeans", {"size": "8"}), Order(open_prompts("classes:2"), 1), out)
    line = json.loads((out / SAMPLES).read_text().splitlines()[0])
    lines = ({**line, "id": f"class-0000/{k:05d}", "sample": k, "seed": k} for k in range(IMAGES))
    (out / SAMPLES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def test_what_the_rows_hold(pair: tuple[Path, Path]) -> None:
    """Of ten numbers, with the list of the rows that were scored and the list of their sizes."""
    names = [f"metric-{k}" for k in range(8)]
    seen = tally(rows(), names)
    assert (len(seen.good), seen.sizes[0], len(seen.counts["nfe"])) == (IMAGES, (256, 256), IMAGES)
    assert held(lambda: tally(rows(), names)) < 8 * 17 + 64


def test_sizes_of_pairs_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken on the way, beside the names and the pairs themselves."""
    items = [Item(f"{k:08d}.png", f"{k:08d}.png") for k in range(IMAGES)]
    one, two = (FolderSuite(name, Path(name), items) for name in ("one", "two"))
    monkeypatch.setattr(pairing, "size_of", lambda suite, item: (8, 8))
    gc.collect()
    tracemalloc.start()
    pairs = pairing.check_pairs(one, two, "two")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == IMAGES
    assert most / IMAGES < 1000


def test_values_of_a_page_and_of_a_comparison(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither names nor numbers: they lie on the disk but for the column that is looked at, 8 bytes an image."""
    monkeypatch.setattr(spill, "IN_MEMORY", 1)
    monkeypatch.setattr(spill, "PORTION", 100)
    monkeypatch.setattr(image_values, "PORTION", 100)
    one, two = read_runs(list(pair))
    first = ImageValues.read(one)
    assert first.column("metric-3").values.tolist() == [k + 3.1 for k in range(IMAGES)]
    assert list(first.items) == [row["item"] for row in rows()]
    for run in (one, two):
        assert held(lambda run=run: ImageValues.read(run)) < 24
    assert held(lambda: first.column("metric-3")) < 12


def test_two_runs_that_are_compared(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held beside the draws: places and the two columns of float64 that are paired, with what is made of them;
    no object an image."""
    monkeypatch.setattr(spill, "IN_MEMORY", 1)
    one, two = read_runs(list(pair))
    known, most = RowValues(), list[float]()
    # Imports, and draws that are kept for the next who asks for the same.
    comparison.compare([one, two], resamples=400, rows=known)

    def noted(a: Any, b: Any, weights_a: Any, weights_b: Any, **more: Any) -> Any:
        most.append(tracemalloc.get_traced_memory()[0] / IMAGES)
        return paired(a, b, weights_a, weights_b, **more)

    monkeypatch.setattr(comparison, "paired", noted)
    compared = held(lambda: comparison.compare([one, two], resamples=400, rows=known))
    assert len(most) == 8
    assert max(most) < 8 * 4 + 8 * 8 + 16
    assert compared < 16


def test_two_runs_that_are_explained(pair: tuple[Path, Path]) -> None:
    whole = explained._pair(*pair, None)
    assert len(whole.shared) == IMAGES
    assert held(lambda: explained._pair(*pair, None)) < 2 * 8 * 25 + 256


def test_values_under_a_choice() -> None:
    def column() -> Column:
        out = Column(IMAGES)
        for k in range(IMAGES):
            out.add(k, k / 3)
        return out

    assert held(column) < 32


def test_drawn_images(drawn: Path) -> None:
    assert list(Samples(drawn)) == list(read_samples(drawn))
    assert Samples(drawn)[7:9] == list(itertools.islice(read_samples(drawn), 7, 9))
    assert held(lambda: read_drawing(drawn)) < 32
    # Names, places and prompts are read from the lines when they are asked for.
    assert held(lambda: Drawn(read_drawing(drawn))) < 32
    read = Drawn(read_drawing(drawn))
    lines = list(read_samples(drawn))
    assert [item.id for item in read.items] == [line.id for line in lines]
    assert read.items[7] == list(read.items)[7]
    for k in (0, 1, 5, 3, IMAGES - 1, 0):
        assert read.notes(read.items[k])["seed"] == lines[k].seed
    rest = From(read.items, IMAGES - 3)
    assert (len(rest), list(rest), rest[-1]) == (3, read.items[-3:], read.items[-1])
    assert held(lambda: From(read.items, 2)) < 1


def test_rows_of_folders_are_not_gathered_for_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")

    def gathered(self: Scored) -> dict[str, Any]:
        raise AssertionError("all rows of all candidates at once")

    monkeypatch.setattr(Scored, "as_dict", gathered)
    done = CliRunner().invoke(app, ["score", str(tmp_path / "a"), str(tmp_path / "b"), "--metrics", "mse"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "mse" in done.stdout


def test_a_drawing_that_goes_on_keeps_its_lines_as_they_were(tmp_path: Path) -> None:
    loaded, prompts = load("ngram-kmeans", {"size": "8"}), open_prompts("classes:2")
    draw(loaded, Order(prompts, 2), tmp_path / "out")
    lines = (tmp_path / "out" / SAMPLES).read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / SAMPLES).write_bytes(b"".join(lines[:3]) + lines[3][:9])
    draw(loaded, Order(prompts, 2), tmp_path / "out")
    assert (tmp_path / "out" / SAMPLES).read_bytes().splitlines(keepends=True)[:3] == lines[:3]


def test_features_without_some_rows_are_the_same_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).random((9000, 3), np.float32)
    rows = array("q", [k for k in range(9000) if k % 7])
    here = stores.records_at(features, rows)
    monkeypatch.setattr(stores, "IN_MEMORY", 0)
    there = stores.records_at(features, rows)
    assert isinstance(there, np.memmap)
    assert there.dtype == here.dtype == np.float32
    assert np.array_equal(here, features[list(rows)])
    assert np.array_equal(there, here)
