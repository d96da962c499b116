"""Ranks of models on the same images, from paired tests of every pair of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtbench.statistics.intervals import LEVEL, RESAMPLES, weighted
from vtbench.statistics.paired import PLAIN, Scale, holm
from vtbench.statistics.pairs import Systems, pair_p
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

DRAWS = 100_000_000
"""Images drawn over all pairs of one ranking: where these are many, a pair has fewer resamples, never under 400."""


@dataclass(frozen=True)
class Rank:
    """Where a model may stand (1 = best): from behind all that are told apart above it to before all below it."""

    name: str
    value: float
    low: int
    high: int
    best: bool
    """Whether it is the best by value, or not told apart from it."""
    p_best: float | None
    """p against the best by value, Holm-adjusted over every pair of the ranking; None for the best itself."""
    apart_from: str | None
    """The first model by value, going down, from which it is told apart."""


def ranks(
    table: Mapping[str, tuple[Sequence[float] | Floats, Sequence[float] | Floats | None]],
    *,
    better: str,
    scale: Scale = PLAIN,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Rank]:
    """Ranks of all models, best value first, equals by name. `table[name]` = (values, weights or None) over the same
    images in order. scale: what the score is made of their mean by, as in `paired`; `better` speaks of the values.

    Every pair is tested on the shared images and adjusted by Holm over all pairs, so that no model inherits a place
    from a neighbour: two may each be like a third and yet be told apart. [low, high] then holds the true rank of all
    models at once with probability `level` (Al Mohamad, Goeman, van Zwet 2022, Biometrics 78).
    """
    names = list(table)
    if not names:
        return []
    pairs = [weighted(*table[name]) for name in names]
    n = len(pairs[0][0])
    if any(len(v) != n for v, _ in pairs):
        raise VtbenchError("ranks need the same images of every model: leave out images that some model lacks", code=1)
    sign = -1.0 if better == "higher" else 1.0
    value = np.array([(w * v).sum() / w.sum() for v, w in pairs])
    # Equals by name: who is first of them is what the others are held against, whatever the order of the table.
    order = sorted(range(len(names)), key=lambda m: (sign * value[m], names[m]))
    asked = np.stack(np.triu_indices(len(order), 1), axis=1)
    draws = max(400, min(resamples, DRAWS // max(1, n * len(asked))))
    at = [names[m] for m in order]
    values, weights = (np.stack([pairs[m][k] for m in order], axis=1) for k in (0, 1))
    raw = pair_p(Systems(values, weights, scale, seed, draws), asked, level)
    adjusted = holm(raw)
    apart = np.zeros((len(order), len(order)), dtype=bool)
    # None, which is never told apart, is NaN here.
    apart[asked[:, 0], asked[:, 1]] = np.array(adjusted, dtype=np.float64) < 1 - level
    # The pairs of the best come first.
    of_best = [None, *adjusted[: len(order) - 1]]
    return [_rank(place, at, float(value[m]), of_best[place], apart) for place, m in enumerate(order)]


def _rank(place: int, names: Sequence[str], value: float, p_best: float | None, apart: NDArray[np.bool_]) -> Rank:
    """The rank of the model at `place` (0 = best by value) of `names`. apart[i, j], i < j: whether those are."""
    below = place + 1 + np.flatnonzero(apart[place, place + 1 :])
    return Rank(
        name=names[place],
        value=value,
        low=1 + int(apart[:place, place].sum()),
        high=len(names) - len(below),
        best=not apart[0, place],
        p_best=p_best,
        apart_from=names[below[0]] if len(below) else None,
    )
