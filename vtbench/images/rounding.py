"""Between uint8 pixels and floats: the one rounding, and those that other protocols use instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vtbench.images import one_pass
from vtbench.types.conditions import Rounding
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

ROUNDINGS: Mapping[Rounding, str] = {
    "round": "clamp, times 255, to the nearest integer: once, for the candidate alone",
    "truncate": "candidate times 255, cut to an integer (VTBench src/data_processing.py:80 for models in [0, 1])",
    "truncate-both": "candidate and original through float32 [-1, 1], times 255, cut to an integer: 95 of 256 grey "
    "levels of the original fall by one (SEED-Voken evaluation_image.py:239-240)",
}


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [0, 1], of the same shape and memory layout."""
    import torch

    if images.dtype != torch.uint8:
        raise VtbenchError(f"to_float was given {images.dtype}; it converts uint8 pixels")
    quick = one_pass.scaled(images)
    return images.float().div_(255) if quick is None else quick


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """The one rounding: clamp to [0, 1], times 255, to the nearest integer (half to even). Refuses NaN and infinity."""
    import torch

    low, high = extremes(images)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise VtbenchError("images hold NaN or infinity: they cannot be rounded to pixels", code=1)
    inside = images.float() if low >= 0 and high <= 1 else images.float().clamp(0, 1)
    quick = one_pass.rounded(inside)
    return inside.mul(255).round_().to(torch.uint8) if quick is None else quick


def extremes(images: torch.Tensor) -> tuple[float, float]:
    """Smallest and largest value, in one pass; NaN if any value is."""
    if images.ndim == 4 and not images.is_contiguous():
        # Channels last in memory, as pictures are read: in the order of memory it is three times as fast.
        images = images.permute(0, 2, 3, 1)
    low, high = images.aminmax() if images.numel() else (0.0, 0.0)
    return float(low), float(high)


def truncate(images: torch.Tensor) -> torch.Tensor:
    """float (…) in [0, 1] or uint8 -> uint8, cut instead of rounded; uint8 comes back as it is."""
    import torch

    return images if images.dtype == torch.uint8 else (images.float().clamp(0, 1) * 255).to(torch.uint8)


def truncate_through_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 or float in [0, 1] -> uint8 by way of float32 in [-1, 1], cut instead of rounded.

    uint8 goes in as SEED-Voken reads it (IBQ/data/base.py: image / 127.5 - 1 in float64, then float32).
    """
    import torch

    if images.dtype == torch.uint8:
        ranged = (images.double() / 127.5 - 1).float()
    else:
        ranged = images.float().clamp(0, 1) * 2 - 1
    return ((ranged + 1) / 2 * 255).to(torch.uint8)


def rounded(original: torch.Tensor, candidate: torch.Tensor, rounding: Rounding) -> tuple[torch.Tensor, torch.Tensor]:
    """(original, candidate) as the uint8 pixels that `rounding` compares; original uint8, candidate float or uint8."""
    import torch

    if rounding == "truncate-both":
        return truncate_through_range(original), truncate_through_range(candidate)
    if rounding == "truncate":
        return original, truncate(candidate)
    return original, candidate if candidate.dtype == torch.uint8 else to_uint8(candidate)
