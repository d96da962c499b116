"""Fits: how an image becomes a square of a size, each as its upstream does it. Functions of Pillow, no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Fit:
    """`apply(image, size)` gives the square of `size` pixels a side; `source` cites the upstream file. `version` is
    part of every fingerprint: it goes up when the pixels change."""

    apply: Callable[[Image.Image, int], Image.Image]
    source: str
    version: int = 1


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


def fit_torchvision(filter_name: str, factor: float = 1.0) -> Callable[[Image.Image, int], Image.Image]:
    """torchvision's Resize (of Pillow images, by the named filter) to `factor` times the size, then CenterCrop."""

    def fit(image: Image.Image, size: int) -> Image.Image:
        from PIL.Image import Resampling

        image = image.resize(_shorter_side_to(image, round(factor * size)), Resampling[filter_name])
        # torchvision's CenterCrop rounds half to even.
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return image.crop((left, top, left + size, top + size))

    return fit


def _shorter_side_to(image: Image.Image, side: int) -> tuple[int, int]:
    """(width, height) by torchvision's rule: the shorter side becomes `side`, the other is truncated (functional.py,
    _compute_resized_output_size)."""
    short, long = sorted((image.width, image.height))
    other = int(side * long / short)
    return (side, other) if image.width <= image.height else (other, side)
