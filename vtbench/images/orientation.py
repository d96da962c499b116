"""Which way up a picture is shown: the orientation that its metadata states, and the turn that it asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vtbench.types.shortage import refuse_shortage

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

TAG = 0x0112
"""Exif's and TIFF's Orientation: 1 to 8, by which sides of the shown picture the first row and column are (TIFF 6.0,
section 8)."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What an Exif block begins with: a TIFF's header."""
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")


def of_image(image: Image.Image) -> tuple[int, bool]:
    """(orientation, whether the Exif block could be read) of an opened image: from Exif, else from XMP; 1 where nothing
    sensible is stated, and where the decoder has turned the picture already."""
    block = image.info.get("exif")
    # Of a JPEG the plug-in has parsed it before, and is silent about one that is none.
    readable = not block or block.removeprefix(b"Exif\0\0")[:4] in _TIFF
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        # The codestream states it, and what metadata say beside it counts for nothing (ISO 18181-2); a JPEG that was
        # packed into the file comes out of the plug-in as it was.
        return 1, readable
    try:
        return valid(image.getexif().get(TAG)), readable
    except Exception as bad:
        refuse_shortage(bad, "a picture's Exif block")
        # A block that is no TIFF, or damaged: Pillow raises whatever its parser stumbles over.
        return valid(of_xmp(image.info.get("xmp"))), False


def of_exif(block: bytes) -> tuple[int | None, bool]:
    """(orientation or None, whether the block could be read) of an Exif block: a TIFF's header and its directory."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(block)
        value = exif.get(TAG)
    except Exception as bad:
        refuse_shortage(bad, "a picture's Exif block")
        # As above.
        return None, False
    return (value if isinstance(value, int) else None), True


def of_xmp(packet: Any) -> int | None:
    """The orientation of an XMP packet, by the pattern that Pillow looks for."""
    text = packet.encode(errors="replace") if isinstance(packet, str) else packet
    stated = _XMP.search(text) if isinstance(text, bytes) else None
    return int(stated[1]) if stated else None


def valid(value: Any) -> int:
    """The value if it is an orientation, else 1: as it lies."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def shown(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) as shown of a picture that is stored as `size`."""
    return size[::-1] if orientation >= 5 else size


def upright(pixels: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """The pixels (H, W, …) as they are shown."""
    import numpy as np

    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
