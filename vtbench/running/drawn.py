"""Drawn images scored: a suite of pictures without originals, against a reference suite as a set."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images import stream
from vtbench.images.sets import set_of_suite
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.system import ModelSystem
from vtbench.results.drawings import SampleRecord
from vtbench.results.files import plain
from vtbench.results.folder import RunFolder
from vtbench.results.record import RunInfo, Score
from vtbench.running import kept_work, pipeline
from vtbench.running.draw import Drawing
from vtbench.running.folders import counting
from vtbench.running.job import Job
from vtbench.running.kept_sets import measured, of_good
from vtbench.running.request import Progress
from vtbench.running.writer import Keeping, Writer
from vtbench.scoring.costs import Costs, cost_scores
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.fingerprint import fingerprint
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.measure import finish, not_finite
from vtbench.scoring.remarks import bad_references, marked, remarks
from vtbench.scoring.scores import Asked, Sides, Tally, scores_of, tally, too_few
from vtbench.types.anew import Anew, From
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Extractor, SetMetric, SetValue

NO_ORIGINALS = "this metric compares an image with its original, and drawn images have none"
NO_TOKENIZER = "the generator's tokenizer is not one of vtbench's, so its own reconstruction is not known"
SET_BATCH = 32
"""Images at a time where no model is asked."""
SHARE = "tokenizer-rfid"
GAP = "gfid-gap"


class _Items(Anew[Item]):
    """An item a line of the drawing, with its prompt."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing

    def __len__(self) -> int:
        return len(self.drawing.rows)

    def at(self, index: int) -> Item:
        return self._of(self.drawing.rows[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._of, self.drawing.rows)

    def _of(self, row: SampleRecord) -> Item:
        return Item(row.id, str(self.drawing.path / row.file), meta=row.meta())


class Drawn:
    """The drawn images as a suite, each with its prompt, and what its line says of it."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.items = _Items(drawing)
        self._lines = iter(drawing.rows)
        self.suite = Suite("generated", self.items, "")
        # Its record may come from anywhere: what a line or a link names elsewhere is no image of it.
        self.suite.within = drawing.path

    def notes(self, item: Item) -> dict[str, Any]:
        """What an image's row says beside its values: how it was drawn, and what that cost."""
        row = self._line(item.id)
        seconds = {"generate": row.seconds, **({"warm_up": True} if row.warm_up else {})}
        flags = {name: True for name, holds in (("black", row.black), ("rewritten", row.rewritten)) if holds}
        drawn = {"seed": row.seed, "label": row.label, "cost": row.cost, "prompt": row.text, "seconds": seconds}
        return {**drawn, "flags": flags} if flags else drawn

    def _line(self, name: str) -> SampleRecord:
        """The line of an image. They are asked for in their order, so that none need be remembered: it is looked for
        from the one before on, and once more from the first."""
        for _ in range(2):
            for row in self._lines:
                if row.id == name:
                    return row
            self._lines = iter(self.drawing.rows)
        raise KeyError(name)

    def batches(self, size: int, begun: int = 0) -> Iterator[pipeline.Batch]:
        """The images from `begun` on as they were drawn; one that changed since is refused by name."""
        rows = itertools.islice(self.drawing.rows, begun, None)
        for originals in stream.originals(self.suite, View.parse("native", "native"), From(self.items, begun), size):
            for original, row in zip(originals, rows, strict=False):
                if original.why is not None or original.sha256 != row.sha256:
                    raise VtbenchError(
                        f"{original.item.place} is not the image that was drawn ({original.why or 'sha256 differs'}): "
                        "delete it and run again, it is then made anew"
                    )
            yield [(original,) for original in originals]


def load_for_drawn(names: Sequence[str], device: str) -> Metrics:
    """The metrics that can be had of drawn images: what compares an image with its original has none to look at."""
    metrics = load_metrics(names, device)
    return metrics.without({n: NO_ORIGINALS for n, m in metrics.per_image().items() if m.card.paired})


def score_drawn(
    job: Job, drawn: Drawn, metrics: Metrics, folder: RunFolder, info: RunInfo, tell: Progress
) -> list[Score]:
    """Rows of every drawn image into `folder`, and all scores: the metrics', the tokenizer's share, the costs. What an
    earlier try has finished stays."""
    asked = Asked(
        job.task.name, metrics, job.view.protocol, job.view.fingerprint(), reference=f"the set {job.suite.hash}"
    )
    place, total = FeaturePlace(folder.path), len(drawn.items)
    tick = counting(lambda done, n: tell(job.name, job.task.name, done, n), total)
    begun = _begun(drawn, metrics, folder, place)
    tick(begun)
    keeping = Keeping(reference=False)
    writer = Writer(folder, metrics, place, keeping, device=job.device, begun=begun, notes=drawn.notes)
    lane, rest = pipeline.Lane(job.name, None, writer, side=0), drawn.batches(SET_BATCH, begun)
    pipeline.run([lane], rest, pipeline.Pace(SET_BATCH, 0), device=job.device, tick=tick)
    seen = tally(folder.read_rows(), metrics.per_image(), times=("generate",))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch, contextlib.ExitStack() as stack:
        reference = _References(job, metrics, Path(scratch), stack)
        result = scores_of(
            asked,
            folder.read_rows,
            seen,
            items=drawn.items,
            sides=lambda metric, _: reference.sides(metric, place),
        )
        labels = [row.label for row in drawn.drawing.rows if row.label is not None]
        unread = bad_references(reference.bad)
        warnings = [*unread, *remarks(total, labels, drawn.drawing.black)]
        sets = metrics.of_sets()
        scores = [marked(s, warnings) if s.metric in sets else s for s in result.scores]
        if "fid" in metrics.wanted:
            # The tokenizer's share is one of FID.
            scores += [marked(s, unread) for s in _share(asked, reference, scores, total)]
    return [*scores, *cost_scores(job.task.name, costs_of_drawn(info, seen))]


def _begun(drawn: Drawn, metrics: Metrics, folder: RunFolder, place: FeaturePlace) -> int:
    """How many images an earlier try has scored, of those that were not drawn anew since; cuts the folder to these."""
    begun = folder.keep_rows(SET_BATCH)
    files = map(place.candidate, metrics.extractors().values())
    if begun > len(drawn.items) or any(file.trouble(begun) for file in files):
        folder.clear()
        return 0
    rows = zip(drawn.items, drawn.drawing.rows, itertools.islice(folder.read_rows(), begun), strict=False)
    of_others = (k for k, (item, image, row) in enumerate(rows) if not _is_of(row, drawn.notes(item), item, image))
    return folder.keep_rows(SET_BATCH, next(of_others, begun))


def _is_of(row: Mapping[str, Any], notes: Mapping[str, Any], item: Item, image: SampleRecord) -> bool:
    """Whether the row is of this image, drawn at this time."""
    same = row.get("item") == item.id and row.get("sha256") == image.sha256
    return same and all(row.get(name) == plain(notes[name]) for name in ("seed", "label", "cost", "prompt", "seconds"))


class _References:
    """Features of the reference suite, and of the tokenizer's own reconstruction of it."""

    def __init__(self, job: Job, metrics: Metrics, scratch: Path, stack: contextlib.ExitStack) -> None:
        self.job, self.metrics, self.scratch, self.stack = job, metrics, scratch, stack
        self.bad: Mapping[str, str] = {}
        self.read: Callable[[Extractor], Any] = lambda extractor: None
        extractors = metrics.extractors()
        for extractor in extractors.values():
            extractor.load(job.device)
        if extractors:
            self.read, self.bad = self._through("reference", [*metrics.of_sets()], SET_BATCH)

    def _through(
        self, side: str, names: Sequence[str], batch: int, system: ModelSystem | None = None
    ) -> tuple[Callable[[Extractor], Any], Mapping[str, str]]:
        """What reads the features of the suite's images, and those that have none: by name, why."""
        job, metrics = self.job, self.metrics.only(names)
        images = set_of_suite(job.suite, job.suite.items, job.view)
        place = kept_work.place_of({"run": job.id, "side": side, "batch": batch}, metrics, job.device)
        opened = job.loaded.system.opened
        if opened is not None and opened.paths:
            # A model that read files at work may read others by now.
            place = None
        (folder,) = self.stack.enter_context(kept_work.held(place, [side], self.scratch / side))
        seen, features = measured(
            images,
            metrics,
            folder,
            job.device,
            lambda _: None,
            system=system,
            batch=batch,
            seed=job.seed,
        )
        return lambda extractor: of_good(features, extractor, seen), images.bad

    def sides(self, metric: SetMetric, place: FeaturePlace) -> Sides:
        extractor = metric.extractor()
        return Sides(self.read(extractor), place.candidate(extractor).read())

    def tokenizer_fid(self) -> SetValue:
        """The distance of the tokenizer's reconstructions from the reference suite itself."""
        tokenizer = self.job.loaded.tokenizer
        if "fid" in self.metrics.unavailable:
            return SetValue(None, why=self.metrics.unavailable["fid"])
        if tokenizer is None:
            return SetValue(None, why=NO_TOKENIZER)
        metric = self.metrics.of_sets()["fid"]
        reference = self.read(metric.extractor())
        few = too_few(reference)
        if few is not None:
            return SetValue(None, why=few)
        system = ModelSystem(tokenizer, "resize")
        reconstructed, _ = self._through("reconstructed", ["fid"], self.job.batch_size, system)
        candidate = reconstructed(metric.extractor())
        why = not_finite(SHARE, originals=reference, candidates=candidate)
        return SetValue(None, why=why) if why else finish(SHARE, lambda: metric.finish(reference, candidate))


def _share(asked: Asked, reference: _References, scores: Sequence[Score], n: int) -> list[Score]:
    """What the tokenizer alone loses on the reference set, and what the generator adds."""
    own = reference.tokenizer_fid()
    fid = next((s for s in scores if s.metric == "fid"), None)

    def of(name: str, value: float | None, count: int, **more: Any) -> Score:
        return Score(
            task=asked.task,
            metric=name,
            value=value,
            n=count if value is not None else 0,
            missing=0 if value is not None else n,
            better="lower",
            protocol=asked.protocol,
            fingerprint=fingerprint(asked.view, name, 1, reference=asked.reference),
            **more,
        )

    if own.value is None:
        return [of(name, None, 0, why=own.why or "not measured") for name in (SHARE, GAP)]
    gap = None if fid is None or fid.value is None else fid.value - own.value
    uneven = "the two distances are of sets of different size, and each is biased by its own"
    what = "Fréchet distance of the tokenizer's reconstructions of the reference"
    return [
        of(SHARE, own.value, own.n or 0, low=own.low, high=own.high, warning=own.warning, details={"what": what}),
        of(
            GAP,
            gap,
            n,
            why=None if gap is not None else "fid has no value",
            warning=uneven if gap is not None and own.n != n else None,
        ),
    ]


def costs_of_drawn(info: RunInfo, seen: Tally) -> Costs:
    """Time to image, network evaluations and whatever else the generator counts, memory, parameters."""
    return Costs(
        seen.n,
        info.batch_size,
        {"image": seen.times["generate"]},
        counts={"nfe": [], **seen.counts},
        memory=info.peak_memory_bytes,
        memory_what=info.peak_memory_what or "",
        parameters=info.model.parameters,
        counts_macs=False,
    )
