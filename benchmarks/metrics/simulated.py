"""Made images whose true scores are known: values like those of real metrics, and pairs of equal systems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Generator = np.random.Generator
SHARES: dict[str, Any] = {"bounds": (0.0, 1.0)}


@dataclass(frozen=True)
class Values:
    """draw(generator, n) -> (values, weights or None); `truth`: the score of infinitely many images."""

    draw: Callable[[Generator, int], tuple[Any, Any]]
    truth: float
    settings: dict[str, Any] = field(default_factory=dict)
    """What the metric tells `mean_interval` of its values."""


@dataclass(frozen=True)
class Pair:
    """draw(generator, n) -> (values of A, values of B, weights or None) of two systems that are equally good."""

    draw: Callable[[Generator, int], tuple[Any, Any, Any]]
    pooled: bool = False
    """Squared errors, compared as decibels of their mean."""
    settings: dict[str, Any] = field(default_factory=dict)


def _cer(rng: Generator, n: int) -> tuple[Any, Any]:
    length = rng.integers(5, 60, n).astype(float)
    return rng.binomial(length.astype(int), 0.2) / length, length


def _weighted_shares(rng: Generator, n: int) -> tuple[Any, Any]:
    return rng.binomial(1, 0.7, n).astype(float), rng.integers(1, 10, n).astype(float)


def _pixels(rng: Generator, n: int) -> Any:
    """Images of three sizes."""
    return rng.choice([1.0, 2.0, 6.0], n)


def _errors(rng: Generator, n: int, lossless: float) -> Any:
    """Squared errors over three orders of magnitude, some of them none."""
    return np.where(rng.random(n) < lossless, 0.0, rng.lognormal(math.log(60), 0.9, n))


def values() -> dict[str, Values]:
    """Distributions like those of real metrics, hard ones included."""
    log_normal = math.exp(1.0 / 2)
    error = 60 * math.exp(0.9**2 / 2)
    return {
        "normal, like PSNR (28 ± 4 dB)": Values(lambda rng, n: (rng.normal(28, 4, n), None), 28.0),
        "skewed, like LPIPS (gamma)": Values(lambda rng, n: (rng.gamma(4, 0.05, n), None), 0.2),
        "very skewed (lognormal, sigma 1)": Values(lambda rng, n: (rng.lognormal(0, 1, n), None), log_normal),
        "ties: four of five values are 0": Values(
            lambda rng, n: (np.where(rng.random(n) < 0.8, 0.0, rng.random(n)), None), 0.1
        ),
        "0 or 1, half of them 1": Values(lambda rng, n: (rng.binomial(1, 0.5, n).astype(float), None), 0.5, SHARES),
        "0 or 1, nine of ten 1": Values(lambda rng, n: (rng.binomial(1, 0.9, n).astype(float), None), 0.9, SHARES),
        "0 or 1, weights 1 to 9": Values(_weighted_shares, 0.7, SHARES),
        "ratio of sums, like CER (weights 5 to 59)": Values(_cer, 0.2),
        "pooled squared errors": Values(lambda rng, n: (_errors(rng, n, 0), None), error, {"logarithm": True}),
        "pooled squared errors, pixels unlike": Values(
            lambda rng, n: (_errors(rng, n, 0), _pixels(rng, n)), error, {"logarithm": True}
        ),
        "pooled squared errors, a fifth lossless": Values(
            lambda rng, n: (_errors(rng, n, 0.2), None), 0.8 * error, {"logarithm": True}
        ),
        "pooled squared errors, nine of ten lossless": Values(
            lambda rng, n: (_errors(rng, n, 0.9), None), 0.1 * error, {"logarithm": True}
        ),
    }


def _common(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    common = rng.normal(28, 4, n)
    return common + rng.normal(0, 0.5, n), common + rng.normal(0, 0.5, n), None


def _factors(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    common = rng.gamma(4, 0.05, n)
    return common * rng.lognormal(0, 0.1, n), common * rng.lognormal(0, 0.1, n), None


def _heavy(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    return rng.lognormal(0, 1.5, n), rng.lognormal(0, 1.5, n), None


def _equal_mostly(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    common = rng.random(n)
    return (*(np.where(rng.random(n) < 0.3, rng.random(n), common) for _ in range(2)), None)


def _skewed_differences(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    """Not exchangeable: A loses much on few images and wins a little on many; the true means are equal."""
    common = rng.normal(28, 4, n)
    return common + 0.5 - rng.exponential(0.5, n), common, None


def _right_or_wrong(ease: float, weights: bool = False) -> Callable[[Generator, int], tuple[Any, Any, Any]]:
    """ease: how much oftener an image is read right than wrong."""

    def draw(rng: Generator, n: int) -> tuple[Any, Any, Any]:
        right = rng.beta(ease, 1, n)
        a, b = (rng.binomial(1, right).astype(float) for _ in range(2))
        return a, b, rng.integers(1, 10, n).astype(float) if weights else None

    return draw


def _weighted(rng: Generator, n: int) -> tuple[Any, Any, Any]:
    length = rng.integers(5, 60, n)
    ease = rng.beta(2, 8, n)
    a, b = (rng.binomial(length, ease) / length for _ in range(2))
    return a, b, length.astype(float)


def _pooled(lossless: float) -> Callable[[Generator, int], tuple[Any, Any, Any]]:
    def draw(rng: Generator, n: int) -> tuple[Any, Any, Any]:
        common = _errors(rng, n, 0)
        a, b = (np.where(rng.random(n) < lossless, 0.0, common * rng.lognormal(0, 0.3, n)) for _ in range(2))
        return a, b, _pixels(rng, n)

    return draw


def pairs() -> dict[str, Pair]:
    """Two equal systems on the same images, by what is compared."""
    return {
        "PSNR": Pair(_common),
        "LPIPS": Pair(_factors),
        "very skewed, nothing in common": Pair(_heavy),
        "equal on half of the images": Pair(_equal_mostly),
        "differences that are skewed themselves": Pair(_skewed_differences),
        "right or wrong": Pair(_right_or_wrong(2), settings=SHARES),
        "right or wrong, 20 of 21 right": Pair(_right_or_wrong(20), settings=SHARES),
        "right or wrong, weights 1 to 9": Pair(_right_or_wrong(2, weights=True), settings=SHARES),
        "ratio of sums, like CER": Pair(_weighted),
        "pooled PSNR, pixels unlike": Pair(_pooled(0.0), True),
        "pooled PSNR, a fifth lossless": Pair(_pooled(0.2), True),
    }


@dataclass(frozen=True)
class Ladder:
    """draw(generator, n) -> values of every system on the same n images; `truth`: the ranks that each really has, equal
    ones sharing theirs."""

    draw: Callable[[Generator, int], list[Any]]
    truth: tuple[tuple[int, int], ...]
    pooled: bool = False


def _steps(*behind: float) -> Callable[[Generator, int], list[Any]]:
    """Decibels, each system so much behind the first; what two differ by scatters by 0.7 dB over the images."""

    def draw(rng: Generator, n: int) -> list[Any]:
        common = rng.normal(28, 4, n)
        return [common - step + rng.normal(0, 0.5, n) for step in behind]

    return draw


def _equal_errors(rng: Generator, n: int) -> list[Any]:
    common = _errors(rng, n, 0)
    return [np.where(rng.random(n) < 0.2, 0.0, common * rng.lognormal(0, 0.3, n)) for _ in range(4)]


def ladders() -> dict[str, Ladder]:
    """Four systems on the same images, by how good they really are."""
    equal = ((1, 4),) * 4
    return {
        "four equal (PSNR)": Ladder(_steps(0, 0, 0, 0), equal),
        "four equal (pooled PSNR, a fifth lossless)": Ladder(_equal_errors, equal, True),
        "two equal, one 0.3 dB and one 1 dB behind": Ladder(_steps(0, 0, 0.3, 1), ((1, 2), (1, 2), (3, 3), (4, 4))),
    }
