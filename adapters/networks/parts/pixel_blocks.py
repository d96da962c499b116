"""PixelDiT's blocks: of patches, of patches and text together, of pixels.

NVlabs/PixelDiT as of gcy-hub/PixelDiT @ 91d45ab: pixdit_core/{modules,pixeldit_c2i,pixeldit_t2i}.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.llama import FeedForward
from vtbench.adapters.networks.parts.transformer import (
    Mlp,
    RMSNorm,
    check_heads,
    heads_of,
    merged,
    modulate,
    rotate_pairs,
)

EXTENT = 16.0
"""Greatest coordinate of a patch, whatever the grid's size."""
Turn = tuple[Tensor, Tensor]


def turn_of_grid(head: int, height: int, width: int, like: Tensor) -> Turn:
    """(cos, sin), (height width, head / 2) each: of neighbouring pairs one turns by the column, one by the row."""
    freqs = 1.0 / (10000.0 ** (torch.arange(0, head, 4)[: head // 4].float() / head))
    columns, rows = (torch.linspace(0, EXTENT, n)[:, None] * freqs for n in (width, height))
    pairs = [columns[None].expand(height, -1, -1), rows[:, None].expand(-1, width, -1)]
    angles = torch.stack(pairs, dim=-1).flatten(2).flatten(0, 1).to(like.device)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class _Attention(nn.Module):
    """Keys qkv (without bias), q_norm, k_norm (over a head), proj."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads, head = heads, dim // heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.q_norm, self.k_norm = RMSNorm(head, 1e-6), RMSNorm(head, 1e-6)

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = rotate_pairs(self.q_norm(q), *turn), rotate_pairs(self.k_norm(k), *turn)
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


def _modulation(dim: int, out: int) -> nn.Sequential:
    """The condition comes with its SiLU applied."""
    return nn.Sequential(nn.Linear(dim, out))


class PatchBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = RMSNorm(dim, 1e-6), _Attention(dim, heads), RMSNorm(dim, 1e-6)
        self.mlp, self.adaLN_modulation = FeedForward(dim, int(2 * 4 * dim / 3)), _modulation(dim, 6 * dim)

    def forward(self, x: Tensor, c: Tensor, turn: Turn) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = x + gate * self.attn(modulate(self.norm1(x), shift, scale), turn)
        out: Tensor = x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return out


class _JointAttention(nn.Module):
    """Text and image attend to both, each with its own layers (suffixes _y and _x)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        for side in ("x", "y"):
            self.add_module(f"qkv_{side}", nn.Linear(dim, 3 * dim, bias=False))
            self.add_module(f"q_norm_{side}", RMSNorm(dim // heads, 1e-6))
            self.add_module(f"k_norm_{side}", RMSNorm(dim // heads, 1e-6))
            self.add_module(f"proj_{side}", nn.Linear(dim, dim))

    def forward(self, x: Tensor, y: Tensor, turn: Turn, turn_text: Turn | None) -> tuple[Tensor, Tensor]:
        parts = []
        for side, rows, angles in (("y", y, turn_text), ("x", x, turn)):
            q, k, v = (heads_of(p, self.heads) for p in self.get_submodule(f"qkv_{side}")(rows).chunk(3, dim=-1))
            q, k = self.get_submodule(f"q_norm_{side}")(q), self.get_submodule(f"k_norm_{side}")(k)
            if angles is not None:
                q, k = rotate_pairs(q, *angles), rotate_pairs(k, *angles)
            parts.append((q, k, v))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*parts, strict=True))
        mixed, n = merged(F.scaled_dot_product_attention(q, k, v)), y.shape[1]
        return self.get_submodule("proj_x")(mixed[:, n:]), self.get_submodule("proj_y")(mixed[:, :n])


class JointBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        hidden = int(2 * 4 * dim / 3)
        self.norm_x1, self.norm_y1, self.norm_x2, self.norm_y2 = (RMSNorm(dim, 1e-6) for _ in range(4))
        self.attn = _JointAttention(dim, heads)
        self.mlp_x, self.mlp_y = FeedForward(dim, hidden), FeedForward(dim, hidden)
        self.adaLN_modulation_img, self.adaLN_modulation_txt = _modulation(dim, 6 * dim), _modulation(dim, 6 * dim)

    def forward(self, x: Tensor, y: Tensor, c: Tensor, turn: Turn, turn_text: Turn | None) -> tuple[Tensor, Tensor]:
        u, v = self.adaLN_modulation_img(c).chunk(6, dim=-1), self.adaLN_modulation_txt(c).chunk(6, dim=-1)
        inner = modulate(self.norm_x1(x), u[0], u[1]), modulate(self.norm_y1(y), v[0], v[1])
        more_x, more_y = self.attn(*inner, turn, turn_text)
        x, y = x + u[2] * more_x, y + v[2] * more_y
        x = x + u[5] * self.mlp_x(modulate(self.norm_x2(x), u[3], u[4]))
        y = y + v[5] * self.mlp_y(modulate(self.norm_y2(y), v[3], v[4]))
        return x, y


class PixelBlock(nn.Module):
    """Every pixel has its own modulation; attention is over patches, whose pixels are compressed into one vector.

    after: scale and shift on what is added instead of before (pit_adaln_post_modulation).
    """

    def __init__(self, pixel: int, dim: int, patch: int, *, width: int, heads: int, after: bool) -> None:
        super().__init__()
        self.after, cells = after, patch**2
        self.compress_to_attn = nn.Linear(cells * pixel, width)
        self.expand_from_attn = nn.Linear(width, cells * pixel)
        self.norm1, self.norm2 = RMSNorm(pixel, 1e-6), RMSNorm(pixel, 1e-6)
        self.attn, self.mlp = _Attention(width, heads), Mlp(pixel, 4 * pixel)
        self.adaLN_modulation = _modulation(dim, (4 if after else 6) * pixel * cells)

    def forward(self, x: Tensor, s: Tensor, turn: Turn, batch: int) -> Tensor:
        """x (B L, p p, pixel), s (B L, dim)."""
        v = self.adaLN_modulation(s).unflatten(1, (x.shape[1], -1)).chunk(4 if self.after else 6, dim=-1)
        inner = self.norm1(x) if self.after else modulate(self.norm1(x), v[0], v[1])
        mixed = self.attn(self.compress_to_attn(inner.flatten(1)).unflatten(0, (batch, -1)), turn)
        mixed = self.expand_from_attn(mixed).flatten(0, 1).unflatten(1, (x.shape[1], -1))
        if self.after:
            x = x + modulate(mixed, v[1], v[0])
            return x + modulate(self.mlp(self.norm2(x)), v[3], v[2])
        x = x + v[2] * mixed
        return x + v[5] * self.mlp(modulate(self.norm2(x), v[3], v[4]))
