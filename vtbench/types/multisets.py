"""Multisets of symbols as bytes: how many there are, and the place of one among them.

The combinatorial number system (Knuth, TAOCP 4A, 7.2.1.3): ascending values c_0 <= … <= c_(n-1) become the strictly
ascending c_i + i, a subset of n of the first n + alphabet - 1 numbers, whose rank is the sum of C(c_i + i, i + 1).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

MOST = 2**16
"""Symbols of a multiset that bytes may claim to hold: few bytes can name many symbols, and the bytes may be hostile."""


def count(positions: int, alphabet: int) -> int:
    """How many multisets of `positions` symbols there are."""
    return math.comb(positions + alphabet - 1, positions)


def size(positions: int, alphabet: int) -> int:
    """Bytes of the place of one among them."""
    return ((count(positions, alphabet) - 1).bit_length() + 7) // 8


def to_bytes(values: Sequence[int], alphabet: int) -> bytes:
    """values: ascending, 0 to alphabet - 1."""
    rank = sum(math.comb(value + i, i + 1) for i, value in enumerate(values))
    return rank.to_bytes(size(len(values), alphabet), "big")


def from_bytes(body: bytes, positions: int, alphabet: int) -> list[int]:
    """The ascending values; raises ValueError if the bytes are not of such a multiset."""
    if not (0 <= positions <= MOST and 1 <= alphabet < 2**63):
        raise ValueError(f"{positions} positions of {alphabet} symbols")
    # Before any large number is made: what the bytes can hold decides how large it may be.
    bits = (math.lgamma(positions + alphabet) - math.lgamma(positions + 1) - math.lgamma(alphabet)) / math.log(2)
    if not abs(bits - 8 * len(body)) <= 16 or len(body) != size(positions, alphabet):
        raise ValueError(f"{len(body)} bytes for a multiset of {positions} of {alphabet} symbols")
    rank, end, out = int.from_bytes(body, "big"), positions + alphabet - 1, [0] * positions
    if rank >= count(positions, alphabet):
        raise ValueError("a place behind the last multiset")
    for i in reversed(range(positions)):
        end = bisect.bisect_right(range(end), rank, key=lambda n, k=i + 1: math.comb(n, k)) - 1  # type: ignore[misc]
        rank -= math.comb(end, i + 1)
        out[i] = end - i
    return out
