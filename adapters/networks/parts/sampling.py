"""What the samplers share: noise (one seed an image, or recorded), filters of logits, draws, guidance, checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from vtbench.types.errors import VtbenchError, near


class Noise(Protocol):
    """Random numbers for B images; every call gives (B, *shape) float32."""

    def exponential(self, *shape: int) -> Tensor: ...
    def uniform(self, *shape: int) -> Tensor: ...
    def normal(self, *shape: int) -> Tensor: ...
    def gumbel(self, *shape: int) -> Tensor: ...


class Recorded:
    """Gives recorded arrays in the order in which they were drawn, whatever their kind."""

    def __init__(self, arrays: Iterable[Tensor]) -> None:
        self._left = iter(arrays)

    def _next(self, shape: tuple[int, ...]) -> Tensor:
        draw = next(self._left, None)
        if draw is None:
            raise VtbenchError("the recorded noise ends before the sampler does: they are of different runs")
        if tuple(draw.shape[1:]) != shape:
            raise VtbenchError(f"recorded noise is {tuple(draw.shape[1:])} an image, the sampler wants {shape}")
        return draw

    def exponential(self, *shape: int) -> Tensor:
        return self._next(shape)

    uniform = normal = gumbel = exponential


class Greedy:
    """No noise: exponential noise of ones, so that argmax(p / 1) is taken; Gumbel and normal noise of zeros."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def exponential(self, *shape: int) -> Tensor:
        return torch.ones(self.batch, *shape)

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((self.batch, *shape), 1 / math.e)

    def gumbel(self, *shape: int) -> Tensor:
        return torch.zeros(self.batch, *shape)

    def normal(self, *shape: int) -> Tensor:
        return torch.zeros(self.batch, *shape)


def widened(x: Tensor) -> Tensor:
    """At least float32: half precision is too coarse for probabilities; float64 stays, as parity's yardstick."""
    return x if x.dtype == torch.float64 else x.float()


def finite(logits: Tensor, what: str) -> Tensor:
    """The logits, or VtbenchError if any is NaN (-inf is a legal mask)."""
    if bool(torch.isnan(logits).any()):
        raise VtbenchError(
            f"{what} gave NaN logits: the weights or the dtype are wrong; try --dtype float32 or another checkpoint"
        )
    return logits


def guide(cond: Tensor, uncond: Tensor, scale: float | Tensor) -> Tensor:
    """uncond + scale (cond - uncond): 1 is no guidance."""
    return uncond + (cond - uncond) * scale


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the k greatest become -inf; entries equal to the k-th stay; k <= 0 keeps all."""
    if k <= 0:
        return logits
    least = torch.topk(logits, min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The descending nucleus with the first entry that crosses p (LlamaGen generate.py:38-60); 1 keeps all."""
    if p >= 1.0:
        return logits
    ordered, index = torch.sort(logits, descending=True, dim=-1)
    above = torch.softmax(ordered, dim=-1).cumsum(dim=-1) > p
    drop = torch.cat([torch.zeros_like(above[..., :1]), above[..., :-1]], dim=-1)
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, index, drop), -math.inf)


def drop_tail(logits: Tensor, p: float) -> Tensor:
    """The nucleus in ascending order: drops while the cumulative mass is <= 1 - p (VAR helpers.py:6-19)."""
    if p <= 0.0:
        return logits
    ordered, index = torch.sort(logits, descending=False, dim=-1)
    drop = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1 - p
    drop[..., -1] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, index, drop), -math.inf)


def draw(probabilities: Tensor, noise: Tensor) -> Tensor:
    """argmax(p / e), e ~ Exp(1): one draw from the distribution of the last axis."""
    return torch.argmax(probabilities / noise, dim=-1)


def cosine_power(progress: float, power: float) -> float:
    """(1 - cos(pi progress^power)) / 2 in float32, as the samplers of 1d-tokenizer and MaskBit compute it."""
    base = torch.tensor(float(progress)) ** torch.tensor(float(power))
    return float((1 - torch.cos(base * math.pi)) / 2)


def mask_share(progress: float, schedule: str) -> float:
    """Share of tokens that stay masked at `progress` in (0, 1], float32 (MaskBit modeling/modules/masking.py)."""
    r = torch.tensor(float(progress))
    shares = {
        "arccos": torch.acos(r) / (math.pi * 0.5),
        "cosine": torch.cos(r * math.pi * 0.5),
        "linear": 1 - r,
        "root": 1 - r**0.5,
        "square": 1 - r**2,
    }
    if schedule not in shares:
        raise VtbenchError(f"the mask schedule {schedule!r} is unknown: use {', '.join(shares)}")
    return float(shares[schedule].clamp(1e-6, 1.0))


def lowest(confidence: Tensor, count: Tensor) -> Tensor:
    """bool (B, M): the `count` (B,) lowest entries of a row, and those equal to the last of them.

    A count of 0 selects the whole row, as upstream's index of -1 does.
    """
    ordered = torch.sort(confidence, dim=-1).values
    cut = torch.gather(ordered, 1, ((count - 1) % confidence.shape[1])[:, None])
    return confidence <= cut


def known(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`settings`, after refusing one that a sampler does not know."""
    for name in settings:
        if name not in names:
            raise VtbenchError(f"the sampler has no setting {name!r}{near(name, names)}: it has {', '.join(names)}")
    return dict(settings)
