"""PixelDiT's solvers of flows: Euler, Heun, Adams and Bashforth of second order, and DPM-Solver++.

NVlabs/PixelDiT as of gcy-hub/PixelDiT @ 91d45ab: c2i/src/diffusion.py, t2i/diffusion/model/dpm_solver.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vtbench.adapters.networks.parts import sampling

Halves = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x, times (B,)) -> velocities without and with the condition."""
SAMPLERS = ("flow_dpm", "euler", "heun")


@dataclass
class Solved:
    """Where a solver came to, and by what."""

    x: Tensor
    times: Tensor
    """float32: the bounds of the steps, or the network's times of the calls."""
    velocities: list[Tensor] = field(default_factory=list)
    """Of every step, guided, or x at the start and after every step."""
    evaluations: int = 0


def single(value: float) -> float:
    """As float32: times are, and a bound of 0.1 must be equal to a time of 0.1."""
    return float(np.float32(value))


def rising_times(steps: int, shift: float, last_step: float | None = None) -> Tensor:
    """float32 (steps + 1,): evenly to 1 - last_step, then 1, as t / (t + (1 - t) shift)."""
    last = 1.0 / steps if last_step is None or steps == 1 else last_step
    with torch.device("cpu"):
        times = torch.cat([torch.linspace(0.0, 1 - last, steps), torch.ones(1)])
    return times / (times + (1 - times) * shift)


def solve(
    halves: Halves,
    x: Tensor,
    *,
    sampler: str = "flow_dpm",
    num_steps: int = 100,
    guidance: float = 1.0,
    timeshift: float = 1.0,
    guidance_interval_min: float = 0.0,
    guidance_interval_max: float = 1.0,
    last_step: float | None = None,
    exact_henu: bool = False,
) -> Solved:
    """x (B, ...) at time 0, noise -> at time 1, data. Guided where min < t < max, strictly; elsewhere the scale is 1.

    flow_dpm: x + dt (1.5 v - 0.5 of the velocity before), the first step Euler's. heun: the mean of the velocities at
    both ends; unless exact_henu that of the far end is the next step's first; the last step is Euler's.
    """
    sampling.one_of("sampler", sampler, SAMPLERS)
    steps = sampling.whole("num_steps", num_steps)
    sampling.number("guidance", guidance)
    sampling.number("timeshift", timeshift, above=True)
    for name, bound in (("min", guidance_interval_min), ("max", guidance_interval_max)):
        sampling.number(f"guidance_interval_{name}", bound)
    if last_step is not None:
        sampling.number("last_step", last_step, most=1.0, above=True)
    times = rising_times(steps, timeshift, last_step)
    out = Solved(x, times)

    def velocity(x: Tensor, t: float) -> Tensor:
        out.evaluations += 1
        null, cond = halves(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))
        inside = single(guidance_interval_min) < t < single(guidance_interval_max)
        return sampling.guide(cond, null, guidance if inside else 1.0)

    before: Tensor | None = None
    for i, (now, then) in enumerate(pairwise(times.tolist())):
        dt = then - now
        if sampler == "heun":
            v = velocity(out.x, now) if before is None or exact_henu else before
            if i < steps - 1:
                before = velocity(out.x + v * dt, then)
                v = (v + before) / 2
            out.x = out.x + v * dt
        else:
            v = velocity(out.x, now)
            out.x = out.x + (v if before is None or sampler == "euler" else 1.5 * v - 0.5 * before) * dt
            before = v
        out.velocities.append(v)
    return out


@dataclass(frozen=True)
class Dpm:
    """dpmsolver++ in several steps, of noise levels from just below 1 to 0; x0 is predicted.

    The last step is of first order always, and so is the first. Guided where interval_min < level < interval_max.
    """

    steps: int = 50
    order: int = 2
    cfg_scale: float = 3.5
    flow_shift: float = 4.0
    interval_min: float = 0.0
    interval_max: float = 1.0

    def __post_init__(self) -> None:
        sampling.whole("order", self.order, most=2)
        sampling.whole("steps", self.steps, least=self.order)
        for name in ("cfg_scale", "interval_min", "interval_max"):
            sampling.number(name, getattr(self, name))
        sampling.number("flow_shift", self.flow_shift, above=True)

    def levels(self) -> Tensor:
        """float32 (steps + 1,), falling: 1 - linspace(1, 0.001), as f s / (1 + (f - 1) s), turned round."""
        with torch.device("cpu"):
            sigmas = 1.0 - torch.linspace(1.0, 0.001, self.steps + 1)
        return (self.flow_shift * sigmas / (1 + (self.flow_shift - 1) * sigmas)).flip(0)

    def solve(
        self, net: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, condition: Tensor, null: Tensor
    ) -> Solved:
        """net(x, time 0..1000, condition) -> noise less data. Velocities: x at the start and after every step."""
        levels = self.levels()
        out = Solved(x, levels[:-1] * 1000.0, [x])
        starts = list[Tensor]()
        for i, (now, then) in enumerate(pairwise(levels.tolist())):
            starts.append(self._start(net, out, now, condition, null))
            at, to = _log_snr(now), _log_snr(then)
            phi = math.expm1(at - to)
            x = then / now * out.x - (1 - then) * phi * starts[-1]
            if self.order == 2 and 0 < i < self.steps - 1:
                before = _log_snr(float(levels[i - 1]))
                slope = (to - at) / (at - before) * (starts[-1] - starts[-2])
                x = x - 0.5 * (1 - then) * phi * slope
            out.x = x
            out.velocities.append(x)
        return out

    def _start(
        self,
        net: Callable[[Tensor, Tensor, Tensor], Tensor],
        out: Solved,
        level: float,
        condition: Tensor,
        null: Tensor,
    ) -> Tensor:
        """x0 as the network sees it at `level`."""
        out.evaluations += 1
        # In float32, as upstream multiplies; a network in float64 gets the same time.
        moment = float(torch.tensor(level) * 1000.0)
        x, t = out.x, torch.full((len(out.x),), moment, dtype=out.x.dtype, device=out.x.device)
        if self.cfg_scale == 1.0 or not single(self.interval_min) < level < single(self.interval_max):
            velocity = net(x, t, condition)
        else:
            both = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, condition]))
            velocity = sampling.guide(both[len(x) :], both[: len(x)], self.cfg_scale)
        noise = (1 - level) * velocity + x
        return (x - level * noise) / (1 - level)


def _log_snr(level: float) -> float:
    return math.log(1 - level) - math.log(level) if level > 0 else math.inf
