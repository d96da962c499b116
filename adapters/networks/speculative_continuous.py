"""CSpD: speculative decoding of continuous tokens, a small MAR drafting for a large one (arXiv:2411.11925).

MarkXCloud/CSpD @ d91f721: spec_decode/spec_decode_runner.py (whose line numbers are given), diffusion/, models/mar.py.
A rejected token does not stop the later ones, so that the result is only nearly distributed as the target's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from vtbench.adapters.networks.mar import Mar, check_options, masked_after
from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.diffusion import Diffusion
from vtbench.models.noise import Seeded
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

RUN = ("num_iter", "num_draft", "cfg", "inner_temperature", "ratio", "cfg_schedule", "temperature")
RULE = ("n", "dim", "inner_temperature", "shift")
ROUNDS = 100
"""Proposals from the residual at most; a row that never accepts becomes zeros."""


class Draws(Protocol):
    """Random numbers of exactly the shape asked for."""

    def normal(self, *shape: int) -> Tensor: ...
    def uniform(self, *shape: int) -> Tensor: ...


class OfOneImage:
    """The draws of the only image of a noise."""

    def __init__(self, noise: sampling.Noise) -> None:
        self._noise = noise

    def normal(self, *shape: int) -> Tensor:
        return self._noise.normal(*shape)[0]

    def uniform(self, *shape: int) -> Tensor:
        return self._noise.uniform(*shape)[0]


class RecordedDraws:
    """Recorded draws in the order of the calls."""

    def __init__(self, draws: list[Tensor]) -> None:
        self._left = iter(draws)

    def normal(self, *shape: int) -> Tensor:
        draw = next(self._left, None)
        if draw is None or tuple(draw.shape) != shape:
            raise VtbenchError(f"the recorded noise has no draw of {shape} here: it is of another run")
        return draw

    uniform = normal


@dataclass(frozen=True)
class Kernel:
    """A token's last diffusion step, mean and standard deviation (n, D), and the sum over the earlier steps of log
    standard deviations (without the temperature)."""

    mean: Tensor
    std: Tensor
    log_std: Tensor

    def exponent(self, x: Tensor, temperature: float = 1.0) -> Tensor:
        """exp(-|(x - mean) / std / T|^2 / 2), (n,)."""
        return torch.exp(-0.5 * ((x - self.mean) / self.std / temperature).square().sum(dim=-1))

    def density(self, x: Tensor) -> Tensor:
        return self.exponent(x) / ((2 * math.pi) ** (x.shape[-1] / 2) * self.std.prod(dim=-1))

    def at(self, rows: Tensor) -> Kernel:
        return Kernel(self.mean[rows], self.std[rows], self.log_std[rows])


@dataclass(frozen=True)
class Verdict:
    """Of drafted tokens x (n, D): p the target's kernel, q the draft's (23-60)."""

    p: Kernel
    q: Kernel
    temperature: float

    @property
    def fixed(self) -> Tensor:
        return torch.exp((self.p.log_std - self.q.log_std).sum(dim=-1))

    def ratio(self, x: Tensor) -> Tensor:
        """p / q (n,); the temperature flattens the exponents only. A token is kept where it lies above u."""
        above = self.p.exponent(x, self.temperature) * self.fixed * self.q.std.prod(dim=-1)
        return above / (self.q.exponent(x, self.temperature) * self.p.std.prod(dim=-1))

    def residual(self, x: Tensor) -> Tensor:
        """max(0, p - q / fixed) / p, by which a proposal from p is kept."""
        proposal = self.p.density(x)
        return (proposal - self.q.density(x) / self.fixed).clamp(min=0) / proposal

    def sampled(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, ratio, kept): rejected ones from the residual, whose rounds are drawn for all rows at once.

        A row that accepts again is overwritten; rounds end when every row has accepted once.
        """
        ratio = self.ratio(x)
        kept = ratio > draws.uniform(len(x)).to(ratio)
        if bool(kept.all()):
            return x, ratio, kept
        out, ready = torch.zeros_like(x), torch.zeros_like(kept)
        for _ in range(ROUNDS):
            proposal = draws.normal(*x.shape).to(x) * self.p.std + self.p.mean
            accepted = draws.uniform(len(x)).to(x) < self.residual(proposal)
            out[accepted] = proposal[accepted]
            ready |= accepted
            if bool(ready.all()):
                break
        return torch.where(kept[:, None], x, out), ratio, kept


@dataclass
class Decoded:
    """tokens (B, L, D), and what it took."""

    tokens: Tensor
    target: int = 0
    """Passes of the target's encoder and decoder."""
    draft: int = 0
    ratios: list[Tensor] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)


class _Side:
    """One network over the shared noise: it predicts chosen tokens with the kernels of their last step."""

    def __init__(self, network: Mar, labels: Tensor, cfg: float, sections: str | None) -> None:
        self.network, self.guided = network, cfg != 1.0
        self.diffusion = Diffusion(sections or network.sections)
        self.classes = network.class_emb(labels)
        if self.guided:
            self.classes = torch.cat([self.classes, network.fake_latent.expand(len(labels), -1)])

    def predict(
        self, tokens: Tensor, masked: Tensor, chosen: Tensor, noise: tuple[Tensor, Tensor], scale: float, warmth: float
    ) -> tuple[Tensor, Kernel]:
        """noise: start (B, L, D), and (B, L, steps, D) of the steps."""
        both = (torch.cat([tokens, tokens]), torch.cat([masked, masked])) if self.guided else (tokens, masked)
        z = self.network.decode(self.network.encode(*both, self.classes), both[1])
        z = z[torch.cat([chosen, chosen]) if self.guided else chosen]
        x, inner = noise[0][chosen], noise[1][chosen]
        head, log_std = self.network.head, torch.zeros_like(x)
        for i in reversed(range(len(self.diffusion))):
            t = torch.full((len(x),), self.diffusion.map[i], device=x.device)
            out = head.guided(x, t, z, scale)[: len(x)] if self.guided else head(x, t, z)
            mean, log_variance, _ = self.diffusion.moments(out, x, i)
            std = torch.exp(0.5 * log_variance) * warmth
            if i:
                x, log_std = mean + std * inner[:, i], log_std + 0.5 * log_variance
        return mean, Kernel(mean, std, log_std)


def _sides(target: Mar, draft: Mar, labels: Tensor, cfg: float, sections: str | None) -> list[_Side]:
    """The target's and the draft's, which must speak of the same tokens in as many diffusion steps."""
    if (draft.length, draft.dim) != (target.length, target.dim):
        raise VtbenchError("the draft has another grid or other channels: use a smaller model of the family")
    sampling.labels_within(labels, min(target.classes, draft.classes))
    sides = [_Side(n, labels, cfg, sections) for n in (target, draft)]
    if len(sides[0].diffusion) != len(sides[1].diffusion):
        raise VtbenchError("the draft takes another number of diffusion steps: the noise of a step is shared")
    return sides


def decode(
    target: Mar,
    draft: Mar,
    labels: Tensor,
    draws: Draws,
    orders: Tensor,
    *,
    num_iter: int = 64,
    num_draft: int = 8,
    cfg: float = 1.0,
    inner_temperature: float = 42.0,
    ratio: float = 0.15,
    cfg_schedule: str = "linear",
    temperature: float = 1.0,
    sections: str | None = None,
) -> Decoded:
    """Labels (B,) -> tokens (B, L, D) (62-180).

    Iterations k <= num_iter ratio are the target's; then the draft's, and at every k that num_draft divides, and at
    the last, the target judges all tokens drafted since. Both use one noise a token and one a token and step.
    """
    check_options(target.length, num_iter, cfg, cfg_schedule, temperature)
    sampling.whole("num_draft", num_draft)
    sampling.number("inner_temperature", inner_temperature, above=True)
    sampling.number("ratio", ratio, most=1.0)
    sides = _sides(target, draft, labels, cfg, sections)
    tokens, masked = target.start(labels)
    size = (len(labels), target.length)
    noise = (
        draws.normal(*size, target.dim).to(tokens),
        draws.normal(*size, len(sides[0].diffusion), target.dim).to(tokens),
    )
    judged, left, out = masked, target.length, Decoded(tokens)
    kernels = Kernel(*(torch.zeros_like(tokens) for _ in range(3)))
    for step in range(num_iter):
        last, keep = step == num_iter - 1, masked_after(target.length, left, step, num_iter)
        after = torch.zeros_like(masked).scatter(1, orders[:, :keep], True)
        chosen = masked if last else masked & ~after
        scale = 1 + (cfg - 1) * (target.length - keep) / target.length if cfg_schedule == "linear" else cfg
        own = step <= num_iter * ratio
        tokens = tokens.clone()
        tokens[chosen], kernel = sides[0 if own else 1].predict(tokens, masked, chosen, noise, scale, temperature)
        out.target, out.draft = out.target + own, out.draft + (not own)
        masked, left = after, keep
        if own:
            judged = masked
            continue
        for kept, new in ((kernels.mean, kernel.mean), (kernels.std, kernel.std), (kernels.log_std, kernel.log_std)):
            kept[chosen] = new
        if last or (step and step % num_draft == 0):
            asked = judged if last else judged & ~masked
            _, theirs = sides[0].predict(tokens, judged, asked, noise, scale, temperature)
            verdict = Verdict(theirs, kernels.at(asked), inner_temperature)
            tokens[asked], value, good = verdict.sampled(tokens[asked], draws)
            out.target += 1
            out.ratios.append(value)
            out.kept.append(good)
            judged = masked
    out.tokens = sampling.finite(tokens, "CSpD")
    return out


def generate(target: Mar, draft: Mar, labels: Tensor, noise: Seeded, **options: Any) -> tuple[Tensor, dict[str, float]]:
    """Labels (B,) -> latents (B, channels, h, w), image by image, and what an image took on average."""
    decoded = []
    for row in range(len(labels)):
        own = noise.pick([row])
        orders = own.uniform(target.length).argsort(dim=-1)
        decoded.append(decode(target, draft, labels[row : row + 1], OfOneImage(own), orders, **options))
    kept = [k.float() for d in decoded for k in d.kept]
    cost = {
        "nfe": sum(d.target for d in decoded) / len(decoded),
        "draft_nfe": sum(d.draft for d in decoded) / len(decoded),
        **({"acceptance": float(torch.cat(kept).mean())} if kept else {}),
    }
    return target.unpatched(torch.cat([d.tokens for d in decoded])), cost


class Cspd(Mar):
    """A target and its draft, as the fixtures have them. config: {"target": MAR's, "draft": MAR's}."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        if not isinstance(config.get("target"), Mapping) or not isinstance(config.get("draft"), Mapping):
            raise VtbenchError("config must hold the configurations of a target and of a draft: two of MAR's")
        # CSpD's copy of MAR has a thousand classes, whatever class_num is.
        super().__init__(config["target"], classes=1000)
        self.helpers = {"draft": Mar(config["draft"], classes=1000)}

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a, out = fixture.arrays, dict[str, Tensor]()
        endings = ("latents", "ratio", "accepted", "counts", "residual", "out")
        for run, stated in fixture.runs(*endings, marks=("inner_temperature",)).items():
            draws = RecordedDraws(fixture.draws(run))
            if "dim" in stated:
                settings = sampling.known(stated, *RULE)
                p, q = (Kernel(*(a[f"{run}_{s}_{n}"] for n in ("mean", "std", "log_var"))) for s in ("p", "q"))
                verdict, x = Verdict(p, q, float(settings["inner_temperature"])), a[f"{run}_x"]
                out[f"{run}_residual"] = verdict.residual(x)
                out[f"{run}_out"], out[f"{run}_ratio"], kept = verdict.sampled(x, draws)
                out[f"{run}_accepted"] = kept.long()
                continue
            settings = sampling.known(stated, *RUN)
            decoded = decode(self, self.helpers["draft"], a["class_ids"], draws, a[f"{run}_orders"], **settings)
            out[f"{run}_latents"] = self.unpatched(decoded.tokens)
            out[f"{run}_ratio"] = torch.cat(decoded.ratios).clamp(max=1.0)
            out[f"{run}_accepted"] = torch.cat(decoded.kept).long()
            out[f"{run}_counts"] = torch.tensor([len(k) for k in decoded.kept])
        return out
