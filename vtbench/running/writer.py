"""One system's batches into its folder: candidates -> uint8 -> metrics -> rows, features, tokens and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_uint8
from vtbench.images.stream import PROFILES_DIFFER, Original
from vtbench.models.devices import turn
from vtbench.models.outputs import Output
from vtbench.models.system import ModelSystem, System
from vtbench.results.files import disk_error, read_json, write_json
from vtbench.results.folder import RunFolder
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.running.pipeline import Part, Work
from vtbench.scoring import measure
from vtbench.scoring.feature_cache import KeptFeatures
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Extractor, TokenMetric
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
class _Features:
    """One network's files, and the records of the batch that is being written."""

    extractor: Extractor
    candidate: FeatureFile
    reference: FeatureFile | None
    known: KeptFeatures | None = None
    """What the cache has of the originals."""
    batch: dict[str, Any] = field(default_factory=dict)


class Writer:
    """The sink of a run. `system`: for metrics that ask it again; `notes`: what else an image's row says; `known`:
    features of the originals by network, where the cache has them."""

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
        self.folder, self.keeping, self.done = folder, keeping, begun
        self.system, self.notes, self.device = system, notes, device
        self.metrics = metrics.per_image()
        self.features: list[_Features] = []
        for name, extractor in metrics.extractors().items():
            extractor.load(device)
            reference = place.reference(extractor) if keeping.reference else None
            files = _Features(extractor, place.candidate(extractor), reference, (known or {}).get(name))
            for file in (files.candidate, files.reference):
                if file is not None:
                    file.keep(begun)
            self.features.append(files)
        wants_codes = any(isinstance(m, TokenMetric) for m in metrics.ready.values())
        discrete = system is not None and system.card.kind == "discrete"
        self.keeps_tokens = "tokens" in keeping.save or (wants_codes and discrete)
        self.tokens = TokenFile(folder.path)
        if self.keeps_tokens:
            self.tokens.keep(begun)

    def write(self, work: Work) -> None:
        """Appends the batch: its rows in one write, after its features and tokens."""
        rows = [measure.empty_row(o.item.id, o.why) for o in work.originals]
        blobs = [b""] * len(rows)
        for part in work.parts:
            self._part(work, part, rows, blobs)
        macs = [p.output.macs for p in work.parts if p.output.macs is not None]
        if macs:
            rows[0]["seconds"]["macs"] = {"encode": macs[-1][0], "decode": macs[-1][1]}
        kinds = [p.output.kind for p in work.parts if p.output.kind is not None]
        if kinds and self.done == 0 and self.system is not None and not self.system.states_kind:
            # What an object of a training loop is shows in its tokens; kept with the rows, as a killed run goes on.
            rows[0]["kind"] = kinds[0]
        for files in self.features:
            self._append_features(files, len(rows))
        if self.keeps_tokens:
            self.tokens.append(blobs)
        self.folder.append_rows(rows)
        self.done += len(rows)

    def _part(self, work: Work, part: Part, rows: list[dict[str, Any]], blobs: list[bytes]) -> None:
        output = part.output
        candidate = self._pixels(part)
        bits = bits_of(output.tokens, len(part.positions))
        asked_again = self.system if isinstance(self.system, ModelSystem) else None
        batch = Batch(part.reference, candidate, output.tokens, bits, asked_again, part.seeds, output.no_pixels)
        with turn(self.device):
            there = measure.measure_all({n: m for n, m in self.metrics.items() if not m.on_cpu}, batch)
            ceiling = self._ceiling(part)
            for files in self.features:
                self._extract(files, part, candidate, len(rows))
        here = measure.measure_all({n: m for n, m in self.metrics.items() if m.on_cpu}, batch)
        values = {name: (here if metric.on_cpu else there)[name] for name, metric in self.metrics.items()}
        lines = batch.kept.get("lines")
        packed = output.tokens.pack() if output.tokens is not None and self._packs(output.tokens) else None
        for k, position in enumerate(part.positions):
            row = rows[position]
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
            row["seconds"].update(_seconds(output, len(part.positions), work.warm_up))
            if output.cost:
                row["cost"] = dict(output.cost)
            if packed is not None:
                # A tiled image is several token blobs; only whole images are stored one blob a row.
                blobs[position] = packed[k] if len(packed) == len(part.positions) else b""
            if output.no_pixels is None:
                self._pictures(position, original, part.reference.images[k], candidate[k])

    def _pixels(self, part: Part) -> torch.Tensor:
        """The candidates as uint8; as they are where nobody looks at them: made for their bits and their time."""
        import torch

        looked_at = self.metrics or self.features or self.done < self.keeping.samples or "images" in self.keeping.save
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

    def _extract(self, files: _Features, part: Part, candidate: torch.Tensor, rows: int) -> None:
        import numpy as np

        names = [o.item.id for o in part.originals]
        # Without pictures the candidates' records are zeros, and no metric reads them.
        pictures = part.output.no_pixels is None
        sides = {"candidate": measure.extract(files.extractor, candidate, names)} if pictures else {}
        if files.reference is not None:
            known = None
            if files.known is not None:
                numbers = [self.done + position for position in part.positions]
                known = files.known.of(numbers, [o.sha256 for o in part.originals])
            images = part.reference.images
            sides["reference"] = measure.extract(files.extractor, images, names) if known is None else known
        for side, features in sides.items():
            records = files.batch.setdefault(side, np.zeros((rows, files.extractor.dim), np.float32))
            records[list(part.positions)] = features

    @staticmethod
    def _append_features(files: _Features, rows: int) -> None:
        """The batch's records; zeros for images that could not be read."""
        import numpy as np

        for side, file in (("candidate", files.candidate), ("reference", files.reference)):
            if file is not None:
                file.append(files.batch.get(side, np.zeros((rows, file.dim), np.float32)))
        files.batch.clear()

    def _pictures(self, position: int, original: Original, reference: torch.Tensor, candidate: torch.Tensor) -> None:
        """The image itself where images are kept, and the first few beside their originals for the page."""
        if "images" in self.keeping.save:
            images = self.folder.path / "images"
            target = images / Path(original.item.id).with_suffix(".png")
            if not target.resolve().is_relative_to(images.resolve()):
                raise VtbenchError(
                    f"the item {original.item.id!r} would be written outside the run's folder: rename it"
                )
            save_picture(candidate, target)
        index = self.done + position
        if index >= self.keeping.samples:
            return
        names = {}
        for kind, image in (("reference", reference), ("candidate", candidate)):
            names[kind] = f"{index:02d}.{kind}.png"
            save_picture(image, self.folder.path / "samples" / names[kind])
        path = self.folder.path / "samples" / "samples.json"
        known = read_json(path) if path.exists() else []
        others = [k for k in known if k["item"] != original.item.id]
        write_json(path, [*others, {"item": original.item.id, **names}])


def bits_of(tokens: Tokens | None, images: int) -> np.ndarray[Any, Any] | None:
    """Bits an image, float64 (B,); the tiles of one image add up. None where nothing is sent."""
    if tokens is None:
        return None
    bits: np.ndarray[Any, Any] = tokens.bits().reshape(images, -1).sum(axis=1)
    return bits


def _seconds(output: Output, images: int, warm_up: bool) -> dict[str, Any]:
    """An image's share of the batch's seconds; nothing for pictures that were made elsewhere."""
    if output.encode_seconds is None and output.decode_seconds is None:
        return {}
    out: dict[str, Any] = {
        "encode": None if output.encode_seconds is None else float(output.encode_seconds) / images,
        "decode": None if output.decode_seconds is None else float(output.decode_seconds) / images,
    }
    return {**out, "warm_up": True} if warm_up else out


def save_picture(image: torch.Tensor, target: Path) -> None:
    """uint8 (3, H, W) as PNG."""
    from PIL import Image

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A third of the time of the default level for a tenth more bytes: the model waits for these cores.
        Image.fromarray(image.cpu().permute(1, 2, 0).numpy()).save(target, compress_level=1)
    except OSError as bad:
        raise disk_error(bad, target) from bad
