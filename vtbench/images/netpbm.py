"""PPM and PGM of more than 8 bits, which Pillow rounds to 8: read by the rule of all wide samples, the high byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vtbench.images.limits import BadImage, within_limit

if TYPE_CHECKING:
    from PIL import Image

_HEADER = re.compile(rb"P([2356])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,5})\s")
"""Kind, width, height, largest value (netpbm, ppm.5, pgm.5); comments may stand between them."""


def wide(data: bytes) -> re.Match[bytes] | None:
    """The header, where samples have more than 8 bits; None for all other files, which Pillow reads."""
    header = _HEADER.match(data[:2048]) if data[:1] == b"P" else None
    return header if header is not None and 255 < int(header[4]) < 1 << 16 else None


def decoded(data: bytes, header: re.Match[bytes], name: str) -> Image.Image:
    """The picture of mode L or RGB."""
    import numpy as np
    from PIL import Image

    kind, width, height, most = (int(part) for part in header.groups())
    within_limit(width, height, name)
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    count = int(np.prod(shape))
    try:
        if kind in (5, 6):
            samples = np.frombuffer(data, ">u2", count, header.end()).astype(np.int64)
        else:
            words = re.sub(rb"#[^\n]*", b"", data[header.end() :]).split(maxsplit=count)
            samples = np.array(words[:count], dtype=np.int64)
    except ValueError as bad:
        raise _damaged(name) from bad
    if samples.size < count or samples.max(initial=0) > most or samples.min(initial=0) < 0:
        raise _damaged(name)
    return Image.fromarray(eight_bits(samples, most).reshape(shape))


def eight_bits(samples: Any, most: int) -> Any:
    """uint8 of samples of 0..most: the high byte where `most` is all bits, else to the nearest of 0..255."""
    import numpy as np

    bits = most.bit_length()
    if most == (1 << bits) - 1:
        return (samples >> (bits - 8)).astype(np.uint8)
    return ((samples * 255 * 2 + most) // (2 * most)).astype(np.uint8)


def _damaged(name: str) -> BadImage:
    return BadImage(
        f"{name} cannot be read as an image (a PPM whose samples end or are too large): replace or remove it"
    )
