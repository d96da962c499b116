"""Fourier-VLM: the low block of a two-dimensional DCT of the grid (whyisverysmart/Fourier-Compressor at 45ab404,
fourier_compressor/compress.py and dct.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import grid_for, on_grid
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def _cosines(side: int, like: Tensor) -> Tensor:
    """(side, side): row k holds cos(pi k (2n + 1) / 2 side)."""
    import torch

    k, n = (torch.arange(side, dtype=torch.float64) for _ in range(2))
    return torch.cos(math.pi * k[:, None] * (2 * n[None] + 1) / (2 * side)).to(like.dtype)


def _scaled(side: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II."""
    matrix = _cosines(side, like) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def low_block(x: Tensor, grid: tuple[int, int], reserve: tuple[int, int], norm: str | None) -> Tensor:
    """(…, rh * rw, C) of tokens (…, h * w, C): the transform, its low block, and the inverse transform of that size.

    As upstream, nothing makes up for the change of size: with norm "ortho" values grow by sqrt(h w / (rh rw)), with
    None by h w / (rh rw).
    """
    values = x.reshape(-1, *x.shape[-2:]).unflatten(1, grid)
    for axis, (side, kept) in enumerate(zip(grid, reserve, strict=True), start=1):
        if norm == "ortho":
            matrix = _scaled(kept, x).T @ _scaled(side, x)[:kept]
        else:
            forward, back = 2 * _cosines(side, x)[:kept], _cosines(kept, x).T / kept
            back[:, 0] /= 2
            matrix = back @ forward
        values = (matrix @ values.transpose(1, axis).flatten(2)).unflatten(2, values.transpose(1, axis).shape[2:])
        values = values.transpose(1, axis)
    return values.reshape(*x.shape[:-2], -1, x.shape[-1])


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    x, (h, w), (rh, rw) = inputs["x"], params["grid"], params["reserve"]
    rounded = x.bfloat16().to(x.dtype)
    from_bf16 = low_block(rounded, (h, w), (rh, rw), params["norm"]).to(torch.bfloat16).to(x.dtype)
    return {"tokens": low_block(x, (h, w), (rh, rw), params["norm"]), "tokens_from_bf16": from_bf16}


class FourierVLM(Reducer):
    """The budget is a grid of the most places that it allows; norm: "ortho", or "none"."""

    needs = Needs(grid=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        grid = on_grid(view, self.card.name)
        norm = None if self.options["norm"] == "none" else str(self.options["norm"])
        return Reduction(values=low_block(view.features[None], grid, grid_for(grid, budget), norm)[0], positions="none")


REDUCERS = (
    ReducerCard(
        "fourier-vlm",
        "Fourier-VLM: low frequencies of the grid",
        ("tower",),
        "merge",
        positions="those of the small grid",
        needs=("grid",),
        knob="side that is kept, or its ratio",
        code="https://github.com/whyisverysmart/Fourier-Compressor",
        commit="45ab4048753a",
        deviates="values grow with the change of size (2.0 at 24 x 24 to 12 x 12); upstream takes 16-bit input only",
        rules={"fourier-vlm": _rule},
        build=FourierVLM,
        options={"norm": "ortho"},
    ),
)
