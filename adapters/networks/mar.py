"""MAR: masked autoregression over continuous tokens with a diffusion head (arXiv:2406.11838).

LTH14/mar @ fe470ac: models/mar.py, models/diffloss.py. Line numbers are mar.py's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusion import Diffusion
from vtbench.adapters.networks.parts.masked_autoencoder import TRAINING, MaskedAutoencoder
from vtbench.adapters.networks.parts.transformer import FinalLayer, TimeEmbedder, modulate
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("num_iter", "cfg", "cfg_schedule", "temperature")
SCALE = 0.2325
"""Latents of the KL-16 tokenizer are multiplied by it before MAR sees them (main_mar.py)."""


class _ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(y).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(modulate(self.in_ln(x), shift, scale))
        return out


class Head(nn.Module):
    """The diffusion net: x (n, D), t (n,) of 0..999, condition (n, E) -> eps | variance value (n, 2 D), or (n, `out`).

    time: channels of the time's sinusoids.
    """

    def __init__(
        self, dim: int, condition: int, depth: int, width: int, *, out: int | None = None, time: int = 256
    ) -> None:
        super().__init__()
        self.time_embed, self.cond_embed = TimeEmbedder(width, width=time), nn.Linear(condition, width)
        self.input_proj = nn.Linear(dim, width)
        self.res_blocks = nn.ModuleList(_ResBlock(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, out or 2 * dim)

    def modulation(self, t: Tensor, condition: Tensor) -> Tensor:
        """(n, width): what modulates every block."""
        out: Tensor = self.time_embed(t) + self.cond_embed(condition)
        return out

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        y = self.modulation(t, condition)
        x = self.input_proj(x)
        for block in self.res_blocks:
            x = block(x, y)
        out: Tensor = self.final_layer(x, y)
        return out

    def guided(self, x: Tensor, t: Tensor, condition: Tensor, scale: float) -> Tensor:
        """condition (2n, E) = cond | null; the first n of x and t are used for both. Only eps is guided (240-248)."""
        n = len(condition) // 2
        out = self(torch.cat([x[:n], x[:n]]), torch.cat([t[:n], t[:n]]), condition)
        eps, rest = out.chunk(2, dim=1)
        eps = sampling.guide(eps[:n], eps[n:], scale)
        return torch.cat([torch.cat([eps, eps]), rest], dim=1)


class Mar(MaskedAutoencoder):
    """config: img_size, vae_stride, patch_size, vae_embed_dim, {encoder,decoder}_{embed_dim,depth,num_heads},
    mlp_ratio, norm_eps, class_num, buffer_size, diffloss_d, diffloss_w, num_sampling_steps (a section string)."""

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.mar)

    def __init__(self, config: Mapping[str, Any], *, classes: int | None = None) -> None:
        """classes: rows of the class table, where they are not class_num."""
        c = Config(config, "config")
        super().__init__(c, classes=classes)
        depth, width = c.integer("diffloss_d", 3), c.integer("diffloss_w", 1024)
        self.sections = str(c.any("num_sampling_steps", "100"))
        self.diffloss = nn.ModuleDict({"net": Head(self.dim, self.outer, depth, width)})
        for key in TRAINING:
            c.any(key)
        c.done()

    @property
    def head(self) -> Head:
        return self.diffloss["net"]  # type: ignore[return-value]

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        orders: Tensor | None = None,
        num_iter: int = 64,
        cfg: float = 1.0,
        cfg_schedule: str = "linear",
        temperature: float = 1.0,
        sections: str | None = None,
    ) -> Tensor:
        """Labels (B,) -> latents (B, channels, h, w), scaled (250-330).

        orders (B, L): the first entries stay masked longest; drawn from the noise if not given. Per iteration normal
        noise (n, D) an image for the start and for each diffusion step.
        """
        sampling.labels_within(labels, self.classes)
        if orders is None:
            orders = noise.uniform(self.length).argsort(dim=-1)
        classes, null = self.class_emb(labels), self.fake_latent.expand(len(labels), -1)

        def features(tokens: Tensor, masked: Tensor, both: bool) -> Tensor:
            rows = torch.cat([classes, null]) if both else classes
            return self.decode(self.encode(tokens, masked, rows), masked)

        tokens = sample_masked(
            self.head,
            Diffusion(sections or self.sections),
            features,
            noise,
            self.start(labels)[0],
            orders,
            num_iter=num_iter,
            cfg=cfg,
            cfg_schedule=cfg_schedule,
            temperature=temperature,
        )
        return self.unpatched(tokens)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, masked, diffusion = a["class_ids"], a["mask"].bool(), Diffusion(self.sections)
        null = self.fake_latent.expand(len(labels), -1)
        encoded = self.encode(a["tokens_in"], masked, self.class_emb(labels))
        half = len(a["x_t"]) // 2
        twice_x, twice_t = (torch.cat([a[n][:half], a[n][:half]]) for n in ("x_t", "t"))
        # In the descriptions the scale is the last argument of the call, and the step reads "spaced index 1".
        scale = re.search(r"(-?[\d.]+)\)\s*$", fixture.texts.get("net_out_cfg", ""))
        index = re.search(r"index (\d+)", fixture.texts.get("p_mean", ""))
        step = int(index[1]) if index else 1
        t = torch.full((len(a["x_t"]),), diffusion.map[step])
        mean, log_variance, start = diffusion.moments(self.head(a["x_t"], t, a["cond"]), a["x_t"], step)
        out = {
            "encoder_out": encoded,
            "z": self.decode(encoded, masked),
            "z_uncond": self.decode(self.encode(a["tokens_in"], masked, null), masked),
            "net_out": self.head(a["x_t"], a["t"], a["cond"]),
            "net_out_cfg": self.head.guided(twice_x, twice_t, a["cond"], float(scale[1]) if scale else 2.5),
            "p_mean": mean,
            "p_log_variance": log_variance,
            "p_xstart": start,
            "timestep_map": torch.tensor(diffusion.map),
            "sampler_betas": torch.from_numpy(diffusion.betas).float(),
        }
        for run, stated in fixture.runs(marks=SETTINGS).items():
            noise = Rows(fixture.draws(run.removeprefix("sample_")), len(labels))
            out[run] = self.generate(labels, noise, orders=a["orders"], **sampling.known(stated, *SETTINGS))
        return out


def check_options(length: int, num_iter: Any, cfg: Any, cfg_schedule: Any, temperature: Any) -> None:
    """Refuses options of a masked sampler over `length` tokens that it cannot run with."""
    sampling.one_of("cfg_schedule", cfg_schedule, ("linear", "constant"))
    sampling.whole("num_iter", num_iter, most=length)
    sampling.number("cfg", cfg)
    sampling.number("temperature", temperature)


def sample_masked(
    head: Head,
    diffusion: Diffusion,
    features: Callable[[Tensor, Tensor, bool], Tensor],
    noise: sampling.Noise,
    tokens: Tensor,
    orders: Tensor,
    *,
    num_iter: int,
    cfg: float,
    cfg_schedule: str,
    temperature: float,
) -> Tensor:
    """All tokens (B, L, D), iteration by iteration (250-330); `tokens` are what stands at masked places.

    features(tokens, masked, both): conditions (B, L, E), or (2B, L, E) with the null half last, of as many rows.
    """
    (length, dim), dtype = tokens.shape[1:], tokens.dtype
    check_options(length, num_iter, cfg, cfg_schedule, temperature)
    masked, left, guided = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), length, cfg != 1.0
    for step in range(num_iter):
        both = (torch.cat([tokens, tokens]), torch.cat([masked, masked])) if guided else (tokens, masked)
        z = features(*both, guided)
        keep = masked_after(length, left, step, num_iter)
        after = torch.zeros_like(masked).scatter(1, orders[:, :keep], True)
        # The last iteration predicts all that is left.
        chosen = masked if step == num_iter - 1 else masked & ~after
        count = left if step == num_iter - 1 else left - keep
        scale = 1 + (cfg - 1) * (length - keep) / length if cfg_schedule == "linear" else cfg
        condition = z[torch.cat([chosen, chosen]) if guided else chosen]

        def net(x: Tensor, t: Tensor, c: Tensor = condition, s: float = scale) -> Tensor:
            return head.guided(x, t, c, s)[: len(x)] if guided else head(x, t, c)

        def drawn(n: int = count) -> Tensor:
            return noise.normal(n, dim).flatten(0, 1).to(dtype)

        predicted = diffusion.sample(net, drawn(), drawn, temperature)
        tokens = tokens.clone()
        tokens[chosen] = predicted
        masked, left = after, keep
    return tokens


def masked_after(length: int, left: int, step: int, steps: int) -> int:
    """How many of `left` masked tokens stay masked after a step: at least 1, at most one less (292-298)."""
    return max(1, min(left - 1, math.floor(length * math.cos(math.pi / 2 * (step + 1) / steps))))


class Rows(sampling.Recorded):
    """Draws recorded for all images' tokens at once, (B n, D) or with the unused rows of the null half (2 B n, D)."""

    def __init__(self, draws: list[Tensor], batch: int) -> None:
        super().__init__(draws)
        self.batch = batch

    def normal(self, *shape: int) -> Tensor:
        draw = next(self._left, None)
        rows = self.batch * shape[0]
        if draw is None or len(draw) not in (rows, 2 * rows):
            raise VtbenchError(f"the recorded noise has no draw of {rows} rows here: it is of another run")
        return torch.unflatten(draw[:rows], 0, (self.batch, shape[0]))
