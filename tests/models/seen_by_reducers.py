"""Tiny vision-language models as subjects, pictures and questions for them, and a reducer that does as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_language_models as tiny
import torch
from torch import Tensor

from vtbench import registry
from vtbench.models.answering import VisionLanguage
from vtbench.models.tower_files import model_files
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

SIZE = (112, 140)
"""Of the pictures, in pixels: 4 x 5 merged tokens of Qwen's, 6 x 6 of LLaVA's, a picture and 2 x 2 tiles of NeXT's."""


def made(root: Path) -> dict[str, Path]:
    return {
        "llava": tiny.llava(root / "llava"),
        "llava-next": tiny.llava_next(root / "llava-next"),
        "qwen2": tiny.qwen(root / "qwen2"),
        "qwen2.5": tiny.qwen(root / "qwen2.5", version="2.5"),
    }


def opened(folder: Path, **options: Any) -> VisionLanguage:
    return VisionLanguage(model_files(str(folder)), "cpu", "float32", {"answer_tokens": 4, **options})


def subjects_of(folders: dict[str, Path]) -> dict[str, VisionLanguage]:
    """In float64, so that what differs by rounding alone is told from what differs."""
    out = {kind: opened(folder, attention="sdpa") for kind, folder in folders.items()}
    for subject in out.values():
        subject.attached.model.double()
    return out


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def item(text: str = "is there a cat ?", name: str = "q") -> Item:
    return Item(name, f"{name}.png", meta={"question": text})


CARD = ReducerCard("odd-ones", "Every second token", ("tower", "projector", "llm"), "select")


class Fixed(Reducer):
    """Keeps what it is told to, at any stage; remembers what it saw."""

    def __init__(
        self, kept: Any = None, needs: Needs | None = None, positions: Any = "original", layer: int = 1
    ) -> None:
        super().__init__(CARD)
        self.kept, self.positions, self.layer, self.seen = kept, positions, layer, list[TowerView]()
        self.needs = needs or Needs()

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        self.seen.append(view)
        kept = torch.arange(len(view))[::2][:budget] if self.kept is None else self.kept
        return Reduction(kept, positions=self.positions)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        return [(self.layer, lambda view: self.reduce(view, budget, view.seed))]


def method(name: str, **options: Any) -> Reducer:
    card = registry.reducers().get(name)
    assert card.build is not None
    return card.build(card, options)


def row(subject: VisionLanguage, inputs: Mapping[str, Any], reducer: Reducer, keep: int, stage: Any = "tower") -> Any:
    with torch.inference_mode():
        return subject.cut_row(inputs, Point(reducer, keep, stage), 0, [])
