"""Quantizers of native networks that work on one grid, one class a rule; parameter names are upstream's.

Those that work through a pyramid of grids are in `multiscale`.

Every quantizer is an `nn.Module` with `alphabets`, and

    forward(z)            float (B, C, h, w) -> (tokens int64 (B, positions[, books]), quantized float (B, C, h, w))
    lookup(tokens, grid)  tokens as above, grid (h, w) of the latent -> quantized (B, C, h, w)
    grids(grid)           the raster grids that the positions of a latent of (h, w) cells run through

`quantized` are the exact codes: upstream's straight-through form z + (q - z) differs from them by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.types.errors import VtbenchError

Grid = tuple[int, int]

# Entries of the (positions, codes) table held at once: 2**25 float32 are 128 MiB.
TABLE = 2**25


def to_rows(z: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C), raster order."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def to_map(rows: Tensor, batch: int, grid: Grid) -> Tensor:
    """(B h w, C) -> (B, C, h, w)."""
    return rows.reshape(batch, *grid, rows.shape[-1]).permute(0, 3, 1, 2).contiguous()


def _wide(x: Tensor) -> Tensor:
    """At least float32: in half precision near codes could not be told apart."""
    return x if x.dtype == torch.float64 else x.float()


def nearest(z: Tensor, codes: Tensor) -> Tensor:
    """int64 (n,): for every row of z (n, D) the row of codes (K, D) of least squared distance, the first if equal."""
    z, codes = _wide(z), _wide(codes)
    squares = codes.square().sum(dim=1)
    step = max(1, TABLE // len(codes))
    parts = [
        torch.addmm(part.square().sum(dim=1, keepdim=True) + squares, part, codes.t(), alpha=-2).argmin(dim=1)
        for part in torch.split(z, step)
    ]
    return torch.cat(parts)


def most_similar(z: Tensor, codes: Tensor) -> Tensor:
    """int64 (n,): for every row of z (n, D) the row of codes (K, D) of greatest dot product, the first if equal."""
    z, codes = _wide(z), _wide(codes)
    step = max(1, TABLE // len(codes))
    return torch.cat([(part @ codes.t()).argmax(dim=1) for part in torch.split(z, step)])


def one_book(tokens: Tensor) -> Tensor:
    """(B, positions), whether or not the axis of a single book is there."""
    return tokens[..., 0] if tokens.ndim == 3 and tokens.shape[2] == 1 else tokens


class Quantizer(nn.Module):
    """What all quantizers on one raster grid share."""

    alphabets: tuple[int, ...]

    def grids(self, grid: Grid) -> tuple[Grid, ...]:
        return (grid,)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        raise NotImplementedError


class VQ(Quantizer):
    """Nearest codebook row in squared L2 (van den Oord et al. 2017, arXiv:1711.00937).

    l2_norm: latent and rows are L2-normalised over channels first, and the normalised row is what is decoded
    (ViT-VQGAN, arXiv:2110.04627; LlamaGen tokenizer/tokenizer_image/vq_model.py:220-275).
    Key: embedding.weight (size, dim).
    """

    def __init__(self, size: int, dim: int, *, l2_norm: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, dim)
        self.l2_norm = l2_norm
        self.alphabets = (size,)

    @property
    def codes(self) -> Tensor:
        """(size, dim): the rows as they are compared and decoded."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=-1) if self.l2_norm else weight

    def choose(self, rows: Tensor) -> Tensor:
        """int64 (n,) for rows (n, dim)."""
        return nearest(F.normalize(rows, dim=-1) if self.l2_norm else rows, self.codes)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.choose(to_rows(z)).reshape(len(z), -1)
        return tokens, self.lookup(tokens, (z.shape[2], z.shape[3]))

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = one_book(tokens)
        rows = self.embedding(tokens.reshape(-1))
        return to_map(F.normalize(rows, dim=-1) if self.l2_norm else rows, len(tokens), grid)


class DotVQ(VQ):
    """Row of the greatest dot product with the latent, nothing normalised (IBQ, arXiv:2412.02692).

    SEED-Voken src/IBQ/modules/vqvae/quantize.py:433-446. Key: embedding.weight (size, dim).
    """

    def choose(self, rows: Tensor) -> Tensor:
        return most_similar(rows, self.embedding.weight)


class GumbelVQ(Quantizer):
    """argmax of the logits that a 1x1 convolution gives (taming modules/vqvae/quantize.py:110-198).

    Upstream draws Gumbel noise in evaluation too; here it is zero, so that tokens are a function of the image.
    Keys: proj.{weight,bias} (size, dim, 1, 1), embed.weight (size, dim).
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, size, 1)
        self.embed = nn.Embedding(size, dim)
        self.alphabets = (size,)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.proj(z).argmax(dim=1).flatten(1)
        return tokens, self.lookup(tokens, (z.shape[2], z.shape[3]))

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = one_book(tokens)
        return to_map(self.embed(tokens.reshape(-1)), len(tokens), grid)


class SignBits(Quantizer):
    """Lookup-free: bit c of a position is 1 where channel c > 0, and is decoded as +scale, else -scale.

    LFQ (MAGVIT-v2, arXiv:2310.05737). Tokens (B, positions, bits) of 0/1, bit c = channel c. No parameters.
    """

    def __init__(self, bits: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.alphabets = (2,) * bits

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tokens = (z > 0).flatten(2).transpose(1, 2).long()
        return tokens, self.lookup(tokens, (z.shape[2], z.shape[3])).to(z.dtype)

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = tokens[..., None] if tokens.ndim == 2 else tokens
        signs = (tokens.to(torch.get_default_dtype()) * 2 - 1) * self.scale
        return to_map(signs.reshape(-1, tokens.shape[2]), len(tokens), grid)


class ResidualVQ(Quantizer):
    """Depth by depth the nearest row to what the earlier depths left over; the code is the sum (arXiv:2203.01941).

    kakaobrain/rq-vae-transformer rqvae/models/rqvae/quantizations.py:150-312. `fold` = (rH, rW): patches of that many
    cells are folded into channels, order (rH, rW, C), so that the code grid is that much smaller than the latent's.
    `padding` rows at the end of each codebook are never chosen. `shared`: one codebook under `depth` names.
    Keys: codebooks.{i}.weight (size_i + padding, rH rW dim). Tokens (B, positions, depth).
    """

    def __init__(
        self, sizes: Sequence[int], dim: int, *, fold: Grid = (1, 1), shared: bool = False, padding: int = 0
    ) -> None:
        super().__init__()
        self.fold, self.padding = fold, padding
        if shared and len(set(sizes)) > 1:
            raise VtbenchError(f"a shared codebook has one size, not {list(sizes)}: give one size or unshare it")
        width = fold[0] * fold[1] * dim
        books = [nn.Embedding(size + padding, width) for size in (sizes[:1] if shared else sizes)]
        self.codebooks = nn.ModuleList(books * len(sizes) if shared else books)
        self.alphabets = tuple(sizes)

    def grids(self, grid: Grid) -> tuple[Grid, ...]:
        (h, w), (r, s) = grid, self.fold
        if h % r or w % s:
            raise VtbenchError(f"a latent of {h} x {w} cells cannot be folded by {r} x {s}: choose another image size")
        return ((h // r, w // s),)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        grid = (z.shape[2], z.shape[3])
        ((h, w),), (r, s), batch, dim = self.grids(grid), self.fold, len(z), z.shape[1]
        rest = (
            z.permute(0, 2, 3, 1).reshape(batch, h, r, w, s, dim).permute(0, 1, 3, 2, 4, 5).reshape(batch * h * w, -1)
        )
        tokens = []
        for book in self.codebooks:
            weight: Tensor = book.get_parameter("weight")
            rows = weight[: len(weight) - self.padding]
            tokens.append(nearest(rest, rows))
            rest = rest - rows[tokens[-1]]
        stacked = torch.stack(tokens, dim=1).reshape(batch, h * w, len(tokens))
        # Tokens of a single book are (B, positions), without an axis of books.
        return stacked[..., 0] if len(tokens) == 1 else stacked, self.lookup(stacked, grid)

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        ((h, w),), (r, s), batch = self.grids(grid), self.fold, len(tokens)
        tokens = tokens[..., None] if tokens.ndim == 2 else tokens
        parts = zip(self.codebooks, tokens.unbind(dim=2), strict=True)
        total = torch.stack([book(index) for book, index in parts]).sum(dim=0)
        cells = total.reshape(batch, h, w, r, s, -1).permute(0, 5, 1, 3, 2, 4)
        return cells.reshape(batch, -1, h * r, w * s)


class MultiCodebookVQ(Quantizer):
    """Channels in equal chunks, each with a codebook of its own, chosen by cosine (UniTok, arXiv:2502.20321).

    FoundationVision/UniTok models/quant.py:122-175: the L2-normalised row is what is decoded.
    Keys: codebooks.{i}.codebook.weight (size, dim / books). Tokens (B, positions, books).
    """

    def __init__(self, books: int, size: int, dim: int) -> None:
        super().__init__()
        if dim % books:
            raise VtbenchError(f"{books} codebooks do not divide a width of {dim}: change one of them")
        self.codebooks = nn.ModuleList(
            nn.ModuleDict({"codebook": nn.Embedding(size, dim // books)}) for _ in range(books)
        )
        self.alphabets = (size,) * books

    def _codes(self) -> list[Tensor]:
        """The normalised rows of every book."""
        return [F.normalize(next(book.parameters()), dim=1) for book in self.codebooks]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        chunks = to_rows(z).chunk(len(self.codebooks), dim=1)
        indices = [
            most_similar(F.normalize(rows, dim=-1), codes) for rows, codes in zip(chunks, self._codes(), strict=True)
        ]
        tokens = torch.stack(indices, dim=1).reshape(len(z), -1, len(indices))
        return tokens, self.lookup(tokens, (z.shape[2], z.shape[3]))

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        books = tokens.flatten(0, 1).unbind(1) if tokens.ndim == 3 else (tokens.flatten(),)
        rows = [codes[index] for index, codes in zip(books, self._codes(), strict=True)]
        return to_map(torch.cat(rows, dim=1), len(tokens), grid)
