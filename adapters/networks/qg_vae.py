"""QG-VAE: codes that each look at the whole picture, every one with a codebook of its own (arXiv:2407.11913).

DaiDaiLoh/QG-VAE @ f285b2c: QG-VAE.ipynb, code cells 3, 8 and 12 to 14. A U-Net gives a map a code, a linear layer over
the pixels turns each map into a vector; decoding mirrors it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Norm, check_exactly
from vtbench.adapters.networks.parts.quantizers import one_book
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_SMALLEST = 8
"""A side at which the U-Net stops halving."""


def _bilinear(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear")


def _matched(x: Tensor, side: int) -> Tensor:
    """x doubled or halved, bilinearly, until it is `side` wide."""
    while x.shape[2] < side:
        x = _bilinear(x, 2)
    while x.shape[2] > side:
        x = _bilinear(x, 0.5)
    return x


def _norm(width: int, eps: float) -> Norm:
    return Norm(next(n for n in range(min(16, width), 0, -1) if width % n == 0), width, eps=eps)


class _Block(nn.Module):
    """norm, SiLU, conv, twice, of x and a projection of the condition; a 1x1 of x itself is added at the end."""

    def __init__(self, width: int, inner: int, out: int, condition: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width, eps), _norm(inner, eps)
        self.conv_res = nn.Conv2d(width, out, 1, bias=False)
        self.conv_res_conditional = nn.Conv2d(condition, width, 1, bias=False)
        self.conv1, self.conv2 = nn.Conv2d(width, inner, 3, padding=1), nn.Conv2d(inner, out, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = x + self.conv_res_conditional(condition)
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(h))))))
        out: Tensor = h + self.conv_res(x)
        return out


class _Blocks(nn.Module):
    def __init__(self, width: int, inner: int, out: int, condition: int, count: int, eps: float) -> None:
        super().__init__()
        ends = [width, *[inner] * (count - 1), out]
        self.blocks = nn.ModuleList(_Block(a, inner, b, condition, eps) for a, b in pairwise(ends))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class _Spec:
    """What all levels of a U-Net share. `up`, `down`: levels, from the outermost, that stay small on their way out
    (an encoder's), or do not shrink on their way in (a decoder's)."""

    def __init__(self, c: Config, condition: int, up: int, down: int) -> None:
        self.least, self.most = c.integer("min_channels"), c.integer("max_channels")
        self.count, self.eps = c.integer("res_blocks"), c.number("norm_eps")
        self.condition, self.up, self.down = condition, up, down

    def blocks(self, width: int, inner: int, out: int) -> _Blocks:
        return _Blocks(width, inner, out, self.condition, self.count, self.eps)


class _Level(nn.Module):
    """One level and all below it; `side` is upstream's nominal one, `actual` the map's own."""

    def __init__(
        self, spec: _Spec, width: int, inner: int, side: int, actual: int, *, level: int = 0, out: int | None = None
    ) -> None:
        super().__init__()
        self.out: int
        self.halves, self.doubles = level >= spec.down, level >= spec.up
        wider = min(2 * inner, spec.most)
        self.in_conv = nn.Conv2d(width, inner, 3, padding=1)
        self.in_res = spec.blocks(inner, inner, wider)
        self.unet: _Level | None = None
        after = wider
        if side > _SMALLEST or level < max(spec.up, spec.down):
            if self.halves and actual % 2:
                raise VtbenchError(
                    f"a map of {actual} pixels cannot be halved: choose another image_size or down_factor"
                )
            below = actual // 2 if self.halves else actual
            self.unet = _Level(spec, wider, wider, side // 2, below, level=level + 1)
            after = self.unet.out
        if level < spec.down:
            self.out, middle = out or min(spec.least * 2**level, after), after
        else:
            self.out = out or (after if level < spec.up else inner)
            middle = max(inner, self.out)
        self.out_res = spec.blocks(after, middle, self.out)
        self.out_conv = nn.Conv2d(self.out, self.out, 3, padding=1)
        # In every file, and never run.
        self.full_residual = nn.Conv2d(width, self.out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.in_res(self.in_conv(x), condition)
        if self.unet is not None:
            x = _bilinear(x, 0.5) if self.halves else x
            smaller = condition
            while smaller.shape[2] > x.shape[2]:
                smaller = F.interpolate(smaller, scale_factor=0.5, mode="nearest")
            x = self.unet(x, smaller)
            x = _bilinear(x, 2) if self.doubles else x
        out: Tensor = self.out_conv(self.out_res(x, _matched(condition, x.shape[2])))
        return out


class _UNet(nn.Module):
    """(B, width, side, side) -> (B, out, …); the condition of every block is its input beside a table of positions."""

    def __init__(self, c: Config, width: int, inner: int, out: int, side: int, *, up: int = 0, down: int = 0) -> None:
        super().__init__()
        octaves, sides = c.integer("position_octaves"), [side]
        while sides[-1] > 1:
            sides.append(sides[-1] // 2)
        self.position = nn.ParameterList(_positions(s, octaves) for s in sides)
        self.unet_blocks = _Level(_Spec(c, 4 * octaves + width, up, down), width, inner, side, side, out=out)
        self.mega_residual = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.out_projection = nn.Conv2d(out, out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        condition = torch.cat([x, self.position[0].expand(len(x), -1, -1, -1)], dim=1)
        h = self.unet_blocks(x, condition)
        out: Tensor = self.out_projection(h + _matched(self.mega_residual(x), h.shape[2]))
        return out


def _positions(side: int, octaves: int) -> nn.Parameter:
    """(1, 4 octaves, side, side): sines and cosines of row and column, as a file that holds none would have them."""
    place = torch.arange(side, dtype=torch.float32) / side
    grid = torch.stack(torch.meshgrid(place, place, indexing="ij"))
    waves = [f(2.0**i * grid) for i in range(octaves) for f in (torch.sin, torch.cos)]
    return nn.Parameter(torch.cat(waves)[None], requires_grad=False)


class QgVae(nn.Module):
    """arch: in_channels, image_size, codes, heads, down_factor (halvings before the projection), unet {min_channels,
    max_channels, res_blocks, position_octaves, norm_eps}, quantizer {type, codebook_size, embed_dim, offset}.

    Codes are dealt to the heads in order; pre_quant and quantized are (B, codes, embed_dim), quantized with the offset.
    """

    value_range = (0.0, 1.0)
    downsample: int | None = None
    optional: tuple[str, ...] = ()

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes."""
        if "codebook" not in shapes or "encoder.unet_blocks.in_conv.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        codes, size, dim = shapes["codebook"]
        least, colours = shapes["encoder.unet_blocks.in_conv.weight"][:2]
        side, pixels = shapes["encoder.position.0"][3], shapes["down_proj.0.weight"][1]
        arch.update(in_channels=colours, image_size=side, codes=codes, heads=infer.count(shapes, "down_proj.{i}."))
        arch["down_factor"] = (side // math.isqrt(pixels)).bit_length() - 1
        arch["unet"].update(
            min_channels=least,
            max_channels=shapes["decoder.unet_blocks.in_conv.weight"][0],
            res_blocks=infer.count(shapes, "encoder.unet_blocks.in_res.blocks.{i}."),
            position_octaves=shapes["encoder.position.0"][1] // 4,
        )
        arch["quantizer"].update(codebook_size=size, embed_dim=dim, offset="offset" in shapes)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours, side, codes, heads = (c.integer(k) for k in ("in_channels", "image_size", "codes", "heads"))
        halvings = c.integer("down_factor", 0, at_least=0)
        q, u = c.sub("quantizer"), c.sub("unet")
        q.choice("type", ("vq, one book per position",))
        size, dim, offset = q.integer("codebook_size"), q.integer("embed_dim"), q.flag("offset")
        q.done()
        if codes % heads:
            raise VtbenchError(f"{heads} heads do not divide {codes} codes: choose another number of heads")
        if side % 2**halvings:
            raise VtbenchError(f"arch.image_size is {side}, which cannot be halved {halvings} times (arch.down_factor)")
        self.fixed_size: int | None = side
        self.positions, self.alphabets, self.size = codes, (size,), (side, side)
        self.grid = (side // 2**halvings,) * 2
        least, most, pixels = u.integer("min_channels"), u.integer("max_channels"), math.prod(self.grid)
        self.residual_encoder, self.residual_decoder = nn.Conv2d(colours, codes, 1), nn.Conv2d(codes, colours, 1)
        self.encoder = _UNet(u, colours, least, codes, side, up=halvings)
        self.decoder = _UNet(u, codes, most, colours, self.grid[0], down=halvings)
        u.done()
        c.done()
        self.down_proj = nn.ModuleList(nn.Conv1d(pixels, dim, 1) for _ in range(heads))
        self.up_proj = nn.ModuleList(nn.Conv1d(dim, pixels, 1) for _ in range(heads))
        self.codebook = nn.Parameter(torch.zeros(codes, size, dim))
        self.offset = nn.Parameter(torch.zeros(dim, codes)) if offset else None

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, side, side) in [0, 1]."""
        check_exactly((x.shape[2], x.shape[3]), self.size)
        direct = self.residual_encoder(x)
        while direct.shape[2] > self.grid[0]:
            direct = F.avg_pool2d(direct, 2)
        columns = (self.encoder(x) + direct).flatten(2).transpose(1, 2)
        parts = [p(c) for p, c in zip(self.down_proj, columns.chunk(len(self.down_proj), dim=2), strict=True)]
        latent = torch.cat(parts, dim=2).transpose(1, 2)
        wide = latent if latent.dtype == torch.float64 else latent.float()
        # One code at a time: (B, K, D) of differences, never (B, codes, K, D).
        tokens = [
            (wide[:, i, None] - book.to(wide.dtype)).square().sum(dim=2).argmin(dim=1)
            for i, book in enumerate(self.codebook)
        ]
        indices = torch.stack(tokens, dim=1)
        return Encoded(indices, pre_quant=latent, quantized=self.lookup(indices))

    def lookup(self, tokens: Tensor) -> Tensor:
        """(B, codes) -> (B, codes, embed_dim)."""
        rows = self.codebook[torch.arange(self.positions, device=tokens.device), tokens]
        return rows if self.offset is None else rows + self.offset.t()

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, codes)."""
        check_exactly(size, self.size)
        tokens = one_book(latent)
        if tokens.shape[1] != self.positions:
            raise VtbenchError(f"there are {tokens.shape[1]} tokens, but this network decodes {self.positions} of them")
        columns = self.lookup(tokens).transpose(1, 2)
        parts = [p(c) for p, c in zip(self.up_proj, columns.chunk(len(self.up_proj), dim=2), strict=True)]
        maps = torch.cat(parts, dim=2).transpose(1, 2).unflatten(2, self.grid)
        picture = self.decoder(maps)
        return picture + _matched(self.residual_decoder(maps), picture.shape[2])  # type: ignore[no-any-return]
