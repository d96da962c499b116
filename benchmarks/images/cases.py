"""A line of the table of formats, its samples, and the rule by which they are pixels: arithmetic alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Samples = np.ndarray[Any, Any]
HEIGHT, WIDTH = 18, 26
TURNS = range(1, 9)
COLOURS = {"grey": 1, "RGB": 3, "CMYK": 4, "palette": 1}


@dataclass(frozen=True)
class Case:
    """A line: `make(orientation)` gives its files, `undo` the second decoder's samples (H, W, n) of one."""

    form: str
    bits: int
    colour: str
    alpha: str
    layout: str
    make: Callable[[int], Iterable[bytes]]
    undo: Callable[[bytes], Samples]
    turned: bool = False
    bound: int = 1
    """Grey levels that may lie between two decoders of a lossy format, or two roundings."""
    white_is_zero: bool = False


def samples(bits: int, count: int) -> Samples:
    """(H, W, count): smooth in colour, alpha (of 2 and 4) over its whole range and clear in a corner."""
    down, across = np.linspace(0, 1, HEIGHT)[:, None, None], np.linspace(0, 1, WIDTH)[None, :, None]
    parts = (0.15 + 0.5 * down + 0.3 * across) * np.linspace(1, 0.6, count)
    if count in (2, 4):
        parts = np.concatenate([parts[..., :-1], np.broadcast_to((across + down) / 2, (HEIGHT, WIDTH, 1))], axis=2)
        parts[:3, :3, -1] = 0
    return (parts * ((1 << bits) - 1)).round().astype(np.uint8 if bits <= 8 else np.uint16)


def rule(stored: Samples, case: Case, turn: int) -> Samples:
    """float (H, W, 3): what the samples are to be read as."""
    values = stored.astype(np.int64)
    values = values >> (case.bits - 8) if case.bits >= 8 else values * 255 // ((1 << case.bits) - 1)
    if case.white_is_zero:
        values[..., 0] = 255 - values[..., 0]
    if case.colour == "CMYK":
        out = (255.0 - values[..., :3]) * (255.0 - values[..., 3:]) / 255
    else:
        colour = values[..., : COLOURS[case.colour]] if case.colour != "palette" else values[..., :3]
        out = np.repeat(colour, 3, axis=2).astype(float) if colour.shape[2] == 1 else colour.astype(float)
        if case.alpha == "associated":
            out = out + 255 - values[..., -1:]
        elif case.alpha != "none":
            cover = values[..., -1:] / 255
            out = out * cover + 255 * (1 - cover)
    swapped = out.transpose(1, 0, 2) if turn >= 5 else out
    down = -1 if turn in (3, 4, 7, 8) else 1
    across = -1 if turn in (2, 3, 6, 7) else 1
    return swapped[::down, ::across]
