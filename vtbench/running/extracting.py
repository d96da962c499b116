"""Features alone: a sink that keeps no rows, for the side of a comparison that is no run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_uint8
from vtbench.results.stores import FeatureFile
from vtbench.running.pipeline import Work
from vtbench.scoring.measure import extract
from vtbench.types.metric import Extractor

if TYPE_CHECKING:
    import numpy as np


class FeatureSink:
    """Features of a lane's output, one record an image that it made, in order. `bad`: {image: why it is missing};
    `black`: images that are all black."""

    def __init__(self, extractors: Mapping[str, Extractor], folder: Path, side: str) -> None:
        self.extractors = extractors
        self.files = {k: FeatureFile(folder / f"{n}.{side}.f32", e.dim) for n, (k, e) in enumerate(extractors.items())}
        self.bad: dict[str, str] = {}
        self.black: list[str] = []

    def write(self, work: Work) -> None:
        import torch

        self.bad.update({o.item.id: o.why for o in work.originals if o.why is not None})
        records: dict[str, dict[int, np.ndarray[Any, Any]]] = {key: {} for key in self.extractors}
        for part in work.parts:
            originals, output = part.originals, part.output
            good = [k for k in range(len(originals)) if k not in output.without_picture]
            self.bad.update({originals[k].item.id: why for k, why in output.without_picture.items()})
            if not good:
                continue
            images = output.images[good]
            pixels = images if images.dtype == torch.uint8 else to_uint8(images)
            names = [originals[k].item.id for k in good]
            lit = pixels.flatten(1).any(dim=1).tolist()
            self.black += [name for name, shows in zip(names, lit, strict=True) if not shows]
            for key, extractor in self.extractors.items():
                features = extract(extractor, pixels.contiguous(), names)
                records[key].update({part.positions[k]: f for k, f in zip(good, features, strict=True)})
        self._append(records)

    def _append(self, records: Mapping[str, Mapping[int, Any]]) -> None:
        import numpy as np

        for key, by_position in records.items():
            if by_position:
                self.files[key].append(np.stack([by_position[p] for p in sorted(by_position)]))

    def read(self, key: str) -> Any:
        """The features of the network `key`, float32 (n, dim)."""
        return self.files[key].read()
