"""DiT: a transformer that denoises latents, in the layout of diffusers (arXiv:2212.09748).

huggingface/diffusers 0.42.1: models/transformers/dit_transformer_2d.py, schedulers/scheduling_ddim.py.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusers_blocks import (
    ACTIVATIONS,
    Attention,
    FeedForward,
    TimeEmbedding,
    plain_norm,
)
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.positions import sincos
from vtbench.adapters.networks.parts.transformer import modulate
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

STEPS = 1000
"""Timesteps of the training."""


class _Condition(nn.Module):
    """Time and class, summed; every block has its own (keys timestep_embedder, class_embedder.embedding_table)."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.timestep_embedder = TimeEmbedding(dim)
        self.class_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, dim)})

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        out: Tensor = self.timestep_embedder(t) + self.class_embedder["embedding_table"](labels)
        return out


class _ZeroNorm(nn.Module):
    """AdaLayerNormZero with a condition of its own (keys emb, linear)."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.emb, self.linear = _Condition(dim, classes), nn.Linear(dim, 6 * dim)

    def forward(self, t: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the MLP: (B, 1, dim) each."""
        six = self.linear(nn.functional.silu(self.emb(t, labels)))
        return six[:, None].chunk(6, dim=-1)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """norm3 has the configuration's epsilon and, if so configured, parameters; norm1 neither."""

    def __init__(self, dim: int, c: Config, classes: int) -> None:
        super().__init__()
        heads, head = c.integer("num_attention_heads", 16), c.integer("attention_head_dim", 72)
        self.norm1 = _ZeroNorm(dim, classes)
        self.attn1 = Attention(dim, heads, head, bias=c.flag("attention_bias", True))
        affine, eps = c.flag("norm_elementwise_affine", False), c.number("norm_eps", 1e-5)
        self.norm3 = nn.LayerNorm(dim, eps=eps, elementwise_affine=affine)
        self.ff = FeedForward(dim, c.choice("activation_fn", ACTIVATIONS, "gelu-approximate"))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.norm1(t, labels)
        x = x + gate * self.attn1(modulate(plain_norm(x), shift, scale))
        out: Tensor = x + gate2 * self.ff(modulate(self.norm3(x), shift2, scale2))
        return out


class Dit(nn.Module):
    """config: diffusers' config.json of a DiTTransformer2DModel. Label num_embeds_ada_norm is the null class."""

    optional = ("pos_embed.pos_embed",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        dim = c.integer("num_attention_heads", 16) * c.integer("attention_head_dim", 72)
        if dim % 4:
            raise VtbenchError(f"config: a width of {dim} is no multiple of 4, as the table of positions needs it")
        self.classes, self.channels = c.integer("num_embeds_ada_norm", 1000), c.integer("in_channels", 4)
        self.out_channels = c.integer("out_channels", self.channels)
        if self.out_channels not in (self.channels, 2 * self.channels):
            raise VtbenchError(
                f"config.out_channels is {self.out_channels}, but must be in_channels {self.channels} or twice that: "
                "noise, and the variance where that is learned"
            )
        self.side, self.patch = c.integer("sample_size", 32), c.integer("patch_size", 2)
        if self.side % self.patch:
            raise VtbenchError(f"config.sample_size {self.side} is no multiple of patch_size {self.patch}")
        c.choice("norm_type", ("ada_norm_zero",), "ada_norm_zero")
        self.pixels = 8 * self.side
        self.pos_embed = nn.ModuleDict({"proj": nn.Conv2d(self.channels, dim, self.patch, stride=self.patch)})
        depth = c.integer("num_layers", 28)
        self.transformer_blocks = nn.ModuleList(_Block(dim, c, self.classes) for _ in range(depth))
        self.proj_out_1 = nn.Linear(dim, 2 * dim)
        self.proj_out_2 = nn.Linear(dim, self.patch**2 * self.out_channels)
        # Training, precision on a GPU, or a class's name and version, which change no result.
        for key in ("dropout", "norm_num_groups", "upcast_attention", "_class_name", "_diffusers_version"):
            c.any(key)
        c.done()

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Heads as wide as in `like`; so are the grid and the epsilon, which no shape shows."""
        table = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
        if table not in shapes or "pos_embed.proj.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        dim, arch["in_channels"], arch["patch_size"] = shapes["pos_embed.proj.weight"][:3]
        arch["num_attention_heads"] = dim // arch["attention_head_dim"]
        arch["num_embeds_ada_norm"] = shapes[table][0] - 1
        arch["num_layers"] = count(shapes, "transformer_blocks.{i}.")
        arch["out_channels"] = shapes["proj_out_2.weight"][0] // arch["patch_size"] ** 2
        arch["attention_bias"] = "transformer_blocks.0.attn1.to_q.bias" in shapes
        arch["norm_elementwise_affine"] = "transformer_blocks.0.norm3.weight" in shapes
        return arch

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x (B, C, side, side), t (B,) of 0..999, labels (B,) -> (B, out, side, side): eps | variance values."""
        conv, grid = self.pos_embed["proj"], x.shape[-1] // self.patch
        table = sincos(grid, grid, conv.weight.shape[0])  # type: ignore[union-attr]
        tokens = conv(x).flatten(2).transpose(1, 2)
        tokens = tokens + table.to(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, t, labels)
        c = self.transformer_blocks[0].norm1.emb(t, labels)  # type: ignore[union-attr]
        shift, scale = self.proj_out_1(nn.functional.silu(c))[:, None].chunk(2, dim=-1)
        tokens = self.proj_out_2(modulate(plain_norm(tokens), shift, scale))
        tokens = torch.unflatten(torch.unflatten(tokens, -1, (self.patch, self.patch, -1)), 1, (grid, grid))
        return sampling.finite(tokens.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3), "DiT")

    def generate(
        self, labels: Tensor, noise: sampling.Noise, *, num_inference_steps: int = 50, guidance_scale: float = 4.0
    ) -> Tensor:
        """Labels (B,) -> latents (B, C, side, side), by DDIM with eta 0.

        Linear betas of 1000 steps, evenly kept ones from 0 on, as diffusers' pipeline of DiT runs it; guidance on all
        channels of the noise, none where the scale is at most 1. One normal draw an image.
        """
        steps = sampling.whole("num_inference_steps", num_inference_steps, most=STEPS)
        guidance_scale = sampling.number("guidance_scale", guidance_scale)
        sampling.labels_within(labels, self.classes)
        x = noise.normal(self.channels, self.side, self.side).to(self.proj_out_2.weight.dtype)
        both = torch.cat([labels, torch.full_like(labels, self.classes)])
        bars, stride = alpha_bars(), STEPS // steps
        for timestep in timesteps(steps):
            t = torch.full((len(x),), timestep, device=x.device)
            if guidance_scale > 1:
                cond, null = self(torch.cat([x, x]), torch.cat([t, t]), both)[:, : self.channels].chunk(2)
                eps = sampling.guide(cond, null, guidance_scale)
            else:
                eps = self(x, t, labels)[:, : self.channels]
            here, then = bars[timestep], bars[timestep - stride] if timestep >= stride else 1.0
            start = (x - math.sqrt(1 - here) * eps) / math.sqrt(here)
            x = math.sqrt(then) * start + math.sqrt(1 - then) * eps
        return x

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture; the sampler's settings stand in prose: "4-step DDIM ... uncond+3.0*"."""
        a, text = fixture.arrays, fixture.texts.get("sample", "")
        labels, steps, scale = a["class_ids"], re.search(r"(\d+)-step", text), re.search(r"uncond\+([\d.]+)\*", text)
        stated: dict[str, Any] = {
            "num_inference_steps": int(steps[1]) if steps else 50,
            "guidance_scale": float(scale[1]) if scale else 4.0,
        }
        stated |= next(iter(fixture.runs(marks=stated).values()), {})
        return {
            "net_out": self(a["x_t"], a["t"], labels),
            "net_out_uncond": self(a["x_t"], a["t"], torch.full_like(labels, self.classes)),
            "timesteps": torch.tensor(timesteps(stated["num_inference_steps"])),
            "sample": self.generate(
                labels, sampling.Recorded([a["init"]]), **sampling.known(stated, *stated.keys() & _SETTINGS)
            ),
        }


_SETTINGS = {"num_inference_steps", "guidance_scale"}


def timesteps(steps: int) -> list[int]:
    """The kept timesteps, falling: multiples of 1000 // steps ("leading" spacing, offset 0)."""
    return [i * (STEPS // steps) for i in reversed(range(steps))]


def alpha_bars() -> list[float]:
    """Products of 1 - beta over the first timesteps, betas evenly from 0.0001 to 0.02; float32, as the scheduler's."""
    with torch.device("cpu"):
        betas = torch.linspace(0.0001, 0.02, STEPS, dtype=torch.float32)
        bars: list[float] = torch.cumprod(1.0 - betas, dim=0).tolist()
        return bars
