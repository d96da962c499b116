"""What the tests of the built-in tokenizers share: loading them, a photograph that nothing was fitted on, PSNR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vtbench.models import checkpoint, weights
from vtbench.models.build import build
from vtbench.types.tokens import Tokens, unpack

CODECS = ("jpeg", "webp", "jpeg2000", "avif", "png", "jpeg-xl", "jpeg-xl-lossless")


def load(name: str, **options: Any) -> Any:
    """The loaded model; its file is the one that the card states."""
    built = build(name, {k: str(v) for k, v in options.items()})
    assert built.files.status != "unverified"
    return built.model


def cat(height: int = 128, width: int = 192) -> torch.Tensor:
    """scikit-image's cat, cut; float32 (1, 3, H, W) in [0, 1]. On nothing of it was anything fitted."""
    from skimage import data

    cut = np.ascontiguousarray(data.chelsea()[60 : 60 + height, 100 : 100 + width])
    return torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = float((((a * 255).round() - (b.clamp(0, 1) * 255).round()).double() ** 2).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def there_and_back(model: Any, image: torch.Tensor) -> tuple[Tokens, torch.Tensor]:
    """(tokens, images decoded from them); one image goes through its packed bytes."""
    tokens = model.encode(image, [0] * len(image))
    (blob, *_) = tokens.pack()
    return tokens, model.decode(unpack(blob) if len(image) == 1 else tokens, [0] * len(image))


def fit(name: str) -> dict[str, torch.Tensor]:
    return checkpoint.read(next(iter(weights.find(load(name).card).files.values())))


def patch_rows(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """(patches, 192) by reshape: channel-major 8 x 8 patches in raster order."""
    channels, height, width = image[0].shape
    cut = image[0].numpy().reshape(channels, height // 8, 8, width // 8, 8).transpose(1, 3, 0, 2, 4)
    return cut.reshape(-1, channels * 64)
