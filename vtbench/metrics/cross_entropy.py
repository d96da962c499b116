"""What the tokens of a run would cost under counts of the other images: an estimate, no bytes are written.

`entropy-bpp` and `entropy1-bpp` are cross-entropies: each image is coded under add-1/2 counts (Krichevsky and Trofimov
1981) of the images of the *other* fold, so that no image pays with its own histogram; both are null below ten tokens
per symbol of the table, since a histogram of few tokens lies. Bits are divided by the pixels of the scored image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vtbench.metrics._codes import (
    ENOUGH,
    CodesMetric,
    Table,
    alphabets,
    batches,
    codes_card,
    folds,
    indices,
    mean_bits_per_pixel,
)
from vtbench.types.metric import SetValue
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    from vtbench.metrics._codes import Floats, Ints


def neighbours(grids: Sequence[tuple[int, int]], positions: int) -> tuple[Ints, Ints]:
    """Position of the left and of the upper neighbour of every position, -1 = none: two int64 (positions,).

    Within each scale's raster grid; positions without a grid stand in one row, so that left is the previous one.
    """
    import numpy as np

    if sum(h * w for h, w in grids) != positions:
        grids = [(1, positions)]
    left, up, start = [], [], 0
    for height, width in grids:
        raster = np.arange(start, start + height * width).reshape(height, width)
        before = np.full_like(raster, -1)
        before[:, 1:] = raster[:, :-1]
        above = np.full_like(raster, -1)
        above[1:] = raster[:-1]
        left.append(before.ravel())
        up.append(above.ravel())
        start += height * width
    return np.concatenate(left), np.concatenate(up)


class _CrossEntropy(CodesMetric):
    """Bits per pixel of every image under add-1/2 counts of the other fold."""

    order = 0

    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        import numpy as np

        sets = alphabets(tokens)
        fold = folds(tokens)
        if len(set(fold)) < 2:
            return SetValue(None, n=len(tokens), why="all images have the same tokens: there are no others to count")
        cells = [self._cells(alphabet) for alphabet in sets]
        seen = np.zeros((2, len(sets)), dtype=np.int64)
        for f, x in zip(fold, indices(tokens), strict=True):
            seen[f] += (x >= 0).sum(axis=0)
        few = self._too_few(seen, cells)
        if few:
            return SetValue(None, n=len(tokens), why=few)
        costs = self._costs(tokens, fold, sets, cells)
        encoded = self._encoded(tokens, sets, cells)
        bits = np.array(
            [sum(float(costs[1 - f][one].sum()) for one in books) for f, books in zip(fold, encoded, strict=True)]
        )
        details = {
            "bits_per_image": float(bits.mean()),
            "bits_per_position": float(bits.sum() / int(seen.sum(axis=0).max())),
            "order": self.order,
            "folds": 2,
            "prior": "add 1/2",
        }
        return mean_bits_per_pixel(bits + _length_bits(tokens), sizes, details)

    def _too_few(self, seen: Ints, cells: Sequence[int]) -> str | None:
        """The reason why tables of so many cells cannot be filled; seen: tokens (2 folds, books)."""
        for book, size in enumerate(cells):
            least = int(seen[:, book].min())
            if least < ENOUGH * size:
                what = "symbols" if self.order == 0 else "cells (symbol given left and upper neighbour)"
                which = f" of book {book}" if len(cells) > 1 else ""
                return f"{least} tokens{which} in a fold for {size} {what}: under ten each, an estimate would lie"
        return None

    def _costs(
        self, tokens: Sequence[Tokens], fold: Sequence[int], sets: Sequence[int], cells: Sequence[int]
    ) -> list[Floats]:
        """Bits of every cell under the counts of each fold; the books' cells stand one after the other."""
        import numpy as np

        starts = _starts(cells)
        tables = [Table(int(starts[-1])), Table(int(starts[-1]))]
        for f, books in zip(fold, self._encoded(tokens, sets, cells), strict=True):
            for present in books:
                tables[f].add(present)
        costs = []
        for table in tables:
            counts = table.flush().astype(np.float64) + 0.5
            cost = np.empty_like(counts)
            for book, size in enumerate(sets):
                part = counts[starts[book] : starts[book + 1]].reshape(-1, size)
                cost[starts[book] : starts[book + 1]] = -np.log2(part / part.sum(axis=1, keepdims=True)).ravel()
            costs.append(cost)
        return costs

    def _encoded(self, tokens: Sequence[Tokens], sets: Sequence[int], cells: Sequence[int]) -> Iterator[list[Ints]]:
        """Of every image the cells of its present tokens, book by book, among the cells of all books."""
        starts = _starts(cells)
        for some in batches(tokens):
            around = self._around(some)
            for x in some.indices.cpu().numpy():
                yield [self._encode(x[:, book], size, around) + starts[book] for book, size in enumerate(sets)]

    def _cells(self, alphabet: int) -> int:
        """Cells of the table of a book."""
        return alphabet

    def _around(self, some: Codes) -> Sequence[Ints]:
        """The positions whose tokens are a token's context, for every position of such images."""
        return ()

    def _encode(self, x: Ints, alphabet: int, around: Sequence[Ints]) -> Ints:
        """The cell of every present token of one book, whose indices are x (positions,)."""
        import numpy as np

        return x[np.flatnonzero(x >= 0)]


def _starts(cells: Sequence[int]) -> Ints:
    """Where each book's cells begin, and where the last ones end."""
    import numpy as np

    return np.concatenate([[0], np.cumsum(cells)])


def _length_bits(tokens: Sequence[Tokens]) -> Floats:
    """The length of a variable-length code is paid for as in its flat prior."""
    import numpy as np

    each = ([math.log2(t.indices.shape[1] + 1) if t.variable else 0.0] * len(t) for t in batches(tokens))
    return np.fromiter(itertools.chain.from_iterable(each), np.float64)


class Entropy(_CrossEntropy):
    """Order 0: each token under the counts of its book in the other fold."""

    card = codes_card(
        "entropy-bpp",
        "Entropy-coded bits per pixel, order 0",
        "bit/px",
        "lower",
        "cross-entropy under add-1/2 counts of the other fold's images; an estimate, no bytes are written",
    )


class EntropyNeighbours(_CrossEntropy):
    """Order 1: each token given its left and its upper neighbour (the border is a symbol of its own)."""

    order = 1
    card = codes_card(
        "entropy1-bpp",
        "Entropy-coded bits per pixel, given left and upper neighbour",
        "bit/px",
        "lower",
        "cross-entropy given both neighbours, add-1/2 counts of the other fold's images; no bytes are written",
    )

    def _cells(self, alphabet: int) -> int:
        return (alphabet + 1) ** 2 * alphabet

    def _around(self, some: Codes) -> Sequence[Ints]:
        return neighbours(some.grids, some.indices.shape[1])

    def _encode(self, x: Ints, alphabet: int, around: Sequence[Ints]) -> Ints:
        import numpy as np

        left, up = around
        padded = np.append(x, -1)
        # An absent neighbour, or none, is symbol 0 of its context; -1 indexes the padding.
        context = (padded[left] + 1) * (alphabet + 1) + padded[up] + 1
        present = np.flatnonzero(x >= 0)
        return context[present] * alphabet + x[present]


METRICS = (Entropy, EntropyNeighbours)
