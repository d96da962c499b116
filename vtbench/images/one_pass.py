"""Bytes to floats and back in one pass over memory, by OpenCV: of pixels on a CPU, where torch takes up to four passes,
each in threads that wait for one another.

The values are torch's to the bit. Bytes have a table that torch made; floats are tried once a process around every
border between two levels, and where OpenCV should round otherwise on some processor, torch does all of it there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LONGEST = 1 << 31
"""Values in a row of OpenCV's matrices, and rows of them: fewer."""
AROUND = 16
"""Floats on either side of every border that are tried."""


def scaled(pixels: torch.Tensor) -> torch.Tensor | None:
    """uint8 -> float32, divided by 255, of the same shape and memory layout; None: not to be had here."""
    rows = _rows(pixels)
    if rows is None:
        return None
    import cv2

    return _like(pixels, cv2.LUT(rows, _fractions()))


def rounded(fractions: torch.Tensor) -> torch.Tensor | None:
    """float32 in [0, 1] -> uint8, times 255 to the nearest integer, half to even; None: not to be had here."""
    import torch

    rows = _rows(fractions) if fractions.dtype == torch.float32 else None
    return None if rows is None or not _rounds_as_torch() else _like(fractions, _levels(rows))


def _levels(rows: Any) -> Any:
    import cv2

    return cv2.convertScaleAbs(rows, alpha=255)


def _rows(images: torch.Tensor) -> Any:
    """The values in the order of memory as a matrix; None where they are elsewhere, or lie in no order known here."""
    ordered = _in_memory(images)
    if images.device.type != "cpu" or not images.numel() or not ordered.is_contiguous():
        return None
    values = ordered.detach().numpy()
    count = values.shape[0] * values.shape[1] if values.ndim > 2 else 1
    return values.reshape(count, -1) if max(count, values.size // count) < LONGEST else None


def _in_memory(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) whose memory is channels last as (N, H, W, C)."""
    return images.permute(0, 2, 3, 1) if images.ndim == 4 and not images.is_contiguous() else images


def _like(images: torch.Tensor, rows: Any) -> torch.Tensor:
    import torch

    ordered = _in_memory(images)
    values = torch.from_numpy(rows).reshape(ordered.shape)
    return values if ordered is images else values.permute(0, 3, 1, 2)


@functools.cache
def _fractions() -> Any:
    """What each byte becomes, float32 (256,)."""
    import torch

    # A default device of the caller's is not this table's.
    return torch.arange(256, dtype=torch.uint8, device="cpu").float().div_(255).numpy()


@functools.cache
def _rounds_as_torch() -> bool:
    """Whether OpenCV rounds every float near a border between two levels as torch does, on this processor."""
    import torch

    borders = torch.arange(255, dtype=torch.float32, device="cpu").add_(0.5).div_(255).view(torch.int32)
    steps = torch.arange(-AROUND, AROUND + 1, dtype=torch.int32, device="cpu")
    near = (borders[:, None] + steps).view(torch.float32)
    tried = torch.cat([near.reshape(-1), torch.from_numpy(_fractions())])
    return torch.equal(torch.from_numpy(_levels(tried.numpy()[None]))[0], tried.mul(255).round_().to(torch.uint8))
