"""Conventions that are tried because people have used them, and that nobody should measure by: no metrics of their own.

Each is one mistake or habit: a peak that is not the range of the values, the luma alone, means of values in [-1, 1].
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vtbench import registry
from vtbench.metrics._pixels import luma, pairs, planes
from vtbench.metrics.psnr import LOSSLESS, decibels, squared_error
from vtbench.metrics.ssim import RANGE2, Window, ssim_card, terms
from vtbench.types.conditions import PLAIN_NAMES
from vtbench.types.errors import VtbenchError, near
from vtbench.types.metric import Batch, ImageMetric, Metric, MetricCard, RowMetric, SetValue, Value

OTHER_NETWORKS = {"lpips-alex": ("lpips-vgg", "lpips-squeeze")}
"""Metrics of ours that a plain name may mean without being conventions of one another."""
_BESIDE = re.compile(r"\([^()]*\)|[↑↓⬆⬇\ufe0f]|\$?\\(?:up|down)arrow\$?")
"""What tables print beside a metric's name: its unit, and which end is better."""
MIDDLE = 127.5
"""The grey level that is 0 where values are in [-1, 1]."""


class _PSNR(ImageMetric):
    """PSNR of RGB or of BT.601 luma, with a peak `data_range` times the range of the values."""

    def __init__(self, name: str, title: str, source: str, *, data_range: float = 1.0, colour: str = "rgb") -> None:
        self.offset, self.colour = 20 * math.log10(data_range), colour
        self.card = MetricCard(
            name=name,
            title=title,
            version=1,
            unit="dB",
            better="higher",
            source=source,
            convention_of="psnr",
            conventions={"reduction": "mean", "data_range": data_range, "colour": colour},
        )

    def measure(self, batch: Batch) -> Sequence[Value]:
        if self.colour == "luma":
            errors = [float(((luma(x) - luma(y)) ** 2).mean()) for x, y in pairs(batch)]
        else:
            errors = [squared_error(x, y) for x, y in planes(batch)]
        return [Value(decibels(e) + self.offset) if e > 0 else Value(None, why=LOSSLESS) for e in errors]


class _PSNRByBatch(RowMetric):
    """The mean of the pooled PSNR of every `batch` images in the suite's order."""

    inputs = ("mse",)

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.card = MetricCard(
            name=f"psnr-batches-{batch}",
            title=f"PSNR pooled in batches of {batch}, then their mean",
            version=1,
            unit="dB",
            better="higher",
            kind="run",
            source="a PSNR of every batch of a loader, averaged over batches (SEED-Voken evaluation_image.py)",
            convention_of="psnr",
            conventions={"reduction": f"batches of {batch}", "data_range": 1.0},
        )

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Any]) -> SetValue:
        if len(rows) <= self.batch:
            return SetValue(None, why=f"{len(rows)} images are no more than one batch of {self.batch}")
        values = []
        for first in range(0, len(rows), self.batch):
            batch = rows[first : first + self.batch]
            known = [(row["values"]["mse"], row["size"]) for row in batch if row["values"].get("mse") is not None]
            pixels = sum(h * w for _, (h, w) in known)
            error = sum(mse * h * w for mse, (h, w) in known) / pixels if pixels else 0.0
            values += [decibels(error)] if error > 0 else []
        if not values:
            return SetValue(None, why=LOSSLESS)
        return SetValue(sum(values) / len(values))


class _SSIM(ImageMetric):
    """SSIM over RGB with another peak (`level`, in grey levels), of values in [-1, 1], whose means are signed, or with
    windows around every pixel, the picture reflected at its borders."""

    def __init__(
        self, name: str, title: str, source: str, window: Window, level: float, signed: bool, reflected: bool = False
    ) -> None:
        self.window, self.level, self.signed, self.reflected = window, level, signed, reflected
        kind = "gaussian" if window == "gauss11" else "uniform"
        self.card = ssim_card(
            name,
            title,
            source,
            11 if window == "gauss11" else 7,
            convention_of="ssim",
            conventions={"window": kind, "colour": "rgb", "data_range": level / 255},
        )

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [Value(sum(map(self._plane, x, y)) / len(x)) for x, y in planes(batch)]

    def _plane(self, x: Any, y: Any) -> float:
        if self.signed:
            x, y = x.astype("float64") - MIDDLE, y.astype("float64") - MIDDLE
        if self.reflected:
            import numpy as np

            x, y = (np.pad(plane, 5, mode="reflect") for plane in (x, y))
        return float(terms(x, y, self.window, (self.level,))[0, 0])


BATCHES = (2, 4, 8, 16, 32, 64)
"""Sizes of a loader's batches that are tried."""
CONVENTIONS: Mapping[str, Callable[[], Metric]] = {
    "psnr-range2": functools.partial(
        _PSNR,
        "psnr-range2",
        "PSNR of values in [0, 1] with data range 2",
        "peak_signal_noise_ratio(data_range=2) on values in [0, 1]: 6.02 dB too high",
        data_range=2.0,
    ),
    "psnr-range1": functools.partial(
        _PSNR,
        "psnr-range1",
        "PSNR of values in [-1, 1] with data range 1",
        "peak_signal_noise_ratio(data_range=1) on values in [-1, 1]: 6.02 dB too low",
        data_range=0.5,
    ),
    "psnr-y": functools.partial(
        _PSNR, "psnr-y", "PSNR of BT.601 luma", "PSNR of the luma alone, as super-resolution reports it", colour="luma"
    ),
    **{f"psnr-batches-{size}": functools.partial(_PSNRByBatch, size) for size in BATCHES},
    "ssim-reflect": functools.partial(
        _SSIM,
        "ssim-reflect",
        "SSIM with windows around every pixel, Gaussian window",
        "torchmetrics StructuralSimilarityIndexMeasure: the picture reflected at its borders, which count",
        "gauss11",
        255.0,
        False,
        True,
    ),
    "ssim-gauss-range2": functools.partial(
        _SSIM,
        "ssim-gauss-range2",
        "SSIM of values in [0, 1] with data range 2, Gaussian window",
        "SSIM(data_range=2) on values in [0, 1], Gaussian window",
        "gauss11",
        RANGE2,
        False,
    ),
    "ssim-signed": functools.partial(
        _SSIM,
        "ssim-signed",
        "SSIM of values in [-1, 1], Gaussian window",
        "SSIM(data_range=2) on values in [-1, 1]: signed means, Gaussian window",
        "gauss11",
        255.0,
        True,
    ),
    "ssim-uniform7-signed": functools.partial(
        _SSIM,
        "ssim-uniform7-signed",
        "SSIM of values in [-1, 1], 7 x 7 uniform window",
        "scikit-image structural_similarity(data_range=2) on values in [-1, 1]: signed means, its default window",
        "uniform7",
        255.0,
        True,
    ),
}


def card_of(metric: str) -> MetricCard:
    """The card of a metric of the registry, or of one of these conventions."""
    return CONVENTIONS[metric]().card if metric in CONVENTIONS else registry.card_of(registry.metrics().get(metric))


def conventions(metric: str) -> list[str]:
    """The metric and every other that its plain name may stand for."""
    known = registry.metrics()
    registered = [name for name, factory in known.items() if registry.card_of(factory).convention_of == metric]
    ours = [name for name in CONVENTIONS if card_of(name).convention_of == metric]
    return [metric, *registered, *ours, *(name for name in OTHER_NETWORKS.get(metric, ()) if name in known)]


def metric_named(name: str) -> str:
    """Our metric of a name as papers print it, in any case: SSIM, rFID↓, PSNR (dB), psnr_pooled, to/file.py@name."""
    known = registry.metrics()
    spec = known.name_of(name.strip())
    plain = "-".join(_BESIDE.sub("", spec).casefold().replace("_", " ").split())
    for candidate in (PLAIN_NAMES.get(plain, spec), plain):
        if candidate in known or candidate in CONVENTIONS:
            return candidate
    raise VtbenchError(f"there is no metric {name!r}{near(plain, known)}: `vtbench list metrics` shows all")


def metric_named_or_none(name: str) -> str | None:
    """None where a card has a number of something that vtbench does not measure."""
    try:
        return metric_named(name)
    except VtbenchError:
        return None
