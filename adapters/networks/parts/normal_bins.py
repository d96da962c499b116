"""TokenBridge's rule: every scalar of a latent becomes the index of one of 2^bits values; nothing is learned.

YuqingWang1029/TokenBridge @ 3ede2818 reconstruction.py:55-131, models/tokenbridge.py:434-545
(https://arxiv.org/abs/2503.16430).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np

    from vtbench.adapters.networks.parts.config import Config

# Entries of the (scalars, values) table held at once where the values are not in order.
_TABLE = 2**22


def boundaries(bits: int, std_range: float) -> np.ndarray[Any, Any]:
    """Edges of 2^bits bins, as `edges` has them."""
    return edges(2**bits, std_range)


def edges(levels: int, std_range: float) -> np.ndarray[Any, Any]:
    """Edges of so many bins of equal probability under the standard normal, clamped to +-std_range.

    float64, (levels + 1,). A range that does not reach the outer bins leaves them without width.
    """
    import numpy as np
    from scipy.special import ndtri

    return np.asarray(ndtri(np.linspace(0, 1, levels + 1)).clip(-std_range, std_range))


def table(bits: int, std_range: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value of every index, (2^bits,), as `means` has them."""
    return means(2**bits, std_range, dtype)


def means(levels: int, std_range: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value of every index, (levels,): the mean of the standard normal truncated to its bin, 0 if it is empty.

    In float32 throughout, as upstream: in float64 the values differ in the fifth decimal, since differences of near
    numbers are divided, and for the same reason two processors differ there. float64 is for measuring that.
    """
    bounds = torch.from_numpy(edges(levels, std_range)).float().to(dtype)
    density = torch.exp(-0.5 * bounds**2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + torch.erf(bounds / math.sqrt(2)))
    mass = below[1:] - below[:-1]
    return (density[:-1] - density[1:]) / torch.where(mass == 0, 1e-10, mass)


class NormalBins:
    """float32 latents <-> indices; the same for every channel and position.

    [low, high] of the latent is mapped to +-std_range of the normal and clamped there.
    """

    def __init__(self, bits: int, low: float, high: float, std_range: float) -> None:
        if not 1 <= bits <= 16:
            raise VtbenchError(f"bits={bits}: give 1 to 16 bits a scalar")
        if not high > low or not std_range > 0:
            raise VtbenchError(
                f"the latent's range {low} to {high} and std_range={std_range}: the first must rise, "
                "the second be above 0"
            )
        self.bits, self.low, self.high, self.std_range = bits, low, high, std_range
        # On the CPU even where a network is being sized on the meta device.
        with torch.device("cpu"):
            self.table = table(bits, std_range)
        self._rising = bool((self.table.diff() > 0).all())

    @classmethod
    def symmetric(cls, bits: int, limit: float, std_range: float) -> NormalBins:
        """Between -limit and +limit, 1 to 12 bits; refused where a bin would be empty, as that wastes bits."""
        if not 1 <= bits <= 12:
            raise VtbenchError(f"bits={bits}: give 1 to 12 bits a scalar")
        if not limit > 0 or not std_range > 0:
            raise VtbenchError(f"range={limit} and std_range={std_range}: both must be above 0")
        if bits > 1 and boundaries(bits, std_range)[-2] >= std_range:
            raise VtbenchError(f"std_range={std_range} leaves no room for {2**bits} bins: give more, or fewer bits")
        return cls(bits, -limit, limit, std_range)

    @classmethod
    def of(cls, c: Config) -> NormalBins:
        """From a fixture's `quantizer`."""
        c.choice("type", ("per-element normal-quantile",))
        bits = c.integer("bits")
        if c.integer("levels", 2**bits) != 2**bits:
            raise VtbenchError(f"arch.quantizer.levels is not 2^{bits}: there is one level a code of {bits} bits")
        rule = cls(bits, c.number("min"), c.number("max"), c.number("std_range"))
        c.done()
        return rule

    def _table(self, dtype: torch.dtype) -> Tensor:
        return table(self.bits, self.std_range, dtype) if dtype == torch.float64 else self.table

    def indices(self, x: Tensor) -> Tensor:
        """int64 of the nearest value, the lowest index where several are equally near."""
        s, values = self.std_range, self._table(x.dtype).to(x.device)
        y = (x.to(values.dtype) - self.low) / (self.high - self.low) * (2 * s) - s
        y = y.clamp(-s, s).contiguous()
        if not self._rising:
            parts = y.flatten().split(max(1, _TABLE // len(values)))
            return torch.cat([(part[:, None] - values).abs().argmin(dim=1) for part in parts]).reshape(y.shape)
        above = torch.searchsorted(values, y).clamp(max=len(values) - 1)
        below = (above - 1).clamp(min=0)
        nearer = (y - values[below]).abs() <= (y - values[above]).abs()
        return torch.where(nearer, below, above)

    def values(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """In [low, high]; float32, or float64 if that is the dtype of the network."""
        s = self.std_range
        scaled = (self._table(dtype).to(indices.device) + s) / (2 * s) * (self.high - self.low) + self.low
        return scaled[indices]
