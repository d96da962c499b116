"""PNG, chunk by chunk: what decides pixels is checked and goes to the decoder alone; what does not is read as far as it
can be, and never stands in the way (W3C, Portable Network Graphics, third edition)."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from vtbench.images import orientation
from vtbench.images.limits import BadImage, within_limit

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MARK = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_DECIDES = (*_CRITICAL, b"tRNS")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_SHOWS = (b"IHDR", b"eXIf", *_TEXTS)
"""Chunks that size and orientation can stand in."""
LARGE_TEXT = 1 << 20
"""Bytes: a text above is said to have been left alone."""
LARGEST_PROFILE = 1 << 25
"""Bytes of a colour profile, unpacked: the largest press profiles have a few million."""
GREY, RGB, PALETTE = 0, 2, 3
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a sample by colour type (table 11.1)."""
_SRGB_GAMMA, _SRGB_CHROMA = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
"""gAMA and cHRM of sRGB (section 11.3.2.1 and .2), as integers of 1/100,000."""


class Chunk(NamedTuple):
    """One chunk: its type, its data (of pixels a part of the file's memory, no copy), its four bytes of CRC."""

    kind: bytes
    body: bytes | memoryview
    crc: bytes | memoryview

    @property
    def whole(self) -> bool:
        return zlib.crc32(self.body, zlib.crc32(self.kind)) == int.from_bytes(self.crc, "big")


@dataclass
class Parsed:
    """What a PNG states. `ignored`: what was left alone because it is damaged or large."""

    width: int = 0
    height: int = 0
    depth: int = 8
    colour: int = RGB
    critical: list[Chunk] = field(default_factory=list)
    pixels: list[Chunk] = field(default_factory=list)
    transparent: bytes | None = None
    """The body of tRNS."""
    turns: dict[str, int] = field(default_factory=dict)
    """Orientations by where they are stated."""
    icc: bytes | None = None
    space: dict[bytes, bytes] = field(default_factory=dict)
    """Bodies of the other chunks that state a colour space."""
    ignored: list[str] = field(default_factory=list)

    @property
    def orientation(self) -> int:
        """As Pillow weighs them: Exif, in its own chunk or in ImageMagick's text, before XMP."""
        return orientation.valid(
            next((self.turns[place] for place in ("eXIf", "text", "XMP") if place in self.turns), 1)
        )

    @property
    def profile(self) -> bytes | str | None:
        """The ICC profile, or in words what cICP, or else gAMA and cHRM, say; None for sRGB, and where nothing is
        stated. cICP goes before iCCP, that before sRGB, that before gAMA and cHRM (section 4.3)."""
        cicp = self.space.get(b"cICP")
        if cicp is not None:
            return None if cicp[:2] == b"\x01\x0d" else f"cICP {'/'.join(map(str, cicp))}"
        if self.icc is not None:
            return self.icc
        if b"sRGB" in self.space:
            return None
        words = []
        gamma, chroma = self.space.get(b"gAMA"), self.space.get(b"cHRM")
        if gamma is not None and (stated := int.from_bytes(gamma, "big")) and abs(stated - _SRGB_GAMMA) > 500:
            words.append(f"gAMA {stated / 100_000:g}")
        if chroma is not None:
            numbers = struct.unpack(">8I", chroma)
            if max(abs(a - b) for a, b in zip(numbers, _SRGB_CHROMA, strict=True)) > 500:
                words.append(f"cHRM {' '.join(f'{n / 100_000:g}' for n in numbers)}")
        return ", ".join(words) or None


class Memory:
    """Bytes, read as a file is, without copying them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = memoryview(data), 0

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self._place = place + (len(self._data) if whence == io.SEEK_END else 0)
        return self._place

    def read(self, count: int) -> memoryview:
        self._place += count
        return self._data[self._place - count : self._place]


def parse(source: BinaryIO | Memory, name: str, *, pixels: bool = True) -> Parsed:
    """Reads all chunks of a PNG; pixels=False: size and orientation alone, and no byte of the pixels.

    Raises BadImage if a chunk that decides pixels is damaged (its CRC included), missing or out of its place.
    """
    out = Parsed()
    state = "before"
    for chunk in _chunks(source, out, name, pixels):
        if not out.critical and chunk.kind != b"IHDR":
            raise _damaged(name, "its first chunk is no IHDR")
        if chunk.kind == b"IEND":
            break
        if pixels and chunk.kind in _DECIDES and not chunk.whole:
            raise BadImage(f"{name} is damaged: the checksum of its {_text(chunk.kind)} differs: replace or remove it")
        if chunk.kind == b"IDAT":
            if state == "after":
                raise _damaged(name, "its IDAT chunks are torn apart")
            state = "in"
            out.pixels.append(chunk)
            continue
        state = "after" if state == "in" else state
        if pixels or chunk.kind in _SHOWS:
            _take(chunk, out, name, state == "before")
    else:
        out.ignored.append("the end mark is missing")
    if state == "before":
        raise _damaged(name, "it has no IDAT")
    if out.depth not in _DEPTHS.get(out.colour, ()):
        raise BadImage(
            f"{name} is a PNG of colour type {out.colour} at {out.depth} bits, which there is none: save it anew"
        )
    return out


def _chunks(source: BinaryIO | Memory, out: Parsed, name: str, pixels: bool) -> Iterator[Chunk]:
    """The chunks until the file ends, or is none any more; what is torn before the end of the pixels is refused.
    pixels=False: the bodies of those alone that say how the picture is shown."""
    end = source.seek(0, io.SEEK_END)
    place = source.seek(len(MARK))
    while True:
        head = bytes(source.read(8))
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        place += 12 + length
        if len(head) == 8 and kind.isalpha() and place <= end:
            if pixels or kind in _SHOWS:
                body = source.read(length)
                yield Chunk(kind, body if kind == b"IDAT" else bytes(body), source.read(4))
            else:
                source.seek(place)
                yield Chunk(kind, b"", b"")
            continue
        if kind == b"IEND" or (not head and out.pixels):
            return
        if kind in _DECIDES or not out.pixels:
            raise _damaged(name, f"it ends in its {_text(kind)}" if kind.isalpha() else "it ends before its pixels")
        out.ignored.append("what follows the pixels (damaged)")
        return


def _take(chunk: Chunk, out: Parsed, name: str, before: bool) -> None:
    """Keeps what a chunk states. before: no pixel has come yet."""
    kind, body = chunk.kind, bytes(chunk.body)
    if kind == b"IHDR":
        if out.critical or len(body) != 13:
            raise _damaged(name, "its IHDR is no header")
        out.width, out.height, out.depth, out.colour = struct.unpack(">IIBB", body[:10])
        out.critical.append(chunk)
    elif kind == b"PLTE":
        if any(known.kind == kind for known in out.critical) or not before:
            raise _damaged(name, "its palette is out of its place")
        if out.colour == PALETTE:
            out.critical.append(chunk)
    elif kind == b"tRNS":
        _transparency(chunk, out, name, before)
    elif kind[:1].isupper():
        raise BadImage(f"{name} has the critical chunk {_text(kind)}, which no PNG standard knows: save it anew")
    elif not chunk.whole:
        if kind not in (b"fcTL", b"fdAT", b"acTL"):
            out.ignored.append(f"{_text(kind)} (its checksum differs)")
    elif kind == b"eXIf":
        readable = _turn(out, "eXIf", orientation.of_exif(b"Exif\0\0" + body))
        out.ignored += [] if readable else ["eXIf (no Exif block)"]
    elif kind == b"iCCP":
        out.icc = _profile(body)
        out.ignored += [] if out.icc is not None else ["iCCP (cannot be unpacked)"]
    elif kind in _TEXTS:
        _metadata(chunk, out)
    elif len(body) == {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}.get(kind):
        out.space[kind] = body


def _transparency(chunk: Chunk, out: Parsed, name: str, before: bool) -> None:
    length = {GREY: 2, RGB: 6}.get(out.colour)
    if not before or out.colour > PALETTE:
        out.ignored.append("tRNS (out of its place)")
    elif (length is not None and len(chunk.body) != length) or out.transparent is not None or len(chunk.body) > 256:
        raise _damaged(name, f"its tRNS has {len(chunk.body)} bytes")
    else:
        out.transparent = bytes(chunk.body)
        if out.colour == PALETTE:
            out.critical.append(chunk)


def _profile(body: bytes) -> bytes | None:
    """The ICC profile of an iCCP, None where it cannot be unpacked: a name, a zero, the method (0), the stream."""
    start = body.find(b"\0") + 2
    return _unpacked(body[start:], LARGEST_PROFILE) if start > 1 and body[start - 1 : start] == b"\0" else None


def _unpacked(stream: bytes, most: int) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        out = unpacking.decompress(stream, most + 1)
    except zlib.error:
        return None
    return out if unpacking.eof and len(out) <= most else None


def _metadata(chunk: Chunk, out: Parsed) -> None:
    """An orientation in an XMP packet, or in the text in which ImageMagick keeps an Exif block."""
    key, _, rest = bytes(chunk.body).partition(b"\0")
    text: bytes | None = rest
    if chunk.kind == b"zTXt" or (chunk.kind == b"iTXt" and rest[:1] == b"\1"):
        stream = rest[1:] if chunk.kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
        text = _unpacked(stream, LARGE_TEXT)
    if text is None or len(text) > LARGE_TEXT:
        out.ignored.append(f"{_text(chunk.kind)} {key[:79].decode('latin-1')!r} (damaged or above {LARGE_TEXT} bytes)")
    elif key == b"XML:com.adobe.xmp":
        _turn(out, "XMP", (orientation.of_xmp(text), True))
    elif key == b"Raw profile type exif":
        with contextlib.suppress(ValueError):
            block = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
            _turn(out, "text", orientation.of_exif(block))


def _turn(out: Parsed, place: str, stated: tuple[int | None, bool]) -> bool:
    """Keeps the orientation that a place states, and hands on whether it could be read."""
    value, readable = stated
    if value is not None:
        out.turns[place] = value
    return readable


def _text(kind: bytes) -> str:
    return kind.decode("latin-1")


def _damaged(name: str, what: str) -> BadImage:
    return BadImage(f"{name} cannot be read as an image (a PNG, but {what}): replace or remove the file")


# -- pixels ------------------------------------------------------------------------------------------------------------


def decoded(parsed: Parsed, name: str) -> Image.Image:
    """The picture as Pillow decodes it from the chunks that decide pixels alone: of mode L, I;16, RGB, LA, RGBA or P
    (transparency of its palette applied: RGBA), as it lies. Raises BadImage over the limit, and what Pillow raises."""
    from PIL import Image

    within_limit(parsed.width, parsed.height, name)
    image = _plain(parsed)
    if parsed.colour == PALETTE:
        image.load()
        count = sum(len(chunk.body) // 3 for chunk in parsed.critical if chunk.kind == b"PLTE")
        if int(image.getextrema()[1]) >= count:  # type: ignore[arg-type]
            raise _damaged(name, f"its pixels name colours behind the {count} of its palette")
        return image if parsed.transparent is None else image.convert("RGBA")
    if parsed.transparent is None:
        image.load()
        return image.convert("L") if image.mode == "1" else image
    seen = _opaque(parsed, image)
    image = image.convert("L") if image.mode == "1" else image
    if image.mode.startswith("I"):
        import numpy as np

        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    out = image.convert("RGBA")
    out.putalpha(Image.fromarray(seen))
    return out


def _plain(parsed: Parsed, raw: str | None = None) -> Image.Image:
    """The picture opened from what decides its pixels, its IDATs joined to one, so that the decoder sees the end of the
    stream, and zlib's checksum with it, in one piece. raw: another layout of samples to unpack."""
    from PIL import Image

    parts: list[bytes | memoryview] = [MARK]
    for chunk in parsed.critical:
        parts += [len(chunk.body).to_bytes(4, "big"), *chunk]
    stream = [chunk.body for chunk in parsed.pixels]
    # Their checksums have been looked at; Pillow passes over that of pixels.
    parts += [sum(map(len, stream)).to_bytes(4, "big"), b"IDAT", *stream, bytes(4), bytes(4), b"IEND", b"\xaeB`\x82"]
    data = b"".join(parts)
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.decodermaxblock = len(data)
    if raw is not None:
        image.tile = [tile._replace(args=raw) for tile in image.tile]
    return image


def _opaque(parsed: Parsed, image: Image.Image) -> np.ndarray[Any, Any]:
    """uint8 (H, W): 0 where all samples, at the picture's own depth, are those of tRNS, else 255. Loads the image."""
    import numpy as np

    assert parsed.transparent is not None
    key = np.frombuffer(parsed.transparent, ">u2").astype(np.int64) & ((1 << parsed.depth) - 1)
    image.load()
    if parsed.colour == GREY:
        # Pillow spreads fewer than eight bits over 0..255.
        samples = np.asarray(image.convert("L") if image.mode == "1" else image).astype(np.int64)[..., None]
        key = key * (255 // ((1 << parsed.depth) - 1)) if parsed.depth < 8 else key
    else:
        samples = np.asarray(image).astype(np.int64)
        if parsed.depth == 16:
            # The layout of the other byte order unpacks the low bytes.
            samples = (samples << 8) | np.asarray(_plain(parsed, "RGB;16L"))
    return np.where((samples == key).all(axis=2), 0, 255).astype(np.uint8)
