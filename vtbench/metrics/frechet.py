"""Fréchet distance of features (FID): float64 moments, trace of the root by eigenvalues, low-rank form for few images.

d = |m1 - m2|^2 + Tr S1 + Tr S2 - 2 Tr (S1 S2)^(1/2)   (Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500)

The eigenvalues of S1 S2 are the squares of the singular values of R1^T R2 with R R^T = S by symmetric eigenvalues: real
and not negative, unlike those that `scipy.linalg.sqrtm` or a general eigensolver returns. With n features of rank
n - 1 < d the same trace is the nuclear norm of X1 X2^T / sqrt((n1 - 1)(n2 - 1)), X centred: n x n instead of d x d, and
no root of a rounding error is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.metrics import moments
from vtbench.metrics.inception import WEIGHTS, InceptionFeatures, Output, Resize
from vtbench.metrics.kid import kid
from vtbench.metrics.moments import Moments, Statistics
from vtbench.statistics import intervals
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


LOW_RANK = 2048
"""Up to this many images of each set the low-rank form is used."""
SMALL_SET = 10_000
GROUPS = 10
"""Groups of the jackknife."""
OF_ANY_SETS = {"rfid": "fid", "rfid-clean": "fid-clean", "rfid-bilinear": "fid-bilinear"}
"""The same distance under the name that it has between sets that are no pairs."""


def _root(covariance: Floats) -> Floats:
    """R with R R^T = covariance (d, d)."""
    import numpy as np

    values, vectors = np.linalg.eigh(covariance)
    out: Floats = vectors * np.sqrt(np.clip(values, 0, None))
    return out


def trace_root(a: Floats, b: Floats, *, quick: bool = False) -> float:
    """Tr (A B)^(1/2) of two covariances (d, d): the singular values of Ra^T Rb.

    `quick` takes roots of the eigenvalues of Ra^T B Ra instead: a third of the time, but where a covariance is nearly
    singular a rounding error e of an eigenvalue becomes e^(1/2). Good enough for the spread of a jackknife.
    """
    import numpy as np

    root = _root(a)
    if not quick:
        return float(np.linalg.svd(root.T @ _root(b), compute_uv=False).sum())
    inner = root.T @ b @ root
    return float(np.sqrt(np.clip(np.linalg.eigvalsh((inner + inner.T) / 2), 0, None)).sum())


def distance(a: Statistics, b: Statistics, *, quick: bool = False) -> float:
    """Fréchet distance of two sets of moments; `quick` as in trace_root."""
    import numpy as np

    if a.dim != b.dim:
        raise VtbenchError(
            f"statistics of {a.dim} and of {b.dim} features cannot be compared: use one network for both"
        )
    step = a.mean - b.mean
    root = trace_root(a.covariance, b.covariance, quick=quick)
    return max(0.0, float(step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root))


def distance_low_rank(a: Any, b: Any) -> float:
    """Fréchet distance of two feature sets (n1, d), (n2, d) by the nuclear norm of the product of the centred ones."""
    import numpy as np

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - mean_x) / np.sqrt(len(x) - 1), (y - mean_y) / np.sqrt(len(y) - 1)
    step = mean_x - mean_y
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(0.0, float(step @ step + (x * x).sum() + (y * y).sum() - 2 * root))


def frechet(reference: Any, candidate: Any) -> float:
    """The distance of two sets, each features (n, d) or Statistics, by the form that suits them."""
    few = [not isinstance(s, Statistics) and len(s) <= LOW_RANK for s in (reference, candidate)]
    if all(few):
        return distance_low_rank(reference, candidate)
    return distance(_moments(reference), _moments(candidate))


def _moments(features: Any) -> Statistics:
    return features if isinstance(features, Statistics) else moments.of(features)


def interval(reference: Any, candidate: Any, *, paired: bool, groups: int = GROUPS) -> intervals.Interval | None:
    """Delete-a-group jackknife of the distance at this n; a bootstrap would be biased upward by its duplicates.

    Groups are every `groups`-th image. `paired`: image i of both sets goes together (reconstructions); else, and where
    the reference is Statistics, only the candidate's images are deleted. None if the candidate is Statistics already
    or has fewer than ten images a group.
    """
    import numpy as np

    if isinstance(candidate, Statistics) or len(candidate) < 10 * groups:
        return None
    n = len(candidate)
    # Sets of different sizes have no pairs, whatever the metric's name.
    whole = isinstance(reference, Statistics) or not paired or len(reference) != n
    few = n <= LOW_RANK and not isinstance(reference, Statistics) and len(reference) <= LOW_RANK
    if few:
        left = np.arange(n)
        kept = [left[left % groups != g] for g in range(groups)]
        reference = np.asarray(reference)
        candidate = np.asarray(candidate)
        without = [frechet(reference if whole else reference[k], candidate[k]) for k in kept]
        return intervals.jackknife(distance_low_rank(reference, candidate), without)
    total = Moments(candidate.shape[1]).add(candidate)
    total_reference = None if whole else Moments(candidate.shape[1]).add(reference)
    fixed = _moments(reference) if whole else None
    without = []
    for g in range(groups):
        part = total.without(Moments(candidate.shape[1]).add(candidate[g::groups])).statistics()
        if total_reference is not None:
            gone = Moments(candidate.shape[1]).add(reference[g::groups])
            without.append(distance(total_reference.without(gone).statistics(), part, quick=True))
        else:
            assert fixed is not None
            without.append(distance(fixed, part, quick=True))
    own = fixed if fixed is not None else total_reference.statistics()  # type: ignore[union-attr]
    return intervals.jackknife(distance(own, total.statistics()), without)


def extrapolate(reference: Any, candidate: Any, *, points: int = 8, seed: int = 0) -> tuple[float, float] | None:
    """(distance at infinite n, its standard error): a line through distances of random subsets against 1 / n.

    Chong and Forsyth 2020 (arXiv:1911.07023): the bias of the distance is linear in 1 / n. Subsets of n / 4 … n images
    without replacement, of the candidate (and of the reference where it is features). None below 400 images.
    """
    import numpy as np

    if isinstance(candidate, Statistics) or len(candidate) < 400:
        return None
    rng = np.random.default_rng(seed)
    n = len(candidate)
    sizes = np.unique(np.linspace(n // 4, n, points).astype(int))
    distances = []
    for size in sizes:
        part = np.asarray(candidate[np.sort(rng.choice(n, size, replace=False))])
        other = reference
        if not isinstance(reference, Statistics) and len(reference) >= size:
            other = np.asarray(reference[np.sort(rng.choice(len(reference), size, replace=False))])
        distances.append(frechet(other, part))
    from scipy.stats import linregress

    line = linregress(1 / sizes, distances)
    return float(line.intercept), float(line.intercept_stderr)


class Frechet(SetMetric):
    """FID of one network output and resize. `paired`: image i of both sets is the same image (rfid)."""

    def __init__(
        self,
        card: MetricCard,
        output: Output = "pool3",
        resize: Resize = "tf1",
        path: Path | None = None,
        *,
        wanted: int = SMALL_SET,
    ) -> None:
        self.card = card
        self._extractor = InceptionFeatures(output, resize, path)
        self._wanted = wanted

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        n = candidate.n if isinstance(candidate, Statistics) else len(candidate)
        if n is not None and n < 2:
            return SetValue(None, n=n, why="a covariance needs at least two images")
        value = frechet(reference, candidate)
        spread = interval(reference, candidate, paired=self.card.paired)
        details: dict[str, Any] = {"extractor": self._extractor.id}
        if spread is not None:
            details["interval"] = spread.method + ", at this n: the bias of few images is not in it"
        warnings = [w for w in (self._extractor.unverified(),) if w]
        raw = not isinstance(reference, Statistics) and not isinstance(candidate, Statistics)
        if n is not None and n < SMALL_SET:
            if raw:
                details["kid"] = kid(reference, candidate)
            warnings.append(
                f"{n} images are too few for FID (10,000 wanted): its bias depends on n; read KID beside it"
            )
        elif n is not None and n < self._wanted:
            warnings.append(f"not comparable: {n} images, the protocol wants {self._wanted}")
        if not self.card.paired and n is not None and n < self._wanted:
            infinite = extrapolate(reference, candidate)
            if infinite is not None:
                details |= {"fid_infinity": infinite[0], "fid_infinity_error": infinite[1], "bias": value - infinite[0]}
        return SetValue(
            value,
            None if spread is None or spread.low is None else max(0.0, spread.low),
            None if spread is None else spread.high,
            n,
            warning="; ".join(warnings) or None,
            details=details,
        )


def _card(
    name: str, title: str, source: str, resize: Resize = "tf1", *, of: str | None = None, paired: bool = True
) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit="",
        better="lower",
        source=source,
        bounds=(0.0, None),
        kind="set",
        needs=(WEIGHTS,),
        convention_of=of,
        conventions={"inception_resize": resize},
        reduction="Fréchet distance of the two sets",
        paired=paired,
    )


_TF1 = "Heusel et al. 2017; Inception 2015-12-05 with TF 1.x resize (torch-fidelity's port), pool3"


def rfid() -> Frechet:
    """FID of reconstructions against their originals at the same view."""
    return Frechet(_card("rfid", "rFID", _TF1))


def rfid_clean() -> Frechet:
    """rFID with clean-fid's resize (Parmar et al. 2022, arXiv:2104.11222)."""
    return Frechet(
        _card(
            "rfid-clean",
            "rFID, clean-fid resize",
            "clean-fid mode `clean`: Pillow bicubic on floats",
            "clean",
            of="rfid",
        ),
        resize="clean",
    )


def rfid_bilinear() -> Frechet:
    """rFID with pytorch-fid's resize, from uint8 pixels."""
    return Frechet(
        _card(
            "rfid-bilinear", "rFID, pytorch-fid resize", "pytorch-fid: F.interpolate bilinear", "bilinear", of="rfid"
        ),
        resize="bilinear",
    )


def fid() -> Frechet:
    """FID of a set of images against a reference set; 50,000 images are the protocol."""
    return Frechet(_card("fid", "FID", _TF1, paired=False), wanted=50_000)


def fid_clean() -> Frechet:
    """FID of a set of images against a reference set, with clean-fid's resize."""
    source = "clean-fid mode `clean`: Pillow bicubic on floats"
    card = _card("fid-clean", "FID, clean-fid resize", source, "clean", of="fid", paired=False)
    return Frechet(card, resize="clean", wanted=50_000)


def fid_bilinear() -> Frechet:
    """FID of a set of images against a reference set, with pytorch-fid's resize."""
    source = "pytorch-fid: F.interpolate bilinear"
    card = _card("fid-bilinear", "FID, pytorch-fid resize", source, "bilinear", of="fid", paired=False)
    return Frechet(card, resize="bilinear", wanted=50_000)


def sfid() -> Frechet:
    """FID of the first 7 channels of mixed_6/conv (Nash et al. 2021, arXiv:2103.03841), as ADM's evaluator takes it."""
    source = "guided-diffusion evaluations/evaluator.py: mixed_6/conv:0, first 7 channels; torch-fidelity's port"
    return Frechet(_card("sfid", "sFID", source, paired=False), output="spatial", wanted=50_000)


METRICS = (rfid, rfid_clean, rfid_bilinear, fid, fid_clean, fid_bilinear, sfid)
