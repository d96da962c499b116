"""Precision, recall, density and coverage where points lie exactly on the edge of a ball: who counts is by definition.

Kynkäänniemi et al. 2019 (equation 1): a point is in a ball if its distance is at most the radius. Package prdc of Naeem
et al. 2020: closer than the radius, in all four measures. Whole numbers, so that float64 holds every distance exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from vtbench.metrics import prdc


def column(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)[:, None]


def test_on_a_line_by_hand() -> None:
    """Radii of -14, 0, 4, 10, 20 are 14, 4, 4, 6, 10; those of 8 and 30 are 22.

    8 is 2 from 10 (inside) and 4 from 4 (on the edge); 30 is 10 from 20 (on the edge). -14 is 22 from 8 (on the edge).
    """
    real, fake = column(-14, 0, 4, 10, 20), column(8, 30)
    closed, open_ = (prdc.manifold(real, fake, 1, strict=strict) for strict in (False, True))
    assert closed == prdc.Manifold(precision=1.0, recall=1.0, density=3 / 2, coverage=3 / 5)
    assert open_ == prdc.Manifold(precision=1 / 2, recall=4 / 5, density=1 / 2, coverage=1 / 5)


def test_the_nearest_point_is_never_the_point_itself() -> None:
    """Twins are neighbours at distance 0: strictly inside lies nothing, not even a third."""
    real, fake = column(0, 0, 8, 8), column(0, 8)
    assert prdc.radii(real, 1, np.zeros(1)).tolist() == [0.0] * 4
    assert prdc.manifold(real, fake, 1, strict=False).coverage == 1.0
    assert prdc.manifold(real, fake, 1, strict=True).coverage == 0.0


def by_definition(real: np.ndarray, fake: np.ndarray, k: int, strict: bool) -> dict[str, float]:
    inside = np.less if strict else np.less_equal
    real_radius, fake_radius = (np.sort(cdist(x, x, "sqeuclidean"), axis=1)[:, k] for x in (real, fake))
    apart = cdist(real, fake, "sqeuclidean")
    return {
        "precision": float(inside(apart, real_radius[:, None]).any(axis=0).mean()),
        "recall": float(inside(apart, fake_radius[None]).any(axis=1).mean()),
        "density": float(inside(apart, real_radius[:, None]).sum(axis=0).mean() / k),
        "coverage": float(inside(apart.min(axis=1), real_radius).mean()),
    }


@pytest.mark.parametrize("factory", prdc.METRICS, ids=lambda factory: factory().card.name)
def test_each_metric_counts_the_edge_as_its_source_does(factory: type) -> None:
    """Points of a small grid, 64 of them so that their centre is exact, most of them on the edge of some ball."""
    metric = factory()
    rng = np.random.default_rng(1)
    real, fake = rng.integers(0, 12, (64, 3)).astype(float), rng.integers(3, 15, (48, 3)).astype(float)
    measure, _, k = metric.card.name.partition("-k")
    wanted, other = (by_definition(real, fake, int(k), strict)[measure] for strict in (k == "5", k != "5"))
    assert metric.finish(real, fake).value == pytest.approx(wanted, abs=1e-12)
    assert abs(wanted - other) > 0.01, "no point on an edge"
