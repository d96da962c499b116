"""Fits: how an image becomes a square of a size, each as its upstream does it. Pillow and numpy, no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench.types.conditions import SQUARES, Square

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Fit:
    """`apply(image, size)` gives the square of `size` pixels a side; `source` cites the upstream file. `version` is
    part of every fingerprint: it goes up when the pixels change."""

    apply: Callable[[Image.Image, int], Image.Image]
    source: str
    version: int = 1


def fit(name: str, source: str) -> Fit:
    """The fit of the protocol `name`, as SQUARES states it."""
    square = SQUARES[name]
    return Fit(fit_adm if square.resampling == "adm" else functools.partial(_apply, square), source)


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


def _apply(square: Square, image: Image.Image, size: int) -> Image.Image:
    if square.order == "no crop":
        return _resize(image, (size, size), square)
    if square.order == "crop first":
        side = min(image.size)
        # latent-diffusion's data sets (ldm/data/lsun.py) cut with integer division.
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return _resize(image.crop((left, top, left + side, top + side)), (size, size), square)
    image = _resize(image, _shorter_side_to(image, round(square.enlargement * size)), square)
    # torchvision's CenterCrop rounds half to even.
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _shorter_side_to(image: Image.Image, side: int) -> tuple[int, int]:
    """(width, height) by torchvision's rule: the shorter side becomes `side`, the other is truncated (functional.py,
    _compute_resized_output_size)."""
    short, long = sorted((image.width, image.height))
    other = int(side * long / short)
    return (side, other) if image.width <= image.height else (other, side)


def _resize(image: Image.Image, size: tuple[int, int], square: Square) -> Image.Image:
    """To (width, height): by Pillow, whose filters grow with the reduction, or as torch does without antialias."""
    from PIL import Image as Pillow

    if square.antialias:
        return image.resize(size, Pillow.Resampling[square.resampling.upper()])
    import numpy as np

    # Height first, as it is the first axis; each axis alone, since the filter is separable.
    pixels = np.asarray(image)
    for axis, length in ((0, size[1]), (1, size[0])):
        pixels = _interpolate(pixels, axis, length, square.resampling)
    return Pillow.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


CUBIC = -0.75
"""Torch's coefficient of the cubic convolution (aten/src/ATen/native/UpSample.h, get_cubic_upsample_coefficients);
Pillow's and Matlab's is -0.5."""


def _interpolate(pixels: Any, axis: int, length: int, resampling: str) -> Any:
    """(H, W, 3) of any number type -> float64 with one axis resampled to `length`, as F.interpolate does it with
    align_corners=False and antialias=False: four samples (bicubic) or two (bilinear) around (i + 0.5) * scale - 0.5,
    the border repeated."""
    import numpy as np

    shape = [1, 1, 1]
    shape[axis] = length
    place = (np.arange(length) + 0.5) * (pixels.shape[axis] / length) - 0.5
    if resampling == "bilinear":
        place = np.maximum(place, 0)
    first = np.floor(place).astype(np.int64)
    t = place - first
    out = 0.0
    for offset, weight in _taps(t, resampling):
        index = np.clip(first + offset, 0, pixels.shape[axis] - 1)
        out = out + pixels.take(index, axis=axis) * weight.reshape(shape)
    return out


def _taps(t: Any, resampling: str) -> list[tuple[int, Any]]:
    """(offset from the sample before, weight) of every sample that is read; t: how far behind that one the place is."""
    if resampling == "bilinear":
        return [(0, 1 - t), (1, t)]

    def near(x: Any) -> Any:
        return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC

    return [(-1, far(t + 1)), (0, near(t)), (1, near(1 - t)), (2, far(2 - t))]
