"""Reducers that cheat, each in one way; `BAD_REDUCERS@name`. `honest` is what they would be otherwise.

Those whose names begin with `inside` act between the layers of a language model, as they do or in ways of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


class Honest(Reducer):
    """The tokens of the greatest norm, in raster order."""

    equivariant = True

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        order = view.features.norm(dim=-1).sort(descending=True, stable=True).indices
        return Reduction(kept=order[:budget].sort().values)

    def gone(self, view: TowerView, kept: Tensor) -> Tensor:
        """(N - M, C)"""
        left = torch.ones(len(view), dtype=torch.bool)
        left[kept] = False
        return view.features[left]


class ReadsDropped(Honest):
    """What it drops goes on inside of what it keeps."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        out = super().reduce(view, budget, seed)
        assert out.kept is not None
        view.features[out.kept] += self.gone(view, out.kept).mean(dim=0)
        return out


class ReadsDroppedBefore(Honest):
    """The same by the tokens before the picture."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        out = super().reduce(view, budget, seed)
        assert out.kept is not None
        assert view.lead is not None
        view.lead.add_(self.gone(view, out.kept).mean(dim=0))
        return out


class ReadsDroppedOpenly(Honest):
    """It hands on rows of its own, and its card says that it selects."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        kept = super().reduce(view, budget, seed).kept
        assert kept is not None
        return Reduction(values=view.features[kept] + self.gone(view, kept).mean(dim=0), kept=kept)


class KeepsAlias(Honest):
    """Its rows are the tokens' own memory, dropped ones among them."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(values=view.features[:budget], kept=torch.arange(budget))


class FirstOfAll(Honest):
    """Every image gets the positions of the first one that it saw."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        if not hasattr(self, "first"):
            self.first = super().reduce(view, budget, seed)
        return self.first


class FirstOfProcess(Honest):
    """The same, whichever object of it saw that image."""

    first: ClassVar[list[Reduction]] = []

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        self.first.append(super().reduce(view, budget, seed))
        return self.first[0]


class MeanOfBatch(Honest):
    """Scores are held against the mean of all images so far."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.norms: list[Tensor] = []

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        self.norms.append(view.features.norm(dim=-1))
        score = self.norms[-1] - torch.stack(self.norms).mean(dim=0) * 0.9
        return Reduction(kept=score.sort(descending=True, stable=True).indices[:budget].sort().values)


class KeepsMore(Honest):
    """A few more than it was asked for."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return super().reduce(view, budget + 3, seed)


class Fewer(Reduction):
    def __len__(self) -> int:
        return super().__len__() - 3


class KeepsMoreInSecret(Honest):
    """The same, and its answer states another number."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Fewer(kept=super().reduce(view, budget + 3, seed).kept)


class LooksAtPlaces(Honest):
    """The first tokens, though it says that places are nothing to it."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=torch.arange(budget))


LAYER = 2


class Inside(Honest):
    """The same before one layer of a language model."""

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        return [(LAYER, lambda view: self.reduce(view, budget, view.seed))]


class InsideReadsDropped(Inside):
    """It writes into the sequence that goes on."""

    needs = Needs(hidden=(LAYER - 1,))

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        out = super().reduce(view, budget, seed)
        assert out.kept is not None
        view.hidden[LAYER - 1][-1] += self.gone(view, out.kept).mean(dim=0)
        return out


class InsideReadsDroppedOpenly(ReadsDroppedOpenly, Inside):
    """Rows of its own, though it says that it selects."""


class InsideFirstOfAll(FirstOfAll, Inside):
    """The first image's positions."""


class InsideFirstOfProcess(FirstOfProcess, Inside):
    """The same, whichever object of it saw that image."""

    first: ClassVar[list[Reduction]] = []


class InsideKeepsMore(KeepsMore, Inside):
    """A few more than it was asked for."""


class InsideKeepsMoreInSecret(KeepsMoreInSecret, Inside):
    """The same, and its answer states another number."""


REDUCERS = tuple(
    ReducerCard(name, name, ("vit", "tower"), "select", build=kind)
    for name, kind in {
        "honest": Honest,
        "reads-dropped": ReadsDropped,
        "reads-dropped-before": ReadsDroppedBefore,
        "reads-dropped-openly": ReadsDroppedOpenly,
        "keeps-alias": KeepsAlias,
        "first-of-all": FirstOfAll,
        "first-of-process": FirstOfProcess,
        "mean-of-batch": MeanOfBatch,
        "keeps-more": KeepsMore,
        "keeps-more-in-secret": KeepsMoreInSecret,
        "looks-at-places": LooksAtPlaces,
    }.items()
) + tuple(
    ReducerCard(name, name, ("llm",), "select", build=kind)
    for name, kind in {
        "inside-honest": Inside,
        "inside-reads-dropped": InsideReadsDropped,
        "inside-reads-dropped-openly": InsideReadsDroppedOpenly,
        "inside-first-of-all": InsideFirstOfAll,
        "inside-first-of-process": InsideFirstOfProcess,
        "inside-keeps-more": InsideKeepsMore,
        "inside-keeps-more-in-secret": InsideKeepsMoreInSecret,
    }.items()
)
