"""How packed tokens lie in bytes: a head that describes them (JSON), then indices of fixed width, values or bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"VTB1"


def blob(head: Mapping[str, Any], body: bytes) -> bytes:
    """ "VTB1", the length of the head (little-endian uint32), the head, the body."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return _MAGIC + struct.pack("<I", len(text)) + text + body


def split(packed: bytes) -> tuple[dict[str, Any], bytes]:
    """(head, body) of a blob; raises VtbenchError if it is none, ValueError if its head is damaged."""
    if len(packed) < 8 or packed[:4] != _MAGIC:
        raise VtbenchError("these bytes are not packed tokens of vtbench: they do not start with VTB1")
    (length,) = struct.unpack("<I", packed[4:8])
    head = json.loads(packed[8 : 8 + length])
    if not isinstance(head, dict):
        raise ValueError("the head is no JSON object")
    return head, packed[8 + length :]


def runs(alphabets: Sequence[int]) -> list[list[int]]:
    """Run-length form: 18 books of 2 are [[2, 18]]."""
    out: list[list[int]] = []
    for a in alphabets:
        if out and out[-1][0] == a:
            out[-1][1] += 1
        else:
            out.append([a, 1])
    return out


def _widths(alphabets: Sequence[int]) -> list[int]:
    """Bits of an index of every book: ceil(log2 alphabet), none where there is no choice."""
    return [(a - 1).bit_length() for a in alphabets]


def write_indices(row: np.ndarray[Any, Any], alphabets: Sequence[int]) -> bytes:
    """int64 (positions, books), every index in its alphabet, as bits, the low ones first."""
    import numpy as np

    widths = enumerate(_widths(alphabets))
    planes = [(row[:, book, None] >> np.arange(width)[None]) & 1 for book, width in widths if width]
    stream = np.concatenate(planes, axis=1).astype(np.uint8).ravel() if planes else np.zeros(0, np.uint8)
    return np.packbits(stream).tobytes()


def read_indices(body: bytes, alphabets: Sequence[int], positions: int) -> np.ndarray[Any, Any]:
    """The inverse of `write_indices`: int64 (positions, books)."""
    row: np.ndarray[Any, Any] = read_rows([body], alphabets, positions)[0]
    return row


def read_rows(bodies: Sequence[bytes], alphabets: Sequence[int], positions: int) -> np.ndarray[Any, Any]:
    """`read_indices` of several images of as many positions: int64 (images, positions, books)."""
    import numpy as np

    widths = _widths(alphabets)
    size = math.ceil(positions * sum(widths) / 8)
    wrong = next((len(body) for body in bodies if len(body) != size), None)
    if positions < 0 or wrong is not None:
        raise ValueError(f"{len(bodies[0]) if wrong is None else wrong} bytes of indices for {positions} positions")
    packed = np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), size)
    table = np.unpackbits(packed, axis=1, count=positions * sum(widths)).reshape(len(bodies), positions, sum(widths))
    out, start = np.zeros((len(bodies), positions, len(widths)), np.int64), 0
    for book, width in enumerate(widths):
        for bit in range(width):
            out[..., book] |= table[..., start + bit].astype(np.int64) << bit
        start += width
    return out
