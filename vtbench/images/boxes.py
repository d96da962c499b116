"""The boxes that JPEG 2000 files and HEIF and AVIF files are made of (ISO 15444-1, I.4; ISO 14496-12, 4.2)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

_FULL = 4
"""Bytes of version and flags that the box meta begins with."""


def boxes(source: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, end) of the contents of the boxes between two places of a file."""
    while place + 8 <= end:
        source.seek(place)
        head = source.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = place + (16 if length == 1 else 8)
        length = int.from_bytes(head[8:16], "big") if length == 1 else length or end - place
        if length < start - place:
            return
        yield kind, start, min(place + length, end)
        place += length


def code_points(data: bytes) -> tuple[int, int] | None:
    """(primaries, transfer) of a HEIF or AVIF file by the code points of ITU-T H.273, from the first box colr of the
    type nclx (ISO 23008-12, 6.5.5); None where there is none."""
    source, places = io.BytesIO(data), [(0, len(data))]
    for wanted in (b"meta", b"iprp", b"ipco", b"colr"):
        skip = _FULL if wanted == b"meta" else 0
        places = [(a + skip, b) for place in places for kind, a, b in boxes(source, *place) if kind == wanted]
    stated = (data[a:b] for a, b in places if data[a : a + 4] == b"nclx" and b - a >= 8)
    return next(((int.from_bytes(c[4:6], "big"), int.from_bytes(c[6:8], "big")) for c in stated), None)
