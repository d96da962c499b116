"""The VAE in front of FlexTok, alone: stable diffusion's network with 4, 8 or 16 latent channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.diffusers_kl import DiffusersKl
from vtbench.models.network import Encoded


class FlexTokVae(DiffusersKl):
    """arch: in_channels, vae {block_out_channels, layers_per_block, norm_groups, latent_channels, scaling_factor}.

    Latents are counted as generators see them, times scaling_factor where that is stated.
    """

    value_range = (-1.0, 1.0)
    fixed_size: int | None = None
    optional: tuple[str, ...] = ()
    alphabets: tuple[int, ...] = ()
    channel_axis = 1

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes, but for the norms' groups."""
        vae = DiffusersKl.sizes(shapes)
        if vae is None:
            return None
        arch = copy.deepcopy(dict(like))
        arch["vae"].update(vae)
        arch["in_channels"] = shapes["encoder.conv_in.weight"][1]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        top = Config(arch, "arch")
        c = top.sub("vae")
        super().__init__(c, top.integer("in_channels"))
        self.latent_scale = c.number("scaling_factor", 1.0)
        c.done()
        top.done()
        self.downsample = self.factor

    def grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """The one raster grid of an image of `size` pixels."""
        check_size(*size, self.factor)
        return ((size[0] // self.factor, size[1] // self.factor),)

    def posterior_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise that a sample of the posterior takes, for one image."""
        return (self.channels, *self.grids(size)[0])

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]; noise: standard normal, for a sample in the mean's place."""
        self.grids((x.shape[2], x.shape[3]))
        return Encoded(latent_mean=self.posterior(x, noise))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: as it left the encoder, unscaled; returns (B, colours, *size), unclamped."""
        self.grids(size)
        return self.picture(latent)
