"""Infinity's visual tokenizer: a plain convolutional autoencoder around multi-scale binary spherical codes.

FoundationVision/Infinity @ 4c27bbb: infinity/models/bsq_vae/{vae, flux_vqgan, multiscale_bsq, dynamic_resolution}.py.

arch: in_channels, out_channels, base_ch, num_res_blocks, encoder_ch_mult, decoder_ch_mult, patch_size (a power of two:
the factor of both halves), attention ("none": upstream's blocks cannot run on images), norm_eps, norm_groups, quantizer
{type, bits, scales}. `scales` are those of one latent grid, its last; other sizes follow `scales_of`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Chain, Down, NormSilu, Up
from vtbench.adapters.networks.parts.multiscale import MultiScaleBSQ
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.types.errors import VtbenchError

# dynamic_resolution.py:6-15, "h:w" of portrait formats; landscape formats swap h and w. Upstream ends them after
# 7, 10 or 13 scales (for 1:1 that is 256, 512 and 1024 pixels; the generator also uses 12).
_TALL = {
    1.0: "1:1 2:2 4:4 6:6 8:8 12:12 16:16 20:20 24:24 32:32 40:40 48:48 64:64",
    1.25: "1:1 2:2 3:3 5:4 10:8 15:12 20:16 25:20 30:24 35:28 45:36 55:44 70:56",
    1.333: "1:1 2:2 4:3 8:6 12:9 16:12 20:15 24:18 28:21 36:27 48:36 60:45 72:54",
    1.5: "1:1 2:2 3:2 6:4 9:6 15:10 21:14 27:18 33:22 39:26 48:32 63:42 78:52",
    1.75: "1:1 2:2 3:3 7:4 11:6 14:8 21:12 28:16 35:20 42:24 56:32 70:40 84:48",
    2.0: "1:1 2:2 4:2 6:3 10:5 16:8 22:11 30:15 38:19 46:23 60:30 74:37 90:45",
    2.5: "1:1 2:2 5:2 10:4 15:6 20:8 25:10 30:12 40:16 50:20 65:26 80:32 100:40",
    3.0: "1:1 2:2 6:2 9:3 15:5 21:7 27:9 36:12 45:15 54:18 72:24 90:30 111:37",
}


def table(ratio: float) -> tuple[Grid, ...]:
    """Upstream's 13 scales for the format nearest to `ratio` = height / width."""
    best = min([*_TALL, *(int(1000 / r) / 1000 for r in _TALL)], key=lambda r: abs(r - ratio))
    tall = best in _TALL
    text = _TALL[best] if tall else _TALL[min(_TALL, key=lambda r: abs(1 / r - best))]
    pairs = [tuple(int(n) for n in pair.split(":")) for pair in text.split()]
    return tuple((h, w) if tall else (w, h) for h, w in pairs)


def scales_of(grid: Grid, *, step: int = 1) -> tuple[Grid, ...]:
    """The scales of a latent of `grid` cells, coarse to fine: upstream's where it has them.

    They are the table's scales that are smaller than the grid on both sides, then the grid. For the sizes that upstream
    lists this is its own list; for the others it has none, and this is our continuation of it.
    step: multiplies the table (2 for the patch-8 network whose cells its generator takes 2 x 2: infinity.py:477-480).
    """
    wider = [(step * h, step * w) for h, w in table(grid[0] / grid[1])]
    return (*(s for s in wider if s[0] < grid[0] and s[1] < grid[1]), grid)


class _Block(Chain):
    """x + conv(silu(norm(conv(silu(norm(x)))))), `nin_shortcut` (1x1) where the width changes; names are wrapped."""

    def __init__(self, width: int, out: int, norm: _Norms) -> None:
        super().__init__()
        self.then("norm1.norm", norm(width))
        self.then("conv1.conv", nn.Conv2d(width, out, 3, padding=1))
        self.then("norm2.norm", norm(out))
        self.then("conv2.conv", nn.Conv2d(out, out, 3, padding=1))
        self.nin_shortcut = nn.ModuleDict({"conv": nn.Conv2d(width, out, 1)}) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.nin_shortcut is None else self.nin_shortcut["conv"](x)
        out: Tensor = skip + super().forward(x)
        return out


class _Norms:
    """Makes norms: 32 groups if they divide the width, else 24 (flux_vqgan.py:19-28), or a number of groups."""

    RULE = "32 if the width is divisible by 32, else 24"

    def __init__(self, groups: int | None, eps: float) -> None:
        self.groups, self.eps = groups, eps

    def __call__(self, width: int) -> NormSilu:
        groups = self.groups or (24 if width % 32 else 32)
        if width % groups:
            raise VtbenchError(f"a level is {width} channels wide, which {groups} norm groups do not divide")
        return NormSilu(groups, width, eps=self.eps)


def _middle(chain: Chain, width: int, norm: _Norms) -> None:
    chain.then("mid.block_1", _Block(width, width, norm))
    chain.then("mid.block_2", _Block(width, width, norm))


def _encoder(colours: int, latent: int, widths: Sequence[int], blocks: int, halvings: int, norm: _Norms) -> Chain:
    """`widths`: the first convolution's, then the levels', highest resolution first."""
    chain, width = Chain(), widths[0]
    chain.then("conv_in.conv", nn.Conv2d(colours, width, 3, padding=1))
    for i, out in enumerate(widths[1:]):
        for j in range(blocks):
            chain.then(f"down.{i}.block.{j}", _Block(width, out, norm))
            width = out
        if i < halvings:
            chain.then(f"down.{i}.downsample.conv.conv", Down(width))
    _middle(chain, width, norm)
    chain.then("norm_out.norm", norm(width))
    chain.then("conv_out.conv", nn.Conv2d(width, latent, 3, padding=1))
    return chain


def _decoder(colours: int, latent: int, widths: Sequence[int], blocks: int, doublings: int, norm: _Norms) -> Chain:
    """`widths`: the levels', highest resolution (up.0, the last to run) first."""
    chain, width = Chain(), widths[-1]
    chain.then("conv_in.conv", nn.Conv2d(latent, width, 3, padding=1))
    _middle(chain, width, norm)
    for i in reversed(range(len(widths))):
        for j in range(blocks + 1):
            chain.then(f"up.{i}.block.{j}", _Block(width, widths[i], norm))
            width = widths[i]
        if 1 <= i <= doublings:
            chain.then(f"up.{i}.upsample.conv.conv", Up(width))
    chain.then("norm_out.norm", norm(width))
    chain.then("conv_out.conv", nn.Conv2d(width, colours, 3, padding=1))
    return chain


class Infinity(VQAutoencoder):
    """Any size in multiples of patch_size; positions run through all scales, coarse to fine."""

    int_buffers = ("quantizer.lfq.mask", "quantize.lfq.mask")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; the scales of other sizes than the listed follow `scales_of`."""
        if "encoder.down.0.block.0.conv1.conv.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        arch["base_ch"], arch["in_channels"] = shapes["encoder.conv_in.conv.weight"][:2]
        arch["out_channels"] = shapes["decoder.conv_out.conv.weight"][0]
        arch["num_res_blocks"] = infer.count(shapes, "encoder.down.0.block.{i}.")
        for half, level in (("encoder", "down"), ("decoder", "up")):
            levels = range(infer.count(shapes, f"{half}.{level}.{{i}}."))
            widths = [shapes[f"{half}.{level}.{i}.block.0.conv1.conv.weight"][0] for i in levels]
            arch[f"{half}_ch_mult"] = [width // arch["base_ch"] for width in widths]
        arch["patch_size"] = 2 ** sum(n.endswith("downsample.conv.conv.weight") for n in shapes)
        arch["quantizer"]["bits"] = shapes["encoder.conv_out.conv.weight"][0]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        base, blocks, patch = c.integer("base_ch"), c.integer("num_res_blocks"), c.integer("patch_size")
        down, up = c.integers("encoder_ch_mult"), c.integers("decoder_ch_mult")
        halvings = patch.bit_length() - 1
        if patch != 2**halvings or min(len(down), len(up) - 1) < halvings:
            raise VtbenchError(
                f"patch_size {patch} needs to be a power of two, with that many levels in encoder_ch_mult "
                f"(here {len(down)}) and one more in decoder_ch_mult (here {len(up)}): change one of them"
            )
        c.choice("attention", ("none",), "none")
        eps, groups = c.number("norm_eps"), c.any("norm_groups", _Norms.RULE)
        norm = _Norms(None if groups == _Norms.RULE else c.integer("norm_groups"), eps)
        colours, out = c.integer("in_channels"), c.integer("out_channels")
        q = c.sub("quantizer")
        q.choice("type", ("multi-scale bsq",))
        bits = q.integer("bits")
        scales = [_grid(pair) for pair in q.any("scales") or ()]
        q.done()
        c.done()
        # The tables count cells of 16 pixels; a list that starts with (2, 2) is a table of doubled cells.
        step = scales[0][0] if scales and all(h % scales[0][0] == w % scales[0][0] == 0 for h, w in scales) else 1

        def schedule(grid: Grid) -> Sequence[Grid]:
            return scales if scales and scales[-1] == grid else scales_of(grid, step=step)

        super().__init__(
            _encoder(colours, bits, [base, *(base * m for m in down)], blocks, halvings, norm),
            _decoder(out, bits, [base * m for m in up], blocks, halvings, norm),
            MultiScaleBSQ(bits, schedule),
            downsample=patch,
            quantizer_name="quantizer",
        )
        self._names = frozenset(self.state_dict())

    def rename(self, name: str) -> str:
        """Checkpoints may lack the wrappers' `.conv` and `.norm` (vae.py:30-64): the name under which it is here."""
        stem, _, leaf = name.rpartition(".")
        wrapped = [f"{stem}.{part}.{leaf}" for part in ("conv", "norm")]
        return next((n for n in (name, *wrapped) if n in self._names), name)


def _grid(pair: Any) -> Grid:
    """A scale is (rows, columns)."""
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise VtbenchError(f"arch.quantizer.scales holds {pair!r}, but a scale is a pair of positive integers")
    return (pair[0], pair[1])
