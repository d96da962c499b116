"""The KL autoencoder of latent diffusion under diffusers' names (AutoencoderKL), as tokenizers carry it inside.

huggingface/diffusers models/autoencoders/autoencoder_kl.py with DownEncoderBlock2D and UpDecoderBlock2D throughout:
taming's network, attention with one head in the middle only, no time embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Chain, Down, Norm, NormSilu, Up
from vtbench.types.errors import VtbenchError

_EPS = 1e-6


class _Resnet(nn.Module):
    """conv.Block, its 1x1 shortcut called `conv_shortcut`."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = NormSilu(groups, width, eps=_EPS), NormSilu(groups, out, eps=_EPS)
        self.conv1, self.conv2 = nn.Conv2d(width, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut: nn.Module = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_shortcut(x) + self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return out


class _Attention(nn.Module):
    """Single-head self-attention over all cells, residual; to_q, to_k, to_v, to_out.0 are linear layers."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = Norm(groups, width, eps=_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        rows = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        mixed = F.scaled_dot_product_attention(self.to_q(rows), self.to_k(rows), self.to_v(rows))
        return x + self.to_out[0](mixed[:, 0]).transpose(1, 2).reshape(x.shape)


def _middle(chain: Chain, width: int, groups: int) -> None:
    chain.then("mid_block.resnets.0", _Resnet(width, width, groups))
    chain.then("mid_block.attentions.0", _Attention(width, groups))
    chain.then("mid_block.resnets.1", _Resnet(width, width, groups))


class DiffusersKl(nn.Module):
    """config: block_out_channels (highest resolution first), layers_per_block, norm_groups, latent_channels.

    Keys: encoder., decoder., and unless `quant_convs` is false, quant_conv., post_quant_conv. Pictures in [-1, 1].
    """

    @staticmethod
    def sizes(shapes: infer.Shapes, prefix: str = "") -> dict[str, Any] | None:
        """The sizes of `config` but for the norms' groups, from the names under `prefix`; None if they are others'."""
        if f"{prefix}encoder.down_blocks.0.resnets.0.conv1.weight" not in shapes:
            return None
        levels = range(infer.count(shapes, f"{prefix}encoder.down_blocks.{{i}}."))
        blocks = f"{prefix}encoder.down_blocks"
        return {
            "block_out_channels": [shapes[f"{blocks}.{i}.resnets.0.conv1.weight"][0] for i in levels],
            "layers_per_block": infer.count(shapes, f"{blocks}.0.resnets.{{i}}."),
            "latent_channels": shapes[f"{prefix}decoder.conv_in.weight"][1],
        }

    def __init__(self, c: Config, colours: int, *, quant_convs: bool = True) -> None:
        super().__init__()
        widths, blocks, groups = (
            c.integers("block_out_channels"),
            c.integer("layers_per_block"),
            c.integer("norm_groups"),
        )
        self.channels = c.integer("latent_channels")
        self.factor = 2 ** (len(widths) - 1)
        bad = next((w for w in widths if w == 0 or w % groups), None)
        if bad is not None:
            raise VtbenchError(f"block_out_channels has {bad} channels, which {groups} norm groups do not divide")
        self.encoder, width = Chain(), widths[0]
        self.encoder.then("conv_in", nn.Conv2d(colours, width, 3, padding=1))
        for i, out in enumerate(widths):
            for j in range(blocks):
                self.encoder.then(f"down_blocks.{i}.resnets.{j}", _Resnet(width, out, groups))
                width = out
            if i + 1 < len(widths):
                self.encoder.then(f"down_blocks.{i}.downsamplers.0.conv", Down(width))
        _middle(self.encoder, width, groups)
        self.encoder.then("conv_norm_out", NormSilu(groups, width, eps=_EPS))
        self.encoder.then("conv_out", nn.Conv2d(width, 2 * self.channels, 3, padding=1))
        self.decoder = Chain()
        self.decoder.then("conv_in", nn.Conv2d(self.channels, width, 3, padding=1))
        _middle(self.decoder, width, groups)
        for i, out in enumerate(reversed(widths)):
            for j in range(blocks + 1):
                self.decoder.then(f"up_blocks.{i}.resnets.{j}", _Resnet(width, out, groups))
                width = out
            if i + 1 < len(widths):
                self.decoder.then(f"up_blocks.{i}.upsamplers.0.conv", Up(width))
        self.decoder.then("conv_norm_out", NormSilu(groups, width, eps=_EPS))
        self.decoder.then("conv_out", nn.Conv2d(width, colours, 3, padding=1))
        self.quant_conv: nn.Module = nn.Identity()
        self.post_quant_conv: nn.Module = nn.Identity()
        if quant_convs:
            self.quant_conv = nn.Conv2d(2 * self.channels, 2 * self.channels, 1)
            self.post_quant_conv = nn.Conv2d(self.channels, self.channels, 1)

    def posterior(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, colours, H, W) -> (B, channels, H / factor, W / factor): the posterior's mean, or with standard normal
        `noise` of that shape a sample."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean if noise is None else mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise

    def picture(self, latent: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, colours, h factor, w factor)."""
        out: Tensor = self.decoder(self.post_quant_conv(latent))
        return out
