"""Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vtbench.types.errors import VtbenchError


class FSQ(nn.Module):
    """Channel c is squashed by tanh and rounded to one of levels[c] values; an id counts the first channel fastest.

    lucidrains/vector-quantize-pytorch finite_scalar_quantization.py, of which apple/ml-flextok
    regularizers/quantize_fsq.py keeps bound() with eps 1e-3. No parameters.
    """

    def __init__(self, levels: Sequence[int], *, eps: float = 1e-3) -> None:
        super().__init__()
        if any(n < 2 for n in levels):
            raise VtbenchError(f"levels is {list(levels)}, but every channel needs at least 2")
        self.levels, self.eps = tuple(levels), eps
        self.alphabets = (math.prod(levels),)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, channels) -> ids int64 (B, N), and codes in [-1, 1] shaped like z."""
        levels, halves, basis = self._tables(z)
        half = (levels - 1) * (1 + self.eps) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(z.dtype)
        rounded = ((z + (offset / half).atanh()).tanh() * half - offset).round()
        return ((rounded + halves).long() * basis).sum(dim=-1), rounded / halves

    def lookup(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """ids (B, N) -> codes (B, N, channels)."""
        levels, halves, basis = self._tables(torch.zeros(0, dtype=dtype, device=tokens.device))
        digits = tokens[..., None] // basis % levels.long()
        return (digits.to(dtype) - halves) / halves

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = torch.tensor(self.levels, device=like.device)
        basis = torch.cat([torch.ones_like(levels[:1]), levels[:-1].cumprod(0)])
        return levels.to(like.dtype), (levels // 2).to(like.dtype), basis
