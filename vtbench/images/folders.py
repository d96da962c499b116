"""Folders, globs and single files as suites."""

from __future__ import annotations

import glob as globbing
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.identity import WHOLE, digests
from vtbench.images.suite import Suite
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".gif")
)
"""What a folder's files must end in to be taken as images; everything else is left alone."""
WORDNET = re.compile(r"n\d{8}")
"""ImageNet's class folders, val/n01440764/ILSVRC2012_val_00000293.JPEG; a flat validation folder has no classes."""


class FolderSuite(Suite):
    """Files below one root. Items keep only the relative path; the root stands once."""

    def __init__(self, name: str, root: Path, items: Sequence[Item]) -> None:
        super().__init__(name, items)
        self.root = root

    def path(self, item: Item) -> Path:
        return self.root / str(item.place)

    def contents(self) -> Iterator[str]:
        return digests(((str(self.path(item)), (WHOLE,)) for item in self.items), self.root)


def open_folder(root: Path) -> Suite:
    """Every image below `root`, in sorted order of relative path."""
    paths = _images_below(root)
    if not paths:
        raise VtbenchError(f"{root} holds no image ({', '.join(sorted(SUFFIXES))}): give a folder of images")
    return suite_of_paths(root.resolve().name, root, paths)


def open_glob(pattern: str) -> Suite:
    """Every image that matches; names are relative to what the matches have in common."""
    paths = sorted(
        Path(name)
        for name in globbing.glob(os.path.expanduser(pattern), recursive=True)
        if os.path.isfile(name) and Path(name).suffix.lower() in SUFFIXES
    )
    if not paths:
        raise VtbenchError(f"no image matches {pattern!r}: quote the pattern, and mind its suffix")
    return suite_of_paths(pattern, Path(os.path.commonpath([p.parent for p in paths])), paths)


def suite_of_paths(name: str, root: Path, paths: Sequence[Path]) -> Suite:
    """The files `paths` below `root`, in this order; in ImageNet's layout each knows its class."""
    items = []
    nothing: Mapping[str, Any] = {}
    classes: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        relative = path.relative_to(root).as_posix()
        # The items of a class share one mapping; 50,000 of their own would be 12 MB.
        parent = path.parent.name
        meta = classes.setdefault(parent, {"class": parent}) if WORDNET.fullmatch(parent) else nothing
        items.append(Item(relative, relative, meta=meta))
    return FolderSuite(name, root, items)


def _images_below(root: Path) -> list[Path]:
    """Files with an image's suffix, hidden ones and hidden folders left out, in sorted order of relative path.

    Links to folders are followed, each real folder once: a link that points upwards ends there.
    """
    paths: list[Path] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(b for b in below if not b.startswith("."))
        paths += [Path(folder) / f for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    return sorted(paths, key=lambda p: p.relative_to(root).as_posix())
