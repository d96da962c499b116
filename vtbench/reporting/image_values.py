"""Per-image values of runs, each run's rows read once: what pairs systems on the same images."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtbench.reporting.measured import ImageRow, rows
from vtbench.results.record import Run
from vtbench.statistics.paired import Scale

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

PEAK = 255.0
LOSSLESS = "lossless"
"""How the reason of a missing PSNR begins where the image came back identical."""


def squared_error(psnr: float | None) -> float:
    """Mean squared error in grey levels squared of an image's PSNR in dB; None: the image is lossless."""
    error: float = 0.0 if psnr is None else PEAK**2 / 10 ** (psnr / 10)
    return error


def pooled_psnr(errors: Sequence[float], weights: Sequence[float]) -> float:
    """dB of squared errors (grey levels squared) pooled by their weights; infinite where all are 0."""
    return float(_decibels(np.array([np.average(errors, weights=weights)]))[0])


def _decibels(error: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        decibels: Floats = 10 * np.log10(PEAK**2 / error)
    return decibels


def _slope(error: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        slope: Floats = -10 / np.log(10) / error
    return slope


DECIBELS = Scale(_decibels, _slope)
"""PSNR of a mean squared error in grey levels squared."""


def pool_weights(metric: str, pixels: Sequence[float]) -> list[float]:
    """What the squared errors behind a PSNR pool by: an image's by its pixels, that of one tile alike for all."""
    return [1.0] * len(pixels) if "tile" in metric.split("-") else list(pixels)


@dataclass
class Column:
    """One metric by image, in the order of the run's rows; NaN where there is none. `lossless`: places of images that
    came back identical."""

    values: array[float] = field(default_factory=lambda: array("d"))
    weights: array[float] = field(default_factory=lambda: array("d"))
    lossless: set[int] = field(default_factory=set)

    def add(self, place: int, value: float | None, weight: float | None) -> None:
        """Puts a value at a row's place; rows before it that lack this metric have none."""
        self.fill(place)
        self.values.append(math.nan if value is None else value)
        self.weights.append(1.0 if weight is None else weight)

    def fill(self, count: int) -> None:
        missing = count - len(self.values)
        self.values.extend([math.nan] * missing)
        self.weights.extend([1.0] * missing)

    def of(self, place: int) -> tuple[float | None, float] | None:
        """(value, weight) of an image; (None, 1) of one that came back identical, None of any other without a value."""
        value = self.values[place]
        if not math.isnan(value):
            return value, self.weights[place]
        return (None, 1.0) if place in self.lossless else None

    def at(self, places: Sequence[int]) -> tuple[list[float | None], list[float]]:
        """Values and weights of the images at these places, each of which has one or came back identical."""
        known = [one for place in places if (one := self.of(place)) is not None]
        return [value for value, _ in known], [weight for _, weight in known]


@dataclass
class ImageValues:
    """The rows of one run as columns. `pixels`: of every image, as scored; 1 where the rows do not say. `pictures`: of
    every image 16 digits of the sha256 of its original, "" where the rows do not say."""

    items: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    pixels: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, Column] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Run) -> ImageValues:
        out = cls()
        for row in rows(run):
            out._add(row)
        for column in out.columns.values():
            column.fill(len(out.items))
        return out

    def _add(self, row: ImageRow) -> None:
        place = len(self.items)
        # Runs of one suite share the names of its images.
        self.items.append(sys.intern(row.item))
        self.pictures.append(sys.intern(row.sha256[:16]))
        self.pixels.append(float(row.size[0] * row.size[1]) if row.size else 1.0)
        for metric, value in row.values.items():
            self.columns.setdefault(metric, Column()).add(place, value, row.weights.get(metric))
        for metric, reason in row.why.items():
            if reason.startswith(LOSSLESS) and row.values.get(metric) is None:
                self.columns.setdefault(metric, Column()).lossless.add(place)

    def of(self, metric: str) -> dict[str, tuple[float, float]]:
        """item -> (value, weight); images without a value are left out."""
        return {item: (value, weight) for item, (value, weight) in self.of_all(metric).items() if value is not None}

    def of_all(self, metric: str) -> dict[str, tuple[float | None, float]]:
        """item -> (value, weight), with (None, 1) for images that came back identical and so have no PSNR."""
        column = self.columns.get(metric)
        if column is None:
            return {}
        known = ((item, column.of(place)) for place, item in enumerate(self.items))
        return {item: value for item, value in known if value is not None}

    def lossless(self, metric: str) -> bool:
        """Whether any image came back identical by this metric."""
        return metric in self.columns and bool(self.columns[metric].lossless)

    def errors_of(self, metric: str) -> dict[str, tuple[float, float]]:
        """item -> (mean squared error in grey levels squared behind a PSNR, what it is pooled by)."""
        known = self.of_all(metric)
        pixels = dict(zip(self.items, self.pixels, strict=True))
        weights = pool_weights(metric, [pixels[item] for item in known])
        return {item: (squared_error(psnr), w) for (item, (psnr, _)), w in zip(known.items(), weights, strict=True)}

    def errors(self) -> dict[str, tuple[float, float]]:
        """item -> (mean squared error in grey levels squared, pixels): `mse` of the rows, else from PSNR."""
        pixels = dict(zip(self.items, self.pixels, strict=True))
        if "mse" in self.columns:
            return {item: (error, pixels[item]) for item, (error, _) in self.of("mse").items()}
        return {item: (squared_error(psnr), pixels[item]) for item, (psnr, _) in self.of_all("psnr").items()}


class RowValues:
    """Per-image values of many runs, each run's rows read once."""

    def __init__(self) -> None:
        self._kept: dict[Path, ImageValues] = {}

    def read(self, run: Run) -> ImageValues:
        if run.path not in self._kept:
            self._kept[run.path] = ImageValues.read(run)
        return self._kept[run.path]

    def of(self, run: Run, metric: str) -> Mapping[str, tuple[float, float]]:
        """item -> (value, weight) of one metric; images without a value are left out."""
        return self.read(run).of(metric)

    def errors(self, run: Run) -> Mapping[str, tuple[float, float]]:
        """item -> (mean squared error in grey levels squared, pixels)."""
        return self.read(run).errors()
