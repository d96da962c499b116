"""How the codebook is used: the share of it that occurs, how evenly, and how much each position varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.metrics._codes import (
    ENOUGH,
    CodesMetric,
    Table,
    alphabets,
    codebook,
    codes_card,
    stacks,
    symbols,
)
from vtbench.types.metric import SetValue
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    from vtbench.metrics._codes import Ints

CURVE = 12
"""Points of the rarefaction curve."""
POSITIONS_SHOWN = 4096
"""Entropies by position that the details of a score hold at most."""


def histograms(tokens: Sequence[Tokens]) -> list[Ints]:
    """Counts of every symbol of every counted codebook."""
    sets = alphabets(tokens)
    tables = [Table(size) for size in codebook(sets)[0]]
    for x in stacks(tokens):
        for table, (present, _) in zip(tables, symbols(x, sets), strict=True):
            table.add(present)
    return [t.flush() for t in tables]


def rarefaction(counts: Ints, at: Sequence[int]) -> list[float]:
    """Expected number of distinct symbols among m tokens drawn without replacement, for every m in `at`.

    Hurlbert 1971: K - sum_i C(N - N_i, m) / C(N, m); what raw usage at N would have been at m.
    """
    import numpy as np
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
    import numpy as np

    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


class Usage(CodesMetric):
    """Share of the codebook that occurs at least once, with its rarefaction curve: raw usage grows with n."""

    card = codes_card(
        "codebook-usage",
        "Codebook usage",
        "%",
        "higher",
        "symbols that occur at least once; rarefaction curve after Hurlbert 1971 in the details",
        reduction="share of the codebook over all tokens of the run",
    )

    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        import numpy as np

        counts, (books, how) = histograms(tokens), codebook(alphabets(tokens))
        shares = [100 * float((c > 0).sum()) / k for c, k in zip(counts, books, strict=True)]
        total = int(counts[0].sum())
        at = sorted({int(m) for m in np.geomspace(1, total, CURVE)}) if total else []
        curves = [rarefaction(c, [min(m, int(c.sum())) for m in at]) for c in counts[:1]]
        details = {
            "counted": how,
            "tokens": total,
            "symbols_seen": int((counts[0] > 0).sum()) if len(counts) == 1 else None,
            "rarefaction_tokens": at,
            "rarefaction_symbols": curves[0] if curves else [],
        }
        few = total < ENOUGH * max(books)
        warning = f"{total} tokens for {max(books)} symbols: usage still grows with n" if few else None
        return SetValue(float(np.mean(shares)), n=len(tokens), warning=warning, details=details)


class Perplexity(CodesMetric):
    """2 to the plug-in entropy of all tokens: the size of a codebook that would be used evenly."""

    card = codes_card(
        "codebook-perplexity",
        "Codebook perplexity",
        "symbols",
        "higher",
        "2^entropy of the histogram of all tokens",
        reduction="of the histogram of all tokens (mean over books where they are counted apart)",
    )

    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        import numpy as np

        counts, (books, how) = histograms(tokens), codebook(alphabets(tokens))
        if not all(c.sum() for c in counts):
            return SetValue(None, n=len(tokens), why="a book has no tokens")
        entropies = [entropy(c) for c in counts]
        total = int(counts[0].sum())
        few = total < ENOUGH * max(books)
        warning = (
            f"{total} tokens for {max(books)} symbols: perplexity is at most the number of tokens" if few else None
        )
        details = {"counted": how, "entropy_bits": float(np.mean(entropies)), "tokens": total}
        value = float(np.mean([2**e for e in entropies]))
        return SetValue(value, n=len(tokens), warning=warning, details=details)


class PositionEntropy(CodesMetric):
    """Mean over positions of the entropy of one position's tokens over the images, all books of it summed."""

    card = codes_card(
        "position-entropy",
        "Entropy per position",
        "bit",
        "higher",
        "plug-in entropy over images of each position's tokens; null below ten images per symbol",
        reduction="mean over positions",
    )

    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        import numpy as np

        sets = alphabets(tokens)
        books = codebook(sets)[0]
        n = len(tokens)
        if n < ENOUGH * max(books):
            return SetValue(None, n=n, why=f"{n} images for {max(books)} symbols of a position: fewer than ten each")
        lengths = {int(x.shape[1]) for x in stacks(tokens)}
        if len(lengths) > 1:
            return SetValue(None, n=n, why="the images have different numbers of positions")
        (positions,) = lengths
        tables = [Table(positions * size) for size in books]
        for x in stacks(tokens):
            for table, size, (present, where) in zip(tables, books, symbols(x, sets), strict=True):
                table.add(where * size + present)
        by_position = np.zeros(positions)
        for table, size in zip(tables, books, strict=True):
            rows = table.flush().reshape(positions, size)
            by_position += [entropy(row) if row.sum() else 0.0 for row in rows]
        details = {
            "least": float(by_position.min()),
            "most": float(by_position.max()),
            "by_position": [float(e) for e in by_position[:POSITIONS_SHOWN]],
        }
        return SetValue(float(by_position.mean()), n=n, details=details)


METRICS = (Usage, Perplexity, PositionEntropy)
