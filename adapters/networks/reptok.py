"""RepTok: one token, DINOv2's class token, from which a flow in the latents of a VAE paints (arXiv:2510.14630).

CompVis/RepTok @ 85c3519: reptok/encoder/encoder.py, encoder_wrapper.py. The token stands before the patches of a noisy
latent; the registers that upstream sends along with it leave before the flow begins.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import flow, infer, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.cosine import FeedForward, Layer, Norm, wide
from vtbench.adapters.networks.parts.diffusers_kl import DiffusersKl
from vtbench.adapters.networks.parts.dinov2 import DinoV2
from vtbench.adapters.networks.parts.patches import channels_last, from_channels_last
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

DINO = "dinov2 with 4 registers, class token"
PROJECTION = "residual linear + layer norm (eps 1e-5), zero padded skip"
_STEPS = 50
_DINO, _TRUNK, _VAE = "encoder.encoder", "decoder.decoder.backbone", "decoder.decoder.ae.ae"


class _Backbone(nn.Module):
    """A noisy latent (B, C, side, side) and a token (B, 1, width) -> velocity, shaped like the latent."""

    def __init__(self, c: Config, condition: int) -> None:
        super().__init__()
        self.width, self.side, self.patch = c.integer("width"), c.integer("latent_size"), c.integer("patch_size")
        head, self.channels, eps = c.integer("head_dim"), c.integer("latent_channels"), c.number("norm_eps")
        if self.width % head or head % 8:
            raise VtbenchError(f"head_dim {head} must divide a width of {self.width} and be a multiple of 8")
        if self.side % self.patch:
            raise VtbenchError(f"patches of {self.patch} do not divide a latent of {self.side}")
        hidden, inside = self.width * c.integer("ff_expand"), self.channels * self.patch**2
        layers = c.integer("layers")
        c.done()
        self.mid_level = nn.ModuleList(Layer(self.width, head, hidden, condition, eps) for _ in range(layers))
        self.mid_merge = nn.Module()
        self.mid_merge.pre_proj = nn.ModuleDict({"proj": nn.Linear(inside, self.width, bias=False)})
        self.mid_merge.proj = nn.Linear(self.width, self.width, bias=False)
        norm, last = Norm(self.width, eps), nn.Linear(self.width, inside, bias=False)
        self.mid_split = nn.ModuleDict({"post_proj": nn.ModuleDict({"norm": norm, "proj": last})})

    def places(self, like: Tensor) -> Tensor:
        """(1 + patches, 2): the token in the middle, at 0; patches at the mean of their cells' centres in [-1, 1]."""
        edges = torch.linspace(-1, 1, self.side + 1, device=like.device, dtype=wide(like[:0]).dtype)
        centres = ((edges[:-1] + edges[1:]) / 2).unflatten(0, (-1, self.patch)).mean(dim=1)
        return torch.cat([centres.new_zeros(1, 2), torch.cartesian_prod(centres, centres).reshape(-1, 2)])

    def forward(self, x: Tensor, token: Tensor, condition: Tensor) -> Tensor:
        count = self.side // self.patch
        rows = self.mid_merge.pre_proj["proj"](channels_last(x, self.patch))  # type: ignore[index, operator]
        rows = self.mid_merge.proj(torch.cat([token, rows], dim=1))  # type: ignore[operator]
        places = self.places(x)
        for layer in self.mid_level:
            rows = layer(rows, places, condition)
        last: Any = self.mid_split["post_proj"]
        return from_channels_last(last["proj"](last["norm"](rows[:, 1:])), self.patch, (count, count))


class _Clock(nn.Module):
    """Random Fourier features of the time, a linear layer, and layers of their own: (1,) -> (1, width)."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.width, layers, hidden = c.integer("width"), c.integer("layers"), c.integer("ff")
        c.done()
        if self.width % 2:
            raise VtbenchError(f"arch.mapping.width is {self.width}, but must be even, for cosines and sines")
        # Upstream's sampling of the weights is not repeated: they are in every file.
        self.time_emb = nn.Module()
        self.time_emb.register_buffer("weight", torch.zeros(self.width // 2, 1))
        self.time_in_proj = nn.Linear(self.width, self.width, bias=False)
        self.mapping = nn.ModuleDict(
            {
                "in_norm": Norm(self.width, 1e-6),
                "blocks": nn.ModuleList(FeedForward(Norm(self.width, 1e-6), self.width, hidden) for _ in range(layers)),
                "out_norm": Norm(self.width, 1e-6),
            }
        )

    def condition(self, time: float) -> Tensor:
        weight: Tensor = self.time_emb.weight  # type: ignore[assignment]
        angles = 2 * math.pi * time * wide(weight).t()
        x = self.time_in_proj(torch.cat([angles.cos(), angles.sin()], dim=-1).to(weight.dtype))
        blocks: Any = self.mapping["blocks"]
        x = self.mapping["in_norm"](x)
        for block in blocks:
            x = block(x)
        out: Tensor = self.mapping["out_norm"](x)
        return out


class _Projection(nn.Module):
    """x + LayerNorm(Linear(x)), x filled up with zeros to the backbone's width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        if width > out:
            raise VtbenchError(f"the encoder is {width} channels wide, more than the backbone's {out}")
        self.fc, self.ln = nn.Linear(width, out), nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ln(self.fc(x)) + F.pad(x, (0, self.fc.out_features - x.shape[-1]))
        return out


class _Decoder(_Clock):
    def __init__(self, c: Config, width: int, colours: int) -> None:
        super().__init__(c.sub("mapping"))
        self.backbone = _Backbone(c.sub("backbone"), self.width)
        v, condition = c.sub("vae"), c.sub("condition")
        v.choice("type", ("diffusers AutoencoderKL",))
        vae = DiffusersKl(v, colours)
        self.scale, self.shift = v.number("scale"), v.number("shift", 0.0)
        v.done()
        if vae.channels != self.backbone.channels or not self.scale > 0:
            raise VtbenchError(
                f"the VAE has {vae.channels} channels at a scale of {self.scale} and the backbone "
                f"{self.backbone.channels}: they must agree, and the scale be above 0"
            )
        self.factor = vae.factor
        # Only its decoder is run: the token is made from pixels.
        vae.encoder, vae.quant_conv = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.ae = nn.ModuleDict({"ae": vae})
        condition.choice("projection", (PROJECTION,))
        registers = condition.integer("new_registers", at_least=0)
        condition.done()
        dino = nn.Module()
        dino.temp_pos_embed = nn.Parameter(torch.zeros(1, 1, 1, width))
        # In every file; each token is projected by itself, and these are dropped then (new_target_key only_nonreg).
        dino.new_reg = nn.Parameter(torch.zeros(1, registers, width))
        dino.backbone = _Projection(width, self.backbone.width)
        self.encoder = nn.ModuleDict({"dino": dino})


class RepTok(nn.Module):
    """arch: in_channels, out_channels, scale_factor, encoder {type, image_size, patch_size, width, layers, heads,
    position_table, norm_eps}, condition {new_registers, projection}, backbone {width, layers, head_dim, patch_size,
    ff_expand, norm_eps, latent_channels, latent_size}, mapping {layers, width, ff}, vae {type, block_out_channels,
    layers_per_block, latent_channels, norm_groups, scale, shift}.
    """

    value_range = (-1.0, 1.0)
    alphabets: tuple[int, ...] = ()
    downsample: int | None = None
    positions, channel_axis = 1, 2
    sampler_options = ("steps",)
    optional: ClassVar[tuple[str, ...]] = (
        f"{_DINO}.mask_token",
        "decoder.decoder.encoder.dino.model.",
        "decoder.decoder.encoder.dino.target_model.",
        f"{_VAE}.encoder.",
        f"{_VAE}.quant_conv.",
    )

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; sizes of pictures and latents, and DINOv2's heads' width, stay."""
        name = f"{_TRUNK}.mid_level.0.self_attn.scale"
        if name not in shapes or f"{_DINO}.pos_embed" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        e, b, m, v = (arch[part] for part in ("encoder", "backbone", "mapping", "vae"))
        width, _, patch = shapes[f"{_DINO}.patch_embed.proj.weight"][:3]
        e["heads"] = max(1, width * e["heads"] // e["width"])
        e.update(width=width, patch_size=patch, layers=infer.count(shapes, f"{_DINO}.blocks.{{i}}."))
        e["position_table"] = math.isqrt(shapes[f"{_DINO}.pos_embed"][1] - 1)
        trunk, (inside,) = shapes[f"{_TRUNK}.mid_merge.proj.weight"][0], shapes[name]
        v["latent_channels"] = b["latent_channels"] = shapes[f"{_VAE}.decoder.conv_in.weight"][1]
        b.update(
            width=trunk,
            layers=infer.count(shapes, f"{_TRUNK}.mid_level.{{i}}."),
            head_dim=trunk // inside,
            patch_size=math.isqrt(shapes[f"{_TRUNK}.mid_merge.pre_proj.proj.weight"][1] // b["latent_channels"]),
            ff_expand=shapes[f"{_TRUNK}.mid_level.0.ff.down_proj.weight"][1] // trunk,
        )
        mapping = "decoder.decoder.mapping.blocks"
        m.update(
            layers=infer.count(shapes, f"{mapping}.{{i}}."), width=shapes["decoder.decoder.time_in_proj.weight"][0]
        )
        m["ff"] = shapes[f"{mapping}.0.down_proj.weight"][1]
        arch["condition"]["new_registers"] = shapes["decoder.decoder.encoder.dino.new_reg"][1]
        levels = range(infer.count(shapes, f"{_VAE}.decoder.up_blocks.{{i}}."))
        blocks = f"{_VAE}.decoder.up_blocks"
        v["block_out_channels"] = [shapes[f"{blocks}.{i}.resnets.0.conv1.weight"][0] for i in reversed(levels)]
        # Groups are in no shape; where those of the arch do not divide the widths, the most of 32 that do.
        v["norm_groups"] = math.gcd(v["norm_groups"], *v["block_out_channels"])
        v["layers_per_block"] = infer.count(shapes, f"{blocks}.0.resnets.{{i}}.") - 1
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        c.choice("in_channels", (3,))
        e, colours, self.scale_factor = c.sub("encoder"), c.integer("out_channels"), c.number("scale_factor", 1.0)
        e.choice("type", (DINO,))
        e.choice("norm_eps", (1e-6,))
        self.image_size, patch = e.integer("image_size"), e.integer("patch_size")
        sizes = {"width": e.integer("width"), "depth": e.integer("layers"), "heads": e.integer("heads")}
        sides = {"patch_size": patch, "img_size": e.integer("position_table") * patch, "input_size": self.image_size}
        e.done()
        if not self.scale_factor > 0:
            raise VtbenchError(f"arch.scale_factor is {self.scale_factor}, but must be above 0")
        dino = DinoV2(Config({**sizes, **sides, "layer_scale_init": 1.0, "registers": 4}, "arch.encoder"))
        self.encoder = nn.ModuleDict({"encoder": dino})
        inner = _Decoder(c, dino.width, colours)
        c.done()
        self.decoder = nn.ModuleDict({"decoder": inner})
        side = inner.backbone.side
        self.latent, self.token = (inner.backbone.channels, side, side), dino.width
        self.fixed_size: int | None = side * inner.factor
        self.size = (self.fixed_size, self.fixed_size)

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise for one image, which is a latent of the VAE."""
        return self.latent

    def evaluations(self, *, steps: int = _STEPS, **_: Any) -> int:
        """Of the backbone for an image."""
        return int(steps)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, 3, side, side) in [-1, 1]."""
        check_exactly((x.shape[2], x.shape[3]), self.size)
        factor = x.shape[2] // self.image_size
        pixels = F.avg_pool2d(x, factor) if factor > 1 else x
        pixels = F.interpolate(pixels, size=(self.image_size, self.image_size), mode="bilinear")
        dino: Any = self.encoder["encoder"]
        return Encoded(latent_mean=dino.seen((pixels + 1) / 2)[-1][:, :1] / self.scale_factor)

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        steps: int = _STEPS,
        schedule: str = "linear",
        stage: str = "recon",
    ) -> Tensor:
        """latent: the token (B, 1, width); noise (B, channels, h, w). Returns pictures, or for stage "latent" the VAE's
        scaled latents."""
        check_exactly(size, self.size)
        if schedule != "linear":
            raise VtbenchError(f"schedule is {schedule!r}, but this sampler has linear alone: leave it out")
        if tuple(latent.shape[1:]) != (1, self.token):
            raise VtbenchError(f"latents are {tuple(latent.shape)}, but this network decodes (B, 1, {self.token})")
        inner: Any = self.decoder["decoder"]
        dino = inner.encoder["dino"]
        token = dino.backbone(latent * self.scale_factor + dino.temp_pos_embed[:, 0])

        def velocity(x: Tensor, time: float, _: int) -> Tensor:
            return inner.backbone(x, token, inner.condition(time))  # type: ignore[no-any-return]

        sampled = sampling.finite(flow.euler(velocity, noise, flow.falling("linear", int(steps))), "RepTok")
        return sampled if stage == "latent" else inner.ae["ae"].picture(sampled / inner.scale - inner.shift)
