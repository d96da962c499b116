"""DAR: autoregression along the diagonals, each token told where the next one lies (arXiv:2503.11129).

Built from what the paper states; no code of its authors could be reached, so that there is no upstream to compare.
What is not stated there is a key of the configuration without a default: the corner and the direction of the first
step, how a head's channels are shared among the four coordinates, the base, and where the class token stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.positions import rotary
from vtbench.adapters.networks.parts.transformer import (
    Cache,
    Mlp,
    check_heads,
    heads_of,
    merged,
    modulate,
    rotate_pairs,
)
from vtbench.types.errors import VtbenchError

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
OF_CLASS = 9
"""Row of the direction table for the step from the class token; rows 0..8 are (row + 1) 3 + column + 1 of a step."""


def zigzag(side: int, corner: str, first: str) -> Tensor:
    """int64 (side^2,): raster indices along the anti-diagonals, walked to and fro.

    first: the direction of the first step, as seen from the corner: "along" its row or "across" to the next one.
    """
    cells = []
    for total in range(2 * side - 1):
        diagonal = [(r, total - r) for r in range(side) if 0 <= total - r < side]
        # Rows rise along a diagonal; the first step along the row ends at row 0.
        turned = (total % 2 == 1) == (first == "along")
        cells += diagonal if turned else diagonal[::-1]
    rows, columns = torch.tensor(cells).unbind(dim=1)
    if corner.startswith("bottom"):
        rows = side - 1 - rows
    if corner.endswith("right"):
        columns = side - 1 - columns
    return rows * side + columns


class _Block(nn.Module):
    """Norms without parameters, scaled and shifted by the condition of every position; no gates are stated."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = Mlp(dim, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 4 * dim))

    def forward(
        self, x: Tensor, c: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        shift, scale, shift2, scale2 = self.adaLN_modulation(c).chunk(4, dim=-1)
        normed = modulate(F.layer_norm(x, x.shape[-1:]), shift, scale)
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(normed).chunk(3, dim=-1))
        q, k = rotate_pairs(q, *turn), rotate_pairs(k, *turn)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        x = x + self.proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        out: Tensor = x + self.mlp(modulate(F.layer_norm(x, x.shape[-1:]), shift2, scale2))
        return out


class Dar(nn.Module):
    """config: grid, codebook_size, code_dim, dim, depth, heads, hidden, num_classes; and without a default: corner,
    first ("along" or "across"), split (channels of a head for row, column, next row, next column), rope_base,
    class_position (row, column). `codebook` is the tokenizer's, frozen (3.4)."""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.grid, self.vocabulary = c.integer("grid"), c.integer("codebook_size")
        self.length, self.pixels = self.grid**2, 16 * self.grid
        dim, heads, self.classes = c.integer("dim"), c.integer("heads"), c.integer("num_classes", 1000)
        check_heads(dim, heads)
        self.split, self.base = c.integers("split", length=4), c.number("rope_base")
        if sum(self.split) != dim // heads or any(n % 2 for n in self.split):
            raise VtbenchError(
                f"config.split is {list(self.split)}, but must be even and share {dim // heads} channels"
            )
        order = zigzag(self.grid, c.choice("corner", CORNERS), c.choice("first", ("along", "across")))
        self.first_place = c.integers("class_position", length=2)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("codebook", torch.zeros(self.vocabulary, c.integer("code_dim", 256)))
        self.project = nn.Linear(self.codebook.shape[1], dim)  # type: ignore[union-attr, arg-type, index]
        self.classes_table, self.directions = nn.Embedding(self.classes + 1, dim), nn.Embedding(OF_CLASS + 1, dim)
        hidden = c.integer("hidden")
        self.blocks = nn.ModuleList(_Block(dim, heads, hidden) for _ in range(c.integer("depth")))
        self.head = nn.Linear(dim, self.vocabulary)
        c.done()

    @property
    def places(self) -> Tensor:
        """float64 (N, 4): row and column of every position of the sequence, and of the token that it predicts."""
        order = self.order.cpu()  # type: ignore[operator]
        cells = torch.stack([order // self.grid, order % self.grid], dim=1).double()
        own = torch.cat([torch.tensor([self.first_place], dtype=torch.float64), cells[:-1]])
        return torch.cat([own, cells], dim=1)

    def conditions(self, labels: Tensor, positions: Tensor) -> Tensor:
        """(B, n, dim): class and direction of the step to the next token."""
        places = self.places
        steps = (places[:, 2:] - places[:, :2]).long()
        rows = (steps[:, 0] + 1) * 3 + steps[:, 1] + 1
        rows[0] = OF_CLASS
        out: Tensor = self.classes_table(labels)[:, None] + self.directions(rows.to(labels.device)[positions])
        return out

    def transform(
        self, x: Tensor, labels: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """x (B, n, dim) at positions of the sequence -> logits (B, n, V) of what follows each."""
        turn = rotary(self.places[positions.cpu()], self.split, self.base, x)
        c = self.conditions(labels, positions)
        for i, block in enumerate(self.blocks):
            x = block(x, c, turn, mask, cache, i)
        return sampling.finite(sampling.widened(self.head(x)), "DAR")

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Raster tokens (B, N), labels (B,) with num_classes for none -> logits (B, N, V), in the order of drawing."""
        known = self.project(self.codebook[tokens[:, self.order[:-1]]])  # type: ignore[index]
        x = torch.cat([self.classes_table(labels)[:, None], known], dim=1)
        positions = torch.arange(self.length, device=x.device)
        return self.transform(x, labels, positions, positions[:, None] >= positions[None], None)

    def generate(
        self, labels: Tensor, noise: sampling.Noise, *, guidance_scale: float, guidance_power: float, cache: bool = True
    ) -> Tensor:
        """Labels (B,) -> raster tokens (B, N). Guidance of token i: 1 + (g - 1) (1 - cos(pi (i / N)^power)) / 2.

        Neither scale nor power is stated. No top-k, no top-p (4.1).
        """
        sampling.number("guidance_scale", guidance_scale)
        sampling.number("guidance_power", guidance_power, above=True)
        sampling.labels_within(labels, self.classes)
        guided = guidance_scale != 1
        both = torch.cat([labels, torch.full_like(labels, self.classes)]) if guided else labels
        kept, x = Cache(), self.classes_table(both)[:, None]
        sequence, drawn = x, list[Tensor]()
        for i in range(self.length):
            if cache:
                logits = self.transform(x, both, torch.tensor([i], device=x.device), None, kept)[:, -1]
            else:
                at = torch.arange(i + 1, device=x.device)
                logits = self.transform(sequence, both, at, at[:, None] >= at[None], None)[:, -1]
            if guided:
                cond, null = logits.chunk(2)
                share = sampling.cosine_power(i / self.length, guidance_power)
                logits = sampling.guide(cond, null, 1 + (guidance_scale - 1) * share)
            drawn.append(sampling.draw(torch.softmax(logits, dim=-1), noise.exponential(self.vocabulary)))
            x = self.project(self.codebook[drawn[-1]])[:, None]  # type: ignore[index]
            x = torch.cat([x, x]) if guided else x
            sequence = torch.cat([sequence, x], dim=1)
        return torch.stack(drawn, dim=1)[:, self.order.argsort()]  # type: ignore[operator]
