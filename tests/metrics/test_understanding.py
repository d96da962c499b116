"""Metrics of understanding against scipy, scikit-learn, numpy, and arithmetic that can be followed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from vtbench import registry
from vtbench.metrics.agreement import ratio
from vtbench.metrics.tokens_kept import NO_READING, TokensP5, TokensP95
from vtbench.metrics.tower_features import CentredCosine, KnnRefit, KnnTransfer, LinearCKA
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference
from vtbench.types.reading import Dense, Rate, Reading

RANDOM = np.random.default_rng(5)


def batch(reading: Reading | None, count: int = 3) -> Batch:
    pixels = torch.zeros((count, 3, 8, 8), dtype=torch.uint8)
    items = [Item(f"{k}", None) for k in range(count)]
    return Batch(Reference(pixels, items, [""] * count), pixels, reading=reading)


def values(name: str, reading: Reading | None) -> list[Any]:
    return [one.value if one.value is not None else one.why for one in registry.metric(name).measure(batch(reading))]


def of_logits(full: Any, reduced: Any, labels: Any = (None, None, None)) -> Reading:
    rates = [Rate(9, 36)] * 3
    return Reading(rates, logits=torch.tensor(full), reduced_logits=torch.tensor(reduced), labels=labels)


FULL = [[3.0, 1, 0, 0, 0, 0, 0], [0, 2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 5]]
REDUCED = [[1.0, 2, 0, 0, 0, 0, 0], [0, 2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]]
READING = of_logits(FULL, REDUCED, [0, 1, 5])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("agreement", [0.0, 1.0, 0.0]),
        # The third: the full model's five are 6, then the equal ones by number, 0 to 3.
        ("agreement-at-5", [1.0, 1.0, 0.0]),
        ("accuracy", [0.0, 1.0, 1.0]),
        ("accuracy-full", [1.0, 1.0, 0.0]),
        ("flips-lost", [1.0, 0.0, 0.0]),
        ("flips-gained", [0.0, 0.0, 1.0]),
        ("visual-tokens", [9.0, 9.0, 9.0]),
        ("duplicates", [0.0, 0.0, 0.0]),
    ],
)
def test_answers_that_can_be_followed_by_hand(name: str, expected: list[float]) -> None:
    assert values(name, READING) == expected
    assert values(name, None) == [NO_READING] * 3


def test_divergence_is_scipys() -> None:
    from scipy.special import rel_entr, softmax

    p, q = softmax(np.array(FULL), axis=1), softmax(np.array(REDUCED), axis=1)
    assert values("kl", READING) == pytest.approx(rel_entr(p, q).sum(axis=1).tolist(), rel=1e-12, abs=1e-15)


def test_what_nothing_says_is_null_with_its_reason() -> None:
    unlabelled = of_logits(FULL, REDUCED)
    assert all("folder of that name" in why for why in values("accuracy", unlabelled))
    few = of_logits([[1.0, 0]] * 3, [[1.0, 0]] * 3)
    assert all("fewer than 6 classes" in why for why in values("agreement-at-5", few))
    none = Reading([Rate(9, 36)] * 3, why={"logits": "the tower has no classifier"})
    assert values("agreement", none) == ["the tower has no classifier"] * 3
    assert all("have no place" in why for why in values("coverage", none))


def test_retained_is_a_ratio_with_a_paired_interval() -> None:
    part, whole = [1.0] * 60 + [0.0] * 40, [1.0] * 80 + [0.0] * 20
    result = ratio(part, whole)
    assert result is not None
    value, low, high = result
    assert value == 0.75
    # Where every image that is right now was right before, the share of those is a proportion of 60 in 80.
    error = 1.96 * math.sqrt(0.75 * 0.25 / 80)
    assert (low, high) == pytest.approx((value - error, value + error), abs=0.01)
    assert ratio(whole, whole) == (1.0, 1.0, 1.0)
    assert ratio(part, [0.0] * 100) is None


def test_percentiles_are_nearest_ranks() -> None:
    for count in (1, 7, 20, 100, 101):
        tokens = RANDOM.integers(1, 577, count).tolist()
        rows = [{"values": {"visual-tokens": float(n)}, "why": {}} for n in tokens]
        for metric, share in ((TokensP5(), 5), (TokensP95(), 95)):
            assert metric.finish(rows, []).value == np.percentile(tokens, share, method="inverted_cdf")


def test_dense_maps() -> None:
    full = torch.randn((20, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    filled = full.clone()
    filled[3:9] = full[12]
    group = torch.arange(20)
    group[3:9] = 12
    reading = Reading([Rate(14, 20)], dense=[Dense(full, filled, group)])
    mean = full.mean(dim=0)
    expected = 1 - cosine((full - mean).flatten(), (filled - mean).flatten())
    one = batch(reading, 1)
    assert registry.metric("dense-correlation").measure(one)[0].value == pytest.approx(expected, abs=1e-12)
    assert registry.metric("dense-nearest").measure(one)[0].value == 1.0
    shifted = Reading([Rate(14, 20)], dense=[Dense(full, full.roll(1, 0), torch.arange(20))])
    assert registry.metric("dense-nearest").measure(batch(shifted, 1))[0].value == 0.0


def features(n: int = 45, width: int = 8) -> tuple[Any, Any, list[str]]:
    classes = [f"class {k % 3}" for k in range(n)]
    full = RANDOM.normal(size=(n, width)) + 2.0 + np.eye(3)[np.arange(n) % 3] @ RANDOM.normal(size=(3, width)) * 2
    return full.astype(np.float32), (full + RANDOM.normal(size=full.shape)).astype(np.float32), classes


def test_neighbours_are_scikit_learns() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    full, reduced, names = features()
    for metric, gallery in ((KnnTransfer(), full), (KnnRefit(), reduced)):
        right = []
        for k in range(len(full)):
            others = np.arange(len(full)) != k
            # With one vote more for the nearest there is no tie of two classes that scikit-learn breaks by their names.
            near = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(
                gallery[others], np.array(names)[others]
            )
            _, order = near.kneighbors(reduced[k : k + 1])
            voted = [np.array(names)[others][i] for i in order[0]]
            most = max(voted.count(name) for name in voted)
            right.append(next(name for name in voted if voted.count(name) == most) == names[k])
        assert metric.finish_read(full, reduced, names).value == pytest.approx(np.mean(right))
    assert KnnRefit().finish_read(full, reduced, [None] * 45).value is None


def test_centred_cosine_sees_what_plain_cosine_hides() -> None:
    full, _, _ = features()
    other = np.roll(full, 1, axis=0)
    mean = full.mean(axis=0)
    both = CentredCosine().finish(full, other)
    expected = np.mean(
        [
            float(np.dot(a - mean, b - mean) / np.linalg.norm(a - mean) / np.linalg.norm(b - mean))
            for a, b in zip(full.astype(float), other.astype(float), strict=True)
        ]
    )
    assert both.value == pytest.approx(expected, abs=1e-6)
    assert both.details["plain_cosine"] > both.value + 0.3
    assert CentredCosine().finish(full, full).value == pytest.approx(1.0)


def test_cka_is_that_of_its_definition_and_knows_no_rotation() -> None:
    full, reduced, _ = features()
    for n in (45, 7):
        x, y = (side[:n].astype(np.float64) for side in (full, reduced))
        centre = np.eye(n) - 1 / n

        def hsic(a: Any, b: Any, centre: Any = centre) -> float:
            return float(np.trace(a @ a.T @ centre @ b @ b.T @ centre))

        expected = hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))
        assert LinearCKA().finish(full[:n], reduced[:n]).value == pytest.approx(expected, rel=1e-9)
    turn, _ = np.linalg.qr(RANDOM.normal(size=(8, 8)))
    assert LinearCKA().finish(full, 3 * full @ turn).value == pytest.approx(1.0)
