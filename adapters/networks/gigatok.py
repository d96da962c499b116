"""GigaTok: convolutions around a Q-Former that turns the grid into a row of tokens and back (arXiv:2504.08736).

SilentView/GigaTok @ 182920c: tokenizer/tokenizer_image/vq/{vq_vit_model, blocks}.py. The convolutions are LlamaGen's;
the decoder's levels may begin with a norm that the code steers, and double by depth to space.

arch: image_size, in_channels, cnn {ch, num_res_blocks, encoder_ch_mult, decoder_ch_mult, z_channels, adaptive_norm,
depth_to_space, attention, norm_groups, norm_eps}, encoder and decoder {width, layers, heads}, num_latent_tokens,
multi_level_query_init, last_level_2d_query_init, multi_level_2d_query_init, quantizer {type, codebook_size, embed_dim,
l2_norm}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks import llamagen
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.clip import Attention
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, check_exactly
from vtbench.adapters.networks.parts.quantizers import VQ, Grid, one_book
from vtbench.adapters.networks.parts.styled import StyleNorm
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_HEAD = 64
"""Channels of a head in every released size (blocks.py:1043-1071)."""


def blocks_of(level: int) -> Grid:
    """(rows, columns) of the blocks of a level: columns are split first, then rows (blocks.py:66-71)."""
    return 2 ** (level // 2), 2 ** ((level + 1) // 2)


class _Layer(nn.Module):
    """DETR's decoder layer, pre-norm: self-attention of the queries, attention to the memory, GELU MLP of four widths.

    Positions are added to queries and keys of either attention, never to values (blocks.py:678-733).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = Attention(width, heads), Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, x_position: Tensor, memory_position: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.self_attn.between(h + x_position, h + x_position, h)
        x = x + self.multihead_attn.between(self.norm2(x) + x_position, memory + memory_position, memory)
        out: Tensor = x + self.linear2(F.gelu(self.linear1(self.norm3(x))))
        return out


class _QFormer(nn.Module):
    """What both directions share: positions of the grid, latent positions of the row, layers."""

    def __init__(self, c: Config, channels: int, side: int, tokens: int) -> None:
        super().__init__()
        self.side, self.tokens = side, tokens
        self.width, layers, heads = c.integer("width"), c.integer("layers"), c.integer("heads")
        c.done()
        # Sequence first, as upstream stores them.
        self.positional_embedding = nn.Parameter(torch.zeros(side * side, 1, self.width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(tokens, 1, self.width))
        self.ln_pre = nn.LayerNorm(channels)
        self.transformer = nn.ModuleList(_Layer(self.width, heads) for _ in range(layers))
        self.ln_post = nn.LayerNorm(self.width)

    def run(self, x: Tensor, memory: Tensor, *, to_grid: bool) -> Tensor:
        """x: the queries (B, N, width), of the grid if `to_grid`, else of the row; memory: the other."""
        of_grid = self.positional_embedding.transpose(0, 1)
        of_row = self.latent_token_positional_embedding.transpose(0, 1)
        for layer in self.transformer:
            x = layer(x, memory, *((of_grid, of_row) if to_grid else (of_row, of_grid)))
        out: Tensor = self.ln_post(x)
        return out


class _ToRow(_QFormer):
    """(B, channels, side, side) -> (B, channels, 1, tokens).

    Queries: the whole map's mean for every token, or, with `by_level`, means over ever smaller blocks, coarse to fine.
    """

    def __init__(self, c: Config, channels: int, side: int, tokens: int, *, by_level: bool) -> None:
        super().__init__(c, channels, side, tokens)
        self.levels = power_of_two(tokens, "multi_level_query_init") if by_level else None
        rows, columns = blocks_of(max(0, (self.levels or 0) - 1))
        if side % rows or side % columns:
            raise VtbenchError(
                f"{tokens} tokens need blocks of {rows} x {columns} in a grid of {side} x {side} cells: "
                "change num_latent_tokens or image_size"
            )
        self.encoder_embed = nn.Linear(channels, self.width)
        self.global_proj = nn.Linear(self.width, self.width)
        self.conv_out = nn.Conv2d(self.width, channels, 1)

    def queries(self, x: Tensor) -> Tensor:
        """x: (B, cells, width)."""
        if self.levels is None:
            return x.mean(dim=1, keepdim=True).expand(-1, self.tokens, -1)
        cells = x.transpose(1, 2).unflatten(2, (self.side, self.side))
        # The whole map comes twice, so that the counts 1, 1, 2, 4, … sum to a power of two.
        grids = [blocks_of(max(0, i - 1)) for i in range(self.levels + 1)]
        means = [F.avg_pool2d(cells, (self.side // h, self.side // w)).flatten(2) for h, w in grids]
        return torch.cat(means, dim=2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.encoder_embed(self.ln_pre(x.flatten(2).transpose(1, 2)))
        row = self.run(self.global_proj(self.queries(memory)), memory, to_grid=False)
        out: Tensor = self.conv_out(row.transpose(1, 2).unsqueeze(2))
        return out


class _ToGrid(_QFormer):
    """(B, channels, 1, tokens) -> (B, channels, side, side).

    Queries: the first token everywhere; with "last level" the finest level's tokens, each over its block; with "all
    levels" the mean over levels of the first 2**level tokens (the first level: of tokens 0 and 1), each over its block.
    Upstream restarts at token 0 in every level (blocks.py:138-149), which is kept.
    """

    def __init__(self, c: Config, channels: int, side: int, tokens: int, queries: str) -> None:
        super().__init__(c, channels, side, tokens)
        self.kind = queries
        self.levels = power_of_two(tokens, "a query initialisation by level") if queries != "first token" else 0
        self.decoder_embed = nn.Linear(channels, self.width)
        self.conv_out = nn.Conv2d(self.width, channels, 3, padding=1)

    def spread(self, tokens: Tensor, level: int) -> Tensor:
        """(B, 2**level, width) -> (B, side, side, width) by nearest neighbour."""
        blocks = tokens.transpose(1, 2).unflatten(2, blocks_of(level))
        return F.interpolate(blocks, size=(self.side, self.side), mode="nearest").permute(0, 2, 3, 1)

    def queries(self, x: Tensor) -> Tensor:
        """x: (B, tokens, width)."""
        if self.kind == "first token":
            return x[:, :1].expand(-1, self.side**2, -1)
        pair = x[:, :2].mean(dim=1, keepdim=True)
        if self.kind == "last level":
            # With two tokens, the last level is one block, the mean of both.
            last = pair if self.levels == 1 else x[:, -(2 ** (self.levels - 1)) :]
            return self.spread(last, self.levels - 1).flatten(1, 2)
        levels = [self.spread(x[:, : 2**i] if i else pair, i) for i in range(self.levels)]
        return torch.stack(levels).mean(dim=0).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.decoder_embed(self.ln_pre(x[:, :, 0].transpose(1, 2)))
        grid = self.run(self.queries(memory), memory, to_grid=True)
        out: Tensor = self.conv_out(grid.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return out


def power_of_two(tokens: int, because: str) -> int:
    """log2 of `tokens`; raises VtbenchError if that is not a whole number of at least one."""
    levels = tokens.bit_length() - 1
    if tokens != 2**levels or not levels:
        raise VtbenchError(f"num_latent_tokens is {tokens}, but must be a power of two from 2 on: {because} needs it")
    return levels


class _Decoder(nn.Module):
    """LlamaGen's decoder; with `styled` each level begins with a `StyleNorm` that sees the decoder's input."""

    def __init__(self, spec: Conv, *, styled: bool) -> None:
        super().__init__()
        chain = spec.decoder()
        for name, child in chain.named_children():
            self.add_module(name, child)
        self.order = chain.order
        widths = [spec.width * m for m in reversed(spec.multipliers)]
        norms = [
            StyleNorm(spec.latent_channels, width, groups=spec.groups, eps=spec.eps)
            for width in (widths[0], *widths[:-1])
        ]
        self.adaptive = nn.ModuleList(norms) if styled else None

    def forward(self, code: Tensor) -> Tensor:
        x = code
        for path in self.order:
            if self.adaptive is not None and path.endswith(".res.0"):
                x = self.adaptive[int(path.split(".")[1])](x, code)
            x = self.get_submodule(path)(x)
        return x


def _convolutions(c: Config, colours: int) -> tuple[Conv, Conv, bool]:
    """Encoder and decoder, and whether the decoder's levels are styled."""
    down, up = c.integers("encoder_ch_mult"), c.integers("decoder_ch_mult")
    attention, blocks = c.flag("attention"), c.integer("num_res_blocks")
    spec = Conv(
        image_channels=colours,
        latent_channels=c.integer("z_channels"),
        width=c.integer("ch"),
        multipliers=down,
        blocks=blocks,
        attention=(len(down) - 1,) if attention else (),
        middle=("block", "attention", "block") if attention else ("block", "block"),
        names=llamagen.NAMES if attention else replace(llamagen.NAMES, middle=("mid.0", "mid.1")),
        groups=c.integer("norm_groups"),
        eps=c.number("norm_eps"),
    )
    back = replace(spec, multipliers=up, blocks=blocks + 1, attention=(len(up) - 1,) if attention else ())
    if c.flag("depth_to_space"):
        names = replace(spec.names, upsample="upsample")
        back = replace(back, up="depth to space", names=names)
    styled = c.flag("adaptive_norm")
    c.done()
    return spec, back, styled


class GigaTok(nn.Module):
    """Latents are (B, embed_dim, 1, tokens): a row without a grid."""

    value_range = (-1.0, 1.0)
    channel_axis = 1
    downsample: int | None = None
    optional = ("quantize.codebook_used", "s1to2decoder.distill_mlp.")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; how queries begin is not in them and stays as in `like`."""
        if "s2to1encoder.ln_pre.weight" not in shapes or "encoder.conv_in.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        cnn = arch["cnn"]
        cnn["encoder_ch_mult"] = infer.pyramid(
            shapes, cnn, level="conv_blocks.{i}", block="res.{i}", width="ch", blocks="num_res_blocks"
        )
        arch["in_channels"] = cnn.pop("in_channels")
        levels = infer.count(shapes, "decoder.conv_blocks.{i}.")
        cnn.update(
            decoder_ch_mult=[
                shapes[f"decoder.conv_blocks.{i}.res.0.conv1.weight"][0] // cnn["ch"] for i in reversed(range(levels))
            ],
            z_channels=shapes["encoder.conv_out.weight"][0],
            adaptive_norm="decoder.adaptive.0.gamma.weight" in shapes,
            depth_to_space=levels == 1 or "decoder.conv_blocks.0.upsample.conv1.weight" in shapes,
            attention="encoder.mid.1.norm.weight" in shapes,
        )
        for half, name in (("encoder", "s2to1encoder"), ("decoder", "s1to2decoder")):
            width = shapes[f"{name}.ln_post.weight"][0]
            layers = infer.count(shapes, f"{name}.transformer.{{i}}.")
            arch[half].update(width=width, layers=layers, heads=max(1, width // _HEAD))
        side = math.isqrt(shapes["s1to2decoder.positional_embedding"][0])
        arch["image_size"] = side * 2 ** (levels - 1)
        arch["num_latent_tokens"] = shapes["s2to1encoder.latent_token_positional_embedding"][0]
        infer.book(shapes, arch["quantizer"], "quantize.embedding.weight")
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        spec, back, styled = _convolutions(c.sub("cnn"), c.integer("in_channels"))
        size, self.positions, channels = c.integer("image_size"), c.integer("num_latent_tokens"), spec.latent_channels
        if size % spec.factor or size % back.factor:
            raise VtbenchError(f"image_size {size} is no multiple of {spec.factor} and {back.factor}, the halvings")
        self.fixed_size: int | None = size
        last, every = c.flag("last_level_2d_query_init"), c.flag("multi_level_2d_query_init")
        if last and every:
            raise VtbenchError("last_level_2d_query_init and multi_level_2d_query_init are both true: choose one")
        self.encoder = spec.encoder()
        by_level = c.flag("multi_level_query_init")
        self.s2to1encoder = _ToRow(c.sub("encoder"), channels, size // spec.factor, self.positions, by_level=by_level)
        queries = "last level" if last else "all levels" if every else "first token"
        self.s1to2decoder = _ToGrid(c.sub("decoder"), channels, size // back.factor, self.positions, queries)
        self.decoder = _Decoder(back, styled=styled)
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        dim = q.integer("embed_dim")
        self.quantize = VQ(q.integer("codebook_size"), dim, l2_norm=q.flag("l2_norm"))
        q.done()
        c.done()
        self.quant_conv, self.post_quant_conv = nn.Conv2d(channels, dim, 1), nn.Conv2d(dim, channels, 1)
        self.alphabets = self.quantize.alphabets

    def check(self, size: tuple[int, int]) -> None:
        """Raises VtbenchError unless `size` is the only one that the network takes."""
        check_exactly(size, (self.fixed_size, self.fixed_size))

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, image_size, image_size) in [-1, 1]."""
        self.check((x.shape[2], x.shape[3]))
        latent = self.quant_conv(self.s2to1encoder(self.encoder(x)))
        tokens, quantized = self.quantize(latent)
        return Encoded(tokens, pre_quant=latent, quantized=quantized)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions)."""
        self.check(size)
        latent = one_book(latent)
        if latent.shape[1] != self.positions:
            raise VtbenchError(f"there are {latent.shape[1]} tokens, but this network needs {self.positions}")
        code = self.post_quant_conv(self.quantize.lookup(latent, (1, self.positions)))
        out: Tensor = self.decoder(self.s1to2decoder(code))
        return out
