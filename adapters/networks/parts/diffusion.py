"""Respaced Gaussian diffusion with a learned variance, of vectors (MAR's head) or of latents (DiT).

LTH14/mar @ fe470ac: diffusion/{gaussian_diffusion,respace}.py, after Nichol and Dhariwal (arXiv:2102.09672).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vtbench.types.errors import VtbenchError


def cosine_betas(steps: int) -> np.ndarray:
    """float64 (steps,): 1 - abar(t + 1) / abar(t), abar = cos^2((t + 0.008) / 1.008 pi / 2), at most 0.999."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)])


def linear_betas(steps: int) -> np.ndarray:
    """float64 (steps,): from 0.0001 to 0.02 over 1000, steeper where there are fewer (Ho et al., arXiv:2006.11239)."""
    return np.linspace(1e-4, 0.02, steps, dtype=np.float64) * (1000 / steps)


def spaced(steps: int, sections: str) -> list[int]:
    """The kept timesteps: "4" = 4 even ones; "4,0" = 4 in the lower half, none in the upper (respace.py:12-62)."""
    try:
        if sections.startswith("ddim"):
            wanted = int(sections.removeprefix("ddim"))
            stride = next(i for i in range(1, steps) if len(range(0, steps, i)) == wanted)
            return list(range(0, steps, stride))
        counts = [int(s) for s in sections.split(",")]
    except (ValueError, StopIteration):
        raise VtbenchError(f"{sections!r} is no section string of {steps} steps: give e.g. 100 or 4,0") from None
    size, extra = divmod(steps, len(counts))
    out, start = [], 0
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 0 <= count <= length:
            raise VtbenchError(f"a section of {length} timesteps cannot keep {count}: give fewer")
        gap = 1.0 if count <= 1 else (length - 1) / (count - 1)
        out += [start + round(k * gap) for k in range(count)]
        start += length
    return sorted(set(out))


class Diffusion:
    """`map` holds the kept timesteps of 0..999, `betas` float64 their betas; step i is the i-th kept one.

    full: the betas of all timesteps; the cosine ones of a thousand if not given.
    """

    def __init__(self, sections: str, full: np.ndarray | None = None) -> None:
        betas = cosine_betas(1000) if full is None else full
        keep = spaced(len(betas), sections)
        if not keep:
            raise VtbenchError(f"the section string {sections!r} keeps no timestep: give e.g. 100")
        kept = np.cumprod(1 - betas)[keep]
        self.map, self.betas = keep, 1 - kept / np.append(1.0, kept[:-1])
        bars = np.cumprod(1 - self.betas)
        before = np.append(1.0, bars[:-1])
        variance = self.betas * (1 - before) / (1 - bars)
        # The first posterior variance is 0; the second stands in for it before the logarithm.
        clipped = np.append(variance[1], variance[1:]) if len(variance) > 1 else np.maximum(variance, 1e-20)
        self._least, self._most = np.log(clipped), np.log(self.betas)
        self._recip, self._recipm1 = np.sqrt(1 / bars), np.sqrt(1 / bars - 1)
        self._of_start = self.betas * np.sqrt(before) / (1 - bars)
        self._of_x = (1 - before) * np.sqrt(1 - self.betas) / (1 - bars)

    def __len__(self) -> int:
        return len(self.map)

    def moments(self, out: Tensor, x: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """out (n, 2 D, ...) = eps | variance value at step i of x (n, D, ...) -> mean, log variance, start."""
        eps, value = out.chunk(2, dim=1)
        start = float(np.float32(self._recip[i])) * x - float(np.float32(self._recipm1[i])) * eps
        share = (value + 1) / 2
        log_variance = share * float(np.float32(self._most[i])) + (1 - share) * float(np.float32(self._least[i]))
        mean = float(np.float32(self._of_start[i])) * start + float(np.float32(self._of_x[i])) * x
        return mean, log_variance, start

    def sample(
        self, net: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Callable[[], Tensor], temperature: float
    ) -> Tensor:
        """x (n, D, ...) normal; net(x, t) with t (n,) of 0..999; `noise()` is called once a step, also at the last."""
        for i in reversed(range(len(self))):
            t = torch.full((len(x),), self.map[i], device=x.device)
            mean, log_variance, _ = self.moments(net(x, t), x, i)
            drawn = noise()
            x = mean + torch.exp(0.5 * log_variance) * drawn * temperature if i else mean
        return x
