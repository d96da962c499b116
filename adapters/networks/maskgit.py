"""MaskGIT's VQGAN as 1d-tokenizer ported it, and MaskBit, which grew from the port: no attention, SAME convolutions.

bytedance/1d-tokenizer @ 942a96f: modeling/modules/maskgit_vqgan.py; markweberdev/maskbit @ 5ea3d73:
modeling/conv_vqgan.py, modeling/modules/autoencoder.py. Pixels in [0, 1]. Stride-1 SAME padding is one pixel all round
for 3x3; at stride 2 on even sides it is `conv.Down`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Chain, Conv, Names, Part
from vtbench.adapters.networks.parts.quantizers import VQ, Quantizer, SignBits
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError


class MaskGit(VQAutoencoder):
    """arch: in_channels, hidden_channels, channel_mult, num_res_blocks, resolution, z_channels, shortcut_on_output,
    norm_groups, norm_eps, quantizer."""

    value_range = (0.0, 1.0)
    infer_arch = staticmethod(infer.maskgit)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        # Upstream's loader computes its unused z_shape from the nominal resolution; no layer depends on it.
        c.integer("resolution", 256)
        names = Names(downsample="pool", upsample="upsample_conv")
        spec = _spec(c, names, latent=c.integer("z_channels"), middle="mid.{j}", pool=True)
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        quantizer = VQ(q.integer("codebook_size"), q.integer("embed_dim"), l2_norm=q.flag("l2_norm", False))
        _same_width(quantizer.embedding.embedding_dim, spec.latent_channels)
        q.done()
        c.done()
        super().__init__(spec.encoder(), spec.decoder(), quantizer, downsample=spec.factor)


class MaskBit(VQAutoencoder):
    """arch: in_channels, hidden_channels, channel_mult, num_res_blocks, num_res_blocks_decoder, sample_with_conv,
    legacy_decoder, shortcut_on_output, norm_groups, norm_eps, quantizer ("lfq" or "vq", with token_size)."""

    value_range = (0.0, 1.0)
    optional = ("quantize.codebook",)
    int_buffers = ("quantize.bits_to_indices",)
    infer_arch = staticmethod(infer.maskbit)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        q = c.sub("quantizer")
        width = q.integer("token_size")
        kind, l2_norm = q.choice("type", ("lfq", "vq")), q.flag("l2_norm", False)
        quantizer: Quantizer
        if kind == "vq":
            quantizer = VQ(q.integer("codebook_size"), width, l2_norm=l2_norm)
        else:
            quantizer = SignBits(width)
            if q.integer("codebook_size", 2**width) != 2**width or l2_norm:
                raise VtbenchError(
                    f"{width} sign bits make {2**width} codes without l2_norm, not codebook_size "
                    f"{q.any('codebook_size')} and l2_norm {l2_norm}: change token_size or codebook_size"
                )
        q.done()
        legacy, pool = c.flag("legacy_decoder", False), not c.flag("sample_with_conv")
        names = Names(
            block="res_blocks.{j}", downsample="down_conv", upsample="upsample_conv", up_from_lowest=not legacy
        )
        spec = _spec(c, names, latent=width, middle="mid.res_blocks.{j}", pool=pool)
        blocks = c.integer("num_res_blocks_decoder", spec.blocks)
        # The legacy decoder does not know num_res_blocks_decoder (autoencoder.py:302).
        back = spec if legacy else _with_blocks(spec, blocks, "mid.res_blocks.{j}")
        c.done()
        super().__init__(spec.encoder(), back.decoder(), quantizer, downsample=spec.factor)


def pixel_decoder(c: Config) -> tuple[Conv, Chain]:
    """(spec, decoder) of MaskGIT's VQGAN alone, as TiTok and its kin paint with it. c: the keys of `MaskGit` without
    resolution and quantizer, and out_channels."""
    spec = _spec(
        c,
        Names(downsample="pool", upsample="upsample_conv"),
        latent=c.integer("z_channels"),
        middle="mid.{j}",
        pool=True,
    )
    return spec, replace(spec, image_channels=c.integer("out_channels")).decoder()


def _spec(c: Config, names: Names, *, latent: int, middle: str, pool: bool) -> Conv:
    blocks = c.integer("num_res_blocks")
    spec = Conv(
        image_channels=c.integer("in_channels"),
        latent_channels=latent,
        width=c.integer("hidden_channels"),
        multipliers=c.integers("channel_mult"),
        blocks=blocks,
        middle=(),
        names=replace(names, middle=()),
        groups=c.integer("norm_groups"),
        eps=c.number("norm_eps"),
        bias=False,
        shortcut_on_output=c.flag("shortcut_on_output"),
        down="pool" if pool else "conv",
        latent_kernel=1,
    )
    return _with_blocks(spec, blocks, middle)


def _with_blocks(spec: Conv, blocks: int, middle: str) -> Conv:
    """`blocks` residual blocks a level, and as many in the middle."""
    paths = tuple(middle.format(j=j) for j in range(blocks))
    kind: Part = "block"
    return replace(spec, blocks=blocks, middle=(kind,) * blocks, names=replace(spec.names, middle=paths))


def _same_width(codes: int, latent: int) -> None:
    if codes != latent:
        raise VtbenchError(f"embed_dim {codes} must equal z_channels {latent}: nothing stands between them")
