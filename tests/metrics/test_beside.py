"""Metrics in processes beside this one: the same bits, one image's loss where a process dies or hangs, errors named."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_functions import MARKS, hangs, kills, kills_once, raises, whose

from vtbench import registry
from vtbench.images import ahead, processes
from vtbench.metrics._beside import Beside, Unmeasured
from vtbench.metrics._pixels import OfPair
from vtbench.scoring import measure
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Reference, Value

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes beside are there where pipes can be waited for")
TESTS = os.getpid()
SHAPES = ((181, 190), (70, 65), (16, 40))
"""One that all metrics take, one that is too small for MS-SSIM, one for some others."""


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    """Two processes, from the second question on."""
    monkeypatch.setattr(processes, "LOOKED_AT", 1e-9)
    monkeypatch.setattr(processes, "PAYS", 1e-12)
    monkeypatch.setattr(processes.Child, "begin", processes.Child._start)
    monkeypatch.setattr(ahead, "cores", lambda: 3)
    monkeypatch.setenv(ahead.VARIABLE, "2")
    processes_beside = Beside(10_000)
    assert processes_beside.processes == 2
    processes_beside.begin(whose, sides(1), ["first"], 1.0).results()
    yield processes_beside
    processes_beside.close()
    for thread in threading.enumerate():
        if thread.name.startswith("beside"):
            thread.join(10)
            assert not thread.is_alive()


def batch_of(shape: tuple[int, int], seed: int, beside: Beside | None, images: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (images, 3, *shape), np.uint8)
    # Smooth enough to have edges and octaves.
    x = np.cumsum(x.astype(np.int64), axis=3).astype(np.uint8)
    y = np.clip(x.astype(np.int64) + rng.integers(-20, 21, x.shape), 0, 255).astype(np.uint8)
    y[0] = x[0]
    items = [Item(f"{k}.png", k) for k in range(images)]
    return Batch(Reference(torch.from_numpy(x), items, [""] * images), torch.from_numpy(y), beside=beside)


def sides(images: int) -> list[tuple[Any, Any]]:
    return [(np.full((2, 2), k), np.full((2, 2), k)) for k in range(images)]


def test_every_metric_has_the_same_bits(beside: Beside) -> None:
    """All metrics that declare what they read of pairs; the truth is this process, which is asked without any other."""
    every = {name: factory() for name, factory in registry.metrics().items()}
    metrics = {n: m for n, m in every.items() if isinstance(m, ImageMetric) and m.of_pairs}
    assert {"ssim", "ms-ssim", "ssim-y", "ssim-range2", "delta-e", "edge-f1", "mtf50", "worst-tile-psnr"} <= {*metrics}
    assert not {"psnr", "bits"} & {*metrics}
    for seed, shape in enumerate(SHAPES):
        batch = batch_of(shape, seed, beside)
        measure.begin(metrics, batch)
        assert batch.kept
        there = measure.measure_all(metrics, batch)
        assert there == measure.measure_all(metrics, batch_of(shape, seed, None))
    assert "needs images of at least" in str(there["ms-ssim"][0].why)


def test_results_are_in_order_and_from_two_processes(beside: Beside) -> None:
    begun = [beside.begin(whose, sides(5), [str(k) for k in range(5)], 1.0) for _ in range(20)]
    pids = {pid for one in begun for pid in one.results()}
    assert len(pids) == 2
    assert TESTS not in pids


def test_a_process_that_is_killed_is_asked_again(
    beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MARKS, str(tmp_path))
    # Children that are there already do not see the folder.
    beside._children.close()
    again = Beside(10_000)
    again.begin(whose, sides(1), ["first"], 1.0).results()
    assert again.begin(kills_once, sides(8), [f"{k}.png" for k in range(8)], 1.0).results() == list(range(8))
    again.close()
    assert "ended (SIGKILL): 0.png and 3 more is measured again" in caplog.text


@pytest.mark.parametrize("deed", [kills, hangs])
def test_one_that_kills_or_hangs_costs_its_own_value(
    beside: Beside, deed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if deed is hangs:
        monkeypatch.setattr(ahead, "PATIENCE", 4.0)
    results = beside.begin(deed, sides(6), [f"{k}.png" for k in range(6)], 1.0).results()
    assert [r for r in results if not isinstance(r, Unmeasured)] == [0, 1, 3, 4, 5]
    why = "2.png cannot be measured: 2 processes that measured it ended (SIGKILL)"
    late = "2.png was not measured within 4 s: is the machine asleep, or out of memory?"
    assert results[2] == Unmeasured(late if deed is hangs else why)
    assert len(beside.begin(whose, sides(1), ["after"], 1.0).results()) == 1


class OfRaising(ImageMetric):
    card = MetricCard("raising", "Raising", 1, "", None, "none")
    of_pairs = (OfPair("raising", raises),)

    def measure(self, batch: Batch) -> list[Value]:
        return [Value(float(v)) for v in self.of_pairs[0].of(batch)]


def test_what_raises_there_is_named_with_its_image(beside: Beside) -> None:
    batch, metrics = batch_of((16, 16), 0, beside), {"raising": OfRaising()}
    measure.begin(metrics, batch)
    with pytest.raises(VtbenchError, match=r"the metric raising raised ZeroDivisionError on 0\.png: in"):
        measure.measure_all(metrics, batch)


def test_short_work_starts_no_process() -> None:
    few = Beside(8)
    assert few.begin(whose, sides(8), ["x"] * 8, 1.0).results() == [TESTS] * 8
    few.close()
