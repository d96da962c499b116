"""Metrics in processes beside this one: the same bits, one image's loss where a process dies or hangs, errors named."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pair_functions import MARKS, hangs, kills, kills_once, raises, whose

from vtbench import registry
from vtbench.images import ahead, processes
from vtbench.metrics import _beside
from vtbench.metrics._beside import ARRAYS, SIGNAL, TORCH, Beside, Needs, Unmeasured, processes_for
from vtbench.metrics._pixels import OfPair
from vtbench.metrics._readings import READER
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
    monkeypatch.setattr(_beside, "PAYS", 1e-12)
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
    bits = np.full(images, 1000.0)
    return Batch(Reference(torch.from_numpy(x), items, [""] * images), torch.from_numpy(y), bits=bits, beside=beside)


def sides(images: int) -> list[tuple[Any, Any]]:
    return [(np.full((2, 2), k), np.full((2, 2), k)) for k in range(images)]


def test_every_metric_has_the_same_bits(beside: Beside) -> None:
    """All metrics that declare what they read of pairs, but those that load torch; the truth is this process, which is
    asked without any other."""
    every = {name: factory() for name, factory in registry.metrics().items()}
    metrics = {n: m for n, m in every.items() if isinstance(m, ImageMetric) and m.of_pairs}
    assert {"ssim", "ms-ssim", "ssim-y", "ssim-range2", "delta-e", "edge-f1", "mtf50", "worst-tile-psnr"} <= {*metrics}
    assert {"bias-r", "ratio-png", "gmsd", "haarpsi"} <= {*metrics}
    assert not {"psnr", "bits"} & {*metrics}
    metrics = {n: m for n, m in metrics.items() if all(part.needs.seconds < TORCH.seconds for part in m.of_pairs)}
    for seed, shape in enumerate(SHAPES):
        batch = batch_of(shape, seed, beside)
        measure.begin(metrics, batch)
        assert batch.kept
        there = measure.measure_all(metrics, batch)
        assert there == measure.measure_all(metrics, batch_of(shape, seed, None))
    assert "needs images of at least" in str(there["ms-ssim"][0].why)


@pytest.fixture
def page() -> Item:
    """What a picture of noise, (181, 190), is said to hold."""
    lines = [{"text": "so it is", "box": [5, 5, 180, 45]}, {"text": "or not", "box": [5, 100, 90, 130]}]
    return Item("page.png", 0, meta={"lines": lines})


def test_torch_and_text_have_the_same_bits_in_one_process(
    page: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What loads a library or a network: GMSD and HaarPSI at an odd size, and readings, each side with a cache of its
    own; the truth is this process, of each image alone."""
    names = ("gmsd", "haarpsi", "cer", "cer-ceiling", "cer-self")
    metrics = {name: registry.metric(name) for name in names}
    for metric in metrics.values():
        metric.load("cpu")
    needs = measure.needs(metrics.values(), "cpu")
    assert needs == READER

    def batch(beside: Beside | None) -> Batch:
        batch = batch_of((181, 190), 0, beside, 2)
        batch.reference.items = [Item("plain.png", 1), page]
        return batch

    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "here"))
    alone = [measure.measure_all(metrics, measure.one_of(batch(None), k)) for k in range(2)]
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "there"))
    monkeypatch.setattr(processes, "LOOKED_AT", 1e-9)
    monkeypatch.setattr(_beside, "PAYS", 1e-12)
    monkeypatch.setattr(processes.Child, "begin", processes.Child._start)
    monkeypatch.setenv(ahead.VARIABLE, "1")
    one = Beside(10_000, needs)
    assert one.processes == 1
    one.begin(whose, sides(1), ["first"], 1.0).results()
    monkeypatch.setattr("vtbench.metrics.ocr.read_lines", lambda *_: pytest.fail("read in this process"))
    together = batch(one)
    measure.begin(metrics, together)
    there = measure.measure_all(metrics, together)
    one.close()
    assert {name: [values[name][0] for values in alone] for name in names} == there
    assert there["cer"][1].value
    assert there["cer"][0].why == there["cer-self"][0].why == "no true text is known for this image"
    assert len(list((tmp_path / "there").rglob("*.json"))) == 2


def test_what_another_device_does_stays_there(page: Item) -> None:
    """Of a run on a GPU only what its processor does anyway is asked of processes: no network moves."""
    gmsd, mtf50, png, cer = (registry.metric(name) for name in ("gmsd", "mtf50", "ratio-png", "cer"))
    reader = SimpleNamespace(id="x", device="cuda:0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vtbench.metrics.ocr.engine", lambda name, device: reader)
        cer.load("cuda:0")
    assert measure.needs([gmsd, cer], "cuda:0") is None
    assert measure.needs([gmsd, mtf50, png, cer], "cuda:0") == SIGNAL
    assert measure.needs([gmsd, png, cer], "cpu") == TORCH


def test_a_lost_reading_is_no_reading(page: Item) -> None:
    metric = registry.metric("cer-self")
    metric.load("cpu")
    batch = batch_of((181, 190), 0, None, 2)
    batch.reference.items = [page, page]
    for part in metric.of_pairs:
        side = batch.reference if part.of_reference else batch
        side.kept[part.key] = [[Unmeasured("lost"), ["a", "b"]], [["a", "b"], Unmeasured("gone")]][part.of_reference]
    assert [v.why for v in metric.measure(batch)] == ["lost", "gone"]


@pytest.mark.parametrize(
    ("free", "needs", "wanted"),
    [(None, READER, 7), (1 << 40, READER, 7), (5 << 30, READER, 2), (5 << 30, ARRAYS, 7), (1 << 20, READER, 1)],
)
def test_as_many_processes_as_memory_allows(
    free: int | None, needs: Needs, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what is free, in whole processes: 2.5 GiB hold two of one."""
    monkeypatch.setattr(ahead, "cores", lambda: 8)
    monkeypatch.delenv(ahead.VARIABLE, raising=False)
    monkeypatch.setattr(_beside, "free_memory", lambda: free)
    assert processes_for(needs) == wanted


@pytest.mark.parametrize(("cores", "wanted"), [(1, 1), (2, 2), (3, 2), (8, 7)])
def test_two_cores_have_two_processes(cores: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "cores", lambda: cores)
    monkeypatch.delenv(ahead.VARIABLE, raising=False)
    monkeypatch.setattr(_beside, "free_memory", lambda: None)
    assert processes_for(ARRAYS) == wanted


def test_free_memory_is_less_than_all_memory() -> None:
    free = _beside.free_memory()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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


def test_nobody_waits_for_what_was_given_up(beside: Beside) -> None:
    """Nor for what no process has begun yet; a pair that hangs for 20 s is ended with its process."""
    first, second = (beside.begin(hangs, sides(6), ["2.png"] * 6, 1.0) for _ in range(2))
    threading.Timer(0.3, beside.give_up).start()
    began = time.monotonic()
    for begun in (first, second):
        with pytest.raises(ahead.Stopped):
            begun.results()
    assert time.monotonic() - began < 10


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
