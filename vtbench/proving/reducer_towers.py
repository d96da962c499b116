"""What the checks of reducers ask of an image tower."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vtbench.models.tower_reading import TowerSubject
from vtbench.proving.reducer_trial import Examined, Trial, rows_into
from vtbench.types.item import Item
from vtbench.types.reading import Point, Rate, Reading
from vtbench.types.reduction import Needs

if TYPE_CHECKING:
    from torch import Tensor


class ExaminedTower(Examined):
    """An image tower, whose next stage is what pools or classifies its output."""

    def __init__(self, subject: TowerSubject) -> None:
        self.subject, self.tower = subject, subject.tower
        self.opening = {
            "spec": self.tower.files.spec,
            "device": self.tower.device,
            "dtype": self.tower.dtype,
            "options": self.tower.options,
        }

    def check(self, point: Point, items: Sequence[Item]) -> None:
        self.subject.check(point, items)

    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        return self.subject.read(images, point, seeds, items)

    @contextmanager
    def lengths(self, item: Item, image: Tensor) -> Iterator[list[int]]:
        counted, blocks = list[int](), self.tower.blocks.blocks
        with rows_into(blocks) as rows:
            try:
                yield counted
            finally:
                # The full model went first.
                counted += [length - self.tower.prefix for length in rows[len(blocks) :]]

    def recorded(self, rate: Rate, depth: int) -> list[int]:
        return list(rate.by_layer)

    def masked(self, trial: Trial) -> list[Tensor] | str:
        import torch

        tower, seen = self.tower, trial.each()[0][1]
        if trial.point.stage != "vit":
            return "no tokens are cut between the blocks of an image tower"
        if any(one.reduction.values is not None for one in seen) or trial.point.reducer.inside:
            return "tokens are merged, which no mask does"
        cuts = {one.before.layer: one.reduction for one in seen}
        with torch.inference_mode():
            x = tower.embedded(tower.pixels(tower.pictures(trial.images[:1])))
            left = torch.arange(x.shape[1])
            for number in range(len(tower.blocks)):
                if number in cuts:
                    left = torch.cat([left[: tower.prefix], left[tower.prefix :][cuts[number].kept]])
                bias = torch.full((1, 1, 1, x.shape[1]), -math.inf)
                bias[..., left] = 0.0
                x, _ = tower.blocks.through(number, x, Needs(), bias.to(x))
            features, logits = tower.head(tower.blocks.finished(x)[:, left])
        return [t.float() for t in (features, logits) if t is not None]

    def sent(self, trial: Trial, number: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        import torch

        seen = trial.each()[number][1]
        if not seen:
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
        return sent, {"layer": view.layer, "inside": reducer.inside}

    def resumed(self, sent: Mapping[str, Tensor], where: Mapping[str, Any]) -> list[Tensor]:
        """From rows (L, C): [features] or [features, logits]."""
        import torch

        tower = self.tower
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
