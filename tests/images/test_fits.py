"""Squares that no one project stands for, each held to the library that people make it with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.data import astronaut, chelsea, coffee
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from vtbench.images.protocols import PROTOCOLS
from vtbench.images.views import View
from vtbench.types.conditions import SQUARES

SIZE = 96
PICTURES = {"wide": coffee(), "odd": chelsea(), "square": astronaut(), "tall, smaller": coffee()[:90, :61].copy()}


def interpolated(mode: str) -> Callable[[np.ndarray], np.ndarray]:
    """torchvision's transform of a tensor without antialias: the shorter side by F.interpolate, then CenterCrop."""

    def apply(rgb: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        height, width = rgb.shape[:2]
        short, long = min(height, width), max(height, width)
        other = int(SIZE * long / short)
        size = (SIZE, other) if height <= width else (other, SIZE)
        whole = F.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=False)
        cut = transforms.CenterCrop(SIZE)(whole.clamp(0, 255).round().byte())
        return cut[0].permute(1, 2, 0).numpy()

    return apply


def of_pillow(*steps: Callable[[Image.Image], Image.Image]) -> Callable[[np.ndarray], np.ndarray]:
    def apply(rgb: np.ndarray) -> np.ndarray:
        image = Image.fromarray(rgb)
        for step in steps:
            image = step(image)
        return np.asarray(image)

    return apply


def centre_square(image: Image.Image) -> Image.Image:
    """latent-diffusion's ldm/data/lsun.py, in numpy as there."""
    rgb = np.array(image)
    crop = min(rgb.shape[:2])
    height, width = rgb.shape[:2]
    rgb = rgb[(height - crop) // 2 : (height + crop) // 2, (width - crop) // 2 : (width + crop) // 2]
    return Image.fromarray(rgb)


def resized(filter_name: str) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((SIZE, SIZE), Image.Resampling[filter_name])


TRUTH = {
    "lanczos": of_pillow(transforms.Resize(SIZE, InterpolationMode.LANCZOS), transforms.CenterCrop(SIZE)),
    "torch-bicubic": interpolated("bicubic"),
    "torch-bilinear": interpolated("bilinear"),
    "crop-bicubic": of_pillow(centre_square, resized("BICUBIC")),
    "crop-bilinear": of_pillow(centre_square, resized("BILINEAR")),
    "crop-lanczos": of_pillow(centre_square, resized("LANCZOS")),
    "stretch-bicubic": of_pillow(transforms.Resize((SIZE, SIZE), InterpolationMode.BICUBIC)),
    "titok": of_pillow(transforms.Resize(SIZE, InterpolationMode.BICUBIC), transforms.CenterCrop(SIZE)),
    "magvit2": of_pillow(transforms.Resize(SIZE, InterpolationMode.BILINEAR), transforms.CenterCrop(SIZE)),
    "var": of_pillow(transforms.Resize(108, InterpolationMode.LANCZOS), transforms.CenterCrop(SIZE)),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", TRUTH)
def test_a_square_is_that_of_its_library(name: str, picture: str) -> None:
    ours = View.parse(str(SIZE), name).apply(PICTURES[picture])[0].astype(int)
    theirs = TRUTH[name](PICTURES[picture])
    assert ours.shape == theirs.shape == (SIZE, SIZE, 3)
    # Torch sums in float32: where a sum is a half, which simple ratios make often, it may land on the other side.
    levels, share = (1, 0.05) if name.startswith("torch") else (0, 0)
    assert np.abs(ours - theirs).max() <= levels
    assert (ours != theirs).mean() <= share


def test_without_antialias_a_reduced_picture_is_another() -> None:
    """Stripes of one pixel vanish with antialias and stay without."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    contrast = {n: np.ptp(View.parse("96", n).apply(stripes)[0][20:-20, 20:-20].astype(int)) for n in TRUTH}
    assert contrast["titok"] < 30
    assert contrast["torch-bicubic"] > 200
    assert contrast["torch-bilinear"] > 90


def test_every_square_stands_in_one_table() -> None:
    assert set(SQUARES) == {name for name, protocol in PROTOCOLS.items() if protocol.crop is not None}
