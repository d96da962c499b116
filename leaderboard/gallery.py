"""Originals beside what came back: the pictures that runs kept, by content, and what was measured on each.

A run folder may come from anybody: only PNG files that lie directly in its `samples/` folder are ever read, names in
the index never become names in the site, and what is too large or no picture is left out.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.leaderboard.addresses import gallery_key
from vtbench.reporting.image_values import LOSSLESS
from vtbench.reporting.measured import RATE, ImageRow, TextLine
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
"""Side in pixels of the square where an image is worst (a quarter of the shorter side for small images)."""
SHOWN = 6
"""Reconstructions of one image that stand on the page as pictures; the others are links until somebody chooses them."""


@dataclass(frozen=True)
class Picture:
    """A PNG of the site: its path below the site's folder, width and height in pixels."""

    href: str
    width: int
    height: int


@dataclass(frozen=True)
class Measured:
    """What runs say of one image: values by metric, which of them do not exist since the image came back identical, and
    how its lines of text were read."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    lossless: Set[str] = frozenset()
    lines: Sequence[TextLine] = ()


@dataclass(frozen=True)
class Reconstruction:
    """One system's reconstruction of one image."""

    run: Run
    picture: Picture
    measured: Measured = Measured()

    @property
    def values(self) -> Mapping[str, float | None]:
        return self.measured.values


@dataclass(frozen=True)
class Original:
    """One original with every system's reconstruction of it, from few bits to many."""

    item: str
    picture: Picture
    reconstructions: Sequence[Reconstruction]
    box: tuple[int, int, int] | None = None
    """Left, top and side in pixels of the square where the coarsest reconstruction is furthest from it."""

    @property
    def shown(self) -> Sequence[Reconstruction]:
        """At most SHOWN, spread evenly from the first to the last."""
        last = len(self.reconstructions) - 1
        if last < SHOWN:
            return self.reconstructions
        return [self.reconstructions[round(i * last / (SHOWN - 1))] for i in range(SHOWN)]

    @property
    def lines(self) -> Sequence[TextLine]:
        """The lines of the page, as the first run that had it read states them."""
        return next((shot.measured.lines for shot in self.reconstructions if shot.measured.lines), ())


@dataclass(frozen=True)
class SampleSet:
    """The samples of one suite in one view; `images`: which, by content."""

    images: tuple[str, str, str]
    suite: str
    view: str
    originals: Sequence[Original]

    @property
    def key(self) -> str:
        return gallery_key(self.images, self.suite)


@dataclass(frozen=True)
class SavedPicture:
    """A PNG of a run's folder that a page may show. `digest`: sha256 of its bytes; `size`: (width, height)."""

    path: Path
    digest: str
    size: tuple[int, int]


@dataclass
class Pictures:
    """Pictures of the site by content: the same original of twelve runs is one file. They stay where they are until
    they are written: a site of hundreds of runs would not fit into memory."""

    sources: dict[str, SavedPicture] = field(default_factory=dict)
    """{path below the site: where the bytes lie}."""

    def keep(self, saved: SavedPicture) -> Picture:
        href = f"images/{saved.digest[:20]}.png"
        self.sources.setdefault(href, saved)
        return Picture(href, *saved.size)

    def written(self) -> Iterator[tuple[str, bytes]]:
        """(path, bytes) of every picture; VtbenchError where a file is no more what it was."""
        for href, saved in self.sources.items():
            data = _png(saved.path.parent, saved.path.name)
            if data is None or hashlib.sha256(data).hexdigest() != saved.digest:
                raise VtbenchError(f"{saved.path} changed while the page was built: build it again")
            yield href, data


@dataclass(frozen=True)
class SavedPair:
    """Original and reconstruction as the run's index states them."""

    item: str
    reference: SavedPicture
    candidate: SavedPicture


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


def _saved(folder: Path, name: Any) -> SavedPicture | None:
    """A PNG directly in `folder` whose parts are whole and whose size a page can show; None for anything else."""
    from PIL import Image

    data = _png(folder, name)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            size = (image.width, image.height)
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return SavedPicture(folder / name, hashlib.sha256(data).hexdigest(), size)


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
        reference, candidate = (_saved(folder, n) for n in names)
        if reference and candidate:
            out.append(SavedPair(str(entry.get("item", "")), reference, candidate))
    return out


def _pixels(saved: SavedPicture) -> Any:
    """A Pillow RGB image, or None if the file is no more what it was."""
    from PIL import Image

    data = _png(saved.path.parent, saved.path.name)
    try:
        with Image.open(io.BytesIO(data or b""), formats=["PNG"]) as image:
            return image.convert("RGB") if image.size == saved.size else None
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
    said = _said_of(by_images, runs, older_metrics(runs))
    sets = [_sample_set(pictures, images, pairs, said) for images, pairs in by_images.items()]
    return sorted((s for s in sets if s.originals), key=lambda samples: (samples.suite, samples.view, samples.images))


Said = Mapping[tuple[tuple[str, str, str], str, str], Measured]
"""By images, system and item."""


def _said_of(
    by_images: Mapping[tuple[str, str, str], Sequence[tuple[Run, SavedPair]]],
    runs: Sequence[Run],
    older: Mapping[str, Set[str]],
) -> Said:
    """What is known of the shown images from all runs of their systems on them, whatever their task: one pass over the
    rows of each. older: metrics by run id whose values are of an older version than others'."""
    wanted: dict[tuple[Any, str], set[str]] = {}
    for images, pairs in by_images.items():
        for run, pair in pairs:
            wanted.setdefault((images, system(run)), set()).add(pair.item)
    out: dict[tuple[tuple[str, str, str], str, str], Measured] = {}
    for run in runs:
        images, of_system, gone = question(run).images, system(run), older.get(identity(run), ())
        items = set(wanted.get((images, of_system), ()))
        for row in image_rows(run) if items else ():
            if row.item in items:
                items.discard(row.item)
                before = out.get((images, of_system, row.item), Measured())
                out[images, of_system, row.item] = _joined(before, row, gone)
            if not items:
                break
    return out


def _joined(before: Measured, row: ImageRow, gone: Container[str]) -> Measured:
    values = {name: value for name, value in row.values.items() if name not in gone}
    reasons = ((name, why) for name, why in row.why.items() if name not in gone and values.get(name) is None)
    lossless = {name for name, why in reasons if why.startswith(LOSSLESS)}
    return Measured({**values, **before.values}, before.lossless | lossless, before.lines or row.lines)


def _sample_set(
    pictures: Pictures, images: tuple[str, str, str], pairs: Sequence[tuple[Run, SavedPair]], said: Said
) -> SampleSet:
    """The pairs of one suite and view by original: its item, and its bytes."""
    by_original: dict[tuple[str, str], list[tuple[Run, SavedPair]]] = {}
    for run, pair in pairs:
        by_original.setdefault((pair.item, pair.reference.digest), []).append((run, pair))
    originals = [
        _original(pictures, item, [(run, pair, said.get((images, system(run), item), Measured())) for run, pair in of])
        for (item, _), of in by_original.items()
    ]
    first = pairs[0][0]
    return SampleSet(images, suite_name(first), view_name(first), originals)


def _original(pictures: Pictures, item: str, pairs: Sequence[tuple[Run, SavedPair, Measured]]) -> Original:
    saved = pairs[0][1].reference
    # By rate where it is known, so that the eye walks from coarse to fine.
    rates = [of.values.get(RATE) for _, _, of in pairs]
    order = sorted(range(len(pairs)), key=lambda i: (rates[i] is None, rates[i] or 0.0))
    ordered = [pairs[i] for i in order]
    sides = _pixels(saved), _pixels(ordered[0][1].candidate)
    box = worst_box(sides[0], sides[1:]) if None not in sides else None
    shown = [Reconstruction(run, pictures.keep(pair.candidate), of) for run, pair, of in ordered]
    return Original(item, pictures.keep(saved), shown, box)


Kept = Mapping[tuple[tuple[str, str, str], str], Sequence[tuple[SampleSet, Original, Reconstruction]]]
"""Samples by their images and what made them (reporting.runs.system)."""


def kept_samples(sets: Sequence[SampleSet]) -> Kept:
    """Every sample by its images and its system."""
    out: dict[tuple[tuple[str, str, str], str], list[tuple[SampleSet, Original, Reconstruction]]] = {}
    for samples in sets:
        for original in samples.originals:
            for shot in original.reconstructions:
                out.setdefault((samples.images, system(shot.run)), []).append((samples, original, shot))
    return out
