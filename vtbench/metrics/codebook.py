"""What the tokens of a run would cost under a model of them, and how the codebook is used.

`entropy-bpp` and `entropy1-bpp` are cross-entropies: each image is coded under add-1/2 counts (Krichevsky and Trofimov
1981) of the images of the *other* fold, so that no image pays with its own histogram; both are null below ten tokens
per symbol of the table, since a histogram of few tokens lies. `coded-bpp` counts bytes that constriction's range coder
really wrote for each image alone, decoded again and compared. Bits are divided by the pixels of the scored image.

Two folds: the distinct images in the order of the sha256 of their tokens, alternating; so folds do not depend on the
order of images, and two images with equal tokens are in one fold.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.statistics.intervals import mean_interval
from vtbench.types.metric import MetricCard, SetValue, TokenMetric
from vtbench.types.tokens import Codes, Latents, Tokens

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ENOUGH = 10
"""Tokens per symbol (per cell of a table) of a fold below which an entropy is null."""
JOINT = 2**18
"""Up to this product the books of a position are one codebook (the bits of an LFQ code, the levels of FSQ)."""
CURVE = 12
"""Points of the rarefaction curve."""
_CHUNK = 2_000_000

NO_CODES = "this system sends no discrete codes"


def why_not(tokens: Sequence[Tokens]) -> str | None:
    """The reason why codes cannot be counted, or None."""
    if not len(tokens):
        return "no image was scored"
    first = tokens[0]
    if isinstance(first, Latents):
        dtype = str(first.values.dtype).removeprefix("torch.")
        return f"continuous latents ({dtype}): counts of symbols have no meaning; their rate is that of the raw dtype"
    if not isinstance(first, Codes):
        return NO_CODES
    return None


def indices(tokens: Sequence[Tokens]) -> Iterator[Ints]:
    """Every image's indices, int64 (positions, books), -1 = absent."""
    for one in tokens:
        assert isinstance(one, Codes)
        yield one.indices[0].cpu().numpy()


def alphabets(tokens: Sequence[Tokens]) -> tuple[int, ...]:
    first = tokens[0]
    assert isinstance(first, Codes)
    return first.alphabets


def folds(tokens: Sequence[Tokens]) -> tuple[int, ...]:
    """Fold (0 or 1) of every image."""
    digests = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest() for x in indices(tokens)]
    place = {d: i % 2 for i, d in enumerate(sorted(set(digests)))}
    return tuple(place[d] for d in digests)


class Table:
    """Counts of cells, gathered in chunks so that large tables are touched seldom."""

    def __init__(self, cells: int) -> None:
        self.counts: Ints = np.zeros(cells, dtype=np.int64)
        self._waiting: list[Ints] = []
        self._held = 0

    def add(self, cells: Ints) -> None:
        self._waiting.append(cells)
        self._held += len(cells)
        if self._held > _CHUNK:
            self.flush()

    def flush(self) -> Ints:
        if self._waiting:
            self.counts += np.bincount(np.concatenate(self._waiting), minlength=len(self.counts))
            self._waiting, self._held = [], 0
        return self.counts


def neighbours(grids: Sequence[tuple[int, int]], positions: int) -> tuple[Ints, Ints]:
    """Position of the left and of the upper neighbour of every position, -1 = none: two int64 (positions,).

    Within each scale's raster grid; positions without a grid stand in one row, so that left is the previous one.
    """
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


class _CrossEntropy(TokenMetric):
    """Bits per pixel of every image under add-1/2 counts of the other fold."""

    order = 0

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        if why:
            return SetValue(None, n=len(tokens), why=why)
        sets = alphabets(tokens)
        fold = folds(tokens)
        if len(set(fold)) < 2:
            return SetValue(None, n=len(tokens), why="all images have the same tokens: there are no others to count")
        cells = [self._cells(tokens, a) for a in sets]
        seen = np.zeros((2, len(sets)), dtype=np.int64)
        for f, x in zip(fold, indices(tokens), strict=True):
            seen[f] += (x >= 0).sum(axis=0)
        for book, size in enumerate(cells):
            least = int(seen[:, book].min())
            if least < ENOUGH * size:
                what = "symbols" if self.order == 0 else "cells (symbol given left and upper neighbour)"
                which = f" of book {book}" if len(sets) > 1 else ""
                return SetValue(
                    None,
                    n=len(tokens),
                    why=f"{least} tokens{which} in a fold for {size} {what}: under ten each, an estimate would lie",
                )
        offsets = np.concatenate([[0], np.cumsum(cells)])
        tables = [Table(int(offsets[-1])), Table(int(offsets[-1]))]
        for f, one in zip(fold, tokens, strict=True):
            for book in range(len(sets)):
                tables[f].add(self._encode(one, book, sets[book])[0] + offsets[book])
        logs = []
        for table in tables:
            counts = table.flush().astype(np.float64) + 0.5
            cost = np.empty_like(counts)
            for book, size in enumerate(sets):
                part = counts[offsets[book] : offsets[book + 1]].reshape(-1, size)
                cost[offsets[book] : offsets[book + 1]] = -np.log2(part / part.sum(axis=1, keepdims=True)).ravel()
            logs.append(cost)
        bits = np.array(
            [
                sum(
                    float(logs[1 - f][self._encode(one, book, size)[0] + offsets[book]].sum())
                    for book, size in enumerate(sets)
                )
                for f, one in zip(fold, tokens, strict=True)
            ]
        )
        bpp = _per_pixel(bits + _length_bits(tokens), sizes)
        count = int(seen.sum(axis=0).max())
        details = {
            "bits_per_image": float(bits.mean()),
            "bits_per_position": float(bits.sum() / count),
            "order": self.order,
            "folds": 2,
            "prior": "add 1/2",
        }
        return _score(bpp, details)

    def _cells(self, tokens: Sequence[Tokens], alphabet: int) -> int:
        return alphabet

    def _encode(self, one: Tokens, book: int, alphabet: int) -> tuple[Ints, Ints]:
        """Cell of every present token of one book; and which positions those are."""
        assert isinstance(one, Codes)
        x = one.indices[0, :, book].cpu().numpy()
        present = np.flatnonzero(x >= 0)
        return x[present], present


def _length_bits(tokens: Sequence[Tokens]) -> Floats:
    """The length of a variable-length code is paid for as in its flat prior."""
    return np.array([math.log2(t.indices.shape[1] + 1) if isinstance(t, Codes) and t.variable else 0.0 for t in tokens])


def _per_pixel(bits: Floats, sizes: Sequence[tuple[int, int]]) -> Floats:
    return bits / np.array([h * w for h, w in sizes], dtype=np.float64)


def _score(values: Floats, details: dict[str, Any]) -> SetValue:
    found = mean_interval(list(values), bounds=(0.0, None))
    assert found is not None
    return SetValue(found.value, found.low, found.high, found.n, details=details, per_image=[float(v) for v in values])


def _card(name: str, title: str, unit: str, better: Any, source: str, **more: Any) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit=unit,
        better=better,
        source=source,
        bounds=(0.0, None),
        kind="tokens",
        paired=False,
        **more,
    )


class Entropy(_CrossEntropy):
    """Order 0: each token under the counts of its book in the other fold."""

    card = _card(
        "entropy-bpp",
        "Entropy-coded bits per pixel, order 0",
        "bit/px",
        "lower",
        "cross-entropy under add-1/2 counts of the other fold's images; an estimate, no bytes are written",
    )


class EntropyNeighbours(_CrossEntropy):
    """Order 1: each token given its left and its upper neighbour (the border is a symbol of its own)."""

    order = 1
    card = _card(
        "entropy1-bpp",
        "Entropy-coded bits per pixel, given left and upper neighbour",
        "bit/px",
        "lower",
        "cross-entropy given both neighbours, add-1/2 counts of the other fold's images; no bytes are written",
    )

    def _cells(self, tokens: Sequence[Tokens], alphabet: int) -> int:
        return (alphabet + 1) ** 2 * alphabet

    def _encode(self, one: Tokens, book: int, alphabet: int) -> tuple[Ints, Ints]:
        assert isinstance(one, Codes)
        x = one.indices[0, :, book].cpu().numpy()
        left, up = neighbours(one.grids, len(x))
        padded = np.append(x, -1)
        # An absent neighbour, or none, is symbol 0 of its context; -1 indexes the padding.
        context = (padded[left] + 1) * (alphabet + 1) + padded[up] + 1
        present = np.flatnonzero(x >= 0)
        return context[present] * alphabet + x[present], present


class Coded(TokenMetric):
    """Bytes of a range coder, each image alone, under a static order-0 model of the other fold; decoded and compared.

    The model (the other fold's counts + 1/2) is what a decoder would have to own: its size, packed by zlib, is in the
    details and not in the rate. Header bytes (the length of a variable-length code) are in the rate.
    """

    card = _card(
        "coded-bpp",
        "Written bits per pixel",
        "bit/px",
        "lower",
        "bytes written by constriction's range coder (32-bit words), order-0 model of the other fold's images",
    )

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        if why:
            return SetValue(None, n=len(tokens), why=why)
        fold = folds(tokens)
        if len(set(fold)) < 2:
            return SetValue(None, n=len(tokens), why="all images have the same tokens: no other to make a model of")
        sets = alphabets(tokens)
        offsets = np.concatenate([[0], np.cumsum(sets)])
        tables = [Table(int(offsets[-1])), Table(int(offsets[-1]))]
        for f, x in zip(fold, indices(tokens), strict=True):
            for book in range(len(sets)):
                column = x[:, book]
                tables[f].add(column[column >= 0] + offsets[book])
        models = [
            [_model(t.flush()[offsets[b] : offsets[b + 1]]) if a > 1 else None for b, a in enumerate(sets)]
            for t in tables
        ]
        variable = bool(getattr(tokens[0], "variable", False))
        body, header = [], []
        for f, x in zip(fold, indices(tokens), strict=True):
            words, head = _write(x, models[1 - f], variable)
            back = _read(words, head, x.shape, models[1 - f])
            if not np.array_equal(back, x):
                return SetValue(None, n=len(tokens), why="the range coder did not return what was written")
            body.append(4 * len(words))
            header.append(len(head))
        total = np.array(body, dtype=np.float64) + np.array(header)
        model_bytes = [len(zlib.compress(t.flush().astype("<u4").tobytes(), 9)) for t in tables]
        details = {
            "bytes_per_image": float(total.mean()),
            "header_bytes_per_image": float(np.mean(header)),
            "model_bytes": int(max(model_bytes)),
            "decoded_and_compared": len(tokens),
            "model_is_counted": False,
        }
        return _score(_per_pixel(8 * total, sizes), details)


def _model(counts: Ints) -> Any:
    import constriction

    weights = counts.astype(np.float64) + 0.5
    return constriction.stream.model.Categorical((weights / weights.sum()).astype(np.float64), perfect=False)


def _varint(value: int) -> bytes:
    """Seven bits a byte, low bits first, the top bit set on all but the last byte (LEB128)."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _write(x: Ints, models: Sequence[Any], variable: bool) -> tuple[Any, bytes]:
    """(uint32 words, header) of one image's (positions, books).

    The header is empty where every token is present and the length is fixed; else a byte 1 and the number of positions
    where every book ends at one place, or a byte 2 and a bit mask of presence.
    """
    import constriction

    encoder = constriction.stream.queue.RangeEncoder()
    present = x >= 0
    for book, model in enumerate(models):
        column = x[present[:, book], book]
        if model is not None and len(column):
            encoder.encode(np.ascontiguousarray(column, dtype=np.int32), model)
    used = int(present.any(axis=1).sum())
    if present.all() and not variable:
        head = b""
    elif present[:used].all():
        head = b"\x01" + _varint(used)
    else:
        head = b"\x02" + np.packbits(present).tobytes()
    return encoder.get_compressed(), head


def _read(words: Any, head: bytes, shape: tuple[int, ...], models: Sequence[Any]) -> Ints:
    """The image's (positions, books) from words, header and models alone."""
    import constriction

    decoder = constriction.stream.queue.RangeDecoder(words)
    present = np.ones(shape, dtype=bool)
    if head[:1] == b"\x01":
        present[sum((byte & 127) << 7 * i for i, byte in enumerate(head[1:])) :] = False
    elif head[:1] == b"\x02":
        present = (
            np.unpackbits(np.frombuffer(head[1:], np.uint8), count=shape[0] * shape[1]).reshape(shape).astype(bool)
        )
    out = np.full(shape, -1, dtype=np.int64)
    for book, model in enumerate(models):
        count = int(present[:, book].sum())
        if count:
            out[present[:, book], book] = 0 if model is None else decoder.decode(model, count)
    return out


def codebook(sets: Sequence[int]) -> tuple[list[int], str]:
    """Sizes of the codebooks that are counted and how: the books of a position as one, or each alone."""
    whole = math.prod(sets)
    if len(sets) > 1 and whole <= JOINT:
        return [whole], f"{len(sets)} books as one codebook of {whole}"
    return list(sets), "one codebook" if len(sets) == 1 else f"mean over {len(sets)} books"


def symbols(x: Ints, sets: Sequence[int]) -> Iterator[tuple[Ints, Ints]]:
    """For every counted codebook: the present symbols of one image and their positions."""
    if len(sets) > 1 and math.prod(sets) <= JOINT:
        present = np.flatnonzero((x >= 0).all(axis=1))
        joint = np.zeros(len(present), dtype=np.int64)
        for book, size in enumerate(sets):
            joint = joint * size + x[present, book]
        yield joint, present
        return
    for book in range(len(sets)):
        present = np.flatnonzero(x[:, book] >= 0)
        yield x[present, book], present


def histograms(tokens: Sequence[Tokens]) -> list[Ints]:
    """Counts of every symbol of every counted codebook."""
    sets = alphabets(tokens)
    tables = [Table(size) for size in codebook(sets)[0]]
    for x in indices(tokens):
        for table, (found, _) in zip(tables, symbols(x, sets), strict=True):
            table.add(found)
    return [t.flush() for t in tables]


def rarefaction(counts: Ints, at: Sequence[int]) -> list[float]:
    """Expected number of distinct symbols among m tokens drawn without replacement, for every m in `at`.

    Hurlbert 1971: K - sum_i C(N - N_i, m) / C(N, m); what raw usage at N would have been at m.
    """
    from scipy.special import gammaln

    seen = counts[counts > 0].astype(np.float64)
    total = seen.sum()
    out = []
    for m in at:
        left = total - seen
        fits = left >= m
        log = np.full(len(seen), -np.inf)
        log[fits] = gammaln(left[fits] + 1) - gammaln(left[fits] - m + 1) - gammaln(total + 1) + gammaln(total - m + 1)
        out.append(float((1 - np.exp(log)).sum()))
    return out


def entropy(counts: Ints) -> float:
    """Plug-in entropy of a histogram in bits."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


class Usage(TokenMetric):
    """Share of the codebook that occurs at least once, with its rarefaction curve: raw usage grows with n."""

    card = _card(
        "codebook-usage",
        "Codebook usage",
        "%",
        "higher",
        "symbols that occur at least once; rarefaction curve after Hurlbert 1971 in the details",
        reduction="share of the codebook over all tokens of the run",
    )

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        if why:
            return SetValue(None, n=len(tokens), why=why)
        found, (books, how) = histograms(tokens), codebook(alphabets(tokens))
        shares = [100 * float((c > 0).sum()) / k for c, k in zip(found, books, strict=True)]
        total = int(found[0].sum())
        at = sorted({int(m) for m in np.geomspace(1, total, CURVE)}) if total else []
        curves = [rarefaction(c, [min(m, int(c.sum())) for m in at]) for c in found[:1]]
        details = {
            "counted": how,
            "tokens": total,
            "symbols_seen": int((found[0] > 0).sum()) if len(found) == 1 else None,
            "rarefaction_tokens": at,
            "rarefaction_symbols": curves[0] if curves else [],
        }
        few = total < ENOUGH * max(books)
        warning = f"{total} tokens for {max(books)} symbols: usage still grows with n" if few else None
        return SetValue(float(np.mean(shares)), n=len(tokens), warning=warning, details=details)


class Perplexity(TokenMetric):
    """2 to the plug-in entropy of all tokens: the size of a codebook that would be used evenly."""

    card = _card(
        "codebook-perplexity",
        "Codebook perplexity",
        "symbols",
        "higher",
        "2^entropy of the histogram of all tokens",
        reduction="of the histogram of all tokens (mean over books where they are counted apart)",
    )

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        if why:
            return SetValue(None, n=len(tokens), why=why)
        found, (books, how) = histograms(tokens), codebook(alphabets(tokens))
        if not all(c.sum() for c in found):
            return SetValue(None, n=len(tokens), why="a book has no tokens")
        value = float(np.mean([2 ** entropy(c) for c in found]))
        total = int(found[0].sum())
        few = total < ENOUGH * max(books)
        warning = (
            f"{total} tokens for {max(books)} symbols: perplexity is at most the number of tokens" if few else None
        )
        details = {"counted": how, "entropy_bits": float(np.mean([entropy(c) for c in found])), "tokens": total}
        return SetValue(value, n=len(tokens), warning=warning, details=details)


class PositionEntropy(TokenMetric):
    """Mean over positions of the entropy of one position's tokens over the images, all books of it summed."""

    card = _card(
        "position-entropy",
        "Entropy per position",
        "bit",
        "higher",
        "plug-in entropy over images of each position's tokens; null below ten images per symbol",
        reduction="mean over positions",
    )

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        if why:
            return SetValue(None, n=len(tokens), why=why)
        sets = alphabets(tokens)
        books = codebook(sets)[0]
        n = len(tokens)
        if n < ENOUGH * max(books):
            return SetValue(None, n=n, why=f"{n} images for {max(books)} symbols of a position: fewer than ten each")
        lengths = {int(x.shape[0]) for x in indices(tokens)}
        if len(lengths) > 1:
            return SetValue(None, n=n, why="the images have different numbers of positions")
        (positions,) = lengths
        tables = [Table(positions * size) for size in books]
        for x in indices(tokens):
            for table, size, (found, where) in zip(tables, books, symbols(x, sets), strict=True):
                table.add(where * size + found)
        each = np.zeros(positions)
        for table, size in zip(tables, books, strict=True):
            rows = table.flush().reshape(positions, size)
            each += [entropy(row) if row.sum() else 0.0 for row in rows]
        details = {
            "least": float(each.min()),
            "most": float(each.max()),
            "by_position": [float(e) for e in each[:4096]],
        }
        return SetValue(float(each.mean()), n=n, details=details)


METRICS = (Entropy, EntropyNeighbours, Coded, Usage, Perplexity, PositionEntropy)
