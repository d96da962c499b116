"""Taming's VQGAN and what descends from it with the same keys: latent-diffusion's VQ, Chameleon, IBQ, RQ-VAE.

CompVis/taming-transformers @ 3ba01b2: taming/modules/diffusionmodules/model.py:342-540, taming/models/vqgan.py:12-66;
CompVis/latent-diffusion @ a506df5: ldm/modules/diffusionmodules/model.py (attn_type, tanh_out);
kakaobrain/rq-vae-transformer @ 341395e: rqvae/models/rqvae/rqvae.py; TencentARC/SEED-Voken @ b9a17ea: src/IBQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, nominal_levels
from vtbench.adapters.networks.parts.quantizers import VQ, DotVQ, GumbelVQ, Quantizer, ResidualVQ
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError


class Taming(VQAutoencoder):
    """arch: in_channels, out_channels, ch, ch_mult, num_res_blocks, attn_resolutions, attn_type, resolution,
    z_channels, double_z, resamp_with_conv, tanh_out, norm_groups, norm_eps, quantizer."""

    optional: tuple[str, ...] = ("loss.", "model_ema.")
    infer_arch = staticmethod(infer.taming)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        z_channels = c.integer("z_channels")
        # double_z (mean and variance of a posterior) cannot stand before a quantizer: quant_conv takes z_channels.
        c.choice("double_z", (False,), False)
        kind = c.choice("attn_type", ("vanilla", "linear", "none"), "vanilla")
        multipliers, resolution = c.integers("ch_mult"), c.integer("resolution")
        at = c.integers("attn_resolutions", empty=True, default=())
        if kind == "none":
            c.unused(["attn_resolutions"], "attn_type is 'none', so that no level has attention")
        blocks, with_conv = c.integer("num_res_blocks"), c.flag("resamp_with_conv", True)
        spec = Conv(
            image_channels=c.integer("in_channels"),
            latent_channels=z_channels,
            width=c.integer("ch"),
            multipliers=multipliers,
            blocks=blocks,
            attention=nominal_levels(resolution, len(multipliers), at, down=True),
            middle=("block", "nothing" if kind == "none" else "attention", "block"),
            linear_attention=kind == "linear",
            groups=c.integer("norm_groups"),
            eps=c.number("norm_eps"),
            down="conv" if with_conv else "pool",
            up="conv" if with_conv else "nearest",
        )
        decoder = replace(
            spec,
            image_channels=c.integer("out_channels"),
            blocks=blocks + 1,
            attention=nominal_levels(resolution, len(multipliers), at, down=False),
        ).decoder()
        if c.flag("tanh_out", False):
            decoder.then("tanh", nn.Tanh())
        quantizer, dim = _quantizer(c.sub("quantizer"), z_channels)
        c.done()
        residual = isinstance(quantizer, ResidualVQ)
        super().__init__(
            spec.encoder(),
            decoder,
            quantizer,
            downsample=spec.factor,
            convs=(nn.Conv2d(z_channels, dim, 1), nn.Conv2d(dim, z_channels, 1)),
            quantizer_name="quantizer" if residual else "quantize",
            latent_layout="NHWC" if residual else "NCHW",
        )
        if residual:
            self.optional = (
                *type(self).optional,
                *(
                    f"quantizer.codebooks.{i}.{kind}"
                    for i in range(len(self.alphabets))
                    for kind in ("cluster_size_ema", "embed_ema")
                ),
            )


_RESIDUAL = ("depth", "shared_codebook", "latent_shape", "code_shape", "padding_rows")
"""Keys of a residual quantizer alone."""


def _quantizer(q: Config, z_channels: int) -> tuple[Quantizer, int]:
    """The quantizer and the channels of the latent that it takes."""
    kind = q.choice("type", ("vq", "gumbel", "dot-product argmax", "residual"))
    quantizer: Quantizer
    if kind == "residual":
        quantizer, dim = _residual(q)
    else:
        q.unused(_RESIDUAL, f"type is {kind!r}, which has one code a position")
        size, dim, l2_norm = q.integer("codebook_size"), q.integer("embed_dim"), q.flag("l2_norm", False)
        if kind == "vq":
            quantizer = VQ(size, dim, l2_norm=l2_norm)
        elif kind == "gumbel":
            if dim != z_channels or l2_norm:
                raise VtbenchError(
                    f"a Gumbel quantizer wants embed_dim = z_channels without l2_norm, not {dim} and {z_channels}"
                    f"{' with l2_norm' if l2_norm else ''}: its logits are computed from z_channels channels"
                )
            quantizer = GumbelVQ(size, dim)
        else:
            # IndexPropagationQuantize takes the flag l2_normalize and never uses it (quantize.py:374-446).
            q.unused(["l2_norm"], "the dot products of this quantizer are not normalised")
            quantizer = DotVQ(size, dim)
    q.done()
    return quantizer, dim


def _residual(q: Config) -> tuple[ResidualVQ, int]:
    depth, shared = q.integer("depth"), q.flag("shared_codebook")
    sizes = q.any("codebook_size")
    sizes = q.integers("codebook_size", length=depth) if isinstance(sizes, list | tuple) else [sizes] * depth
    latent, code = q.integers("latent_shape", length=3), q.integers("code_shape", length=3)
    if any(a % b for a, b in zip(latent[:2], code[:2], strict=True)) or code[2] != depth:
        raise VtbenchError(
            f"code_shape {list(code)} does not divide latent_shape {list(latent)} into positions of depth {depth}"
        )
    fold = (latent[0] // code[0], latent[1] // code[1])
    # embed_dim is the width of the latent upstream; of the codebook rows where patches are folded into channels.
    if q.integer("embed_dim") not in (latent[2], latent[2] * fold[0] * fold[1]):
        raise VtbenchError(f"embed_dim must be the latent's {latent[2]} channels, as latent_shape {list(latent)} says")
    q.choice("l2_norm", (False,), False)
    if not all(isinstance(s, int) and s > 0 for s in sizes):
        raise VtbenchError(f"codebook_size is {sizes!r}, but must be an integer or one integer a depth")
    padding = q.integer("padding_rows", 0, at_least=0)
    return ResidualVQ(sizes, latent[2], fold=fold, shared=shared, padding=padding), latent[2]
