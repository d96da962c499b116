"""A reducer on trial: what it is shown, what it answers, and what a model comes to with it, image by image."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.sequence_cuts import LayerView
from vtbench.types.item import Item
from vtbench.types.reading import Point, Rate, Reading
from vtbench.types.reduction import Cut, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

SPOILT = 1e3
"""What is written over a dropped token: no model's features are so large."""
QUESTIONS = ("What is in the picture?", "Is there a cat in the picture?", "What is the colour of the picture?")
"""Asked of language models alone. Of three lengths, so that a batch of them is padded."""


# -- a reducer that is watched -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One answer of a reducer: the view as it was before, as it was left, the answer, and the tokens asked for;
    sequence: inside a language model, the whole sequence as it was before."""

    before: TowerView
    left: TowerView
    reduction: Reduction
    budget: int
    sequence: LayerView | None = None


class Watched(Reducer):
    """A reducer whose answers are kept; its dropped tokens are spoilt afterwards, if wanted. answers: instead of asking
    it, one after the other."""

    def __init__(self, inner: Reducer, *, spoil: bool = False, answers: Sequence[Reduction] = ()) -> None:
        super().__init__(inner.card, inner.options)
        self.inner, self.spoil, self.answers = inner, spoil, list(answers)
        self.needs, self.inside, self.proportional = inner.needs, inner.inside, inner.proportional
        self.together, self.row_ends = inner.together, inner.row_ends
        self.seen: list[Seen] = []

    @property
    def stages(self) -> Any:
        return self.inner.stages

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return self.watch(view, budget, lambda: self.inner.reduce(view, budget, seed))

    def resized(self, grid: tuple[int, int], budget: int) -> tuple[int, int]:
        return self.inner.resized(grid, budget)

    def shares(self, views: Sequence[TowerView], budget: int) -> list[int] | None:
        return self.inner.shares(views, budget)

    def watch(self, view: TowerView, budget: int, ask: Callable[[], Reduction]) -> Reduction:
        import torch

        before = _copy(view)
        reduction = self.answers.pop(0) if self.answers else ask()
        self.seen.append(Seen(before, _copy(view), reduction, budget))
        if self.spoil:
            gone = torch.ones(len(view), dtype=torch.bool)
            if reduction.values is None and reduction.kept is not None:
                gone[reduction.kept] = False
            elif reduction.values is not None and _shares_memory(reduction.values, view.features):
                return reduction
            view.features[gone] = SPOILT
        return reduction


class WatchedSchedule(Watched):
    """The same of a reducer with a schedule of its own."""

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        def cut_of(cut: Cut) -> Cut:
            return lambda view: self.watch(view, budget, lambda: cut(view))

        return [(layer, cut_of(cut)) for layer, cut in self.inner.schedule(depth, n, budget)]


def _copy(view: TowerView) -> TowerView:
    """With tensors of its own."""
    import torch

    def own(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.clone()
        return {k: own(v) for k, v in value.items()} if isinstance(value, dict) else value

    return replace(view, **{f.name: own(getattr(view, f.name)) for f in fields(view)})


def _shares_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def changed(before: TowerView, left: TowerView) -> str | None:
    """What of a view the reducer wrote into."""
    import torch

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other)
        return not isinstance(one, dict) or all(same(one[key], other[key]) for key in one)

    return next((f.name for f in fields(before) if not same(getattr(before, f.name), getattr(left, f.name))), None)


# -- one model, one reducer, some pictures -----------------------------------------------------------------------------


class Examined(ABC):
    """A model that reads pictures, looked into: what every kind of model answers its own way."""

    opening: Mapping[str, Any]
    """What another process opens it by: spec, device, dtype, options."""

    @abstractmethod
    def check(self, point: Point, items: Sequence[Item]) -> None:
        """As `Subject.check`."""

    @abstractmethod
    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        """As `Subject.read`; the full model may be left out where `point` drops something."""

    @abstractmethod
    def lengths(self, item: Item, image: Tensor) -> AbstractContextManager[list[int]]:
        """A list that holds, once the context is left, the picture's tokens in the input of every layer or block, as
        the network's own modules got them when the reduced model read this one image."""

    @abstractmethod
    def recorded(self, rate: Rate, depth: int) -> list[int]:
        """The same as a rate states them; empty where it states none."""

    @abstractmethod
    def masked(self, trial: Trial) -> list[Tensor] | str:
        """What the unreduced model comes to on the first image where the dropped tokens are masked instead; or why
        there is nothing to compare."""

    @abstractmethod
    def sent(self, trial: Trial, number: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """(rows that go on behind the last cut, of tokens that nobody wrote into; where that is) of one image: all that
        a fresh process gets. None where no cut was seen."""

    @abstractmethod
    def resumed(self, sent: Mapping[str, Tensor], where: Mapping[str, Any]) -> list[Tensor]:
        """What the model comes to from rows that go on behind a cut."""


@dataclass
class Trial:
    """A reducer at one point of a model, on images float32 (B, 3, H, W) in [0, 1], B at least 2."""

    model: Examined
    point: Point
    images: Tensor
    items: Sequence[Item] = ()
    seeds: Sequence[int] = ()
    alone: list[tuple[Reading, list[Seen]]] = field(default_factory=list)
    """Every image read by itself, and what the reducer answered then."""

    def __post_init__(self) -> None:
        count = len(self.images)
        asked = [{"question": QUESTIONS[i % len(QUESTIONS)]} for i in range(count)]
        self.items = self.items or [Item(f"{i}.png", None, meta=asked[i]) for i in range(count)]
        self.seeds = self.seeds or [1000 + i for i in range(count)]
        self.model.check(self.point, self.items)

    @property
    def name(self) -> str:
        return self.point.reducer.card.name

    def read(self, order: Sequence[int], reducer: Reducer | None = None, keep: int | None = -1) -> Reading:
        """Images by number, in one batch."""
        reducer = reducer or copy.deepcopy(self.point.reducer)
        point = replace(self.point, reducer=reducer, keep=self.point.keep if keep == -1 else keep)
        images, items = self.images[list(order)], [self.items[i] for i in order]
        return self.model.read(images, point, [self.seeds[i] for i in order], items)

    def watched(self, *, spoil: bool = False, answers: Sequence[Reduction] = ()) -> Watched:
        """The reducer as it was at first: what it kept of other images must not help it."""
        reducer = copy.deepcopy(self.point.reducer)
        own = type(reducer).schedule is not Reducer.schedule
        return (WatchedSchedule if own else Watched)(reducer, spoil=spoil, answers=answers)

    def each(self) -> list[tuple[Reading, list[Seen]]]:
        if not self.alone:
            for number in range(len(self.images)):
                reducer = self.watched()
                self.alone.append((self.read([number], reducer), reducer.seen))
        return self.alone


def outputs(reading: Reading) -> list[Tensor]:
    """What the reduced model came to, as far as it can be told."""
    return [t for t in (reading.reduced_features, reading.reduced_logits) if t is not None]


def apart(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Greatest difference, as a share of the greatest magnitude; infinite where there is nothing to compare."""
    if not one or len(one) != len(other):
        return math.inf
    parts = [
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12) if a.shape == b.shape else math.inf
        for a, b in zip(one, other, strict=True)
    ]
    return max(parts)


@contextmanager
def rows_into(layers: Iterable[Any]) -> Iterator[list[int]]:
    """How many rows go into the second half of each layer, which a cut inside of it lies before; in the order of the
    calls, as long as the context lasts."""
    rows = list[int]()
    hooks = [x.mlp.register_forward_pre_hook(lambda _, args: rows.append(int(args[0].shape[1]))) for x in layers]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
