"""Folders, globs and single files as suites."""

from __future__ import annotations

import glob as globbing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.identity import WHOLE, digests
from vtbench.images.kinds import HEAD
from vtbench.images.selection import Selection, ids_of, in_order, suffixes, visible
from vtbench.images.suite import Suite
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.shortage import refuse_shortage

WORDNET = re.compile(r"n\d{8}")
"""ImageNet's class folders, val/n01440764/ILSVRC2012_val_00000293.JPEG; a flat validation folder has no classes."""
LINKS = 64
"""So often a folder may be reached by different ways: links in circles would lead to it for ever."""


class FolderSuite(Suite):
    """Files below one root. The place of an item is its relative path; the root stands once."""

    def __init__(self, name: str, root: Path, items: Sequence[Item]) -> None:
        super().__init__(name, items)
        self.root = root

    def path(self, item: Item) -> Path:
        return self.root / str(item.place)

    def contents(self) -> Iterator[str]:
        return digests(((str(self.path(item)), (WHOLE,)) for item in self.items), self.root)


def open_folder(root: Path) -> Suite:
    """Every image below `root`, in sorted order of relative path."""
    selection = Selection()
    names = in_order(name for name in files_below(root) if selection.takes(name, _head(root / name)))
    if not names:
        raise VtbenchError(f"{root} holds no image ({', '.join(sorted(suffixes()))}){_instead(selection, root)}")
    return _noted(suite_of_names(root.resolve().name, root, names), selection)


def open_glob(pattern: str) -> Suite:
    """Every image that matches; names are relative to what the matches have in common."""
    selection = Selection()
    paths = [path for path in matches(pattern) if selection.takes(str(path), _head(path))]
    if not paths:
        holds = _instead(selection, None) if selection.left_out else ": quote the pattern, and mind its suffix"
        raise VtbenchError(f"no image matches {pattern!r}{holds}")
    root = Path(os.path.commonpath([p.parent for p in paths]))
    names = in_order(p.relative_to(root).as_posix() for p in paths)
    return _noted(suite_of_names(pattern, root, names), selection)


def matches(pattern: str) -> list[Path]:
    """The files that match; those that are links to nowhere among them."""
    names = globbing.glob(os.path.expanduser(pattern), recursive=True)
    return [Path(name) for name in in_order(names) if not os.path.isdir(name)]


def suite_of_names(name: str, root: Path, names: Sequence[str]) -> Suite:
    """The files of these relative paths below `root`, in this order; in ImageNet's layout each knows its class."""
    nothing: Mapping[str, Any] = {}
    classes: dict[str, Mapping[str, Any]] = {}
    items = []
    for relative, identity in zip(names, ids_of(names, str(root)), strict=True):
        # The items of a class share one mapping; 50,000 of their own would be 12 MB.
        parent = relative.rpartition("/")[0].rpartition("/")[2] or root.name
        meta = classes.setdefault(parent, {"class": parent}) if WORDNET.fullmatch(parent) else nothing
        items.append(Item(identity, relative, meta=meta))
    return FolderSuite(name, root, items)


def files_below(root: Path) -> Iterator[str]:
    """Relative paths of all files, those of hidden folders and of systems left out.

    A link to a folder is one more folder, so that two links to one are two; a link to a folder that it lies in ends
    there. Raises VtbenchError if a folder cannot be listed, or leads round in circles.
    """
    reached: Counter[tuple[int, int]] = Counter()
    todo: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(str(root), "", ())]
    while todo:
        folder, prefix, above = todo.pop()
        try:
            facts = os.stat(folder)
            here = (facts.st_dev, facts.st_ino)
            if here in above:
                continue
            reached[here] += 1
            if reached[here] > LINKS:
                raise VtbenchError(f"{folder} is reached by more than {LINKS} links: remove those that lead in circles")
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not visible(entry.name):
                        continue
                    if _is_folder(entry):
                        todo.append((entry.path, f"{prefix}{entry.name}/", (*above, here)))
                    else:
                        yield prefix + entry.name
        except OSError as bad:
            refuse_shortage(bad, folder)
            raise VtbenchError(f"{folder} cannot be listed ({bad.strerror or bad}): mend its rights") from bad


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself: a file that cannot be read, which its row will say.
        return False


def _head(path: Path) -> Callable[[], bytes]:
    """Gives the file's first bytes; none where it is no regular file, or cannot be read (said when it is)."""

    def read() -> bytes:
        try:
            if not path.is_file():
                return b""
            with path.open("rb") as source:
                return source.read(HEAD)
        except OSError as bad:
            refuse_shortage(bad, path)
            return b""

    return read


def _noted(suite: Suite, selection: Selection) -> Suite:
    suite.left_out = selection.left_out
    suite.notes += filter(None, [selection.note()])
    return suite


def _instead(selection: Selection, folder: Path | None) -> str:
    """What stands there instead of images, and what to do. folder: the one that was opened, where it was one."""
    if not selection.left_out:
        return ": give a folder of images"
    if ".parquet" in selection.left_out and folder is not None:
        return f"; it holds {selection.listed()}: give hf:{folder}@local, or such a file"
    return f"; it holds {selection.listed()}: give such a file or a glob of them, or convert them"
