"""DALL-E's discrete VAE (arXiv:2102.12092). openai/DALL-E @ 5be4b23: dall_e/{encoder, decoder, utils}.py.

Convolutions and ReLU only. The encoder's largest logit is the token, the decoder starts from its one-hot vector.

arch: group_count (enters the gain of the residuals; upstream always builds four groups), encoder {in_channels, n_hid,
n_blk_per_group, vocab_size}, decoder {out_channels, n_init, n_hid, n_blk_per_group, vocab_size}, pixel_map_eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Chain, check_size
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_FACTOR = 8
"""Three halvings, after groups 1 to 3."""


class _Conv(nn.Module):
    """A convolution whose parameters are called w and b, with zeros around it so that the size stays."""

    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(out, width, kernel, kernel) / math.sqrt(width * kernel**2))
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class _Block(nn.Module):
    """id_path(x) + res_path(x) / layers**2; res_path: four times ReLU and a convolution, width out / 4 in between."""

    def __init__(self, width: int, out: int, kernels: tuple[int, int, int, int], layers: int) -> None:
        super().__init__()
        if out % 4:
            raise VtbenchError(f"a group is {out} channels wide, which must be a multiple of 4: change n_hid")
        self.gain = 1 / layers**2
        self.id_path = _Conv(width, out, 1) if width != out else nn.Identity()
        widths = (width, out // 4, out // 4, out // 4, out)
        self.res_path = Chain()
        for i, kernel in enumerate(kernels):
            self.res_path.then(f"relu_{i + 1}", nn.ReLU())
            self.res_path.then(f"conv_{i + 1}", _Conv(widths[i], widths[i + 1], kernel))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.id_path(x) + self.gain * self.res_path(x)
        return out


class _Half(nn.Module):
    """`blocks`: input convolution, four groups with a resampling after the first three, ReLU, output convolution."""

    def __init__(
        self,
        channels: tuple[int, int],
        first: tuple[int, int],
        widths: tuple[int, int, int, int],
        *,
        blocks: int,
        groups: int,
        kernels: tuple[int, int, int, int],
        between: tuple[str, nn.Module],
    ) -> None:
        """channels: in, out; first: width and kernel of the input convolution; between: name and layer."""
        super().__init__()
        self.blocks = Chain()
        width = first[0]
        self.blocks.then("input", _Conv(channels[0], *first))
        for g, out in enumerate(widths, start=1):
            for i in range(1, blocks + 1):
                self.blocks.then(f"group_{g}.block_{i}", _Block(width, out, kernels, groups * blocks))
                width = out
            if g < len(widths):
                self.blocks.then(f"group_{g}.{between[0]}", between[1])
        self.blocks.then("output.relu", nn.ReLU())
        self.blocks.then("output.conv", _Conv(width, channels[1], 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class DalleDvae(nn.Module):
    """pre_quant: the logits; quantized: the one-hot vectors, both (B, vocabulary, h, w)."""

    value_range = (0.0, 1.0)
    downsample = _FACTOR
    fixed_size = None
    optional: tuple[str, ...] = ()

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        e, d, groups = c.sub("encoder"), c.sub("decoder"), c.integer("group_count")
        self.eps = c.number("pixel_map_eps")
        vocabulary, wide = e.integer("vocab_size"), e.integer("n_hid")
        if d.integer("vocab_size") != vocabulary:
            raise VtbenchError(
                f"the encoder has {vocabulary} tokens and the decoder {d.integer('vocab_size')}: they must agree"
            )
        self.encoder = _Half(
            (e.integer("in_channels"), vocabulary),
            (wide, 7),
            (wide, 2 * wide, 4 * wide, 8 * wide),
            blocks=e.integer("n_blk_per_group"),
            groups=groups,
            kernels=(3, 3, 3, 1),
            between=("pool", nn.MaxPool2d(2)),
        )
        self.colours, wide = d.integer("out_channels"), d.integer("n_hid")
        self.decoder = _Half(
            (vocabulary, 2 * self.colours),
            (d.integer("n_init"), 1),
            (8 * wide, 4 * wide, 2 * wide, wide),
            blocks=d.integer("n_blk_per_group"),
            groups=groups,
            kernels=(1, 3, 3, 3),
            between=("upsample", nn.Upsample(scale_factor=2, mode="nearest")),
        )
        for part in (e, d, c):
            part.done()
        self.alphabets = (vocabulary,)

    def grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """The one raster grid of an image of `size` pixels."""
        check_size(*size, _FACTOR)
        return ((size[0] // _FACTOR, size[1] // _FACTOR),)

    def _one_hot(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, positions) -> float (B, vocabulary, h, w)."""
        maps = F.one_hot(tokens.reshape(-1, *grid), self.alphabets[0])
        return maps.permute(0, 3, 1, 2).to(next(self.decoder.parameters()).dtype)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, H, W) in [0, 1], squeezed into [eps, 1 - eps] first."""
        (grid,) = self.grids((x.shape[2], x.shape[3]))
        logits = self.encoder((1 - 2 * self.eps) * x + self.eps)
        tokens = logits.argmax(dim=1).flatten(1)
        return Encoded(tokens, pre_quant=logits, quantized=self._one_hot(tokens, grid))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions). The decoder's first channels, through a sigmoid, are the squeezed picture."""
        (grid,) = self.grids(size)
        tokens = latent[..., 0] if latent.ndim == 3 else latent
        if tokens.shape[1] != math.prod(grid):
            raise VtbenchError(
                f"there are {tokens.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs "
                f"{math.prod(grid)}"
            )
        painted = self.decoder(self._one_hot(tokens, grid))[:, : self.colours]
        return (torch.sigmoid(painted) - self.eps) / (1 - 2 * self.eps)
