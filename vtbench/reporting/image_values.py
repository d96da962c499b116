"""Per-image values of runs, each run's rows read once: what pairs systems on the same images.

They lie on the disk, by metric; in memory is the column that is looked at, so that runs of 50,000 images take no more
than runs of 1,000.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtbench.reporting.measured import ImageRow, rows
from vtbench.results.record import Run
from vtbench.results.spill import PORTION, Place, Spill, Texts
from vtbench.statistics.paired import Scale

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

Places = NDArray[np.intp]

PEAK = 255.0
LOSSLESS = "lossless"
"""How the reason of a missing PSNR begins where the image came back identical."""


def squared_error(psnr: float | None) -> float:
    """Mean squared error in grey levels squared of an image's PSNR in dB; None: the image is lossless."""
    error: float = 0.0 if psnr is None else PEAK**2 / 10 ** (psnr / 10)
    return error


def pooled_psnr(errors: Floats, weights: Floats) -> float:
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


def squared_errors(psnr: Floats) -> Floats:
    """`squared_error` of every value, float64 (n,); NaN stands for a lossless image."""
    # One by one: numpy's powers may differ in their last digit.
    one_by_one = (squared_error(None if math.isnan(value) else value) for value in memoryview(psnr))
    return np.fromiter(one_by_one, np.float64, len(psnr))


def pool_weights(metric: str, pixels: Floats) -> Floats:
    """What the squared errors behind a PSNR pool by: an image's by its pixels, that of one tile alike for all."""
    return np.ones(len(pixels)) if "tile" in metric.split("-") else pixels


@dataclass(frozen=True)
class Column:
    """One metric by image, in the order of the run's rows: values and weights float64 (n,), NaN where there is none.
    `lossless`, bool (n,): images that came back identical and have no value."""

    values: Floats
    weights: Floats
    lossless: NDArray[np.bool_]

    @property
    def valued(self) -> NDArray[np.bool_]:
        """Images that have a value."""
        return ~np.isnan(self.values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Images that have a value, or came back identical."""
        return self.valued | self.lossless

    def at(self, places: Places) -> tuple[Floats, Floats]:
        """Values and weights of these images, each of which is known: NaN and 1 of those that came back identical."""
        values, weights = self.values[places], self.weights[places]
        weights[np.isnan(values)] = 1.0
        return values, weights


def _nothing() -> list[array[Any]]:
    """Of a portion: values, weights, and whether the image came back identical."""
    return [array("d"), array("d"), array("b")]


class _Stored:
    """A column on the disk, portion by portion; of a portion without a value, a weight or a lossless image nothing."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._kept: tuple[dict[int, Place], ...] = ({}, {}, {})
        self._waiting = _nothing()

    def add(self, within: int, value: float | None, weight: float | None, lossless: bool = False) -> None:
        """Puts an image at its place in the portion; images before it that lack this metric have none."""
        self._fill(within)
        values, weights, identical = self._waiting
        values.append(math.nan if value is None else value)
        weights.append(1.0 if weight is None else weight)
        identical.append(lossless)

    def _fill(self, count: int) -> None:
        missing = count - len(self._waiting[0])
        for part, nothing in zip(self._waiting, (math.nan, 1.0, 0), strict=True):
            part.extend([nothing] * missing)

    def close(self, number: int, count: int) -> None:
        """Puts down the portion `number`, of so many images."""
        self._fill(count)
        values, weights, identical = self._waiting
        worth = not all(map(math.isnan, values)), any(weight != 1 for weight in weights), any(identical)
        for kept, part, worthy in zip(self._kept, self._waiting, worth, strict=True):
            if worthy:
                kept[number] = self._spill.keep(part.tobytes())
        self._waiting = _nothing()

    def read(self, count: int) -> Column:
        values, weights = np.full(count, math.nan), np.ones(count) if self._kept[1] else np.ones(1)
        identical = np.zeros(count if self._kept[2] else 1, dtype=np.bool_)
        for whole, kept in zip((values, weights, identical), self._kept, strict=True):
            for number, place in kept.items():
                part = np.frombuffer(self._spill.read(place), whole.dtype)
                whole[number * PORTION : number * PORTION + len(part)] = part
        # Of what is alike for all, one number is held.
        return Column(values, np.broadcast_to(weights, count), np.broadcast_to(identical, count))


class ImageValues:
    """The rows of one run as columns. `items`: the images' names. `pictures`: of every image 16 digits of the sha256 of
    its original, "" where the rows do not say."""

    def __init__(self, spill: Spill) -> None:
        self.items, self.pictures = Texts(spill), Texts(spill)
        self._spill = spill
        self._pixels = _Stored(spill)
        self._columns: dict[str, _Stored] = {}

    @classmethod
    def read(cls, run: Run, spill: Spill | None = None) -> ImageValues:
        """spill: shared with other runs, where many are read."""
        out = cls(spill or Spill())
        for row in rows(run):
            out._add(row)
        if len(out) % PORTION:
            out._close(len(out) // PORTION, len(out) % PORTION)
        return out

    def __len__(self) -> int:
        return len(self.items)

    def _add(self, row: ImageRow) -> None:
        number, within = divmod(len(self.items), PORTION)
        self.items.append(row.item)
        self.pictures.append(row.sha256[:16])
        self._pixels.add(within, float(row.size[0] * row.size[1]) if row.size else 1.0, None)
        for metric, value in row.values.items():
            lossless = value is None and row.why.get(metric, "").startswith(LOSSLESS)
            self._stored(metric).add(within, value, row.weights.get(metric), lossless)
        for metric, reason in row.why.items():
            if metric not in row.values and reason.startswith(LOSSLESS):
                self._stored(metric).add(within, None, None, lossless=True)
        if within == PORTION - 1:
            self._close(number, PORTION)

    def _stored(self, metric: str) -> _Stored:
        return self._columns.setdefault(metric, _Stored(self._spill))

    def _close(self, number: int, count: int) -> None:
        for part in (self.items, self.pictures):
            part.close()
        for column in (self._pixels, *self._columns.values()):
            column.close(number, count)

    @property
    def metrics(self) -> list[str]:
        """What the rows hold, in the order in which they name it."""
        return list(self._columns)

    @property
    def pixels(self) -> Floats:
        """Of every image, as scored, float64 (n,); 1 where the rows do not say."""
        return self._pixels.read(len(self)).values

    def column(self, metric: str) -> Column:
        """One metric, read anew; without any value where the rows do not hold it."""
        return self._columns.get(metric, _Stored(self._spill)).read(len(self))

    def lossless(self, metric: str) -> bool:
        """Whether any image came back identical by this metric."""
        return bool(self.column(metric).lossless.any())

    def errors_of(self, metric: str) -> Column:
        """Mean squared errors in grey levels squared behind a PSNR, and what they are pooled by."""
        column = self.column(metric)
        return self._pooled(column, pool_weights(metric, self.pixels))

    def errors(self) -> Column:
        """Mean squared errors in grey levels squared and pixels: `mse` of the rows, else from PSNR."""
        if "mse" in self._columns:
            column = self.column("mse")
            return Column(column.values, self.pixels, np.broadcast_to(np.False_, len(self)))
        return self._pooled(self.column("psnr"), self.pixels)

    def _pooled(self, column: Column, weights: Floats) -> Column:
        errors = squared_errors(column.values)
        errors[~column.known] = math.nan
        return Column(errors, weights, np.broadcast_to(np.False_, len(self)))

    @cached_property
    def distinct(self) -> bool:
        """Whether no two rows are of one name."""
        return len(np.unique(self.digests())) == len(self)

    def digests(self) -> NDArray[np.bytes_]:
        """16 bytes of every image's name."""
        return np.frombuffer(b"".join(_digests(self.items, 16)), "S16")

    def picture_codes(self) -> NDArray[np.uint64]:
        """A number of every image's original, 0 where the rows do not state it."""
        codes = np.frombuffer(b"".join(_digests(self.pictures, 8)), np.uint64).copy()
        codes[np.fromiter((not picture for picture in self.pictures), np.bool_, len(self))] = 0
        return codes


def _digests(texts: Texts, size: int) -> Iterator[bytes]:
    return (hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest() for text in texts)


def numbered(systems: Sequence[ImageValues]) -> tuple[list[Places], int]:
    """For every system the number of each of its images, the same for images of one name; and how many there are."""
    first = systems[0]
    if all(other.items.same(first.items) for other in systems[1:]) and first.distinct:
        return [np.arange(len(first))] * len(systems), len(first)
    names, number = np.unique(np.concatenate([system.digests() for system in systems]), return_inverse=True)
    ends = np.cumsum([len(system) for system in systems])
    return [part.astype(np.intp) for part in np.split(number.ravel(), ends[:-1])], len(names)


def places_of(numbers: Places, count: int, *, last: bool = True) -> Places:
    """Where a system has each of `count` images, -1 where it does not; of rows of one name, the last or the first."""
    places, step = np.full(count, -1, dtype=np.intp), 1 if last else -1
    places[numbers[::step]] = np.arange(len(numbers))[::step]
    return places


class RowValues:
    """Per-image values of many runs, each run's rows read once."""

    def __init__(self) -> None:
        self._kept: dict[Path, ImageValues] = {}
        self._spill = Spill()

    def read(self, run: Run) -> ImageValues:
        if run.path not in self._kept:
            self._kept[run.path] = ImageValues.read(run, self._spill)
        return self._kept[run.path]
