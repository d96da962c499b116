"""Parts that the generators' transformers share: norms, rotary positions, attention with a cache, MLPs, modulation."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.types.errors import VtbenchError


class RMSNorm(nn.Module):
    """x rsqrt(mean(x^2) + eps) in float32, times `weight` if it is affine."""

    def __init__(self, dim: int, eps: float, *, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.weight: Tensor | None = nn.Parameter(torch.ones(dim))
        else:
            self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        out = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)
        return out if self.weight is None else out * self.weight


class Cache:
    """Keys and values of past positions, a pair a layer: (B, heads, positions, head_dim)."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        return int(self._kept[0][0].shape[2]) if self._kept else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Appends k and v; returns all keys and values of the layer."""
        if layer in self._kept:
            k = torch.cat([self._kept[layer][0], k], dim=2)
            v = torch.cat([self._kept[layer][1], v], dim=2)
        self._kept[layer] = (k, v)
        return k, v

    def cut(self, length: int) -> None:
        """Forgets the positions from `length` on."""
        self._kept = {i: (k[:, :, :length], v[:, :, :length]) for i, (k, v) in self._kept.items()}


def check_heads(width: int, heads: int) -> None:
    """Raises VtbenchError unless the heads share the width equally."""
    if width % heads:
        raise VtbenchError(f"{heads} heads do not divide a width of {width}: choose another number of heads")


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads d) -> (B, heads, N, d)."""
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads d)."""
    return x.transpose(1, 2).flatten(2)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the neighbouring channels (2i, 2i+1) of x (..., N, d) by the angles of cos and sin (N, d/2)."""
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class SelfAttention(nn.Module):
    """timm's attention: keys qkv, proj, and with `qk_norm` q_norm, k_norm (LayerNorm over a head, eps 1e-6)."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.q_norm: nn.Module = nn.LayerNorm(dim // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = nn.LayerNorm(dim // heads, eps=1e-6) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """x (B, N, dim); mask: boolean, True = visible, broadcast to (B, heads, N, keys)."""
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out


class Mlp(nn.Module):
    """Keys fc1, fc2."""

    def __init__(self, dim: int, hidden: int, *, act: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(dim, hidden), nn.Linear(hidden, dim), act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class Block(nn.Module):
    """timm's pre-norm block: keys norm1, attn, norm2, mlp."""

    def __init__(self, dim: int, heads: int, hidden: int, *, eps: float, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, heads, qkv_bias=qkv_bias)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def sinusoid(t: Tensor, dim: int, *, dtype: torch.dtype, period: float = 10000.0) -> Tensor:
    """(n,) -> (n, dim) of `dtype`: cosines first, then sines, of t / period^(i / (dim/2)).

    Computed in float32, as upstream, but for a network in float64: that is the yardstick for what rounding does.
    """
    half, wide = dim // 2, torch.promote_types(dtype, torch.float32)
    steps = torch.arange(half, dtype=wide, device=t.device)
    freqs = torch.exp(-torch.log(torch.tensor(period, dtype=wide, device=t.device)) * steps / half)
    angles = t[:, None].to(wide) * freqs[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)


class TimeEmbedder(nn.Module):
    """DiT's: sinusoids of a time, then two layers with SiLU between them (keys mlp.0, mlp.2)."""

    def __init__(self, dim: int, *, width: int = 256, period: float = 10000.0) -> None:
        super().__init__()
        self.width, self.period = width, period
        self.mlp = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, dim)."""
        weight = next(self.mlp.parameters())
        out: Tensor = self.mlp(sinusoid(t, self.width, dtype=weight.dtype, period=self.period))
        return out


class FinalLayer(nn.Module):
    """DiT's: a plain norm modulated by shift and scale of the condition, then `linear`."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., width), c broadcast to it."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        out: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return out
