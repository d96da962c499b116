"""TIFFs by tifffile: planes, tiles, compressions, byte orders, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import tifffile

from benchmarks.images.cases import COLOURS, Case, Samples, samples
from vtbench.images.orientation import TAG

COMPRESSIONS = (None, "zlib", "lzw", "zstd", "packbits")


def tiff_cases() -> Iterator[Case]:
    kinds = [("grey", "none"), ("grey, 0 white", "none"), ("grey", "straight"), ("RGB", "none"), ("RGB", "straight")]
    for colour, alpha in [*kinds, ("RGB", "associated"), ("CMYK", "none")]:
        for bits in (8, 16):
            for separate in (False, True):
                if not separate or colour not in ("grey", "grey, 0 white") or alpha != "none":
                    yield tiff_case(colour, alpha, bits, separate)
    yield tiff_palette()


def tiff_case(colour: str, alpha: str, bits: int, separate: bool) -> Case:
    plain = colour.partition(",")[0]
    values = samples(bits, COLOURS[plain] + (alpha != "none"))
    if alpha == "associated":
        most = (1 << bits) - 1
        values[..., :-1] = (values[..., :-1].astype(np.int64) * values[..., -1:] // most).astype(values.dtype)
    photometric = {"grey": "minisblack", "grey, 0 white": "miniswhite", "RGB": "rgb", "CMYK": "separated"}[colour]
    extra = {"straight": ["unassalpha"], "associated": ["assocalpha"]}.get(alpha)
    pixels = values[..., 0] if values.shape[2] == 1 else np.moveaxis(values, 2, 0) if separate else values

    def make(turn: int) -> Iterator[bytes]:
        # All eight orientations of the plain one, two of the others: they are applied after the samples.
        for number, compression in enumerate(COMPRESSIONS if turn in (1, 6) else COMPRESSIONS[:1]):
            for tiles in (None, (16, 16)):
                out = io.BytesIO()
                tifffile.imwrite(
                    out,
                    pixels,
                    photometric=photometric,
                    planarconfig=None if values.shape[2] == 1 else "separate" if separate else "contig",
                    extrasamples=extra,
                    compression=compression,
                    predictor=compression in ("zlib", "lzw", "zstd") and (number + (tiles is None)) % 2 == 0,
                    tile=tiles,
                    rowsperstrip=None if tiles else 7,
                    byteorder="<>"[number % 2],
                    metadata=None,
                    extratags=[(TAG, 3, 1, turn, True)],
                )
                yield out.getvalue()

    def undo(data: bytes) -> Samples:
        out = tifffile.imread(io.BytesIO(data))
        return out[..., None] if out.ndim == 2 else np.moveaxis(out, 0, 2) if separate else out

    layout = "planes" if separate else "interleaved" if values.shape[2] > 1 else ""
    white = "0 white" in colour
    words = ", ".join(filter(None, [layout, "0 is white" if white else ""]))
    return Case("TIFF", bits, plain, alpha, words, make, undo, turned=True, white_is_zero=white)


def tiff_palette() -> Case:
    index = samples(8, 1)[..., 0]
    table = np.random.default_rng(0).integers(0, 1 << 16, (3, 256)).astype(np.uint16)

    def make(turn: int) -> list[bytes]:
        out = io.BytesIO()
        tags = [(TAG, 3, 1, turn, True)]
        tifffile.imwrite(out, index, photometric="palette", colormap=table, metadata=None, extratags=tags)
        return [out.getvalue()]

    return Case("TIFF", 8, "palette", "none", "8-bit index", make, lambda _: table.T[index] >> 8, True)


def refused(kind: str) -> bytes:
    """A TIFF of samples that are no pixels."""
    values = samples(8, 3)
    pixels, photometric = {
        "32-bit float": (values.astype(np.float32) / 255, "rgb"),
        "16-bit float": ((values / 255).astype(np.float16), "rgb"),
        "32-bit": (values.astype(np.uint32), "rgb"),
        "16-bit signed": (values.astype(np.int16), "rgb"),
        "8-bit CIE L*a*b*": (values, "cielab"),
    }[kind]
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric=photometric, metadata=None)
    return out.getvalue()
