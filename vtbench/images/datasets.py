"""Data sets that are known by their files' names, so that a published number on one can stand beside a run on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vtbench.types.conditions import Split
from vtbench.types.item import Item


@dataclass(frozen=True)
class DataSet:
    """A split, whole: `images` files, each of whose names (folder and suffix aside) matches `name`."""

    dataset: str
    split: Split
    images: int
    name: re.Pattern[str]


KNOWN = (
    DataSet("ImageNet", "validation", 50_000, re.compile(r"ILSVRC2012_val_\d{8}")),
    DataSet("ImageNet", "training", 1_281_167, re.compile(r"n\d{8}_\d+")),
    DataSet("COCO 2017", "validation", 5_000, re.compile(r"\d{12}")),
)
"""As their archives name them: ILSVRC2012_val_00000293.JPEG (image-net.org), 000000000139.jpg (cocodataset.org)."""


def known_dataset(items: Sequence[Item]) -> DataSet | None:
    """The split that these images are, whole and under its own names; None where they are anything else, or where
    nothing tells. Part of a split is none: its number may not stand beside that of the whole."""
    for known in KNOWN:
        if len(items) == known.images:
            names = {re.sub(r"\.[A-Za-z0-9]+$", "", item.id.rpartition("/")[2]) for item in items}
            if len(names) == known.images and all(known.name.fullmatch(name) for name in names):
                return known
    return None
