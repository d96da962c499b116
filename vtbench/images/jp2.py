"""JPEG 2000 of other than 8 bits a sample: Pillow rounds wider colour up until white becomes black, and leaves narrower
samples dark. What the file says of its samples decides who decodes them (ISO 15444-1)."""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from vtbench.images.limits import BadImage, within_limit
from vtbench.types.errors import how_to_install

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MARKS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""Of a file, and of a codestream alone."""
_LONGEST = 1 << 16
"""Bytes of a marker, at most."""
_RGB_OR_GREY = (16, 17)
"""Enumerated colour spaces sRGB and grey (table I.10)."""


@dataclass(frozen=True)
class Stream:
    """What the marker of sizes (A.5.1) states of the samples, and the boxes before it of their colours (I.5.3):
    `colours` is the enumerated space, `palette_depth` the bits of a palette's entries."""

    width: int
    height: int
    depths: tuple[int, ...]
    signed: bool
    subsampled: bool
    colours: int | None = None
    palette_depth: int = 0
    icc: bytes | None = None

    def refusal(self) -> str | None:
        """Why samples of other than 8 bits are not read; None where they are."""
        bits = "/".join(map(str, dict.fromkeys(self.depths)))
        if self.palette_depth > 8:
            return f"a palette of {self.palette_depth} bits"
        if len(set(self.depths)) > 1 or self.depths[0] > 16 or len(self.depths) > 4:
            return f"{len(self.depths)} components of {bits} bits"
        if self.signed or self.subsampled:
            return f"{'signed' if self.signed else 'subsampled'} samples of {bits} bits"
        if self.depths[0] > 8 and len(self.depths) > 2 and self.colours not in (*_RGB_OR_GREY, None):
            return f"{bits} bits in the enumerated colour space {self.colours}"
        return None


def stream_of(source: BinaryIO) -> Stream | None:
    """The file's facts; None where no codestream is found, which the decoder will say better."""
    end = source.seek(0, io.SEEK_END)
    source.seek(0)
    if source.read(4) == MARKS[1]:
        return _sizes(source, 4)
    facts: dict[str, Any] = {}
    for kind, start, stop in _boxes(source, 0, end):
        if kind == b"jp2h":
            facts = _colours(source, start, stop)
        if kind == b"jp2c":
            stream = _sizes(source, start + 4)
            return None if stream is None else replace(stream, **facts)
    return None


def _boxes(source: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, end) of the contents of the boxes (I.4)."""
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


def _colours(source: BinaryIO, start: int, stop: int) -> dict[str, Any]:
    """What the header box says of colours: the first colr that is understood, and the palette."""
    facts: dict[str, Any] = {}
    for kind, first, last in _boxes(source, start, stop):
        source.seek(first)
        body = source.read(last - first)
        if kind == b"colr" and body[:1] == b"\1" and len(body) >= 7:
            facts.setdefault("colours", int.from_bytes(body[3:7], "big"))
        elif kind == b"colr" and body[:1] in (b"\2", b"\3"):
            facts.setdefault("icc", body[3:])
        elif kind == b"pclr" and len(body) > 3:
            facts["palette_depth"] = max(((depth & 0x7F) + 1 for depth in body[3 : 3 + body[2]]), default=0)
    return facts


def _sizes(source: BinaryIO, start: int) -> Stream | None:
    source.seek(start)
    sizes = source.read(_LONGEST)
    if len(sizes) < 38:
        return None
    right, bottom, left, top = struct.unpack(">IIII", sizes[4:20])
    (count,) = struct.unpack(">H", sizes[36:38])
    parts = [sizes[38 + 3 * k : 41 + 3 * k] for k in range(count)]
    if not parts or any(len(part) < 3 for part in parts):
        return None
    return Stream(
        right - left,
        bottom - top,
        tuple((part[0] & 0x7F) + 1 for part in parts),
        any(part[0] & 0x80 for part in parts),
        any(part[1:] != b"\1\1" for part in parts),
    )


def decoded(data: bytes, stream: Stream, name: str) -> Image.Image:
    """The picture of samples of other than 8 bits, of mode L, LA, RGB or RGBA: the high byte of wider ones, narrower
    ones spread over 0..255. Raises BadImage for layouts that no decoder here reads right."""
    within_limit(stream.width, stream.height, name)
    why = stream.refusal()
    depth, count = stream.depths[0], len(stream.depths)
    if why is not None:
        raise BadImage(f"{name} is a JPEG 2000 of {why}, which is not read: save it with 8 or 16 bits")
    if depth < 8:
        return _narrow(data, depth)
    if count == 1:
        return _high_bytes(_grey(data), 16)
    return _high_bytes(_with_alpha(data, name) if count == 2 else _colour(data, stream, name), depth)


def _narrow(data: bytes, depth: int) -> Image.Image:
    """Pillow moves the samples to the top of the byte, and leaves what is below empty: white of one bit is 128."""
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
    image.load()
    if image.mode in ("P", "PA"):
        return image
    most = (1 << depth) - 1
    return image.point([(value >> (8 - depth)) * 255 // most for value in range(256)] * len(image.getbands()))


def _grey(data: bytes) -> np.ndarray[Any, Any]:
    """uint16 (H, W): Pillow moves the samples to the top of 16 bits."""
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
    return np.asarray(image).astype(np.uint16)


def _colour(data: bytes, stream: Stream, name: str) -> np.ndarray[Any, Any]:
    """uint16 (H, W, 3 or 4) by OpenCV, whose own messages stay off a user's screen."""
    import cv2
    import numpy as np

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    size = (stream.height, stream.width)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[:2] != size:
        raise BadImage(f"{name} cannot be read as an image (a damaged JPEG 2000): replace or remove the file")
    return np.asarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _with_alpha(data: bytes, name: str) -> np.ndarray[Any, Any]:
    """uint16 (H, W, 2): grey with alpha, which OpenCV does not take."""
    if importlib.util.find_spec("imagecodecs") is None:
        raise BadImage(
            f"{name} is a JPEG 2000 of grey with alpha of more than 8 bits, which needs the package imagecodecs: "
            f"{how_to_install('images')}, or save it with 8 bits"
        )
    import imagecodecs
    import numpy as np

    return np.asarray(imagecodecs.jpeg2k_decode(data))


def _high_bytes(samples: np.ndarray[Any, Any], depth: int) -> Image.Image:
    import numpy as np
    from PIL import Image

    return Image.fromarray((samples >> (depth - 8)).astype(np.uint8))
