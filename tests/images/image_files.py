"""Pictures and files of pictures that several tests of images use."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RGB = np.ndarray[Any, Any]


def noise(height: int, width: int, seed: int = 7) -> RGB:
    """uint8 (H, W, 3): the same for the same seed and shape."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(seed: int, height: int = 8, width: int = 8) -> RGB:
    """Noise of its own for every seed."""
    return noise(height, width, seed)


def photograph(height: int = 300, width: int = 451) -> RGB:
    """scikit-image's cat, cut."""
    from skimage import data

    return np.ascontiguousarray(data.chelsea()[:height, :width])


def encoded(rgb: RGB | Image.Image, kind: str, **how: Any) -> bytes:
    """The bytes of a file in Pillow's format `kind`."""
    out = io.BytesIO()
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    image.save(out, format=kind, **how)
    return out.getvalue()


def save(path: Path, rgb: RGB) -> RGB:
    """Writes the picture, in folders that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return rgb
