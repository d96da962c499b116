"""Kernel Inception Distance: squared MMD with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401).

`kid` is unbiased over all images and has no random step. `kid-tf` is torch-fidelity's estimate, the mean over 100
random subsets of 1,000 (torch_fidelity/metric_kid.py, rng_seed 2020), which is null under 1,000 images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.metrics.inception import WEIGHTS, InceptionFeatures, Resize
from vtbench.metrics.moments import Statistics
from vtbench.statistics.intervals import Interval, jackknife
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


SUBSETS, SUBSET, SEED = 100, 1000, 2020
_BLOCK = 2048
_GROUPS = 10


def _cube(x: Floats, y: Floats) -> Floats:
    """The kernel of every pair: (n, d), (m, d) -> (n, m)."""
    product: Floats = x @ y.T
    product /= x.shape[1]
    product += 1
    return product * product * product


def _group_sums(a: Any, b: Any | None, groups: int) -> Floats:
    """Kernel sums between groups (image i is in group i mod `groups`): (groups, groups).

    b None: within `a`, a pair of an image with itself left out.
    """
    import numpy as np

    other = a if b is None else b
    out = np.zeros((groups, groups))
    for i in range(0, len(a), _BLOCK):
        x = np.asarray(a[i : i + _BLOCK], dtype=np.float64)
        for j in range(i if b is None else 0, len(other), _BLOCK):
            kernel = _cube(x, np.asarray(other[j : j + _BLOCK], dtype=np.float64))
            if b is None and i == j:
                np.fill_diagonal(kernel, 0.0)
            rows = (np.arange(i, i + kernel.shape[0]) % groups)[None] == np.arange(groups)[:, None]
            columns = (np.arange(j, j + kernel.shape[1]) % groups)[:, None] == np.arange(groups)[None]
            part = rows.astype(float) @ kernel @ columns.astype(float)
            out += part if b is not None or i == j else part + part.T
    return out


def _sizes(n: int, groups: int) -> Floats:
    import numpy as np

    return np.array([len(range(g, n, groups)) for g in range(groups)], dtype=np.float64)


def _unbiased(xx: float, yy: float, xy: float, m: float, n: float) -> float:
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)


def kid(reference: Any, candidate: Any) -> float:
    """Unbiased squared MMD of two feature sets (m, d), (n, d), over all pairs, in blocks; may be below 0."""
    xx, yy, xy = (
        float(_group_sums(a, b, 1)[0, 0]) for a, b in ((reference, None), (candidate, None), (reference, candidate))
    )
    return _unbiased(xx, yy, xy, len(reference), len(candidate))


def kid_interval(reference: Any, candidate: Any, groups: int = _GROUPS) -> tuple[float, Interval | None]:
    """(unbiased KID, its delete-a-group jackknife): one pass over the kernel serves all groups.

    The interval is None below ten images a group.
    """
    import numpy as np

    m, n = len(reference), len(candidate)
    if min(m, n) < 10 * groups:
        return kid(reference, candidate), None
    xx, yy = _group_sums(reference, None, groups), _group_sums(candidate, None, groups)
    xy = _group_sums(reference, candidate, groups)
    value = _unbiased(xx.sum(), yy.sum(), xy.sum(), m, n)
    sizes_m, sizes_n = _sizes(m, groups), _sizes(n, groups)
    without = []
    for g in range(groups):
        keep = np.arange(groups) != g
        parts = [float(k[np.ix_(keep, keep)].sum()) for k in (xx, yy, xy)]
        without.append(_unbiased(parts[0], parts[1], parts[2], m - sizes_m[g], n - sizes_n[g]))
    return float(value), jackknife(float(value), without)


def kid_subsets(reference: Any, candidate: Any, subsets: int = SUBSETS, subset: int = SUBSET, seed: int = SEED) -> Any:
    """(mean, standard deviation over subsets) as torch-fidelity draws them: candidate first, RandomState(seed)."""
    import numpy as np

    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        y = np.asarray(candidate[rng.choice(len(candidate), subset, replace=False)], dtype=np.float64)
        x = np.asarray(reference[rng.choice(len(reference), subset, replace=False)], dtype=np.float64)
        xx, yy = _cube(x, x), _cube(y, y)
        sums = xx.sum() - np.trace(xx), yy.sum() - np.trace(yy), _cube(x, y).sum()
        values.append(_unbiased(float(sums[0]), float(sums[1]), float(sums[2]), subset, subset))
    return float(np.mean(values)), float(np.std(values))


class Kernel(SetMetric):
    """KID on pool3 of Inception 2015-12-05."""

    def __init__(self, card: MetricCard, *, by_subsets: bool = False, resize: Resize = "tf1", path: Path | None = None):
        self.card = card
        self._extractor = InceptionFeatures("pool3", resize, path)
        self._by_subsets = by_subsets

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        if isinstance(reference, Statistics) or isinstance(candidate, Statistics):
            return SetValue(None, why="KID needs the features of both sets; a file of moments does not hold them")
        m, n = len(reference), len(candidate)
        details: dict[str, Any] = {"extractor": self._extractor.id}
        warning = self._extractor.unverified()
        if self._by_subsets:
            if min(m, n) < SUBSET:
                return SetValue(None, n=n, why=f"{min(m, n)} images are fewer than one subset of {SUBSET}")
            mean, deviation = kid_subsets(reference, candidate)
            details["std_over_subsets"] = deviation
            return SetValue(mean, n=n, warning=warning, details=details)
        if min(m, n) < 2:
            return SetValue(None, n=n, why="the unbiased estimate needs at least two images of each set")
        value, spread = kid_interval(reference, candidate)
        if spread is None:
            return SetValue(value, n=n, warning=warning, details=details)
        details["interval"] = spread.method
        return SetValue(value, spread.low, spread.high, n, warning=warning, details=details)


def _card(name: str, title: str, source: str, of: str | None) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit="",
        better="lower",
        source=source,
        kind="set",
        needs=(WEIGHTS,),
        convention_of=of,
        reduction="squared MMD of the two sets",
        paired=False,
    )


def kid_all() -> Kernel:
    """Unbiased KID over all images."""
    return Kernel(_card("kid", "KID", "Binkowski et al. 2018, unbiased over all images", None))


def kid_torch_fidelity() -> Kernel:
    """torch-fidelity's KID: 100 random subsets of 1,000."""
    source = "torch-fidelity metric_kid.py: 100 subsets of 1,000, seed 2020"
    return Kernel(_card("kid-tf", "KID, subsets of 1,000", source, "kid"), by_subsets=True)


METRICS = (kid_all, kid_torch_fidelity)
