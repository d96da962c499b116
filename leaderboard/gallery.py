"""Originals beside reconstructions: sample images copied by content, and one enlarged crop an image.

A run folder may come from anybody: only PNG files that lie directly in its `samples/` folder are ever read, names in
the index never become names in the site, and an image that is too large or no image is left out with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.aggregate import RATE, finite, identity, part, system
from vtbench.results import Run

MAX_PIXELS = 32_000_000
"""An image of more pixels is not copied into a page."""
MAX_BYTES = 64_000_000
MAX_SAMPLES = 16
"""Pairs of one run that a page shows; a run may have kept more."""
CROP = 64
"""Side of the enlarged crop in pixels of the image (a quarter of the shorter side for small images)."""


@dataclass(frozen=True)
class Picture:
    """A PNG of the site: its path below the site's folder, width and height in pixels."""

    href: str
    width: int
    height: int


@dataclass
class Shot:
    """One system's reconstruction of one image."""

    run: Run
    picture: Picture
    crop: Picture | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class Exhibit:
    """One original with every system's reconstruction of it."""

    item: str
    picture: Picture
    crop: Picture | None
    shots: list[Shot]
    box: tuple[int, int, int] | None = None
    """Left, top and side of the crop, in pixels."""


@dataclass
class Room:
    """The exhibits of one suite in one view."""

    suite: str
    view: str
    exhibits: list[Exhibit]


@dataclass
class Store:
    """Images by content: the same original of twelve runs is one file. `files`: path below the site -> bytes."""

    files: dict[str, bytes] = field(default_factory=dict)

    def keep(self, data: bytes, size: tuple[int, int]) -> Picture:
        href = f"images/{hashlib.sha256(data).hexdigest()[:20]}.png"
        self.files[href] = data
        return Picture(href, *size)


@dataclass
class Sample:
    """A pair as the run's index states it, read and checked."""

    item: str
    reference: bytes
    candidate: bytes


def _png(folder: Path, name: Any) -> bytes | None:
    """The bytes of a PNG directly in `folder`; None for anything else (paths, links, other files, too large)."""
    if not isinstance(name, str) or not name or name != Path(name).name or "\\" in name or "\0" in name:
        return None
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return data if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def samples(run: Run) -> list[Sample]:
    """The pairs of a run's sample folder, in the order of its index; unusable entries are left out."""
    folder = run.path / "samples"
    if folder.is_symlink() or not folder.is_dir():
        return []
    index = next((p for p in (folder / "samples.json", run.path / "samples.json") if p.is_file()), None)
    if index is None:
        return []
    try:
        entries = json.loads(index.read_text())
    except (OSError, ValueError):
        return []
    out: list[Sample] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping) or len(out) == MAX_SAMPLES:
            continue
        # The index may say `samples/NAME` or `NAME`; both mean a file of that folder.
        names = [str(entry.get(k) or "").removeprefix("samples/") for k in ("reference", "candidate")]
        reference, candidate = (_png(folder, n) for n in names)
        if reference and candidate:
            out.append(Sample(str(entry.get("item", "")), reference, candidate))
    return out


def _open(data: bytes) -> Any:
    """A Pillow RGB image, or None if the bytes are no PNG of a size that a page can show."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def worst_box(reference: Any, candidates: Sequence[Any]) -> tuple[int, int, int] | None:
    """Where the candidates together are furthest from the original: (left, top, side); None if nothing differs.

    reference, candidates: Pillow RGB images of one size. The search moves by a quarter of the side.
    """
    import numpy as np

    width, height = reference.size
    side = min(CROP, max(16, min(width, height) // 4), width, height)
    original = np.asarray(reference, dtype=np.float32)
    error = np.zeros((height, width), dtype=np.float64)
    for candidate in candidates:
        if candidate.size == reference.size:
            error += np.abs(np.asarray(candidate, dtype=np.float32) - original).sum(-1)
    if not error.any():
        return None
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    step = max(1, side // 4)
    tops, lefts = np.arange(0, height - side + 1, step), np.arange(0, width - side + 1, step)
    t, l = np.meshgrid(tops, lefts, indexing="ij")  # noqa: E741
    boxes = sums[t + side, l + side] - sums[t, l + side] - sums[t + side, l] + sums[t, l]
    row, column = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(lefts[column]), int(tops[row]), side


def _crop(store: Store, image: Any, box: tuple[int, int, int]) -> Picture:
    left, top, side = box
    out = io.BytesIO()
    image.crop((left, top, left + side, top + side)).save(out, format="PNG", optimize=False)
    return store.keep(out.getvalue(), (side, side))


def _item_values(run: Run, items: set[str]) -> dict[str, dict[str, float | None]]:
    """Per-image values of the shown images: one pass over the rows."""
    found: dict[str, dict[str, float | None]] = {}
    for row in run.rows():
        item = str(row.get("item", ""))
        if item in items and isinstance(row.get("values"), Mapping):
            found[item] = {str(k): finite(v) for k, v in row["values"].items()}
            if len(found) == len(items):
                break
    return found


def rooms(runs: Sequence[Run], store: Store) -> list[Room]:
    """Exhibits by suite and view, each system once per image, in the order of `runs`."""
    halls: dict[tuple[str, str, str], dict[tuple[str, str], list[tuple[Run, Sample]]]] = {}
    names: dict[tuple[str, str, str], tuple[str, str]] = {}
    seen: set[tuple[str, ...]] = set()
    for run in runs:
        suite, view = part(run, "suite"), part(run, "view")
        hall = (str(suite.get("hash") or suite.get("name")), str(view.get("name")), str(view.get("fingerprint")))
        names.setdefault(hall, (str(suite.get("name", "")), str(view.get("name", ""))))
        for sample in samples(run):
            once = (*hall, sample.item, system(run))
            if once in seen:
                continue
            seen.add(once)
            key = (sample.item, hashlib.sha256(sample.reference).hexdigest())
            halls.setdefault(hall, {}).setdefault(key, []).append((run, sample))
    values: dict[str, dict[str, dict[str, float | None]]] = {}
    wanted: dict[str, set[str]] = {}
    by_id = {identity(r): r for r in runs}
    for hall_items in halls.values():
        for (item, _), pairs in hall_items.items():
            for run, _ in pairs:
                wanted.setdefault(identity(run), set()).add(item)
    for identifier, items in wanted.items():
        values[identifier] = _item_values(by_id[identifier], items)
    out = []
    for hall, exhibits in halls.items():
        made = [e for (item, _), pairs in exhibits.items() if (e := _exhibit(store, item, pairs, values))]
        if made:
            out.append(Room(*names[hall], made))
    return sorted(out, key=lambda room: (room.suite, room.view))


def _exhibit(
    store: Store, item: str, pairs: Sequence[tuple[Run, Sample]], values: Mapping[str, Mapping[str, Any]]
) -> Exhibit | None:
    reference = _open(pairs[0][1].reference)
    if reference is None:
        return None
    opened = [(run, sample, image) for run, sample in pairs if (image := _open(sample.candidate)) is not None]
    if not opened:
        return None
    box = worst_box(reference, [image for _, _, image in opened])
    shots = []
    for run, sample, image in opened:
        crop = _crop(store, image, box) if box and image.size == reference.size else None
        told = values.get(identity(run), {}).get(item, {})
        shots.append(Shot(run, store.keep(sample.candidate, image.size), crop, told))
    # By rate where it is known, so that the eye walks from coarse to fine within a kind.
    shots.sort(key=lambda s: (s.values.get(RATE) is None, s.values.get(RATE) or 0.0))
    original = store.keep(pairs[0][1].reference, reference.size)
    return Exhibit(item, original, _crop(store, reference, box) if box else None, shots, box)
