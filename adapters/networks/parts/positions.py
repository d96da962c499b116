"""Where tokens stand and which of them see each other: rotary angles, and masks of sequences with a causal tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def raster(height: int, width: int) -> Tensor:
    """float64 (height width, 2), on the CPU by default, as not every device has it: row and column of every cell."""
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    return torch.cartesian_prod(rows, columns).reshape(-1, 2)


def rotary(places: Tensor, axes: Sequence[int], theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (N, sum(axes) / 2), in the dtype and on the device of `like`, for `rotate_pairs`.

    places: float64 (N, len(axes)), on the CPU. Axis a turns axes[a] channels of a head, pair i of them by its place
    times theta^(-2 i / axes[a]) (FLUX, black-forest-labs/flux src/flux/math.py; float64 there too).
    """
    angles = []
    for place, width in zip(places.unbind(dim=1), axes, strict=True):
        turns = torch.arange(0, width, 2, dtype=torch.float64, device=places.device) / width
        angles.append(place[:, None] * theta**-turns)
    joined = torch.cat(angles, dim=1)
    return joined.cos().to(like), joined.sin().to(like)


def causal_tail(prefix: int, tail: int, *, device: torch.device | str | None = None) -> Tensor:
    """bool (prefix + tail, prefix + tail), True = visible, queries in rows.

    The first `prefix` tokens see each other alone; each of the others sees them, itself and those before it in the
    tail.
    """
    visible = torch.ones(prefix + tail, prefix + tail, dtype=torch.bool, device=device).tril()
    visible[:, :prefix] = True
    return visible


def sincos(height: int, width: int, dim: int, *, period: float = 10000.0) -> Tensor:
    """float32 (height width, dim), raster order: sines and cosines of the column, then of the row, dim / 4 each.

    Frequency i is period^(-i / (dim / 4)), in float64 (facebookresearch/mae util/pos_embed.py; MoCo v3, DiT).
    """
    steps = torch.arange(dim // 4, dtype=torch.float64) / (dim // 4)
    rows, columns = (place[:, None] * period**-steps for place in raster(height, width).unbind(dim=1))
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1).float()
