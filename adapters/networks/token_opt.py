"""Token-opt: TiTok's tokens of one image, optimised against a loss of the decoded image (arXiv:2506.08257).

lukaslaobeyer/token-opt @ d04bcb9: tto/test_time_opt.py (whose line numbers are given), tto/ema.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.quantizers import to_map, to_rows
from vtbench.adapters.networks.titok import TiTok
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

Objective = Callable[[Tensor], Tensor]
"""Decoded images (B, 3, S, S), unclamped -> loss (B,)."""
Reset = Callable[[int, Tensor], Tensor | None]
"""(iteration, decoded images) -> tokens that replace the optimised ones, or None."""
_REPLAYED = ("objective", "mask", "reset_every", "start")


@dataclass(frozen=True)
class Settings:
    """Upstream's options; None, or 0 where a number is wanted, leaves a term out. Its own defaults: 600 iterations."""

    optimize_post_quantization_tokens: bool = False
    vae_deterministic_sampling: bool = True
    lr: float = 0.1
    ema_decay: float = 0.0
    token_noise: float | None = None
    reg_weight: float | None = None
    reg_type: str | None = None
    num_iter: int = 600

    def __post_init__(self) -> None:
        sampling.whole("num_iter", self.num_iter)
        sampling.number("lr", self.lr, above=True)
        sampling.number("ema_decay", self.ema_decay, most=1.0)
        for name, value in (("token_noise", self.token_noise), ("reg_weight", self.reg_weight)):
            if value is not None:
                sampling.number(name, value)
        if self.reg_weight:
            sampling.one_of("reg_type", self.reg_type, ("seed", "zero"))
        if self.token_noise and self.num_iter < 2:
            raise VtbenchError("token_noise falls over the iterations: give num_iter of at least 2, or no noise")

    def noise_at(self, i: int) -> float:
        """Deviation of the noise before iteration i: a cosine that reaches 0 at two thirds of the run (92-96)."""
        share = min(1.0, 1.5 * i / (self.num_iter - 1))
        return (self.token_noise or 0.0) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class Optimised:
    """image: what the averaged tokens decode to, in [0, 1]; tokens, losses: of every iteration; ids: of every
    quantization in the order of the calls."""

    image: Tensor
    start: Tensor
    tokens: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)


class TokenOptimiser:
    """A TiTok under fixed settings; `normal` draws standard normal numbers of a shape."""

    def __init__(
        self, network: TiTok, settings: Settings, normal: Callable[[tuple[int, ...]], Tensor] | None = None
    ) -> None:
        self.network, self.settings, self.normal = network, settings, normal
        self.ids: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> the tensor that is optimised: the encoder's output, or what is behind the codes."""
        z: Tensor = self.network.encoder(images, self.network.latent_tokens)
        return self.quantized(z) if self.settings.optimize_post_quantization_tokens else z

    def quantized(self, z: Tensor) -> Tensor:
        """(B, C, 1, n) -> what is decoded. Gradients pass codes straight through, by the normalisation where rows are
        compared at unit length (62-80)."""
        if self.network.quantize is None:
            mean, logvar = z.chunk(2, dim=1)
            if self.settings.vae_deterministic_sampling:
                return mean
            return mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * self._drawn(mean)
        rows, book = to_rows(z), self.network.quantize
        rows = F.normalize(rows, dim=-1) if book.l2_norm else rows
        ids = book.choose(to_rows(z).detach())
        self.ids.append(ids.reshape(len(z), -1))
        rows = rows + (F.embedding(ids, book.codes) - rows).detach()
        return to_map(rows, len(z), (z.shape[2], z.shape[3]))

    def decode(self, tokens: Tensor) -> Tensor:
        """(B, 3, S, S), unclamped."""
        latent = tokens if self.settings.optimize_post_quantization_tokens else self.quantized(tokens)
        return sampling.finite(self.network.painted(latent), "TiTok")

    def run(self, objective: Objective, start: Tensor, reset: Reset | None = None) -> Optimised:
        """From the tokens `start` (98-182): noise, decode, loss, Adam's step, reset, average.

        The sum over the batch of objective and regulariser is minimised; losses are without the latter. A reset
        replaces values and leaves Adam's moments.
        """
        with torch.inference_mode(False), torch.enable_grad():
            s, tokens = self.settings, start.detach().clone().requires_grad_(True)
            adam = torch.optim.Adam([tokens], lr=s.lr, foreach=False)
            first = tokens.detach().clone()
            average, out = first.clone(), Optimised(first, first)
            for i in range(s.num_iter):
                if s.token_noise:
                    with torch.no_grad():
                        tokens.add_(s.noise_at(i) * self._drawn(tokens))
                image = self.decode(tokens)
                loss = objective(image)
                total = loss.sum()
                if s.reg_weight:
                    apart = tokens - first if s.reg_type == "seed" else tokens
                    total = total + s.reg_weight * apart.square().mean(dim=(1, 2, 3)).sum()
                (tokens.grad,) = torch.autograd.grad(total, [tokens])
                adam.step()
                with torch.no_grad():
                    replaced = reset(i, image.detach()) if reset is not None else None
                    if replaced is not None:
                        tokens.copy_(replaced)
                    # The first average is the tokens themselves (ema.py, get_decay).
                    average = average - (1 - (s.ema_decay if i else 0.0)) * (average - tokens)
                out.losses.append(loss.detach())
                out.tokens.append(average)
            with torch.no_grad():
                out.image = self.decode(average).clamp(0.0, 1.0)
        out.ids = self.ids
        return out

    def _drawn(self, like: Tensor) -> Tensor:
        if self.normal is None:
            raise VtbenchError("these settings draw noise: give a source of normal numbers")
        return self.normal(tuple(like.shape)).to(like)


def against(kind: str, target: Tensor, mask: Tensor | None = None) -> Objective:
    """Mean squared (mse) or absolute (l1) difference an image from `target`, over all pixels or those of a mask.

    mask (B, 1, S, S): 1 = known; then the sum over known pixels and channels by three times their number.
    """
    sampling.one_of("objective", kind, ("mse", "l1"))

    def loss(image: Tensor) -> Tensor:
        apart = image - target
        values = apart.square() if kind == "mse" else apart.abs()
        if mask is None:
            return values.mean(dim=(1, 2, 3))
        known = mask.expand_as(target)
        return (values * known).sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3))

    return loss


def _in_order(draws: list[Tensor]) -> Callable[[tuple[int, ...]], Tensor]:
    """Recorded draws, one a call."""
    left = iter(draws)
    return lambda shape: next(left).reshape(shape)


def _painted_over(optimiser: TokenOptimiser, every: int | None, target: Tensor, known: Tensor | None) -> Reset | None:
    """Every so many iterations: the tokens of the decoded image with the known pixels of `target` put into it."""
    if not every:
        return None

    def reset(i: int, image: Tensor) -> Tensor | None:
        if (i + 1) % every:
            return None
        image = image.clamp(0, 1)
        return optimiser.encode(image if known is None else known * target + (1 - known) * image)

    return reset


class TokenOpt(TiTok):
    """The tokenizer of a fixture. config: {"tokenizer": {"family": "titok", "arch": TiTok's}}."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        c = Config(config, "config").sub("tokenizer")
        c.choice("family", ("titok",))
        arch = c.any("arch")
        if not isinstance(arch, Mapping):
            raise VtbenchError("config.tokenizer.arch is missing: the network cannot be built without it")
        c.done()
        super().__init__(arch)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a, out = fixture.arrays, dict[str, Tensor]()
        names = {f.name for f in fields(Settings)}
        for run, stated in fixture.runs("loss", "init", "tokens", "ids", "image", marks=("num_iter",)).items():
            sampling.known(stated, *names, *_REPLAYED)
            settings = Settings(**{name: value for name, value in stated.items() if name in names})
            draws = fixture.draws(run) if f"noise_{run}" in a else []
            optimiser = TokenOptimiser(self, settings, _in_order(draws))
            with torch.inference_mode(False), torch.no_grad():
                known = a["mask"].clone() if stated.get("mask") == "mask" else None
                target = a["target"].clone()
                if stated.get("start") == "tokens":
                    start = a[f"{run}_seed_tokens"].clone()
                else:
                    start = optimiser.encode(a["seed_image"].clone())
                reset = _painted_over(optimiser, stated.get("reset_every"), target, known)
                optimised = optimiser.run(against(stated.get("objective", "mse"), target, known), start, reset)
            out |= {
                f"{run}_loss": torch.stack(optimised.losses),
                f"{run}_init": optimised.start,
                f"{run}_tokens": torch.stack(optimised.tokens),
                f"{run}_image": optimised.image,
                **({f"{run}_ids": torch.stack(optimised.ids)} if optimised.ids else {}),
            }
        return out
