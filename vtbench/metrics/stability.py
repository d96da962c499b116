"""Stability of a tokenizer: drift over repeated encoding, and tokens that change when the picture hardly does.

Drift: the output, rounded once to uint8 as an editor would save it, goes in again; PSNR against the original after 1,
2 and 5 cycles, and the share of tokens that the next cycle changes (0 for a tokenizer that returns to its own codes).
Sensitivity: the share of tokens that differ after a shift by one pixel, JPEG at quality 90, or noise of 2 grey levels.
A person sees no difference; a generator trained on the tokens learns one.

These read the model itself, not only its pictures, so they need a run of `evaluate`; the task is off by default, since
it costs eight more passes.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vtbench.images.rounding import to_float, to_uint8
from vtbench.metrics.psnr import LOSSLESS
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value
from vtbench.types.tokens import Codes, Latents

if TYPE_CHECKING:
    import torch

    from vtbench.models.system import System
    from vtbench.types.item import Item
    from vtbench.types.tokens import Tokens

CYCLES = (1, 2, 5)
JPEG_QUALITY = 90
NOISE = 2.0
"""Standard deviation of the noise in grey levels of 255."""
SOURCE = "re-encoding of the decoded picture and of changed originals by the same model and seeds"
NO_MODEL = "pictures made elsewhere cannot be encoded again"
NO_TOKENS = "this system sends no tokens to compare"
OTHER_LENGTH = "the two token sequences have different lengths"


def shifted(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) moved right by one pixel, the first column repeated."""
    import torch

    return torch.cat([images[..., :1], images[..., :-1]], dim=-1)


def jpeg(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) after JPEG at quality 90 (Pillow, 4:2:0)."""
    import numpy as np
    import torch
    from PIL import Image

    out = []
    for image in images.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=2)
        out.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(out)


def noisy(images: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """uint8 (B, 3, H, W) plus normal noise of two grey levels, rounded; one seed an image."""
    import numpy as np
    import torch

    out = []
    for image, seed in zip(images.cpu().numpy(), seeds, strict=True):
        noise = np.random.default_rng(seed).normal(0, NOISE, image.shape)
        out.append(torch.from_numpy(np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)))
    return torch.stack(out)


def changed(before: Tokens | None, after: Tokens | None) -> Value:
    """How much one image's tokens changed: the share of indices that differ, for latents |b - a| / |a|.

    Both are batches of one, in which no index is absent; codes of other lengths have no common positions.
    """
    if isinstance(before, Codes) and isinstance(after, Codes):
        if before.indices.shape != after.indices.shape:
            return Value(None, why=OTHER_LENGTH)
        if not before.indices.numel():
            return Value(None, why="the image has no tokens")
        return Value(float((before.indices != after.indices).double().mean()))
    if isinstance(before, Latents) and isinstance(after, Latents):
        if before.values.shape != after.values.shape:
            return Value(None, why=OTHER_LENGTH)
        a, b = before.values.double(), after.values.double()
        size = float(a.norm())
        return Value(float((b - a).norm()) / size) if size > 0 else Value(None, why="the latents are all zero")
    return Value(None, why=NO_TOKENS)


@dataclass
class Stability:
    """Per-image values by name, in the order of the images: `drift-psnr-N` in dB, `drift-tokens-N`, `shift-tokens`,
    `jpeg90-tokens`, `noise2-tokens` as shares (relative changes for latents)."""

    values: dict[str, list[Value]] = field(default_factory=dict)


@dataclass
class _Cycles:
    """A model that gets a batch again and again; `failed` holds {image of the batch: why} of all cycles until now,
    `pictures` says whether it gives any."""

    model: System
    seeds: Sequence[int]
    items: Sequence[Item]
    failed: dict[int, str] = field(default_factory=dict)
    pictures: bool = True

    def encode_and_decode(self, images: torch.Tensor) -> tuple[Tokens | None, torch.Tensor]:
        """uint8 (B, 3, H, W) -> (tokens, the decoded pictures as uint8)."""
        output = self.model.produce(to_float(images), list(self.seeds), list(self.items))
        self.failed |= dict(output.failed)
        self.pictures = output.no_pixels is None
        return output.tokens, to_uint8(output.images)

    def without_failed(self, values: Sequence[Value]) -> list[Value]:
        return [Value(None, why=self.failed[i]) if i in self.failed else value for i, value in enumerate(values)]


def measure_stability(
    model: System,
    originals: torch.Tensor,
    seeds: Sequence[int],
    items: Sequence[Item] = (),
    *,
    cycles: Sequence[int] = CYCLES,
) -> Stability:
    """Drift and sensitivity of one batch: originals uint8 RGB (B, 3, H, W), one seed an image.

    `cycles` are the numbers of encode-decode cycles after which PSNR is read. Costs max(cycles) + 3 passes.
    """
    count = len(originals)
    passes = _Cycles(model, seeds, items)
    values: dict[str, list[Value]] = {}
    first, picture = passes.encode_and_decode(originals)
    tokens = first
    for cycle in range(1, max(cycles) + 1 if passes.pictures else 1):
        if cycle > 1:
            before = tokens
            tokens, picture = passes.encode_and_decode(picture)
            if cycle in cycles:
                values[f"drift-tokens-{cycle}"] = passes.without_failed(_changed(before, tokens, count))
        if cycle in cycles:
            psnr = [_psnr(a, b) for a, b in zip(originals, picture, strict=True)]
            values[f"drift-psnr-{cycle}"] = passes.without_failed(psnr)
    disturbances: dict[str, Callable[[], torch.Tensor]] = {
        "shift-tokens": lambda: shifted(originals),
        "jpeg90-tokens": lambda: jpeg(originals),
        "noise2-tokens": lambda: noisy(originals, seeds),
    }
    for name, disturb in disturbances.items():
        tokens, _ = passes.encode_and_decode(disturb())
        values[name] = passes.without_failed(_changed(first, tokens, count))
    return Stability(values)


def _changed(before: Tokens | None, after: Tokens | None, count: int) -> list[Value]:
    """How much the tokens of every image of a batch changed."""
    if before is None or after is None or len(before) != count or len(after) != count:
        # Tiles make several token sets an image; they have no common positions to compare here.
        return [Value(None, why=NO_TOKENS)] * count
    return [changed(before[i], after[i]) for i in range(count)]


def _psnr(a: Any, b: Any) -> Value:
    error = float((a.double() - b.double()).square().mean())
    if error == 0:
        return Value(None, why=LOSSLESS)
    return Value(10 * math.log10(255**2 / error))


class Stable(ImageMetric):
    """One of the numbers of `measure_stability`, all of which are computed once a batch."""

    def __init__(self, card: MetricCard, *, drifts: bool) -> None:
        """drifts: it is of pictures that come back and go in again; without pixels only the others are had."""
        self.card, self.reads_candidate = card, drifts

    def measure(self, batch: Batch) -> Sequence[Value]:
        if batch.subject is None:
            return [Value(None, why=NO_MODEL)] * len(batch)
        stability: Stability = batch.once(
            "stability",
            # On the processor, where JPEG and noise are made; the model fetches what it is asked about.
            lambda: measure_stability(batch.subject, batch.reference.images.cpu(), batch.seeds, batch.reference.items),
        )
        return stability.values[self.card.name]


def _stable(
    name: str,
    title: str,
    unit: str,
    better: Literal["higher", "lower"],
    bounds: tuple[float | None, float | None],
    *,
    drifts: bool,
) -> Stable:
    card = MetricCard(name=name, title=title, version=1, unit=unit, better=better, source=SOURCE, bounds=bounds)
    return Stable(card, drifts=drifts)


def _drift(cycles: int) -> Callable[[], Stable]:
    title = f"PSNR after {cycles} encode-decode cycles"
    return functools.partial(_stable, f"drift-psnr-{cycles}", title, "dB", "higher", (None, None), drifts=True)


def _share(name: str, title: str, *, drifts: bool = False) -> Callable[[], Stable]:
    return functools.partial(_stable, name, title, "share", "lower", (0.0, None), drifts=drifts)


METRICS = (
    *(_drift(n) for n in CYCLES),
    *(
        _share(f"drift-tokens-{n}", f"Tokens changed after {n} encode-decode cycles", drifts=True)
        for n in CYCLES
        if n > 1
    ),
    _share("shift-tokens", "Tokens changed by a shift of one pixel"),
    _share("jpeg90-tokens", "Tokens changed by JPEG at quality 90"),
    _share("noise2-tokens", "Tokens changed by noise of 2 grey levels"),
)
