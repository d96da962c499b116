"""Pixels in [0, 1] that a network wants with a mean of zero and a deviation of one, a channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts.config import Config
from vtbench.types.errors import VtbenchError


class Statistics(nn.Module):
    """(x - mean) / deviation on the way in, y * deviation + mean on the way out; constants of the arch, no weights."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).reshape(-1, 1, 1), persistent=False)

    def into(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) in [0, 1] as the network reads it."""
        return (x - self.mean) / self.deviation

    def back(self, x: Tensor) -> Tensor:
        """What the network gives, (B, channels, H, W), in [0, 1]."""
        return x * self.deviation + self.mean


def of_arch(c: Config, channels: int) -> Statistics | None:
    """From arch.pixel_mean and arch.pixel_std; None where both are null: pixels are as given then."""
    mean, deviation = c.any("pixel_mean"), c.any("pixel_std")
    if mean is None and deviation is None:
        return None
    for key, values in (("pixel_mean", mean), ("pixel_std", deviation)):
        good = isinstance(values, list | tuple) and len(values) == channels
        if not good or any(not isinstance(v, int | float) or isinstance(v, bool) for v in values):
            raise VtbenchError(f"arch.{key} is {values!r}, but must be {channels} numbers, one a channel")
    if min(deviation) <= 0:
        raise VtbenchError(f"arch.pixel_std is {deviation!r}, but a deviation is above 0")
    return Statistics(mean, deviation)
