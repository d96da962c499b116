"""Deformable attention: a query looks at a few points around its own, wherever it wants (arXiv:2010.04159).

fundamentalvision/Deformable-DETR models/ops, as VFMTok and GaussianToken carry it. Upstream compiles an operation for
it; here it is torch's bilinear sampling, which computes the same (their own ms_deform_attn_core_pytorch says how).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.transformer import check_heads


class DeformableAttention(nn.Module):
    """`points` samples a head and level, weighted by a softmax over all levels' points; scores come from the query.

    centre: one more sample a head and level comes first, at the constant `fixed_offsets` (GaussianToken).
    Keys: sampling_offsets, attention_weights, value_proj, output_proj, and fixed_offsets (1, 2) with `centre`.
    """

    def __init__(self, width: int, heads: int, *, points: int, levels: int, centre: bool = False) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * (points + centre))
        self.value_proj, self.output_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.fixed_offsets = nn.Parameter(torch.zeros(1, 2)) if centre else None

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
        """query (B, N, width); reference (B or 1, N, 2): x, y in [0, 1]; memory (B, cells of all levels, width).

        grids: (h, w) of every level, in the order of the memory. Offsets are in cells of their level; outside is zero.
        """
        batch, count = query.shape[:2]
        offsets = self.sampling_offsets(query).unflatten(2, (self.heads, self.levels, self.points, 2))
        if self.fixed_offsets is not None:
            fixed = self.fixed_offsets.expand(batch, count, self.heads, self.levels, 1, 2)
            offsets = torch.cat([fixed, offsets], dim=4)
        weights = self.attention_weights(query).unflatten(2, (self.heads, -1)).softmax(dim=-1)
        value = self.value_proj(memory).unflatten(2, (self.heads, -1))
        samples = []
        for i, part in enumerate(value.split([h * w for h, w in grids], dim=1)):
            h, w = grids[i]
            plane = part.permute(0, 2, 3, 1).reshape(batch * self.heads, -1, h, w)
            at = reference[:, :, None, None] + offsets[:, :, :, i] / offsets.new_tensor([w, h])
            places = (2 * at - 1).transpose(1, 2).flatten(0, 1)
            samples.append(F.grid_sample(plane, places, mode="bilinear", padding_mode="zeros", align_corners=False))
        mixed = (torch.cat(samples, dim=-1) * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)).sum(dim=-1)
        out: Tensor = self.output_proj(mixed.unflatten(0, (batch, self.heads)).flatten(1, 2).transpose(1, 2))
        return out


def cell_centres(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(1, h w, 2): x, y of the cells' centres in [0, 1], raster order."""
    h, w = grid
    y = (torch.arange(h, dtype=like.dtype, device=like.device) + 0.5) / h
    x = (torch.arange(w, dtype=like.dtype, device=like.device) + 0.5) / w
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(1, h * w, 2)
