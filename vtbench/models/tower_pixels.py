"""What a tower is shown: resized, cut and normalised as the preprocessor_config.json beside its weights says.

As transformers' own image processors do it with Pillow on uint8; which filter and which mean is part of the tower, and
stands in its file. A tower without that file is prepared as transformers' class for its family does by default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_uint8
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import read_object

if TYPE_CHECKING:
    import torch

FILE = "preprocessor_config.json"
LARGEST = 4096
"""Pixels of a side that such a file may ask for."""


@dataclass(frozen=True)
class Preparation:
    """shortest: the shorter side after resizing, or None; size: (height, width) that is reached by resizing without
    regard to the shape, or None; crop: (height, width) cut from the centre, or None. resample: Pillow's number of the
    filter. mean, std: by channel, of values in [0, 1]."""

    shortest: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def output(self) -> tuple[int, int] | None:
        """(height, width) of every prepared picture; None where it depends on the picture."""
        return self.crop or self.size

    def pictures(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, h, w) of float32 (B, 3, H, W) in [0, 1]: as the tower sees them, before normalisation."""
        height, width = int(images.shape[2]), int(images.shape[3])
        if self.size is not None:
            target = self.size
        elif self.shortest is not None:
            # transformers' get_resize_output_image_size: the longer side is cut off, not rounded.
            short, long = min(height, width), max(height, width)
            other = int(self.shortest * long / short)
            target = (self.shortest, other) if height <= width else (other, self.shortest)
        else:
            target = height, width
        pixels = resized(to_uint8(images), target, self.resample)
        return pixels if self.crop is None else cropped(pixels, self.crop)

    def normalised(self, pictures: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
        """(B, 3, h, w) in the tower's dtype, of uint8 pictures."""
        import torch

        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return ((pictures.float() / 255 - mean) / std).to(device, dtype)


def resized(pixels: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
    """uint8 (B, 3, h, w) by Pillow, of uint8 (B, 3, H, W)."""
    import numpy as np
    import torch
    from PIL import Image

    if tuple(pixels.shape[2:]) == size:
        return pixels.cpu()
    height, width = size
    images = [
        np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling(resample)))
        for one in pixels.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def cropped(pixels: torch.Tensor, crop: tuple[int, int]) -> torch.Tensor:
    """The centre, as transformers' center_crop: what a small picture lacks is black."""
    import torch

    height, width = int(pixels.shape[2]), int(pixels.shape[3])
    lack = max(0, crop[0] - height), max(0, crop[1] - width)
    if any(lack):
        # As much above and to the left as below and to the right, the odd row or column first.
        top, left = math.ceil(lack[0] / 2), math.ceil(lack[1] / 2)
        canvas = torch.zeros((*pixels.shape[:2], height + lack[0], width + lack[1]), dtype=pixels.dtype)
        canvas[:, :, top : top + height, left : left + width] = pixels
        pixels, height, width = canvas, height + lack[0], width + lack[1]
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    return pixels[:, :, top : top + crop[0], left : left + crop[1]].contiguous()


def preparation(folder: Path, default: Preparation, side: int) -> tuple[Preparation, str | None]:
    """(how the tower of a folder wants its pictures, a sentence where that is not stated there). side: the tower's own
    size, at which `default` is taken where there is no file."""
    path = folder / FILE
    if not path.is_file():
        square = (side, side)
        if default.shortest is not None:
            own = replace(default, shortest=max(side, round(side * default.shortest / 224)), crop=square)
        else:
            own = replace(default, size=square)
        return own, f"{folder.name} holds no {FILE}: pictures are prepared as transformers does by default for its kind"
    stated = read_object(path)
    try:
        return _stated(stated, default), None
    except (KeyError, TypeError, ValueError) as bad:
        raise VtbenchError(
            f"{path} does not say how pictures are prepared ({bad}): copy it from the hub again"
        ) from bad


def _stated(stated: Mapping[str, Any], default: Preparation) -> Preparation:
    size: Any = stated.get("size")
    shortest, exact = None, None
    if stated.get("do_resize", True) and size is not None:
        if isinstance(size, Mapping) and "shortest_edge" in size:
            shortest = _side(size["shortest_edge"])
        elif isinstance(size, Mapping):
            exact = _side(size["height"]), _side(size["width"])
        elif default.shortest is not None:
            shortest = _side(size)
        else:
            exact = (_side(size),) * 2
    crop: Any = stated.get("crop_size") if stated.get("do_center_crop", default.crop is not None) else None
    if isinstance(crop, Mapping):
        crop = _side(crop["height"]), _side(crop["width"])
    elif crop is not None:
        crop = (_side(crop),) * 2
    mean, std = default.mean, default.std
    if not stated.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        mean = _three(stated.get("image_mean", mean))
        std = _three(stated.get("image_std", std))
    factor = stated.get("rescale_factor", 1 / 255)
    if not stated.get("do_rescale", True) or abs(float(factor) * 255 - 1) > 1e-3:
        raise ValueError(f"rescale_factor {factor!r}: only 1/255 is known")
    if min(std) <= 0:
        raise ValueError(f"image_std {std}: wanted numbers above 0")
    resample = stated.get("resample", default.resample)
    if resample not in range(6):
        raise ValueError(f"resample {resample!r}: wanted Pillow's 0 to 5")
    return Preparation(shortest, exact, crop, int(resample), mean, std)


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(f"a side of {value!r} pixels")
    return value


def _three(values: Sequence[Any]) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in values)
    if not all(map(math.isfinite, (r, g, b))):
        raise ValueError(f"a mean or deviation of {values!r}")
    return r, g, b
