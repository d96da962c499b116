"""JPEG 2000: what the file says of its samples decides who decodes them, and which are which colour (ISO 15444-1).

Pillow rounds wider colour up until white becomes black, leaves narrower samples dark, and takes components in the order
in which they lie.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from vtbench.images.boxes import boxes
from vtbench.images.limits import BadImage, within_limit
from vtbench.types.errors import how_to_install

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MARKS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""Of a file, and of a codestream alone."""
_LONGEST = 1 << 16
"""Bytes of a marker, at most."""
CMYK, SRGB, GREY, SYCC, ROMM = 12, 16, 17, 18, 21
"""Enumerated colour spaces (table I.10 and, of part 2, M.25)."""
_READ = (CMYK, SRGB, GREY, SYCC, ROMM, None)
"""At 8 bits; Pillow takes every other one for RGB or refuses it without a reason."""
_OPACITY, _PREMULTIPLIED = 1, 2
"""Kinds of channels that cover the picture (table I.16); 0 is a colour, all others are no pixels."""


@dataclass(frozen=True)
class Stream:
    """What the marker of sizes (A.5.1) states of the samples, and the boxes before it of their colours (I.5.3):
    `colours` is the enumerated space, `palette_depth` the bits of a palette's entries, `channels` what each component
    is: (component, kind, colour from 1)."""

    width: int
    height: int
    depths: tuple[int, ...]
    signed: bool
    subsampled: bool
    colours: int | None = None
    palette_depth: int = 0
    icc: bytes | None = None
    channels: tuple[tuple[int, int, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether all samples have 8 bits, which Pillow reads right."""
        return set(self.depths) == {8} and self.palette_depth <= 8

    @property
    def profile(self) -> bytes | str | None:
        """The ICC profile, or in words a space that is RGB of other primaries."""
        return self.icc or ("ROMM RGB, as EnumCS says" if self.colours == ROMM else None)

    @property
    def order(self) -> list[int]:
        """The components of the colours, by the box cdef (I.5.3.6), else as they lie."""
        of_colour = {colour: component for component, kind, colour in self.channels if kind == 0}
        count = 4 if self.colours == CMYK else 3 if len(self.depths) > 2 else 1
        return [of_colour.get(k + 1, -1) for k in range(count)] if of_colour else list(range(count))

    @property
    def opacity(self) -> tuple[int, int] | None:
        """(component, kind) of the one that covers the picture; where the file does not say, the last of two or four
        is taken for it, as every reader does."""
        if self.channels:
            kinds = (_OPACITY, _PREMULTIPLIED)
            return next(((component, kind) for component, kind, _ in self.channels if kind in kinds), None)
        return (len(self.depths) - 1, _OPACITY) if len(self.depths) in (2, 4) and self.colours != CMYK else None

    def refusal(self) -> str | None:
        """Why the samples are not read; None where they are."""
        bits = "/".join(map(str, dict.fromkeys(self.depths)))
        if self.palette_depth > 8:
            return f"a palette of {self.palette_depth} bits"
        if self.channels and not self.palette_depth:
            lost = not set(self.order) <= set(range(len(self.depths)))
            if lost or (self.colours == SYCC and self.order != [0, 1, 2]):
                return f"components of which {[c for c, *_ in self.channels]} are said to be {self.channels}"
        if self.plain:
            right = self.colours in _READ and (self.colours != CMYK or len(self.depths) == 4)
            return None if right else f"{len(self.depths)} components in the enumerated colour space {self.colours}"
        if len(set(self.depths)) > 1 or self.depths[0] > 16 or len(self.depths) > 4:
            return f"{len(self.depths)} components of {bits} bits"
        if self.signed or self.subsampled:
            return f"{'signed' if self.signed else 'subsampled'} samples of {bits} bits"
        if self.depths[0] > 8 and len(self.depths) > 2 and self.colours not in (SRGB, GREY, None):
            return f"{bits} bits in the enumerated colour space {self.colours}"
        return None


def stream_of(source: BinaryIO) -> Stream | None:
    """The file's facts; None where no codestream is found, which the decoder will say better."""
    end = source.seek(0, io.SEEK_END)
    source.seek(0)
    if source.read(4) == MARKS[1]:
        return _sizes(source, 4)
    facts: dict[str, Any] = {}
    for kind, start, stop in boxes(source, 0, end):
        if kind == b"jp2h":
            facts = _colours(source, start, stop)
        if kind == b"jp2c":
            stream = _sizes(source, start + 4)
            return None if stream is None else replace(stream, **facts)
    return None


def _colours(source: BinaryIO, start: int, stop: int) -> dict[str, Any]:
    """What the header box says of colours: the first colr that is understood, and the palette."""
    facts: dict[str, Any] = {}
    for kind, first, last in boxes(source, start, stop):
        source.seek(first)
        body = source.read(last - first)
        if kind == b"colr" and body[:1] == b"\1" and len(body) >= 7:
            facts.setdefault("colours", int.from_bytes(body[3:7], "big"))
        elif kind == b"colr" and body[:1] in (b"\2", b"\3"):
            facts.setdefault("icc", body[3:])
        elif kind == b"pclr" and len(body) > 3:
            facts["palette_depth"] = max(((depth & 0x7F) + 1 for depth in body[3 : 3 + body[2]]), default=0)
        elif kind == b"cdef":
            facts["channels"] = tuple(struct.iter_unpack(">HHH", body[2 : 2 + (len(body) - 2) // 6 * 6]))
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
    ones spread over 0..255. The stream is one that `check` lets through."""
    within_limit(stream.width, stream.height, name)
    depth, count = stream.depths[0], len(stream.depths)
    if depth < 8:
        return arranged(_narrow(data, depth), stream)
    wide = _high_bytes(_with_alpha(data, name) if count == 2 else _by_opencv(data, stream, name), depth)
    # OpenJPEG, by which both decode, has put the colours in their order and before the rest.
    return _covered(list(wide.split()), stream.opacity)


def check(stream: Stream, name: str) -> None:
    """Raises BadImage for layouts that no decoder here reads right."""
    if why := stream.refusal():
        raise BadImage(f"{name} is a JPEG 2000 of {why}, which is not read: save it as RGB of 8 or 16 bits")


def arranged(image: Image.Image, stream: Stream) -> Image.Image:
    """The picture as Pillow decodes it, with every component where the file says that it belongs."""
    bands = list(image.split())
    # Of a palette, the box speaks of its columns.
    if not stream.channels or len(bands) != len(stream.depths) or stream.palette_depth:
        return image
    cover = [bands[stream.opacity[0]]] if stream.opacity is not None else []
    colours = [bands[component] for component in stream.order]
    return _covered([*colours, *cover], stream.opacity) if image.mode != "CMYK" else image


def _covered(bands: list[Image.Image], opacity: tuple[int, int] | None) -> Image.Image:
    """Colours and what covers them as one picture; further components are no pixels. Premultiplied samples are divided
    by Pillow's rule."""
    from PIL import Image

    count = 3 if len(bands) > 2 else 1
    if opacity is None:
        return Image.merge("RGB", bands[:3]) if count == 3 else bands[0]
    cover = bands[count]
    if opacity[1] == _PREMULTIPLIED:
        return Image.merge("RGBa", [*(bands[:3] if count == 3 else bands[:1] * 3), cover]).convert("RGBA")
    return Image.merge("RGBA", [*bands[:3], cover]) if count == 3 else Image.merge("LA", [bands[0], cover])


def _narrow(data: bytes, depth: int) -> Image.Image:
    """Pillow moves the samples to the top of the byte, and leaves what is below empty: white of one bit is 128."""
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
    image.load()
    if image.mode in ("P", "PA"):
        return image
    most = (1 << depth) - 1
    return image.point([(value >> (8 - depth)) * 255 // most for value in range(256)] * len(image.getbands()))


def _by_opencv(data: bytes, stream: Stream, name: str) -> np.ndarray[Any, Any]:
    """uint16 (H, W) or (H, W, 3 or 4); OpenCV's own messages stay off a user's screen."""
    import cv2
    import numpy as np

    # OpenCV 5 has it there, OpenCV 4.10 on the module itself; 0 is silence in both.
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    shape = (stream.height, stream.width, len(stream.depths))
    if pixels is None or pixels.dtype != np.uint16 or (*pixels.shape, 1)[:3] != shape:
        raise BadImage(f"{name} cannot be read as an image (a damaged JPEG 2000): replace or remove the file")
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: shape[2]]])


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
