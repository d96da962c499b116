"""DINOv2 as a frozen encoder inside a tokenizer, and the resizing that comes before it.

facebookresearch/dinov2, as CVMI-Lab/Hita @ e10a95c carries it: hita/modules/pretrained_enc/dino_v2/
vision_transformer.py and encoders/pretrained_enc_arch.py. Parameter names are those of its own checkpoints
(dinov2_vitl14_reg4_pretrain.pth).

arch: width, depth, heads, patch_size, img_size (of the position table), layer_scale_init (null: no layer scale),
registers, input_size, levels (blocks whose tokens are wanted; null: the last alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.vit import Block
from vtbench.types.errors import VtbenchError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of colours in [0, 1]."""
_HEAD = 64
"""Channels of a head in every released DINOv2."""


def blurred_resize(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side): bicubic with aligned corners, after a Gaussian blur where it shrinks.

    kornia.geometry.resize(interpolation="bicubic", align_corners=True, antialias=True), kornia 0.8: along each axis the
    deviation is (factor - 1) / 2, at least 0.001, and the kernel spans four deviations, at least three pixels.
    """
    size = (x.shape[2], x.shape[3])
    if size == (side, side):
        return x
    factors = [length / side for length in size]
    if max(factors) > 1:
        for axis, factor in zip((2, 3), factors, strict=True):
            deviation = max((factor - 1) / 2, 0.001)
            x = _blur(x, axis, deviation, int(max(4 * deviation, 3)) // 2)
    return F.interpolate(x, size=(side, side), mode="bicubic", align_corners=True)


def _blur(x: Tensor, axis: int, deviation: float, reach: int) -> Tensor:
    """A normalised Gaussian of 2 reach + 1 taps along one axis; the border is reflected."""
    if reach >= x.shape[axis]:
        raise VtbenchError(f"a side of {x.shape[axis]} pixels is too short for a blur that reaches {reach} pixels")
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-offsets.square() / (2 * deviation**2))
    taps = (taps / taps.sum()).reshape((-1, 1) if axis == 2 else (1, -1)).expand(x.shape[1], 1, -1, -1)
    pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    return F.conv2d(F.pad(x, pad, mode="reflect"), taps, groups=x.shape[1])


def resized_table(table: Tensor, grid: tuple[int, int], *, offset: float = 0.0, antialias: bool = False) -> Tensor:
    """A square table of positions (1, N, C) as (1, h w, C), bicubic; as it stands if the grid is its own.

    offset: DINO adds 0.1 to the sides before it divides, which shifts the samples a little; kept.
    """
    side = int(table.shape[1] ** 0.5)
    if grid == (side, side):
        return table
    # Not in half precision: upstream, and torch, interpolate in float32 then.
    wide = table.to(torch.promote_types(table.dtype, torch.float32))
    squares = wide.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = ((grid[0] + offset) / side, (grid[1] + offset) / side)
    out = F.interpolate(squares, scale_factor=scale, mode="bicubic", antialias=antialias)
    return out.flatten(2).transpose(1, 2).to(table.dtype)


class DinoV2(nn.Module):
    """Pictures in [-1, 1] of any size to tokens at `levels`; class token first, registers left out."""

    optional = ("mask_token",)

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any]:
        """The arch of weights of these shapes; the size of the input and the levels stay as in `like`."""
        width, patch = shapes["patch_embed.proj.weight"][0], shapes["patch_embed.proj.weight"][2]
        scaled = "blocks.0.ls1.gamma" in shapes
        return {
            **like,
            "width": width,
            "depth": infer.count(shapes, "blocks.{i}."),
            "heads": max(1, width // _HEAD),
            "patch_size": patch,
            "img_size": int((shapes["pos_embed"][1] - 1) ** 0.5) * patch,
            "layer_scale_init": (like["layer_scale_init"] or 1.0) if scaled else None,
            "registers": shapes["register_tokens"][1] if "register_tokens" in shapes else 0,
        }

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.width, depth, heads = c.integer("width"), c.integer("depth"), c.integer("heads")
        patch, side, registers = c.integer("patch_size"), c.integer("img_size"), c.integer("registers", 0, at_least=0)
        self.input_size, self.levels = c.integer("input_size"), c.integers("levels", default=(depth - 1,))
        scaled = c.number("layer_scale_init", 0.0) != 0.0
        c.done()
        if self.input_size % patch or side % patch:
            raise VtbenchError(f"dinov2's patches of {patch} pixels must divide {self.input_size} and {side}")
        if list(self.levels) != sorted(set(self.levels)) or self.levels[-1] != depth - 1:
            raise VtbenchError(f"dinov2's levels are {list(self.levels)}, but must rise and end with {depth - 1}")
        self.grid = (self.input_size // patch,) * 2
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, self.width, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (side // patch) ** 2, self.width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, self.width)) if registers else None
        self.blocks = nn.ModuleList(
            Block(self.width, heads, 4 * self.width, eps=1e-6, layer_scale=scaled) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (B, 3, H, W) in [-1, 1]; (B, 1 + patches, width) a level, the last after the final norm, others before."""
        return self.seen((blurred_resize(x, self.input_size).clamp(-1, 1) + 1) / 2)

    def seen(self, pixels: Tensor) -> list[Tensor]:
        """As `forward`, of pixels (B, 3, side, side) in [0, 1] that have been resized."""
        rows = self.patch_embed["proj"]((pixels - self.mean) / self.deviation).flatten(2).transpose(1, 2)
        # The reg models resize their table with antialiasing and without the offset (backbones.py of dinov2).
        table = resized_table(self.pos_embed[:, 1:], self.grid, antialias=True)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(pixels), -1, -1)
        registers = [] if self.register_tokens is None else [self.register_tokens.expand(len(pixels), -1, -1)]
        tokens = torch.cat([cls, *registers, rows + table], dim=1)
        skipped = 0 if self.register_tokens is None else self.register_tokens.shape[1]
        out = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in self.levels:
                level = self.norm(tokens) if i == len(self.blocks) - 1 else tokens
                out.append(torch.cat([level[:, :1], level[:, 1 + skipped :]], dim=1))
        return out
