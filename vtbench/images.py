"""Every pixel conversion there is: reading, views, rounding, serving a model's size.

numpy and Pillow; torch is imported where tensors are handled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.types.cards import Fixed, Sizes
from vtbench.types.errors import VtbenchError, near

if TYPE_CHECKING:
    import numpy as np
    import torch
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
            image = Image.open(io.BytesIO(data), formats=FORMATS)
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
            what = f"is no image of a format that is read ({', '.join(FORMATS)})"
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
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
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


# -- views -----------------------------------------------------------------------------------------------------------


def _centre(image: Image.Image, size: int, rounding: Callable[[float], int] = int) -> Image.Image:
    left, top = rounding((image.width - size) / 2), rounding((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _shorter(image: Image.Image, side: int) -> tuple[int, int]:
    """torchvision's rule: the shorter side becomes `side`, the other is truncated (functional.py,
    _compute_resized_output_size)."""
    short, long = sorted((image.width, image.height))
    other = int(side * long / short)
    return (side, other) if image.width <= image.height else (other, side)


def fit_adm(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop: halvings by BOX while twice too large, BICUBIC to the shorter side, centre crop.

    openai/guided-diffusion 8fb3ad9, guided_diffusion/image_datasets.py:126-144.
    """
    from PIL.Image import Resampling

    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Resampling.BICUBIC)
    # ADM crops with integer division, not with the nearest integer.
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _torch_fit(filter_name: str, factor: float = 1.0) -> Callable[[Image.Image, int], Image.Image]:
    def fit(image: Image.Image, size: int) -> Image.Image:
        from PIL.Image import Resampling

        image = image.resize(_shorter(image, round(factor * size)), Resampling[filter_name])
        # torchvision's CenterCrop rounds half to even.
        return _centre(image, size, round)

    return fit


def fit_var(image: Image.Image, size: int) -> Image.Image:
    """VAR: shorter side to 1.125 x size by LANCZOS, centre crop."""
    return _torch_fit("LANCZOS", 1.125)(image, size)


@dataclass(frozen=True)
class Fit:
    """How an image becomes a square of a size; `source` cites the upstream file, `rounding` is how it writes uint8."""

    apply: Callable[[Image.Image, int], Image.Image]
    source: str
    rounding: str = "round"
    version: int = 1


FITS: Mapping[str, Fit] = {
    "vtbench": Fit(fit_adm, "openai/guided-diffusion guided_diffusion/image_datasets.py, center_crop_arr"),
    "titok": Fit(
        _torch_fit("BICUBIC"), "bytedance/1d-tokenizer data/webdataset_reader.py: Resize(BICUBIC), CenterCrop"
    ),
    "llamagen": Fit(
        fit_adm, "FoundationVision/LlamaGen tokenizer/tokenizer_image/reconstruction_vq_ddp.py: ADM's crop"
    ),
    "var": Fit(fit_var, "FoundationVision/VAR utils/data.py:23-25: Resize(1.125 size, LANCZOS), CenterCrop"),
    "magvit2": Fit(
        _torch_fit("BILINEAR"),
        "TencentARC/SEED-Voken src/Open_MAGVIT2/data/base.py:33-37: Resize(bilinear), CenterCrop; "
        "evaluation_image.py:239",
        rounding="truncate",
    ),
    "clean": Fit(
        _torch_fit("BICUBIC"), "GaParmar/clean-fid cleanfid/resize.py: PIL bicubic; CenterCrop as torchvision"
    ),
}


@dataclass(frozen=True)
class View:
    """The picture that is scored: `size` is the side of a square, None the image as it is; `protocol` names the fit."""

    protocol: str = "vtbench"
    size: int | None = None

    @staticmethod
    def parse(text: str, protocol: str = "vtbench") -> View:
        """ "native", or a side in pixels such as "256"; the protocol is one of FITS, or "native"."""
        if protocol == "native" or text == "native":
            return View("native" if protocol == "native" else protocol, None)
        if protocol not in FITS:
            raise VtbenchError(
                f"there is no protocol {protocol!r}{near(protocol, FITS)}: choose {', '.join(FITS)} or native"
            )
        if not text.isdigit() or not 1 <= int(text) <= 16384:
            raise VtbenchError(f"--view {text!r} is no view: give native, or the side of a square such as 256")
        return View(protocol, int(text))

    @property
    def name(self) -> str:
        return "native" if self.size is None else str(self.size)

    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that decides the view's pixels."""
        fit = {} if self.size is None else {"fit": self.protocol, "version": FITS[self.protocol].version}
        text = json.dumps({"size": self.size, "background": BACKGROUND, "reader": 1, **fit}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def apply(self, rgb: RGB) -> tuple[RGB, dict[str, Any]]:
        """The view of a uint8 (H, W, 3) image, and flags: `enlarged` if it was smaller than the view."""
        import numpy as np
        from PIL import Image

        if self.size is None:
            return rgb, {}
        flags = {"enlarged": True} if min(rgb.shape[:2]) < self.size else {}
        long = max(rgb.shape[:2]) * self.size / min(rgb.shape[:2])
        if long * self.size > PIXEL_LIMIT:
            raise BadImage(
                f"an image of {rgb.shape[1]} x {rgb.shape[0]} would be {int(long)} px long at {self.size}: cut it"
            )
        return np.array(FITS[self.protocol].apply(Image.fromarray(rgb), self.size)), flags


# -- rounding --------------------------------------------------------------------------------------------------------


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [0, 1]."""
    import torch

    if images.dtype != torch.uint8:
        raise VtbenchError(f"to_float was given {images.dtype}; it converts uint8 pixels")
    return images.float().div_(255)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """The one rounding: clamp to [0, 1], times 255, to the nearest integer (half to even). Refuses NaN and infinity."""
    import torch

    if not all(math.isfinite(v) for v in extremes(images)):
        raise VtbenchError("images hold NaN or infinity: they cannot be rounded to pixels", code=1)
    return images.float().clamp(0, 1).mul_(255).round_().to(torch.uint8)


def extremes(images: torch.Tensor) -> tuple[float, float]:
    """Smallest and largest value, in one pass; NaN if any value is."""
    if images.ndim == 4 and not images.is_contiguous():
        # Channels last in memory, as pictures are read: in the order of memory it is three times as fast.
        images = images.permute(0, 2, 3, 1)
    low, high = images.aminmax() if images.numel() else (0.0, 0.0)
    return float(low), float(high)


# -- serving a model's size ------------------------------------------------------------------------------------------


@dataclass
class Service:
    """How images of one size reach a model of another and come back. `record` goes into the run; empty if they fit."""

    to_model: Callable[[torch.Tensor], torch.Tensor]
    from_model: Callable[[torch.Tensor], torch.Tensor]
    record: Mapping[str, Any] = field(default_factory=dict)
    resizes: bool = False


def _resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Antialiased bicubic on floats, clamped: what "resized to its size" means wherever vtbench does it."""
    from torch.nn.functional import interpolate

    return interpolate(images, size=(height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _pad(images: torch.Tensor, bottom: int, right: int) -> torch.Tensor:
    """Reflection at the lower and right edge; beyond one image's width of it, the edge is repeated."""
    from torch.nn.functional import pad

    height, width = int(images.shape[2]), int(images.shape[3])
    reflected = (min(bottom, height - 1), min(right, width - 1))
    images = pad(images, (0, reflected[1], 0, reflected[0]), mode="reflect")
    return pad(images, (0, right - reflected[1], 0, bottom - reflected[0]), mode="replicate")


def serve(sizes: Sizes, height: int, width: int, rule: str) -> Service:
    """How images of (height, width) are served to a model of `sizes` under a task's rule ("resize" or "tiles")."""
    if isinstance(sizes, Fixed):
        side = sizes.size
        if (height, width) == (side, side):
            return Service(lambda x: x, lambda y: y)
        if rule == "tiles" and min(height, width) >= side:
            return _tiles(side, height, width)
        return Service(
            lambda x: _resize(x, side, side),
            lambda y: _resize(y.clamp(0, 1), height, width),
            {"served": f"resized to {side} x {side} and back (bicubic, antialiased)"},
            resizes=True,
        )
    tall = max(sizes.at_least, -(-height // sizes.of) * sizes.of)
    wide = max(sizes.at_least, -(-width // sizes.of) * sizes.of)
    tall, wide = (-(-side // sizes.of) * sizes.of for side in (tall, wide))
    if (tall, wide) == (height, width):
        return Service(lambda x: x, lambda y: y)
    return Service(
        lambda x: _pad(x, tall - height, wide - width),
        lambda y: y[:, :, :height, :width],
        {"served": f"padded by reflection to {wide} x {tall} and cropped back"},
    )


def _tiles(side: int, height: int, width: int) -> Service:
    """Tiles of the model's size without overlap, the last row and column padded by reflection."""

    rows, columns = -(-height // side), -(-width // side)

    def cut(x: torch.Tensor) -> torch.Tensor:
        whole = _pad(x, rows * side - height, columns * side - width)
        parts = whole.unfold(2, side, side).unfold(3, side, side)
        return parts.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)

    def join(y: torch.Tensor) -> torch.Tensor:
        parts = y.reshape(-1, rows, columns, 3, side, side).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(-1, 3, rows * side, columns * side)[:, :, :height, :width]

    return Service(cut, join, {"served": f"{rows * columns} tiles of {side} x {side}"})
