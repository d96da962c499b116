"""Open-MAGVIT2 and WeTok: sign bits between convolutions, a decoder modulated by the code.

TencentARC/SEED-Voken @ b9a17ea: src/Open_MAGVIT2/modules/diffusionmodules/improved_model.py; WeTok
(zhuangshaobin/WeTok @ caa2ad7) has the same network, groups the bits into ids, and adds a decoder that takes noise.

arch: in_channels, out_channels, ch, ch_mult, num_res_blocks, z_channels, norm_groups, norm_eps, noise_input,
quantizer {type, bits, groups, bits_per_group}. Groups say how bits pack into ids (group g is channels g n to
g n + n - 1, first channel least significant); what is encoded and decoded are the bits, so they change no number here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Block, Chain, NormSilu
from vtbench.adapters.networks.parts.quantizers import Grid, SignBits
from vtbench.adapters.networks.parts.styled import DepthToSpace, StyleNorm
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError


class Decoder(nn.Module):
    """(B, latent, h, w) -> (B, colours, h factor, w factor); up.0 and adaptive.0 are the highest resolution."""

    def __init__(
        self, colours: int, latent: int, widths: list[int], blocks: int, *, noise: bool, groups: int, eps: float
    ) -> None:
        super().__init__()

        def block(width: int, out: int) -> Block:
            return Block(width, out, groups=groups, eps=eps, bias=False, on_output=False)

        width = widths[-1]
        self.conv_in = nn.Conv2d(2 * latent if noise else latent, width, 3, padding=1)
        self.mid_block = nn.Sequential(*[block(width, width) for _ in range(blocks)])
        levels, norms = [], []
        for i in reversed(range(len(widths))):
            norms.append(StyleNorm(latent, width, groups=groups, eps=eps))
            level = Chain()
            for j in range(blocks):
                level.then(f"block.{j}", block(width, widths[i]))
                width = widths[i]
            if i > 0:
                level.then("upsample", DepthToSpace(width))
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))
        self.adaptive = nn.ModuleList(reversed(norms))
        self.norm_out = NormSilu(groups, width, eps=eps)
        self.conv_out = nn.Conv2d(width, colours, 3, padding=1)

    def forward(self, code: Tensor, noise: Tensor | None) -> Tensor:
        x = self.mid_block(self.conv_in(code if noise is None else torch.cat([code, noise], dim=1)))
        for level, norm in zip(reversed(self.up), reversed(self.adaptive), strict=True):
            x = level(norm(x, code))
        out: Tensor = self.conv_out(self.norm_out(x))
        return out


def encoder(colours: int, latent: int, widths: list[int], blocks: int, *, groups: int, eps: float) -> Chain:
    """(B, colours, H, W) -> (B, latent, H / factor, W / factor); halving pads all four sides, unlike taming's."""
    chain, width = Chain(), widths[0]
    chain.then("conv_in", nn.Conv2d(colours, width, 3, padding=1, bias=False))
    for i, out in enumerate(widths[1:]):
        for j in range(blocks):
            chain.then(f"down.{i}.block.{j}", Block(width, out, groups=groups, eps=eps, bias=False, on_output=False))
            width = out
        if i < len(widths) - 2:
            chain.then(f"down.{i}.downsample", nn.Conv2d(width, width, 3, stride=2, padding=1))
    for j in range(blocks):
        chain.then(f"mid_block.{j}", Block(width, width, groups=groups, eps=eps, bias=False, on_output=False))
    chain.then("norm_out", NormSilu(groups, width, eps=eps))
    chain.then("conv_out", nn.Conv2d(width, latent, 1))
    return chain


class Magvit2(VQAutoencoder):
    """No quant_conv; the quantizer has no parameters. `noise_input`: the decoder also takes `noise`."""

    optional = ("loss.", "model_ema.")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; how bits group into ids is not in them and stays as in `like`."""
        if "decoder.adaptive.0.gamma.weight" not in shapes or "encoder.mid_block.0.conv1.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        arch["ch_mult"] = infer.pyramid(
            shapes, arch, level="down.{i}", block="block.{i}", width="ch", blocks="num_res_blocks"
        )
        bits = shapes["encoder.conv_out.weight"][0]
        arch.update(z_channels=bits, out_channels=shapes["decoder.conv_out.weight"][0])
        arch["noise_input"] = shapes["decoder.conv_in.weight"][1] == 2 * bits
        each, several = like["quantizer"]["bits_per_group"], like["quantizer"]["groups"] > 1
        groups = bits // each if several and bits % each == 0 else 1
        arch["quantizer"].update(bits=bits, groups=groups, bits_per_group=bits // groups)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        width, multipliers, blocks = c.integer("ch"), c.integers("ch_mult"), c.integer("num_res_blocks")
        latent, groups, eps = c.integer("z_channels"), c.integer("norm_groups"), c.number("norm_eps")
        noise = c.flag("noise_input", False)
        q = c.sub("quantizer")
        q.choice("type", ("lfq",))
        bits, parts = q.integer("bits"), q.integer("groups", 1)
        each = q.integer("bits_per_group", bits // parts)
        q.done()
        if parts * each != bits or bits != latent:
            raise VtbenchError(
                f"z_channels {latent}, bits {bits} and {parts} groups of {each} bits disagree: "
                "every latent channel is one bit of one group"
            )
        widths = [width * m for m in multipliers]
        for level in (width, *widths):
            if not level or level % groups:
                raise VtbenchError(f"a level is {level} channels wide, which {groups} norm groups do not divide")
        colours, out = c.integer("in_channels"), c.integer("out_channels")
        c.done()
        super().__init__(
            encoder(colours, latent, [width, *widths], blocks, groups=groups, eps=eps),
            Decoder(out, latent, widths, blocks, noise=noise, groups=groups, eps=eps),
            SignBits(bits),
            downsample=2 ** (len(multipliers) - 1),
        )
        self._latent, self._noise = latent, noise

    def cells(self, size: tuple[int, int]) -> Grid:
        h, w = super().cells(size)
        if h * w < 2:
            raise VtbenchError(
                f"an image of {size[0]} x {size[1]} has a single latent cell, and the decoder needs the deviation over "
                f"two or more: give at least {self.downsample} x {2 * self.downsample} pixels"
            )
        return h, w

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, int, int] | None:
        """(channels, h, w) of the decoder's noise for one image of `size` pixels; None if it takes none."""
        return (self._latent, *self.cells(size)) if self._noise else None

    def decode(self, latent: Tensor, *, size: tuple[int, int], noise: Tensor | None = None) -> Tensor:
        """latent: bits (B, positions, bits); noise: float (B, *noise_shape(size)), standard normal upstream."""
        if (noise is not None) != self._noise:
            wants = "needs noise" if self._noise else "takes no noise"
            raise VtbenchError(f"this decoder {wants} (arch.noise_input is {self._noise}): decode accordingly")
        h, w = self.cells(size)
        if latent.shape[1] != h * w:
            raise VtbenchError(
                f"there are {latent.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs {h * w}"
            )
        code = self.bottleneck.lookup(latent, (h, w))
        out: Tensor = self.decoder(code.to(next(self.decoder.parameters()).dtype), noise)
        return out
