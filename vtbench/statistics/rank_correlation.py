"""Do two scores put systems in the same order? Rank correlation where the systems come in families.

Variants of one family share their authors, their data and most of their code: they are no independent witnesses. So the
interval draws whole families anew (cluster bootstrap: Field and Welsh 2007, Journal of the Royal Statistical Society B
69), and says nothing where there are too few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vtbench.statistics.intervals import LEVEL
from vtbench.types.errors import VtbenchError

FEWEST_SYSTEMS = 8
"""Below, a coefficient says next to nothing: of 7 systems without any relation one in twenty has |rho| above 0.78."""
FEWEST_FAMILIES = 5
"""Below, whole families cannot be drawn in ways enough for an interval."""
RESAMPLES = 2000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coefficient:
    """value in [-1, 1]; low, high: its interval, None without one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RankCorrelation:
    """n systems of so many families. Coefficients are None where there are none, `why` then says why not.

    without_one: the least and the greatest Spearman coefficient where one family is left out, which shows what hangs on
    a single one. why_no_interval: why coefficients stand alone. undefined: resamples that have no coefficient, since
    all their systems are equal in one score.
    """

    n: int
    families: int
    spearman: Coefficient | None = None
    kendall: Coefficient | None = None
    without_one: tuple[float, float] | None = None
    why: str | None = None
    why_no_interval: str | None = None
    undefined: int = 0


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    families: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> RankCorrelation:
    """Spearman's rho and Kendall's tau-b of x and y, finite, one pair a system, with percentile intervals.

    families[i]: the family of system i. Both coefficients take ties by their mean rank, as scipy.stats.spearmanr and
    kendalltau do.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not len(a) == len(b) == len(families):
        raise VtbenchError(f"a correlation got {len(a)} and {len(b)} scores of {len(families)} systems")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise VtbenchError("a correlation got a score that is not finite: leave that system out")
    names = list(dict.fromkeys(families))
    n = len(a)
    if n < FEWEST_SYSTEMS:
        why = f"{n} {'system' if n == 1 else 'systems'}: fewer than {FEWEST_SYSTEMS} give no coefficient"
        return RankCorrelation(n, len(names), why=why)
    if len(np.unique(a)) == 1 or len(np.unique(b)) == 1:
        return RankCorrelation(n, len(names), why="all systems are equal in one of the two scores")
    members = [np.flatnonzero([f == name for f in families]) for name in names]
    rho, tau = spearman(a, b), kendall(a, b)
    left = [np.concatenate([m for m in members if m is not one]) for one in members] if len(members) > 1 else []
    others = [c for index in left if (c := spearman(a[index], b[index])) is not None]
    without = (min(others), max(others)) if others else None
    assert rho is not None
    assert tau is not None
    if len(names) < FEWEST_FAMILIES:
        why = (
            f"{len(names)} {'family' if len(names) == 1 else 'families'}: fewer than {FEWEST_FAMILIES} give no interval"
        )
        return RankCorrelation(n, len(names), Coefficient(rho), Coefficient(tau), without, why_no_interval=why)
    drawn: list[tuple[float, float]] = []
    dice = np.random.Generator(np.random.PCG64(seed))
    for _ in range(resamples):
        index = np.concatenate([members[k] for k in dice.integers(len(members), size=len(members))])
        one, two = spearman(a[index], b[index]), kendall(a[index], b[index])
        if one is not None and two is not None:
            drawn.append((one, two))
    ends = np.quantile(np.array(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return RankCorrelation(
        n,
        len(names),
        Coefficient(rho, float(ends[0, 0]), float(ends[1, 0])),
        Coefficient(tau, float(ends[0, 1]), float(ends[1, 1])),
        without,
        undefined=resamples - len(drawn),
    )


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1, equals by the mean of theirs: (n,) float64."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2)[place]
    return ranks


def spearman(a: Floats, b: Floats) -> float | None:
    """Pearson's correlation of the ranks; None where all are equal in one of the two."""
    one, two = mean_ranks(a), mean_ranks(b)
    one, two = one - one.mean(), two - two.mean()
    spread = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / spread if spread else None


def kendall(a: Floats, b: Floats) -> float | None:
    """tau-b: pairs in the same order less pairs in the other, over the root of the pairs that each tells apart."""
    one, two = (np.sign(v[:, None] - v[None, :]) for v in (a, b))
    spread = float(np.sqrt((one * one).sum() * (two * two).sum()))
    return float((one * two).sum()) / spread if spread else None
