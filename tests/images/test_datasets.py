"""Public splits are known by the names of their files, whole or not at all."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vtbench.images import datasets
from vtbench.types.item import Item

NAMES = {
    # As the archives of image-net.org and cocodataset.org name them.
    "ImageNet validation": [f"n01440764/ILSVRC2012_val_{k:08d}.JPEG" for k in range(1, 6)],
    "ImageNet training": [f"n01440764/n01440764_{k}.JPEG" for k in range(26, 31)],
    "COCO 2017 validation": [f"val2017/{k:012d}.jpg" for k in range(139, 144)],
}


@pytest.fixture(autouse=True)
def of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits of five images each instead of 50,000."""
    monkeypatch.setattr(datasets, "KNOWN", tuple(dataclasses.replace(k, images=5) for k in datasets.KNOWN))


def known(names: list[str]) -> str | None:
    split = datasets.known_dataset([Item(name, name) for name in names])
    return f"{split.dataset} {split.split}" if split else None


@pytest.mark.parametrize(("split", "names"), NAMES.items())
def test_a_whole_split_is_known_and_a_part_or_a_strangers_is_not(split: str, names: list[str]) -> None:
    assert known(names) == split
    assert known([re.sub(r"^.*/|\.\w+$", "", name) for name in names]) == split
    assert known(names[:4]) is None
    assert known([*names[:4], names[0]]) is None, "a name twice is no split"
    assert known([*names[:4], "cat.png"]) is None
    assert known([f"{k}.png" for k in range(5)]) is None
