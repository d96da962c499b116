"""Pictures that the checks show a tokenizer: cuts of one photograph, and how near a reconstruction is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vtbench.types.cards import Card, Fixed

if TYPE_CHECKING:
    import numpy as np
    import torch


def photograph() -> np.ndarray[Any, Any]:
    """A real, colourful photograph, uint8 (512, 512, 3): scikit-image's astronaut."""
    from skimage import data

    image: np.ndarray[Any, Any] = data.astronaut()  # type: ignore[no-untyped-call]
    return image


def photo(height: int, width: int, at: int = 0) -> torch.Tensor:
    """A cut of the photograph (or the photograph enlarged), float32 (1, 3, H, W) in [0, 1]; `at` moves the cut."""
    import numpy as np
    import torch
    from PIL import Image

    whole = Image.fromarray(photograph())
    if height > whole.height or width > whole.width:
        scale = max(height / whole.height, width / whole.width)
        size = (math.ceil(whole.width * scale), math.ceil(whole.height * scale))
        whole = whole.resize(size, Image.Resampling.BICUBIC)
    left, top = at % (whole.width - width + 1), (at * 7) % (whole.height - height + 1)
    cut = whole.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1)[None].float() / 255


def four(side: int) -> torch.Tensor:
    """Four cuts, float32 (4, 3, side, side) in [0, 1]."""
    import torch

    return torch.cat([photo(side, side, at=37 * i) for i in range(4)])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """dB over all samples of images in [0, 1], rounded to uint8 first; 99 for identical ones."""
    x, y = ((t.clamp(0, 1) * 255).round().double() for t in (a, b))
    error = float(((x - y) ** 2).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def side_near_256(card: Card) -> int:
    """A side in pixels that the model takes as it is, near 256."""
    if isinstance(card.sizes, Fixed):
        return int(card.sizes.size)
    return int(max(card.sizes.at_least, -(-256 // card.sizes.of) * card.sizes.of))


def seeds_for(count: int) -> list[int]:
    """One seed an image, the same in every check."""
    return [1000 + i for i in range(count)]
