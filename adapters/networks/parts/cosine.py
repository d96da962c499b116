"""Layers with cosine-like attention, axial rotary positions and norms that a condition scales, without biases.

crowsonkb/k-diffusion image_transformer_v2.py (arXiv:2401.11605), as CompVis/RepTok @ 85c3519 carries them:
reptok/encoder/encoder.py. Factors and angles are computed in at least float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.transformer import heads_of, merged


def wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def rms(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """x scale / sqrt(mean(x^2) + eps), the factor in float32."""
    full = wide(x)
    factor = scale.to(full.dtype) * torch.rsqrt(full.square().mean(dim=-1, keepdim=True) + eps)
    return x * factor.to(x.dtype)


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.scale, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        return rms(x, self.scale, self.eps)


class TimedNorm(nn.Module):
    """Its scale is one more than a projection of the condition (1, width of the condition)."""

    def __init__(self, width: int, condition: int, eps: float) -> None:
        super().__init__()
        self.linear, self.eps = nn.Linear(condition, width, bias=False), eps

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return rms(x, self.linear(condition)[:, None] + 1, self.eps)


class FeedForward(nn.Module):
    """x + down(up(norm x)), where up gives values and gates: value silu(gate)."""

    def __init__(self, norm: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = norm
        self.up_proj = nn.Linear(width, 2 * hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        value, gate = self.up_proj(self.norm(x, condition)).chunk(2, dim=-1)
        out: Tensor = x + self.down_proj(value * F.silu(gate))
        return out


class Rotary(nn.Module):
    """Frequencies of height and of width for half of a head's channels, (2, heads, head / 8); they are in the files."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        start, stop = math.log(math.pi), math.log(10 * math.pi)
        each = torch.linspace(start, stop, heads * dim // 8 + 1)[:-1].exp().reshape(dim // 8, heads).t()
        self.freqs = nn.Parameter(torch.stack([each, each]), requires_grad=False)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """x (B, heads, N, dim), places (N, 2) as (row, column)."""
        freqs = wide(self.freqs)
        angles = torch.cat([places[:, axis, None, None] * freqs[axis] for axis in (0, 1)], dim=-1).transpose(0, 1)
        cos, sin = angles.cos(), angles.sin()
        first, second, rest = x.tensor_split((cos.shape[-1], 2 * cos.shape[-1]), dim=-1)
        a, b = wide(first), wide(second)
        return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], dim=-1)


class Attention(nn.Module):
    """Cosine-like: queries and keys have length sqrt(scale), a number a head."""

    def __init__(self, width: int, head: int, condition: int, eps: float) -> None:
        super().__init__()
        self.heads = width // head
        self.norm = TimedNorm(width, condition, eps)
        self.scale = nn.Parameter(torch.full((self.heads,), 10.0))
        self.qkv_proj, self.out_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.pos_emb = Rotary(self.heads, head)

    def forward(self, x: Tensor, places: Tensor, condition: Tensor) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv_proj(self.norm(x, condition)).chunk(3, dim=-1))
        q, k = self.pos_emb(self._scaled(q), places), self.pos_emb(self._scaled(k), places)
        out: Tensor = x + self.out_proj(merged(F.scaled_dot_product_attention(q, k, v, scale=1.0)))
        return out

    def _scaled(self, x: Tensor) -> Tensor:
        full = wide(x)
        factor = wide(self.scale)[:, None, None].sqrt() * torch.rsqrt(full.square().sum(dim=-1, keepdim=True) + 1e-6)
        return x * factor.to(x.dtype)


class Layer(nn.Module):
    def __init__(self, width: int, head: int, hidden: int, condition: int, eps: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, head, condition, eps)
        self.ff = FeedForward(TimedNorm(width, condition, eps), width, hidden)

    def forward(self, x: Tensor, places: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.ff(self.self_attn(x, places, condition), condition)
        return out
