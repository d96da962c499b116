"""FlexTok: nested 1-D FSQ tokens of a VAE's latents, decoded by a rectified flow (arXiv:2502.13967).

apple/ml-flextok @ 87d00cc: flextok/flextok_wrapper.py, model/, regularizers/quantize_fsq.py and
flow_matching/pipelines.py.
Upstream packs images of any size into one sequence; here a batch has one size, so that nothing is packed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import flow, infer, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.diffusers_kl import DiffusersKl
from vtbench.adapters.networks.parts.fsq import FSQ
from vtbench.adapters.networks.parts.patches import channels_last, from_channels_last
from vtbench.adapters.networks.parts.positions import causal_tail
from vtbench.adapters.networks.parts.transformer import TimeEmbedder, heads_of, merged, modulate
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

GUIDANCE = ("cfg", "apg")
"""Classifier-free guidance, or the projected kind, which upstream calls norm guidance (pipelines.py:104-151)."""


def _plain(x: Tensor) -> Tensor:
    """LayerNorm without parameters (layers/norm.py:9)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


class _Attention(nn.Module):
    """No biases; q and k are normalised a head; muP's scale is 8 over a head's width (layers/attention.py)."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.heads = width // head
        self.wq, self.wk, self.wv, self.proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (heads_of(layer(x), self.heads) for layer in (self.wq, self.wk, self.wv))
        scale = 8.0 / q.shape[-1]
        out: Tensor = self.proj(
            merged(F.scaled_dot_product_attention(_plain(q), _plain(k), v, attn_mask=mask, scale=scale))
        )
        return out


class _SwiGlu(nn.Module):
    """fc2(silu(fc1 x) fc3 x), without biases (layers/mlp.py:45)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc3 = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.silu(self.fc1(x)) * self.fc3(x))
        return out


def _modulation(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, out))


class _Block(nn.Module):
    """Pre-norm; with `sets`, modulated by the time, each part of the sequence by a set of its own."""

    def __init__(self, width: int, head: int, sets: int) -> None:
        super().__init__()
        self.sets = sets
        self.attn, self.mlp = _Attention(width, head), _SwiGlu(width, int(2 * (4 * width) / 3))
        if sets:
            self.adaLN_modulation = _modulation(width, sets * 6 * width)

    def forward(self, x: Tensor, mask: Tensor | None, time: Tensor | None, lengths: tuple[int, ...]) -> Tensor:
        """lengths: of the parts of x (B, N, width)."""
        if time is None:
            x = x + self.attn(_plain(x), mask)
            out: Tensor = x + self.mlp(_plain(x))
            return out
        sets = self.adaLN_modulation(time).unflatten(1, (self.sets, -1))
        # A set of one serves all parts.
        spread = sets if self.sets > 1 else sets.expand(-1, len(lengths), -1)
        each = torch.cat([spread[:, i, None].expand(-1, n, -1) for i, n in enumerate(lengths)], dim=1)
        gate, gate_mlp, shift, scale, shift_mlp, scale_mlp = each.chunk(6, dim=-1)
        x = x + gate * self.attn(modulate(_plain(x), shift, scale), mask)
        out = x + gate_mlp * self.mlp(modulate(_plain(x), shift_mlp, scale_mlp))
        return out


class _Trunk(nn.Module):
    def __init__(self, c: Config, sets: int) -> None:
        super().__init__()
        self.width, head = c.integer("width"), c.integer("head_dim")
        if self.width % head:
            raise VtbenchError(f"a width of {self.width} is no multiple of head_dim {head}: change one of them")
        self.blocks = nn.ModuleList(_Block(self.width, head, sets) for _ in range(c.integer("depth")))
        c.done()

    def forward(
        self, parts: tuple[Tensor, ...], *, mask: Tensor | None = None, time: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        lengths, x = tuple(p.shape[1] for p in parts), torch.cat(parts, dim=1)
        for block in self.blocks:
            x = block(x, mask, time, lengths)
        return x.split(list(lengths), dim=1)


class _Table(nn.Module):
    """Stored positions: (1, width, h, w) of a grid, or (1, 1, width, n) of a line, its first axis a table an axis."""

    def __init__(self, width: int, *shape: int) -> None:
        super().__init__()
        self.line = len(shape) == 1
        self.posembs = nn.Parameter(torch.zeros(1, 1, width, *shape) if self.line else torch.zeros(1, width, *shape))

    def rows(self, *shape: int) -> Tensor:
        """(1, positions, width) of the first `shape` places along each axis."""
        table = self.posembs[0] if self.line else self.posembs
        for axis, count in enumerate(shape):
            table = table.narrow(2 + axis, 0, count)
        return table.flatten(2).transpose(1, 2)


class _Head(nn.Module):
    """A norm, modulated by the time where there is one, and `proj` (postprocessors/heads.py)."""

    def __init__(self, width: int, out: int, *, timed: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(width, out)
        if timed:
            self.adaLN_modulation = _modulation(width, 2 * width)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        x = _plain(x)
        if time is not None:
            shift, scale = self.adaLN_modulation(time)[:, None].chunk(2, dim=-1)
            x = modulate(x, shift, scale)
        out: Tensor = self.proj(x)
        return out


def _module_dict(**layers: nn.Module) -> nn.ModuleDict:
    """Upstream keeps the layers of a half in a dictionary, whose name stands in every key."""
    return nn.ModuleDict({"module_dict": nn.ModuleDict(layers)})


def _projection(name: str, before: int, after: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(before, after)})


class _Registers(nn.Module):
    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.registers = nn.Parameter(torch.zeros(count, width))


class _Vector(nn.Module):
    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(width)))


class FlexTok(nn.Module):
    """arch: in_channels, vae {block_out_channels, layers_per_block, norm_groups, latent_channels, scaling_factor},
    patch_size, latent_grid (patches of a latent), num_registers, encoder and decoder {width, depth, head_dim},
    attention_scale, adaln_sets, time {width, max_period, max_timestep}, register_positions, quantizer (fsq).

    Any number of leading tokens decodes. A scaling_factor of null stands in the checkpoint's own configuration
    (`configure`); until then it counts as 1.
    """

    value_range = (-1.0, 1.0)
    optional: tuple[str, ...] = ()
    channel_axis = 2
    sampler_options = ("steps", "guidance", "guidance_kind")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width where it fits, FSQ its levels."""
        registers = shapes.get("encoder.module_dict.enc_register_module.registers")
        vae = DiffusersKl.sizes(shapes, "vae.vae.")
        if registers is None or vae is None:
            return None
        arch = copy.deepcopy(dict(like))
        arch["vae"].update(vae)
        cells = shapes["encoder.module_dict.enc_patch_emb.patch_proj.weight"][1]
        arch["patch_size"] = math.isqrt(cells // vae["latent_channels"])
        arch["latent_grid"] = list(shapes["encoder.module_dict.enc_posemb_module.posembs"][2:])
        arch["num_registers"] = registers[0]
        for half, short in (("encoder", "enc"), ("decoder", "dec")):
            blocks = f"{half}.module_dict.{short}_transformer.blocks"
            width = shapes[f"{blocks}.0.attn.wq.weight"][0]
            head = math.gcd(width, arch[half]["head_dim"])
            arch[half].update(width=width, depth=infer.count(shapes, f"{blocks}.{{i}}."), head_dim=head)
        arch["adaln_sets"] = shapes[f"{blocks}.0.adaLN_modulation.1.bias"][0] // (6 * width)
        arch["time"]["width"] = shapes["decoder.module_dict.dec_time_embedder.mlp.0.weight"][1]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        v, t, q = c.sub("vae"), c.sub("time"), c.sub("quantizer")
        vae = DiffusersKl(v, c.integer("in_channels"))
        self.vae: Any = nn.ModuleDict({"vae": vae})
        self.scale = v.number("scaling_factor", 1.0)
        v.done()
        self.patch, self.positions = c.integer("patch_size"), c.integer("num_registers")
        rows, columns = c.integers("latent_grid", length=2)
        c.choice("attention_scale", ("8/head_dim",))
        # With one axis the sum and the product of its tables are the table.
        c.choice("register_positions", ("learnable_sum", "learnable_prod"))
        q.choice("type", ("fsq",))
        self.quantizer = FSQ(q.integers("levels"))
        q.done()
        cells, codes = vae.channels * self.patch**2, len(self.quantizer.levels)
        trunk = _Trunk(c.sub("encoder"), 0)
        self.encoder: Any = _module_dict(
            enc_patch_emb=_projection("patch_proj", cells, trunk.width),
            enc_posemb_module=_Table(trunk.width, rows, columns),
            enc_register_module=_Registers(self.positions, trunk.width),
            enc_transformer=trunk,
            enc_to_latents=_Head(trunk.width, codes, timed=False),
        )
        trunk = _Trunk(c.sub("decoder"), c.integer("adaln_sets"))
        self.max_timestep = t.number("max_timestep")
        self.decoder: Any = _module_dict(
            dec_from_latents=_projection("proj", codes, trunk.width),
            dec_registers_posemb_module=_Table(trunk.width, self.positions),
            dec_nested_dropout=_Vector("dropout_mask_token", trunk.width),
            dec_latent_dropout=_Vector("nullcond", trunk.width),
            dec_noise_patch_emb=_projection("patch_proj", cells, trunk.width),
            dec_patches_posemb_module=_Table(trunk.width, rows, columns),
            dec_time_embedder=TimeEmbedder(trunk.width, width=t.integer("width"), period=t.number("max_period")),
            dec_transformer=trunk,
            dec_to_patches=_Head(trunk.width, cells, timed=True),
        )
        t.done()
        c.done()
        self.grid, self.channels, self.downsample = (rows, columns), vae.channels, vae.factor
        self.fixed_size: int | None = rows * self.patch * vae.factor if rows == columns else None
        self.alphabets = self.quantizer.alphabets

    def configure(self, *, scaling_factor: float, max_timestep: float | None = None) -> None:
        """Takes what stands in a checkpoint's own configuration."""
        if not scaling_factor > 0:
            raise VtbenchError(f"scaling_factor is {scaling_factor}, but must be above 0")
        self.scale = scaling_factor
        self.max_timestep = self.max_timestep if max_timestep is None else max_timestep

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise of one image, which is a latent of the VAE."""
        rows, columns = self._patches(size)
        return (self.channels, rows * self.patch, columns * self.patch)

    posterior_shape = noise_shape

    def evaluations(self, *, steps: int = 25, **_: Any) -> int:
        """Of the decoder for an image; a batch doubled for guidance counts once."""
        return steps

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]; noise: for a sample of the VAE's posterior in its mean's place."""
        grid = self._patches((x.shape[2], x.shape[3]))
        layers = self.encoder["module_dict"]
        latents = self.vae["vae"].posterior(x, noise) * self.scale
        patches = layers["enc_patch_emb"]["patch_proj"](channels_last(latents, self.patch))
        patches = patches + layers["enc_posemb_module"].rows(*grid)
        registers = layers["enc_register_module"].registers.expand(len(x), -1, -1)
        mask = causal_tail(patches.shape[1], self.positions, device=x.device)
        _, out = layers["enc_transformer"]((patches, registers), mask=mask)
        z = layers["enc_to_latents"](out)
        tokens, quantized = self.quantizer(z)
        return Encoded(tokens, pre_quant=z, quantized=quantized)

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        steps: int = 25,
        guidance: float = 1.0,
        guidance_kind: str = "cfg",
        schedule: str = "uniform",
        stage: str = "recon",
    ) -> Tensor:
        """latent: ids (B, k) of the k leading tokens; noise (B, channels, h, w); guidance 1 is none, kinds cfg, apg.

        Returns pictures, or for stage "latent" the VAE's scaled latents that they are decoded from.
        """
        grid = self._patches(size)
        if not 1 <= latent.shape[1] <= self.positions:
            raise VtbenchError(f"there are {latent.shape[1]} tokens, but this network decodes 1 to {self.positions}")
        if guidance_kind not in GUIDANCE:
            raise VtbenchError(f"guidance_kind is {guidance_kind!r}, but must be {' or '.join(GUIDANCE)}")
        dtype, guided = noise.dtype, guidance != 1.0
        known = self._condition(latent, dtype)
        projected = flow.ProjectedGuidance(guidance)

        def velocity(x: Tensor, t: float, step: int) -> Tensor:
            if not guided:
                return self._velocity(x, t, known, grid)
            null = self.decoder["module_dict"]["dec_latent_dropout"].nullcond.expand_as(known)
            cond, uncond = self._velocity(torch.cat([x, x]), t, torch.cat([known, null]), grid).chunk(2)
            return projected(cond, uncond) if guidance_kind == "apg" else sampling.guide(cond, uncond, guidance)

        times = flow.falling(schedule, self.evaluations(steps=steps))
        latents = sampling.finite(flow.euler(velocity, noise, times), "FlexTok")
        if stage == "latent":
            return latents
        out: Tensor = self.vae["vae"].picture(latents / self.scale)
        return out

    def _condition(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, registers, width): what is not there is the mask token, put over its position too."""
        layers = self.decoder["module_dict"]
        kept = layers["dec_from_latents"]["proj"](self.quantizer.lookup(tokens, dtype))
        kept = kept + layers["dec_registers_posemb_module"].rows(tokens.shape[1])
        mask = layers["dec_nested_dropout"].dropout_mask_token
        return torch.cat([kept, mask.expand(len(tokens), self.positions - tokens.shape[1], -1)], dim=1)

    def _velocity(self, x: Tensor, t: float, condition: Tensor, grid: tuple[int, int]) -> Tensor:
        layers = self.decoder["module_dict"]
        at = flow.moment(t, x) * (1000.0 / self.max_timestep)
        time = layers["dec_time_embedder"](at)
        patches = layers["dec_noise_patch_emb"]["patch_proj"](channels_last(x, self.patch))
        patches = patches + layers["dec_patches_posemb_module"].rows(*grid)
        out, _ = layers["dec_transformer"]((patches, condition), time=time)
        return from_channels_last(layers["dec_to_patches"](out, time), self.patch, grid)

    def _patches(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image of `size` pixels; tables of positions end at latent_grid."""
        side = self.patch * self.downsample
        check_size(*size, side)
        grid = (size[0] // side, size[1] // side)
        if grid[0] > self.grid[0] or grid[1] > self.grid[1]:
            most = (self.grid[0] * side, self.grid[1] * side)
            raise VtbenchError(
                f"the image is {size[0]} x {size[1]}, but positions end at {most[0]} x {most[1]}: resize it first"
            )
        return grid
