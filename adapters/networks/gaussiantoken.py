"""GaussianToken: Gaussians whose features have codes, splatted into a map and decoded (arXiv:2501.15619).

ChrisDong-THU/GaussianToken @ 8337223: gstk/models/gqgan.py; how Gaussians are found is parts.anchors, how they are
drawn is parts.splatting, the convolutions are Open-MAGVIT2's (networks.magvit2). Only features have codes; means,
scales, rotations (and opacities, if there are) are floats that the decoder needs beside them.

arch: in_channels, out_channels, feature_grid, z_channels, embed_dim, num_gaussians, xy_range, initial_scale_range,
final_scale_range (of training), opacity, encoder and decoder {ch, ch_mult, num_res_blocks, z_channels, resolution
(nominal)}, attention {heads, points, levels (1), activation, encoder_layers, decoder_layers, residual}, ffn {layers,
pre_norm}, refine_state, operation_order, share_layers, quantizer {type, codebook_size, embed_dim, l2_norm (false)}.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks import magvit2
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.anchors import Embedding, Geometry, Sizes
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.quantizers import nearest, one_book
from vtbench.adapters.networks.parts.splatting import draw_tiled
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_GROUPS, _EPS = 32, 1e-6


@dataclass
class Gaussians(Encoded):
    """Codes of the features, and the geometry beside them."""

    geometry: Geometry | None = None


class _Codebook(nn.Module):
    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.zeros(1, size, dim))


class _Quantizer(nn.Module):
    """Nearest row of `_codebook.embed` (1, size, dim), as vector-quantize-pytorch keeps it."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self._codebook = _Codebook(size, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> int64 (B, N)."""
        return nearest(x.flatten(0, 1), self._codebook.embed[0]).reshape(x.shape[:2])

    def lookup(self, tokens: Tensor) -> Tensor:
        return self._codebook.embed[0][tokens]


class _Convolutions:
    """The numbers of arch.encoder or arch.decoder."""

    def __init__(self, c: Config) -> None:
        width, multipliers = c.integer("ch"), c.integers("ch_mult")
        self.widths, self.blocks = [width, *(width * m for m in multipliers)], c.integer("num_res_blocks")
        self.channels, self.factor = c.integer("z_channels"), 2 ** (len(multipliers) - 1)
        c.integer("resolution")
        c.done()
        for level in self.widths:
            if not level or level % _GROUPS:
                raise VtbenchError(f"a level is {level} channels wide, which {_GROUPS} norm groups do not divide")


def _pair(c: Config, key: str) -> tuple[float, float]:
    value = c.any(key)
    good = isinstance(value, list | tuple) and len(value) == 2
    if not good or any(not isinstance(v, int | float) or isinstance(v, bool) for v in value) or value[0] >= value[1]:
        raise VtbenchError(f"arch.{key} is {value!r}, but must be two numbers, the smaller first")
    return float(value[0]), float(value[1])


class GaussianToken(nn.Module):
    """pre_quant and quantized are (B, num_gaussians, z_channels)."""

    value_range = (-1.0, 1.0)
    channel_axis = 2
    downsample: int | None = None
    numbers_beside = 5
    """Floats a position that the decoder needs beside its code (one more with opacities)."""
    optional = (
        "loss.",
        "model_ema.",
        "gs_embed.op_module_map.",
        "quantize._codebook.cluster_size",
        "quantize._codebook.embed_avg",
        "quantize._codebook.initted",
    )
    int_buffers = ("model_ema.num_updates",)

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; ranges, grid and refine_state are not in them, as in `like`."""
        if "img_decoder.adaptive.0.gamma.weight" not in shapes or "gs_embed.gaussian_lifter.anchor" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half, level in (("encoder", "down"), ("decoder", "up")):
            names = [f"img_{half}.{level}.{i}" for i in range(infer.count(shapes, f"img_{half}.{level}.{{i}}."))]
            widths = [shapes[f"{name}.block.0.conv2.weight"][0] for name in names]
            # The highest resolution's factor is one in every configuration that there is.
            arch[half].update(ch=widths[0], ch_mult=[width // widths[0] for width in widths])
            arch[half]["num_res_blocks"] = infer.count(shapes, f"{names[0]}.block.{{i}}.")
        arch["encoder"]["z_channels"] = shapes["img_encoder.conv_out.weight"][0]
        arch["in_channels"] = shapes["img_encoder.conv_in.weight"][1]
        arch["out_channels"] = shapes["img_decoder.conv_out.weight"][0]
        arch["z_channels"] = arch["decoder"]["z_channels"] = shapes["img_decoder.conv_in.weight"][1]
        arch["num_gaussians"], arch["embed_dim"] = shapes["gs_embed.gaussian_lifter.instance_feature"]
        arch["opacity"] = "gs_embed.anchor_encoder.opacity_fc.0.weight" in shapes
        _, arch["quantizer"]["codebook_size"], arch["quantizer"]["embed_dim"] = shapes["quantize._codebook.embed"]
        _infer_operations(shapes, arch)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        down, up = _Convolutions(c.sub("encoder")), _Convolutions(c.sub("decoder"))
        height, width = c.integers("feature_grid", length=2)
        channels, opacity = c.integer("z_channels"), c.flag("opacity")
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        q.choice("l2_norm", (False,))
        size, dim = q.integer("codebook_size"), q.integer("embed_dim")
        q.done()
        if down.factor != up.factor:
            raise VtbenchError(
                f"the encoder halves to 1/{down.factor}, the decoder doubles by {up.factor}: make them equal"
            )
        if not channels == dim == up.channels:
            raise VtbenchError(
                f"z_channels {channels}, quantizer.embed_dim {dim}, decoder.z_channels {up.channels}: make all equal"
            )
        _pair(c, "final_scale_range")
        sizes = Sizes(
            width=c.integer("embed_dim"),
            channels=channels,
            count=c.integer("num_gaussians"),
            opacity=opacity,
            scales=_pair(c, "initial_scale_range"),
            xy=_pair(c, "xy_range"),
        )
        colours, out = c.integer("in_channels"), c.integer("out_channels")
        self.img_encoder = magvit2.encoder(colours, down.channels, down.widths, down.blocks, groups=_GROUPS, eps=_EPS)
        self.img_decoder = magvit2.Decoder(
            out, channels, up.widths[1:], up.blocks, noise=False, groups=_GROUPS, eps=_EPS
        )
        self.quantize = _Quantizer(size, dim)
        self.gs_embed = Embedding(c, sizes, down.channels, (height, width))
        c.done()
        self.map, self.size = (height, width), (height * up.factor, width * up.factor)
        self.fixed_size: int | None = self.size[0] if height == width else None
        self.positions, self.opacity = sizes.count, opacity
        self.numbers_beside += opacity
        self.alphabets = (size,)

    def check(self, size: tuple[int, int]) -> None:
        """Raises VtbenchError unless `size` is the one that the decoder gives."""
        check_exactly(size, self.size)

    def encode(self, x: Tensor) -> Gaussians:
        """x: (B, colours, *size) in [-1, 1]."""
        self.check((x.shape[2], x.shape[3]))
        features, geometry = self.gs_embed.gaussians(self.gs_embed(self.img_encoder(x)))
        tokens = self.quantize(features)
        return Gaussians(tokens, pre_quant=features, quantized=self.quantize.lookup(tokens), geometry=geometry)

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        means: Tensor,
        scales: Tensor,
        rotations: Tensor,
        opacities: Tensor | None = None,
    ) -> Tensor:
        """latent: tokens (B, num_gaussians), and the geometry that belongs to them."""
        self.check(size)
        tokens = one_book(latent)
        if tokens.shape[1] != self.positions:
            raise VtbenchError(f"there are {tokens.shape[1]} tokens, but this network needs {self.positions}")
        if (opacities is not None) != self.opacity:
            raise VtbenchError(
                f"arch.opacity is {self.opacity}: decode {'with' if self.opacity else 'without'} opacities"
            )
        features = self.quantize.lookup(tokens)
        drawn = draw_tiled(means, scales, rotations, features, opacities, self.map)
        out: Tensor = self.img_decoder(drawn, None)
        return out


def _infer_operations(shapes: infer.Shapes, arch: dict[str, Any]) -> None:
    """Sets operation_order, attention and ffn of `arch`; which operations share weights is not in the shapes."""
    order = []
    for i in range(infer.count(shapes, "gs_embed.layers.{i}.")):
        path = f"gs_embed.layers.{i}"
        if f"{path}.identity_fc.weight" in shapes:
            order.append("ffn")
            linears = infer.count(shapes, f"{path}.layers.{{i}}.")
            arch["ffn"].update(layers=linears, pre_norm=f"{path}.pre_norm_layer.weight" in shapes)
            joined = shapes[f"{path}.identity_fc.weight"][1] == 2 * arch["embed_dim"]
            arch["attention"]["residual"] = "cat" if joined else "add"
        elif f"{path}.to_features.0.weight" in shapes:
            order.append("refine")
        else:
            order.append("cross_attn")
            layers = infer.count(shapes, f"{path}.layers.{{i}}.")
            offsets = shapes[f"{path}.layers.0.cross_attn.sampling_offsets.weight"][0] // 2
            heads = shapes[f"{path}.layers.0.cross_attn.attention_weights.weight"][0] - offsets
            arch["attention"].update(decoder_layers=layers, heads=heads, points=offsets // heads)
    arch["operation_order"] = order
    arch["attention"]["encoder_layers"] = infer.count(shapes, "gs_embed.attn_encoder.layers.{i}.")
