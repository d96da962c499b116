"""Pixel metrics in torch, as a CUDA device measures them, against OpenCV's and numpy's: within 1e-9 relative.

The forms are one code for every device, so that CPU tensors try them; on a GPU the same cases run there too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vtbench import registry
from vtbench.metrics import _on_device, _pixels
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, Reference

NAMES = (
    *("psnr", "mse", "ssim", "ssim-y", "ssim-uniform7", "ssim-range2", "ms-ssim", "delta-e", "delta-e-p95"),
    *("bias-r", "bias-g", "bias-b", "gmsd", "haarpsi"),
)
WITHIN = 1e-9


def noise(shape: tuple[int, int], seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (3, *shape), np.uint8)


def smooth(shape: tuple[int, int], seed: int) -> Any:
    """Waves of all channels, with strong colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 40
    waves = [np.sin(rng.uniform(0.2, 3) * y + rng.uniform(0.2, 3) * x + k) for k in range(3)]
    return np.round(127.5 + 127.5 * np.stack(waves)).astype(np.uint8)


def near(pixels: Any, seed: int, most: int = 6) -> Any:
    step = np.random.default_rng(seed).integers(-most, most + 1, pixels.shape)
    return np.clip(pixels + step, 0, 255).astype(np.uint8)


def grey(pixels: Any, _: int = 0) -> Any:
    return np.repeat(pixels[:1], 3, axis=0)


CASES: dict[str, tuple[tuple[int, int], Callable[[tuple[int, int], int], Any], Callable[[Any, int], Any]]] = {
    "noise": ((180, 180), noise, lambda x, seed: noise(x.shape[1:], seed + 50)),
    "odd sides": ((177, 191), smooth, near),
    "one odd side": ((16, 33), smooth, near),
    "equal": ((32, 32), smooth, lambda x, _: x),
    "grey to colour": ((24, 40), lambda shape, seed: grey(smooth(shape, seed)), near),
    "black": ((16, 16), lambda shape, _: np.zeros((3, *shape), np.uint8), lambda x, _: x),
    "black to white": ((20, 20), lambda shape, _: np.zeros((3, *shape), np.uint8), lambda x, _: 255 - x),
    "one level": ((16, 16), smooth, lambda x, _: np.where(x < 255, x + 1, x).astype(np.uint8)),
}


def batch_of(case: str, device: str) -> Batch:
    shape, original, change = CASES[case]
    left = [original(shape, seed) for seed in range(3)]
    right = [change(x, seed) for seed, x in enumerate(left)]
    sides = [torch.from_numpy(np.stack(side)).to(device) for side in (left, right)]
    return Batch(Reference(sides[0], [Item(str(k), k) for k in range(3)], ["", "", ""]), sides[1])


def measured(name: str, batch: Batch) -> list[Any]:
    metric = registry.metric(name)
    assert isinstance(metric, ImageMetric)
    if min(batch.candidate.shape[2:]) < metric.card.min_size:
        return []
    return [(v.value, v.weight, v.why) for v in metric.measure(batch)]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("case", CASES)
def test_both_forms_agree(case: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: measured(name, batch_of(case, "cpu")) for name in NAMES}
    monkeypatch.setattr(_on_device, "DEVICES", ("cpu", "cuda"))
    # Two images a chunk, and one that is left over.
    monkeypatch.setattr(_on_device, "SAMPLES", 2 * 3 * CASES[case][0][0] * CASES[case][0][1])
    batch = batch_of(case, device)
    there = {name: measured(name, batch) for name in NAMES}
    assert any(here.values())
    for name in NAMES:
        for (value, weight, why), (other, other_weight, other_why) in zip(here[name], there[name], strict=True):
            assert (weight, why) == (other_weight, other_why), name
            if value is not None:
                # Where a number is 0 but for rounding, the scale is that of its terms: grey levels, or 1.
                assert other == pytest.approx(value, rel=WITHIN, abs=1e-12), name
    assert not {"bytes", "planes", "luma"} & {*batch.kept, *batch.reference.kept}


def test_opencv_is_kept_on_a_cpu() -> None:
    batch = batch_of("odd sides", "cpu")
    for name in ("psnr", "ssim", "delta-e"):
        measured(name, batch)
    assert {"bytes", "planes"} <= {*batch.kept}


def test_several_images_at_a_time_are_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    values = []
    for threads in (1, 3):
        monkeypatch.setattr(_pixels, "at_a_time", lambda threads=threads: threads)
        monkeypatch.setattr(_pixels, "_pool", _pixels._Pool())
        values.append({name: measured(name, batch_of("odd sides", "cpu")) for name in NAMES})
    assert values[0] == values[1]


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 400])
def test_percentile_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).random((3, count))
    ours = _on_device.percentile(torch.from_numpy(values), 0.95).numpy()
    assert ours == pytest.approx(np.percentile(values, 95, axis=1), rel=1e-14)
