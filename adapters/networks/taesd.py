"""The tiny autoencoders of github.com/madebyollin/taesd (taesd.py at commit 5cccb12): distilled, plain convolutions.

Images in [0, 1], latents at scale 1, roughly in [-3, 3]. Encoder and decoder are flat sequences, so a parameter is
named by its place in them: layers without parameters keep their place.

arch: image_channels, latent_channels, width (64), downsample (8, or 32 for the Sana variant), pooled_middle (blocks at
the latent's resolution first add a globally normalised branch; FLUX.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.models.network import Encoded


class _Clamp(nn.Module):
    """3 tanh(x / 3): keeps latents within [-3, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    """relu(conv relu conv relu conv + skip); `pooled` first adds 1x1 to 4 C, GroupNorm(4), ReLU, 1x1 back to C."""

    def __init__(self, width: int, *, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(width, width),
            nn.ReLU(),
            _conv(width, width),
            nn.ReLU(),
            _conv(width, width),
        )
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


def _conv(width: int, out: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=bias)


def _encoder(colours: int, latents: int, width: int, *, deep: bool, pooled: bool) -> nn.Sequential:
    """(B, colours, H, W) -> (B, latents, H / 8, W / 8), or / 32 if `deep`: two more halvings before the first block."""
    stem: list[nn.Module] = [_conv(colours, width)]
    if deep:
        half = width // 2
        stem = [_conv(colours, half, stride=2), nn.ReLU(), _conv(half, width, stride=2), nn.ReLU()]
    layers = [*stem, _Block(width)]
    for level in range(3):
        layers.append(_conv(width, width, stride=2, bias=False))
        layers += [_Block(width, pooled=pooled and level == 2) for _ in range(3)]
    return nn.Sequential(*layers, _conv(width, latents))


def _decoder(colours: int, latents: int, width: int, *, deep: bool, pooled: bool) -> nn.Sequential:
    """(B, latents, h, w) -> (B, colours, 8 h, 8 w), or 32 h, 32 w if `deep`, where the first levels are wider."""
    widths = [4 * width, 2 * width, width, width, width, width] if deep else [width] * 4
    layers: list[nn.Module] = [_Clamp(), _conv(latents, widths[0]), nn.ReLU()]
    for level, (here, following) in enumerate(itertools.pairwise(widths)):
        layers += [_Block(here, pooled=pooled and level == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), _conv(here, following, bias=False)]
    return nn.Sequential(*layers, _Block(width), _conv(width, colours))


class TAESD(nn.Module):
    """Continuous: the latents are the encoder's output as it stands."""

    value_range = (0.0, 1.0)
    fixed_size = None
    alphabets: tuple[int, ...] = ()
    optional: tuple[str, ...] = ()

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        config = Config(arch, "arch")
        colours, latents = config.integer("image_channels"), config.integer("latent_channels")
        width, pooled = config.integer("width"), config.flag("pooled_middle")
        self.downsample = config.choice("downsample", (8, 32))
        config.done()
        deep = self.downsample == 32
        self.encoder = _encoder(colours, latents, width, deep=deep, pooled=pooled)
        self.decoder = _decoder(colours, latents, width, deep=deep, pooled=pooled)

    def encode(self, x: Tensor) -> Encoded:
        check_size(x.shape[2], x.shape[3], self.downsample)
        return Encoded(latent_mean=self.encoder(x))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent float (B, latent_channels, h, w); the caller clamps."""
        out: Tensor = self.decoder(latent)
        return out
