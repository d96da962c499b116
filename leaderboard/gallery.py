"""Originals beside reconstructions: sample images copied by content, and one enlarged crop an image.

A run folder may come from anybody: only PNG files that lie directly in its `samples/` folder are ever read, names in
the index never become names in the site, and an image that is too large or no image is left out with the reason.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.reporting.measured import RATE
from vtbench.reporting.measured import rows as image_rows
from vtbench.reporting.runs import identity, question, suite_name, system, view_name
from vtbench.reporting.versions import older_metrics
from vtbench.results.files import read_json
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

MAX_PIXELS = 32_000_000
"""An image of more pixels is not copied into a page."""
MAX_BYTES = 64_000_000
MAX_SAMPLES = 16
"""Pairs of one run that a page shows; a run may have kept more."""
CROP = 64
"""Side of the enlarged crop in pixels of the image (a quarter of the shorter side for small images)."""
ItemValues = dict[tuple[str, str], Mapping[str, float | None]]
"""{(run id, item): its values by metric}."""


@dataclass(frozen=True)
class Picture:
    """A PNG of the site: its path below the site's folder, width and height in pixels."""

    href: str
    width: int
    height: int


@dataclass(frozen=True)
class Reconstruction:
    """One system's reconstruction of one image, with the values of that image."""

    run: Run
    picture: Picture
    crop: Picture | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Original:
    """One original with every system's reconstruction of it."""

    item: str
    picture: Picture
    crop: Picture | None
    reconstructions: Sequence[Reconstruction]
    box: tuple[int, int, int] | None = None
    """Left, top and side of the crop, in pixels."""


@dataclass(frozen=True)
class SampleSet:
    """The samples of one suite in one view; `images`: which, by content."""

    images: tuple[str, str, str]
    suite: str
    view: str
    originals: Sequence[Original]


@dataclass
class Pictures:
    """Images by content: the same original of twelve runs is one file. `files`: path below the site -> bytes."""

    files: dict[str, bytes] = field(default_factory=dict)

    def keep(self, data: bytes, size: tuple[int, int]) -> Picture:
        href = f"images/{hashlib.sha256(data).hexdigest()[:20]}.png"
        self.files[href] = data
        return Picture(href, *size)

    def crop(self, image: Any, box: tuple[int, int, int]) -> Picture:
        left, top, side = box
        out = io.BytesIO()
        image.crop((left, top, left + side, top + side)).save(out, format="PNG", optimize=False)
        return self.keep(out.getvalue(), (side, side))


@dataclass(frozen=True)
class SavedPair:
    """Original and reconstruction as the run's index states them: the bytes of two PNG files."""

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


def saved_pairs(run: Run) -> list[SavedPair]:
    """The pairs of a run's sample folder, in the order of its index; unusable entries are left out."""
    folder = run.path / "samples"
    if folder.is_symlink() or not folder.is_dir():
        return []
    index = next((p for p in (folder / "samples.json", run.path / "samples.json") if p.is_file()), None)
    if index is None:
        return []
    try:
        entries = read_json(index)
    except VtbenchError:
        return []
    out: list[SavedPair] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping) or len(out) == MAX_SAMPLES:
            continue
        # The index may say `samples/NAME` or `NAME`; both mean a file of that folder.
        names = [str(entry.get(k) or "").removeprefix("samples/") for k in ("reference", "candidate")]
        reference, candidate = (_png(folder, n) for n in names)
        if reference and candidate:
            out.append(SavedPair(str(entry.get("item", "")), reference, candidate))
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
    y, x = np.meshgrid(tops, lefts, indexing="ij")
    boxes = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
    row, column = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(lefts[column]), int(tops[row]), side


def sample_sets(runs: Sequence[Run], pictures: Pictures) -> list[SampleSet]:
    """The kept samples by suite and view, each system once an image, in the order of `runs`."""
    by_images: dict[tuple[str, str, str], list[tuple[Run, SavedPair]]] = {}
    seen: set[tuple[Any, ...]] = set()
    for run in runs:
        images = question(run).images
        for pair in saved_pairs(run):
            if (images, pair.item, system(run)) not in seen:
                seen.add((images, pair.item, system(run)))
                by_images.setdefault(images, []).append((run, pair))
    values = _values([pair for pairs in by_images.values() for pair in pairs], older_metrics(runs))
    sets = [_sample_set(pictures, pairs, values) for pairs in by_images.values()]
    return sorted((s for s in sets if s.originals), key=lambda samples: (samples.suite, samples.view))


def _sample_set(pictures: Pictures, pairs: Sequence[tuple[Run, SavedPair]], values: ItemValues) -> SampleSet:
    """The pairs of one suite and view by original: its item, and its bytes."""
    by_original: dict[tuple[str, str], list[tuple[Run, SavedPair]]] = {}
    for run, pair in pairs:
        original = (pair.item, hashlib.sha256(pair.reference).hexdigest())
        by_original.setdefault(original, []).append((run, pair))
    originals = [_original(pictures, item, of_one, values) for (item, _), of_one in by_original.items()]
    first = pairs[0][0]
    return SampleSet(
        question(first).images, suite_name(first), view_name(first), [original for original in originals if original]
    )


def _values(pairs: Sequence[tuple[Run, SavedPair]], older: Mapping[str, Set[str]]) -> ItemValues:
    """Values of the shown images by run id and item: one pass over the rows of each run. older: metrics by run id whose
    values are of an older version than others'."""
    wanted: dict[str, set[str]] = {}
    for run, pair in pairs:
        wanted.setdefault(identity(run), set()).add(pair.item)
    out: ItemValues = {}
    for run in {identity(run): run for run, _ in pairs}.values():
        items = set(wanted[identity(run)])
        for row in image_rows(run):
            if row.item in items:
                gone = older.get(identity(run), ())
                out[identity(run), row.item] = {name: v for name, v in row.values.items() if name not in gone}
                items.discard(row.item)
            if not items:
                break
    return out


def _original(
    pictures: Pictures, item: str, pairs: Sequence[tuple[Run, SavedPair]], values: ItemValues
) -> Original | None:
    """None where the original, or every reconstruction, is no image that a page can show."""
    saved = pairs[0][1].reference
    reference = _open(saved)
    if reference is None:
        return None
    opened = [(run, pair, image) for run, pair in pairs if (image := _open(pair.candidate)) is not None]
    if not opened:
        return None
    box = worst_box(reference, [image for _, _, image in opened])
    shown = []
    for run, pair, image in opened:
        crop = pictures.crop(image, box) if box and image.size == reference.size else None
        picture = pictures.keep(pair.candidate, image.size)
        shown.append(Reconstruction(run, picture, crop, values.get((identity(run), item), {})))
    # By rate where it is known, so that the eye walks from coarse to fine within a kind.
    shown.sort(key=lambda r: (r.values.get(RATE) is None, r.values.get(RATE) or 0.0))
    original = pictures.keep(saved, reference.size)
    return Original(item, original, pictures.crop(reference, box) if box else None, shown, box)


def samples_of(run: Run, sets: Sequence[SampleSet]) -> list[tuple[Original, Reconstruction]]:
    """The samples of a run's system on this run's images."""
    return [
        (original, reconstruction)
        for samples in sets
        if samples.images == question(run).images
        for original in samples.originals
        for reconstruction in original.reconstructions
        if system(reconstruction.run) == system(run)
    ]
