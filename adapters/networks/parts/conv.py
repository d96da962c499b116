"""The convolutional encoder and decoder that most 2-D tokenizers share, as a chain of named layers.

One skeleton (Esser et al. 2021, arXiv:2012.09841): conv_in, levels of residual blocks with a halving or doubling
between them, a middle, GroupNorm, SiLU, conv_out. What differs between families are switches (`Conv`) and the names
under which a checkpoint keeps the layers (`Names`); each layer is registered under upstream's dotted path, so that no
key is ever renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.styled import DepthToSpace
from vtbench.types.errors import VtbenchError


class Chain(nn.Module):
    """Layers that run one after the other, each registered under its own dotted path."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def then(self, path: str, layer: nn.Module) -> None:
        """Appends `layer` under `path`, e.g. "down.0.block.1"."""
        *folders, leaf = path.split(".")
        parent: nn.Module = self
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(leaf, layer)
        self.order.append(path)

    def forward(self, x: Tensor) -> Tensor:
        for path in self.order:
            x = self.get_submodule(path)(x)
        return x


class Norm(nn.GroupNorm):
    """GroupNorm over NCHW memory.

    torch's CPU kernel for channels-last memory sums less carefully: at 256 x 256 its error is 60 times greater than
    that of the ordinary one, which shows in the reconstruction; the memory layout must not change a number.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous())


class NormSilu(Norm):
    """`Norm` followed by x sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class Down(nn.Conv2d):
    """3x3 convolution of stride 2 with one row and column of zeros at the bottom and right.

    Taming's explicit padding and TensorFlow's SAME are the same thing for even sides, which is all that comes here.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Conv2d):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """Residual block: norm, SiLU, conv 3x3, twice; `nin_shortcut` (1x1) where the width changes.

    on_output: the shortcut takes the block's output instead of its input, which is then lost (a slip of MaskGIT's
    port that MaskBit kept: maskgit_vqgan.py:88, MaskBit modeling/modules/autoencoder.py:94).
    norm: the norm and the SiLU after it, made from (groups, width, eps=).
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        groups: int,
        eps: float,
        bias: bool,
        on_output: bool,
        norm: Callable[..., nn.Module] = NormSilu,
    ) -> None:
        super().__init__()
        self.on_output = on_output
        self.norm1 = norm(groups, width, eps=eps)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=bias)
        self.norm2 = norm(groups, out, eps=eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=bias)
        self.nin_shortcut = nn.Conv2d(out if on_output else width, out, 1, bias=bias) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        if self.nin_shortcut is None:
            return x + h
        skip: Tensor = self.nin_shortcut(h if self.on_output else x)
        return h + skip


class Attention(nn.Module):
    """Single-head self-attention over all positions, residual: norm, 1x1 q, k, v, scale C**-0.5, 1x1 proj_out.

    fused: one `qkv` convolution of 3 C outputs in the order q, k, v instead of three.
    """

    def __init__(self, width: int, *, groups: int, eps: float, fused: bool) -> None:
        super().__init__()
        self.norm = Norm(groups, width, eps=eps)
        self.fused = fused
        if fused:
            self.qkv = nn.Conv2d(width, 3 * width, 1)
        else:
            self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.qkv(h).chunk(3, dim=1) if self.fused else (self.q(h), self.k(h), self.v(h))
        # (B, C, h, w) -> (B, 1, h w, C): one head; the default scale is C**-0.5.
        rows = [t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*rows)
        added: Tensor = self.proj_out(mixed.squeeze(1).transpose(1, 2).reshape(x.shape))
        return x + added


class LinearAttention(nn.Module):
    """Attention without positions x positions: softmax of the keys over positions, then two products; no norm, no skip.

    latent-diffusion's attn_type "linear" (ldm/modules/attention.py:80-96 with one head as wide as the input).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.to_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).flatten(2).chunk(3, dim=1)
        context = k.softmax(dim=2) @ v.transpose(1, 2)
        out: Tensor = self.to_out((context.transpose(1, 2) @ q).reshape(x.shape))
        return out


Part = Literal["block", "attention", "nothing"]


@dataclass(frozen=True)
class Names:
    """Paths of the layers; {i} is the level, {j} the block in it. The defaults are taming's."""

    down: str = "down.{i}"
    up: str = "up.{i}"
    block: str = "block.{j}"
    attention: str = "attn.{j}"
    downsample: str = "downsample.conv"
    upsample: str = "upsample.conv"
    middle: tuple[str, ...] = ("mid.block_1", "mid.attn_1", "mid.block_2")
    up_from_lowest: bool = False
    """True: up.0 is the lowest resolution, the first that runs; False (taming): up.0 is the highest, the last."""


@dataclass(frozen=True)
class Conv:
    """One encoder or decoder."""

    image_channels: int
    latent_channels: int
    """Channels at the latent end, before any quant_conv."""
    width: int
    multipliers: tuple[int, ...]
    """Width factor of every level, highest resolution first; one halving between two levels."""
    blocks: int
    """Residual blocks a level."""
    attention: tuple[int, ...] = ()
    """Levels (0 = highest resolution) with attention after every block."""
    middle: tuple[Part, ...] = ("block", "attention", "block")
    """What stands at each of the names' `middle` paths."""
    names: Names = Names()
    groups: int = 32
    eps: float = 1e-6
    norm: Callable[..., nn.Module] = NormSilu
    """Of residual blocks and before conv_out, with the SiLU after it; attention keeps `Norm`."""
    bias: bool = True
    """Whether residual blocks, and the encoder's conv_in, have biases."""
    shortcut_on_output: bool = False
    fused_qkv: bool = False
    linear_attention: bool = False
    """`LinearAttention` in place of `Attention`."""
    down: Literal["conv", "pool"] = "conv"
    """How the encoder halves: `Down`, or the mean of 2x2 pixels."""
    up: Literal["conv", "nearest", "depth to space"] = "conv"
    """How the decoder doubles: `Up`, nearest neighbour alone, or `DepthToSpace`."""
    latent_kernel: int = 3
    """Kernel of the encoder's conv_out."""

    @property
    def factor(self) -> int:
        """Image pixels per latent cell along a side."""
        return int(2 ** (len(self.multipliers) - 1))

    def __post_init__(self) -> None:
        for width in {self.width * m for m in self.multipliers} | {self.width}:
            if width == 0 or width % self.groups:
                raise VtbenchError(f"a level is {width} channels wide, which {self.groups} norm groups do not divide")

    def _block(self, width: int, out: int) -> Block:
        on_output = self.shortcut_on_output
        return Block(width, out, groups=self.groups, eps=self.eps, bias=self.bias, on_output=on_output, norm=self.norm)

    def _attention(self, width: int) -> nn.Module:
        if self.linear_attention:
            return LinearAttention(width)
        return Attention(width, groups=self.groups, eps=self.eps, fused=self.fused_qkv)

    def _level(self, chain: Chain, path: str, level: int, width: int) -> int:
        """The blocks of a level, each followed by its attention; returns the level's width."""
        out = self.width * self.multipliers[level]
        for j in range(self.blocks):
            chain.then(f"{path}.{self.names.block.format(j=j)}", self._block(width, out))
            width = out
            if level in self.attention:
                chain.then(f"{path}.{self.names.attention.format(j=j)}", self._attention(out))
        return width

    def _double(self, width: int) -> nn.Module:
        if self.up == "nearest":
            return nn.Upsample(scale_factor=2.0, mode="nearest")
        return Up(width) if self.up == "conv" else DepthToSpace(width)

    def _middle(self, chain: Chain, width: int) -> None:
        for path, kind in zip(self.names.middle, self.middle, strict=True):
            if kind != "nothing":
                chain.then(path, self._block(width, width) if kind == "block" else self._attention(width))

    def encoder(self) -> Chain:
        """(B, image_channels, H, W) -> (B, latent_channels, H / factor, W / factor)."""
        chain, width = Chain(), self.width
        chain.then("conv_in", nn.Conv2d(self.image_channels, width, 3, padding=1, bias=self.bias))
        for i in range(len(self.multipliers)):
            path = self.names.down.format(i=i)
            width = self._level(chain, path, i, width)
            if i < len(self.multipliers) - 1:
                halve = Down(width) if self.down == "conv" else nn.AvgPool2d(2)
                chain.then(f"{path}.{self.names.downsample}", halve)
        self._middle(chain, width)
        chain.then("norm_out", self.norm(self.groups, width, eps=self.eps))
        kernel = self.latent_kernel
        chain.then("conv_out", nn.Conv2d(width, self.latent_channels, kernel, padding=kernel // 2))
        return chain

    def decoder(self) -> Chain:
        """(B, latent_channels, h, w) -> (B, image_channels, h factor, w factor)."""
        last = len(self.multipliers) - 1
        chain, width = Chain(), self.width * self.multipliers[last]
        chain.then("conv_in", nn.Conv2d(self.latent_channels, width, 3, padding=1))
        self._middle(chain, width)
        for i in reversed(range(last + 1)):
            path = self.names.up.format(i=last - i if self.names.up_from_lowest else i)
            width = self._level(chain, path, i, width)
            if i > 0:
                chain.then(f"{path}.{self.names.upsample}", self._double(width))
        chain.then("norm_out", self.norm(self.groups, width, eps=self.eps))
        chain.then("conv_out", nn.Conv2d(width, self.image_channels, 3, padding=1))
        return chain


def check_size(height: int, width: int, factor: int) -> None:
    """Raises VtbenchError unless both sides are multiples of `factor`, at least one."""
    if height % factor or width % factor or min(height, width) < factor:
        raise VtbenchError(
            f"the image is {height} x {width}, but both sides must be multiples of {factor}: resize or pad it first"
        )


def nominal_levels(resolution: int, levels: int, at: Sequence[int], *, down: bool) -> tuple[int, ...]:
    """Levels whose nominal resolution is in `at`.

    Taming halves `resolution` with rounding down per level in the encoder, and doubles from the lowest in the decoder
    (model.py:372, 470); the real image size never matters.
    """
    sides = [resolution // 2**i for i in range(levels)]
    if not down:
        sides = [resolution // 2 ** (levels - 1) * 2 ** (levels - 1 - i) for i in range(levels)]
    return tuple(i for i, side in enumerate(sides) if side in at)


def check_exactly(size: Sequence[int], *wanted: Sequence[int]) -> None:
    """Raises VtbenchError unless `size`, (height, width), is one of those that a network takes."""
    if tuple(size) not in {tuple(one) for one in wanted}:
        sizes = " or ".join(f"{height} x {width}" for height, width in wanted)
        raise VtbenchError(f"the image is {size[0]} x {size[1]}, but this network takes {sizes} only: resize it")
