"""FAR: MAR's autoencoder, asked for the whole image at rising frequencies, by class or text (arXiv:2503.05305).

yuhuUSTC/FAR @ 9b49a51: models/far.py, far_t2i.py, diffloss.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.mar import Head, Rows
from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusers_blocks import CrossBlock
from vtbench.adapters.networks.parts.diffusion import Diffusion
from vtbench.adapters.networks.parts.infer import Shapes
from vtbench.adapters.networks.parts.masked_autoencoder import TRAINING, MaskedAutoencoder
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("cfg", "temperature")
MASKED_LEVELS, LEVELS = (0, 12, 12, *range(4, 12)), (0, *range(2, 11))
TEXT_LEVELS = (0, 2, 3, 4, 5, 6, 7, 8, 10, 13)
"""Frequency level of each iteration, as a side that the prediction is reduced to (far.py:308-409, far_t2i.py)."""
SIDE = 16
"""The grid that upstream's samplers hard-code."""
TEXT_WIDTH, TEXT_TOKENS, HEAD = 1536, 300, 64
"""Channels of the text features, rows of the null text, channels of a text model's head: hard-coded upstream."""


class LevelHead(Head):
    """The diffusion net that also reads the frequency level, which is the condition's last channel."""

    def __init__(self, dim: int, condition: int, depth: int, width: int) -> None:
        super().__init__(dim, condition, depth, width)
        self.index_cond_embed = nn.Linear(1, width)

    def modulation(self, t: Tensor, condition: Tensor) -> Tensor:
        level: Tensor = self.index_cond_embed(condition[:, -1:])
        return super().modulation(t, condition[:, :-1]) + level


class Far:
    """The network of a config: of text where it has neither `mask` nor `class_num`, else of classes."""

    def __new__(cls, config: Mapping[str, Any]) -> Any:
        return FarClass(config) if "mask" in config or "class_num" in config else FarText(config)

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Of a class model; whether it masks stays as in `like`, since no shape shows it."""
        if "class_num" not in like or "diffloss.net.index_cond_embed.weight" not in shapes:
            return None
        return infer_generators.mar(shapes, like)


class _Sampler(nn.Module):
    """What both share once there are features: the diffusion head and the frequency levels."""

    diffloss: nn.ModuleDict
    sections: str
    dim: int
    grid: int

    @property
    def head(self) -> LevelHead:
        return self.diffloss["net"]  # type: ignore[return-value]

    def predict(self, z: Tensor, noise: sampling.Noise, level: int, scale: float, temperature: float) -> Tensor:
        """z (2B, L, E), null half last -> all tokens (B, L, D), guided: normal noise (L, D) at the start and a step."""
        rows = z.flatten(0, 1)
        condition = torch.cat([rows, torch.full_like(rows[:, :1], level)], dim=1)

        def net(x: Tensor, t: Tensor) -> Tensor:
            return self.head.guided(x, t, condition, scale)[: len(x)]

        def drawn() -> Tensor:
            return noise.normal(z.shape[1], self.dim).flatten(0, 1).to(z.dtype)

        predicted = Diffusion(self.sections).sample(net, drawn(), drawn, temperature)
        return sampling.finite(predicted, "FAR").unflatten(0, (-1, z.shape[1]))

    def reduced(self, tokens: Tensor, side: int) -> Tensor:
        """Tokens (B, L, D) at the frequencies of a grid of `side`: averaged to it, bicubic back."""
        latent = F.interpolate(self.latent(tokens), size=(side, side), mode="area")
        return F.interpolate(latent, size=(self.grid, self.grid), mode="bicubic").flatten(2).transpose(1, 2)

    def latent(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def check(self, cfg: float, temperature: float = 1.0) -> None:
        sampling.number("cfg", cfg)
        sampling.number("temperature", temperature)
        if self.grid != SIDE:
            raise VtbenchError(
                f"a grid of {self.grid} x {self.grid} tokens: FAR's levels of frequency are stated for {SIDE} x {SIDE}"
            )

    def head_replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of the diffusion head."""
        a, diffusion = fixture.arrays, Diffusion(self.sections)
        half, levels = len(a["x_t"]) // 2, a["level_index"].to(a["cond"])
        condition = torch.cat([a["cond"], levels], dim=1)
        twice = torch.cat([a["cond"], torch.cat([levels[:half], levels[:half]])], dim=1)
        scale = re.search(r"(-?[\d.]+)\)\s*$", fixture.texts.get("net_out_cfg", ""))
        index = re.search(r"index (\d+)", fixture.texts.get("p_mean", ""))
        step = int(index[1]) if index else 1
        t = torch.full((len(a["x_t"]),), diffusion.map[step])
        mean, log_variance, _ = diffusion.moments(self.head(a["x_t"], t, condition), a["x_t"], step)
        return {
            "net_out": self.head(a["x_t"], a["t"], condition),
            "net_out_cfg": self.head.guided(a["x_t"], a["t"], twice, float(scale[1]) if scale else 2.5),
            "p_mean": mean,
            "p_log_variance": log_variance,
            "timestep_map": torch.tensor(diffusion.map),
        }


class FarClass(MaskedAutoencoder, _Sampler):
    """config: that of MAR, and `mask`: is the encoder blind to the tokens that are still to be predicted?"""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        c = Config(config, "config")
        # The table of classes has a thousand rows, whatever class_num is (far.py:74).
        super().__init__(c, classes=1000)
        self.classes, self.masks = 1000, c.flag("mask", True)
        self.iterations = len(MASKED_LEVELS if self.masks else LEVELS)
        self.sections = str(c.any("num_sampling_steps", "100"))
        head = LevelHead(self.dim, self.outer, c.integer("diffloss_d", 3), c.integer("diffloss_w", 1024))
        self.diffloss = nn.ModuleDict({"net": head})
        for key in TRAINING:
            c.any(key)
        c.done()

    def features(self, tokens: Tensor, masked: Tensor | None, classes: Tensor) -> Tensor:
        """tokens (B, L, D), masked (B, L) or None -> (B, L, E)."""
        if masked is None or not self.masks:
            masked = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return self.decode(self.encode(tokens, masked, classes), masked)

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        orders: Tensor | None = None,
        cfg: float = 3.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Labels (B,) -> latents (B, channels, 16, 16), scaled. Guidance rises with the iteration, and is always run.

        Where the encoder masks, `orders` (B, L) says which tokens stay masked longest, drawn if not given.
        """
        self.check(cfg, temperature)
        sampling.labels_within(labels, self.classes)
        if self.masks and orders is None:
            orders = noise.uniform(self.length).argsort(dim=-1)
        levels = MASKED_LEVELS if self.masks else LEVELS
        classes = torch.cat([self.class_emb(labels), self.fake_latent.expand(len(labels), -1)])
        (tokens, masked), n = self.start(labels), len(levels)
        for step, level in enumerate(levels):
            z = self.features(torch.cat([tokens, tokens]), torch.cat([masked, masked]), classes)
            # The unmasked sampler's temperature does not depend on the option.
            warmth = 0.85 + (temperature - 0.85) * step / n if self.masks else rising(step, n)
            predicted = self.predict(z, noise, level, 1 + (cfg - 1) * step / n, warmth)
            if step < n - 1 and (step > 0 or not self.masks):
                predicted = self.reduced(predicted, levels[step + 1])
            tokens = predicted
            if self.masks and orders is not None:
                masked = masked_after(orders, step, n)
                tokens = predicted.masked_fill(masked[..., None], 0.0)
        return self.latent(tokens)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, masked = a["class_ids"], a["mask"].bool() if self.masks else None
        out = self.head_replay(fixture) | {
            "z": self.features(a["tokens_in"], masked, self.class_emb(labels)),
            "z_uncond": self.features(a["tokens_in"], masked, self.fake_latent.expand(len(labels), -1)),
        }
        for run, stated in fixture.runs(marks=SETTINGS).items():
            noise = Rows(fixture.draws(run.removeprefix("sample_")), len(labels))
            orders = a["orders"] if self.masks else None
            out[run] = self.generate(labels, noise, orders=orders, **sampling.known(stated, *SETTINGS, "num_iter"))
        return out


class FarText(_Sampler):
    """config: img_size, vae_stride, patch_size, vae_embed_dim, {encoder,decoder}_{embed_dim,depth,num_heads},
    buffer_size (0), diffloss_d, diffloss_w, num_sampling_steps. Both halves attend to the text."""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.channels, self.iterations = c.integer("vae_embed_dim", 16), len(TEXT_LEVELS)
        self.pixels, patch = c.integer("img_size", 256), c.integer("patch_size", 1)
        self.grid = self.pixels // (c.integer("vae_stride", 16) * patch)
        self.length, self.dim = self.grid**2, self.channels * patch**2
        inner, outer = c.integer("encoder_embed_dim"), c.integer("decoder_embed_dim")
        eps = c.number("norm_eps", 1e-6)
        if c.integer("buffer_size", at_least=0):
            raise VtbenchError("config.buffer_size must be 0: upstream's text model puts nothing before its tokens")
        # The blocks of diffusers are four times as wide inside, whatever upstream's argument says.
        for key in ("mlp_ratio", "class_num", *TRAINING):
            c.any(key)
        self.fake_latent = nn.Parameter(torch.zeros(1, TEXT_TOKENS, inner))
        self.context_embed = nn.Linear(TEXT_WIDTH, inner)
        self.z_proj, self.z_proj_ln = nn.Linear(self.dim, inner), nn.LayerNorm(inner, eps=1e-6)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, inner))

        def blocks(side: str, dim: int) -> nn.ModuleList:
            heads = c.integer(f"{side}_num_heads")
            return nn.ModuleList(CrossBlock(dim, heads, HEAD, inner) for _ in range(c.integer(f"{side}_depth")))

        self.encoder_blocks, self.encoder_norm = blocks("encoder", inner), nn.LayerNorm(inner, eps=eps)
        self.decoder_embed, self.mask_token = nn.Linear(inner, outer), nn.Parameter(torch.zeros(1, 1, outer))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, outer))
        self.decoder_blocks, self.decoder_norm = blocks("decoder", outer), nn.LayerNorm(outer, eps=eps)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, outer))
        self.sections = str(c.any("num_sampling_steps", "100"))
        head = LevelHead(self.dim, outer, c.integer("diffloss_d", 3), c.integer("diffloss_w", 1024))
        self.diffloss = nn.ModuleDict({"net": head})
        c.done()

    def features(self, tokens: Tensor, masked: Tensor, context: Tensor) -> Tensor:
        """tokens (B, L, D), masked bool (B, L), context (B, n, E) -> (B, L, E')."""
        x = self.z_proj_ln(self.z_proj(tokens) + self.encoder_pos_embed_learned)
        x = x[~masked].unflatten(0, (len(tokens), -1))
        for block in self.encoder_blocks:
            # Before the first token there is nothing to attend from.
            x = block(x, context) if x.shape[1] else x
        full = self.mask_token.to(x.dtype).expand(*masked.shape, -1).clone()
        full[~masked] = self.decoder_embed(self.encoder_norm(x)).flatten(0, 1)
        full = full + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            full = block(full, context)
        return sampling.finite(self.decoder_norm(full) + self.diffusion_pos_embed_learned, "FAR")

    def generate(
        self, text: Tensor, noise: sampling.Noise, *, cfg: float = 3.0, orders: Tensor | None = None
    ) -> Tensor:
        """Features (B, 300, 1536) of texts -> latents (B, channels, 16, 16).

        As far_t2i.py reads: constant guidance, levels to 13, every iteration predicts all and keeps what is not masked.
        Upstream's own does not run as released, so that there is nothing to compare.
        """
        self.check(cfg)
        if text.shape[1:] != (TEXT_TOKENS, TEXT_WIDTH):
            raise VtbenchError(f"text features are {tuple(text.shape[1:])}, but must be {(TEXT_TOKENS, TEXT_WIDTH)}")
        if orders is None:
            orders = noise.uniform(self.length).argsort(dim=-1)
        context = torch.cat([self.context_embed(text), self.fake_latent.expand(len(text), -1, -1)])
        tokens = torch.zeros(len(text), self.length, self.dim, device=context.device, dtype=context.dtype)
        masked, n = torch.ones(tokens.shape[:2], dtype=torch.bool, device=context.device), len(TEXT_LEVELS)
        for step, level in enumerate(TEXT_LEVELS):
            z = self.features(torch.cat([tokens, tokens]), torch.cat([masked, masked]), context)
            predicted = self.predict(z, noise, level, cfg, rising(step, n))
            if step < n - 1:
                predicted = self.reduced(predicted, TEXT_LEVELS[step + 1])
            masked = masked_after(orders, step, n)
            tokens = torch.where(masked[..., None], tokens, predicted)
        return self.latent(tokens)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture, which holds no run of the sampler."""
        a = fixture.arrays
        masked, context = a["mask"].bool(), self.context_embed(a["text"])
        return self.head_replay(fixture) | {
            "z": self.features(a["tokens_in"], masked, context),
            "z_uncond": self.features(a["tokens_in"], masked, self.fake_latent.expand(len(masked), -1, -1)),
        }


def rising(step: int, steps: int) -> float:
    """Temperature of a step, from 0.8 to 1 (far.py:388)."""
    return 0.8 + 0.2 * (1 - math.cos(math.pi / 2 * (step + 1) / steps))


def masked_after(orders: Tensor, step: int, steps: int) -> Tensor:
    """bool (B, L): the first entries of the orders, as many as stay masked after `step` of `steps`."""
    length = math.floor(orders.shape[1] * math.cos(math.pi / 2 * (step + 1) / steps))
    return torch.zeros_like(orders, dtype=torch.bool).scatter(1, orders[:, :length], True)
