"""Two strings compared: what every measure of read text is made of.

Both sides are normalised by `nfkc-ws`: Unicode NFKC, whitespace collapsed to single spaces, ends stripped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

NORMALISER = "nfkc-ws"


def normalise(text: str) -> str:
    """NFKC, runs of whitespace to one space, ends stripped."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def edits(truth: Sequence[Any], reading: Sequence[Any]) -> int:
    """Levenshtein distance: of two strings, or of two lists of words."""
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(truth, reading))


def words_kept(truth: str, reading: str) -> int:
    """True words that the reading has too, in their order (longest common subsequence of words)."""
    from rapidfuzz.distance import LCSseq

    return int(LCSseq.similarity(truth.split(), reading.split()))


def ned(truth: str, reading: str) -> float:
    """1 - d / max(len): 1-N.E.D. of ICDAR 2019."""
    return 1 - edits(truth, reading) / max(len(truth), len(reading), 1)
