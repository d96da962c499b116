"""PNGs by hand: every colour type and depth, with and without transparency."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import imagecodecs
import numpy as np

from benchmarks.images.cases import COLOURS, HEIGHT, WIDTH, Case, Samples, samples
from vtbench.images.orientation import TAG


def exif_of(turn: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, TAG, 3, 1, turn, 0)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, and the steps across and down (section 8.2)."""
INTERLACED = 28
"""The byte of the header that says so."""


def png_files(values: Samples, bits: int, kind: int, turn: int, *chunks: bytes) -> list[bytes]:
    """Row by row, and interlaced."""
    return [png_file(values, bits, kind, turn, *chunks, interlaced=interlaced) for interlaced in (False, True)]


def png_file(values: Samples, bits: int, kind: int, turn: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """A PNG of these samples, unfiltered, by the standard's words."""
    whole = values.reshape(HEIGHT, WIDTH, -1).astype(np.int64)
    rows = b""
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        for row in whole[top::down, left::across]:
            planes = (row.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
            rows += b"\0" + np.packbits(planes.astype(np.uint8)).tobytes()
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, interlaced)
    body = [chunk(b"IHDR", head), chunk(b"eXIf", exif_of(turn)), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


def png_cases() -> Iterator[Case]:
    kinds = {("grey", False): 0, ("RGB", False): 2, ("grey", True): 4, ("RGB", True): 6}
    for (colour, alpha), kind in kinds.items():
        for bits in (1, 2, 4, 8, 16) if kind == 0 else (8, 16):
            values = samples(bits, COLOURS[colour] + alpha)

            def make(turn: int, v: Samples = values, b: int = bits, k: int = kind) -> list[bytes]:
                return png_files(v, b, k, turn)

            def undo(data: bytes, v: Samples = values, b: int = bits) -> Samples:
                # imagecodecs spreads narrow samples, and warns of interlaced ones: there the samples it was made of.
                return v if b < 8 or data[INTERLACED] else plain_png(data)

            yield Case("PNG", bits, colour, "straight" if alpha else "none", "", make, undo, turned=True)
            if not alpha:
                yield keyed(bits, colour, kind, values)
    for bits in (1, 2, 4, 8):
        yield from paletted(bits)


def plain_png(data: bytes) -> Samples:
    out = np.asarray(imagecodecs.png_decode(data))
    return out[..., None] if out.ndim == 2 else out


def keyed(bits: int, colour: str, kind: int, values: Samples) -> Case:
    """One colour of tRNS is transparent, at all bits of the samples."""
    key = values[HEIGHT // 2, WIDTH // 2].astype(">u2")
    seen = (values == key.astype(values.dtype)).all(axis=2, keepdims=True)
    stored = np.concatenate([values, np.where(seen, 0, (1 << bits) - 1).astype(values.dtype)], axis=2)

    def make(turn: int) -> list[bytes]:
        return png_files(values, bits, kind, turn, chunk(b"tRNS", key.tobytes()))

    return Case("PNG", bits, colour, "tRNS", "", make, lambda _: stored, turned=True)


def paletted(bits: int) -> Iterator[Case]:
    index = samples(bits, 1)
    table = np.random.default_rng(bits).integers(0, 256, (1 << bits, 4)).astype(np.uint8)
    for alpha in ("none", "tRNS"):
        chunks = [chunk(b"PLTE", table[:, :3].tobytes())]
        chunks += [chunk(b"tRNS", table[:, 3].tobytes())] if alpha == "tRNS" else []

        def make(turn: int, c: Sequence[bytes] = tuple(chunks)) -> list[bytes]:
            return png_files(index, bits, 3, turn, *c)

        case = Case("PNG", bits, "palette", alpha, "", make, lambda _: table[index[..., 0]], turned=True)
        yield replace(case, bits=8, layout=f"{bits}-bit index")
