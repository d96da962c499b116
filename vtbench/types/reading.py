"""What a model understands of pictures, whole and reduced: all that the metrics of understanding read.

Standard library only. A `Subject` reads (an image tower, a language model that sees); a `Point` says what is dropped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vtbench.types.item import Item
from vtbench.types.reduction import Reducer, Stage

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Point:
    """One point of a curve: a reducer, how many tokens are asked for (None: all), and where it acts.

    stage: where, of those that both the reducer and the subject have; block: before which block of a vision
    transformer, or layer of a language model, tokens are cut, where the reducer brings no schedule of its own.
    """

    reducer: Reducer
    keep: int | None = None
    stage: Stage = "tower"
    block: int | None = None


@dataclass(frozen=True)
class Rate:
    """How many of one image's visual tokens go on, counted where the next stage takes its input.

    tokens: rows that it gets, duplicates and rows without a place among them. of: tokens without any reduction.
    by_layer: tokens in every block or layer, where they are cut on the way. prefill: of a language model, all tokens of
    its prompt. fallbacks: what the method could not do for this image.
    """

    tokens: int
    of: int
    duplicates: int = 0
    by_layer: tuple[int, ...] = ()
    prefill: int | None = None
    fallbacks: tuple[str, ...] = ()

    @property
    def mean_layer(self) -> float:
        """Mean over the layers; the tokens themselves where none cuts."""
        return sum(self.by_layer) / len(self.by_layer) if self.by_layer else float(self.tokens)


@dataclass(frozen=True)
class Dense:
    """One image's map of features, float (N, C): `full`, and `filled`, the reduced model's, in which a place whose
    token was dropped has the value of the most similar kept one, or of the row that it was merged into. group: int64
    (N,), the row that each place has its value from."""

    full: Tensor
    filled: Tensor
    group: Tensor


@dataclass(frozen=True)
class Reading:
    """What a subject made of the images of one batch, one entry an image everywhere.

    features, reduced_features: float (B, C), what is pooled, of the full and of the reduced model. logits,
    reduced_logits: float (B, K) of its classifier. coverage: mean over all tokens of the largest cosine to one that
    goes on. labels: the true class as the classifier numbers it; classes: its name. answers: what language models
    say. why: the reason, by field, where one is not there.
    """

    rates: Sequence[Rate]
    features: Tensor | None = None
    reduced_features: Tensor | None = None
    logits: Tensor | None = None
    reduced_logits: Tensor | None = None
    coverage: Sequence[float | None] = ()
    dense: Sequence[Dense | None] = ()
    labels: Sequence[int | None] = ()
    classes: Sequence[str | None] = ()
    answers: Sequence[Any] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rates)

    def one(self, index: int) -> Reading:
        """That of one image alone."""

        def cut(values: Any) -> Any:
            return None if values is None else values[index : index + 1]

        names = ("rates", "features", "reduced_features", "logits", "reduced_logits", "coverage", "dense", "labels")
        return Reading(**{name: cut(getattr(self, name)) for name in (*names, "classes", "answers")}, why=self.why)


class Subject(ABC):
    """A loaded model that reads pictures. Nothing of it changes by being asked."""

    name: str
    kind: Literal["image tower", "language model"]
    stages: tuple[Stage, ...]
    """Where its tokens can be cut."""
    identity: Mapping[str, Any]
    """What its numbers depend on, part of a run's question: sha256 of its files, options."""
    facts: Mapping[str, Any]
    """For the record."""
    weights: Mapping[str, Any]
    """For the record, as `Loaded.weights`: status, files, why."""
    device: str = "cpu"
    dtype: str = "float32"

    @abstractmethod
    def check(self, point: Point, items: Sequence[Item]) -> None:
        """Refuses a point that makes no sense for it, and items whose labels are none of its own."""

    @abstractmethod
    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        """images: float32 (B, 3, H, W) in [0, 1]; the full model and the reduced one on each of them."""

    @abstractmethod
    def check_items(self, items: Sequence[Item]) -> None:
        """Refuses items whose labels or questions are none of its own."""

    @abstractmethod
    def compare(self, originals: Tensor, others: Tensor, items: Sequence[Item]) -> Reading:
        """Both float32 (B, 3, H, W) in [0, 1]: what the whole model makes of pictures and of others in their place;
        what a reading calls reduced is of the others."""

    def parameter_count(self) -> int | None:
        return None

    @property
    def dim(self) -> int | None:
        """Width of its pooled features; None where it has none."""
        return None
