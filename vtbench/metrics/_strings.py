"""Two strings compared: what every measure of read text is made of.

Both sides are normalised by `nfkc-visible-ws`: characters without a shape of their own are left out, then Unicode NFKC,
whitespace collapsed to single spaces, ends stripped. What is counted are code points of the outcome, as in published
character error rates: a letter with an accent that NFKC cannot compose counts as two, an emoji of a family as several.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

NORMALISER = "nfkc-visible-ws"

_IGNORABLE = (
    *((0x00AD,), (0x034F,), (0x061C,), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F)),
    *((0x202A, 0x202E), (0x2060, 0x206F), (0x3164,), (0xFE00, 0xFE0F), (0xFEFF,), (0xFFA0,), (0xFFF0, 0xFFF8)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt): soft hyphen, zero-width space, joiner and
non-joiner, direction marks, byte order mark, variation selectors, fillers, tags. The two joiners are left out too: they
are seen only in what they do to the letters beside them, which are counted themselves."""
_FURTHER = ((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xFFF9, 0xFFFB))
"""Control characters that are no whitespace, and the anchors of interlinear annotations."""
_BLANK = "\N{BRAILLE PATTERN BLANK}"
"""Seen as a space, but none to Unicode."""


def _characters(ranges: Sequence[tuple[int, ...]]) -> str:
    """The inside of a character class."""
    return "".join(f"{re.escape(chr(r[0]))}-{re.escape(chr(r[-1]))}" for r in ranges)


_UNSEEN = re.compile(f"[{_characters((*_IGNORABLE, *_FURTHER))}]")

_IDEOGRAPHIC = (
    *((0x3001, 0x3002), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),
)
"""Han and Kana, and the two marks that end their clauses."""
_SPACELESS = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF)),
    *((0x1B00, 0x1B7F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), *_IDEOGRAPHIC),
)
"""Letters of scripts without spaces between words: Thai and Lao, Tibetan, Burmese, Khmer, those of the Tai languages,
Balinese, Kana, Han."""
_UNSEGMENTED = re.compile(f"[{_characters(_SPACELESS)}]")


_BETWEEN = re.compile(f"(?<=[{_characters(_IDEOGRAPHIC)}]) (?=[{_characters(_IDEOGRAPHIC)}])")


def visible(text: str) -> str:
    """Without the characters that have no shape of their own."""
    return _UNSEEN.sub("", text).replace(_BLANK, " ")


def normalise(text: str) -> str:
    """What can be seen of it: no invisible characters, NFKC, runs of whitespace to one space, ends stripped.

    Between two Han or Kana letters a space is none: these scripts write none, and where one line ends and the next
    begins is no character of the text.
    """
    return _BETWEEN.sub("", " ".join(unicodedata.normalize("NFKC", visible(text)).split()))


def unsegmented(text: str) -> bool:
    """Whether it holds letters of a script that writes no spaces between words: it has no words to count."""
    return _UNSEGMENTED.search(text) is not None


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
