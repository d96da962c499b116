"""Do two scores put systems in the same order? Rank correlation where the systems come in families.

Variants of one family share their authors, their data and most of their code: they are no independent witnesses. So the
interval draws whole families anew (cluster bootstrap: Field and Welsh 2007, Journal of the Royal Statistical Society B
69), and says nothing where there are too few of them.
"""

from __future__ import annotations

import functools
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
    kendalltau do. Asked again for the same, which every page of a site does of the printed numbers, it remembers.
    """
    a, b = (tuple(np.asarray(v, dtype=np.float64).tolist()) for v in (x, y))
    if not len(a) == len(b) == len(families):
        raise VtbenchError(f"a correlation got {len(a)} and {len(b)} scores of {len(families)} systems")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise VtbenchError("a correlation got a score that is not finite: leave that system out")
    return _rank_correlation(a, b, tuple(families), seed, resamples, level)


@functools.lru_cache(maxsize=256)
def _rank_correlation(
    x: tuple[float, ...], y: tuple[float, ...], families: tuple[str, ...], seed: int, resamples: int, level: float
) -> RankCorrelation:
    a, b = np.array(x), np.array(y)
    names = list(dict.fromkeys(families))
    n = len(a)
    if n < FEWEST_SYSTEMS:
        why = f"{n} {'system' if n == 1 else 'systems'}: fewer than {FEWEST_SYSTEMS} give no coefficient"
        return RankCorrelation(n, len(names), why=why)
    if len(np.unique(a)) == 1 or len(np.unique(b)) == 1:
        return RankCorrelation(n, len(names), why="all systems are equal in one of the two scores")
    members = [np.flatnonzero([f == name for f in families]) for name in names]
    both = _Both(a, b)
    rho, tau = both.coefficients(np.arange(n))
    left = [np.concatenate([m for m in members if m is not one]) for one in members] if len(members) > 1 else []
    others = [c for index in left if (c := both.coefficients(index)[0]) is not None]
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
        one, two = both.coefficients(index)
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


class _Both:
    """The coefficients of any resample of two scores, whose values are put in order once for all resamples."""

    def __init__(self, a: Floats, b: Floats) -> None:
        self.places = [np.unique(v, return_inverse=True)[1] for v in (a, b)]
        one, two = (np.sign(v[:, None] - v[None, :]) for v in (a, b))
        self.agreements = one * two, one * one, two * two

    def coefficients(self, index: npt.NDArray[np.intp]) -> tuple[float | None, float | None]:
        """Spearman's and Kendall's of the systems `index`, each as often as it stands there; None where all are equal
        in one of the two."""
        one, two = (mean_ranks(place[index]) for place in self.places)
        one, two = one - one.mean(), two - two.mean()
        spread = float(np.sqrt((one @ one) * (two @ two)))
        rho = float(one @ two) / spread if spread else None
        # tau-b: pairs in the same order less pairs in the other, over the root of the pairs that each tells apart.
        times = np.bincount(index, minlength=len(self.places[0])).astype(np.float64)
        same, apart, also = (float(times @ pairs @ times) for pairs in self.agreements)
        spread = float(np.sqrt(apart * also))
        return rho, same / spread if spread else None


def mean_ranks(places: npt.NDArray[np.intp]) -> Floats:
    """Ranks from 1 of values known by their places in order, equals by the mean of theirs: (n,) float64."""
    count = np.bincount(places)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[places]
    return ranks
