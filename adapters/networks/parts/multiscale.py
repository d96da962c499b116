"""Quantizers that work through a pyramid of grids, coarse to fine: VAR's, ImageFolder's and Infinity's.

Each has the methods and layouts that `quantizers` states; positions are scale-major.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.quantizers import Grid, Quantizer, most_similar, nearest, one_book, to_map, to_rows
from vtbench.types.errors import VtbenchError


def phi_index(scales: int, count: int) -> tuple[int, ...]:
    """Which of `count` residual convolutions each of `scales` scales gets, coarse to fine.

    VAR models/quant.py:219-240: the first minimum of |ticks - si / (scales - 1)| in float64, ticks = linspace(t, 1 - t,
    count) with t = 1/3/count for count 4 and 1/2/count otherwise. Several of those are exact ties in rational
    arithmetic that rounding decides, so it must be numpy's float64 and these very expressions.
    """
    edge = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(edge, 1 - edge, count)
    return tuple(int(np.argmin(np.abs(ticks - si / (scales - 1)))) for si in range(scales))


class Phi(nn.Conv2d):
    """x (1 - r) + conv3x3(x) r (VAR models/quant.py:199-206)."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__(dim, dim, 3, padding=1)
        self.ratio = abs(ratio)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 - self.ratio) + super().forward(x) * self.ratio


class Pyramid(Quantizer):
    """Residual quantization over a pyramid of grids, coarse to fine (VAR, arXiv:2404.02905).

    VAR models/quant.py:135-166: at each scale the residual is area-interpolated to (h, w) (not at the last), its rows
    are replaced by codes, these are bicubically enlarged to the full grid (not at the last), refined by Phi, and
    subtracted. What a code is, subclasses say.
    share: 0 = one Phi a scale (keys quant_resi.{i}), 1 = one for all (quant_resi.qresi), n = n of them
    (quant_resi.qresi_ls.{i}) dealt out by `phi_index`. ratio 0: no Phi at all. Positions are scale-major.
    """

    def __init__(
        self,
        dim: int,
        scales: Sequence[Grid],
        *,
        ratio: float = 0.5,
        share: int = 4,
        index: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(scales) < 2:
            raise VtbenchError(f"multi-scale quantization needs two scales or more, not {list(scales)}")
        self.scales = tuple(scales)
        count = share or len(self.scales)
        self.index = tuple(index) if index is not None else phi_index(len(self.scales), count)
        if len(self.index) != len(self.scales) or not set(self.index) <= set(range(count)):
            raise VtbenchError(
                f"phi_index {list(self.index)} does not deal {count} Phi out to {len(self.scales)} scales"
            )
        # |ratio| <= 1e-6 counts as none upstream (models/quant.py:26).
        refine = [Phi(dim, ratio) if abs(ratio) > 1e-6 else nn.Identity() for _ in range(count)]
        self.quant_resi: nn.Module
        if share == 0:
            self.quant_resi = nn.ModuleList(refine)
        elif share == 1:
            self.quant_resi = nn.ModuleDict({"qresi": refine[0]})
        else:
            self.quant_resi = nn.ModuleDict({"qresi_ls": nn.ModuleList(refine)})
        self._share = share

    def choose(self, rows: Tensor) -> Tensor:
        """int64 (n,) indices or (n, bits) for residual rows (n, dim)."""
        raise NotImplementedError

    def codes(self, tokens: Tensor, scale: int) -> Tensor:
        """(n, dim): what `choose`'s answer stands for at scale number `scale`."""
        raise NotImplementedError

    def phi(self, scale: int) -> nn.Module:
        """The refinement of scale number `scale`."""
        if self._share == 1:
            return self.quant_resi.get_submodule("qresi")
        return self.quant_resi.get_submodule(f"{'qresi_ls.' if self._share else ''}{self.index[scale]}")

    def grids(self, grid: Grid) -> tuple[Grid, ...]:
        if self.scales[-1] != grid:
            raise VtbenchError(
                f"the last scale is {self.scales[-1]}, but the latent has {grid[0]} x {grid[1]} cells: "
                "give images of the size that the schedule is made for"
            )
        return self.scales

    def _detail(self, tokens: Tensor, scale: int, grid: Grid) -> Tensor:
        """What scale number `scale` adds: tokens (B, h w[, bits]) -> (B, C, *grid)."""
        codes = to_map(self.codes(tokens.flatten(0, 1), scale), len(tokens), self.scales[scale])
        if scale != len(self.scales) - 1:
            # torch takes a 1 x 1 grid for channels-last memory; all that is computed from it would have that layout.
            codes = F.interpolate(codes, size=grid, mode="bicubic").contiguous()
        added: Tensor = self.phi(scale)(codes)
        return added

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        grid = (z.shape[2], z.shape[3])
        rest, total, tokens = z, torch.zeros_like(z), []
        for scale, size in enumerate(self.grids(grid)):
            seen = rest if scale == len(self.scales) - 1 else F.interpolate(rest, size=size, mode="area")
            tokens.append(torch.unflatten(self.choose(to_rows(seen)), 0, (len(z), -1)))
            added = self._detail(tokens[-1], scale, grid)
            total, rest = total + added, rest - added
        return torch.cat(tokens, dim=1), total

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        parts = torch.split(tokens, [h * w for h, w in self.grids(grid)], dim=1)
        total = self._detail(parts[0], 0, grid)
        for scale, part in enumerate(parts[1:], start=1):
            total = total + self._detail(part, scale, grid)
        return total


class MultiScaleVQ(Pyramid):
    """A pyramid with one codebook for all scales; znorm: rows are chosen by cosine, but the raw row is added.

    Keys: embedding.weight (size, dim) and the Phi. Tokens (B, positions).
    """

    def __init__(
        self,
        size: int,
        dim: int,
        scales: Sequence[Grid],
        *,
        znorm: bool = False,
        ratio: float = 0.5,
        share: int = 4,
        index: Sequence[int] | None = None,
    ) -> None:
        super().__init__(dim, scales, ratio=ratio, share=share, index=index)
        self.embedding = nn.Embedding(size, dim)
        self.znorm = znorm
        self.alphabets = (size,)

    def choose(self, rows: Tensor) -> Tensor:
        if not self.znorm:
            return nearest(rows, self.embedding.weight)
        return most_similar(F.normalize(rows, dim=-1), F.normalize(self.embedding.weight, dim=-1))

    def codes(self, tokens: Tensor, scale: int) -> Tensor:
        rows: Tensor = self.embedding(tokens)
        return rows

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        return super().lookup(one_book(tokens), grid)


class MultiScaleSigns(Pyramid):
    """A pyramid of sign bits: bit c of scale number s is decoded as +scale**s, else -scale**s.

    ImageFolder tokenizer/tokenizer_image/lookup_free_quantize.py:81-128, 318-392. l2_norm: the latent is L2-normalised
    over channels once, before the first scale, and the values are divided by sqrt(bits).
    Keys: the Phi. Tokens (B, positions, bits) of 0/1, bit c = channel c.
    """

    def __init__(
        self,
        bits: int,
        scales: Sequence[Grid],
        *,
        l2_norm: bool,
        scale: float = 1.0,
        ratio: float = 0.5,
        share: int = 4,
        index: Sequence[int] | None = None,
    ) -> None:
        super().__init__(bits, scales, ratio=ratio, share=share, index=index)
        self.l2_norm = l2_norm
        values = [scale**i / (math.sqrt(bits) if l2_norm else 1.0) for i in range(len(self.scales))]
        self.values: Tensor
        # Upstream keeps these constants in the checkpoint, as `scaler`; they are a formula, so we do not load them.
        self.register_buffer("values", torch.tensor(values), persistent=False)
        self.alphabets = (2,) * bits

    def choose(self, rows: Tensor) -> Tensor:
        return (rows > 0).long()

    def codes(self, tokens: Tensor, scale: int) -> Tensor:
        return (tokens * 2 - 1) * self.values[scale]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(F.normalize(z, dim=1) if self.l2_norm else z)


class MultiScaleBSQ(Quantizer):
    """Binary spherical codes over a pyramid of grids, coarse to fine (Infinity, arXiv:2412.04431).

    FoundationVision/Infinity infinity/models/bsq_vae/multiscale_bsq.py:270-392, 588-597: at each scale the residual is
    area-interpolated to (h, w), bit c is 1 where channel c > 0 (upstream L2-normalises before, which moves no sign),
    the code is +-1 / sqrt(bits), enlarged linearly to the full grid, and subtracted. No parameters.
    `schedule` gives the scales of a latent grid. Tokens (B, positions, bits) of 0/1, scale-major, bit c = channel c.
    """

    def __init__(self, bits: int, schedule: Callable[[Grid], Sequence[Grid]]) -> None:
        super().__init__()
        self.alphabets = (2,) * bits
        self._schedule = schedule

    def grids(self, grid: Grid) -> tuple[Grid, ...]:
        return tuple(self._schedule(grid))

    def _detail(self, bits: Tensor, size: Grid, grid: Grid) -> Tensor:
        """What a scale adds: bits (B, h w, C) of 0/1, already of a floating dtype -> (B, C, *grid)."""
        code = to_map(((bits * 2 - 1) / math.sqrt(len(self.alphabets))).flatten(0, 1), len(bits), size)
        return code if size == grid else F.interpolate(code, size=grid, mode="bilinear").contiguous()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        grid = (z.shape[2], z.shape[3])
        rest, total, tokens = z, torch.zeros_like(z), []
        for size in self.grids(grid):
            seen = rest if size == grid else F.interpolate(rest, size=size, mode="area")
            tokens.append((seen > 0).flatten(2).transpose(1, 2))
            added = self._detail(tokens[-1].to(z.dtype), size, grid)
            total, rest = total + added, rest - added
        return torch.cat(tokens, dim=1).long(), total

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        sizes = self.grids(grid)
        parts = torch.split(tokens.to(torch.get_default_dtype()), [h * w for h, w in sizes], dim=1)
        total = self._detail(parts[0], sizes[0], grid)
        for part, size in zip(parts[1:], sizes[1:], strict=True):
            total = total + self._detail(part, size, grid)
        return total
