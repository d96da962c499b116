"""Byte pairs over the tokens of images: plain merging of a sequence, and the rules of Being-VL.

Being-VL (BeingBeyond/Being-VL-0.5 at c63a5c79, beingvl/model/vbpe.py:10-154; https://arxiv.org/abs/2506.23639) merges a
pair only if its first id is the smaller, and has two rules. The 1-D rule reads an image's ids as a sequence, and can be
undone. The 2-D rule counts pairs of neighbours to the right, below and diagonally below; where a cell is the first of
the pair it takes in the cell to its right, or else the one below, and which of the two is not kept: it cannot be
undone. What it leaves is a flat sequence, so that from the second merge on it is the 1-D rule, over neighbours that
were none in the image. (Its third, L-shaped case is never reached.) Upstream counts in parallel without a lock and
alters its input; here counting is serial and inputs are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Ids = np.ndarray[Any, Any]
    """int64: (h, w), a grid for the 2-D rule, or (n,), a sequence."""


def merged(tokens: Ids, a: int, b: int, new: int) -> Ids:
    """Every pair (a, b) of a sequence, left to right without overlap, becomes `new`."""
    import numpy as np

    hits = np.flatnonzero((tokens[:-1] == a) & (tokens[1:] == b))
    if a == b and len(hits) > 1:
        kept, last = [], -2
        for hit in hits.tolist():
            if hit > last + 1:
                kept.append(hit)
                last = hit
        hits = np.array(kept)
    out = tokens.copy()
    out[hits] = new
    return np.delete(out, hits + 1)


def merged_in_grid(grid: Ids, a: int, b: int, new: int) -> tuple[Ids, list[bool]]:
    """(the sequence that is left of a grid by the 2-D rule, of every `new` in it whether it took the cell below)."""
    import numpy as np

    height, width = grid.shape
    flat = grid.flatten()
    gone = np.zeros(flat.shape, bool)
    below = []
    for cell in np.flatnonzero(flat == a).tolist():
        for step, there in ((1, cell % width < width - 1), (width, cell < (height - 1) * width)):
            if there and flat[cell + step] == b and not gone[cell + step]:
                flat[cell], gone[cell + step] = new, True
                below.append(step == width)
                break
    return flat[~gone], below


def encode(ids: Ids, pairs: Iterable[Sequence[int]], alphabet: int) -> Ids:
    """The sequence of an image's ids after all merges: pair k becomes the id `alphabet` + k."""
    for new, (a, b) in enumerate(pairs, alphabet):
        ids = merged(ids, a, b, new) if ids.ndim == 1 else merged_in_grid(ids, a, b, new)[0]
    return ids.flatten()


def _neighbours(ids: Ids) -> list[tuple[Ids, Ids]]:
    """(first, second) of every kind of pair that is counted in an image."""
    if ids.ndim == 1:
        return [(ids[:-1], ids[1:])]
    return [(ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:]), (ids[:-1, :-1], ids[1:, 1:])]


def train(images: Sequence[Ids], alphabet: int, merges: int) -> tuple[Ids, list[Ids]]:
    """(pairs, int64 (made, 2), the images after them): the most frequent pair of neighbours, `merges` times.

    images: grids for the 2-D rule, sequences for the 1-D rule. Of equally frequent pairs the least in (first, second)
    is taken; fewer pairs than `merges` are made where no pair of a smaller and a larger id is left.
    """
    import numpy as np

    pairs: list[tuple[int, int]] = []
    images = list(images)
    for new in range(alphabet, alphabet + merges):
        size = new
        keys = []
        for image in images:
            for first, second in _neighbours(image):
                rising = first < second
                keys.append(first[rising] * size + second[rising])
        kinds, counts = np.unique(np.concatenate([np.empty(0, np.int64), *keys]), return_counts=True)
        if not len(kinds):
            break
        a, b = divmod(int(kinds[counts.argmax()]), size)
        pairs.append((a, b))
        images = [merged(i, a, b, new) if i.ndim == 1 else merged_in_grid(i, a, b, new)[0] for i in images]
    return np.array(pairs, np.int64).reshape(-1, 2), images


def spelled(pairs: Iterable[Sequence[int]], alphabet: int, first: int = 0) -> list[list[int]]:
    """What every id stands for: itself below `alphabet` + `first`, the ids of its two parts from there on."""
    out = [[k] for k in range(alphabet)]
    for rank, (a, b) in enumerate(pairs):
        out.append(out[a] + out[b] if rank >= first else [alphabet + rank])
    return out


def grid_of(
    tokens: Iterable[int],
    pairs: Sequence[Sequence[int]],
    alphabet: int,
    size: tuple[int, int],
    below: Sequence[bool] | None = None,
) -> Ids:
    """The (h, w) grid that the 2-D rule's sequence may have come from.

    below: of every pair that the first merge joined, in order, whether its second stood below: with it the grid is
    exact. Without it nobody can know; the second is then put to the right of the first where that cell is free, or else
    below, and what is left where neither is free stands in the next free cell.
    """
    import numpy as np

    height, width = size
    cells = np.full(height * width, -1, np.int64)
    known = iter(below or ())
    words = spelled(pairs, alphabet, first=1)
    flat = [part for token in tokens for part in words[token]]
    at = 0
    while flat:
        part = flat.pop(0)
        while at < len(cells) and cells[at] >= 0:
            at += 1
        if at >= len(cells):
            break
        if part < alphabet:
            cells[at] = part
            continue
        first, second = pairs[0]
        cells[at] = first
        right = at % width < width - 1 and cells[at + 1] < 0
        down = at + width < len(cells) and cells[at + width] < 0
        if next(known, not right) and down:
            cells[at + width] = second
        elif right:
            cells[at + 1] = second
        else:
            flat.insert(0, second)
    return cells.reshape(height, width)


def replay(facts: Mapping[str, Any], arrays: Mapping[str, Ids]) -> dict[str, Ids]:
    """What our rules make of a fixture of schema "bpe-1": its outputs by name, padded with -1 as upstream's are."""
    import numpy as np

    alphabet = int(facts["alphabet"])
    pairs, trained = train(list(arrays["train"]), alphabet, int(facts["num_merges"]))
    test = [encode(ids, pairs.tolist(), alphabet) for ids in arrays["test"]]
    shifted = [_as_vocabulary(ids, pairs.tolist(), facts) for ids in arrays["test"] if ids.size == 32 * 32]

    def table(rows: Sequence[Ids]) -> Ids:
        longest = max(map(len, rows))
        return np.stack([np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows])

    lengths = {"encoded_length": test, "encoded_train_length": trained}
    return {
        "merges": np.column_stack([pairs, alphabet + np.arange(len(pairs))]),
        "encoded": table(test),
        "encoded_train": table([ids.flatten() for ids in trained]),
        **({"shifted": table(shifted)} if shifted else {}),
        **{name: np.array([len(ids) for ids in rows]) for name, rows in lengths.items()},
    }


def _as_vocabulary(ids: Ids, pairs: Sequence[Sequence[int]], facts: Mapping[str, Any]) -> Ids:
    """An image's code as upstream's language model reads it (trans_token, :148-154), which takes every image for a grid
    of 32 x 32, that of the 1-D rule too: base ids from `vocab_pad` on, those of pairs from `vocab_end` on."""
    import numpy as np

    alphabet, pad = int(facts["alphabet"]), int(facts["vocab_pad"])
    code = encode(ids.reshape(32, 32), pairs, alphabet) + pad
    start = alphabet + pad
    return np.where(code >= start, code + int(facts["vocab_end"]) - start, code)
