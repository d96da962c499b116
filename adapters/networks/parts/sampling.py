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


class Flat:
    """Gives out one long recorded array, as many numbers a call as it asks for, whatever their kind."""

    def __init__(self, array: Tensor, batch: int) -> None:
        self._left, self.batch = array.flatten(), batch

    def exponential(self, *shape: int) -> Tensor:
        count = self.batch * math.prod(shape)
        if count > len(self._left):
            raise VtbenchError("the recorded noise ends before the sampler does: they are of different runs")
        drawn, self._left = self._left[:count], self._left[count:]
        return drawn.reshape(self.batch, *shape)

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


SCHEDULES = ("arccos", "cosine", "linear", "root", "square")
"""Of the share of masked tokens."""


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
    if schedule not in SCHEDULES:
        raise VtbenchError(f"the mask schedule {schedule!r} is unknown: use {', '.join(SCHEDULES)}")
    return float(shares[schedule].clamp(1e-6, 1.0))


def lowest(confidence: Tensor, count: Tensor) -> Tensor:
    """bool (B, M): the `count` (B,) lowest entries of a row, and those equal to the last of them.

    A count of 0 selects the whole row, as upstream's index of -1 does.
    """
    ordered = torch.sort(confidence, dim=-1).values
    cut = torch.gather(ordered, 1, ((count - 1) % confidence.shape[1])[:, None])
    return confidence <= cut


def number(name: str, value: Any, *, least: float = 0.0, most: float = math.inf, above: bool = False) -> float:
    """An option's number within [least, most] (above `least`, if so said); VtbenchError otherwise, for NaN too."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN compares false.
    if not good or not least <= value <= most or (above and value == least) or value == math.inf:
        bound = f"{'above' if above else 'at least'} {least:g}" + (f", at most {most:g}" if most < math.inf else "")
        raise VtbenchError(f"{name} is {value!r}, but must be a number, {bound}")
    return float(value)


def whole(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """An option's whole number within [least, most]; VtbenchError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"in {least}..{most}"
        raise VtbenchError(f"{name} is {value!r}, but must be a whole number {wanted}")
    return value


def one_of(name: str, value: Any, names: Iterable[str]) -> str:
    """An option's choice; VtbenchError for another."""
    names = list(names)
    if value not in names:
        raise VtbenchError(f"{name} is {value!r}, but must be one of {', '.join(names)}")
    return str(value)


def labels_within(labels: Tensor, classes: int) -> None:
    """Refuses class labels (B,) outside 0..classes - 1."""
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise VtbenchError(f"a class label lies outside 0..{classes - 1}: give labels of the training set")


def known(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`settings`, after refusing one that a sampler does not know."""
    for name in settings:
        if name not in names:
            raise VtbenchError(f"the sampler has no setting {name!r}{near(name, names)}: it has {', '.join(names)}")
    return dict(settings)
