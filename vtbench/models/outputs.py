"""What a system gives for a batch, and what it may not give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsFloat

from vtbench.images.rounding import extremes
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Kind
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Reading
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens, counted

if TYPE_CHECKING:
    import torch

KINDS: Mapping[type, Kind] = {Codes: "discrete", Latents: "continuous", Bitstream: "codec"}
"""The kind of tokenizer whose tokens these are."""


def kind_of(tokens: Any) -> Kind | None:
    """The kind of tokenizer that sends such tokens; None if they are none of ours."""
    return next((kind for cls, kind in KINDS.items() if isinstance(tokens, cls)), None)


@dataclass(frozen=True)
class Output:
    """Candidates of a batch of one size, and everything that came with them.

    images: float32 (B, 3, H, W) in [0, 1] (a decoder may overshoot a little), or uint8 where pictures were read.
    tokens: those of the batch (of its tiles, where images were cut), None where there are none.
    encode_seconds, decode_seconds: of the whole batch; `float` of them waits for a device that still works.
    failed: {position in the batch: reason} of images that have no candidate; theirs is black and never scored.
    flags: {position: what a picture that was read says of itself}, for its row.
    record: how the images were served, for their rows. macs: multiply-accumulates of encoding and of decoding one
    image, where they were counted. kind: what the system is, by its card or, where that states nothing, its tokens.
    cost: what an image took besides time, by name: network evaluations (`nfe`) of a decoder that is a sampler.
    no_pixels: why there are no candidates at all, of a tokenizer that ends at features; `images` are black then.
    """

    images: torch.Tensor
    tokens: Tokens | None = None
    encode_seconds: SupportsFloat | None = None
    decode_seconds: SupportsFloat | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    flags: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    ceiling: torch.Tensor | None = None
    """Where images were resized for the model and back: the same without the model, float32 (B, 3, H, W)."""
    macs: tuple[float, float] | None = None
    kind: Kind | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    no_pixels: str | None = None
    reading: Reading | None = None
    """What a model understands of the pictures, of a system that drops tokens instead of giving pictures."""

    @property
    def without_picture(self) -> Mapping[int, str]:
        """{position in the batch: reason} of the images that have no candidate, whatever the reason."""
        if self.no_pixels is None:
            return self.failed
        return {**dict.fromkeys(range(len(self.images)), self.no_pixels), **self.failed}


def check_tokens(tokens: Any, name: str, shape: Sequence[int]) -> Tokens:
    """The tokens that are counted and decoded: a copy without anything else that rode on them.

    Refuses what an adapter's `encode` may not return for images of `shape` (B, 3, H, W): no tokens of ours, or those of
    another number or size of images.
    """
    if type(tokens) not in KINDS:
        raise VtbenchError(
            f"{name}: encode returned {type(tokens).__name__}; return Codes, Latents or Bitstream", code=1
        )
    if len(tokens) != shape[0]:
        raise VtbenchError(f"{name}: encode made tokens of {len(tokens)} images out of {shape[0]}", code=1)
    try:
        alone = counted(tokens)
    except VtbenchError as bad:
        # Fields may have been set after the tokens were built.
        raise VtbenchError(f"{name}: {bad}", code=1) from bad
    if alone.size != tuple(shape[2:]):
        raise VtbenchError(
            f"{name}: tokens.size is {alone.size} for images of {tuple(shape[2:])}: give the size of the image", code=1
        )
    return alone


def check_decoded(out: Any, name: str, shape: Sequence[int]) -> None:
    """Refuses what an adapter's `decode` may not return, each with the mistake that it usually means."""
    import torch

    if not isinstance(out, torch.Tensor) or not out.is_floating_point():
        raise VtbenchError(f"{name}: decode returned {_type_of(out)}; wanted a float tensor in [0, 1]", code=1)
    if tuple(out.shape) != tuple(shape):
        raise VtbenchError(
            f"{name}: decode returned shape {tuple(out.shape)} for images of {tuple(shape)}: "
            "return (B, 3, H, W) of the size in tokens.size, and state the sizes that fit on the card",
            code=1,
        )
    check_range(out, name)


def check_features(out: Any, name: str, images: int) -> None:
    """Refuses what `decode` of a tokenizer without pixels may not return: float features, one row an image."""
    import torch

    if not isinstance(out, torch.Tensor) or not out.is_floating_point() or out.ndim < 2 or len(out) != images:
        shape = f" {tuple(out.shape)}" if isinstance(out, torch.Tensor) else ""
        raise VtbenchError(
            f"{name}: decode returned {_type_of(out)}{shape} for {images} images; its card says that it has no pixels: "
            "return float features (B, …)",
            code=1,
        )
    if not bool(torch.isfinite(out).all()):
        raise VtbenchError(f"{name}: decode returned NaN or infinity: check the dtype and the weights", code=1)


def check_generated(images: Any, name: str, prompts: Sequence[Prompt]) -> None:
    """Refuses what a generator may not return, each with the prompt."""
    import torch

    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        raise VtbenchError(f"{name}: generate returned {_type_of(images)}; wanted a float tensor in [0, 1]", code=1)
    if images.ndim != 4 or images.shape[0] != len(prompts) or images.shape[1] != 3:
        raise VtbenchError(
            f"{name}: generate returned shape {tuple(images.shape)} for {len(prompts)} prompts: wanted (B, 3, H, W)",
            code=1,
        )
    finite = torch.isfinite(images).flatten(1).all(dim=1).tolist()
    broken = [p.id for p, good in zip(prompts, finite, strict=True) if not good]
    if broken:
        raise VtbenchError(
            f"{name}: generate returned NaN or infinity for the prompt {broken[0]}: check the dtype and the weights; "
            "images made before are kept",
            code=1,
        )
    check_range(images, name)


def check_range(out: torch.Tensor, name: str) -> None:
    """Refuses NaN, and pictures that are plainly in another value range; an honest network overshoots only a little."""
    low, high = extremes(out)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise VtbenchError(f"{name}: decode returned NaN or infinity: check the dtype and the weights", code=1)
    if high > 16 and low > -16 and float(out.median()) > 4:
        raise VtbenchError(
            f"{name}: decode returned values up to {high:.0f}: divide by 255, images are in [0, 1]", code=1
        )
    if -1.5 <= low < -0.5 and high <= 1.5 and float((out < -0.1).float().mean()) > 0.3:
        raise VtbenchError(
            f"{name}: decode returned values from {low:.2f} to {high:.2f}, which looks like [-1, 1]: "
            "return (x + 1) / 2, images are in [0, 1]",
            code=1,
        )


def _type_of(value: Any) -> str:
    """A tensor's dtype, or the type of anything else."""
    import torch

    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
