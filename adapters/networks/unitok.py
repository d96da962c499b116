"""UniTok: a hybrid transformer with several small codebooks side by side (arXiv:2502.20321).

FoundationVision/UniTok @ bb8012e: models/{unitok, vitamin, vqvae, quant}.py. ViTamin's convolutional stages (factor 8),
a strided convolution, a ViT; the decoder mirrors them.

arch: img_size, in_channels, encoder {stem_width, stage_widths, conv_depths, vit_width, vit_depth, num_heads,
mlp_ratio}, decoder {vit_width, vit_depth, num_heads, up_widths, depths, mlp_ratio}, norm_eps, quant_proj ("attn" or
"linear"), quant_proj_heads, quantizer {type, num_codebooks, codebook_size (of each), width (of all), l2_norm (true)}.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Chain, check_size
from vtbench.adapters.networks.parts.quantizers import Grid, MultiCodebookVQ
from vtbench.adapters.networks.parts.vit import Block, GeGluMlp
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_FACTOR = 16
"""Stem, two convolutional stages and the strided convolution halve once each."""
_HEAD = 64
"""Channels of a head in ViTamin (vitamin.py: 384 in 6, 768 in 12, 1024 in 16)."""


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Up(nn.Module):
    """Nearest-neighbour doubling, then a full 3x3 convolution."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class _Pool(nn.Module):
    """Average of the 3x3 neighbours that exist, stride 2; `expand` (1x1) where the width changes."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        out: Tensor = self.expand(pooled)
        return out


def _expanded(out: int) -> int:
    """Four times the width, rounded to a multiple of 8 but never down by more than a tenth (timm's make_divisible)."""
    wide = max(8, (4 * out + 4) // 8 * 8)
    return wide if wide >= 0.9 * 4 * out else wide + 8


class _MbConv(nn.Module):
    """Inverted bottleneck: norm, 1x1 up, GELU, depthwise 3x3, GELU, 1x1 down, plus the shortcut.

    change: "down" halves in the depthwise convolution, "up" doubles before it (with a full convolution), None keeps.
    """

    def __init__(self, width: int, out: int, *, change: str | None, eps: float) -> None:
        super().__init__()
        wide = _expanded(out)
        self.shortcut: nn.Module = nn.Identity()
        self.up: nn.Module = nn.Identity()
        if change == "down":
            self.shortcut = _Pool(width, out)
        elif change == "up":
            self.shortcut, self.up = _Up(width, out), _Up(wide, wide)
        self.pre_norm = _ChannelNorm(width, eps=eps)
        self.conv1_1x1 = nn.Conv2d(width, wide, 1)
        self.conv2_kxk = nn.Conv2d(wide, wide, 3, stride=2 if change == "down" else 1, padding=1, groups=wide)
        self.conv3_1x1 = nn.Conv2d(wide, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(F.gelu(self.conv1_1x1(self.pre_norm(x))))
        out: Tensor = self.conv3_1x1(F.gelu(self.conv2_kxk(h))) + self.shortcut(x)
        return out


def _stage(width: int, out: int, depth: int, *, change: str, eps: float) -> nn.Sequential:
    """`depth` blocks, the first of which changes resolution and width."""
    return nn.Sequential(
        *[_MbConv(out if d else width, out, change=None if d else change, eps=eps) for d in range(depth)]
    )


def _vit(c: Config, width: int, eps: float) -> nn.Sequential:
    hidden = int(width * c.number("mlp_ratio"))
    mlp = partial(GeGluMlp, eps=eps)
    return nn.Sequential(
        *[Block(width, c.integer("num_heads"), hidden, eps=eps, mlp=mlp) for _ in range(c.integer("vit_depth"))]
    )


class _Encoder(nn.Module):
    """(B, colours, H, W) -> (B, H W / 256, width)."""

    def __init__(self, c: Config, colours: int, eps: float) -> None:
        super().__init__()
        stem, widths = c.integer("stem_width"), c.integers("stage_widths", length=2)
        depths, self.width = c.integers("conv_depths", length=2), c.integer("vit_width")
        conv = Chain()
        conv.then("backbone.stem.conv1", nn.Conv2d(colours, stem, 3, stride=2, padding=1))
        conv.then("backbone.stem.norm1", _ChannelNorm(stem, eps=eps))
        conv.then("backbone.stem.gelu", nn.GELU())
        conv.then("backbone.stem.conv2", nn.Conv2d(stem, stem, 3, padding=1))
        conv.then("backbone.stages.0", _stage(stem, widths[0], depths[0], change="down", eps=eps))
        conv.then("backbone.stages.1", _stage(widths[0], widths[1], depths[1], change="down", eps=eps))
        conv.then("backbone.pool.norm", _ChannelNorm(widths[1], eps=eps))
        conv.then("backbone.pool.proj", nn.Conv2d(widths[1], self.width, 3, stride=2, padding=1))
        self.patch_embed = conv
        # Not learned, and the same for every position.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1, self.width))
        self.blocks = _vit(c, self.width, eps)
        self.norm = nn.LayerNorm(self.width, eps=eps)
        c.done()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(self.blocks(tokens + self.pos_embed))
        return out


class _Decoder(nn.Module):
    """(B, h w, width) -> (B, colours, 16 h, 16 w)."""

    def __init__(self, c: Config, colours: int, eps: float) -> None:
        super().__init__()
        self.width, widths = c.integer("vit_width"), c.integers("up_widths", length=2)
        depths = c.integers("depths", length=2)
        self.blocks = _vit(c, self.width, eps)
        self.norm = nn.LayerNorm(self.width, eps=eps)
        c.done()
        self.up_conv1 = _Up(self.width, widths[0])
        self.up_conv2 = _stage(widths[0], widths[0], depths[0], change="up", eps=eps)
        self.up_conv3 = _stage(widths[0], widths[1], depths[1], change="up", eps=eps)
        self.up_conv4 = Chain()
        self.up_conv4.then("conv1", _Up(widths[1], widths[1]))
        self.up_conv4.then("norm1", _ChannelNorm(widths[1], eps=eps))
        self.up_conv4.then("gelu", nn.GELU())
        self.up_conv4.then("conv2", nn.Conv2d(widths[1], colours, 3, padding=1))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = self.norm(self.blocks(x)).transpose(1, 2).reshape(len(x), self.width, *grid)
        out: Tensor = self.up_conv4(self.up_conv3(self.up_conv2(self.up_conv1(x))))
        return out


class _Attention(nn.Module):
    """Attention that changes the width: heads are averaged if it shrinks, concatenated if it grows (vqvae.py:13-50).

    The keys' bias is a buffer of zeros; it moves all logits of a query alike, so it cannot change the softmax.
    """

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        wide = max(width, out)
        if wide % heads:
            raise VtbenchError(f"{heads} heads do not divide a width of {wide}: change quant_proj_heads")
        self.heads, self.out, self.shrinks = heads, out, width > out
        self.qkv = nn.Linear(width, 3 * wide, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(wide))
        self.v_bias = nn.Parameter(torch.zeros(wide))
        self.zero_k_bias: Tensor
        self.register_buffer("zero_k_bias", torch.zeros(wide))
        self.proj = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat((self.q_bias, self.zero_k_bias, self.v_bias))
        packed = F.linear(x, self.qkv.weight, bias).reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        if self.shrinks:
            mixed = mixed.mean(dim=1)
            if mixed.shape[-1] != self.out:
                mixed = F.adaptive_avg_pool1d(mixed, self.out)
        else:
            mixed = mixed.transpose(1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        return out


class _AttentionProjection(nn.Module):
    """proj(norm3 x) + attn(norm1 x), then + mlp(norm2 x); these norms have torch's eps (vqvae.py:53-74)."""

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        if max(width, out) % min(width, out):
            raise VtbenchError(f"the attention projection from {width} to {out} needs one to divide the other")
        self.norm1, self.norm3, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(out)
        self.attn = _Attention(width, out, heads)
        self.proj = nn.Linear(width, out)
        self.mlp = GeGluMlp(out, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(self.norm3(x)) + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class UniTok(nn.Module):
    """Latents are (B, positions, width), raster order. `img_size` is what it was trained at; multiples of 16 run."""

    value_range = (-1.0, 1.0)
    downsample = _FACTOR
    channel_axis = 2

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; numbers of heads are not in them and follow upstream's rules."""
        if "encoder.patch_embed.backbone.stem.conv1.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        stages, up = "encoder.patch_embed.backbone.stages", "decoder.up_conv"
        stem, arch["in_channels"] = shapes["encoder.patch_embed.backbone.stem.conv1.weight"][:2]
        for half in ("encoder", "decoder"):
            width = shapes[f"{half}.norm.weight"][0]
            arch[half].update(
                vit_width=width,
                vit_depth=infer.count(shapes, f"{half}.blocks.{{i}}."),
                num_heads=max(1, width // _HEAD),
                mlp_ratio=shapes[f"{half}.blocks.0.mlp.w0.weight"][0] / width,
            )
        arch["encoder"].update(
            stem_width=stem,
            stage_widths=[shapes[f"{stages}.{i}.0.conv3_1x1.weight"][0] for i in range(2)],
            conv_depths=[infer.count(shapes, f"{stages}.{i}.{{i}}.") for i in range(2)],
        )
        arch["decoder"].update(
            up_widths=[shapes[f"{up}{i}.0.conv3_1x1.weight"][0] for i in (2, 3)],
            depths=[infer.count(shapes, f"{up}{i}.{{i}}.") for i in (2, 3)],
        )
        books = infer.count(shapes, "quantizer.codebooks.{i}.")
        size, each = shapes["quantizer.codebooks.0.codebook.weight"]
        arch["quantizer"].update(num_codebooks=books, codebook_size=size, width=books * each)
        attention = "quant_proj.attn.qkv.weight" in shapes
        # unitok.py:38: the number of heads is the transformer's width over the code's.
        heads = arch["encoder"]["vit_width"] // (books * each)
        arch.update(quant_proj="attn" if attention else "linear", quant_proj_heads=heads if attention else None)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.fixed_size: int | None = c.integer("img_size")
        colours, eps = c.integer("in_channels"), c.number("norm_eps")
        self.encoder = _Encoder(c.sub("encoder"), colours, eps)
        self.decoder = _Decoder(c.sub("decoder"), colours, eps)
        q = c.sub("quantizer")
        q.choice("type", ("multi-codebook vq",))
        q.choice("l2_norm", (True,))
        width = q.integer("width")
        self.quantizer = MultiCodebookVQ(q.integer("num_codebooks"), q.integer("codebook_size"), width)
        q.done()
        kind = c.choice("quant_proj", ("attn", "linear"))
        heads = c.integer("quant_proj_heads") if kind == "attn" else None
        if heads is None:
            c.unused(["quant_proj_heads"], f"quant_proj is {kind!r}, which has no heads")
        c.done()

        def project(before: int, after: int) -> nn.Module:
            return nn.Linear(before, after) if heads is None else _AttentionProjection(before, after, heads)

        self.quant_proj = project(self.encoder.width, width)
        self.post_quant_proj = project(width, self.decoder.width)
        self.alphabets = self.quantizer.alphabets
        usage = tuple(f"quantizer.codebooks.{i}.vocab_usage" for i in range(len(self.alphabets)))
        self.optional = ("text_encoder.", "fc_norm.", "projection.", "logit_scale", *usage)

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The one raster grid of an image of `size` pixels."""
        check_size(*size, _FACTOR)
        return ((size[0] // _FACTOR, size[1] // _FACTOR),)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]."""
        (grid,) = self.grids((x.shape[2], x.shape[3]))
        latent = self.quant_proj(self.encoder(x))
        tokens, quantized = self.quantizer(latent.transpose(1, 2).reshape(len(x), -1, *grid))
        if tokens.shape[2] == 1:
            tokens = tokens[..., 0]
        return Encoded(tokens, pre_quant=latent, quantized=quantized.flatten(2).transpose(1, 2))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions[, books])."""
        (grid,) = self.grids(size)
        if latent.shape[1] != grid[0] * grid[1]:
            raise VtbenchError(
                f"there are {latent.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs "
                f"{grid[0] * grid[1]}"
            )
        rows = self.quantizer.lookup(latent, grid).flatten(2).transpose(1, 2)
        out: Tensor = self.decoder(self.post_quant_proj(rows), grid)
        return out
