"""How many visual tokens go on, and how much of the picture they stand for.

Tokens are counted where the next stage takes its input, never read from the option: upstream's own numbers are off
(HiPrune keeps 24 of 27 asked, BTP feeds 144 of which 137 differ). coverage: mean over all tokens of the largest cosine
to one that goes on. The dense maps are the full model's output on the grid, and the reduced model's, in which a place
whose token was dropped has the value of the most similar kept one, or of the row that it was merged into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, MetricCard, RowMetric, SetValue, Value
from vtbench.types.reading import Dense, Rate, Reading

if TYPE_CHECKING:
    import torch

NO_READING = "no model reads these pictures: give --tower"


def of_reading(batch: Batch, value: Callable[[Reading, int], Value]) -> list[Value]:
    """One value an image of a batch that a model read; null for every other batch."""
    reading = batch.reading
    if reading is None:
        return [Value(None, why=NO_READING)] * len(batch)
    return [value(reading, index) for index in range(len(batch))]


def _rate_card(name: str, title: str, source: str) -> MetricCard:
    return MetricCard(name, title, 1, "tokens", "lower", source, bounds=(0.0, None), paired=False)


class _OfRate(ImageMetric):
    """A number of an image's rate."""

    reads_candidate = False

    def of(self, rate: Rate) -> float:
        raise NotImplementedError

    def measure(self, batch: Batch) -> Sequence[Value]:
        return of_reading(batch, lambda reading, index: Value(float(self.of(reading.rates[index]))))


class Tokens(_OfRate):
    card = _rate_card("visual-tokens", "Visual tokens that go on", "rows of the picture that the next stage takes")

    def of(self, rate: Rate) -> float:
        return rate.tokens


class TokensMeanLayer(_OfRate):
    card = _rate_card(
        "visual-tokens-mean-layer",
        "Visual tokens, mean over layers",
        "rows of the picture behind each block or layer where tokens are cut on the way; else those that go on",
    )

    def of(self, rate: Rate) -> float:
        return rate.mean_layer


class Duplicates(_OfRate):
    card = _rate_card("duplicates", "Tokens that go on twice", "rows whose token stands in another row as well")

    def of(self, rate: Rate) -> float:
        return rate.duplicates


class _Percentile(RowMetric):
    """Of the tokens of all images, nearest rank."""

    inputs = ("visual-tokens",)
    share: float
    reads_candidate = False

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        counts = sorted(row["values"]["visual-tokens"] for row in rows if "visual-tokens" in row["values"])
        if not counts:
            return SetValue(None, n=0, why=NO_READING)
        # The least count that so large a share of the images does not exceed; rounding must not make it one more.
        rank = max(0, math.ceil(self.share * len(counts) - 1e-9) - 1)
        return SetValue(float(counts[rank]), n=len(counts))


def _percentile_card(name: str, title: str) -> MetricCard:
    source = "nearest rank over images: methods may keep another number in each"
    return MetricCard(
        name, title, 1, "tokens", "lower", source, bounds=(0.0, None), kind="run", reduction="percentile", paired=False
    )


class TokensP5(_Percentile):
    card = _percentile_card("visual-tokens-p5", "Visual tokens, 5th percentile")
    share = 0.05


class TokensP95(_Percentile):
    card = _percentile_card("visual-tokens-p95", "Visual tokens, 95th percentile")
    share = 0.95


class Coverage(ImageMetric):
    card = MetricCard(
        name="coverage",
        title="Coverage of the picture",
        version=1,
        unit="",
        better="higher",
        source="mean over all tokens of the tower's output of the largest cosine to one that goes on",
        bounds=(-1.0, 1.0),
        paired=False,
    )
    reads_candidate = False

    def measure(self, batch: Batch) -> Sequence[Value]:
        def one(reading: Reading, index: int) -> Value:
            value = reading.coverage[index] if reading.coverage else None
            return Value(value, why=None if value is not None else "rows were made inside the tower, and have no place")

        return of_reading(batch, one)


class _OfMap(ImageMetric):
    """A number of an image's two maps."""

    reads_candidate = False

    def of(self, dense: Dense) -> float | None:
        raise NotImplementedError

    def measure(self, batch: Batch) -> Sequence[Value]:
        def one(reading: Reading, index: int) -> Value:
            dense = reading.dense[index] if reading.dense else None
            if dense is None:
                return Value(None, why=reading.why.get("dense", "nothing says where a row belongs"))
            value = self.of(dense)
            return Value(value, why=None if value is not None else "all places have the same features")

        return of_reading(batch, one)


class DenseCorrelation(_OfMap):
    card = MetricCard(
        name="dense-correlation",
        title="Correlation of dense features",
        version=1,
        unit="",
        better="higher",
        source="cosine of the full and the filled map over all values, every channel's mean over the places of the "
        "full map taken off both (not the filled map's own, so not quite Pearson's r)",
        bounds=(-1.0, 1.0),
        paired=False,
    )

    def of(self, dense: Dense) -> float | None:
        mean = dense.full.double().mean(dim=0)
        full, filled = dense.full.double() - mean, dense.filled.double() - mean
        scale = float(full.norm() * filled.norm())
        return float((full * filled).sum()) / scale if scale > 0 else None


class DenseNearest(_OfMap):
    card = MetricCard(
        name="dense-nearest",
        title="Places that are known again",
        version=1,
        unit="",
        better="higher",
        source="share of places whose feature in the filled map is nearest, by the cosine of centred features, to the "
        "full map's at the same place or at one that has its value from the same row",
        bounds=(0.0, 1.0),
        paired=False,
    )

    def of(self, dense: Dense) -> float | None:
        from torch.nn.functional import normalize

        mean = dense.full.double().mean(dim=0)
        full, filled = (normalize(x.double() - mean, dim=-1) for x in (dense.full, dense.filled))
        nearest: torch.Tensor = (filled @ full.T).argmax(dim=1)
        return float((dense.group[nearest] == dense.group).double().mean())


METRICS = (Tokens, TokensMeanLayer, TokensP5, TokensP95, Duplicates, Coverage, DenseCorrelation, DenseNearest)
