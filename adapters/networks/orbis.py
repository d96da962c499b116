"""Orbis' tokenizer of driving videos' frames: two ViTs, a codebook each, one convolutional decoder (arXiv:2507.13162).

lmb-freiburg/orbis @ 47644aa: models/first_stage/vqgan.py (VQModelIF), networks/tokenizer/pretrained_models.py, ae.py
beside it, modules/quantize.py. The world model predicts the latents before quantization, which the decoder knows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, check_size, nominal_levels
from vtbench.adapters.networks.parts.quantizers import VQ, Grid
from vtbench.adapters.networks.parts.vit import Block
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

VIT = "timm vit with class token and final norm"
TWO_BOOKS = "vq, two separate books (reconstruction, semantic)"
UNIT_ROWS = "rows normalised in place, latent normalised by `normalize_latent`"


class _Vit(nn.Module):
    """timm's ViT: (B, C, H, W) -> (B, width, H / patch, W / patch), after its last norm, without the class token."""

    def __init__(self, c: Config, colours: int) -> None:
        super().__init__()
        c.choice("type", (VIT,))
        # False would refuse pictures of another size than `resolution`; those of that size come out the same.
        c.flag("dynamic_img_size", True)
        self.patch, self.width, heads = c.integer("patch_size"), c.integer("width"), c.integer("heads")
        height, width = c.integers("resolution", length=2)
        if height % self.patch or width % self.patch:
            raise VtbenchError(f"patches of {self.patch} pixels do not divide the resolution {height} x {width}")
        self.grid = (height // self.patch, width // self.patch)
        eps, hidden = c.number("norm_eps"), int(self.width * c.number("mlp_ratio"))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + math.prod(self.grid), self.width))
        conv = nn.Conv2d(colours, self.width, self.patch, stride=self.patch)
        self.patch_embed = nn.ModuleDict({"proj": conv})
        self.blocks = nn.ModuleList(Block(self.width, heads, hidden, eps=eps) for _ in range(c.integer("layers")))
        self.norm = nn.LayerNorm(self.width, eps=eps)

    def positions(self, grid: Grid) -> Tensor:
        """The table for a grid of patches, resized by timm's rule: bicubic with antialiasing, to the size."""
        if grid == self.grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, self.grid)
        wide = table.to(torch.promote_types(table.dtype, torch.float32))
        resized = F.interpolate(wide, size=grid, mode="bicubic", antialias=True).to(table.dtype)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.patch_embed["proj"](x)
        grid = (cells.shape[2], cells.shape[3])
        rows = torch.cat([self.cls_token.expand(len(x), -1, -1), cells.flatten(2).transpose(1, 2)], dim=1)
        rows = rows + self.positions(grid)
        for block in self.blocks:
            rows = block(rows)
        out: Tensor = self.norm(rows)[:, 1:].transpose(1, 2).unflatten(2, grid)
        return out


class Orbis(nn.Module):
    """arch: in_channels, out_channels, encoders {count, type, resolution (of the tables of positions), patch_size,
    width, layers, heads, mlp_ratio, norm_eps, dynamic_img_size}, normalize_latent, decoder {ch, ch_mult,
    num_res_blocks, z_channels, attn_resolutions, resolution, norm_groups, norm_eps}, quantizer {type, codebook_size,
    embed_dim, l2_norm}, and our own `continuous` (false): latents before quantization in the tokens' place, as the
    world model has them.

    Tokens are (B, h w, 2), of the reconstruction and of the semantic book; latents their channels behind each other.
    """

    value_range = (-1.0, 1.0)
    fixed_size: int | None = None
    # Training only: a DINOv2 and the convolution that it is compared behind.
    optional = ("post_quant_conv_distill.", "distill.")
    channel_axis = 1

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width, tables of positions their shape's ratio."""
        table = "encoder2.encoder.pos_embed"
        if table not in shapes or "quantize2.embedding.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        e, d = arch["encoders"], arch["decoder"]
        width, colours, patch = shapes["encoder.encoder.patch_embed.proj.weight"][:3]
        ratio, cells = e["resolution"][0] / e["resolution"][1], shapes[table][1] - 1
        # The rows whose grid is nearest to the ratio of the arch that is changed.
        divisors = [n for n in range(1, cells + 1) if cells % n == 0]
        rows = min(divisors, key=lambda n: abs(math.log(n * n / cells / ratio)))
        e["heads"] = max(1, width * e["heads"] // e["width"])
        e.update(
            resolution=[rows * patch, cells // rows * patch],
            patch_size=patch,
            width=width,
            layers=infer.count(shapes, "encoder.encoder.blocks.{i}."),
            mlp_ratio=shapes["encoder.encoder.blocks.0.mlp.fc1.weight"][0] // width,
        )
        levels = infer.count(shapes, "decoder.up.{i}.")
        ch = math.gcd(*(shapes[f"decoder.up.{i}.block.0.conv1.weight"][0] for i in range(levels)))
        mult = [shapes[f"decoder.up.{i}.block.0.conv1.weight"][0] // ch for i in range(levels)]
        at = [i for i in range(levels) if f"decoder.up.{i}.attn.0.norm.weight" in shapes]
        d.update(
            ch=ch,
            ch_mult=mult,
            num_res_blocks=infer.count(shapes, "decoder.up.0.block.{i}.") - 1,
            z_channels=shapes["decoder.conv_in.weight"][1],
            attn_resolutions=[d["resolution"] // 2 ** (levels - 1) * 2 ** (levels - 1 - i) for i in at],
        )
        arch.update(in_channels=colours, out_channels=shapes["decoder.conv_out.weight"][0])
        infer.book(shapes, arch["quantizer"], "quantize.embedding.weight")
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        e, d, q = c.sub("encoders"), c.sub("decoder"), c.sub("quantizer")
        e.choice("count", (2,))
        colours = c.integer("in_channels")
        self.encoder = nn.ModuleDict({"encoder": _Vit(e, colours)})
        self.encoder2 = nn.ModuleDict({"encoder": _Vit(e, colours)})
        e.done()
        vit: Any = self.encoder["encoder"]
        multipliers, resolution = d.integers("ch_mult"), d.any("resolution")
        # Of a pair, upstream looks at the height alone (ae.py:765,801).
        height = resolution[0] if isinstance(resolution, list | tuple) and resolution else resolution
        if not isinstance(height, int) or isinstance(height, bool):
            raise VtbenchError(f"arch.decoder.resolution is {resolution!r}, but must be a number of pixels")
        at = d.integers("attn_resolutions", empty=True, default=())
        z = d.integer("z_channels")
        spec = Conv(
            image_channels=c.integer("out_channels"),
            latent_channels=z,
            width=d.integer("ch"),
            multipliers=multipliers,
            blocks=d.integer("num_res_blocks") + 1,
            attention=nominal_levels(height, len(multipliers), at, down=False),
            groups=d.integer("norm_groups"),
            eps=d.number("norm_eps"),
        )
        d.done()
        if spec.factor != vit.patch:
            raise VtbenchError(
                f"the encoders' patches are {vit.patch} pixels and the decoder doubles to {spec.factor}: the picture "
                "would come back in another size, so give both the same"
            )
        self.decoder = spec.decoder()
        q.choice("type", (TWO_BOOKS,))
        unit = q.choice("l2_norm", (UNIT_ROWS, True, False), False) is not False
        size, dim = q.integer("codebook_size"), q.integer("embed_dim")
        q.done()
        self.normalize, self.continuous = c.flag("normalize_latent"), c.flag("continuous", False)
        c.done()
        # A row is normalised before each use, so that its length says nothing; so must be what it is compared with.
        self.quantize, self.quantize2 = (_Book(size, dim, unit=unit) for _ in range(2))
        self.quant_conv, self.quant_conv2 = (nn.Conv2d(vit.width, dim, 1) for _ in range(2))
        self.post_quant_conv = nn.Conv2d(2 * dim, z, 1)
        self.downsample, self.dim = vit.patch, dim
        self.alphabets = () if self.continuous else (size, size)

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        check_size(*size, self.downsample)
        return ((size[0] // self.downsample, size[1] // self.downsample),)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, H, W) in [-1, 1]."""
        self.grids((x.shape[2], x.shape[3]))
        latents = [self.quant_conv(self.encoder["encoder"](x)), self.quant_conv2(self.encoder2["encoder"](x))]
        if self.normalize:
            latents = [F.normalize(latent, dim=1) for latent in latents]
        both = torch.cat(latents, dim=1)
        if self.continuous:
            return Encoded(latent_mean=both)
        tokens, quantized = zip(
            *(b(z) for b, z in zip((self.quantize, self.quantize2), latents, strict=True)), strict=True
        )
        return Encoded(torch.stack(tokens, dim=2), pre_quant=both, quantized=torch.cat(quantized, dim=1))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, h w, 2), or latents (B, 2 embed_dim, h, w) as `encode` gives them."""
        ((h, w),) = self.grids(size)
        weight = self.post_quant_conv.weight
        if latent.is_floating_point():
            if tuple(latent.shape[1:]) != (2 * self.dim, h, w):
                raise VtbenchError(
                    f"latents are {tuple(latent.shape)}, but a picture of {size[0]} x {size[1]} has "
                    f"(B, {2 * self.dim}, {h}, {w})"
                )
            codes = latent
        else:
            if latent.ndim != 3 or tuple(latent.shape[1:]) != (h * w, 2):
                raise VtbenchError(
                    f"there are {latent.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs {h * w} of "
                    "two books"
                )
            first, second = latent.unbind(dim=2)
            codes = torch.cat([self.quantize.lookup(first, (h, w)), self.quantize2.lookup(second, (h, w))], dim=1)
        out: Tensor = self.decoder(self.post_quant_conv(codes.to(weight.dtype)))
        return out


class _Book(VQ):
    """Nearest row, each scaled to unit length first; the latent comes as it is."""

    def __init__(self, size: int, dim: int, *, unit: bool) -> None:
        super().__init__(size, dim)
        self.unit = unit

    @property
    def codes(self) -> Tensor:
        weight = self.embedding.weight
        return F.normalize(weight, dim=-1) if self.unit else weight

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        rows = super().lookup(tokens, grid)
        return F.normalize(rows, dim=1) if self.unit else rows
