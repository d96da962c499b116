"""Per-image metrics against the libraries that they follow, and against arithmetic where no library has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.metrics import papers
from benchmarks.metrics.comparison import FLOATS, NUMPY, Comparison, largest, version
from benchmarks.metrics.networks import lpips_networks
from benchmarks.metrics.pictures import GREY, SIZE, pairs_of_pictures, values
from benchmarks.metrics.text import edit_distance
from vtbench.metrics import colour, detail, ssim
from vtbench.metrics._strings import edits
from vtbench.metrics.psnr import MSE, PooledPSNR
from vtbench.types.metric import ImageMetric

OnePair = Callable[[Any, Any], float]
"""The number of a library, or of a paper, for two pictures, uint8 (H, W, 3) each."""


def library_comparisons() -> list[Comparison]:
    """Structure, colour and detail, the pooled PSNR, LPIPS, the resolution of a known blur, edit distances."""
    xs, ys, on = pairs_of_pictures()
    out = []
    for metric, reference, call, tolerance, reason in _by_library():
        theirs = [call(x, y) for x, y in zip(xs, ys, strict=True)]
        gap = largest(values(metric, xs, ys), theirs)
        out.append(Comparison(metric.card.name, reference, on, gap, tolerance, reason))
    return [*out, _pooled_psnr(), *lpips_networks(), _mtf50(), _edit_distance()]


def _by_library() -> list[tuple[ImageMetric, str, OnePair, float, str]]:
    """(metric, library or paper, its number, tolerance, reason of a difference)."""
    from skimage import color, metrics

    structural_similarity: Any = metrics.structural_similarity
    rgb2lab: Any = color.rgb2lab
    ciede2000: Any = color.deltaE_ciede2000
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}

    def difference(x: Any, y: Any) -> Any:
        return ciede2000(rgb2lab(x), rgb2lab(y))

    def with_four_digits(x: Any, y: Any) -> float:
        return papers.haarpsi(x, y, papers.YIQ_OF_FCC)

    scikit, digits = version("scikit-image"), "the authors' three digits of YIQ there, piq's four here"
    return [
        (ssim.SSIMLuma(), scikit, lambda x, y: float(structural_similarity(x @ GREY, y @ GREY, **wang)), 1e-9, FLOATS),
        (colour.DeltaE(), scikit, lambda x, y: float(difference(x, y).mean()), 1e-6, FLOATS),
        (colour.DeltaEP95(), scikit, lambda x, y: float(np.percentile(difference(x, y), 95)), 1e-6, FLOATS),
        (detail.GMSD(), f"Xue et al. 2014, {NUMPY}", papers.gmsd, 1e-9, FLOATS),
        (detail.HaarPSI(), f"Reisenhofer et al. 2018, {NUMPY}", papers.haarpsi, 1e-3, digits),
        (detail.HaarPSI(), f"the same, four digits of YIQ, {NUMPY}", with_four_digits, 1e-9, FLOATS),
    ]


def _pooled_psnr() -> Comparison:
    from skimage import metrics

    peak_signal_noise_ratio: Any = metrics.peak_signal_noise_ratio
    xs, ys, on = pairs_of_pictures()
    rows = [{"values": {"mse": error}, "size": [SIZE, SIZE]} for error in values(MSE(), xs, ys)]
    pooled = PooledPSNR().finish(rows, []).value or 0.0
    gap = abs(pooled - float(peak_signal_noise_ratio(np.stack(xs), np.stack(ys), data_range=255)))
    how = f"{version('scikit-image')}, all images as one array"
    return Comparison("psnr-pooled", how, on, gap, 1e-9, FLOATS)


def _mtf50() -> Comparison:
    from scipy.ndimage import gaussian_filter

    gap = 0.0
    noise = np.random.default_rng(0).normal(128, 50, (512, 512)).clip(0, 255).round()
    for sigma in (1.0, 1.5, 2.0, 3.0):
        blurred = gaussian_filter(noise, sigma, mode="wrap", truncate=6).round()
        pair = [np.repeat(p[..., None], 3, axis=2).astype(np.uint8) for p in (noise, blurred)]
        wanted = math.sqrt(math.log(2) / 2) / (math.pi * sigma) * 512
        gap = max(gap, abs(values(detail.MTF50(), [pair[0]], [pair[1]])[0] / wanted - 1))
    how = "sqrt(ln 2 / 2) / (pi sigma) of a Gaussian blur"
    why = "bands of an eighth of an octave, linear between their centres"
    return Comparison("mtf50", how, "white noise of 512 px, sigma 1 to 3 px", gap, 0.02, why, True)


def _edit_distance() -> Comparison:
    rng = np.random.default_rng(0)
    gap = 0
    for _ in range(300):
        a, b = ("".join(rng.choice(list("abcd "), rng.integers(0, 30))) for _ in range(2))
        gap = max(gap, abs(edits(a, b) - edit_distance(a, b)))
    names = "cer, cer-ceiling, cer-self, cer-page, cer-rapidocr, cer-rapidocr-ceiling, cer-tesseract"
    how = "the recurrence of Wagner and Fischer"
    return Comparison(names, how, "300 pairs of random strings", gap, 0.0, "integers")
