"""Serving a model's size: padding against numpy, resizing against Pillow, tiles by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import photograph
from PIL import Image

from vtbench.images.serving import serve
from vtbench.types.cards import Fixed, Multiple


@pytest.mark.parametrize(
    ("sizes", "shape", "wanted"),
    [
        (Multiple(16), (33, 50), (48, 64)),
        (Multiple(16, 64), (33, 50), (64, 64)),
        (Multiple(14, 32), (5, 40), (42, 42)),
        (Multiple(8), (1, 1), (8, 8)),
        (Multiple(32), (2, 70), (32, 96)),
    ],
)
def test_multiples(sizes: Multiple, shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    """The padded picture is numpy's reflection where there is enough to reflect, its edge beyond that."""
    images = torch.rand(2, 3, *shape)
    service = serve(sizes, *shape, rule="resize")
    padded = service.to_model(images)
    assert tuple(padded.shape) == (2, 3, *wanted)
    assert torch.equal(service.from_model(padded), images)
    assert "reflection" in service.record["served"]
    below, right = wanted[0] - shape[0], wanted[1] - shape[1]
    first = (min(below, shape[0] - 1), min(right, shape[1] - 1))
    truth = np.pad(images.numpy(), ((0, 0), (0, 0), (0, first[0]), (0, first[1])), mode="reflect")
    truth = np.pad(truth, ((0, 0), (0, 0), (0, below - first[0]), (0, right - first[1])), mode="edge")
    assert np.array_equal(padded.numpy(), truth)


def test_what_fits_is_untouched() -> None:
    images = torch.rand(1, 3, 32, 48)
    for service in (serve(Multiple(16), 32, 48, "resize"), serve(Fixed(32), 32, 32, "resize")):
        assert service.record == {}
        assert service.to_model(images) is images


def test_fixed_is_resized_there_and_back() -> None:
    """A smooth ramp survives a resize: both ways it stays within a hundredth, and sizes are right."""
    ramp = torch.linspace(0.1, 0.9, 96).expand(1, 3, 64, 96).contiguous()
    service = serve(Fixed(48), 64, 96, "resize")
    small = service.to_model(ramp)
    assert tuple(small.shape) == (1, 3, 48, 48)
    back = service.from_model(small)
    assert tuple(back.shape) == (1, 3, 64, 96)
    assert float((back - ramp)[..., 4:-4].abs().max()) < 0.01
    assert service.record["served"].startswith("resized to 48 x 48 and back")


def test_resize_is_pillows() -> None:
    """Antialiased bicubic on floats is Pillow's bicubic but for Pillow's rounding between and after the passes."""
    rgb = photograph(200, 300)
    images = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    ours = serve(Fixed(96), 200, 300, "resize").to_model(images)[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(Image.fromarray(rgb).resize((96, 96), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(ours - theirs).max() <= 2


def test_tiles() -> None:
    images = torch.rand(2, 3, 70, 100)
    service = serve(Fixed(32), 70, 100, "tiles")
    tiles = service.to_model(images)
    assert tuple(tiles.shape) == (2 * 3 * 4, 3, 32, 32)
    # Image-major, then raster order: tile 12 is the second image's first, tile 5 the first image's row 1, column 1.
    assert torch.equal(tiles[12], images[1, :, :32, :32])
    assert torch.equal(tiles[5], images[0, :, 32:64, 32:64])
    assert torch.equal(service.from_model(tiles), images)
    assert service.record == {"served": "12 tiles of 32 x 32"}
