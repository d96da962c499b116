"""Semanticist: causal continuous tokens, coarse to fine, decoded by a diffusion transformer (arXiv:2503.08685).

visual-gen/semanticist @ 3853a83: semanticist/stage1/diffuse_slot.py, vision_transformer.py, diffusion_transfomer.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.diffusers_kl import DiffusersKl
from vtbench.adapters.networks.parts.diffusion import Diffusion, linear_betas, spaced
from vtbench.adapters.networks.parts.patches import from_channels_last
from vtbench.adapters.networks.parts.positions import causal_tail, sincos
from vtbench.adapters.networks.parts.transformer import (
    Block,
    FinalLayer,
    Mlp,
    SelfAttention,
    TimeEmbedder,
    modulate,
    tanh_gelu,
)
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

BETAS = "linear 0.0001..0.02 over 1000"


class _Patches(nn.Module):
    """Key proj."""

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, side, stride=side)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


class _Encoder(nn.Module):
    """A ViT over class token | patches | slots, one table of positions for all; its output is the slots'."""

    def __init__(self, c: Config, colours: int, size: int, slots: int) -> None:
        super().__init__()
        width, heads, side = c.integer("embed_dim"), c.integer("num_heads"), c.integer("patch_size")
        if width % heads or size % side:
            raise VtbenchError(f"{heads} heads do not divide a width of {width}, or patches of {side} a side of {size}")
        eps, self.causal, self.slots = c.number("norm_eps"), c.flag("causal"), slots
        hidden, bias = int(width * c.number("mlp_ratio")), c.flag("qkv_bias")
        self.width, cells = width, (size // side) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + cells + slots, width))
        self.slot_embed = nn.Parameter(torch.zeros(1, slots, width))
        self.patch_embed = _Patches(colours, width, side)
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, eps=eps, qkv_bias=bias) for _ in range(c.integer("depth"))
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        c.done()

    def forward(self, x: Tensor) -> Tensor:
        """(B, colours, size, size) -> (B, slots, width)."""
        one, slots = self.cls_token.expand(len(x), -1, -1), self.slot_embed.expand(len(x), -1, -1)
        rows = torch.cat([one, self.patch_embed(x), slots], dim=1) + self.pos_embed
        mask = causal_tail(rows.shape[1] - self.slots, self.slots, device=x.device) if self.causal else None
        for block in self.blocks:
            rows = block(rows, mask)
        out: Tensor = self.norm(rows[:, -self.slots :])
        return out


class _DitBlock(nn.Module):
    """DiT's block: attention and MLP, each modulated and gated by the time; norms without parameters."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.plain = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = SelfAttention(width, heads, qkv_bias=True)
        self.mlp = Mlp(width, hidden, act=tanh_gelu)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, N, width), c (B, 1, width)."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = x + gate * self.attn(modulate(self.plain(x), shift, scale))
        out: Tensor = x + gate_mlp * self.mlp(modulate(self.plain(x), shift_mlp, scale_mlp))
        return out


class _Dit(nn.Module):
    """Patches of a noisy latent, and the slots behind them -> eps | variance value of every patch."""

    def __init__(self, c: Config, channels: int, side: int, slots: int, dim: int) -> None:
        super().__init__()
        width, heads, self.patch = c.integer("hidden_size"), c.integer("num_heads"), c.integer("patch_size")
        # Upstream's sampler reads a variance of every channel, so that half of the output is the variance.
        c.choice("learn_sigma", (True,))
        if width % heads or side % self.patch:
            raise VtbenchError(
                f"{heads} heads do not divide a width of {width}, or patches of {self.patch} a latent of {side}"
            )
        hidden, self.grid = int(width * c.number("mlp_ratio")), (side // self.patch, side // self.patch)
        self.pos_embed = nn.Parameter(sincos(*self.grid, width)[None])
        self.null_cond = nn.Parameter(torch.zeros(1, slots, dim))
        self.x_embedder, self.t_embedder = _Patches(channels, width, self.patch), TimeEmbedder(width)
        self.blocks = nn.ModuleList(_DitBlock(width, heads, hidden) for _ in range(c.integer("depth")))
        self.final_layer = FinalLayer(width, 2 * channels * self.patch**2)
        self.autoenc_cond_embedder = nn.Linear(dim, width)
        c.done()

    def forward(self, x: Tensor, t: Tensor, slots: Tensor) -> Tensor:
        """x (B, channels, h, w), t (B,) of 0..999, slots (B, slots, dim) -> (B, 2 channels, h, w)."""
        rows, c = self.x_embedder(x) + self.pos_embed, self.t_embedder(t)[:, None]
        count = rows.shape[1]
        rows = torch.cat([rows, self.autoenc_cond_embedder(slots)], dim=1)
        for block in self.blocks:
            rows = block(rows, c)
        return from_channels_last(self.final_layer(rows[:, :count], c), self.patch, self.grid)


class Semanticist(nn.Module):
    """arch: image_size, in_channels, encoder {embed_dim, depth, num_heads, patch_size, mlp_ratio, qkv_bias, causal,
    norm_eps}, num_slots, slot_dim, norm_slots, dit {depth, hidden_size, patch_size, num_heads, learn_sigma,
    mlp_ratio}, vae {block_out_channels, layers_per_block, latent_channels, norm_groups, scaling_factor}, sampler
    {type, betas, steps}.

    Any number of leading slots decodes; the null row of its position stands for one that is not there. Slots are made
    from pixels, so that the encoder of the VAE is never run.
    """

    value_range = (0.0, 1.0)
    # Training only; constants that an averaged file lacks; the half of the VAE that makes no slots.
    optional = ("dit.projector.", "repa_encoder.", "dit.pos_embed", "vae.encoder.", "vae.quant_conv.")
    int_buffers = ("nested_sampler.arange",)
    alphabets: tuple[int, ...] = ()
    downsample: int | None = None
    channel_axis = 2
    sampler_options = ("steps", "guidance")
    noise_each_step = True

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width."""
        vae = DiffusersKl.sizes(shapes, "vae.")
        if vae is None or "encoder.slot_embed" not in shapes or "dit.null_cond" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        arch["vae"].update(vae)
        slots, width = shapes["encoder.slot_embed"][1:]
        patch, cells = shapes["encoder.patch_embed.proj.weight"], shapes["encoder.pos_embed"][1] - 1 - slots
        arch.update(image_size=math.isqrt(cells) * patch[2], in_channels=patch[1], num_slots=slots)
        arch["slot_dim"] = shapes["encoder2slot.weight"][0]
        e, d = arch["encoder"], arch["dit"]
        e["num_heads"] = max(1, width * e["num_heads"] // e["embed_dim"])
        e.update(embed_dim=width, depth=infer.count(shapes, "encoder.blocks.{i}."), patch_size=patch[2])
        e.update(mlp_ratio=shapes["encoder.blocks.0.mlp.fc1.weight"][0] / width)
        e.update(qkv_bias="encoder.blocks.0.attn.qkv.bias" in shapes)
        width, _, side = shapes["dit.x_embedder.proj.weight"][:3]
        d["num_heads"] = max(1, width * d["num_heads"] // d["hidden_size"])
        d.update(hidden_size=width, depth=infer.count(shapes, "dit.blocks.{i}."), patch_size=side)
        d.update(mlp_ratio=shapes["dit.blocks.0.mlp.fc1.weight"][0] / width)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        size, colours = c.integer("image_size"), c.integer("in_channels")
        self.fixed_size: int | None = size
        self.size = (size, size)
        self.positions, self.dim, self.norm_slots = c.integer("num_slots"), c.integer("slot_dim"), c.flag("norm_slots")
        v, s = c.sub("vae"), c.sub("sampler")
        self.vae = DiffusersKl(v, colours)
        self.scale = v.number("scaling_factor")
        v.done()
        side, rest = divmod(size, self.vae.factor)
        if rest:
            raise VtbenchError(f"arch.image_size is {size}, but must be a multiple of {self.vae.factor}, as the VAE's")
        self.latent = (self.vae.channels, side, side)
        self.encoder = _Encoder(c.sub("encoder"), colours, size, self.positions)
        self.encoder2slot = nn.Linear(self.encoder.width, self.dim)
        self.dit = _Dit(c.sub("dit"), self.vae.channels, side, self.positions, self.dim)
        s.choice("type", ("ddpm",))
        s.choice("betas", (BETAS,))
        self.sections = _sections(s.any("steps"))
        s.done()
        c.done()

    @staticmethod
    def rename(name: str) -> str:
        """Without the mark of a compiled part (engine/trainer_utils.py:118)."""
        return name.replace("_orig_mod.", "")

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of one draw of noise for one image, which is a latent of the VAE."""
        return self.latent

    def evaluations(self, *, steps: Any = None, **_: Any) -> int:
        """Of the decoder for an image; a batch doubled for guidance counts once."""
        return len(spaced(1000, self.sections if steps is None else _sections(steps)))

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, size, size) in [0, 1]."""
        check_exactly((x.shape[2], x.shape[3]), self.size)
        slots = self.encoder2slot(self.encoder(x))
        if not self.norm_slots:
            return Encoded(pre_quant=slots, latent_mean=slots)
        # Without an epsilon, and with the unbiased deviation.
        normed = (slots - slots.mean(dim=-1, keepdim=True)) / slots.std(dim=-1, keepdim=True)
        return Encoded(pre_quant=slots, latent_mean=normed)

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        step_noise: Tensor | Callable[[], Tensor],
        steps: Any = None,
        guidance: float = 1.0,
        schedule: str = "respaced DDPM",
        stage: str = "recon",
    ) -> Tensor:
        """latent: the k leading slots (B, k, slot_dim); noise (B, channels, h, w), and another a step: one tensor for
        all of them (recorded ones may have further rows, of the null half) or a function that draws it.

        steps: a number, or a section string such as ddim25. guidance 1 is none. Returns pictures, or for stage "latent"
        the VAE's scaled latents.
        """
        check_exactly(size, self.size)
        if schedule != "respaced DDPM":
            raise VtbenchError(f"schedule is {schedule!r}, but this sampler has respaced DDPM alone: leave it out")
        if latent.ndim != 3 or latent.shape[2] != self.dim or not 1 <= latent.shape[1] <= self.positions:
            raise VtbenchError(
                f"latents are {tuple(latent.shape)}, but this network decodes (B, 1 to {self.positions}, {self.dim})"
            )
        null = self.dit.null_cond.expand(len(latent), -1, -1)
        slots = torch.cat([latent, null[:, latent.shape[1] :]], dim=1)
        guided, count = guidance != 1.0, len(latent)

        def net(x: Tensor, t: Tensor) -> Tensor:
            if not guided:
                return self.dit(x, t, slots)  # type: ignore[no-any-return]
            out = self.dit(torch.cat([x, x]), torch.cat([t, t]), torch.cat([slots, null]))
            eps, value = out.chunk(2, dim=1)
            return torch.cat([sampling.guide(eps[:count], eps[count:], guidance), value[:count]], dim=1)

        def drawn() -> Tensor:
            return step_noise()[:count] if callable(step_noise) else step_noise[:count]

        sections = self.sections if steps is None else _sections(steps)
        latents = Diffusion(sections, linear_betas(1000)).sample(net, noise, drawn, 1.0)
        latents = sampling.finite(latents, "Semanticist")
        return latents if stage == "latent" else (self.vae.picture(latents / self.scale) + 1) / 2


def _sections(steps: Any) -> str:
    """A section string of `diffusion.spaced`; null or "" keeps all thousand."""
    return "1000" if steps in (None, "") else str(steps)
