"""Random numbers of a batch, every image's from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Seeded:
    """A generator an image, so that a batch of four draws the same numbers as four of one, on any device.

    Every call gives float32 (B, *shape), drawn on the CPU and then moved.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(int(s) % 2**63) for s in seeds]
        self.device = device

    def exponential(self, *shape: int) -> Tensor:
        import torch

        drawn = [torch.empty(shape).exponential_(generator=g) for g in self.generators]
        return torch.stack(drawn).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        import torch

        return torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        import torch

        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)

    def gumbel(self, *shape: int) -> Tensor:
        return gumbel(self.uniform(*shape))

    def pick(self, rows: Sequence[int]) -> Seeded:
        """The noise of some of the images."""
        out = Seeded((), self.device)
        out.generators = [self.generators[r] for r in rows]
        return out


def gumbel(uniform: Tensor) -> Tensor:
    """-log(-log u) of u in [0, 1), clamped to [1e-20, ...] as the MaskGIT ports do."""
    import torch

    return -torch.log((-torch.log(uniform.clamp(min=1e-20))).clamp(min=1e-20))
