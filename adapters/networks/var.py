"""VAR's multi-scale tokenizer (arXiv:2404.02905). FoundationVision/VAR @ 78b9539: models/{vqvae,basic_vae,quant}.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from vtbench.adapters.networks.llamagen import attention_of
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv
from vtbench.adapters.networks.parts.multiscale import MultiScaleVQ
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError


class Var(VQAutoencoder):
    """arch: in_channels, out_channels, ch, ch_mult, num_res_blocks, z_channels, attention, quant_conv_ks,
    norm_groups, norm_eps, quantizer (with v_patch_nums, and phi_index or null to compute it)."""

    optional = ("quantize.ema_vocab_hit_SV",)
    quantizer_types: tuple[str, ...] = ("multi-scale residual vq",)
    infer_arch = staticmethod(infer.var)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        z_channels, blocks, multipliers = c.integer("z_channels"), c.integer("num_res_blocks"), c.integers("ch_mult")
        levels, middle = attention_of(c.any("attention", "none"), len(multipliers))
        spec = Conv(
            image_channels=c.integer("in_channels"),
            latent_channels=z_channels,
            width=c.integer("ch"),
            multipliers=multipliers,
            blocks=blocks,
            attention=levels,
            middle=("block", "attention" if middle else "nothing", "block"),
            groups=c.integer("norm_groups"),
            eps=c.number("norm_eps"),
            fused_qkv=True,
        )
        back = replace(spec, image_channels=c.integer("out_channels"), blocks=blocks + 1)
        kernel = c.choice("quant_conv_ks", (1, 3, 5, 7))
        q = c.sub("quantizer")
        q.choice("type", self.quantizer_types)
        dim = q.integer("embed_dim")
        if dim != z_channels:
            raise VtbenchError(f"embed_dim {dim} must equal z_channels {z_channels}: quant_conv keeps the width")
        scales = tuple(_grid(p) for p in q.any("v_patch_nums") or ())
        index = q.any("phi_index")
        quantizer = MultiScaleVQ(
            q.integer("codebook_size"),
            dim,
            scales,
            znorm=q.flag("znorm"),
            ratio=q.number("quant_resi"),
            share=q.integer("share_quant_resi", at_least=0),
            index=None if index is None else q.integers("phi_index"),
        )
        q.done()
        c.done()
        super().__init__(
            spec.encoder(),
            back.decoder(),
            quantizer,
            downsample=spec.factor,
            convs=(
                nn.Conv2d(z_channels, z_channels, kernel, padding=kernel // 2),
                nn.Conv2d(z_channels, z_channels, kernel, padding=kernel // 2),
            ),
        )
        height, width = scales[-1]
        self.fixed_size = height * spec.factor if height == width else None


def _grid(patches: Any) -> Grid:
    """A scale is a number of patches along both sides, or (rows, columns)."""
    pair = (patches, patches) if isinstance(patches, int) else tuple(patches)
    if len(pair) != 2 or not all(isinstance(p, int) and p > 0 for p in pair):
        raise VtbenchError(f"v_patch_nums holds {patches!r}, but a scale is a positive integer or a pair of them")
    return (pair[0], pair[1])
