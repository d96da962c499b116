"""`vtbench score`: metrics for folders of images, without any model. One reference, many candidates, read once each."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vtbench import registry
from vtbench.images import stream
from vtbench.images.opening import is_folder_or_manifest, open_suite
from vtbench.images.pairing import check_pairs, partners
from vtbench.images.sets import ImageSet
from vtbench.images.stream import Original
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.isolation import isolated
from vtbench.models.pictures import SavedPictures
from vtbench.results.folder import RunFolder
from vtbench.results.html import paragraphs, scores_html
from vtbench.results.kept_rows import KeptRows
from vtbench.results.record import Score, by_metric
from vtbench.running import kept_work, pipeline
from vtbench.running.writer import Keeping, Writer
from vtbench.scoring.feature_cache import Say
from vtbench.scoring.features import DiskUse, FeaturePlace, paired_sides
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.remarks import stated_profiles
from vtbench.scoring.scores import Asked, Sides, Tally, scores_of, tally
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import ImageMetric, RowMetric, SetMetric
from vtbench.types.version import VERSION

DEFAULT = ("psnr", "ssim", "ms-ssim", "lpips-alex", "rfid", "kid")
BATCH = 8
TASK = "score"
ROW_KEYS = ("item", "size", "values", "why", "weights", "flags")
"""What a row of folders says; pictures made elsewhere have no bits and no seconds."""
NO_TOKENS = "this metric reads tokens, and folders of images have none"
Tick = Callable[[int, int], None]
"""(images done, images in all)"""


@dataclass(frozen=True, repr=False)
class Candidate:
    """One candidate folder with its scores and per-image rows."""

    path: str
    scores: list[Score]
    rows: Sequence[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        return {**self.read_when_asked(), "rows": list(self.rows)}

    def read_when_asked(self) -> dict[str, Any]:
        """As `as_dict`, its rows on the disk until somebody goes through them."""
        return {"path": self.path, "scores": by_metric(self.scores), "rows": self.rows}

    def __repr__(self) -> str:
        images = f" of {len(self.rows)} images" if self.rows else ""
        return f"<{self.path}: {len(self.scores)} scores{images}>"


@dataclass(frozen=True, repr=False)
class Scored:
    """What `score` returns; `as_dict()` is what --json writes. bad: {file: why it could not be read}. notes: what was
    left out of the folders or sets, and what else their names may mean."""

    reference: str
    candidates: list[Candidate]
    bad: dict[str, str]
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**self.read_when_asked(), "candidates": [c.as_dict() for c in self.candidates]}

    def read_when_asked(self) -> dict[str, Any]:
        """As `as_dict`, the rows on the disk until somebody goes through them."""
        return {
            "schema": 1,
            "vtbench": VERSION,
            "reference": self.reference,
            "bad": self.bad,
            "notes": list(self.notes),
            "candidates": [c.read_when_asked() for c in self.candidates],
        }

    def to_pandas(self) -> Any:
        """One line a candidate and metric."""
        import pandas as pd

        return pd.DataFrame([{"candidate": c.path, **s.as_dict()} for c in self.candidates for s in c.scores])

    def __repr__(self) -> str:
        unread = f", {len(self.bad)} images could not be read" if self.bad else ""
        return f"<Scored against {self.reference}{unread}: {', '.join(map(repr, self.candidates))}>"

    def _repr_html_(self) -> str:
        tables = [scores_html(f"{c.path} against {self.reference}", c.scores) for c in self.candidates]
        unread = [f"could not be read: {name}: {why}" for name, why in self.bad.items()]
        return "".join([*tables, paragraphs([*self.notes, *unread])])


@isolated()
def score(
    reference: Path,
    candidates: Sequence[Path],
    metrics: Sequence[str] | None = None,
    *,
    device: str = "cpu",
    icc: str | None = None,
    progress: Tick | None = None,
    say: Say | None = None,
    hashing: Tick | None = None,
    through: Through | None = None,
) -> Scored:
    """Every metric of every candidate folder against the reference folder. icc: "srgb" converts pictures by the colour
    profiles that they state. say: takes a sentence on the disk that it takes, before it begins. hashing: as `progress`,
    while the files are read for their hashes. through: what sends the pictures through the metrics; by default this
    process.

    The reference side (features, statistics, stages of networks) is computed once. A command that is stopped goes on
    where it was, as long as the files hold the same. Raises VtbenchError if the folders do not pair; unreadable files
    are named in `bad` and left out of every candidate.
    """
    names = registry.metric_names(metrics or DEFAULT)
    pairs = Pairs.opened(reference, candidates, icc)
    original, systems, view = pairs.original, pairs.systems, pairs.view
    ready = without_tokens(load_metrics(names, device))
    asked = Asked(TASK, ready, view.protocol, view.fingerprint())
    through = through or Here(device)
    place = kept_work.place_of(pairs.facts(hashing), ready, through.device)
    tick = counting(progress, len(original.items))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch, contextlib.ExitStack() as stack:
        names = [str(number) for number in range(len(systems))]
        folders = stack.enter_context(kept_work.held(place, names, Path(scratch)))
        say_disk_use(say, ready, len(original.items) * (1 + len(systems)), folders[0].path)
        places = [FeaturePlace(folder.path) for folder in folders]
        begun = _begun(pairs, folders, places, ready)
        tick(begun)
        # The first candidate's lane writes the features of the originals for all.
        writers = [
            Writer(folder, ready, place, Keeping(reference=place is places[0]), device=device, begun=begun)
            for folder, place in zip(folders, places, strict=True)
        ]
        through(pairs, ready, writers, begun, tick)
        out = [
            _candidate(path, asked, folder, _sides(place, places[0]), original)
            for path, folder, place in zip(candidates, folders, places, strict=True)
        ]
        bad = {str(r["item"]): str(r["why"]["*"]) for r in folders[0].read_rows() if "*" in r["why"]}
        stated = Counter(r["flags"]["profile"] for r in folders[0].read_rows() if "profile" in r.get("flags", {}))
    items = original.items
    notes = noted([(reference, original), *((s.folder, s.suite) for s in systems)])
    notes += [f"{reference}: {note}" for note in stated_profiles(stated, len(items), "originals")]
    return Scored(str(reference), out, bad, notes)


def say_disk_use(say: Say | None, metrics: Metrics, images: int, folder: Path) -> None:
    """Says what features of `images` images, of all sides together, take in `folder`; nothing where there are none."""
    extractors = metrics.extractors()
    if say is not None and extractors and images:
        say(DiskUse.passing(extractors, images).sentence(folder))


def noted(opened: Iterable[tuple[Path, Suite | ImageSet]]) -> list[str]:
    """The notes on what was opened, each with its path, and once."""
    return list(dict.fromkeys(f"{path}: {note}" for path, images in opened for note in images.notes))


@dataclass(frozen=True)
class Here:
    """This process's pipeline."""

    device: str

    def __call__(
        self, pairs: Pairs, metrics: Metrics, writers: Sequence[Writer], begun: int, tick: Callable[[int], None]
    ) -> None:
        items, overlap = pairs.original.items, metrics.beside_model(self.device)
        pace = pipeline.Pace(BATCH, len(items), begun)
        lanes, rest = pairs.lanes(writers), pairs.batches(items[begun:])
        pipeline.run(lanes, rest, pace, overlap=overlap, device=self.device, tick=tick)


@dataclass(frozen=True)
class Pairs:
    """The originals and the candidates, paired by name."""

    original: Suite
    systems: Sequence[SavedPictures]
    view: View

    @classmethod
    def opened(cls, reference: Path, candidates: Sequence[Path], icc: str | None) -> Pairs:
        return cls(*_opened(reference, candidates), View.parse("native", "native", icc))

    def contents(self, hashing: Tick | None = None) -> list[str]:
        """The hash of every side, the originals' first; reads the files that it does not remember."""
        suites = [self.original, *(system.suite for system in self.systems)]
        tick = counting(hashing, sum(len(suite.items) for suite in suites))
        return [suite.identify(lambda *_: tick(1)) for suite in suites]

    def facts(self, hashing: Tick | None = None) -> dict[str, Any]:
        """What decides rows of these pictures, the metrics aside."""
        return {
            "pairs": self.contents(hashing),
            "items": kept_work.of_items(self.original.items),
            "view": self.view.fingerprint(),
            "batch": BATCH,
        }

    def lanes(self, sinks: Sequence[pipeline.Sink]) -> list[pipeline.Lane]:
        """One lane a candidate."""
        ends = enumerate(zip(self.systems, sinks, strict=True), 1)
        return [pipeline.Lane(str(system.folder), None, sink, side) for side, (system, sink) in ends]

    def batches(self, items: Sequence[Item]) -> Iterator[pipeline.Batch]:
        """All sides of these items; an item that cannot be read on one side is left out of all."""
        sources = [stream.source_of(self.original, self.view)]
        sources += [partners(s.suite, s.items, self.view) for s in self.systems]
        return _all_or_none(stream.batches(sources, items, BATCH))


class Through(Protocol):
    """Sends pairs through metrics on devices of one kind, all but the first `begun`, and has the writers, one a
    candidate, append what became of them."""

    @property
    def device(self) -> str: ...

    def __call__(
        self, pairs: Pairs, metrics: Metrics, writers: Sequence[Writer], begun: int, tick: Callable[[int], None]
    ) -> None: ...


def _begun(pairs: Pairs, folders: Sequence[RunFolder], places: Sequence[FeaturePlace], metrics: Metrics) -> int:
    """How many images an earlier try has finished; cuts all folders to these. What could not be read then, and can now,
    is no longer what its row says."""
    begun = min(kept_work.rows_begun(folder, BATCH) for folder in folders)
    files = [place.candidate(e) for place in places for e in metrics.extractors().values()]
    files += [places[0].reference(e) for e in metrics.extractors().values()]
    if any(file.trouble(begun) for file in files):
        for folder in folders:
            folder.clear()
        return 0
    rows = itertools.islice(folders[0].read_rows(), begun)
    bad = [(number, row["why"]["*"]) for number, row in enumerate(rows) if "*" in row["why"]]
    again = itertools.chain.from_iterable(pairs.batches([pairs.original.items[number] for number, _ in bad]))
    changed = (number for (number, why), (first, *_) in zip(bad, again, strict=True) if first.why != why)
    begun = next(changed, begun)
    return min(folder.keep_rows(BATCH, begun) for folder in folders)


def _opened(reference: Path, candidates: Sequence[Path]) -> tuple[Suite, list[SavedPictures]]:
    """The originals and the candidates, paired by name."""
    if not candidates:
        raise VtbenchError("no candidate folder was given: vtbench score REFERENCE CANDIDATE...")
    for folder in (reference, *candidates):
        if not is_folder_or_manifest(folder):
            what = "is not a folder" if os.path.lexists(folder) else "does not exist"
            one = "; one file that holds a set is compared by --set" if folder.is_file() else ""
            raise VtbenchError(f"{folder} {what}: give folders of images, or their manifests (.jsonl){one}")
    original = open_suite(str(reference))
    systems = [SavedPictures(path) for path in candidates]
    for path, system in zip(candidates, systems, strict=True):
        check_pairs(original, system.suite, str(path))
    return original, systems


def _all_or_none(batches: Iterable[pipeline.Batch]) -> Iterator[pipeline.Batch]:
    """An item of which any picture cannot be read is left out of every candidate: all are scored on the same images."""
    for batch in batches:
        yield [_whole(sides) for sides in batch]


def _whole(sides: tuple[Original, ...]) -> tuple[Original, ...]:
    why = next((s.why for s in sides if s.rgb is None), None)
    return sides if why is None else (replace(sides[0], rgb=None, why=why), *sides[1:])


def without_tokens(metrics: Metrics) -> Metrics:
    """Metrics that read tokens are unavailable where there are none."""
    kinds = ImageMetric | SetMetric | RowMetric
    return metrics.without({n: NO_TOKENS for n, m in metrics.ready.items() if not isinstance(m, kinds)})


def counting(progress: Tick | None, total: int) -> Callable[[int], None]:
    """Counts of batches as progress of the whole."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick


def _sides(own: FeaturePlace, first: FeaturePlace) -> Callable[[SetMetric, Tally], Sides]:
    """The candidate's own features beside the originals', which the first candidate's lane wrote."""

    def of(metric: SetMetric, seen: Tally) -> Sides:
        extractor = metric.extractor()
        return paired_sides(first.reference(extractor).read(), own.candidate(extractor).read(), seen)

    return of


def _candidate(
    path: Path, asked: Asked, folder: RunFolder, sides: Callable[[SetMetric, Tally], Sides], original: Suite
) -> Candidate:
    seen = tally(folder.read_rows(), asked.metrics.per_image())
    result = scores_of(asked, folder.read_rows, seen, items=original.items, sides=sides)
    rows = KeptRows(_shown(r, asked.metrics.wanted) for r in folder.read_rows())
    return Candidate(str(path), result.scores, rows)


def _shown(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The row with what was asked for only: inputs of other metrics, and readings of text, stay out."""
    out = {k: row[k] for k in ROW_KEYS if k in row}
    out["values"] = {n: v for n, v in row["values"].items() if n in names}
    out["why"] = {n: w for n, w in row["why"].items() if n in names or n == "*"}
    return out
