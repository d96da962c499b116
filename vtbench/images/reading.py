"""Bytes of an image file -> uint8 RGB, by one rule; and the hash that says whether two pictures are the same."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import io
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    RGB = np.ndarray[Any, np.dtype[np.uint8]]

PIXEL_LIMIT = 1 << 28
"""268 million pixels (16,384 x 16,384), 805 MB as RGB: above every photograph that is scored, below a bomb."""
BACKGROUND = (255, 255, 255)
"""Transparent pixels are laid on white, as pages and figures are shown."""


class BadImage(VtbenchError):
    """A file that is no image, or half of one, or over the limit."""


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "GIF")
"""What is tried on a file's bytes, whatever its suffix: raster formats only (Pillow hands EPS to Ghostscript)."""


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
    """FORMATS, and those whose plug-in is installed."""
    return (*FORMATS, *(name for name, plugin in PLUGINS.items() if _registered(plugin)))


def _registered(plugin: Plugin) -> bool:
    if importlib.util.find_spec(plugin.module) is None:
        return False
    module = importlib.import_module(plugin.module)
    if plugin.register:
        getattr(module, plugin.register)()
    return True


def decode(data: bytes, name: str) -> RGB:
    """uint8 RGB (H, W, 3) of an image file, by one rule.

    EXIF rotation is applied; alpha is laid on white; grey is repeated; palettes are looked up; CMYK is converted by
    Pillow's plain formula; 16-bit samples keep their high byte; of several frames the first. Colour profiles are not
    applied. Raises BadImage if the file is no image, truncated, or over PIXEL_LIMIT (read from its header, before
    decoding).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow's own, lower warning level; the limit that counts is ours. Damaged metadata is no damaged picture.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=formats())
            _within_limit(image, name)
            image.load()
            return _to_rgb(image, name)
    except BadImage:
        raise
    except Image.DecompressionBombError as bad:
        raise BadImage(f"{name} is refused: it has more than {PIXEL_LIMIT} pixels, the limit") from bad
    except Exception as bad:
        # Pillow's plug-ins raise whatever a damaged file makes them stumble over; their text may print a whole buffer.
        if not data:
            what = "is empty"
        elif isinstance(bad, UnidentifiedImageError):
            what = f"is no image of a format that is read ({', '.join(formats())})"
        else:
            what = f"cannot be read as an image ({type(bad).__name__}: {str(bad)[:100]})"
        raise BadImage(f"{name} {what}: replace or remove the file") from bad


def _to_rgb(image: Image.Image, name: str) -> RGB:
    """The rule of `decode` for an opened image of any mode."""
    import numpy as np
    from PIL import Image, ImageOps

    tags = dict(getattr(image, "tag_v2", {}))
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.repeat(_high_byte(image, tags, name)[..., None], 3, axis=2)
    if image.mode == "F":
        raise BadImage(f"{name} holds floating-point samples, whose range is not stated: save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (*BACKGROUND, 255)), over)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _high_byte(image: Image.Image, tags: Mapping[int, Any], name: str) -> np.ndarray[Any, Any]:
    """uint8 (H, W) of grey samples of more than 8 bits; `tags` are a TIFF's, empty for other formats."""
    import numpy as np

    values = np.asarray(image).astype(np.int64)
    # TIFF 6.0: BitsPerSample (258), SampleFormat (339, 2 is signed), PhotometricInterpretation (262, 0 is white).
    depth = int(tags.get(258, (16,))[0])
    if depth > 16 or tags.get(339, (1,))[0] == 2 or values.min() < 0 or values.max() >= 1 << depth:
        raise BadImage(
            f"{name} holds {depth}-bit integers from {values.min()} to {values.max()}, whose range is not stated: "
            "save it with 8 or 16 bits"
        )
    # Pillow itself keeps the high byte of 16-bit colour, so grey is treated alike: v >> 8.
    grey = (values >> (depth - 8)).astype(np.uint8)
    # Pillow turns 8-bit samples round where 0 is white, and leaves wider ones as they are stored.
    return 255 - grey if tags.get(262) == 0 else grey


def _within_limit(image: Image.Image, name: str) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        raise BadImage(
            f"{name} is refused: {image.width} x {image.height} pixels, the limit is {PIXEL_LIMIT}: cut or shrink it"
        )


def header_size(path: Path) -> tuple[int, int]:
    """(width, height) as shown (EXIF rotation applied), from the header alone."""
    from PIL import Image

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # A pipe would be waited for.
            raise BadImage(f"{path} is no regular file: replace or remove it")
        with Image.open(path, formats=formats()) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except BadImage:
        raise
    except Image.DecompressionBombError as bad:
        raise BadImage(f"{path} is refused: it has more than {PIXEL_LIMIT} pixels, the limit") from bad
    except Exception as bad:
        # As in `decode`: a damaged header makes plug-ins raise anything.
        raise BadImage(
            f"{path} is no image that can be read ({type(bad).__name__}): replace or remove the file"
        ) from bad


def rgb_sha256(rgb: RGB) -> str:
    """sha256 of shape and pixels of a uint8 (H, W, 3) image."""
    import numpy as np

    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}\0".encode())
    digest.update(memoryview(np.ascontiguousarray(rgb)).cast("B"))
    return digest.hexdigest()
