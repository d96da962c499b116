"""Codes: the indices of a discrete tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vtbench.types import multisets
from vtbench.types.errors import VtbenchError
from vtbench.types.packing import blob, runs, write_indices
from vtbench.types.token_batch import Tokens, alike, pair, whole

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass
class Codes(Tokens):
    """Indices of a discrete tokenizer.

    indices: int64 (B, positions, books); -1 = absent: a variable-length code that ended earlier, all books at once.
    No bit count sees which books or places are left out, so nothing else may be absent: what need not be there is one
    more symbol of its book.
    alphabets: size of the alphabet of each book, (books,). Residual and product codes and the bits of binary codes are
    books, so that `positions` is what papers call tokens. Multi-scale codes are laid out scale-major, `grids` then
    lists (h, w) of every scale; a single raster grid is one entry; () where positions have no grid.
    variable: the number of positions differs from image to image, so that its value is paid for:
    log2(positions + 1) bits.
    unordered: the code is a multiset (one book, nothing absent): its order says nothing and is kept ascending, and its
    rate is log2 of the number of multisets, C(positions + alphabet - 1, positions).
    """

    indices: torch.Tensor
    alphabets: tuple[int, ...]
    size: tuple[int, int]
    grids: tuple[tuple[int, int], ...] = ()
    variable: bool = False
    unordered: bool = False

    def __post_init__(self) -> None:
        self.alphabets, self.size = whole("alphabets", self.alphabets), pair("size", self.size)
        self.grids = tuple(pair("a grid", grid) for grid in self.grids)
        self.variable, self.unordered = bool(self.variable), bool(self.unordered)
        if self.indices.ndim == 2:
            self.indices = self.indices[..., None]
        if self.indices.ndim != 3 or not self.alphabets or self.indices.shape[2] != len(self.alphabets):
            raise VtbenchError(
                f"codes have shape {tuple(self.indices.shape)} and {len(self.alphabets)} alphabets; "
                "they must be (batch, positions, books) with one alphabet a book, and at least one book"
            )
        self._check_indices()
        if self.unordered:
            if len(self.alphabets) != 1 or self.variable:
                raise VtbenchError(
                    f"an unordered code has one book and a fixed number of positions, not {len(self.alphabets)} books"
                    f"{', a variable length' if self.variable else ''}: leave out unordered, or code its parts alone"
                )
            self.indices = self.indices.sort(dim=1).values

    def _check_indices(self) -> None:
        """Every index in its alphabet; absent ones only where a variable-length code has ended."""
        import torch

        if self.indices.dtype != torch.int64:
            raise VtbenchError(f"codes are {self.indices.dtype}; give torch.int64 indices")
        if not self.indices.numel():
            return
        top, low = self.indices.amax(dim=(0, 1)).tolist(), int(self.indices.min())
        bad = [f"book {b}: {t} >= {a}" for b, (t, a) in enumerate(zip(top, self.alphabets, strict=True)) if t >= a]
        if bad or low < -1:
            raise VtbenchError(
                f"an index lies outside its alphabet ({bad[0] if bad else f'{low} < -1'}): "
                "the card's alphabets or the adapter's packing is wrong"
            )
        if low >= 0:
            return
        if not self.variable:
            raise VtbenchError(
                "tokens are absent (-1) in a code of a fixed length, and which ones is not paid for: set variable=True "
                "on Codes whose number of tokens differs from image to image"
            )
        used = self.present[..., 0]
        length = used.sum(dim=1)
        if not bool((self.present == used[..., None]).all()):
            raise VtbenchError(
                "some books of a position are absent (-1) and others are not, which no bit count sees: give a book "
                "that may be empty a symbol for it"
            )
        if not bool((used == (torch.arange(used.shape[1], device=used.device) < length[:, None])).all()):
            raise VtbenchError(
                "tokens are absent (-1) in the middle of a code, whose places no bit count sees: absent positions "
                "may only end it"
            )
        # How far the longest is padded would tell the decoder something, too.
        self.indices = self.indices[:, : int(length.max())]

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def present(self) -> torch.Tensor:
        """bool (B, positions, books)."""
        return self.indices >= 0

    @property
    def positions(self) -> list[int | None]:
        return [int(n) for n in self.present[..., 0].sum(dim=1)]

    def bits(self) -> np.ndarray[Any, Any]:
        if not self.unordered:
            return self.ordered_bits()
        import numpy as np

        return np.full(len(self), math.log2(multisets.count(self.indices.shape[1], self.alphabets[0])))

    def ordered_bits(self) -> np.ndarray[Any, Any]:
        """Bits of every image as a sequence, (B,) float64: those of `bits` but for an unordered code."""
        import torch

        each = torch.tensor([math.log2(a) for a in self.alphabets], dtype=torch.float64)
        total = (self.present.cpu().double() * each).sum(dim=(1, 2))
        if self.variable:
            # An image's own positions, not the batch's: a batch of four must cost what four of one do.
            total = total + torch.log2(torch.tensor(self.positions, dtype=torch.float64) + 1)
        return total.numpy()

    def layout(self) -> dict[str, Any]:
        out = {
            "kind": "codes",
            "size": list(self.size),
            "alphabets": runs(self.alphabets),
            "grids": [list(grid) for grid in self.grids],
            "variable": self.variable,
            "unordered": self.unordered,
        }
        return out if self.variable else {**out, "positions": int(self.indices.shape[1])}

    def __getitem__(self, index: int) -> Codes:
        one = self.indices[index : index + 1]
        if self.variable:
            # The tail that only pads the image to the longest of its batch is no part of its code.
            one = one[:, : int((one[0, :, 0] >= 0).sum())] if len(one) else one
        return replace(self, indices=one)

    @staticmethod
    def join(parts: Sequence[Any]) -> Codes:
        import torch

        first: Codes = alike(parts)
        longest = max(p.indices.shape[1] for p in parts)
        pad = torch.nn.functional.pad
        indices = [pad(p.indices, (0, 0, 0, longest - p.indices.shape[1]), value=-1) for p in parts]
        return replace(first, indices=torch.cat(indices))

    def pack(self) -> list[bytes]:
        return [self[k]._pack_one() for k in range(len(self))]

    def _pack_one(self) -> bytes:
        """Of a batch of one: nothing of the others, not even their length, is in its bytes."""
        head = {
            "kind": "codes",
            "size": self.size,
            "alphabets": runs(self.alphabets),
            "positions": int(self.indices.shape[1]),
            "grids": self.grids,
            "variable": self.variable,
            "absent": False,
        }
        if self.unordered:
            head["unordered"] = True
            return blob(head, multisets.to_bytes(self.indices[0, :, 0].tolist(), self.alphabets[0]))
        return blob(head, write_indices(self.indices[0].cpu().numpy(), self.alphabets))
