"""The reference of `score --set`: images, saved statistics of their features, or both (an ADM reference batch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vtbench.images.arrays import open_npz
from vtbench.images.kinds import is_npz
from vtbench.images.npz import names_in_npz
from vtbench.images.opening import open_set, open_suite
from vtbench.images.sets import ImageSet
from vtbench.images.views import View
from vtbench.metrics import moments
from vtbench.metrics.dinov2 import DinoFrechet
from vtbench.metrics.frechet import Frechet
from vtbench.metrics.moments import Statistics
from vtbench.models.files import sha256_file
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import SetMetric


@dataclass(frozen=True)
class SetReference:
    """What a reference can give: `images` (None: it has none), and whether it holds `statistics`; `spatial`: ADM's
    mu_s and sigma_s are among them."""

    path: Path
    images: ImageSet | None
    statistics: bool
    spatial: bool = False

    @property
    def content(self) -> str:
        """64 hexadecimal digits over what is compared with: the images' names and bytes, or those of the one file."""
        # A manifest stands for its images, however it is written.
        one_file = self.path.is_file() and self.path.suffix != ".jsonl"
        return sha256_file(self.path) if one_file else open_suite(str(self.path)).hash

    def statistics_of(self, metric: SetMetric) -> tuple[Statistics | None, str | None]:
        """The statistics that can stand for the images, or why those that are there cannot."""
        if not self.statistics or not isinstance(metric, (Frechet, DinoFrechet)):
            return None, None
        extractor, name = metric.extractor(), metric.card.name
        adm = self.spatial and getattr(extractor, "output", "") == "spatial"
        part: Literal["pool3", "spatial"] = "spatial" if adm else "pool3"
        saved = moments.load(self.path, part)
        if saved.n is not None and saved.n < 2:
            return None, f"{self.path.name} holds statistics of {saved.n} image, which has no covariance"
        if saved.dim != extractor.dim:
            return None, f"{self.path.name} holds statistics of {saved.dim} features, {name} has {extractor.dim}"
        if saved.extractor not in (None, extractor.id):
            return None, f"{self.path.name} holds statistics of {saved.extractor}, {name} is of {extractor.id}"
        return saved, None


def open_reference(path: Path, view: View | None = None) -> SetReference:
    """Whatever is a set of images, an .npz of images or of statistics, or a .pt of statistics. view: as `open_set`
    takes it."""
    if path.suffix in (".pt", ".pth"):
        return SetReference(path, None, True)
    if path.is_file() and is_npz(path):
        names = names_in_npz(path)
        images = open_npz(path) if "arr_0.npy" in names else None
        if images is None and "mu.npy" not in names:
            raise VtbenchError(f"{path} holds neither statistics (mu, sigma) nor images (arr_0): give one of them")
        return SetReference(path, images, "mu.npy" in names, "mu_s.npy" in names)
    return SetReference(path, open_set(path, view), False)
