"""Measures of readings, each computed a second time by its definition, on random strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.metrics.comparison import FLOATS, Comparison
from vtbench import registry
from vtbench.metrics import legibility, quoted
from vtbench.metrics import text as measures

ON = "300 pairs of random strings"
WAGNER_FISCHER = "the recurrence of Wagner and Fischer"


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance by its definition."""
    row = list(range(len(b) + 1))
    for i, c in enumerate(a, 1):
        above, row = row, [i]
        for j, d in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (c != d)))
    return row[-1]


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein distance of two strings, or of two lists of words."""
    codes = {w: chr(i + 1) for i, w in enumerate(dict.fromkeys([*a, *b]))}
    return edit_distance("".join(codes[w] for w in a), "".join(codes[w] for w in b))


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence by its recurrence."""
    row = [0] * (len(b) + 1)
    for x in a:
        last = 0
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], last + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def text_comparisons() -> list[Comparison]:
    """Measures of readings on random strings, the fit of legibility on readings whose limit is known."""
    rng = np.random.default_rng(0)

    def draw(least: int) -> str:
        return "".join(rng.choice(list("ab "), rng.integers(least, 30)))

    lines = [measures.Line(draw(1).strip() or "a", draw(0).strip(), float(rng.uniform(0, 10))) for _ in range(300)]
    quotes = [n for n in registry.metrics() if n.startswith("quote-")]
    return [
        *_words(lines),
        *_characters(lines),
        *([_quotes(quotes, lines)] if quotes else []),
        _lengths(lines),
        _legibility(rng),
    ]


def _words(lines: Sequence[measures.Line]) -> list[Comparison]:
    words = [(k.truth.split(), k.reading.split()) for k in lines]
    gap = abs(measures.word_errors(lines)[0] - sum(distance(a, b) for a, b in words))
    out = [Comparison("wer, wer-ceiling", f"{WAGNER_FISCHER}, of words", ON, gap, 0, "integers")]
    gap = abs(measures.words_right(lines)[0] - sum(longest_common(a, b) for a, b in words))
    names = "word-accuracy, word-accuracy-ceiling, word-accuracy-rapidocr, word-accuracy-tesseract"
    how = "the recurrence of the longest common subsequence"
    return [*out, Comparison(names, how, ON, gap, 0, "integers")]


def _characters(lines: Sequence[measures.Line]) -> list[Comparison]:
    shares = [1 - distance(k.truth, k.reading) / max(len(k.truth), len(k.reading)) for k in lines]
    gap = abs(measures.normalised_distance(lines)[0] - sum(shares))
    out = [Comparison("ned, ned-ceiling", WAGNER_FISCHER, ON, gap, 1e-9, FLOATS)]
    buckets = [measures.errors_between(a, b, lines) for a, b in ((0, 3), (3, 4), (4, 6), (6, 100))]
    each = [(k.height, distance(k.truth, k.reading) / len(k.truth)) for k in lines]
    gap = max(
        abs(bucket[0] - sum(v for h, v in each if a <= h < b))
        for bucket, (a, b) in zip(buckets, ((0, 3), (3, 4), (4, 6), (6, 101)), strict=True)
    )
    names = "cer-h0-3, cer-h3-4, cer-h4-6, cer-h6-100"
    return [*out, Comparison(names, WAGNER_FISCHER, ON, gap, 1e-9, FLOATS)]


def _quotes(names: Sequence[str], lines: Sequence[measures.Line]) -> Comparison:
    """Measures of quoted strings; the buckets of their lengths are the same measures of fewer images."""
    gap = 0.0
    for k in lines:
        d, words = distance(k.truth, k.reading), k.truth.split()
        wanted = {
            "quote-exact": float(d == 0),
            "quote-cer": d / len(k.truth),
            "quote-ned": 1 - d / max(len(k.truth), len(k.reading)),
            "quote-word-accuracy": longest_common(words, k.reading.split()) / len(words),
        }
        ours = {name: kind.measure(k.truth, k.reading)[0] for name, kind in quoted.KINDS.items()}
        gap = max(gap, *(abs(ours[n] - v) for n, v in wanted.items()))
    how = "the recurrences of edit distance and common subsequence"
    return Comparison(", ".join(names), how, ON, gap, 1e-9, FLOATS)


def _lengths(lines: Sequence[measures.Line]) -> Comparison:
    long = sum(len(k.reading) / len(k.truth) > 3 for k in lines)
    empty = sum(k.reading == "" for k in lines)
    gap = abs(measures.overlong(lines)[0] - long) + abs(measures.read_as_nothing(lines)[0] - empty)
    return Comparison("ocr-empty, ocr-overlong", "counting", ON, gap, 0, "integers")


def _legibility(rng: np.random.Generator) -> Comparison:
    heights = rng.uniform(4, 30, 400)
    right = rng.binomial(40, 1 / (1 + (9.2 / heights) ** 6.0))
    rows = [
        {"lines": [{"x_height": h, "chars": 40, "read_right": int(r)}]} for h, r in zip(heights, right, strict=True)
    ]
    fitted = legibility.Legibility().finish(rows, []).value or 0.0
    on = "400 lines of 40 characters drawn from a curve with its middle at 9.2 px"
    how, why = "the curve that was drawn from", "sampling: 16,000 characters"
    return Comparison("legibility, legibility-ceiling", how, on, abs(fitted / 9.2 - 1), 0.02, why, True)
