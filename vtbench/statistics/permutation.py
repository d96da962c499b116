"""The paired permutation test: what the difference would be if the two systems had changed places on some images.

Under 'no difference' the two results of an image could as well be the other way round, whatever the score is made of
(means, ratios of sums, a function of them), so the level holds at every n, for ties and skewed values as well.
Fisher 1935; scipy.stats.permutation_test with permutation_type="samples" is the same and the test of this file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtbench.statistics.intervals import BLOCK, KEPT

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

EXACT = 13
"""Up to this many images all 2^n exchanges are looked at; beyond, random ones."""
FEWEST = 6
"""Images below which no p can be under 0.05: all of n wins have p = 2 / 2^n."""


def finest(n: int, resamples: int) -> float:
    """The smallest p that exchanges of n images can give."""
    return 2 / 2**n if n <= EXACT else 1 / (resamples + 1)


def permutation_p(
    one: tuple[Floats, Floats],
    two: tuple[Floats, Floats],
    score: Callable[[Floats], Floats],
    *,
    resamples: int,
    seed: int,
) -> float:
    """Two-sided p of score(sum(w v) / sum(w)) of `one` minus that of `two`; each (values, weights), float64 (n,).

    Exact up to 13 images; beyond, (1 + exchanges at least as far apart) / (1 + resamples) of random exchanges.
    """
    (va, wa), (vb, wb) = one, two
    moved = np.stack([wb * vb - wa * va, wb - wa], axis=1)
    sums = np.array([(wa * va).sum(), wa.sum(), (wb * vb).sum(), wb.sum()])

    def differences(exchanged: Floats) -> Floats:
        """Of every row of exchanges (r, n), 1 where an image's two results have changed places."""
        shift = exchanged @ moved
        with np.errstate(divide="ignore", invalid="ignore"):
            a = score((sums[0] + shift[:, 0]) / (sums[1] + shift[:, 1]))
            b = score((sums[2] - shift[:, 0]) / (sums[3] - shift[:, 1]))
            # Two infinite scores are equal.
            return np.abs(np.nan_to_num(a - b, nan=0.0, posinf=np.inf, neginf=-np.inf))

    n = len(va)
    as_it_is = float(differences(np.zeros((1, n)))[0])
    # Sums in another order differ in their last digits; equal differences must count as equal.
    scale = max(1.0, float(np.abs(np.concatenate([va, vb])).max()))
    least = as_it_is - max(1e-10 * as_it_is, 1e-13 * scale)
    far = sum(int((differences(rows) >= least).sum()) for rows in _exchanges(n, resamples, seed))
    return far / 2**n if n <= EXACT else (far + 1) / (resamples + 1)


def exchange_sums(columns: Floats, resamples: int, seed: int, *, half: bool = False) -> Floats:
    """Sums of every column (n, m) over the images that each draw exchanges: (draws, m) float64.

    half: of all 2^n exchanges those that leave the last image alone; the others exchange what these do not.
    """
    blocks = _exchanges(len(columns), resamples, seed)
    return np.concatenate([(rows[: len(rows) // 2] if half else rows) @ columns for rows in blocks])


def _exchanges(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """All rows of zeros and ones for few images, else `resamples` random ones, in blocks."""
    draws = _kept if resamples * n <= KEPT else _drawn
    for rows in draws(n, resamples, seed):
        yield rows.astype(np.float64)


def _drawn(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    if n <= EXACT:
        yield (np.arange(2**n)[:, None] >> np.arange(n)[None] & 1).astype(np.uint8)
        return
    rng = np.random.Generator(np.random.SFC64(seed))
    rows = max(1, BLOCK // n)
    for start in range(0, resamples, rows):
        yield rng.integers(0, 2, size=(min(rows, resamples - start), n), dtype=np.uint8)


@functools.lru_cache(maxsize=4)
def _kept(n: int, resamples: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    """They are the same whoever asks: every pair of a ranking does."""
    return tuple(_drawn(n, resamples, seed))
