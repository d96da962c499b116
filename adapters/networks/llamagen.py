"""LlamaGen's VQ tokenizer, which Janus took over line for line.

FoundationVision/LlamaGen @ ce98ec4: tokenizer/tokenizer_image/vq_model.py; deepseek-ai/Janus @ 1daa72f:
janus/models/vq_model.py. Taming's layers under other names; attention by level, whatever the resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, Names
from vtbench.adapters.networks.parts.quantizers import VQ
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError

NAMES = Names(
    down="conv_blocks.{i}",
    up="conv_blocks.{i}",
    block="res.{j}",
    middle=("mid.0", "mid.1", "mid.2"),
    up_from_lowest=True,
)


def attention_of(text: str, levels: int) -> tuple[tuple[int, ...], bool]:
    """(levels with attention, whether the middle has one) of "last level and middle", a part of it, or "none"."""
    parts = {part.strip() for part in text.split(" and ")} - {"none"}
    if not parts <= {"last level", "middle"}:
        raise VtbenchError(f"arch.attention is {text!r}, but must be 'last level and middle', one of the two or 'none'")
    return ((levels - 1,) if "last level" in parts else ()), "middle" in parts


class LlamaGen(VQAutoencoder):
    """arch: in_channels, out_channels, ch, encoder_ch_mult, decoder_ch_mult, num_res_blocks, z_channels, attention,
    norm_groups, norm_eps, quantizer."""

    optional = ("quantize.codebook_used",)
    infer_arch = staticmethod(infer.llamagen)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        z_channels, blocks = c.integer("z_channels"), c.integer("num_res_blocks")
        down, up = c.integers("encoder_ch_mult"), c.integers("decoder_ch_mult")
        if len(down) != len(up):
            raise VtbenchError(
                f"encoder_ch_mult has {len(down)} levels and decoder_ch_mult {len(up)}: the picture would come back "
                "in another size, so give both the same number"
            )
        levels, middle = attention_of(c.any("attention", "none"), len(down))
        spec = Conv(
            image_channels=c.integer("in_channels"),
            latent_channels=z_channels,
            width=c.integer("ch"),
            multipliers=down,
            blocks=blocks,
            attention=levels,
            middle=("block", "attention" if middle else "nothing", "block"),
            names=NAMES,
            groups=c.integer("norm_groups"),
            eps=c.number("norm_eps"),
        )
        back = replace(spec, image_channels=c.integer("out_channels"), multipliers=up, blocks=blocks + 1)
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        dim = q.integer("embed_dim")
        quantizer = VQ(q.integer("codebook_size"), dim, l2_norm=q.flag("l2_norm"))
        q.done()
        c.done()
        super().__init__(
            spec.encoder(),
            back.decoder(),
            quantizer,
            downsample=spec.factor,
            convs=(nn.Conv2d(z_channels, dim, 1), nn.Conv2d(dim, z_channels, 1)),
        )
