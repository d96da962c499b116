"""What reducers of tokens share: the best of some scores, distances, attention of one row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import TowerView

if TYPE_CHECKING:
    from torch import Tensor


def best(scores: Tensor, count: int) -> Tensor:
    """int64 (…, count): positions of the greatest scores along the last dimension, greatest first, equals by position
    (torch.topk promises no order of equals)."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]


def in_place(positions: Tensor) -> Tensor:
    """The same positions in the order of the raster."""
    return positions.sort(dim=-1).values


def rest(count: int, chosen: Tensor) -> Tensor:
    """The positions 0 … count - 1 that are not among `chosen` (any shape), ascending."""
    import torch

    left = torch.ones(count, dtype=torch.bool)
    left[chosen.flatten()] = False
    return left.nonzero().flatten()


def grid_for(grid: tuple[int, int], budget: int) -> tuple[int, int]:
    """(height, width) of the grid with the most places, at most `budget`, whose shape is that of `grid` within a factor
    of 4/3; where none is, of any shape."""
    height, width = grid
    fitting = [(h, min(width, budget // h)) for h in range(1, min(height, budget) + 1)]

    def stretch(size: tuple[int, int]) -> float:
        ratio = size[0] * width / (size[1] * height)
        return max(ratio, 1 / ratio)

    near = [size for size in fitting if stretch(size) <= 4 / 3 + 1e-9]
    return max(near or fitting, key=lambda size: (size[0] * size[1], -stretch(size)))


def on_grid(view: TowerView, name: str) -> tuple[int, int]:
    """The grid of a view's tokens; refused where an earlier cut has left them without one."""
    if view.grid is None:
        raise VtbenchError(f"{name} needs tokens on a grid, and some of them are gone here: let it act first")
    return view.grid


def pairs(rows: Tensor, tokens: Tensor) -> Tensor:
    """int64 (E, 2) of two vectors, as `Reduction.sources` has them."""
    import torch

    return torch.stack([rows, tokens], dim=1)


def cosine_distances(x: Tensor) -> Tensor:
    """(N, N) of rows (N, C): one less the cosine."""
    from torch.nn.functional import normalize

    unit = normalize(x, dim=-1)
    return 1.0 - unit @ unit.T


def farthest(distances: Tensor, count: int, chosen: list[int]) -> list[int]:
    """`chosen` and further positions until there are `count`: each time the one that lies farthest from its nearest
    chosen one, equals by position. Raises VtbenchError for more than there are."""
    import torch

    if count > len(distances):
        raise VtbenchError(f"{count} positions of {len(distances)} are asked for: give at most as many as there are")
    out = list(chosen)
    nearest = distances[out].amin(dim=0)
    while len(out) < count:
        nearest = nearest.clone()
        nearest[out] = -math.inf
        pick = int(nearest.argmax())
        out.append(pick)
        nearest = torch.minimum(nearest, distances[pick])
    return out


def last_row(
    features: Tensor, weights: Mapping[str, Tensor], layer: str, heads: int, row: int, base: float, eps: float = 1e-5
) -> Tensor:
    """(heads, L): the causal attention of the position `row` of a LLaMA layer, recomputed from its input norm, q, k and
    rotary positions 0 … L - 1.

    features (L, C): the hidden states that go into the layer; eps: that of the norm.
    """
    import torch
    from torch.nn.functional import rms_norm, softmax

    length, width = features.shape
    states = rms_norm(features, (width,), weights[f"{layer}.input_layernorm.weight"], eps)
    q, k = (
        (states @ weights[f"{layer}.self_attn.{name}_proj.weight"].T).reshape(length, heads, -1).transpose(0, 1)
        for name in ("q", "k")
    )
    side = q.shape[-1]
    # Angles are float32 in upstream's table of cosines, whatever the states are.
    angles = torch.arange(length, dtype=features.dtype)[:, None] / base ** (
        torch.arange(0, side, 2, dtype=features.dtype) / side
    )
    cos, sin = (torch.cat([f(angles)] * 2, dim=-1) for f in (torch.cos, torch.sin))

    def turned(x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-two, one], dim=-1) * sin

    q, k = turned(q), turned(k)
    scores = (q[:, row : row + 1] @ k.transpose(1, 2))[:, 0] / math.sqrt(side)
    scores[:, row + 1 :] = -math.inf
    return softmax(scores, dim=-1)
