"""One batch of a generator: images from prompts, as pictures and lines; written nowhere."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vtbench.images.reading import rgb_sha256
from vtbench.images.rounding import to_uint8
from vtbench.models.devices import synchronize
from vtbench.models.load import Loaded
from vtbench.models.outputs import check_generated
from vtbench.types.adapter import Generator, Prompt
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.opened import Opened, noting


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to draw: the prompt, the sample's number, its seed."""

    prompt: Prompt
    number: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.prompt.id}/{self.number:05d}"

    @property
    def file(self) -> str:
        return f"images/{self.id}.png"


@dataclass(frozen=True)
class DrawnBatch:
    """`rows`: lines of samples.jsonl; `pictures`: PNG, by their place in the folder."""

    rows: list[dict[str, Any]]
    pictures: dict[str, bytes]


def drawn_batch(loaded: Loaded, batch: Sequence[Sample], device: str, *, warm_up: bool) -> DrawnBatch:
    """Draws a batch. warm_up: its times do not count."""
    generator = loaded.generator
    pixels, seconds = _drawn(generator, batch, device, loaded.system.opened)
    cost = {k: float(v) for k, v in generator.cost().items()}
    more = {"seconds": seconds, "cost": cost, **({"warm_up": True} if warm_up else {})}
    rows = [_row(sample, rgb) | more for sample, rgb in zip(batch, pixels, strict=True)]
    return DrawnBatch(rows, {sample.file: _png(rgb) for sample, rgb in zip(batch, pixels, strict=True)})


def _drawn(generator: Generator, batch: Sequence[Sample], device: str, opened: Opened | None) -> tuple[Any, float]:
    """(uint8 (B, H, W, 3), seconds an image); whatever a generator raises or may not return is a sentence. opened:
    notes what it reads."""
    name, prompts = generator.card.name, [s.prompt for s in batch]
    synchronize(device)
    start = time.perf_counter()
    try:
        with noting(opened):
            images = generator.generate(prompts, [s.seed for s in batch])
    except (VtbenchError, KeyboardInterrupt):
        raise
    except RAISED as bad:
        raise VtbenchError(f"{name} raised {type(bad).__name__} on the prompt {prompts[0].id}: {bad}", code=1) from bad
    synchronize(device)
    seconds = (time.perf_counter() - start) / len(batch)
    check_generated(images, name, prompts)
    rgb = to_uint8(images.detach().to("cpu").float()).permute(0, 2, 3, 1).contiguous().numpy()
    return rgb, seconds


def _png(rgb: Any) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(rgb).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _row(sample: Sample, rgb: Any) -> dict[str, Any]:
    """One line of samples.jsonl, without its costs."""
    prompt = sample.prompt
    row: dict[str, Any] = {
        "id": sample.id,
        "prompt": prompt.id,
        "sample": sample.number,
        "seed": sample.seed,
        "text": prompt.text,
        "label": prompt.label,
        "rewritten": prompt.rewritten,
        "file": sample.file,
        "sha256": rgb_sha256(rgb),
        "size": [int(rgb.shape[0]), int(rgb.shape[1])],
    }
    if not rgb.any():
        row["black"] = True
    if prompt.metadata:
        row["metadata"] = dict(prompt.metadata)
    return row
