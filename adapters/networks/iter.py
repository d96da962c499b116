"""ITER's Swin-VQGAN: convolutions with windowed attention at the lowest resolution (arXiv:2312.05616).

chaofengc/ITER @ 826bcaa: basicsr/archs/vqgan_swin.py, network_swinir.py. Both halves keep their layers in one list, and
between the last norm and the last convolution stands no activation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Down, Norm, Up, check_size
from vtbench.adapters.networks.parts.quantizers import VQ
from vtbench.adapters.networks.parts.transformer import check_heads
from vtbench.adapters.networks.parts.vq_autoencoder import VQAutoencoder
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

GROUPS = "32, or width / 4 below 32"
_BLOCKED = -100.0
"""Added to the logits of cells that the cyclic shift has brought together (network_swinir.py:232)."""


def _norm(width: int, eps: float) -> Norm:
    groups = 32 if width >= 32 else width // 4
    if groups == 0 or width % groups:
        raise VtbenchError(f"a level is {width} channels wide, which {groups} norm groups do not divide")
    return Norm(groups, width, eps=eps)


class _Block(nn.Module):
    """Norm, SiLU, conv, twice; a 1x1 `conv_out` of the input where the width changes."""

    def __init__(self, width: int, out: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width, eps), nn.Conv2d(width, out, 3, padding=1)
        self.norm2, self.conv2 = _norm(out, eps), nn.Conv2d(out, out, 3, padding=1)
        self.conv_out: nn.Module = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        out: Tensor = h + self.conv_out(x)
        return out


class _Conv(nn.Module):
    """A halving or a doubling, whose convolution the list keeps one name deeper."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _WindowAttention(nn.Module):
    """Attention inside windows (B, windows, side^2, C) with a learned bias for every offset between two cells."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        cells = torch.cartesian_prod(torch.arange(side), torch.arange(side)).reshape(-1, 2)
        offsets = cells[:, None] - cells[None] + side - 1
        self.register_buffer("offset", offsets[..., 0] * (2 * side - 1) + offsets[..., 1], persistent=False)

    def forward(self, x: Tensor, blocked: Tensor | None) -> Tensor:
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for p in self.qkv(x).chunk(3, dim=-1))
        bias = self.relative_position_bias_table[self.offset].permute(2, 0, 1)
        mask = bias if blocked is None else bias + blocked[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.proj(mixed.transpose(-3, -2).flatten(-2))
        return out


class _SqueezedMlp(nn.Module):
    """fc1, GELU, a gate a channel from the mean over all cells of the picture, fc2."""

    def __init__(self, width: int, hidden: int, squeeze: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        narrow = hidden // squeeze
        self.attn = nn.Sequential(nn.Linear(hidden, narrow), nn.SiLU(), nn.Linear(narrow, hidden), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.fc1(x))
        out: Tensor = self.fc2(h * self.attn(h.mean(dim=(1, 2), keepdim=True)))
        return out


class _SwinBlock(nn.Module):
    """(B, h, w, C), attention in windows that are shifted by half a side in every second block."""

    def __init__(self, width: int, heads: int, side: int, shift: int, hidden: int, squeeze: int, eps: float) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = _WindowAttention(width, heads, side)
        self.mlp = _SqueezedMlp(width, hidden, squeeze)

    def windows(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, windows, side^2, C)."""
        cells = x.unflatten(2, (-1, self.side)).unflatten(1, (-1, self.side))
        return cells.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def blocked(self, height: int, width: int, like: Tensor) -> Tensor | None:
        """(windows, side^2, side^2): `_BLOCKED` where two cells were no neighbours before the shift."""
        if not self.shift:
            return None
        regions = []
        for length in (height, width):
            place = torch.arange(length, device=like.device)
            regions.append((place >= length - self.side).long() + (place >= length - self.shift).long())
        region = (regions[0][:, None] * 3 + regions[1])[None, :, :, None]
        cells = self.windows(region)[0, :, :, 0]
        return (cells[:, :, None] != cells[:, None]).to(like.dtype) * _BLOCKED

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        h = torch.roll(self.norm1(x), (-self.shift, -self.shift), dims=(1, 2))
        h = self.attn(self.windows(h), self.blocked(height, width, x))
        h = h.unflatten(2, (self.side, self.side)).unflatten(1, (height // self.side, width // self.side))
        h = torch.roll(h.transpose(2, 3).flatten(3, 4).flatten(1, 2), (self.shift, self.shift), dims=(1, 2))
        x = x + h
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Residual(nn.Module):
    """SwinIR's group: blocks, then a 3x3 convolution, around which x goes as well. (B, C, h, w)."""

    def __init__(self, blocks: list[_SwinBlock], width: int) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.permute(0, 2, 3, 1)
        for block in self.residual_group["blocks"]:  # type: ignore[attr-defined]
            h = block(h)
        out: Tensor = self.conv(h.permute(0, 3, 1, 2)) + x
        return out


class _Swin(nn.Module):
    """A convolution to the attention's width, groups of blocks, a convolution back; residual."""

    def __init__(self, c: Config, width: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        inner, heads, window = c.integer("width"), c.integer("heads"), c.integer("window")
        hidden, squeeze = inner * c.integer("mlp_ratio"), c.integer("mlp_squeeze")
        count, depth, eps = c.integer("blocks"), c.integer("depth"), c.number("norm_eps")
        c.done()
        check_heads(inner, heads)
        # Where the nominal resolution is no larger than a window, it is the window, and nothing is shifted.
        whole = min(resolution) <= window
        self.side = min(resolution) if whole else window
        shift = 0 if whole else window // 2
        if self.side < 1:
            raise VtbenchError("arch.nominal_resolution leaves no cell at the lowest resolution: give a larger one")
        self.conv_in, self.conv_out = nn.Conv2d(width, inner, 3, padding=1), nn.Conv2d(inner, width, 3, padding=1)
        self.swin_blks = nn.ModuleList(
            _Residual(
                [_SwinBlock(inner, heads, self.side, shift * (i % 2), hidden, squeeze, eps) for i in range(depth)],
                inner,
            )
            for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for group in self.swin_blks:
            h = group(h)
        out: Tensor = self.conv_out(h) + x
        return out


class _List(nn.Module):
    """Layers that run in a row, numbered under `blocks`."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Iter(VQAutoencoder):
    """arch: in_channels, out_channels, ch, ch_mult, num_res_blocks, decoder_res_blocks, z_channels, nominal_resolution
    (of which only one thing depends: see `_Swin`), norm_groups, norm_eps, swin {width, blocks, depth, heads, window,
    mlp_ratio, mlp_squeeze, norm_eps}, quantizer {type, codebook_size, embed_dim, l2_norm}.

    `generator` is the decoder once more, in files too. Sides are multiples of the windows' pixels (`multiple`).
    """

    value_range = (0.0, 1.0)

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width, the nominal resolution its size."""
        start = "encoder.blocks.0.weight"
        if start not in shapes or "generator.blocks.0.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        ch, arch["in_channels"] = shapes[start][:2]
        halvings = sorted(int(n.split(".")[2]) for n in shapes if _is_conv(n, "encoder"))
        mults, blocks, at = [], halvings[0] - 1 if halvings else None, 1
        swin = next((int(n.split(".")[2]) for n in shapes if n.endswith("swin_blks.0.conv.weight")), 0)
        for end in [*halvings, swin - 1]:
            mults.append(shapes[f"encoder.blocks.{end - 1}.conv2.weight"][0] // ch)
            blocks, at = end - at, end + 1
        doublings = sorted(int(n.split(".")[2]) for n in shapes if _is_conv(n, "decoder"))
        arch.update(ch=ch, ch_mult=mults, num_res_blocks=blocks)
        last = infer.count(shapes, "decoder.blocks.{i}.") - 1
        arch["decoder_res_blocks"] = (doublings[0] if doublings else last - 1) - 4
        arch["out_channels"] = shapes[f"decoder.blocks.{last}.weight"][0]
        arch["z_channels"] = shapes["decoder.blocks.0.weight"][1]
        group = f"encoder.blocks.{swin}.swin_blks.0.residual_group.blocks.0"
        hidden, width = shapes[f"{group}.mlp.fc1.weight"]
        rows, heads = shapes[f"{group}.attn.relative_position_bias_table"]
        arch["swin"].update(
            width=width,
            heads=heads,
            blocks=infer.count(shapes, f"encoder.blocks.{swin}.swin_blks.{{i}}."),
            depth=infer.count(shapes, f"{group[:-1]}{{i}}."),
            window=(int(rows**0.5) + 1) // 2,
            mlp_ratio=hidden // width,
            mlp_squeeze=hidden // shapes[f"{group}.mlp.attn.0.weight"][0],
        )
        infer.book(shapes, arch["quantizer"], "quantize.embedding.weight")
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        ch, mults, eps = c.integer("ch"), c.integers("ch_mult"), c.number("norm_eps")
        c.choice("norm_groups", (GROUPS,))
        z, blocks, back = c.integer("z_channels"), c.integer("num_res_blocks"), c.integer("decoder_res_blocks")
        height, width = c.integers("nominal_resolution", length=2)
        factor = 2 ** (len(mults) - 1)
        nominal, s = (height // factor, width // factor), c.sub("swin")
        widths = [ch * m for m in mults]

        def middle(wide: int) -> list[nn.Module]:
            return [_Block(wide, wide, eps), _Swin(s, wide, nominal), _Block(wide, wide, eps)]

        layers: list[nn.Module] = [nn.Conv2d(c.integer("in_channels"), ch, 3, padding=1)]
        wide = ch
        for i, out in enumerate(widths):
            layers += [_Block(wide if j == 0 else out, out, eps) for j in range(blocks)]
            wide = out
            if i + 1 < len(widths):
                layers.append(_Conv(Down(wide)))
        layers += [*middle(wide), _norm(wide, eps), nn.Conv2d(wide, z, 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(z, wide, 3, padding=1), *middle(wide)]
        for i, out in reversed(list(enumerate(widths))):
            up += [_Block(wide if j == 0 else out, out, eps) for j in range(back)]
            wide = out
            if i > 0:
                up.append(_Conv(Up(wide)))
        up += [_norm(wide, eps), nn.Conv2d(wide, c.integer("out_channels"), 3, padding=1)]
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        q.choice("l2_norm", (False,), False)
        size, dim = q.integer("codebook_size"), q.integer("embed_dim")
        q.done()
        c.done()
        if dim != z:
            raise VtbenchError(f"embed_dim {dim} must equal z_channels {z}: no convolution stands between them")
        super().__init__(_List(layers), _List(up), VQ(size, dim), downsample=factor)
        self.generator = self.decoder
        swins = {n: m for n, m in self.named_modules(remove_duplicate=False) if isinstance(m, _SwinBlock)}
        self.multiple = factor * next(iter(swins.values())).side
        self.optional = tuple(f"{name}.attn_mask" for name in swins)
        self.int_buffers = tuple(f"{name}.attn.relative_position_index" for name in swins)

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        check_size(*size, self.multiple)
        return super().cells(size)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, H, W) in [0, 1], clamped first, as upstream does."""
        return super().encode(x.clamp(0, 1) * 2 - 1)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        return (super().decode(latent, size=size) + 1) / 2


def _is_conv(name: str, half: str) -> bool:
    """Whether this is the convolution of a halving or doubling: `half`.blocks.N.conv.weight."""
    parts = name.split(".")
    return parts[:2] == [half, "blocks"] and parts[3:] == ["conv", "weight"]
