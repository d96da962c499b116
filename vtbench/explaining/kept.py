"""What `explain` has measured of a view so far: a row an image and features, from which a command that was stopped goes
on. Its folder is named by all that decides them (`running.kept_work`), and goes when the command comes to its end.

A row: the item, the sha256 of the original's pixels, why the image was left out ("*") or the height and width scored,
and under `of`, by rounding, what every metric says of it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.explaining.systems import Explained
from vtbench.images.profiles import named
from vtbench.images.rounding import rounded
from vtbench.images.views import View
from vtbench.results import sources
from vtbench.results.files import plain
from vtbench.results.folder import FEATURES, RunFolder
from vtbench.results.stores import FeatureFile
from vtbench.running import kept_work, pipeline
from vtbench.running.tried_again import Again
from vtbench.scoring.loading import Metrics
from vtbench.scoring.measure import extract, measure, put
from vtbench.types.conditions import Rounding
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Extractor, ImageMetric, Reference, SetMetric
from vtbench.types.readable import readable
from vtbench.types.shortage import Short

OWN = ("vtbench.explaining.explain", "vtbench.explaining.runs")
"""What these import decides the rows as well."""
Wanted = Mapping[Rounding, set[str]]
"""Names of metrics by the rounding under which they are measured."""
Features = tuple[FeatureFile, FeatureFile]
"""Of originals and of candidates, float32 (n, dim) each, in one order; an image that was left out has none."""
Row = Mapping[str, Any]


class MetricFailed(VtbenchError):
    """A metric or its network raised: no fault of the system that is explained."""


def own_code() -> list[Path]:
    """Where the code of `explain` begins."""
    return [path for name in OWN if (path := sources.file_of(name)) is not None]


def facts_of(explained: Explained, items: Sequence[Item]) -> dict[str, Any] | None:
    """What decides the system's pictures of these items at any view, in plain values; None where nothing says what the
    system is. Reads the files that nobody has read yet."""
    identity = explained.identity(items)
    if identity is None:
        return None
    return {
        "explained": plain(identity),
        "suite": explained.suite.hash_of(items),
        "items": kept_work.of_items(items),
    }


class Folders:
    """The folders of one command, each held until it ends: `of` gives that of a place, or one that nobody finds again
    where there is no place or another command has it."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Path) -> None:
        self._stack, self._scratch, self._count = stack, scratch, 0

    @classmethod
    @contextlib.contextmanager
    def held(cls) -> Iterator[Folders]:
        """Folders that are removed when this ends, and stay where it is stopped or raises."""
        with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch, contextlib.ExitStack() as stack:
            yield cls(stack, Path(scratch))

    def of(self, place: Path | None) -> RunFolder:
        self._count += 1
        held = kept_work.held(place, ["rows"], self._scratch / str(self._count))
        (folder,) = self._stack.enter_context(held)
        return folder


@dataclass(frozen=True)
class Asked:
    """What is measured at one view: these metrics by rounding, of the system's pictures of `items`."""

    explained: Explained
    items: Sequence[Item]
    metrics: Metrics
    view: View
    wanted: Wanted
    batch: int
    seed: int
    device: str

    def place(self, facts: Mapping[str, Any] | None) -> Path | None:
        """Where the rows lie. facts: `facts_of` the system and the items; None where nothing says what it is."""
        if facts is None:
            return None
        names = sorted(set().union(*self.wanted.values()))
        decisive = {
            **facts,
            "view": [self.view.protocol, self.view.name, self.view.fingerprint()],
            "wanted": {rounding: sorted(of) for rounding, of in self.wanted.items()},
            "batch": self.batch,
            "seed": self.seed,
        }
        begins = [*self.explained.loaded.sources, *own_code()]
        return kept_work.place_of(decisive, self.metrics.only(names), self.device, begins)

    def again(self) -> Again:
        """The system, to be asked for pictures that it did not give before."""
        of = self.explained
        return Again(of.name, of.system, of.suite, self.view, self.items, self.batch, self.seed, self.device)

    def networks(self, rounding: Rounding) -> dict[str, Extractor]:
        """The feature networks of the metrics under a rounding, by id, in order."""
        metrics = (self.metrics.ready[name] for name in sorted(self.wanted[rounding]))
        return {e.id: e for metric in metrics if isinstance(metric, SetMetric) for e in [metric.extractor()]}


class Sink:
    """Takes the system's output at one view, measures it under every rounding that is asked for, and appends a row an
    image to the folder; `take` is given the place of each image and its row, those of an earlier try first."""

    def __init__(self, folder: RunFolder, asked: Asked, take: Callable[[int, Row], None]) -> None:
        self.folder, self.asked, self.take = folder, asked, take
        self.features: dict[tuple[Rounding, str], Features] = {}
        for rounding in sorted(asked.wanted):
            for number, (ident, extractor) in enumerate(asked.networks(rounding).items()):
                path = folder.path / FEATURES / f"{rounding}.{number}.f32"
                both = FeatureFile(path.with_suffix(".reference.f32"), extractor.dim), FeatureFile(path, extractor.dim)
                self.features[rounding, ident] = both
        self._opened, self._late = 0, False

    def begin(self) -> int:
        """How many images an earlier try has finished; cuts the folder to these, and hands on their rows."""
        begun = self._begun()
        if begun is None:
            self.folder.clear()
            begun = 0
        good = 0
        for place, row in enumerate(self.folder.read_rows()):
            good += "size" in row
            self.take(place, row)
        for both in self.features.values():
            for file in both:
                file.keep(good)
        self.done = begun
        return begun

    def _begun(self) -> int | None:
        """How many of the folder's rows hold by now, in whole batches; None where it is not as it was written."""
        folder, batch, items = self.folder, self.asked.batch, self.asked.items
        begun, good, read, left_out = folder.keep_rows(batch), 0, None, False
        try:
            for place, row in enumerate(folder.read_rows()):
                if place >= len(items) or row.get("item") != readable(items[place].id):
                    return None
                good += "size" in row
                left_out = left_out or "*" in row["why"]
                if read is None and row.get("read_at_work"):
                    read = place
        except Short:
            raise
        except VtbenchError:
            return None
        if any(file.trouble(good) for both in self.features.values() for file in both):
            return None
        # From there on the model had read files that no name of a place speaks of, and that may be others by now.
        begun = folder.keep_rows(batch, read) if read is not None else begun
        changed = self.asked.again().first_changed(folder.read_rows) if left_out else None
        return begun if changed is None else folder.keep_rows(batch, changed)

    def write(self, work: pipeline.Work) -> None:
        rows: list[dict[str, Any]] = [{"item": o.item.id, "why": {}} for o in work.originals]
        for row, original in zip(rows, work.originals, strict=True):
            if original.why is not None:
                row["why"]["*"] = original.why
        for part in work.parts:
            self._part(part, rows)
        if self._reads_at_work():
            for row in rows:
                row["read_at_work"] = True
        # As they will be read again, to the last letter.
        rows = plain(rows)
        self.folder.append_rows(rows)
        for place, row in enumerate(rows, self.done):
            self.take(place, row)
        self.done += len(rows)

    def _reads_at_work(self) -> bool:
        """Whether the model has opened files by now that nothing in its identity speaks of."""
        loaded = self.asked.explained.loaded
        opened = self.asked.explained.system.opened
        if not self._late and opened is not None and len(opened.paths) > self._opened:
            self._opened = len(opened.paths)
            self._late = bool(loaded.read_at_work())
        return self._late

    def _part(self, part: pipeline.Part, rows: Sequence[dict[str, Any]]) -> None:
        failed = part.output.without_picture
        for k, position in enumerate(part.positions):
            row, original = rows[position], part.originals[k]
            row["sha256"] = original.sha256
            both = [named(original.profile), str(part.output.flags.get(k, {}).get("profile", named(None)))]
            if both != [named(None)] * 2:
                row["profiles"] = both
            if k in failed:
                row["why"]["*"] = failed[k]
        alive = [k for k in range(len(part.originals)) if k not in failed]
        if not alive:
            return
        items = [part.originals[k].item for k in alive]
        images = part.reference.images[alive]
        scored = [rows[part.positions[k]] for k in alive]
        for row in scored:
            row["size"], row["of"] = [int(images.shape[2]), int(images.shape[3])], {}
        for rounding, names in self.asked.wanted.items():
            reference, candidate = rounded(images, part.output.images[alive], rounding)
            # Metrics keep what they computed on an original by its hash: a rounding of its own is another picture.
            hashes = [f"{part.originals[k].sha256}/{rounding}" for k in alive]
            batch = Batch(Reference(reference.contiguous(), items, hashes), candidate.contiguous())
            try:
                self._features(rounding, batch)
                self._values(rounding, names, batch, scored)
            except Short:
                raise
            except VtbenchError as bad:
                raise MetricFailed(str(bad), code=bad.code) from bad

    def _features(self, rounding: Rounding, batch: Batch) -> None:
        items = [item.id for item in batch.reference.items]
        for ident, extractor in self.asked.networks(rounding).items():
            sides = (batch.reference.images, batch.candidate)
            for file, images in zip(self.features[rounding, ident], sides, strict=True):
                file.append(extract(extractor, images, items))

    def _values(self, rounding: Rounding, names: set[str], batch: Batch, scored: Sequence[dict[str, Any]]) -> None:
        metrics = {name: self.asked.metrics.ready[name] for name in sorted(names)}
        values = {name: measure(name, m, batch) for name, m in metrics.items() if isinstance(m, ImageMetric)}
        for k, row in enumerate(scored):
            row["of"][rounding] = {"values": {}, "why": {}}
            put(row["of"][rounding], values, k)
