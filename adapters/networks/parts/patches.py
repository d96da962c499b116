"""Pictures as rows of square patches and back, for the tokenizers that are fitted on patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cut(images: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, H/side * W/side, C * side * side), raster order, channel-major inside a patch."""
    from torch.nn.functional import unfold

    return unfold(images, side, stride=side).transpose(1, 2)


def join(patches: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    """The inverse of `cut`."""
    from torch.nn.functional import fold

    return fold(patches.transpose(1, 2), (height, width), side, stride=side)


def project(images: torch.Tensor, side: int, mean: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """Latents of patches on rows of `components` (D, C * side * side): (B, positions, D).

    float64 (but for MPS, which has none): the order of summation differs with the batch, and must not turn a rounding
    of the latent over.
    """
    import torch

    wide = torch.float32 if images.device.type == "mps" else torch.float64
    return (cut(images.to(wide), side) - mean.to(wide)) @ components.T.to(wide)


def nearest(rows: torch.Tensor, book: torch.Tensor, block: int = 16384) -> torch.Tensor:
    """Index of the nearest row of `book` (K, D) for every row of `rows` (N, D), squared L2, int64 (N,).

    One row's answer does not depend on how many others come with it: the products are float64, so that the order of
    summation, which differs with the batch, cannot flip a choice that float32 would find equal.
    """
    import torch

    # MPS has no float64.
    wide = torch.float32 if rows.device.type == "mps" else torch.float64
    codes = book.to(wide)
    norms = (codes**2).sum(dim=1)
    return torch.cat([(norms - 2 * part.to(wide) @ codes.T).argmin(dim=1) for part in rows.split(block)])


def channels_last(images: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, H/side * W/side, side * side * C), raster order, channels innermost."""
    cells = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def from_channels_last(rows: torch.Tensor, side: int, grid: tuple[int, int]) -> torch.Tensor:
    """The inverse of `channels_last` for a grid of (H/side, W/side) patches."""
    cells = rows.unflatten(2, (side, side, -1)).unflatten(1, grid)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
