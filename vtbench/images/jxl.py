"""JPEG XL: its size before anything is decoded (the plug-in decodes as it opens), and grey with alpha of 16 bits, whose
samples the plug-in hands on as if they had 8 (ISO 18181-1, 18181-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

MARKS = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
"""Of a codestream, and of a file."""
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height by the number that stands for it."""
_BITS = (9, 13, 18, 30)


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the codestream's header; None where none is found, which the decoder will say better."""
    stream = data[:32] if data.startswith(MARKS[0]) else _codestream(data)
    if not stream.startswith(MARKS[0]) or len(stream) < 12:
        return None
    bits = int.from_bytes(stream[2:14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    by_eight = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if by_eight else take(_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream in a file's boxes: jxlc, or the first jxlp after its number."""
    place = 0
    while place + 16 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        start = place + (16 if length == 1 else 8)
        if kind in (b"jxlc", b"jxlp"):
            return data[start + 4 * (kind == b"jxlp") :][:32]
        length = int.from_bytes(data[place + 8 : place + 16], "big") if length == 1 else length
        if length < 8:
            break
        place += length
    return b""


def mended(image: Image.Image) -> Image.Image:
    """The opened image, or its high bytes where it is grey with alpha of 16 bits."""
    from PIL import Image

    samples: Any = getattr(image, "_data", None)
    if image.mode != "LA" or not isinstance(samples, bytes) or len(samples) != 4 * image.width * image.height:
        return image
    import numpy as np

    values = np.frombuffer(samples, "<u2").reshape(image.height, image.width, 2)
    return Image.fromarray((values >> 8).astype(np.uint8), "LA")
