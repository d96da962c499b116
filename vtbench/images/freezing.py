"""Freezing a folder: a manifest with both hashes of every image, so that whoever opens it later sees the same pictures
or is told which are not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.images.ahead import THREADS, read_ahead
from vtbench.images.folders import FolderSuite
from vtbench.images.limits import BadImage, inside
from vtbench.images.manifests import open_manifest, refuse_escape
from vtbench.images.opening import open_suite
from vtbench.images.reading import read_picture, rgb_sha256
from vtbench.results.files import write_atomic
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.readable import readable

AHEAD = 4 * THREADS


@dataclass(frozen=True)
class Frozen:
    """What was written. `hash`: the suite's, 64 hexadecimal digits; `left_out`: {suffix or another reason: files} that
    are or may hold pictures and are no items; `refused`: {item: why it stands in no line}."""

    path: Path
    name: str
    n: int
    hash: str
    left_out: Mapping[str, int]
    refused: Mapping[str, str]
    notes: list[str]


def freeze(
    spec: str,
    out: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Frozen:
    """Writes the manifest `out` of the images of a folder or a glob, in the order and by the names of `--images spec`.

    name: the suite's, by default the folder's. force: an `out` that is there is replaced. progress: takes (images read,
    images in all). Raises VtbenchError, and writes nothing, where `out` cannot be such a manifest or no image can be
    read; images that cannot be frozen are named in `refused`, and the others are written.
    """
    for word, text in (("--name", name), ("--licence", licence)):
        if text is not None and not text.strip():
            raise VtbenchError(f"{word} is empty: give a text, or leave it out")
    _refuse_place(out, force)
    suite = open_suite(spec)
    if not isinstance(suite, FolderSuite):
        raise VtbenchError(f"{spec} is no folder of images, which alone can be frozen: give a folder or a glob")
    home, root = out.parent.resolve(), suite.root.resolve()
    if not root.is_relative_to(home):
        raise VtbenchError(
            f"{out} lies neither in {suite.root} nor in a folder above it, and a manifest names nothing outside its "
            f"own folder: give such a path, as --out {root / 'suite.jsonl'}"
        )

    def line(item: Item) -> dict[str, Any] | BadImage:
        try:
            return _line(suite, item, home, root)
        except BadImage as bad:
            return bad

    head = {"suite": readable(name or suite.name), "version": "1"}
    lines: list[dict[str, Any]] = [head if licence is None else {**head, "licence": readable(licence)}]
    refused: dict[str, str] = {}
    for item, entry in zip(suite.items, read_ahead(line, suite.items, most=AHEAD), strict=True):
        if isinstance(entry, BadImage):
            refused[item.id] = str(entry)
        else:
            lines.append(entry)
        if progress is not None:
            progress(len(lines) - 1 + len(refused), len(suite.items))
    if len(lines) == 1:
        raise VtbenchError(
            f"none of the {len(refused)} images of {spec} can be frozen, so nothing was written: "
            f"{next(iter(refused.values()))}",
            code=1,
        )
    # Hashing may have taken hours, in which somebody else may have written.
    _refuse_place(out, force)
    write_atomic(out, "".join(map(_json, lines)))
    return Frozen(out, head["suite"], len(lines) - 1, open_manifest(out).hash, suite.left_out, refused, suite.notes)


def _refuse_place(out: Path, force: bool) -> None:
    if out.suffix != ".jsonl":
        raise VtbenchError(f"--out {out} does not end in .jsonl, by which a manifest is known: give SUITE.jsonl")
    if not os.path.lexists(out):
        return
    if not (out.is_file() or out.is_symlink()):
        raise VtbenchError(f"--out {out} is there and is no file: choose another")
    if not force:
        raise VtbenchError(f"--out {out} is there already: choose another, or replace it with --force")


def _line(suite: FolderSuite, item: Item, home: Path, root: Path) -> dict[str, Any]:
    """An image's line in a manifest of the folder `home`. Raises BadImage if it cannot be read, or could not be from
    there."""
    data = suite.read(item)
    if not inside(suite.path(item), [home]):
        raise BadImage(
            f"{item.id} is a link that leads out of {home}, where all images of the manifest must lie: copy the file, "
            "or give an --out in a folder above both"
        )
    file = (root / str(item.place)).relative_to(home).as_posix()
    if ":" in file.partition("/")[0]:
        # A name before a colon is a package's.
        file = f"./{file}"
    try:
        refuse_escape(file, item.id)
    except VtbenchError:
        raise BadImage(f"{item.id} has a name that no manifest may hold (a backslash, or ..): rename it") from None
    hashes = {
        "sha256_file": hashlib.sha256(data).hexdigest(),
        "sha256_rgb": rgb_sha256(read_picture(data, item.id).rgb),
    }
    return {"item": item.id, "file": file, **hashes, **({"meta": dict(item.meta)} if item.meta else {})}


def _json(line: Mapping[str, Any]) -> str:
    """One line. Bytes of a file's name that are no UTF-8 (lone surrogates, PEP 383) stay as JSON's escapes, so that
    the file is found again."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(line)
    return text + "\n"
