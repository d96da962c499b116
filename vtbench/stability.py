"""Stability of a tokenizer: drift over repeated encoding, and tokens that change when the picture hardly does.

Drift: the output, rounded once to uint8 as an editor would save it, goes in again; PSNR against the original after 1,
2 and 5 cycles, and the share of tokens that the next cycle changes (0 for a tokenizer that returns to its own codes).
Sensitivity: the share of tokens that differ after a shift by one pixel, JPEG at quality 90, or noise of 2 grey levels.
A person sees no difference; a generator trained on the tokens learns one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vtbench.types.metric import Value

if TYPE_CHECKING:
    import torch

    from vtbench.models.system import System as Subject
    from vtbench.types.item import Item
    from vtbench.types.tokens import Tokens

CYCLES = (1, 2, 5)
JPEG_QUALITY = 90
NOISE = 2.0
"""Standard deviation of the noise in grey levels of 255."""
NO_TOKENS = "this system sends no tokens to compare"
SHORT = "the two token sequences have different lengths"


def shifted(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) moved right by one pixel, the first column repeated."""
    import torch

    return torch.cat([images[..., :1], images[..., :-1]], dim=-1)


def jpeg(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) after JPEG at quality 90 (Pillow, 4:2:0)."""
    import torch
    from PIL import Image

    out = []
    for image in images.permute(0, 2, 3, 1).cpu().numpy():
        held = io.BytesIO()
        Image.fromarray(image).save(held, format="JPEG", quality=JPEG_QUALITY, subsampling=2)
        out.append(torch.from_numpy(np.array(Image.open(held))).permute(2, 0, 1))
    return torch.stack(out)


def noisy(images: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """uint8 (B, 3, H, W) plus normal noise of two grey levels, rounded; one seed an image."""
    import torch

    out = []
    for image, seed in zip(images.cpu().numpy(), seeds, strict=True):
        noise = np.random.default_rng(seed).normal(0, NOISE, image.shape)
        out.append(torch.from_numpy(np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)))
    return torch.stack(out)


def changed(before: Tokens | None, after: Tokens | None) -> Value:
    """How much one image's tokens changed: the share of indices that differ, for latents |b - a| / |a|.

    Both are batches of one. An index that is absent in one of the two counts as changed.
    """
    from vtbench.types.tokens import Codes, Latents

    if isinstance(before, Codes) and isinstance(after, Codes):
        if before.indices.shape != after.indices.shape:
            return Value(None, why=SHORT)
        either = before.present | after.present
        if not bool(either.any()):
            return Value(None, why="the image has no tokens")
        return Value(float((before.indices != after.indices)[either].double().mean()))
    if isinstance(before, Latents) and isinstance(after, Latents):
        if before.values.shape != after.values.shape:
            return Value(None, why=SHORT)
        a, b = before.values.double(), after.values.double()
        size = float(a.norm())
        return Value(float((b - a).norm()) / size) if size > 0 else Value(None, why="the latents are all zero")
    return Value(None, why=NO_TOKENS)


@dataclass
class Stability:
    """Per-image values by name, in the order of the images: `drift-psnr-N` in dB, `drift-tokens-N`, `shift-tokens`,
    `jpeg90-tokens`, `noise2-tokens` as shares (relative changes for latents)."""

    values: dict[str, list[Value]] = field(default_factory=dict)

    def extend(self, other: Stability) -> Stability:
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)
        return self


def measure(
    subject: Subject,
    originals: torch.Tensor,
    seeds: Sequence[int],
    items: Sequence[Item] = (),
    *,
    cycles: Sequence[int] = CYCLES,
) -> Stability:
    """Drift and sensitivity of one batch: originals uint8 RGB (B, 3, H, W), one seed an image.

    `cycles` are the numbers of encode-decode cycles after which PSNR is read. Costs max(cycles) + 3 passes.
    """
    from vtbench.images.rounding import to_float, to_uint8

    count = len(originals)
    made = subject.produce(to_float(originals), list(seeds), list(items))
    first, failed = made.tokens, dict(made.failed)
    out = Stability()

    def put(name: str, values: Sequence[Value]) -> None:
        out.values[name] = [Value(None, why=failed[i]) if i in failed else v for i, v in enumerate(values)]

    picture, tokens = to_uint8(made.images), first
    for cycle in range(1, max(cycles) + 1):
        if cycle > 1:
            made = subject.produce(to_float(picture), list(seeds), list(items))
            failed |= dict(made.failed)
            if cycle in cycles:
                put(f"drift-tokens-{cycle}", _shares(tokens, made.tokens, count))
            picture, tokens = to_uint8(made.images), made.tokens
        if cycle in cycles:
            put(f"drift-psnr-{cycle}", [_psnr(a, b) for a, b in zip(originals, picture, strict=True)])
    disturbances: dict[str, Callable[[], torch.Tensor]] = {
        "shift-tokens": lambda: shifted(originals),
        "jpeg90-tokens": lambda: jpeg(originals),
        "noise2-tokens": lambda: noisy(originals, seeds),
    }
    for name, disturb in disturbances.items():
        made = subject.produce(to_float(disturb()), list(seeds), list(items))
        failed |= dict(made.failed)
        put(name, _shares(first, made.tokens, count))
    return out


def _shares(before: Tokens | None, after: Tokens | None, count: int) -> list[Value]:
    if before is None or after is None or len(before) != count or len(after) != count:
        # Tiles make several token sets an image; they have no common positions to compare here.
        return [Value(None, why=NO_TOKENS)] * count
    return [changed(before[i], after[i]) for i in range(count)]


def _psnr(a: Any, b: Any) -> Value:
    error = float((a.double() - b.double()).square().mean())
    if error == 0:
        return Value(None, why="lossless (identical pixels)")
    return Value(10 * math.log10(255**2 / error))
