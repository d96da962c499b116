"""One system's batches into its folder: candidates -> uint8 -> metrics -> rows, features, tokens and samples.

A `Measurer` makes a batch's `Outcome`, in whatever process; a `Writer` is one that appends it to the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_uint8
from vtbench.images.stream import PROFILES_DIFFER, Original
from vtbench.metrics._beside import Needs
from vtbench.models.devices import turn
from vtbench.models.system import ModelSystem, System
from vtbench.results.files import disk_error, read_json, write_json
from vtbench.results.folder import RunFolder
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.running.pipeline import Part, Work
from vtbench.running.row_parts import bits_of, png, read_of, seconds_of
from vtbench.scoring import measure
from vtbench.scoring.feature_cache import KeptFeatures
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Extractor, ReadFeatures, TokenMetric
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

SAMPLES = 6
"""Images of a run whose pictures are kept for the page."""


@dataclass(frozen=True)
class Keeping:
    """What a run keeps beside its rows: `save` of {"tokens", "images", "features"}; `samples` pictures for the page;
    `reference`: features of the originals too (False where another lane writes them, or where there are none)."""

    save: frozenset[str] = frozenset()
    samples: int = 0
    reference: bool = True


@dataclass
class Outcome:
    """What a batch became, as it is appended: one row and one blob of tokens an image (none where none are kept),
    `features` by network and side ("candidate", "reference") as float32 (B, dim), pictures as PNG by their place in the
    run's folder, and what samples.json says of the first few."""

    rows: list[dict[str, Any]]
    blobs: list[bytes] | None = None
    features: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Begun:
    """A batch whose measuring has begun: one Batch a part of it."""

    work: Work
    first: int
    batches: Sequence[Batch]


class Measurer:
    """Rows, features, tokens and pictures of a system's batches, written nowhere. `system`: for metrics that ask it
    again; `notes`: what else an image's row says; `known`: features of the originals by network, where the cache has
    them."""

    def __init__(
        self,
        metrics: Metrics,
        keeping: Keeping,
        *,
        device: str = "cpu",
        system: System | None = None,
        notes: Callable[[Item], Mapping[str, Any]] | None = None,
        known: Mapping[str, KeptFeatures] | None = None,
    ) -> None:
        self.keeping, self.system, self.notes, self.device = keeping, system, notes, device
        self.metrics = metrics.per_image()
        self.extractors, self.known = metrics.extractors(), dict(known or {})
        for extractor in self.extractors.values():
            extractor.load(device)
        wants_codes = any(isinstance(m, TokenMetric) for m in metrics.ready.values())
        discrete = system is not None and system.card.kind == "discrete"
        self.keeps_tokens = "tokens" in keeping.save or (wants_codes and discrete)

    def measured(self, work: Work, first: int) -> Outcome:
        """The batch's outcome. first: which of the run's images its first one is, counted from 0."""
        return self.finished(self.begun(work, first))

    def needs(self) -> Needs | None:
        """What processes beside this one take to measure for it; None if they would have nothing to do."""
        return measure.needs(self.metrics.values(), self.device)

    def begun(self, work: Work, first: int) -> Begun:
        """The batch with its pixels as metrics read them, and what processes beside this one can measure begun."""
        batches = [self._batch(part, first, work.beside) for part in work.parts]
        for batch in batches:
            measure.begin(self.metrics, batch)
        return Begun(work, first, batches)

    def finished(self, begun: Begun) -> Outcome:
        """The outcome of a batch that was begun; waits for what other processes measure."""
        work, first = begun.work, begun.first
        outcome = Outcome([measure.empty_row(o.item.id, o.why) for o in work.originals])
        rows = outcome.rows
        if self.keeps_tokens:
            outcome.blobs = [b""] * len(rows)
        for part, batch in zip(work.parts, begun.batches, strict=True):
            self._part(work, part, batch, outcome, first)
        macs = [p.output.macs for p in work.parts if p.output.macs is not None]
        if macs:
            rows[0]["seconds"]["macs"] = {"encode": macs[-1][0], "decode": macs[-1][1]}
        kinds = [p.output.kind for p in work.parts if p.output.kind is not None]
        if kinds and first == 0 and self.system is not None and not self.system.states_kind:
            # What an object of a training loop is shows in its tokens; kept with the rows, as a killed run goes on.
            rows[0]["kind"] = kinds[0]
        return outcome

    def _batch(self, part: Part, first: int, beside: Any) -> Batch:
        output = part.output
        bits = bits_of(output.tokens, len(part.positions))
        asked_again = self.system if isinstance(self.system, ModelSystem) else None
        return Batch(
            part.reference,
            self._pixels(part, first),
            output.tokens,
            bits,
            asked_again,
            part.seeds,
            output.no_pixels,
            output.reading,
            beside,
        )

    def _part(self, work: Work, part: Part, batch: Batch, outcome: Outcome, first: int) -> None:
        output, candidate, bits = part.output, batch.candidate, batch.bits
        with turn(self.device):
            there = measure.measure_all({n: m for n, m in self.metrics.items() if not m.on_cpu}, batch)
            ceiling = self._ceiling(part)
            for name, extractor in self.extractors.items():
                self._extract(name, extractor, part, candidate, outcome, first)
        here = measure.measure_all({n: m for n, m in self.metrics.items() if m.on_cpu}, batch)
        values = {name: (here if metric.on_cpu else there)[name] for name, metric in self.metrics.items()}
        lines = batch.kept.get("lines")
        packed = output.tokens.pack() if output.tokens is not None and self._packs(output.tokens) else None
        for k, position in enumerate(part.positions):
            row = outcome.rows[position]
            original = part.originals[k]
            self._facts(row, original, part, k)
            if k in output.failed:
                row["why"]["*"] = output.failed[k]
                continue
            row["bits"] = float(bits[k]) if bits is not None else None
            measure.put(row, values, k)
            if ceiling:
                row["resize_only"] = {n: float(v[k].value) for n, v in ceiling.items() if v[k].value is not None}
            if lines is not None and lines[k]:
                row["lines"] = lines[k]
            row["seconds"].update(seconds_of(output, len(part.positions), work.warm_up))
            if output.cost:
                row["cost"] = dict(output.cost)
            if packed is not None and outcome.blobs is not None:
                # A tiled image is several token blobs; only whole images are stored one blob a row.
                outcome.blobs[position] = packed[k] if len(packed) == len(part.positions) else b""
            if output.no_pixels is None:
                self._pictures(outcome, first + position, original, part.reference.images[k], candidate[k])

    def _pixels(self, part: Part, first: int) -> torch.Tensor:
        """The candidates as uint8; as they are where nobody looks at them: made for their bits and their time."""
        import torch

        looked_at = self.metrics or self.extractors or first < self.keeping.samples or "images" in self.keeping.save
        images = part.output.images
        if not looked_at:
            return images
        # As metrics read them; made here, beside the model, and only where somebody looks.
        part.reference.images = part.reference.images.contiguous()
        return (images if images.dtype == torch.uint8 else to_uint8(images)).contiguous()

    def _facts(self, row: dict[str, Any], original: Original, part: Part, index: int) -> None:
        """Size, sha256 and flags of the original, and what `notes` says of it."""
        height, width = part.reference.images.shape[2:]
        row["size"] = [int(height), int(width)]
        row["sha256"] = original.sha256
        # The flag of both sides together stands under its own name; a candidate's others under the candidate's.
        theirs = part.output.flags.get(index, {})
        beside = {n if n == PROFILES_DIFFER else f"candidate_{n}": v for n, v in theirs.items()}
        flags = {**original.flags, **beside, **{n: v for n, v in part.output.record.items() if v}}
        if flags:
            row["flags"] = flags
        if part.output.reading is not None:
            row["read"] = read_of(part.output.reading, index)
        for key, value in (self.notes(original.item) if self.notes is not None else {}).items():
            row[key] = {**row[key], **value} if isinstance(row.get(key), dict) else value

    def _packs(self, tokens: Tokens) -> bool:
        return self.keeps_tokens and (isinstance(tokens, Codes) or "tokens" in self.keeping.save)

    def _ceiling(self, part: Part) -> dict[str, Sequence[Any]]:
        """What the resizing alone costs, by the metrics of pixels: the ceiling of a model that got resized images."""
        if part.output.ceiling is None:
            return {}
        beside = Batch(part.reference, to_uint8(part.output.ceiling).contiguous())
        return {n: measure.measure(n, m, beside) for n, m in self.metrics.items() if not m.card.needs}

    def _extract(
        self, name: str, extractor: Extractor, part: Part, candidate: torch.Tensor, outcome: Outcome, first: int
    ) -> None:
        """The network's features of both sides; zeros stay for images that could not be read."""
        import numpy as np

        if isinstance(extractor, ReadFeatures):
            self._read(name, part, outcome, extractor.dim)
            return
        names = [o.item.id for o in part.originals]
        # Without pictures the candidates' records are zeros, and no metric reads them.
        pictures = part.output.no_pixels is None
        sides = {"candidate": measure.extract(extractor, candidate, names)} if pictures else {}
        if self.keeping.reference:
            kept = self.known.get(name)
            numbers = [first + position for position in part.positions]
            known = None if kept is None else kept.of(numbers, [o.sha256 for o in part.originals])
            images = part.reference.images
            sides["reference"] = measure.extract(extractor, images, names) if known is None else known
        of_network = outcome.features.setdefault(name, {})
        for side, features in sides.items():
            records = of_network.setdefault(side, np.zeros((len(outcome.rows), extractor.dim), np.float32))
            records[list(part.positions)] = features

    def _read(self, name: str, part: Part, outcome: Outcome, dim: int) -> None:
        """What the system itself pooled, whole and reduced; zeros where it says why there is nothing."""
        import numpy as np

        reading = part.output.reading
        of_network = outcome.features.setdefault(name, {})
        for side in ("candidate", "reference"):
            records = of_network.setdefault(side, np.zeros((len(outcome.rows), dim), np.float32))
            if reading is None:
                continue
            value = reading.features if side == "reference" else reading.reduced_features
            if value is not None:
                records[list(part.positions)] = value.float().cpu().numpy()

    def _pictures(
        self, outcome: Outcome, index: int, original: Original, reference: torch.Tensor, candidate: torch.Tensor
    ) -> None:
        """The image itself where images are kept, and the run's first few beside their originals for the page."""
        if "images" in self.keeping.save:
            outcome.pictures[f"images/{Path(original.item.id).with_suffix('.png').as_posix()}"] = png(candidate)
        if index >= self.keeping.samples:
            return
        names = {}
        for kind, image in (("reference", reference), ("candidate", candidate)):
            names[kind] = f"{index:02d}.{kind}.png"
            outcome.pictures[f"samples/{names[kind]}"] = png(image)
        outcome.samples.append({"item": original.item.id, **names})


class Writer(Measurer):
    """The sink of a run: what it measures goes to the end of the folder's files. begun: images that lie there."""

    def __init__(
        self,
        folder: RunFolder,
        metrics: Metrics,
        place: FeaturePlace,
        keeping: Keeping,
        *,
        device: str = "cpu",
        begun: int = 0,
        system: System | None = None,
        notes: Callable[[Item], Mapping[str, Any]] | None = None,
        known: Mapping[str, KeptFeatures] | None = None,
    ) -> None:
        super().__init__(metrics, keeping, device=device, system=system, notes=notes, known=known)
        self.folder, self.done, self._begun = folder, begun, begun
        self.files: dict[str, dict[str, FeatureFile]] = {}
        for name, extractor in self.extractors.items():
            reference = {"reference": place.reference(extractor)} if keeping.reference else {}
            self.files[name] = {"candidate": place.candidate(extractor), **reference}
            for file in self.files[name].values():
                file.keep(begun)
        self.tokens = TokenFile(folder.path)
        if self.keeps_tokens:
            self.tokens.keep(begun)

    def write(self, work: Work) -> None:
        """Measures the batch and appends it."""
        self.begin(work)()

    def begin(self, work: Work) -> Callable[[], None]:
        """Begins to measure the batch; what is returned finishes that and appends it."""
        begun = self.begun(work, self._begun)
        self._begun += len(work.originals)
        return lambda: self.append(self.finished(begun))

    def append(self, outcome: Outcome) -> None:
        """Appends a batch, whoever measured it: its rows in one write, after its pictures, features and tokens."""
        import numpy as np

        for place, picture in outcome.pictures.items():
            self._save(place, picture)
        if outcome.samples:
            path = self.folder.path / "samples" / "samples.json"
            known = read_json(path) if path.exists() else []
            anew = {sample["item"] for sample in outcome.samples}
            write_json(path, [*(k for k in known if k["item"] not in anew), *outcome.samples])
        for name, files in self.files.items():
            for side, file in files.items():
                records = outcome.features.get(name, {}).get(side)
                file.append(np.zeros((len(outcome.rows), file.dim), np.float32) if records is None else records)
        if outcome.blobs is not None:
            self.tokens.append(outcome.blobs)
        self.folder.append_rows(outcome.rows)
        self.done += len(outcome.rows)

    def _save(self, place: str, picture: bytes) -> None:
        target, within = self.folder.path / place, self.folder.path / place.partition("/")[0]
        if not target.resolve().is_relative_to(within.resolve()):
            raise VtbenchError(f"the item of {place!r} would be written outside the run's folder: rename it")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture)
        except OSError as bad:
            raise disk_error(bad, target) from bad
