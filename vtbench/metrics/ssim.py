"""Structural similarity: the canonical form, the other forms found in the field under names of their own, MS-SSIM.

For windows w over the image: m = E[x], v = E[x²] - m², c = E[xy] - m_x m_y, and

    SSIM = (2 m_x m_y + C1) (2 c + C2) / ((m_x² + m_y² + C1) (v_x + v_y + C2)),   C = (K L)², K = 0.01, 0.03.

ssim           Gaussian 11 x 11, sigma 1.5, L = 255, population covariance, valid windows only, mean over RGB
               (Wang et al. 2004; scikit-image with gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
ssim-y         the same on BT.601 luma
ssim-uniform7  7 x 7 uniform, sample covariance: scikit-image's defaults; SEED-Voken
ssim-range2    ssim-uniform7 with L = 2 on images in [0, 1], that is L = 510 on grey levels: LlamaGen (data_range=2.0)
ms-ssim        Wang et al. 2003, five scales, valid windows at every scale, negative terms clipped at 0; piq in float64

Window sums are separable and in float64: E[x²] - m² cancels about seven digits where L = 255, so float32 would leave
none. Maps are computed once per pair and kind of window, and the reference's means once for all candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from vtbench.metric import Batch, ImageMetric, MetricCard, Value
from vtbench.metrics._pixels import each, floats, lumas

Window = Literal["gauss11", "uniform7"]
K1, K2 = 0.01, 0.03
SIGMA = 1.5
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales: Wang, Simoncelli, Bovik 2003."""
MS_MIN_SIZE = 176
"""11 * 2^4: the coarsest scale then holds a whole window of image, without help from samples repeated at odd sizes."""


@functools.cache
def taps() -> Any:
    """The 11 weights of the Gaussian, float64, sum 1."""
    import numpy as np

    g = np.exp(-0.5 * (np.arange(-5, 6) / SIGMA) ** 2)
    return g / g.sum()


def means(x: Any, window: Window) -> Any:
    """Window means at valid positions: float64 (H, W[, C]) -> (H - 2r, W - 2r[, C]), r = 5 or 3."""
    import cv2

    if window == "gauss11":
        return cv2.sepFilter2D(x, cv2.CV_64F, taps(), taps())[5:-5, 5:-5]
    return cv2.blur(x, (7, 7))[3:-3, 3:-3]


def moments(x: Any, y: Any, mean_x: Any, window: Window) -> tuple[Any, Any, Any, Any]:
    """(m_x m_y, m_x² + m_y², covariance, v_x + v_y), each (h, w[, C]); population moments."""
    mean_y = means(y, window)
    product = mean_x * mean_y
    squares = mean_x * mean_x
    squares += mean_y * mean_y
    covariance = means(x * y, window) - product
    variances = means(x * x + y * y, window) - squares
    return product, squares, covariance, variances


def terms(maps: tuple[Any, Any, Any, Any], level: float = 255.0, sample: int | None = None) -> tuple[Any, Any]:
    """(SSIM, contrast term) per channel from moments: means over windows. `sample`: window size for sample moments."""
    product, squares, covariance, variances = maps
    c1, c2 = (K1 * level) ** 2, (K2 * level) ** 2
    unbiased = 1.0 if sample is None else sample / (sample - 1)
    contrast = (2 * unbiased * covariance + c2) / (unbiased * variances + c2)
    similarity = (2 * product + c1) / (squares + c1) * contrast
    return similarity.mean(axis=(0, 1)), contrast.mean(axis=(0, 1))


def rgb_moments(batch: Batch, window: Window) -> list[tuple[Any, Any, Any, Any]]:
    both = floats(batch)
    left = batch.reference.once(("means", window), lambda: [means(x, window) for x, _ in both])
    return each(batch, ("moments", window), lambda k: moments(*both[k], left[k], window))


def _card(name: str, title: str, source: str, smallest: int, **more: Any) -> MetricCard:
    return MetricCard(
        name=name, title=title, version=1, unit="", better="higher", source=source, bounds=(-1.0, 1.0),
        min_size=smallest, **more,
    )  # fmt: skip


class SSIM(ImageMetric):
    card = _card(
        "ssim", "SSIM", "Wang et al. 2004; scikit-image structural_similarity(gaussian_weights=True, sigma=1.5, "
        "use_sample_covariance=False, data_range=255, channel_axis=2)", 11,
    )  # fmt: skip

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [Value(float(terms(m)[0].mean())) for m in rgb_moments(batch, "gauss11")]


class SSIMLuma(ImageMetric):
    card = _card("ssim-y", "SSIM on luma", "SSIM of BT.601 full-range luma, not rounded", 11, convention_of="ssim")

    def measure(self, batch: Batch) -> Sequence[Value]:
        both = lumas(batch)
        left = batch.reference.once("means-y", lambda: [means(x, "gauss11") for x, _ in both])
        return [
            Value(float(terms(moments(x, y, m, "gauss11"))[0])) for (x, y), m in zip(both, left, strict=True)
        ]  # fmt: skip


class SSIMUniform(ImageMetric):
    """`level` is L on grey levels: 255, or 510 for data_range=2 on images in [0, 1]."""

    level = 255.0
    card = _card(
        "ssim-uniform7", "SSIM, 7x7 uniform", "scikit-image structural_similarity(data_range=255, channel_axis=2) with "
        "its other defaults; SEED-Voken evaluation_image.py", 7, convention_of="ssim",
    )  # fmt: skip

    def measure(self, batch: Batch) -> Sequence[Value]:
        maps = rgb_moments(batch, "uniform7")
        return [Value(float(terms(m, self.level, sample=49)[0].mean())) for m in maps]


class SSIMRange2(SSIMUniform):
    level = 510.0
    card = _card(
        "ssim-range2", "SSIM, 7x7 uniform, data range 2", "scikit-image structural_similarity(data_range=2.0) on "
        "images in [0, 1]: LlamaGen tokenizer/validation (ce98ec4); its constants are four times too large", 7,
        convention_of="ssim",
    )  # fmt: skip


def halve(x: Any) -> Any:
    """Means of 2 x 2 samples, (H, W, C). If either side is odd, the first row and column are repeated first, as piq
    does (ms_ssim.py), and what then remains over on the other side is dropped."""
    import numpy as np

    height, width = x.shape[:2]
    if height % 2 or width % 2:
        x = np.pad(x, ((1, 0), (1, 0), (0, 0)), mode="edge")
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    rows = x[0::2] + x[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * 0.25


class MSSSIM(ImageMetric):
    card = MetricCard(
        name="ms-ssim", title="MS-SSIM", version=1, unit="", better="higher", bounds=(0.0, 1.0), min_size=MS_MIN_SIZE,
        source="Wang, Simoncelli, Bovik 2003; piq.multi_scale_ssim in float64",
    )  # fmt: skip

    def measure(self, batch: Batch) -> Sequence[Value]:
        both = floats(batch)
        first = rgb_moments(batch, "gauss11")

        def pyramid(x: Any) -> list[Any]:
            made = [x]
            for _ in SCALES[1:]:
                made.append(halve(made[-1]))
            return made[1:]

        def reference_side() -> list[list[tuple[Any, Any]]]:
            return [[(x, means(x, "gauss11")) for x in pyramid(image)] for image, _ in both]

        left = batch.reference.once("pyramid", reference_side)
        return [Value(self._one(first[k], left[k], pyramid(both[k][1]))) for k in range(len(batch))]

    @staticmethod
    def _one(first: tuple[Any, Any, Any, Any], left: Sequence[tuple[Any, Any]], right: Sequence[Any]) -> float:
        import numpy as np

        factors = [terms(first)[1]]
        for (x, mean_x), y in zip(left, right, strict=True):
            similarity, contrast = terms(moments(x, y, mean_x, "gauss11"))
            factors.append(contrast)
        factors[-1] = similarity
        powers = np.maximum(np.stack(factors), 0.0) ** np.array(SCALES)[:, None]
        return float(powers.prod(axis=0).mean())


METRICS = (SSIM, SSIMUniform, SSIMLuma, SSIMRange2, MSSSIM)
