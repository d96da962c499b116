"""Block DCT in progressive order: a variable-length code whose tail can be dropped.

8 x 8 DCT of Y, Cb, Cr (BT.601, full range); every coefficient is rounded to a step and one of 256 symbols. The code
runs through all blocks for one coefficient after the other, coarse ones first, so that every prefix is a picture; what
the budget does not pay for is zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.adapters.networks.parts import patches
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

SIDE, SYMBOLS = 8, 256
STEP_DC, STEP_AC = 8.0, 6.0
"""In grey levels of an orthonormal DCT: DC spans 0..2040 in 256 steps of 8; AC is cut at +-768, beyond most edges."""
CHROMA_DELAY = 10
"""Chroma's coefficients come this many zigzag steps after luma's of the same frequency; its DC, the colour of the
block, right after luma's DC: a block without it is grey, which costs more decibels than any detail."""
CARD = Card(
    name="dct",
    family="dct",
    sources=OURS,
    kind="discrete",
    title="Progressive block DCT",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    alphabets=(SYMBOLS,),
    downsample=SIDE,
    options={"budget": 0.5},
    knob="budget",
    knob_values=(0.375, 0.5, 1.0, 2.0, 4.0),
    note="budget in bits per pixel of the coded image; 8 bits a coefficient",
)


class Dct(Tokenizer):
    takes_budget = True

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        budget = self.options["budget"] if budget is None else budget
        height, width = int(images.shape[2]), int(images.shape[3])
        if not 0 < budget <= 24:
            raise VtbenchError(f"dct: budget is {budget} bits per pixel; give more than 0 and at most 24")
        ycc = torch.einsum("dc,bchw->bdhw", _to_ycc(), images.cpu().double() * 255)
        ycc[:, 0] -= 128
        rows = patches.cut(ycc, SIDE).unflatten(2, (3, SIDE * SIDE)) @ _basis().T
        levels = (rows / _steps()).round().clamp(-128, 127).long() + 128
        symbols = levels.flatten(2)[:, :, _order()].transpose(1, 2).flatten(1)
        kept = max(1, min(symbols.shape[1], int(budget * height * width / math.log2(SYMBOLS))))
        grid = (height // SIDE, width // SIDE)
        return Codes(symbols[:, :kept].contiguous(), (SYMBOLS,), (height, width), (grid,), variable=True)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        blocks = tokens.grids[0][0] * tokens.grids[0][1]
        symbols = torch.full((len(tokens), blocks * 3 * SIDE * SIDE), 128)
        kept = tokens.indices[..., 0]
        symbols[:, : kept.shape[1]] = torch.where(kept >= 0, kept, 128)
        levels = torch.empty(len(tokens), blocks, 3 * SIDE * SIDE, dtype=torch.float64)
        levels[:, :, _order()] = symbols.unflatten(1, (3 * SIDE * SIDE, blocks)).transpose(1, 2).double() - 128
        rows = (levels.unflatten(2, (3, SIDE * SIDE)) * _steps()) @ _basis()
        ycc = patches.join(rows.flatten(2), SIDE, *tokens.size)
        ycc[:, 0] += 128
        return (torch.einsum("dc,bchw->bdhw", torch.linalg.inv(_to_ycc()), ycc) / 255).float()


@functools.cache
def _basis() -> torch.Tensor:
    """Orthonormal DCT-II of 8 x 8, float64 (64, 64): rows are frequencies in raster order."""
    import torch

    k, n = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    one = torch.cos(math.pi * (n + 0.5) * k / SIDE).double() * math.sqrt(2 / SIDE)
    one[0] /= math.sqrt(2)
    return torch.kron(one, one)


@functools.cache
def _to_ycc() -> torch.Tensor:
    """RGB -> Y, Cb, Cr, ITU-R BT.601 full range as in JFIF (Cb and Cr around zero)."""
    import torch

    return torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64
    )


@functools.cache
def _steps() -> torch.Tensor:
    """Step of every coefficient, (64,)."""
    import torch

    return torch.tensor([STEP_DC] + [STEP_AC] * (SIDE * SIDE - 1), dtype=torch.float64)


@functools.cache
def _order() -> torch.Tensor:
    """Places of (channel, frequency) in the order of the code, (192,)."""
    import torch

    zigzag = sorted(range(SIDE * SIDE), key=lambda i: (i // SIDE + i % SIDE, i // SIDE))
    rank = {place: step for step, place in enumerate(zigzag)}

    def turn(place: int) -> tuple[int, int]:
        channel, frequency = divmod(place, SIDE * SIDE)
        delay = 0 if channel == 0 or frequency == 0 else CHROMA_DELAY
        return rank[frequency] + delay, channel

    return torch.tensor(sorted(range(3 * SIDE * SIDE), key=turn))


FAMILY = Family("dct", "Progressive block DCT", (CARD,), Dct)
