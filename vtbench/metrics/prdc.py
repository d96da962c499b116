"""Precision, recall, density, coverage by k nearest neighbours, in blocks over memory maps.

`precision-k3`, `recall-k3`: Kynkäänniemi et al. 2019 (arXiv:1904.06991) as ADM's evaluator has it: k = 3, a point lies
in a ball if its distance is at most the radius. `precision-k5`, `recall-k5`, `density-k5`, `coverage-k5`: Naeem et al.
2020 (arXiv:2002.09797, package prdc): k = 5, strictly inside. Radii leave out the point itself. Distances are
Euclidean on pool3 in float64, from |x|^2 + |y|^2 - 2 x.y; `evaluator.py` computes them in float16 or float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.metrics.inception import WEIGHTS, InceptionFeatures
from vtbench.metrics.moments import Statistics
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_BLOCK = 2048


def squared_distances(x: Floats, y: Floats) -> Floats:
    """Squared Euclidean distance of every pair: (n, d), (m, d) -> (n, m), not below 0."""
    import numpy as np

    distances: Floats = x @ y.T
    distances *= -2
    distances += (x * x).sum(axis=1)[:, None]
    distances += (y * y).sum(axis=1)[None]
    return np.maximum(distances, 0, out=distances)


def _block(features: Any, start: int, centre: Floats) -> Floats:
    import numpy as np

    # The common part of all features carries no distance and costs digits.
    part: Floats = np.asarray(features[start : start + _BLOCK], dtype=np.float64) - centre
    return part


def radii(features: Any, k: int, centre: Floats) -> Floats:
    """Squared distance of every point to its k-th nearest other point, (n,)."""
    import numpy as np

    n = len(features)
    out = np.empty(n)
    for i in range(0, n, _BLOCK):
        x = _block(features, i, centre)
        nearest = np.empty((len(x), 0))
        for j in range(0, n, _BLOCK):
            part = squared_distances(x, _block(features, j, centre))
            if i == j:
                np.fill_diagonal(part, np.inf)
            nearest = np.concatenate([nearest, part], axis=1)
            if nearest.shape[1] > k:
                nearest = np.partition(nearest, k - 1, axis=1)[:, :k]
        out[i : i + len(x)] = nearest.max(axis=1)
    return out


@dataclass(frozen=True)
class Manifold:
    precision: float
    recall: float
    density: float
    coverage: float


def manifold(reference: Any, candidate: Any, k: int, *, strict: bool) -> Manifold:
    """All four measures of candidate (n, d) against reference (m, d); `strict`: inside means closer than the radius."""
    import numpy as np

    centre = np.asarray(reference[: min(len(reference), 4096)], dtype=np.float64).mean(axis=0)
    real, fake = radii(reference, k, centre), radii(candidate, k, centre)
    inside_real = np.zeros(len(candidate), dtype=np.int64)
    inside_fake = np.zeros(len(reference), dtype=bool)
    nearest = np.full(len(reference), np.inf)
    compare = np.less if strict else np.less_equal
    for i in range(0, len(candidate), _BLOCK):
        x = _block(candidate, i, centre)
        for j in range(0, len(reference), _BLOCK):
            part = squared_distances(x, _block(reference, j, centre))
            span = slice(j, j + part.shape[1])
            inside_real[i : i + len(x)] += compare(part, real[None, span]).sum(axis=1)
            inside_fake[span] |= compare(part, fake[i : i + len(x), None]).any(axis=0)
            nearest[span] = np.minimum(nearest[span], part.min(axis=0))
    return Manifold(
        precision=float((inside_real > 0).mean()),
        recall=float(inside_fake.mean()),
        density=float(inside_real.mean()) / k,
        coverage=float(compare(nearest, real).mean()),
    )


_last: list[tuple[Any, Any, tuple[int, bool], Manifold]] = []


def _shared(reference: Any, candidate: Any, k: int, strict: bool) -> Manifold:
    """One computation for the measures of the same sets; only the latest is kept."""
    of_these = [e for e in _last if _same(e[0], reference) and _same(e[1], candidate)]
    for *_, key, measures in of_these:
        if key == (k, strict):
            return measures
    measures = manifold(reference, candidate, k, strict=strict)
    _last[:] = [*of_these, (reference, candidate, (k, strict), measures)]
    return measures


def _same(a: Any, b: Any) -> bool:
    """Whether two (memory-mapped) arrays are the same data: the object, or the same part of the same file."""
    import numpy as np

    if a is b:
        return True
    names = getattr(a, "filename", None), getattr(b, "filename", None)
    return names[0] is not None and names[0] == names[1] and a.shape == b.shape and np.array_equal(a[-1:], b[-1:])


class Neighbours(SetMetric):
    """One of the four measures on pool3 of Inception 2015-12-05."""

    def __init__(self, card: MetricCard, measure: str, k: int, *, strict: bool, path: Path | None = None) -> None:
        self.card = card
        self._measure, self._k, self._strict = measure, k, strict
        self._extractor = InceptionFeatures("pool3", "tf1", path)

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        if isinstance(reference, Statistics) or isinstance(candidate, Statistics):
            return SetValue(None, why="neighbours need the features of both sets; a file of moments does not hold them")
        m, n = len(reference), len(candidate)
        if min(m, n) <= self._k:
            return SetValue(None, n=n, why=f"{min(m, n)} images have no {self._k} neighbours each")
        measures = _shared(reference, candidate, self._k, self._strict)
        details = {"extractor": self._extractor.id, "k": self._k, "n_reference": m}
        value = float(getattr(measures, self._measure))
        return SetValue(value, n=n, warning=self._extractor.unverified(), details=details)


def _make(measure: str, k: int, source: str, strict: bool) -> Any:
    def factory() -> Neighbours:
        card = MetricCard(
            name=f"{measure}-k{k}",
            title=f"{measure.capitalize()}, k = {k}",
            version=1,
            unit="",
            better="higher",
            source=source,
            bounds=(0.0, None if measure == "density" else 1.0),
            kind="set",
            needs=(WEIGHTS,),
            reduction="share of points (density: mean count / k)",
            paired=False,
        )
        return Neighbours(card, measure, k, strict=strict)

    factory.__doc__ = f"{measure.capitalize()} with k = {k}."
    return factory


_ADM = "guided-diffusion evaluations/evaluator.py: k = 3; torch-fidelity's port of Inception"
_PRDC = "Naeem et al. 2020, package prdc: k = 5; torch-fidelity's port of Inception"

METRICS = tuple(
    [_make(m, 3, _ADM, False) for m in ("precision", "recall")]
    + [_make(m, 5, _PRDC, True) for m in ("precision", "recall", "density", "coverage")]
)
