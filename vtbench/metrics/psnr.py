"""Peak signal-to-noise ratio and mean squared error, in float64 on uint8 RGB.

`psnr` is one value an image, over all of its RGB samples with L = 255, and the score is the mean of those values (what
papers mean; LDM's README gives mean and deviation over images). torchmetrics pools the squared error of the whole set
before the logarithm, which reads 0.5 to 1.8 dB lower on real sets: that is `psnr-pooled` here. Identical images have no
PSNR: None, counted, and never an infinity in a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.metrics._on_device import on_device, squared_errors
from vtbench.metrics._pixels import each, planes
from vtbench.statistics.intervals import mean_interval
from vtbench.types.metric import Batch, ImageMetric, MetricCard, RowMetric, SetValue, Value

if TYPE_CHECKING:
    from vtbench.types.item import Item

PEAK = 255.0
LOSSLESS = "lossless (identical pixels)"
"""The reason of a PSNR that does not exist; the aggregation counts rows by this beginning."""


def decibels(mse: float) -> float:
    """10 log10(255² / mse); mse > 0 in grey levels squared."""
    return 10 * math.log10(PEAK * PEAK / mse)


def squared_error(x: Any, y: Any) -> float:
    """Mean over all samples of (x - y)², exact: uint8 (3, H, W) each, contiguous."""
    import cv2

    # Sums of squares of bytes are integers; below 2^53 (that is 138 gigapixels) a double holds them exactly.
    # As matrices, since OpenCV takes a third axis for channels and has no more than 512 of those.
    width = x.shape[2]
    return float(cv2.norm(x.reshape(-1, width), y.reshape(-1, width), cv2.NORM_L2SQR)) / int(x.size)


def errors(batch: Batch) -> list[float]:
    """Mean squared error of each image."""
    if on_device(batch):
        there: list[float] = batch.once("mse", lambda: squared_errors(batch))
        return there
    both = planes(batch)
    return each(batch, "mse", lambda k: squared_error(*both[k]))


class MSE(ImageMetric):
    card = MetricCard(
        name="mse",
        title="Mean squared error",
        version=1,
        unit="grey levels²",
        better="lower",
        source="definition; over all RGB samples of an image, uint8",
        bounds=(0.0, PEAK**2),
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [Value(e) for e in errors(batch)]


class PSNR(ImageMetric):
    card = MetricCard(
        name="psnr",
        title="PSNR",
        version=1,
        unit="dB",
        better="higher",
        source="10 log10(255² / MSE) over all RGB samples; scikit-image peak_signal_noise_ratio(data_range=255)",
        bounds=(0.0, None),
        reduction="mean of per-image PSNR; identical images are counted apart",
        conventions={"reduction": "mean", "data_range": 1.0},
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [Value(decibels(e)) if e > 0 else Value(None, why=LOSSLESS) for e in errors(batch)]


class PooledPSNR(RowMetric):
    """PSNR of the squared error of all samples of all images; finite unless every image is identical."""

    card = MetricCard(
        name="psnr-pooled",
        title="PSNR, pooled",
        version=1,
        unit="dB",
        better="higher",
        kind="run",
        source="10 log10(255² / MSE over all samples of all images); torchmetrics PeakSignalNoiseRatio(data_range=255)",
        bounds=(0.0, None),
        convention_of="psnr",
        conventions={"reduction": "pooled", "data_range": 1.0},
        reduction="one value from the pooled squared error",
    )
    inputs = ("mse",)

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        values, pixels = [], []
        for row in rows:
            error = row["values"].get("mse")
            if error is not None:
                values.append(float(error))
                pixels.append(float(row["size"][0] * row["size"][1]))
        mean = mean_interval(values, pixels, bounds=(0.0, PEAK**2), logarithm=True)
        if mean is None:
            return SetValue(None, n=0, why="no image has a squared error")
        if mean.value <= 0:
            return SetValue(None, n=mean.n, why=LOSSLESS)
        # A decreasing function of the mean squared error: its interval's ends change places.
        low, high = (None if e is None or e <= 0 else decibels(e) for e in (mean.high, mean.low))
        lossless = sum(v == 0 for v in values)
        details = {"mse": mean.value, "n_lossless": lossless, "interval": mean.why or mean.method}
        return SetValue(decibels(mean.value), low=low, high=high, n=mean.n, details=details)


METRICS = (PSNR, MSE, PooledPSNR)
