"""Bytes of an image file -> uint8 RGB, by one rule; and the hash that says whether two pictures are the same."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from vtbench.images import jp2, jxl, netpbm, orientation, png, profiles, tiff
from vtbench.images.limits import PIXEL_LIMIT, BadImage, open_regular, within_limit
from vtbench.types.shortage import refuse_shortage

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    RGB = np.ndarray[Any, np.dtype[np.uint8]]

BACKGROUND = (255, 255, 255)
"""Transparent pixels are laid on white, as pages and figures are shown."""
READER = 1
"""Part of every view's fingerprint: goes up when the rule comes to mean other pixels. A file that was misread, and is
read right by now, is another picture by the sha256 of its row."""


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "GIF")
"""What is tried on a file's bytes, whatever its suffix: raster formats only (Pillow hands EPS to Ghostscript)."""


_EXIF_ITEM = re.compile(rb"(infe[\2\3]...(?:..|....)..)Exif", re.DOTALL)
"""An entry of the box iinf (ISO 14496-12, 8.11.6): version, flags, the item's number, its protection, its type."""


class Plugin(NamedTuple):
    """A plug-in of Pillow that the extra `formats` brings; `register` is called once, if it is not empty."""

    module: str
    register: str = ""


PLUGINS: Mapping[str, Plugin] = {
    "HEIF": Plugin("pillow_heif", "register_heif_opener"),
    "JXL": Plugin("pillow_jxl"),
}
"""Formats that are tried too where their plug-in is installed."""


@functools.cache
def formats() -> tuple[str, ...]:
    """FORMATS, and those whose plug-in is installed. Pillow then lets through what our own limit does."""
    from PIL import Image

    # Twice this is where Pillow refuses, with a number of its own; it is left alone where somebody has set it higher.
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, PIXEL_LIMIT)
    return (*FORMATS, *(name for name, plugin in PLUGINS.items() if _registered(plugin)))


def _registered(plugin: Plugin) -> bool:
    if importlib.util.find_spec(plugin.module) is None:
        return False
    module = importlib.import_module(plugin.module)
    if plugin.register:
        getattr(module, plugin.register)()
    return True


@dataclass(frozen=True, eq=False)
class Picture:
    """A file as read: uint8 RGB (H, W, 3), the profile that it states (None: sRGB, or nothing stated), whether that was
    applied, what was left alone of its metadata, and, where a manifest states these pixels in another file, how that
    differs."""

    rgb: RGB
    profile: profiles.Profile | None = None
    converted: bool = False
    ignored: tuple[str, ...] = ()
    reencoded: str = ""

    @property
    def flags(self) -> dict[str, Any]:
        """For the image's row: `profile`, a colour profile that was not applied, or `converted`, one that was;
        `ignored`, damaged or large metadata; and `reencoded`."""
        flags: dict[str, Any] = {}
        if self.profile is not None:
            flags["converted" if self.converted else "profile"] = self.profile.name
        flags |= {"reencoded": self.reencoded} if self.reencoded else {}
        return {**flags, "ignored": list(self.ignored)} if self.ignored else flags


@dataclass
class _Stored:
    """A picture as its format's decoder gives it, and what the file says beside its pixels."""

    image: Image.Image
    orientation: int = 1
    profile: bytes | str | None = None
    ignored: list[str] = field(default_factory=list)


def decode(data: bytes, name: str) -> RGB:
    """uint8 RGB (H, W, 3) of an image file: the pixels of `read_picture`."""
    return read_picture(data, name).rgb


def read_picture(data: bytes, name: str, icc: str = "") -> Picture:
    """The picture of an image file, by one rule.

    The orientation that its metadata states is applied; alpha is laid on white; grey is repeated; palettes are looked
    up; CMYK is converted by Pillow's plain formula; wider samples keep their high byte; of several frames the first.
    Colour profiles are named, and applied only if `icc` is "srgb". Damaged metadata is named, and no damage to the
    picture. Raises BadImage if the file is no image, truncated, wholly transparent, or over PIXEL_LIMIT (read from its
    header, before decoding).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Of damaged metadata, and of Pillow's lower warning level for sizes; the limit that counts is ours.
            warnings.simplefilter("ignore")
            return _picture(_stored(data, name), name, icc)
    except BadImage:
        raise
    except Image.DecompressionBombError as bad:
        raise BadImage(_too_many(bad, name)) from bad
    except Exception as bad:
        # Pillow's plug-ins raise whatever a damaged file makes them stumble over; their text may print a whole buffer.
        if not data:
            what = "is empty"
        elif isinstance(bad, UnidentifiedImageError):
            what = f"is no image of a format that is read ({', '.join(formats())})"
        else:
            what = f"cannot be read as an image ({type(bad).__name__}: {str(bad)[:100]})"
        raise BadImage(f"{name} {what}: replace or remove the file") from bad


def _stored(data: bytes, name: str) -> _Stored:
    """By the format's own module, where Pillow alone does not read all of it right."""

    if data.startswith(png.MARK):
        parsed = png.parse(png.Memory(data), name)
        return _Stored(png.decoded(parsed, name), parsed.orientation, parsed.profile, parsed.ignored)
    if data.startswith(tiff.MARKS):
        picture, page = tiff.decoded(data, name)
        return _Stored(picture, page.orientation, page.icc)
    header = netpbm.wide(data)
    if header is not None:
        return _Stored(netpbm.decoded(data, header, name))
    stream = jp2.stream_of(io.BytesIO(data)) if data.startswith(jp2.MARKS) else None
    if stream is not None:
        jp2.check(stream, name)
    if stream is not None and not stream.plain:
        return _Stored(jp2.decoded(data, stream, name), profile=stream.profile)
    if data.startswith(jxl.MARKS) and (stated := jxl.size_of(data)):
        within_limit(*stated, name)
    image, readable = _opened(data)
    within_limit(image.width, image.height, name)
    size = image.size
    image.load()
    if image.size != size:
        # Of containers, whose own header a damaged one may contradict: no size is believed twice.
        raise BadImage(
            f"{name} states {size[0]} x {size[1]} pixels, has {image.width} x {image.height}: replace or remove it"
        )
    turn, known = orientation.of_image(image)
    ignored = [] if readable and known else ["Exif (damaged)"]
    if stream is not None:
        return _Stored(jp2.arranged(image, stream), turn, stream.profile, ignored)
    profile = image.info.get("icc_profile") or profiles.in_other_words(image, data)
    return _Stored(jxl.mended(image) if image.format == "JXL" else image, turn, profile, ignored)


def _opened(data: bytes) -> tuple[Image.Image, bool]:
    """(image, whether it opened as it is): an AVIF or HEIF whose Exif block Pillow's plug-in stumbles over is opened
    without it (ISO 23008-12: the block is an item of its own, which its entry gives a type)."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=formats()), True
    except Exception:
        # Whatever the plug-in raises: without the block it is asked again, or it is raised.
        without = _EXIF_ITEM.sub(rb"\1none", data) if data[4:8] == b"ftyp" else data
        if without == data:
            raise
        return Image.open(io.BytesIO(without), formats=formats()), False


def _picture(stored: _Stored, name: str, icc: str) -> Picture:
    """The rule of `read_picture` for a decoded image of any mode."""
    import numpy as np
    from PIL import Image

    image = stored.image
    profile, readable = profiles.stated(stored.profile)
    ignored = tuple(stored.ignored if readable else [*stored.ignored, "ICC profile (damaged)"])
    if image.mode.startswith("I;16"):
        # Pillow itself keeps the high byte of 16-bit colour, so grey is treated alike.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BadImage(
            f"{name} holds samples of mode {image.mode}, whose range is not stated: save it with 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[1] == 0:
            raise BadImage(
                f"{name} is wholly transparent (alpha 0 everywhere), so there is nothing of it to compare: save it "
                "without alpha, or with the right one"
            )
    converted = profile is not None and icc == profiles.SRGB
    if profile is not None and converted:
        image = profiles.to_srgb(image, profile, name)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    rgb = np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
    return Picture(orientation.upright(rgb, stored.orientation), profile, converted, ignored)


def _too_many(bad: Exception, name: str) -> str:
    """Pillow's refusal of a size that it finds in a header, by our limit."""
    pixels = re.search(r"\d+", str(bad))
    count = f"{pixels[0]} pixels" if pixels else "more pixels than can be had"
    return f"{name} is refused: {count}, the limit is {PIXEL_LIMIT}: cut or shrink it"


def header_size(path: Path) -> tuple[int, int]:
    """(width, height) as shown, from the header alone: for every file that `read_picture` reads, the size of that."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), open_regular(path, str(path)) as source:
            warnings.simplefilter("ignore")
            return _shown_size(source, str(path))
    except (BadImage, OSError) as bad:
        refuse_shortage(bad, path)
        if isinstance(bad, BadImage):
            raise
        raise BadImage(f"{path} cannot be read ({bad.strerror or bad}): mend its rights, or remove it") from bad
    except Image.DecompressionBombError as bad:
        raise BadImage(_too_many(bad, str(path))) from bad
    except Exception as bad:
        # As in `read_picture`: a damaged header makes plug-ins raise anything.
        raise BadImage(
            f"{path} is no image that can be read ({type(bad).__name__}): replace or remove the file"
        ) from bad


def _shown_size(source: BinaryIO, name: str) -> tuple[int, int]:
    from PIL import Image

    head = source.read(16)
    if head.startswith(png.MARK):
        parsed = png.parse(source, name, pixels=False)
        return orientation.shown((parsed.width, parsed.height), parsed.orientation)
    if head.startswith(tiff.MARKS):
        page = tiff.page_of(source, name)
        return orientation.shown((page.width, page.height), page.orientation)
    source.seek(0)
    image, _ = _opened(source.read()) if head[4:8] == b"ftyp" else (Image.open(source, formats=formats()), True)
    with image:
        turn, _ = orientation.of_image(image)
        return orientation.shown(image.size, turn)


def rgb_sha256(rgb: RGB) -> str:
    """sha256 of shape and pixels of a uint8 (H, W, 3) image."""
    import numpy as np

    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}\0".encode())
    digest.update(memoryview(np.ascontiguousarray(rgb)).cast("B"))
    return digest.hexdigest()
