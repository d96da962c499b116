"""PSNR, SSIM, MS-SSIM, colour and LPIPS against scikit-image, piq, lpips, and arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vtbench.metric import Batch, Reference, Value
from vtbench.metrics import psnr, ssim


def stack(*images: Any) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1) for i in images])


def batch_of(x: Any, y: Any) -> Batch:
    """A batch of one pair, or of lists of pairs of equal size: uint8 (H, W, 3)."""
    xs, ys = (x, y) if isinstance(x, list) else ([x], [y])
    return Batch(Reference(stack(*xs), [None] * len(xs), [str(k) for k in range(len(xs))]), stack(*ys))  # type: ignore[list-item]


def one(metric: Any, x: Any, y: Any) -> Value:
    return metric.measure(batch_of(x, y))[0]


def noisy(x: Any, sigma: float, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).normal(0, sigma, x.shape)
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


ASTRONAUT, CAT, COFFEE = data.astronaut(), data.chelsea(), data.coffee()
PAIRS = {
    "photograph 512x512": (ASTRONAUT, noisy(ASTRONAUT, 6)),
    "odd 299x451": (CAT[:299, :451], noisy(CAT[:299, :451], 20)),
    "odd height 201x300": (COFFEE[:201, :300], noisy(COFFEE[:201, :300], 3)),
    "odd width 200x301": (COFFEE[:200, :301], np.roll(COFFEE[:200, :301], 2, axis=1)),
    "unrelated 256x256": (ASTRONAUT[:256, :256], CAT[:256, :256]),
    "negative 256x256": (CAT[:256, :256], 255 - CAT[:256, :256]),
    "constant 181x177": (np.full((181, 177, 3), 37, np.uint8), np.full((181, 177, 3), 41, np.uint8)),
    "saturated 176x190": (np.full((176, 190, 3), 255, np.uint8), np.zeros((176, 190, 3), np.uint8)),
}
pair = pytest.mark.parametrize(("x", "y"), PAIRS.values(), ids=PAIRS.keys())
# Both sides are float64; the variances cancel to about 1e-11 of 255², which C2 = 58.5 divides: 1e-9 leaves room.
CLOSE = 1e-9


@pair
def test_psnr_is_scikit_images(x: Any, y: Any) -> None:
    assert one(psnr.PSNR(), x, y).value == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-10)


@pair
def test_ssim_is_scikit_images(x: Any, y: Any) -> None:
    wanted = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert one(ssim.SSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pair
def test_ssim_conventions_are_scikit_images(x: Any, y: Any) -> None:
    default = structural_similarity(x, y, data_range=255, channel_axis=2)
    assert one(ssim.SSIMUniform(), x, y).value == pytest.approx(default, abs=CLOSE)
    range2 = structural_similarity(x / 255, y / 255, data_range=2.0, channel_axis=2)
    assert one(ssim.SSIMRange2(), x, y).value == pytest.approx(range2, abs=CLOSE)
    weights = np.array([0.299, 0.587, 0.114])
    luma = structural_similarity(
        x @ weights, y @ weights, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert one(ssim.SSIMLuma(), x, y).value == pytest.approx(luma, abs=CLOSE)


@pair
def test_ms_ssim_is_piqs(x: Any, y: Any) -> None:
    import piq

    wanted = float(piq.multi_scale_ssim(stack(x).double(), stack(y).double(), data_range=255.0))
    assert one(ssim.MSSSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (13, 12)])
def test_smallest_ssim(size: tuple[int, int]) -> None:
    x = ASTRONAUT[100 : 100 + size[0], 200 : 200 + size[1]]
    y = noisy(x, 10)
    wanted = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert one(ssim.SSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_constant_offset(d: int) -> None:
    x = np.clip(CAT, 0, 200).astype(np.uint8)
    assert one(psnr.PSNR(), x, x + np.uint8(d)).value == pytest.approx(20 * math.log10(255 / d), abs=1e-12)


def test_identical_and_tiny() -> None:
    assert one(psnr.PSNR(), CAT, CAT) == Value(None, why="lossless (identical pixels)")
    assert one(psnr.MSE(), CAT, CAT).value == 0
    for metric in (ssim.SSIM(), ssim.SSIMUniform(), ssim.SSIMLuma(), ssim.SSIMRange2(), ssim.MSSSIM()):
        assert one(metric, CAT, CAT).value == pytest.approx(1, abs=1e-12)
    dot = np.array([[[10, 20, 30]]], np.uint8)
    # 3, 4 and 0 levels: MSE 25 / 3.
    assert one(psnr.PSNR(), dot, dot + np.array([3, 4, 0], np.uint8)).value == pytest.approx(
        10 * math.log10(255**2 / (25 / 3)), abs=1e-12
    )


def test_squared_error_is_exact_on_large_images() -> None:
    x = np.zeros((2500, 2500, 3), np.uint8)
    y = np.full_like(x, 255)
    y[0, 0, 0] = 254
    assert psnr.squared_error(x, y) == (255**2 * (x.size - 1) + 254**2) / x.size


def test_pooled_psnr() -> None:
    rows = [
        {"values": {"mse": 4.0}, "size": [10, 10]},
        {"values": {"mse": 0.0}, "size": [10, 20]},
        {"values": {}, "size": [5, 5], "why": {"mse": "broken"}},
        {"values": {"mse": 16.0}, "size": [30, 10]},
    ]
    made = psnr.PooledPSNR().finish(rows, [None] * 4)  # type: ignore[list-item]
    pooled = (4 * 100 + 16 * 300) / 600
    assert made.value == pytest.approx(10 * math.log10(255**2 / pooled), abs=1e-12)
    assert made.n == 3
    assert made.details["n_lossless"] == 1
    assert made.low is not None
    assert made.low < made.value
    nothing = psnr.PooledPSNR().finish([{"values": {"mse": 0.0}, "size": [4, 4]}], [None])  # type: ignore[list-item]
    assert nothing.value is None
    assert nothing.why == "lossless (identical pixels)"


def test_pooled_psnr_is_torchmetrics_arithmetic() -> None:
    """Pooled over two images of one size is the PSNR of both images in one array."""
    x, y = PAIRS["unrelated 256x256"]
    z = noisy(x, 2)
    rows = [{"values": {"mse": one(psnr.MSE(), x, v).value}, "size": [256, 256]} for v in (y, z)]
    wanted = peak_signal_noise_ratio(np.stack([x, x]), np.stack([y, z]), data_range=255)
    assert psnr.PooledPSNR().finish(rows, [None] * 2).value == pytest.approx(wanted, abs=1e-10)  # type: ignore[list-item]


def test_batches_and_candidates_do_not_mix() -> None:
    """A batch of three, and a second candidate on the same Reference, give what single pairs give."""
    xs = [ASTRONAUT[:200, :190], CAT[50:250, 100:290], COFFEE[:200, 300:490]]
    first, second = [noisy(x, 5) for x in xs], [noisy(x, 30, seed=3) for x in xs]
    shared = batch_of(xs, first)
    again = Batch(shared.reference, stack(*second))
    for metric in (psnr.PSNR(), ssim.SSIM(), ssim.SSIMUniform(), ssim.SSIMLuma(), ssim.MSSSIM()):
        for batch, ys in ((shared, first), (again, second)):
            together = [v.value for v in metric.measure(batch)]
            assert together == [one(metric, x, y).value for x, y in zip(xs, ys, strict=True)]
