"""Whether the reduced model still answers as the full one: the same class, the same probabilities, the true class.

Agreement and divergence need no labels. `retained` is never without its number of images and its interval, which is
paired: both models see the same images. Equal accuracy may hide many changed answers: `flips-lost` and `flips-gained`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.metrics.tokens_kept import of_reading
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, MetricCard, RowMetric, SetValue, Value
from vtbench.types.reading import Reading

if TYPE_CHECKING:
    import torch

TOP = 5
NO_LABEL = "nothing says which class this picture shows: put it into a folder of that name"
RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95


def _share(name: str, title: str, source: str, better: Any = "higher") -> MetricCard:
    return MetricCard(name, title, 1, "", better, source, bounds=(0.0, 1.0), paired=False)


def top(logits: torch.Tensor, count: int) -> list[int]:
    """The classes of the greatest logits, equals by number."""
    order: list[int] = logits.double().sort(descending=True, stable=True).indices[:count].tolist()
    return order


class _OfLogits(ImageMetric):
    """A number of one image's logits, full and reduced, and of its class."""

    reads_candidate = False
    labelled = False

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float | None:
        raise NotImplementedError

    def measure(self, batch: Batch) -> Sequence[Value]:
        def one(reading: Reading, index: int) -> Value:
            if reading.logits is None or reading.reduced_logits is None:
                return Value(None, why=reading.why.get("logits", "the model classifies nothing"))
            label = reading.labels[index] if reading.labels else None
            if self.labelled and label is None:
                return Value(None, why=NO_LABEL)
            value = self.of(reading.logits[index], reading.reduced_logits[index], -1 if label is None else label)
            return Value(value, why=None if value is not None else f"the model has fewer than {TOP + 1} classes")

        return of_reading(batch, one)


class Agreement(_OfLogits):
    card = _share("agreement", "Agreement with the full model", "share of images whose first class is the full model's")

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        return float(top(full, 1) == top(reduced, 1))


class AgreementAt5(_OfLogits):
    card = _share(
        "agreement-at-5", "Agreement, of five", "share of images whose first class is among the full model's first five"
    )

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float | None:
        return float(top(reduced, 1)[0] in top(full, TOP)) if len(full) > TOP else None


class Divergence(_OfLogits):
    card = MetricCard(
        name="kl",
        title="Divergence from the full model",
        version=1,
        unit="nats",
        better="lower",
        source="KL(full || reduced) of the softmax in float64, temperature 1",
        bounds=(0.0, None),
        paired=False,
    )

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        p, q = (x.double().log_softmax(dim=-1) for x in (full, reduced))
        # A sum of products of which some are negative: rounding may leave it just below 0.
        return max(0.0, float((p.exp() * (p - q)).sum()))


class Accuracy(_OfLogits):
    card = _share("accuracy", "Accuracy", "share of images whose first class is the true one, reduced model")
    labelled = True

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        return float(top(reduced, 1)[0] == label)


class AccuracyFull(_OfLogits):
    card = _share("accuracy-full", "Accuracy of the full model", "the same of the full model on the same images")
    labelled = True

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        return float(top(full, 1)[0] == label)


class FlipsLost(_OfLogits):
    card = _share("flips-lost", "Right before, wrong now", "share of images right in the full model alone", "lower")
    labelled = True

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        return float(top(full, 1)[0] == label != top(reduced, 1)[0])


class FlipsGained(_OfLogits):
    card = _share("flips-gained", "Wrong before, right now", "share of images right in the reduced model alone", None)
    labelled = True

    def of(self, full: torch.Tensor, reduced: torch.Tensor, label: int) -> float:
        return float(top(reduced, 1)[0] == label != top(full, 1)[0])


def ratio(part: Sequence[float], whole: Sequence[float]) -> tuple[float, float, float] | None:
    """(sum of part / sum of whole, its paired 95 % interval): images are drawn again together, percentile bootstrap of
    10,000 draws; draws without any of the whole are left out. None where the whole is 0."""
    import numpy as np

    a, b = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    if b.sum() <= 0:
        return None
    random = np.random.Generator(np.random.SFC64(SEED))
    values: list[Any] = []
    rows = max(1, 2_000_000 // len(a))
    for start in range(0, RESAMPLES, rows):
        drawn = random.integers(0, len(a), size=(min(rows, RESAMPLES - start), len(a)))
        tops, bottoms = a[drawn].sum(axis=1), b[drawn].sum(axis=1)
        values.append(tops[bottoms > 0] / bottoms[bottoms > 0])
    low, high = np.percentile(np.concatenate(values), [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)])
    return float(a.sum() / b.sum()), float(low), float(high)


class Retained(RowMetric):
    card = MetricCard(
        name="retained",
        title="Accuracy that is retained",
        version=1,
        unit="%",
        better="higher",
        source="100 x accuracy / accuracy of the full model on the same images; paired bootstrap over images",
        bounds=(0.0, None),
        kind="run",
        reduction="ratio of sums",
        paired=False,
    )
    inputs = ("accuracy", "accuracy-full")
    reads_candidate = False

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        both = [[float(v[n]) for n in self.inputs] for row in rows if {*self.inputs} <= (v := row["values"]).keys()]
        if not both:
            whys = (row["why"].get("accuracy") for row in rows)
            return SetValue(None, n=0, why=next(filter(None, whys), NO_LABEL))
        part, whole = map(list, zip(*both, strict=True))
        found_ratio = ratio(part, whole)
        if found_ratio is None:
            return SetValue(None, n=len(both), why="the full model has no image right")
        value, low, high = (100 * v for v in found_ratio)
        means = {name: math.fsum(v) / len(v) for name, v in zip(self.inputs, (part, whole), strict=True)}
        return SetValue(value, low, high, len(both), details={**means, "interval": "paired bootstrap, percentile"})


METRICS: tuple[Callable[[], Any], ...] = (
    Agreement,
    AgreementAt5,
    Divergence,
    Accuracy,
    AccuracyFull,
    FlipsLost,
    FlipsGained,
    Retained,
)
