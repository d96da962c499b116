"""Colour: the CIEDE2000 difference and the mean shift of each channel. No other metric here sees a change of hue.

sRGB (IEC 61966-2-1) to CIELAB under D65, 2 degrees, then CIEDE2000 with k_L = k_C = k_H = 1 (Sharma, Wu, Dalal 2005),
pixel by pixel, as scikit-image's rgb2lab and deltaE_ciede2000.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from vtbench.metrics import _colour_on_device as there
from vtbench.metrics._on_device import on_device
from vtbench.metrics._pixels import OfPair, values
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65, 2 degrees."""
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Linear sRGB to XYZ: ITU-R BT.709 primaries, D65, in the digits that scikit-image and OpenCV share."""


@functools.cache
def _linear() -> Any:
    """The 256 sRGB levels in linear light, float64."""
    import numpy as np

    u = np.arange(256) / 255
    return np.where(u > 0.04045, ((u + 0.055) / 1.055) ** 2.4, u / 12.92)


@functools.cache
def _matrix() -> Any:
    """3 x 3, linear sRGB to XYZ over the white point's, float64."""
    import numpy as np

    return (np.array(XYZ).T / np.array(WHITE)).T


def lab(rgb: Any) -> Any:
    """uint8 sRGB (..., 3) -> CIELAB float64 (3, ...)."""
    import numpy as np

    xyz = _linear()[rgb] @ _matrix().T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: Any, two: Any) -> Any:
    """Differences of two CIELAB arrays (3, ...), float64 (...). Equation numbers: Sharma, Wu, Dalal 2005."""
    import numpy as np

    (l1, a1, b1), (l2, a2, b2) = one, two
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = 1.5 - 0.5 * np.sqrt(mean_c7 / (mean_c7 + 25.0**7))  # 1 + G, eq. 4
    a1, a2 = a1 * g, a2 * g
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1) % (2 * np.pi), np.arctan2(b2, a2) % (2 * np.pi)
    product = c1 * c2
    dh = h2 - h1  # eq. 10: into (-pi, pi]; no hue without chroma
    dh = np.where(dh > np.pi, dh - 2 * np.pi, np.where(dh < -np.pi, dh + 2 * np.pi, dh)) * (product > 0)
    d_hue = 2 * np.sqrt(product) * np.sin(dh / 2)
    total = h1 + h2  # eq. 14
    mean_h = np.where(
        np.abs(h1 - h2) <= np.pi, total / 2, np.where(total < 2 * np.pi, total / 2 + np.pi, total / 2 - np.pi)
    )
    mean_h = np.where(product > 0, mean_h, total)
    mean_c = (c1 + c2) / 2
    t = 1 - 0.17 * np.cos(mean_h - np.pi / 6) + 0.24 * np.cos(2 * mean_h)
    t = t + 0.32 * np.cos(3 * mean_h + np.deg2rad(6)) - 0.20 * np.cos(4 * mean_h - np.deg2rad(63))
    centred = ((l1 + l2) / 2 - 50) ** 2
    lightness = (l2 - l1) / (1 + 0.015 * centred / np.sqrt(20 + centred))
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = d_hue / (1 + 0.015 * mean_c * t)
    theta = np.deg2rad(30) * np.exp(-(((np.rad2deg(mean_h) - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    rotation = -2 * np.sqrt(mean_c7 / (mean_c7 + 25.0**7)) * np.sin(2 * theta)
    squared = lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue
    return np.sqrt(np.maximum(squared, 0))


def differences(x: Any, y: Any) -> Any:
    """CIEDE2000 of every pixel, float64 (H * W): uint8 (H, W, 3) each. Equal pixels cost nothing."""
    import numpy as np

    x, y = x.reshape(-1, 3), y.reshape(-1, 3)
    out = np.zeros(len(x))
    other = np.flatnonzero((x != y).any(axis=1))
    # Blocks that stay in the cache.
    for start in range(0, len(other), 4096):
        part = other[start : start + 4096]
        out[part] = ciede2000(lab(x[part]), lab(y[part]))
    return out


def summary(x: Any, y: Any) -> tuple[float, float]:
    """(mean, 95th percentile) of CIEDE2000 over the pixels of a pair: uint8 (H, W, 3) each."""
    import numpy as np

    difference = differences(x, y)
    return float(difference.mean()), float(np.percentile(difference, 95))


_SUMMARY = OfPair("delta-e", summary)


def summaries(batch: Batch) -> list[Any]:
    """(mean, 95th percentile) of CIEDE2000 over the pixels of each image."""
    if on_device(batch):
        measured: list[Any] = batch.once("delta-e", lambda: there.summaries(batch, _linear(), _matrix()))
        return measured
    return _SUMMARY.of(batch)


_SOURCE = "CIEDE2000, Sharma, Wu, Dalal 2005; scikit-image deltaE_ciede2000 of rgb2lab"


class DeltaE(ImageMetric):
    card = MetricCard(
        name="delta-e",
        title="Colour difference",
        version=1,
        unit="ΔE2000",
        better="lower",
        source=_SOURCE,
        bounds=(0.0, None),
        reduction="mean of per-image means over pixels",
    )
    of_pairs = (_SUMMARY,)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(lambda both: Value(both[0]), summaries(batch))


class DeltaEP95(ImageMetric):
    card = MetricCard(
        name="delta-e-p95",
        title="Colour difference, 95th percentile",
        version=1,
        unit="ΔE2000",
        better="lower",
        source=_SOURCE,
        bounds=(0.0, None),
        reduction="mean of per-image 95th percentiles over pixels",
    )
    of_pairs = (_SUMMARY,)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(lambda both: Value(both[1]), summaries(batch))


def shift(x: Any, y: Any) -> Any:
    """Mean of y - x of each channel in grey levels, float64 (3): uint8 (H, W, 3) each."""
    import numpy as np

    return y.mean((0, 1), np.float64) - x.mean((0, 1), np.float64)


_SHIFT = OfPair("bias", shift)


class Bias(ImageMetric):
    """Mean of candidate minus original in one channel; nearer to 0 is better, so no direction is ranked."""

    of_pairs = (_SHIFT,)

    def __init__(self, channel: int) -> None:
        self.channel = channel
        letter, word = "rgb"[channel], ("red", "green", "blue")[channel]
        self.card = MetricCard(
            name=f"bias-{letter}",
            title=f"Shift of {word}",
            version=1,
            unit="grey levels",
            better=None,
            source="definition; mean of candidate minus original over pixels",
            bounds=(-255.0, 255.0),
        )

    def measure(self, batch: Batch) -> Sequence[Value]:
        if on_device(batch):
            means = batch.once("bias", lambda: there.shifts(batch))
            return [Value(float(s[self.channel])) for s in means]
        return values(lambda s: Value(float(s[self.channel])), _SHIFT.of(batch))


METRICS = (DeltaE, DeltaEP95, *(functools.partial(Bias, channel) for channel in range(3)))
