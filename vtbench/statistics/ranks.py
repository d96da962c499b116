"""Ranks of models on the same images, with intervals from resamples that all of them share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vtbench.statistics.intervals import LEVEL, RESAMPLES, resample_sums, weighted
from vtbench.statistics.paired import holm, paired
from vtbench.types.errors import VtbenchError


@dataclass(frozen=True)
class Rank:
    """Place of a model (1 = best), its interval from shared resamples, and whether it ties with the one above."""

    name: str
    value: float
    rank: int
    low: int
    high: int
    tied_with_above: bool
    p_above: float | None
    """Paired p against the model one place above, Holm-adjusted over all such neighbours; None for the first."""


def ranks(
    table: Mapping[str, tuple[Sequence[float], Sequence[float] | None]],
    *,
    better: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Rank]:
    """Ranks of all models, best first. `table[name]` = (values, weights or None) over the same images in one order.

    Every resample draws one set of images for all models, ranks them anew, and the interval is that of the ranks.
    A model is tied with the one above it when the adjusted paired p is at least 0.05.
    """
    names = list(table)
    if not names:
        return []
    pairs = [weighted(list(table[name][0]), table[name][1]) for name in names]
    n = len(pairs[0][0])
    if any(len(v) != n for v, _ in pairs):
        raise VtbenchError("ranks need the same images of every model: leave out images that some model lacks", code=1)
    sign = -1.0 if better == "higher" else 1.0
    value = np.array([(w * v).sum() / w.sum() for v, w in pairs])
    order = np.argsort(sign * value, kind="stable")
    columns = np.stack([column for v, w in pairs for column in (w * v, w)], axis=1)
    sums = resample_sums(columns, resamples, seed)
    drawn = sign * sums[:, 0::2] / np.where(sums[:, 1::2] > 0, sums[:, 1::2], np.inf)
    # Rank 1 + number of models strictly better: equal models share the better place.
    place = np.stack([1 + (drawn < drawn[:, [m]]).sum(axis=1) for m in range(len(names))], axis=1)
    low, high = np.quantile(place, [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest")
    raw: list[float | None] = [None]
    for above, below in itertools.pairwise(order):
        (va, wa), (vb, wb) = pairs[above], pairs[below]
        raw.append(paired(list(va), list(vb), list(wa), list(wb), better=better, seed=seed, resamples=resamples).p)
    out = []
    for index, (m, p) in enumerate(zip(order, holm(raw), strict=True)):
        name, tied = names[m], index > 0 and (p is None or p >= 0.05)
        out.append(Rank(name, float(value[m]), index + 1, int(low[m]), int(high[m]), tied, p))
    return out
