"""Instella's binary autoencoder: a row of latent tokens of sign bits, whatever the image's size (arXiv:2506.21022).

AMD-AIG-AIMA/Instella-T2I @ 9a1a753: bae/{ae_model, llama_attn, bnl, resize_layers}.py; positions are diffusers'
FluxPosEmbed.

arch: in_channels, patch_size, encoder {layers, head_dim, heads, downsample_after}, decoder {layers, head_dim, heads,
upsample_after}, num_latent_tokens, rope_axes (channels of a head that turn with the latent's number, the row, the
column), norm_eps, scale (null, or the image side in pixels over which positions are stretched), quantizer {type
"binary", bits}.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.positions import rotary
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.adapters.networks.parts.transformer import RMSNorm, heads_of, merged
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_THETA = 10000.0
_FACTOR = 2
"""Of one change of resolution."""

Turn = tuple[Tensor, Tensor]
"""(cos, sin), each (N, head_dim)."""


def _turned(x: Tensor, turn: Turn) -> Tensor:
    """Llama's way to apply the angles, which takes other pairs of channels than those that they were made for.

    FluxPosEmbed repeats each angle for two neighbours; here channel i is turned against channel i + d/2
    (llama_attn.py:227-257). The network was trained so.
    """
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class _Attention(nn.Module):
    def __init__(self, heads: int, head: int, eps: float) -> None:
        super().__init__()
        self.heads, width = heads, heads * head
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(head, eps), RMSNorm(head, eps)

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        q, k, v = (heads_of(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        q, k = _turned(self.norm_q(q), turn), _turned(self.norm_k(k), turn)
        out: Tensor = self.o_proj(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, 4 * width, bias=False), nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Block(nn.Module):
    def __init__(self, heads: int, head: int, eps: float) -> None:
        super().__init__()
        width = heads * head
        self.mlp = _Mlp(width)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width, eps), RMSNorm(width, eps)
        self.attn = _Attention(heads, head, eps)

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        x = x + self.attn(self.input_layernorm(x), turn)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Down(nn.Module):
    """Strided convolution, plus each four neighbouring channels of the folded map averaged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=_FACTOR, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        short = F.pixel_unshuffle(x, _FACTOR).unflatten(1, (-1, _FACTOR**2)).mean(dim=2)
        out: Tensor = self.conv(x) + short
        return out


class _Up(nn.Module):
    """Convolution and depth to space, plus every channel repeated four times and unfolded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * _FACTOR**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        short = F.pixel_shuffle(x.repeat_interleave(_FACTOR**2, dim=1), _FACTOR)
        return F.pixel_shuffle(self.conv(x), _FACTOR) + short


class _Stack(nn.Module):
    """Blocks over [latents | cells]; after those in `changes` the cells are halved or doubled."""

    def __init__(self, c: Config, changes: str, axes: Sequence[int], eps: float) -> None:
        super().__init__()
        layers, head, heads = c.integer("layers"), c.integer("head_dim"), c.integer("heads")
        self.width, self.axes, self.changes = heads * head, tuple(axes), c.integers(changes, empty=True)
        c.done()
        if sum(axes) != head or any(a % 2 for a in axes):
            raise VtbenchError(f"arch.rope_axes {list(axes)} must be even and add up to a head's {head} channels")
        if any(i >= layers for i in self.changes) or len(set(self.changes)) < len(self.changes):
            raise VtbenchError(f"arch's {changes} {list(self.changes)} must name different ones of {layers} layers")
        self.transformer_blocks = nn.ModuleList(_Block(heads, head, eps) for _ in range(layers))
        self.norm_out = RMSNorm(self.width, eps)

    def run(
        self, latents: Tensor, cells: Tensor, grid: Grid, scale: float | None, resize: Iterable[nn.Module], *, up: bool
    ) -> tuple[Tensor, Grid]:
        """(latents and cells after all blocks, the cells' grid).

        scale: cells over which positions are stretched. resize: what changes the cells, one after the other.
        """
        count, steps = latents.shape[1], iter(resize)
        x, turn = torch.cat([latents, cells], dim=1), self._turn(count, grid, scale, latents)
        for i, block in enumerate(self.transformer_blocks):
            x = block(x, turn)
            if i in self.changes:
                placed = next(steps)(x[:, count:].transpose(1, 2).unflatten(2, grid))
                grid = (placed.shape[2], placed.shape[3])
                x = torch.cat([x[:, :count], placed.flatten(2).transpose(1, 2)], dim=1)
                if scale is not None:
                    scale = scale * _FACTOR if up else scale // _FACTOR
                turn = self._turn(count, grid, scale, x)
        return x, grid

    def _turn(self, latents: int, grid: Grid, scale: float | None, like: Tensor) -> Turn:
        """A latent is placed by its number on the first axis, a cell by row and column on the others.

        In float32 as upstream, but for a network in float64; on the CPU, as not every device has that.
        """
        wide = torch.promote_types(like.dtype, torch.float32)
        sides = [torch.arange(n, dtype=wide) for n in grid]
        if scale is not None:
            if 1 in grid:
                raise VtbenchError(
                    f"a grid of {grid[0]} x {grid[1]} cells cannot be stretched over {scale:g}: no scale"
                )
            sides = [side / (len(side) - 1) * (scale - 1) for side in sides]
        numbers, cells = torch.arange(latents, dtype=wide)[:, None], torch.cartesian_prod(*sides)
        places = torch.cat([F.pad(numbers, (0, 2)), F.pad(cells, (1, 0))]).double()
        cos, sin = rotary(places, self.axes, _THETA, like)
        return cos.repeat_interleave(2, dim=1), sin.repeat_interleave(2, dim=1)


class _Encoder(_Stack):
    def __init__(self, c: Config, axes: Sequence[int], eps: float, *, colours: int, patch: int, latents: int) -> None:
        super().__init__(c, "downsample_after", axes, eps)
        self.patch_embedder = nn.Conv2d(colours, self.width, patch, stride=patch)
        if self.changes:
            self.down_layers = nn.ModuleList(_Down(self.width) for _ in self.changes)
        self.proj_out = nn.Linear(self.width, self.width)
        self.latent_tokens = nn.Parameter(torch.zeros(1, latents, self.width))

    def forward(self, x: Tensor, scale: float | None) -> Tensor:
        cells = self.patch_embedder(x)
        grid = (cells.shape[2], cells.shape[3])
        latents = self.latent_tokens.expand(len(x), -1, -1)
        down = self.down_layers if self.changes else ()
        out, _ = self.run(latents, cells.flatten(2).transpose(1, 2), grid, scale, down, up=False)
        projected: Tensor = self.proj_out(self.norm_out(out[:, : latents.shape[1]]))
        return projected


class _Decoder(_Stack):
    def __init__(self, c: Config, axes: Sequence[int], eps: float, *, latent: int) -> None:
        super().__init__(c, "upsample_after", axes, eps)
        if not self.changes:
            raise VtbenchError(
                "arch.decoder.upsample_after is empty, with which upstream's decoder stops: name a layer"
            )
        self.input_layer = nn.Sequential(RMSNorm(latent, eps), nn.Linear(latent, self.width))
        self.up_layers = nn.ModuleList(_Up(self.width) for _ in self.changes)
        self.mask_tokens = nn.Parameter(torch.zeros(1, 1, self.width))

    def forward(self, z: Tensor, grid: Grid, scale: float | None) -> Tensor:
        """(B, latents, width of the encoder) -> (B, cells, width)."""
        # Twice the number of changes, where two to its power is meant (ae_model.py:296): the same for one and two.
        shrink = _FACTOR * len(self.changes)
        start = (grid[0] // shrink, grid[1] // shrink)
        latents = self.input_layer(z)
        masks = self.mask_tokens.expand(len(z), start[0] * start[1], -1)
        stretch = None if scale is None else scale // shrink
        out, end = self.run(latents, masks, start, stretch, self.up_layers, up=True)
        if end != grid:
            raise VtbenchError(
                f"the decoder gives {end[0]} x {end[1]} cells for {grid[0]} x {grid[1]}: choose another image size"
            )
        normed: Tensor = self.norm_out(out[:, latents.shape[1] :])
        return normed


class _Quantizer(nn.Module):
    """One bit a channel; a token's embedding is the sum of the rows whose bits are 1."""

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(width, bits))
        self.embed = nn.Parameter(torch.zeros(bits, width))


class Instella(nn.Module):
    """Tokens are (B, latents, bits) of 0 and 1, the same number for images of every size."""

    value_range = (-1.0, 1.0)
    downsample: int | None = None
    fixed_size: int | None = None
    channel_axis = 2
    optional = ("decoder.repa_proj.",)

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; after which layers the resolution changes is not in them, and the
        axes keep their shares of a head."""
        if "encoder.patch_embedder.weight" not in shapes or "quantizer.embed" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half in ("encoder", "decoder"):
            block, part = f"{half}.transformer_blocks", arch[half]
            head, width = shapes[f"{block}.0.attn.norm_q.weight"][0], shapes[f"{block}.0.attn.q_proj.weight"][0]
            part.update(layers=infer.count(shapes, f"{block}.{{i}}."), head_dim=head, heads=width // head)
        before, head = sum(arch["rope_axes"]), arch["encoder"]["head_dim"]
        # Even numbers of channels for rows and columns, the rest for the latents' number.
        cells = [axis * head // before // 2 * 2 for axis in arch["rope_axes"][1:]]
        arch["rope_axes"] = [head - sum(cells), *cells]
        _, arch["in_channels"], arch["patch_size"], _ = shapes["encoder.patch_embedder.weight"]
        arch["num_latent_tokens"] = shapes["encoder.latent_tokens"][1]
        arch["quantizer"]["bits"] = shapes["quantizer.embed"][0]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.colours, self.patch = c.integer("in_channels"), c.integer("patch_size")
        self.positions, axes, eps = (
            c.integer("num_latent_tokens"),
            c.integers("rope_axes", length=3),
            c.number("norm_eps"),
        )
        self.scale = None if c.any("scale") is None else c.integer("scale")
        shape = {"colours": self.colours, "patch": self.patch, "latents": self.positions}
        self.encoder = _Encoder(c.sub("encoder"), axes, eps, **shape)
        self.decoder = _Decoder(c.sub("decoder"), axes, eps, latent=self.encoder.width)
        q = c.sub("quantizer")
        q.choice("type", ("binary",))
        bits = q.integer("bits")
        q.done()
        c.done()
        self.quantizer, self.alphabets = _Quantizer(self.encoder.width, bits), (2,) * bits
        self.to_pixel = nn.Linear(self.decoder.width, self.patch**2 * self.colours)
        changes = max(len(self.encoder.changes), len(self.decoder.changes))
        self.multiple = self.patch * _FACTOR**changes

    def _cells(self, size: tuple[int, int], scale: int | None) -> tuple[Grid, float | None]:
        """The grid of patches, and how many of them the positions are stretched over."""
        check_size(*size, self.multiple)
        scale = self.scale if scale is None else scale
        return (size[0] // self.patch, size[1] // self.patch), None if scale is None else scale / self.patch

    def encode(self, x: Tensor, *, scale: int | None = None) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]; scale: in place of the arch's."""
        _, stretch = self._cells((x.shape[2], x.shape[3]), scale)
        logits = self.quantizer.proj(self.encoder(x, stretch))
        bits = torch.sigmoid(logits) > 0.5
        return Encoded(bits.long(), pre_quant=logits, quantized=bits.to(logits.dtype) @ self.quantizer.embed)

    def decode(self, latent: Tensor, *, size: tuple[int, int], scale: int | None = None) -> Tensor:
        """latent: tokens (B, latents, bits), or (B, latents) of one bit."""
        grid, stretch = self._cells(size, scale)
        bits = latent[..., None] if latent.ndim == 2 else latent
        if tuple(bits.shape[1:]) != (self.positions, len(self.alphabets)):
            raise VtbenchError(
                f"there are {bits.shape[1]} tokens of {bits.shape[2]} bits, but an image has {self.positions} of "
                f"{len(self.alphabets)}"
            )
        rows = bits.to(self.quantizer.embed.dtype) @ self.quantizer.embed
        pixels = self.to_pixel(self.decoder(rows, grid, stretch))
        # Values of a patch are (row, column, colour).
        patches = pixels.reshape(len(rows), *grid, self.patch, self.patch, self.colours).permute(0, 5, 1, 3, 2, 4)
        out: Tensor = patches.reshape(len(rows), self.colours, *size)
        return out
