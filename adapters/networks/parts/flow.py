"""Samplers of rectified flows: schedules, Euler's and Adams and Bashforth's steps, guidance.

A velocity is (x, time, step) -> dx/dtime, shaped like x; `time` is one number for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vtbench.types.errors import VtbenchError

Velocity = Callable[[Tensor, float, int], Tensor]


def falling(schedule: str, steps: int) -> list[float]:
    """`steps` + 1 times from 1 down to 0, in float32 as upstream's are.

    "linear" (also called "uniform"): evenly spaced. "pow_P": those to the power 1 / P, so that pow_0.25 spends most of
    its steps near 0 (FlowMo flowmo/models.py, rf_sample).
    """
    if steps < 1:
        raise VtbenchError(f"steps is {steps}, but a sampler takes at least 1")
    name, _, exponent = schedule.partition("_")
    if schedule in ("linear", "uniform"):
        power = 1.0
    else:
        try:
            power = 1 / float(exponent)
        except (ValueError, ZeroDivisionError):
            power = 0.0
        if name != "pow" or not 0 < power < float("inf"):
            raise VtbenchError(
                f"schedule is {schedule!r}, but must be linear or pow_P with P above 0, such as pow_0.25"
            )
    return [float(np.float32((i / steps) ** power)) for i in range(steps, -1, -1)]


def shifted(time: float, shift: float) -> float:
    """time / (time + shift (1 - time)): above 1 it stays longer near 0 (Esser et al. 2024, arXiv:2403.03206)."""
    return time / (time + shift * (1 - time))


def moment(time: float, x: Tensor) -> Tensor:
    """`time` for every image of x (B, ...), (B,): at least float32, as half precision cannot tell times apart."""
    return torch.full((len(x),), time, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def euler(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """x at times[0] -> x at times[-1], one evaluation an interval."""
    for i, (now, then) in enumerate(pairwise(times)):
        x = x + (then - now) * velocity(x, now, i)
    return x


def adams2(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """As `euler`, but from the second interval on with 3/2 of the velocity less 1/2 of the one before."""
    before: Tensor | None = None
    for i, (now, then) in enumerate(pairwise(times)):
        v = velocity(x, now, i)
        x = x + (then - now) * (v if before is None else 1.5 * v - 0.5 * before)
        before = v
    return x


class ProjectedGuidance:
    """Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416), stateful over the steps of one sample.

    The difference of the two predictions is averaged with the earlier ones (`momentum`), cut to the norm `threshold`,
    and only its share at right angles to the conditional prediction (and `eta` of the parallel one) is added. Norms run
    over an image; products are float64, as upstream's, but for MPS, which has none.
    """

    def __init__(self, scale: float, *, momentum: float = -0.5, threshold: float = 2.5, eta: float = 0.0) -> None:
        self.scale, self.momentum, self.threshold, self.eta = scale, momentum, threshold, eta
        self._average: Tensor | None = None

    def __call__(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """(B, ...) twice -> (B, ...)."""
        difference = cond - uncond
        if self._average is not None:
            difference = difference + self.momentum * self._average
        self._average = difference
        rows = difference.flatten(1)
        if self.threshold > 0:
            rows = rows * (self.threshold / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)
        dtype = torch.float32 if rows.device.type == "mps" else torch.float64
        wide, along = rows.to(dtype), F.normalize(cond.flatten(1).to(dtype), dim=1)
        parallel = (wide * along).sum(dim=1, keepdim=True) * along
        added = (wide - parallel + self.eta * parallel).to(cond.dtype)
        return cond + (self.scale - 1) * added.reshape(cond.shape)
