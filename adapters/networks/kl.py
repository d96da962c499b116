"""The KL autoencoder of latent diffusion as MAR trains it, alone or in front of TokenBridge's quantizer.

LTH14/mar models/vae.py (AutoencoderKL), which YuqingWang1029/TokenBridge @ 3ede2818 copies; the same class serves CODA,
ALIT and KARL. Latents are taken at the posterior's mean; upstream draws a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, check_size, nominal_levels
from vtbench.adapters.networks.parts.normal_bins import NormalBins
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError


class KlAutoencoder(nn.Module):
    """arch: vae {in_channels, out_channels, ch, ch_mult, num_res_blocks, resolution, encoder_attn_resolutions,
    decoder_attn_resolutions, z_channels, double_z, norm_groups, norm_eps}, latent_scale, quantizer (null: continuous).

    Keys: encoder., decoder., quant_conv., post_quant_conv., as in `taming`; the quantizer has none.
    """

    value_range: tuple[float, float] = (-1.0, 1.0)
    fixed_size: int | None = None
    optional: tuple[str, ...] = ("loss.", "model_ema.", "foundation_model.", "linear_proj.")
    """The last two align VA-VAE with its foundation model in training."""
    channel_axis: int = 1
    infer_arch = staticmethod(infer.kl)

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        top = Config(arch, "arch")
        c = top.sub("vae")
        # The posterior's mean and log-variance; without the second there would be no Gaussian.
        c.choice("double_z", (True,), True)
        multipliers, resolution = c.integers("ch_mult"), c.integer("resolution")
        blocks, levels = c.integer("num_res_blocks"), len(multipliers)
        self.latent_channels = c.integer("z_channels")
        spec = Conv(
            image_channels=c.integer("in_channels"),
            latent_channels=2 * self.latent_channels,
            width=c.integer("ch"),
            multipliers=multipliers,
            blocks=blocks,
            attention=nominal_levels(
                resolution, levels, c.integers("encoder_attn_resolutions", empty=True, default=()), down=True
            ),
            groups=c.integer("norm_groups"),
            eps=c.number("norm_eps"),
        )
        self.encoder = spec.encoder()
        self.decoder = replace(
            spec,
            image_channels=c.integer("out_channels"),
            latent_channels=self.latent_channels,
            blocks=blocks + 1,
            attention=nominal_levels(
                resolution, levels, c.integers("decoder_attn_resolutions", empty=True, default=()), down=False
            ),
        ).decoder()
        c.done()
        self.quant_conv = nn.Conv2d(2 * self.latent_channels, 2 * self.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(self.latent_channels, self.latent_channels, 1)
        self.latent_scale = top.number("latent_scale", 1.0)
        if not self.latent_scale > 0:
            raise VtbenchError(f"arch.latent_scale is {self.latent_scale}, but must be above 0")
        self.bins = None if top.any("quantizer") is None else NormalBins.of(top.sub("quantizer"))
        top.done()
        self.downsample = spec.factor
        self.alphabets = () if self.bins is None else (2**self.bins.bits,) * self.latent_channels

    def grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """The one raster grid of an image of `size` pixels."""
        check_size(*size, self.downsample)
        return ((size[0] // self.downsample, size[1] // self.downsample),)

    def posterior_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise that a sample of the posterior takes, for one image."""
        return (self.latent_channels, *self.grids(size)[0])

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: (B, C, H, W) in [-1, 1]; noise: standard normal, for a sample in the mean's place."""
        self.grids((x.shape[2], x.shape[3]))
        latent, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        if noise is not None:
            latent = latent + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise
        if self.bins is None:
            return Encoded(latent_mean=latent)
        scaled = latent * self.latent_scale
        indices = self.bins.indices(scaled)
        tokens = indices.flatten(2).transpose(1, 2)
        if self.latent_channels == 1:
            tokens = tokens[..., 0]
        quantized = self.bins.values(indices, scaled.dtype)
        return Encoded(tokens=tokens, pre_quant=scaled, quantized=quantized, latent_mean=latent)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens, or a latent as it left the encoder, unscaled; returns (B, C, *size), unclamped."""
        ((h, w),) = self.grids(size)
        dtype = next(self.decoder.parameters()).dtype
        if not latent.is_floating_point():
            if self.bins is None:
                raise VtbenchError("this autoencoder has no quantizer (arch.quantizer is null): it decodes latents")
            tokens = latent[..., None] if latent.ndim == 2 else latent
            if tokens.shape[1:] != (h * w, self.latent_channels):
                raise VtbenchError(
                    f"there are {tokens.shape[1]} positions of {tokens.shape[2]} tokens for an image of {size[0]} x "
                    f"{size[1]}, which needs {h * w} of {self.latent_channels}"
                )
            latent = self.bins.values(tokens.transpose(1, 2).unflatten(2, (h, w)), dtype) / self.latent_scale
        out: Tensor = self.decoder(self.post_quant_conv(latent.to(dtype)))
        return out
