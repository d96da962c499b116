"""Gaussians drawn into a map of features, in plain torch: what GPSToken's and GaussianToken's compiled kernels compute.

Both sum value times weight over the Gaussians, in no order, without normalising by area and without a background; they
differ in coordinates, in how a shape is stated, and in where a Gaussian is cut off.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vtbench.types.errors import VtbenchError

_TILE = 16
"""Pixels of a tile's side (gsplat's BLOCK_X, BLOCK_Y)."""
_TILE_LIMIT = 256
"""Gaussians of a tile that the kernel for three channels draws (forward.cu:613)."""
_FAINTEST = 1 / 255
_SPREAD = 0.1
"""Least squared half difference of the covariance's eigenvalues in the radius (helpers.cuh:62)."""


def draw_bounded(shapes: Tensor, centres: Tensor, values: Tensor, size: tuple[int, int], reach: float) -> Tensor:
    """(B, C, h, w): GPSToken gscuda/gs.cu @ 372231d.

    shapes (B, N, 3): deviation along x and y, correlation; centres (B, N, 2): x, y; pixels stand at -1 … 1, ends
    included. values (B, N, C). A Gaussian ends where a coordinate is more than `reach` of its own deviations away.
    """
    if min(size) < 2:
        raise VtbenchError(f"a map of {size[0]} x {size[1]} has no distance between its pixels: give two or more")
    kept, (shapes, centres, values) = values.dtype, _wide(shapes, centres, values)
    width_x, width_y, correlation = (part[..., None, None] for part in shapes.unbind(dim=2))
    y, x = (2.0 * torch.arange(n, dtype=values.dtype, device=values.device) / (n - 1) - 1.0 for n in size)
    # (B, N, 1, w) and (B, N, h, 1)
    right, down = x - centres[..., 0, None, None], y[:, None] - centres[..., 1, None, None]
    near = (right.abs() <= reach * width_x) & (down.abs() <= reach * width_y)
    dx, dy = right / width_x, down / width_y
    power = (dx.square() - 2 * correlation * dx * dy + dy.square()) / (2 * (1 - correlation.square()))
    return torch.einsum("bnhw,bnc->bchw", torch.where(near, torch.exp(-power), 0.0), values).to(kept)


def draw_tiled(
    centres: Tensor, scales: Tensor, rotations: Tensor, values: Tensor, opacities: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """(B, C, h, w): gsplat's summing rasteriser, GaussianToken @ 8337223 (foward2d.cu, forward.cu:559-700).

    centres (B, N, 2): x, y in [-1, 1], the map's edges; scales (B, N, 2): deviations in pixels along the Gaussian's own
    axes; rotations (B, N, 1) in radians; opacities (B, N, 1) or None (1). Pixels stand at whole numbers. A weight is at
    most 1, is left out below 1/255, and reaches only the tiles of 16 x 16 pixels that a square around the Gaussian
    touches, of three deviations of its longer axis.
    """
    h, w = size
    kept, (centres, scales, rotations, values) = values.dtype, _wide(centres, scales, rotations, values)
    x, y = ((centres[..., k] + 1) / 2 * n for k, n in ((0, w), (1, h)))
    xx, xy, yy = _covariance(scales, rotations)
    determinant = xx * yy - xy.square()
    middle = (xx + yy) / 2
    longest = middle + (middle.square() - determinant).clamp(min=_SPREAD).sqrt()
    radius = (3 * longest.sqrt()).ceil()
    dx = x[..., None] - torch.arange(w, dtype=x.dtype, device=x.device)
    dy = y[..., None] - torch.arange(h, dtype=x.dtype, device=x.device)
    a, b, c = (part[..., None, None] for part in (yy / determinant, -xy / determinant, xx / determinant))
    dx, dy = dx[:, :, None], dy[..., None]
    power = (a * dx.square() + c * dy.square()) / 2 + b * dx * dy
    weight = torch.exp(-power) if opacities is None else opacities[..., None] * torch.exp(-power)
    weight = weight.clamp(max=1.0)
    reached = _tiles(x, radius, w)[:, :, None] & _tiles(y, radius, h)[..., None] & (determinant != 0)[..., None, None]
    if values.shape[2] == 3:
        reached = reached & (reached.cumsum(dim=1) <= _TILE_LIMIT)
    drawn = reached.repeat_interleave(_TILE, dim=2)[:, :, :h].repeat_interleave(_TILE, dim=3)[..., :w]
    visible = drawn & (power >= 0) & (weight >= _FAINTEST)
    return torch.einsum("bnhw,bnc->bchw", torch.where(visible, weight, 0.0), values).to(kept)


def _wide(*tensors: Tensor) -> list[Tensor]:
    """In one dtype, the widest and at least float32: the kernels compute in it whatever the network's dtype."""
    dtype = functools.reduce(torch.promote_types, [t.dtype for t in tensors], torch.float32)
    return [t.to(dtype) for t in tensors]


def _covariance(scales: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(xx, xy, yy), each (B, N), of R S S R^T with R = [[cos, sin], [-sin, cos]] (helpers.cuh:267-285)."""
    along, across = scales.square().unbind(dim=2)
    cos, sin = rotations[..., 0].cos(), rotations[..., 0].sin()
    return (
        cos.square() * along + sin.square() * across,
        cos * sin * (across - along),
        sin.square() * along + cos.square() * across,
    )


def _tiles(centre: Tensor, radius: Tensor, length: int) -> Tensor:
    """bool (B, N, tiles): those along one axis that centre ± radius touches (helpers.cuh:12-41)."""
    count = (length + _TILE - 1) // _TILE
    first = ((centre - radius) / _TILE).trunc().clamp(0, count)
    end = ((centre + radius) / _TILE + 1).trunc().clamp(0, count)
    tile = torch.arange(count, device=centre.device)
    return (tile >= first[..., None]) & (tile < end[..., None])
