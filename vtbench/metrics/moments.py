"""Moments of features: streamed in constant memory, merged from shards, read from other tools' files."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench.images.npz import names_in_npz, read_arrays
from vtbench.models.pickles import check_pickled
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK = 4096
"""Images whose features are held in float64 at a time."""


@dataclass(frozen=True)
class Statistics:
    """Moments of n features of dimension d, float64.

    mean (d,); covariance (d, d), unbiased (divided by n - 1). n is None where a file does not say it.
    `source` says where they come from; `extractor` whose features they are, None where a file does not say it.
    """

    mean: Floats
    covariance: Floats
    n: int | None = None
    source: str = ""
    extractor: str | None = None

    def __post_init__(self) -> None:
        import numpy as np

        d = self.mean.size
        if self.mean.ndim != 1 or self.covariance.shape != (d, d):
            raise VtbenchError(
                f"statistics have a mean of shape {self.mean.shape} and a covariance of shape {self.covariance.shape}: "
                "wanted (d,) and (d, d)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise VtbenchError(
                f"statistics {self.source or ''} hold NaN or infinity, as those of one image do: make them of more"
            )

    @property
    def dim(self) -> int:
        return len(self.mean)

    def save(self, path: Path) -> None:
        """Writes an .npz with `mu`, `sigma` and `n`, which other tools read too, and `extractor` where it is known."""
        import numpy as np

        arrays: dict[str, Any] = {"mu": self.mean, "sigma": self.covariance, "n": np.array(self.n or -1)}
        if self.extractor is not None:
            arrays["extractor"] = np.array(self.extractor)
        np.savez(path, **arrays)


class Moments:
    """Running mean and scatter (sum of outer products of deviations) in float64; shards merge (Chan et al. 1979)."""

    def __init__(self, dim: int) -> None:
        import numpy as np

        self.n = 0
        self.mean: Floats = np.zeros(dim)
        self.scatter: Floats = np.zeros((dim, dim))

    def add(self, features: Any) -> Moments:
        """features (m, dim), any float dtype; converted block by block."""
        for block in blocks(features):
            mean = block.mean(axis=0)
            centred = block - mean
            self._join(len(block), mean, centred.T @ centred)
        return self

    def merge(self, other: Moments) -> Moments:
        self._join(other.n, other.mean, other.scatter)
        return self

    def _join(self, n: int, mean: Floats, scatter: Floats) -> None:
        import numpy as np

        if n == 0:
            return
        total = self.n + n
        step = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(step, step) * (self.n * n / total)
        self.mean = self.mean + step * (n / total)
        self.n = total

    def without(self, part: Moments) -> Moments:
        """What is left when `part`, which must have been added before, is taken away."""
        import numpy as np

        left = Moments(len(self.mean))
        left.n = self.n - part.n
        left.mean = (self.n * self.mean - part.n * part.mean) / left.n
        step = part.mean - left.mean
        left.scatter = self.scatter - part.scatter - np.outer(step, step) * (left.n * part.n / self.n)
        return left

    def statistics(self, source: str = "") -> Statistics:
        if self.n < 2:
            raise VtbenchError(f"{self.n} image(s) have no covariance: give at least two")
        return Statistics(self.mean, self.scatter / (self.n - 1), self.n, source)


def blocks(features: Any, size: int = BLOCK) -> Iterator[Floats]:
    """The rows of a (memory-mapped) array as float64 blocks."""
    import numpy as np

    for start in range(0, len(features), size):
        yield np.asarray(features[start : start + size], dtype=np.float64)


def of(features: Any, source: str = "") -> Statistics:
    """Moments of features (n, dim), one pass, constant memory."""
    return Moments(features.shape[1]).add(features).statistics(source)


def load(path: Path, part: Literal["pool3", "spatial"] = "pool3") -> Statistics:
    """Statistics from a file that somebody saved.

    .npz: `mu` and `sigma` (pytorch-fid, TTUR, ours) or an ADM reference batch, of which `part` "spatial" takes `mu_s`
    and `sigma_s` (guided-diffusion, evaluations/evaluator.py). .pt: a cache of torch-fidelity ({"mu", "sigma"}), read
    without running anything that it pickles.
    """
    import numpy as np

    if path.suffix == ".npz":
        return _npz(path, "_s" if part == "spatial" else "")
    if path.suffix not in (".pt", ".pth"):
        raise VtbenchError(f"{path} is neither .npz nor a .pt cache of torch-fidelity: give one of them")
    if part == "spatial":
        raise VtbenchError(f"{path} is a cache of torch-fidelity, which holds no spatial statistics: give an ADM .npz")
    with reading(path, "statistics", "it is not a statistics cache of torch-fidelity, or it is damaged"):
        mu, sigma = _torch_fidelity(path)
        return Statistics(np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64), None, path.name)


def _npz(path: Path, suffix: str) -> Statistics:
    """Moments under `mu` and `sigma`, each name with the suffix."""
    import numpy as np

    mu, sigma = f"mu{suffix}", f"sigma{suffix}"
    with reading(path, ".npz"):
        file = read_arrays(path, (mu, sigma, "n", "extractor"))
        missing = next((k for k in (mu, sigma) if k not in file), None)
        if missing is not None:
            raise VtbenchError(
                f"{path} holds {', '.join(names_in_npz(path)) or 'nothing'} and no {missing}: "
                f"give reference statistics with {mu} and {sigma}"
            )
        n = int(file["n"]) if "n" in file else 0
        return Statistics(
            np.asarray(file[mu], dtype=np.float64),
            np.asarray(file[sigma], dtype=np.float64),
            n if n > 0 else None,
            path.name,
            str(file["extractor"]) if "extractor" in file else None,
        )


def _torch_fidelity(path: Path) -> tuple[Any, Any]:
    import numpy as np
    import torch

    # Exactly what a pickled float array names; arrays of objects need more and are refused.
    allowed: list[Any] = [np.ndarray, np.dtype, type(np.dtype("float64")), type(np.dtype("float32"))]
    reconstruct = getattr(importlib.import_module("numpy._core.multiarray"), "_reconstruct")  # noqa: B009
    allowed += [reconstruct, (reconstruct, "numpy.core.multiarray._reconstruct")]
    check_pickled(path)
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = torch.load(path, map_location="cpu", weights_only=True)
    return cache["mu"], cache["sigma"]
