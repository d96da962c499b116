"""CIEDE2000 in torch, float64, where the pixels are: `colour.summaries` and the shifts of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vtbench.metrics._on_device import chunks, percentile
from vtbench.types.metric import Batch

if TYPE_CHECKING:
    import torch


def lab(images: torch.Tensor, linear: Any, matrix: Any) -> torch.Tensor:
    """uint8 sRGB (N, 3, H, W) -> CIELAB float64 (3, N, H * W). linear: the 256 levels in linear light; matrix: 3 x 3,
    linear RGB to XYZ over the white point's."""
    import torch

    device = images.device
    light = torch.as_tensor(linear, device=device)[images.flatten(2).long()]
    rows = torch.as_tensor(matrix, device=device)
    # Three products a row rather than a matrix product, whose order of adding is the library's.
    red, green, blue = light.unbind(1)
    xyz = [red * r + green * g + blue * b for r, g, b in rows.unbind(0)]
    x, y, z = (torch.where(v > 0.008856, v.clamp(min=0) ** (1 / 3), 7.787 * v + 16 / 116) for v in xyz)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """`colour.ciede2000`, whose equations these are, on tensors (3, …) -> (…)."""
    import torch

    (l1, a1, b1), (l2, a2, b2) = one, two
    mean_c7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    g = 1.5 - 0.5 * torch.sqrt(mean_c7 / (mean_c7 + 25.0**7))
    a1, a2 = a1 * g, a2 * g
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(b, a).remainder(2 * math.pi) for a, b in ((a1, b1), (a2, b2)))
    product = c1 * c2
    dh = h2 - h1
    dh = torch.where(dh > math.pi, dh - 2 * math.pi, torch.where(dh < -math.pi, dh + 2 * math.pi, dh)) * (product > 0)
    total = h1 + h2
    turned = torch.where(total < 2 * math.pi, total / 2 + math.pi, total / 2 - math.pi)
    mean_h = torch.where((h1 - h2).abs() <= math.pi, total / 2, turned)
    mean_h = torch.where(product > 0, mean_h, total)
    mean_c = (c1 + c2) / 2
    t = 1 - 0.17 * torch.cos(mean_h - math.pi / 6) + 0.24 * torch.cos(2 * mean_h)
    t = t + 0.32 * torch.cos(3 * mean_h + math.radians(6)) - 0.20 * torch.cos(4 * mean_h - math.radians(63))
    centred = ((l1 + l2) / 2 - 50) ** 2
    lightness = (l2 - l1) / (1 + 0.015 * centred / torch.sqrt(20 + centred))
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = 2 * torch.sqrt(product) * torch.sin(dh / 2) / (1 + 0.015 * mean_c * t)
    theta = math.radians(30) * torch.exp(-(((torch.rad2deg(mean_h) - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    rotation = -2 * torch.sqrt(mean_c7 / (mean_c7 + 25.0**7)) * torch.sin(2 * theta)
    squared = lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue
    return torch.sqrt(squared.clamp(min=0))


def summaries(batch: Batch, linear: Any, matrix: Any) -> list[tuple[float, float]]:
    """(mean, 95th percentile) of CIEDE2000 over the pixels of each image."""
    out: list[tuple[float, float]] = []
    for x, y in chunks(batch):
        differences = ciede2000(lab(x, linear, matrix), lab(y, linear, matrix))
        differences = differences * (x != y).any(1).flatten(1)
        out += zip(differences.mean(1).tolist(), percentile(differences, 0.95).tolist(), strict=True)
    return out


def shifts(batch: Batch) -> list[Sequence[float]]:
    """Mean of candidate minus original of each channel, of each image."""
    out: list[Sequence[float]] = []
    for x, y in chunks(batch):
        # Whole numbers until the division: exact.
        totals = [side.flatten(2).sum(2).double() / side[0, 0].numel() for side in (y, x)]
        out += (totals[0] - totals[1]).tolist()
    return out
