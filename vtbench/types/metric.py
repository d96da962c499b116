"""Metrics: a card, per-image values, or one value over a set.

All metrics read the same uint8 pixels. A per-image value is a (value, weight) pair; a score is sum(w v) / sum(w).
Missing is None and a reason, never NaN.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from vtbench.types.errors import VtbenchError
from vtbench.types.field_types import check_types

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vtbench.types.item import Item
    from vtbench.types.reading import Reading
    from vtbench.types.tokens import Tokens


@dataclass(frozen=True)
class MetricCard:
    """What a number means. `min_size`: shorter sides in pixels have no value. `needs`: names of metric weights
    (vtbench.metrics.weights) and of extras, for `list` and `doctor`. `convention_of`: the canonical metric of which
    this is another convention. `kind`: "image" per image, "set" over features, "tokens" over codes, "run" from rows."""

    name: str
    title: str
    version: int
    unit: str
    better: Literal["higher", "lower", None]
    source: str
    bounds: tuple[float | None, float | None] = (None, None)
    min_size: int = 1
    kind: Literal["image", "set", "tokens", "run"] = "image"
    needs: tuple[str, ...] = ()
    convention_of: str | None = None
    conventions: Mapping[str, Any] = field(default_factory=dict)
    """What the number decides of the fields of `Conditions`: data_range, window, colour, reduction, network, …"""
    reduction: str = "mean of per-image values"
    paired: bool = True
    """Needs a reference image for every candidate."""

    def __post_init__(self) -> None:
        check_types(f"the metric {self.name}", self, {"name": str, "title": str, "version": int, "unit": str})
        if any(not isinstance(bound, int | float | None) for bound in self.bounds):
            raise VtbenchError(f"the metric {self.name}: bounds are {self.bounds!r}; wanted numbers, or None")


@dataclass(frozen=True)
class Value:
    """One image's value of one metric; `value` None needs a `why`."""

    value: float | None
    weight: float = 1.0
    why: str | None = None


@dataclass
class Reference:
    """The originals of one batch: uint8 RGB (B, 3, H, W), their items, sha256 of their pixels.

    `once(key, make)` keeps what was computed on them for the other candidates of the same batch.
    """

    images: torch.Tensor
    items: Sequence[Item]
    sha256: Sequence[str]
    kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


@dataclass
class Batch:
    """One model's output for the images of a Reference: candidate uint8 RGB (B, 3, H, W), same size.

    tokens, bits: what the model sent (None for folders and closed systems); bits float64 (B,).
    """

    reference: Reference
    candidate: torch.Tensor
    tokens: Tokens | None = None
    bits: np.ndarray[Any, Any] | None = None
    subject: Any = None
    """What made the candidates, for metrics that ask it again; None for folders."""
    seeds: Sequence[int] = ()
    no_pixels: str | None = None
    """Why the candidates are no pictures: those of a tokenizer that ends at features."""
    reading: Reading | None = None
    """What a model understands of the originals and of what stands for them; None where nobody asked one."""
    beside: Any = None
    """Processes that measure pairs of pictures meanwhile (vtbench.metrics._beside); None: there are none."""
    kept: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.candidate.shape[0])

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Shares a computation on the candidate (or on the pair) between metrics."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


class Metric(ABC):
    """A metric with a card. Networks are loaded in `load`, in float32 with TF32 off, whatever the model's dtype."""

    card: MetricCard

    def load(self, device: str = "cpu") -> None:  # noqa: B027
        """Raises Unavailable with the reason if weights or packages are missing or unverified."""


class ImageMetric(Metric):
    on_cpu: bool = False
    """True where all its work is the processor's (reading text, coding bytes): it keeps no other device waiting."""
    reads_candidate: bool = True
    """False for a number that no picture of the model's goes into (a rate), which a model without pixels has too."""
    of_pairs: Sequence[Any] = ()
    """What it reads of pairs that processes beside this one may compute (vtbench.metrics._pixels.OfPair)."""

    @abstractmethod
    def measure(self, batch: Batch) -> Sequence[Value]:
        """One Value an image of the batch. Images under `min_size` never arrive here: the runner nulls them."""


@dataclass(frozen=True)
class SetValue:
    """A score over a set: value (None needs why), 95 % interval, n, and per-image values where they exist.

    `details` holds further named numbers of the same computation (JSON), e.g. bias estimates, usage curves.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    why: str | None = None
    warning: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    per_image: Sequence[float | None] | None = None


class Extractor(ABC):
    """A feature network: uint8 RGB (B, 3, H, W) -> float32 (B, dim). `id` names network, weights and preprocessing."""

    id: str
    dim: int
    cached: bool = True
    """Whether features of originals are kept for the next model; False where they are another's business."""

    @abstractmethod
    def load(self, device: str = "cpu") -> None: ...

    @abstractmethod
    def extract(self, images: torch.Tensor) -> np.ndarray[Any, Any]: ...


class SetMetric(Metric):
    """Compares two sets of features, kept in memory-mapped files: reference and candidate (n, dim) float32."""

    needs_reference: bool = True
    """False for a property of the candidate alone, which is had without any reference."""

    @abstractmethod
    def extractor(self) -> Extractor: ...

    @abstractmethod
    def finish(self, reference: Any, candidate: Any) -> SetValue:
        """`reference`, `candidate`: float32 memory maps (n, dim), or vtbench.metrics.moments.Statistics."""


class ReadFeatures(Extractor):
    """What a system pools of pictures by itself (`Reading.features`): no network of a metric's."""

    id = "understanding"
    cached = False

    def __init__(self, dim: int = 0) -> None:
        """dim: the system's; 0 as long as none is known."""
        self.dim = dim

    def load(self, device: str = "cpu") -> None:
        pass

    def extract(self, images: torch.Tensor) -> np.ndarray[Any, Any]:
        raise NotImplementedError("the system itself has read the pictures")


class ReadingMetric(SetMetric):
    """Compares what a model pools of pictures, whole (`reference`) and reduced (`candidate`), row by row."""

    needs_classes: bool = False

    def __init__(self) -> None:
        self.features = ReadFeatures()

    def extractor(self) -> Extractor:
        return self.features

    def of_dim(self, dim: int) -> Self:
        """The same metric of a system that pools `dim` features."""
        other = copy.copy(self)
        other.features = ReadFeatures(dim)
        return other

    @abstractmethod
    def finish_read(self, reference: Any, candidate: Any, classes: Sequence[str | None]) -> SetValue:
        """reference, candidate: float32 (n, dim), one row an image; classes: what it shows, where folders say so."""

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        return self.finish_read(reference, candidate, [None] * len(reference))


class TokenMetric(Metric):
    """A number over all tokens of a run."""

    @abstractmethod
    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        """tokens[i]: image i's tokens as a batch of one (read lazily); sizes[i]: (height, width) scored."""


class RowMetric(Metric):
    """A number from the other per-image values of the same run (psnr-pooled, legibility, …)."""

    inputs: tuple[str, ...] = ()
    """Metrics whose per-image values it reads."""
    reads_candidate: bool = True
    """False for a number that no picture of the model's goes into, which has a reason of its own where it is null."""

    @abstractmethod
    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        """rows: the run's rows as in rows.jsonl, in the order of `items`."""
