"""Vision transformers under BEiT's names: a bias for queries and values, none for keys (arXiv:2106.08254).

VQ-KD's encoder and decoder and EVA-CLIP's image tower, SEED's, are such: magic-research/vector_quantization @ 3650302
vq/algorithms/vqkd/autoencoder.py; AILab-CVC/SEED @ 93b3cf4 models/seed_qformer/eva_vit.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.dinov2 import resized_table
from vtbench.adapters.networks.parts.transformer import check_heads
from vtbench.adapters.networks.parts.vit import Mlp

OFFSET = 0.1
"""Added to the sides of a grid to which a table of positions is resized, as DINO does."""


class Attention(nn.Module):
    """(B, N, width) -> (B, N, width), scale (width / heads)**-0.5."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        packed = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """x + attn(norm1 x), then x + mlp(norm2 x) with an exact GELU."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Tower(nn.Module):
    """Patches to tokens, the class token first and without a final norm: (B, channels, H, W) -> (B, 1 + h w, width).

    `native` is the side of the grid that the table of positions is made for; other grids get it resized (bicubic).
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        patch: int,
        native: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + native**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(width, heads, hidden, eps) for _ in range(layers))

    def tokens(self, x: Tensor) -> Tensor:
        """What the last block gives."""
        cells = self.patch_embed["proj"](x)
        table = resized_table(self.pos_embed[:, 1:], (cells.shape[2], cells.shape[3]), offset=OFFSET)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        out = torch.cat([first, cells.flatten(2).transpose(1, 2) + table], dim=1)
        for block in self.blocks:
            out = block(out)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x)
