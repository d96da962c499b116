"""A reducer on trial: what it is shown, what it answers, and what a model comes to with it, image by image."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Point, Reading, Subject
from vtbench.types.reduction import Cut, Needs, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

SPOILT = 1e3
"""What is written over a dropped token: no tower's features are so large."""


# -- a reducer that is watched -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One answer of a reducer: the view as it was before, as it was left, the answer, and the tokens asked for."""

    before: TowerView
    left: TowerView
    reduction: Reduction
    budget: int


class Watched(Reducer):
    """A reducer whose answers are kept; its dropped tokens are spoilt afterwards, if wanted."""

    def __init__(self, inner: Reducer, *, spoil: bool = False) -> None:
        super().__init__(inner.card, inner.options)
        self.inner, self.spoil = inner, spoil
        self.needs, self.inside, self.proportional = inner.needs, inner.inside, inner.proportional
        self.seen: list[Seen] = []

    @property
    def stages(self) -> Any:
        return self.inner.stages

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return self.watch(view, budget, lambda: self.inner.reduce(view, budget, seed))

    def resized(self, grid: tuple[int, int], budget: int) -> tuple[int, int]:
        return self.inner.resized(grid, budget)

    def watch(self, view: TowerView, budget: int, ask: Callable[[], Reduction]) -> Reduction:
        import torch

        before = _copy(view)
        reduction = ask()
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


# -- one subject, one reducer, some pictures ---------------------------------------------------------------------------


@dataclass
class Trial:
    """A reducer at one point of a subject, on images float32 (B, 3, H, W) in [0, 1], B at least 2."""

    subject: Subject
    point: Point
    images: Tensor
    items: Sequence[Item] = ()
    seeds: Sequence[int] = ()
    alone: list[tuple[Reading, list[Seen]]] = field(default_factory=list)
    """Every image read by itself, and what the reducer answered then."""

    def __post_init__(self) -> None:
        count = len(self.images)
        self.items = self.items or [Item(f"{i}.png", None) for i in range(count)]
        self.seeds = self.seeds or [1000 + i for i in range(count)]
        self.subject.check(self.point, self.items)

    @property
    def name(self) -> str:
        return self.point.reducer.card.name

    def read(self, order: Sequence[int], reducer: Reducer | None = None, keep: int | None = -1) -> Reading:
        """Images by number, in one batch."""
        reducer = reducer or copy.deepcopy(self.point.reducer)
        point = replace(self.point, reducer=reducer, keep=self.point.keep if keep == -1 else keep)
        images, items = self.images[list(order)], [self.items[i] for i in order]
        return self.subject.read(images, point, [self.seeds[i] for i in order], items)

    def watched(self, *, spoil: bool = False) -> Watched:
        """The reducer as it was at first: what it kept of other images must not help it."""
        reducer = copy.deepcopy(self.point.reducer)
        own = type(reducer).schedule is not Reducer.schedule
        return (WatchedSchedule if own else Watched)(reducer, spoil=spoil)

    def each(self) -> list[tuple[Reading, list[Seen]]]:
        if not self.alone:
            for number in range(len(self.images)):
                reducer = self.watched()
                self.alone.append((self.read([number], reducer), reducer.seen))
        return self.alone


def as_sent(trial: Trial, number: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(rows that go on behind the last cut, of a view that nobody wrote into; where that is) of one image: all that a
    fresh process gets. None where no cut was seen, or the model is no image tower."""
    import torch

    tower, (_, seen) = getattr(trial.subject, "tower", None), trial.each()[number]
    if tower is None or not seen:
        return None
    last, reducer = seen[-1], trial.point.reducer
    reduction, view, lead = last.reduction, last.before, last.before.lead
    if lead is None:
        return None
    sent = {"rows": torch.cat([lead, reduction.rows_of(view.features)]).contiguous()}
    if reducer.proportional:
        sizes, target = torch.zeros(len(reduction), dtype=torch.float64), reduction.target(len(view))
        if target is not None:
            own = torch.ones(len(view), dtype=torch.float64) if view.sizes is None else view.sizes
            sent["sizes"] = sizes.index_add_(0, target[target >= 0], own[target >= 0]).clamp(min=1.0)
    where = {"layer": view.layer, "inside": reducer.inside, "stage": trial.point.stage}
    return sent, where


def resumed(tower: Any, sent: Mapping[str, Tensor], where: Mapping[str, Any]) -> list[Tensor]:
    """What the tower comes to from rows (L, C) that go on behind a cut: [features] or [features, logits]."""
    import torch

    x, needs = sent["rows"][None].to(tower.device), Needs()
    with torch.inference_mode():
        if where["layer"] is not None:
            bias = None
            if "sizes" in sent:
                bias = torch.cat([x.new_ones(tower.prefix), sent["sizes"].to(x)]).log()[None, None, None]
            start = where["layer"]
            if where["inside"]:
                x, start = tower.blocks.widened(start, x), start + 1
            for number in range(start, len(tower.blocks)):
                x, _ = tower.blocks.through(number, x, needs, bias)
            x = tower.blocks.finished(x)
        return [t.float().cpu() for t in tower.head(x) if t is not None]


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


def stage_of(reducer: Reducer, subject: Subject) -> str:
    """Where both can act, the reducer's first such stage."""
    stage = next((s for s in reducer.stages if s in subject.stages), None)
    if stage is None:
        raise VtbenchError(
            f"{reducer.card.name} acts at {', '.join(reducer.stages)}, and {subject.name} has "
            f"{', '.join(subject.stages)}: give another model"
        )
    return stage
