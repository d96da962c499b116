"""Tiny towers as subjects, and pictures for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_towers import made_tower

from vtbench.models.tower_files import model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

SEEDS = [11, 12, 13]
CARD = ReducerCard("chosen", "Chosen", ("tower", "vit"), "select")
Opened = Callable[..., TowerSubject]


class Chosen(Reducer):
    """Every second token, the first of them left out."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=torch.arange(1, len(view), 2)[:budget])


def opener(root: Path) -> Opened:
    """Makes a tower of a kind where there is none yet, and opens it."""

    def of(kind: str, **options: Any) -> TowerSubject:
        folder = root / kind
        if not folder.exists():
            made_tower(kind, folder)
        return TowerSubject(Tower(model_files(str(folder)), "cpu", "float32", options))

    return of


def pictures(count: int = 3) -> torch.Tensor:
    return torch.rand((count, 3, 24, 24), generator=torch.Generator().manual_seed(3))


def read(subject: TowerSubject, point: Point, images: torch.Tensor | None = None, seeds: Sequence[int] = SEEDS) -> Any:
    images = pictures() if images is None else images
    return subject.read(images, point, seeds, [Item(f"{k}", None) for k in range(len(images))])
