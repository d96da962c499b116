"""TIFF: its structure by tifffile; planes, tiles, colour and transparency by the rule of all formats.

What libtiff is needed for (JPEG, fax, LZW and other compressions, depths other than 8 and 16 bits) is decoded by
Pillow, which is right for the layouts that are left to it: tests/images hold each against a second decoder.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from vtbench.images import orientation
from vtbench.images.limits import BadImage, within_limit
from vtbench.types.errors import how_to_install

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Samples = np.ndarray[Any, Any]

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF, little- and big-endian."""
_DEFLATE = (8, 32946)
_ZSTANDARD = 50000
_DECODERS = {5: "lzw_decode", _ZSTANDARD: "zstd_decode", 32773: "packbits_decode", 34925: "lzma_decode"}
"""Lossless compressions that imagecodecs undoes, by its functions: the samples are the same, whoever does it."""
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}
"""Samples of colour by PhotometricInterpretation: WhiteIsZero, BlackIsZero, RGB, palette, CMYK."""
_NAMES = {6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a colour filter array", 4: "a mask"}
_BY_LIBTIFF = (0, 1, 2, 3, 5, 6)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, RGB_PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNASSOCIATED, ASSOCIATED = 2, 1
UNSIGNED, UNDEFINED = 1, 4
"""Of SampleFormat; what its writer did not know is read as if it stated nothing (TIFF 6.0, section 19)."""
_SAMPLES = {2: "signed integers", 3: "floating-point samples", 5: "complex integers", 6: "complex numbers"}


@dataclass(frozen=True)
class Page:
    """The first picture of a file, by its tags."""

    width: int
    height: int
    orientation: int
    photometric: int
    depth: int
    samples: int
    extra: tuple[int, ...] | None
    """ExtraSamples; None where the tag is not there."""
    separate: bool
    compression: int
    format: int
    predictor: int
    fill_order: int
    icc: bytes | None

    def refusal(self) -> str | None:
        """What keeps the samples from being pixels, whoever decodes them."""
        if self.format not in (UNSIGNED, UNDEFINED):
            what = _SAMPLES.get(self.format, f"samples of format {self.format}")
            bits = "" if self.format in (3, 6) else f"{self.depth}-bit "
            return f"holds {bits}{what}, whose range is not stated: save it with 8 or 16 bits"
        if self.depth > 16:
            return f"holds {self.depth}-bit integers, whose range is not stated: save it with 8 or 16 bits"
        if self.photometric not in _BY_LIBTIFF:
            what = _NAMES.get(self.photometric, f"PhotometricInterpretation {self.photometric}")
            return f"is a TIFF of {what}, which is not read: save it as RGB"
        if self.photometric in _COLOURS and self.samples < _COLOURS[self.photometric]:
            return f"is a TIFF of {self.samples} samples a pixel, too few for its colours: save it anew"
        if self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and self.samples > 2:
            return f"is a TIFF of {self.samples} grey samples a pixel, none of them said to be a colour: save it as RGB"
        return None

    @property
    def ours(self) -> bool:
        """Whether the samples are laid out here, from segments that need no decompressor but zlib; else by Pillow."""
        known = self.compression == 1 or self.compression in _DEFLATE or (self.pillow_errs and self._by_imagecodecs)
        return known and self._is_plain

    @property
    def ours_at_need(self) -> bool:
        """The same, of what is left to a Pillow that turns out to be built without the compression."""
        return self.compression == _ZSTANDARD and self._by_imagecodecs and self._is_plain

    @property
    def _is_plain(self) -> bool:
        plain = self.predictor in (1, 2) and self.fill_order == 1
        return plain and self.depth in (8, 16) and self.photometric in _COLOURS

    @property
    def pillow_errs(self) -> bool:
        """Layouts that Pillow refuses or reads as other pixels: grey with alpha, but interleaved of 8 bits, and where
        white is zero with alpha or of 16 bits."""
        wide = self.depth != 8
        if self.photometric == WHITE_IS_ZERO:
            return self.samples > 1 or self.depth == 16
        return self.photometric == BLACK_IS_ZERO and self.samples > 1 and (self.separate or wide)

    @property
    def _by_imagecodecs(self) -> bool:
        return self.compression in _DECODERS and importlib.util.find_spec("imagecodecs") is not None

    @property
    def alpha(self) -> tuple[int, int] | None:
        """(sample, UNASSOCIATED or ASSOCIATED) of the first extra sample that is alpha. Four samples of RGB without the
        tag are taken as unassociated, as Pillow takes them."""
        colours = _COLOURS.get(self.photometric, 3)
        if self.samples <= colours:
            return None
        if self.extra is None:
            return (colours, UNASSOCIATED) if self.photometric == RGB and self.samples == 4 else None
        kinds = zip(range(colours, self.samples), self.extra, strict=False)
        return next(((k, kind) for k, kind in kinds if kind in (UNASSOCIATED, ASSOCIATED)), None)

    def described(self) -> str:
        what = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK"}.get(self.photometric)
        planes = " in separate planes" if self.separate else ""
        return f"{self.depth}-bit {what or _NAMES.get(self.photometric)}{planes}, compression {self.compression}"


def page_of(source: BinaryIO, name: str) -> Page:
    """The first page's facts. Raises BadImage over the limit, and whatever tifffile raises on a damaged file."""
    with _opened(source) as file:
        return _page(file, name)


def _opened(source: BinaryIO) -> Any:
    import tifffile

    # Its warnings on damaged tags would otherwise go to a user's screen.
    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    source.seek(0)
    return tifffile.TiffFile(source)


def _page(file: Any, name: str) -> Page:
    page = file.pages[0]
    tags = page.tags
    width, height = int(page.imagewidth), int(page.imagelength)
    within_limit(width, height, name)
    if page.is_tiled:
        within_limit(int(page.tilewidth), int(page.tilelength), f"{name} (one of its tiles)")
    if int(page.imagedepth) != 1 or not width or not height:
        raise BadImage(f"{name} is a TIFF of {width} x {height} x {page.imagedepth}: wanted one flat picture")
    depths, formats = _numbers(tags.valueof(258, 1)), _numbers(tags.valueof(339, 1))
    if len(set(depths)) > 1 or len(set(formats)) > 1:
        raise BadImage(f"{name} is a TIFF whose samples differ in depth ({depths}): save it with 8 or 16 bits")
    icc, turn = tags.valueof(34675), tags.valueof(orientation.TAG)
    return Page(
        width,
        height,
        orientation.valid(turn if isinstance(turn, int) else None),
        int(tags.valueof(262, BLACK_IS_ZERO)),
        depths[0],
        int(page.samplesperpixel),
        None if tags.valueof(338) is None else _numbers(tags.valueof(338)),
        int(page.planarconfig or 1) == 2 and int(page.samplesperpixel) > 1,
        int(page.compression),
        formats[0],
        int(page.predictor),
        int(page.fillorder),
        bytes(icc) if isinstance(icc, bytes) else None,
    )


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple | list) else (int(value),)


def decoded(data: bytes, name: str) -> tuple[Image.Image, Page]:
    """(picture of mode L, RGB, RGBA, CMYK or P, as it lies; its page). Where Pillow decodes it is turned already, and
    the page's orientation is 1."""
    with _opened(io.BytesIO(data)) as file:
        page = _page(file, name)
        if why := page.refusal():
            raise BadImage(f"{name} {why}")
        colours = file.pages[0].tags.valueof(320)
        if page.ours:
            return _image(page, _samples(file, page, data, name), colours, name), page
        if page.pillow_errs:
            raise BadImage(
                f"{name} is a TIFF of {page.described()}, which needs the package imagecodecs: "
                f"{how_to_install('images')}, or save it without compression"
            )
        try:
            image = _by_pillow(data, page, name)
        except OSError:
            # Pillow 11.3 has no Zstandard, and says of a file no more than that it cannot decode it.
            if not page.ours_at_need:
                raise
            return _image(page, _samples(file, page, data, name), colours, name), page
    if image.mode == "P":
        image.putpalette(_palette(page, colours, name).tobytes())
    return image, replace(page, orientation=1)


def _samples(file: Any, page: Page, data: bytes, name: str) -> Samples:
    """(H, W, samples) uint8 or uint16, as stored, put together from strips or tiles (TIFF 6.0, sections 3 and 15)."""
    import numpy as np

    stored = file.pages[0]
    tall, wide = (
        (int(stored.tilelength), int(stored.tilewidth))
        if stored.is_tiled
        else (min(int(stored.rowsperstrip), page.height), page.width)
    )
    if tall < 1 or wide < 1:
        raise BadImage(
            f"{name} cannot be read as an image (a TIFF of strips without a row): replace or remove the file"
        )
    planes, each = (page.samples, 1) if page.separate else (1, page.samples)
    down, across = -(-page.height // tall), -(-page.width // wide)
    places = list(zip(stored.dataoffsets, stored.databytecounts, strict=True))
    dtype = np.dtype(f"{file.byteorder}u{page.depth // 8}")
    out = np.zeros((page.height, page.width, page.samples), dtype.newbyteorder("="))
    for index in range(planes * down * across):
        plane, row, column = index // (down * across), index // across % down, index % across
        # The last strip ends with the picture, the last tile does not.
        rows = tall if stored.is_tiled else min(tall, page.height - row * tall)
        wanted = rows * wide * each * dtype.itemsize
        offset, count = places[index] if index < len(places) else (0, 0)
        body = _undone(page.compression, data[offset : offset + count], wanted) if offset and count else b""
        if len(body) < wanted:
            raise BadImage(
                f"{name} cannot be read as an image (a TIFF without all of its pixels): replace or remove it"
            )
        part = np.frombuffer(body, dtype, wanted // dtype.itemsize).reshape(rows, wide, each)
        if page.predictor == 2:
            part = np.cumsum(part, axis=1, dtype=out.dtype)
        top, left = row * tall, column * wide
        target = out[top : top + rows, left : left + wide, plane : plane + each]
        target[:] = part[: target.shape[0], : target.shape[1]]
    return out


SURPLUS = 1 << 26
"""Bytes that a compressed segment may hold beside its samples: a last strip padded to the height of the others."""


def _undone(compression: int, body: bytes, wanted: int) -> bytes:
    """At most `wanted` bytes of a segment, uncompressed."""
    if compression == 1:
        return body
    if compression in _DEFLATE:
        return _inflated(body, wanted)
    import imagecodecs

    return bytes(getattr(imagecodecs, _DECODERS[compression])(body, out=wanted))


def _inflated(body: bytes, wanted: int) -> bytes:
    """At most `wanted` bytes of a zlib stream, which is followed to its end: its checksum stands there, and a segment
    may hold more rows than the picture. Raises zlib.error where that differs, or is missing behind all samples."""
    unpacking = zlib.decompressobj()
    out = unpacking.decompress(body, wanted)
    surplus = 0
    while len(out) == wanted and not unpacking.eof:
        part = unpacking.decompress(unpacking.unconsumed_tail, 1 << 16)
        surplus += len(part)
        if surplus > SURPLUS or not (part or unpacking.eof):
            raise zlib.error("the data go on behind the last sample, or end without their checksum")
    return out


def _image(page: Page, samples: Samples, colours: Any, name: str) -> Image.Image:
    """The stored samples as a picture: the high byte of 16 bits, black and white as they are meant, palette looked up,
    associated alpha divided out by Pillow's rule. colours: the palette, 3 x 2^depth values of 16 bits."""
    import numpy as np
    from PIL import Image

    if page.photometric == RGB_PALETTE:
        return Image.fromarray(_palette(page, colours, name)[samples[..., 0]])
    values = samples if page.depth == 8 else (samples >> 8).astype(np.uint8)
    count = _COLOURS[page.photometric]
    colour = 255 - values[..., :1] if page.photometric == WHITE_IS_ZERO else values[..., :count]
    if page.alpha is None:
        modes = {1: "L", 3: "RGB", 4: "CMYK"}
        return Image.fromarray(np.ascontiguousarray(colour if count > 1 else colour[..., 0]), modes[count])
    if page.photometric == CMYK:
        raise BadImage(f"{name} is a TIFF of CMYK with alpha, which is not read: save it as RGB")
    sample, kind = page.alpha
    alpha = values[..., sample : sample + 1]
    whole = np.concatenate([np.broadcast_to(colour, (*colour.shape[:2], 3)), alpha], axis=2)
    return Image.fromarray(whole, "RGBa" if kind == ASSOCIATED else "RGBA").convert("RGBA")


def _palette(page: Page, colours: Any, name: str) -> Samples:
    """uint8 (2^depth, 3): the high bytes, unless no value is above 255, which libtiff takes for a palette of bytes
    (tif_getimage.c, checkcmap): its writer did not scale them."""
    import numpy as np

    table = np.asarray(colours if colours is not None else (), np.uint16)
    if table.size != 3 << page.depth:
        raise BadImage(
            f"{name} cannot be read as an image (a TIFF whose palette has {table.size} values): save it anew"
        )
    return (table >> 8 * int(table.max() > 255)).astype(np.uint8).reshape(3, -1).T


def _by_pillow(data: bytes, page: Page, name: str) -> Image.Image:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    except UnidentifiedImageError as bad:
        raise BadImage(f"{name} is a TIFF of {page.described()}, which is not read: save it with 8 or 16 bits") from bad
    image.load()
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 1 << page.depth:
        raise BadImage(f"{name} cannot be read as an image (a TIFF of {page.depth} bits that holds {values.max()})")
    grey = (values >> (page.depth - 8)).astype(np.uint8)
    # Pillow turns 8-bit samples round where 0 is white, and leaves wider ones as they are stored.
    return Image.fromarray(255 - grey if page.photometric == WHITE_IS_ZERO else grey)
