"""How pictures of one size reach a model of another, and come back: padded, resized, or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.types.cards import Fixed, Sizes

if TYPE_CHECKING:
    import torch


@dataclass
class Service:
    """How images of one size reach a model of another and come back: both functions take and give float32
    (B, 3, H, W) in [0, 1]. `record` goes into the run; empty if they fit. `resizes`: pixels are interpolated."""

    to_model: Callable[[torch.Tensor], torch.Tensor]
    from_model: Callable[[torch.Tensor], torch.Tensor]
    record: Mapping[str, Any] = field(default_factory=dict)
    resizes: bool = False


def serve(sizes: Sizes, height: int, width: int, rule: str) -> Service:
    """How images of (height, width) are served to a model of `sizes` under a task's rule ("resize" or "tiles")."""
    if isinstance(sizes, Fixed):
        side = sizes.size
        if (height, width) == (side, side):
            return Service(_as_it_is, _as_it_is)
        if rule == "tiles" and min(height, width) >= side:
            return _tiles(side, height, width)
        return Service(
            lambda images: _resize(images, side, side),
            lambda images: _resize(images.clamp(0, 1), height, width),
            {"served": f"resized to {side} x {side} and back (bicubic, antialiased)"},
            resizes=True,
        )
    tall = max(sizes.at_least, -(-height // sizes.of) * sizes.of)
    wide = max(sizes.at_least, -(-width // sizes.of) * sizes.of)
    tall, wide = (-(-side // sizes.of) * sizes.of for side in (tall, wide))
    if (tall, wide) == (height, width):
        return Service(_as_it_is, _as_it_is)
    return Service(
        lambda images: _pad(images, tall - height, wide - width),
        lambda images: images[:, :, :height, :width],
        {"served": f"padded by reflection to {wide} x {tall} and cropped back"},
    )


def _as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images


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


def _tiles(side: int, height: int, width: int) -> Service:
    """Tiles of the model's size without overlap, the last row and column padded by reflection."""
    rows, columns = -(-height // side), -(-width // side)

    def cut(images: torch.Tensor) -> torch.Tensor:
        whole = _pad(images, rows * side - height, columns * side - width)
        parts = whole.unfold(2, side, side).unfold(3, side, side)
        return parts.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)

    def join(tiles: torch.Tensor) -> torch.Tensor:
        parts = tiles.reshape(-1, rows, columns, 3, side, side).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(-1, 3, rows * side, columns * side)[:, :, :height, :width]

    return Service(cut, join, {"served": f"{rows * columns} tiles of {side} x {side}"})
