"""What ALIT and KARL share: a 2-D tokenizer, whose tokens are distilled into 1-D ones, and the trunk of the decoder.

ShivamDuggal4/adaptive-length-tokenizer @ 8c0b4ec and ShivamDuggal4/karl @ 5c1a569: base_tokenizers/,
modules/{base_tokenizers, base, latent_distillation_modules, vector_quantizer}.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.kl import KlAutoencoder
from vtbench.adapters.networks.parts import archs, infer
from vtbench.adapters.networks.parts.clip import Block
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, check_exactly
from vtbench.adapters.networks.parts.quantizers import VQ, Grid
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

SIDE = 16
"""Cells of the 2-D tokenizer along a side: upstream writes the number into its reshapes (adaptive_vqgan.py:135)."""
_VAE = (
    "in_channels",
    "out_channels",
    "ch",
    "ch_mult",
    "num_res_blocks",
    "resolution",
    "encoder_attn_resolutions",
    "decoder_attn_resolutions",
    "z_channels",
    "double_z",
    "norm_groups",
    "norm_eps",
)
"""What MAR's autoencoder takes."""


class _Vqgan(nn.Module):
    def __init__(self, spec: Conv, out_channels: int, codes: int) -> None:
        super().__init__()
        self.encoder = spec.encoder()
        self.decoder = replace(spec, image_channels=out_channels).decoder()
        self.quantize = VQ(codes, spec.latent_channels)


def _vqgan(c: Config) -> _Vqgan:
    why = "type is 'vqgan', which has neither attention nor a posterior"
    c.unused(("resolution", "encoder_attn_resolutions", "decoder_attn_resolutions", "middle_attention"), why)
    c.unused(("double_z", "latent_scale", "decode_scale"), why)
    pooled = c.choice("encoder_downsample", ("average pooling", "convolution")) == "average pooling"
    spec = Conv(
        image_channels=c.integer("in_channels"),
        latent_channels=c.integer("z_channels"),
        width=c.integer("ch"),
        multipliers=c.integers("ch_mult"),
        blocks=c.integer("num_res_blocks"),
        middle=("block", "nothing", "block"),
        groups=c.integer("norm_groups"),
        eps=c.number("norm_eps"),
        bias=False,
        shortcut_on_output=c.flag("shortcut_on_output"),
        down="pool" if pooled else "conv",
        latent_kernel=1,
    )
    return _Vqgan(spec, c.integer("out_channels"), c.integer("codebook_size"))


def _vae(c: Config) -> KlAutoencoder:
    c.unused(("codebook_size", "shortcut_on_output"), "type is 'vae', which has no codes, and no slip in its blocks")
    c.choice("middle_attention", (True,))
    c.choice("encoder_downsample", ("convolution",))
    # Tokens are scaled on the way in, and what is predicted goes to the decoder as it is (adaptive_vae.py:127).
    c.choice("decode_scale", (1,))
    return KlAutoencoder({"vae": {key: c.any(key) for key in _VAE}, "latent_scale": c.number("latent_scale")})


class Base(nn.Module):
    """The 2-D tokenizer underneath: a VQGAN without attention, or MAR's KL-16. Pixels in [0, 1] in both.

    arch.base: type ("vqgan" or "vae"), in_channels, out_channels, ch, ch_mult, num_res_blocks, resolution,
    encoder_attn_resolutions, decoder_attn_resolutions, middle_attention, z_channels, double_z, codebook_size,
    shortcut_on_output, encoder_downsample ("average pooling" or "convolution"), latent_scale, decode_scale,
    norm_groups, norm_eps. Keys: vqgan.{encoder, decoder, quantize} or vae.…, as in `kl`.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        kind = c.choice("type", ("vqgan", "vae"))
        self.channels, self.factor = c.integer("z_channels"), 2 ** (len(c.integers("ch_mult")) - 1)
        self.vqgan = _vqgan(c) if kind == "vqgan" else None
        self.vae = _vae(c) if kind == "vae" else None
        c.done()
        self.predicted = self.channels if self.codes is None else self.codes.alphabets[0]

    @property
    def codes(self) -> VQ | None:
        """The codebook of a VQGAN."""
        return None if self.vqgan is None else self.vqgan.quantize

    def tokens(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, h, w): before quantization, or the posterior's mean times latent_scale."""
        if self.vqgan is not None:
            out: Tensor = self.vqgan.encoder(x)
            return out
        assert self.vae is not None
        mean = self.vae.encode(x).latent_mean
        assert mean is not None
        return mean * self.vae.latent_scale

    def paint(self, predicted: Tensor, grid: Grid) -> Tensor:
        """(B, h w, predicted) -> (B, 3, H, W): logits of codes, whose mean code is decoded, or the latent itself."""
        if self.vqgan is not None:
            expected = torch.softmax(predicted, dim=-1) @ self.vqgan.quantize.embedding.weight
            out: Tensor = self.vqgan.decoder(expected.transpose(1, 2).unflatten(2, grid))
            return out
        assert self.vae is not None
        return self.vae.decode(
            predicted.transpose(1, 2).unflatten(2, grid), size=(grid[0] * self.factor, grid[1] * self.factor)
        )


@dataclass(frozen=True)
class Shape:
    """Of a transformer: arch.encoder or arch.decoder."""

    width: int
    layers: int
    heads: int

    @classmethod
    def of(cls, c: Config) -> Shape:
        shape = cls(c.integer("width"), c.integer("layers"), c.integer("heads"))
        c.done()
        return shape


class Blocks(nn.Module):
    """(B, N, width) -> the same; mask: True = visible. Key transformer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        blocks = (Block(shape.width, shape.heads, 4 * shape.width) for _ in range(shape.layers))
        self.transformer = nn.ModuleList(blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.transformer:
            x = block(x, mask)
        return x


class Trunk(Blocks):
    """The decoder: [cells | latents] -> what is predicted of the cells. Keys ln_pre, transformer, ln_post, ffn."""

    def __init__(self, shape: Shape, predicted: int) -> None:
        super().__init__(shape)
        width = shape.width
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, predicted))

    def run(self, cells: Tensor, latents: Tensor, *, first: int = 0, mask: Tensor | None = None) -> Tensor:
        """Cells from number `first` on, (B, cells - first, predicted); mask: True = visible."""
        x = self(self.ln_pre(torch.cat([cells, latents], dim=1)), mask)
        out: Tensor = self.ffn(self.ln_post(x[:, first : cells.shape[1]]))
        return out


class Distilled(nn.Module):
    """What ALIT and KARL share: pixels, the 2-D tokenizer, the quantizer of 1-D tokens."""

    value_range = (0.0, 1.0)
    channel_axis = 2
    optional = ("gan_losses.", "criterion.")
    alphabets: tuple[int, ...] = ()

    @staticmethod
    def sizes(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """What both networks' shapes say of the arch they share; heads keep their width."""
        base = _base_of(shapes, like["base"])
        if base is None or "pre_quantizer_mlp.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half in ("encoder", "decoder"):
            width, part = shapes[f"{half}.transformer.0.ln_1.weight"][0], arch[half]
            part["heads"] = max(1, width * part["heads"] // part["width"])
            part.update(width=width, layers=infer.count(shapes, f"{half}.transformer.{{i}}."))
        patch, codes = shapes["patch_embed.weight"][2], shapes.get("quantize.embedding.weight")
        arch.update(base=base, patch_size=patch, image_size=SIDE * patch, quantize_latent=codes is not None)
        arch["quantizer"]["embed_dim"] = shapes["pre_quantizer_mlp.weight"][0]
        if codes is not None:
            arch["quantizer"]["codebook_size"] = codes[0]
        return arch

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.fixed_size: int | None = c.integer("image_size")
        self.downsample: int | None = c.integer("patch_size")
        self.shapes = Shape.of(c.sub("encoder")), Shape.of(c.sub("decoder"))
        self.base_tokenizer, width = Base(c.sub("base")), self.shapes[0].width
        if self.base_tokenizer.factor != self.downsample or self.fixed_size != SIDE * self.downsample:
            raise VtbenchError(
                f"an image of {self.fixed_size} in patches of {self.downsample}, and a base tokenizer that divides by "
                f"{self.base_tokenizer.factor}: all must come to {SIDE} x {SIDE} cells"
            )
        if width <= self.base_tokenizer.channels:
            raise VtbenchError(
                f"arch.encoder.width is {width}, of which the base tokenizer fills {self.base_tokenizer.channels}: "
                "give more, for the patches"
            )
        self.patch_embed = nn.Conv2d(3, width - self.base_tokenizer.channels, self.downsample, stride=self.downsample)
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        size, self.dim, l2_norm = q.integer("codebook_size"), q.integer("embed_dim"), q.flag("l2_norm")
        q.done()
        self.pre_quantizer_mlp = nn.Linear(width, self.dim)
        self.quantize = VQ(size, self.dim, l2_norm=l2_norm) if c.flag("quantize_latent") else None
        if self.quantize is not None:
            self.alphabets = self.quantize.alphabets

    def quantized(self, latent: Tensor) -> tuple[Tensor | None, Tensor]:
        """(tokens (B, L) or None, (B, L, C) as the decoder gets it)."""
        if self.quantize is None:
            return None, latent
        tokens = self.quantize.choose(latent.flatten(0, 1)).reshape(latent.shape[:2])
        return tokens, self.rows(tokens)

    def rows(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, C)."""
        if self.quantize is None:
            raise VtbenchError("this network has no quantizer (arch.quantize_latent is false): it decodes latents")
        return self.quantize.codes[tokens]

    def encoded(self, latent: Tensor) -> Encoded:
        tokens, quantized = self.quantized(latent)
        if tokens is None:
            return Encoded(pre_quant=latent, latent_mean=latent)
        return Encoded(tokens, pre_quant=latent, quantized=quantized)

    def grid(self, size: tuple[int, int], *, wide: bool = False) -> Grid:
        """Cells of an image of `size` pixels: 16 x 16, or 16 x 32 if `wide`."""
        side = self.downsample or 1
        cells = [(SIDE, SIDE), (SIDE, 2 * SIDE)] if wide else [(SIDE, SIDE)]
        check_exactly(size, *((height * side, width * side) for height, width in cells))
        return size[0] // side, size[1] // side


def _base_of(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """arch.base from the names under base_tokenizer.; None if there is no such tokenizer."""
    kind = next((k for k in ("vqgan", "vae") if f"base_tokenizer.{k}.encoder.conv_in.weight" in shapes), None)
    if kind is None:
        return None
    start = f"base_tokenizer.{kind}."
    own = {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}
    base = copy.deepcopy(dict(like)) if like["type"] == kind else archs.distilled_base(kind)
    if kind == "vae":
        read = infer.kl(own, {"vae": base})
        return None if read is None else dict(read["vae"])
    level = {"level": "down.{i}", "block": "block.{i}", "width": "ch", "blocks": "num_res_blocks"}
    base["ch_mult"] = infer.pyramid(own, base, **level)
    base["out_channels"] = own["decoder.conv_out.weight"][0]
    base["codebook_size"], base["z_channels"] = own["quantize.embedding.weight"]
    learned = "encoder.down.0.downsample.conv.weight" in own
    base["encoder_downsample"] = "convolution" if learned else "average pooling"
    return base
