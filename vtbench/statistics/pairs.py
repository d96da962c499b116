"""The paired test of many pairs at once: p as `paired` gives it, for a ranking of a hundred systems.

What is drawn does not depend on the pair, and sums over drawn images are linear in the systems' values: so every system
is summed once a draw, and a pair costs a subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtbench.statistics.intervals import BLOCK, SMALL, is_proportion, resample_sums
from vtbench.statistics.paired import PLAIN, Scale, bonett_price, bootstrap_ends, sign_test
from vtbench.statistics.permutation import EXACT, FEWEST, exchange_sums, finest

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

Places = NDArray[np.intp]
AT_ONCE = 1 << 15
"""Numbers of a block of pairs: 256 KiB, which a processor holds near; larger ones come from memory again and again,
and the system hands out and clears their pages every time."""


@dataclass(frozen=True)
class Systems:
    """Values and weights (n, m) float64 of m systems on the same n images; `scale` as in `paired`."""

    values: Floats
    weights: Floats
    scale: Scale
    seed: int
    resamples: int

    @property
    def n(self) -> int:
        return len(self.values)

    @cached_property
    def sums(self) -> tuple[Floats, Floats]:
        """Of w v and of w, (m,) each."""
        return (self.weights * self.values).sum(0), self.weights.sum(0)

    @cached_property
    def means(self) -> Floats:
        """(m,)"""
        with np.errstate(divide="ignore", invalid="ignore"):
            means: Floats = self.sums[0] / self.sums[1]
            return means

    @cached_property
    def scores(self) -> Floats:
        """(m,)"""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.scale.of(self.means)

    @cached_property
    def parts(self) -> Floats:
        """How far each image moves each score, times n (n, m); see `intervals.influence`."""
        centre = self.means
        moves: Floats = self.scale.slope(centre) * self.weights * (self.values - centre) / self.weights.mean(0)
        return moves

    @property
    def exact(self) -> bool:
        """Whether all exchanges are looked at."""
        return self.n <= EXACT

    @cached_property
    def moved(self) -> tuple[Floats, Floats]:
        """Sums of w v and of w over the exchanged images of every draw, (m, draws) each.

        Where all exchanges are looked at, half of them: the other half exchanges the images that these leave alone,
        which only turns the difference round.
        """
        m = self.values.shape[1]
        # Of one weight for all, the systems have their sums of weights in common.
        both = np.concatenate([self.weights * self.values, self.weights[:, : 1 if self.even else m]], axis=1)
        sums, weight = np.split(exchange_sums(both, self.resamples, self.seed, half=self.exact), [m], axis=1)
        return np.ascontiguousarray(sums.T), np.broadcast_to(weight.T, (m, len(weight)))

    @cached_property
    def centred(self) -> Floats:
        """Sums over the exchanged images less half of the sum over all, (m, draws): of one weight for all images, two
        systems differ in a draw by twice the difference of theirs."""
        return self.moved[0] - self.sums[0][:, None] / 2

    @cached_property
    def even(self) -> bool:
        """Whether every image of every system weighs the same."""
        return bool(np.ptp(self.weights) == 0)

    @cached_property
    def linear(self) -> bool:
        """Whether draws can be told apart by the means alone. Of one weight for all images the means of two systems
        have one sum in every draw, so that their scores lie the further apart the further the means do, whatever the
        scale, as long as no image by itself would have an infinite score."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.even and (self.scale is PLAIN or bool(np.isfinite(self.scale.of(self.values)).all()))

    @cached_property
    def unmoved(self) -> int:
        """How many draws exchange no image, or all of one weight: the two systems are as far apart as they are."""
        exchanged = np.rint(self.moved[1][0] / self.weights[0, 0])
        return int(np.count_nonzero((exchanged == 0) | (exchanged == self.n)))

    @cached_property
    def largest(self) -> Floats:
        """Of each system's values the one furthest from 0, (m,)."""
        extreme: Floats = np.abs(self.values).max(0)
        return extreme

    @cached_property
    def resampled(self) -> tuple[Floats, NDArray[np.bool_]]:
        """The score in every resample, and whether any weight was drawn, (resamples, m) each."""
        both = np.concatenate([self.weights * self.values, self.weights], axis=1)
        sums, weight = np.split(resample_sums(both, self.resamples, self.seed), 2, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.scale.of(sums / weight), weight > 0

    @cached_property
    def shares(self) -> bool:
        """Whether a pair may be one of proportions: some system has no value but 0 and 1."""
        return self.scale is PLAIN and bool(np.isin(self.values, (0.0, 1.0)).all(0).any())

    def proportions(self, a: int, b: int) -> bool:
        values, weights = (np.concatenate([part[:, a], part[:, b]]) for part in (self.values, self.weights))
        return self.shares and is_proportion(values, weights)


def pair_p(systems: Systems, pairs: Sequence[tuple[int, int]] | NDArray[np.intp], level: float) -> list[float | None]:
    """Two-sided p of every pair (places of two systems); None where nothing can be tested.

    As `paired`. Where draws cannot make p smaller, the width of the interval says how small it is: else the adjustment
    over many pairs would tell nothing apart. Where a score is infinite, the sign test decides.
    """
    out: list[float | None] = [None] * len(pairs)
    if not systems.n or not len(pairs):
        return out
    a, b = np.ascontiguousarray(np.asarray(pairs, dtype=np.intp).T)
    heavy = (systems.sums[1][a] > 0) & (systems.sums[1][b] > 0)
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(systems.scores[a] - systems.scores[b])
    able = np.flatnonzero(heavy & finite) if systems.n > 1 else np.array([], dtype=np.intp)
    p = np.zeros(len(pairs))
    step = max(1, BLOCK // max(1, systems.resamples))
    for start in range(0, len(able), step):
        some = able[start : start + step]
        p[some] = _tested(systems, a[some], b[some], level)
    if len(able) == len(pairs):
        return list(p.tolist())
    for k in able:
        out[k] = float(p[k])
    for k in np.flatnonzero(heavy & ~finite):
        apart = systems.values[:, a[k]] - systems.values[:, b[k]]
        out[k] = sign_test(int((apart > 0).sum()), int((apart < 0).sum()))
    return out


def _tested(systems: Systems, a: Places, b: Places, level: float) -> Floats:
    """p of the pairs (a[k], b[k]), whose differences are finite."""
    p = _permutation_p(systems, a, b)
    if systems.n < SMALL:
        if systems.scale is PLAIN and systems.n >= FEWEST:
            least = np.flatnonzero(p <= finest(systems.n, systems.resamples))
            p[least] = np.minimum(p[least], _student_p(systems, a[least], b[least]))
        return p
    from scipy.special import ndtr, ndtri

    width = 2 * float(ndtri((1 + level) / 2))
    for k in np.flatnonzero(p <= 2.5 / (systems.resamples + 1)):
        difference = float(systems.scores[a[k]] - systems.scores[b[k]])
        low, high = _ends(systems, int(a[k]), int(b[k]), difference, level)
        error = (high - low) / width
        # A difference that does not scatter over the images is no certainty.
        if error > 1e-9 * abs(difference):
            p[k] = min(p[k], float(2 * ndtr(-abs(difference) / error)))
    return p


def _permutation_p(systems: Systems, a: Places, b: Places) -> Floats:
    """`permutation_p` of every pair."""
    draws = systems.moved[0].shape[1]
    step = max(1, AT_ONCE // draws)
    far = np.full(len(a), systems.unmoved if systems.linear else 0, dtype=np.intp)
    rest = np.flatnonzero(~_one_sided(systems, a, b))
    count = _far if systems.linear else _far_on_scale
    for some in (rest[start : start + step] for start in range(0, len(rest), step)):
        far[some] = count(systems, a[some], b[some])
    p: Floats = far / draws if systems.exact else (far + 1) / (systems.resamples + 1)
    return p


def _one_sided(systems: Systems, a: Places, b: Places) -> NDArray[np.bool_]:
    """Pairs of which one system is better on every image, all of one weight: whatever changes places brings the two
    nearer to each other, so that only draws that move no image, or all, count. The smallest such step must be one that
    `_far` tells from none."""
    n, draws = systems.n, systems.moved[0].shape[1]
    out = np.zeros(len(a), dtype=bool)
    # To look at more images than this costs more than the draws.
    if not systems.linear or 4 * n > draws:
        return out
    values = np.ascontiguousarray(systems.values.T)
    step = max(1, AT_ONCE // n)
    for some in (slice(start, start + step) for start in range(0, len(a), step)):
        i, j = a[some], b[some]
        apart = values[i] - values[j]
        as_it_is, least = _least(systems, systems.means, i, j)
        smallest = np.maximum(apart.min(axis=1), -apart.max(axis=1))
        out[some] = 2 * smallest / n > 2 * (as_it_is - least)
    return out


def _least(systems: Systems, of: Floats, a: Places, b: Places) -> tuple[Floats, Floats]:
    """How far each pair of systems is apart in `of` (m,), and how far at least in a draw that counts.

    Sums in another order differ in their last digits; equal differences must count as equal.
    """
    as_it_is = np.abs(of[a] - of[b])
    scale = np.maximum(1.0, np.maximum(systems.largest[a], systems.largest[b]))
    return as_it_is, as_it_is - np.maximum(1e-10 * as_it_is, 1e-13 * scale)


def _far(systems: Systems, a: Places, b: Places) -> NDArray[np.intp]:
    """How many draws set each pair at least as far apart as it is, by the means alone."""
    apart = systems.centred[b]
    apart -= systems.centred[a]
    np.abs(apart, out=apart)
    least = _least(systems, systems.means, a, b)[1] * (systems.sums[1][a] / 2)
    return _at_least(apart, least)


def _far_on_scale(systems: Systems, a: Places, b: Places) -> NDArray[np.intp]:
    """How many draws set each pair at least as far apart as it is, whatever the weights."""
    (sums, total), (moved, weight) = systems.sums, systems.moved
    shift, heavier = moved[b] - moved[a], weight[b] - weight[a]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = systems.scale.of((sums[a, None] + shift) / (total[a, None] + heavier))
        apart -= systems.scale.of((sums[b, None] - shift) / (total[b, None] - heavier))
    # Two infinite scores are equal.
    apart[np.isnan(apart)] = 0.0
    return _at_least(np.abs(apart, out=apart), _least(systems, systems.scores, a, b)[1])


def _at_least(apart: Floats, least: Floats) -> NDArray[np.intp]:
    # A row at a time: numpy counts along an axis by turning truths into whole numbers first.
    return np.array([np.count_nonzero(row) for row in apart >= least[:, None]], dtype=np.intp)


def _student_p(systems: Systems, a: Places, b: Places) -> Floats:
    """Student's p of differences of means; 1 for proportions, and where the differences do not scatter."""
    from scipy.special import stdtr

    n = systems.n
    apart = systems.parts[:, a] - systems.parts[:, b]
    error = np.sqrt((apart**2).sum(0) / (n * (n - 1)))
    difference = np.abs(systems.scores[a] - systems.scores[b])
    sure = error > 1e-9 * difference
    if systems.shares:
        sure &= np.array([not systems.proportions(int(i), int(j)) for i, j in zip(a, b, strict=True)], dtype=bool)
    p: Floats = np.ones(len(a))
    p[sure] = 2 * stdtr(n - 1, -difference[sure] / error[sure])
    return p


def _ends(systems: Systems, a: int, b: int, difference: float, level: float) -> tuple[float, float]:
    """(low, high) of the difference of two scores."""
    one, two = systems.values[:, a], systems.values[:, b]
    if systems.proportions(a, b):
        return bonett_price(one, two, level)
    scores, drawn = systems.resampled
    some = drawn[:, a] & drawn[:, b]
    with np.errstate(invalid="ignore"):
        apart = scores[some, a] - scores[some, b]
    largest = max(abs(float(one.max())), abs(float(two.max())))
    return bootstrap_ends(apart, difference, systems.parts[:, a] - systems.parts[:, b], largest, systems.scale, level)
