"""ImageFolder and XQ-GAN: DINOv2-shaped transformers around product quantization (arXiv:2410.01756, 2412.01762).

lxa9867/ImageFolder @ 76ddfb9: tokenizer/tokenizer_image/{xqgan_model.py, dino_enc/, quant.py, lookup_free_quantize.py}.

arch: img_size, patch_size, in_channels, encoder and decoder {embed_dim, depth, num_heads, mlp_ratio, qkv_bias,
layer_scale, class_token, norm_eps}, abs_pos_embed, product_quant (branches), num_latent_tokens (of one branch),
latent_grid, quantizer {type, codebook_size, embed_dim, l2_norm, v_patch_nums, quant_resi, share_quant_resi,
phi_index (null: computed), scale}. Types: "vq" (one scale), "multi-scale residual vq" (rows are always chosen by
cosine, whatever l2_norm says: upstream never passes it on, quant.py:16), "multi-scale lfq" (sign bits).
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
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.multiscale import MultiScaleSigns, MultiScaleVQ
from vtbench.adapters.networks.parts.quantizers import VQ, Grid, Quantizer
from vtbench.adapters.networks.parts.vit import Block
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError


class _Trunk(nn.Module):
    """A timm-style ViT: cls token, learned positions on a `side` x `side` grid with an entry for cls, blocks, norm."""

    def __init__(self, c: Config, side: int, *, patch: tuple[int, int] | None) -> None:
        """`patch`: (colours, size) of the patch embedding; None where there is none (decoder)."""
        super().__init__()
        self.width = c.integer("embed_dim")
        # Upstream's level table has an entry for a class token, so there always is one (dinov2.py:92).
        c.choice("class_token", (True,))
        eps = c.number("norm_eps")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, self.width))
        if patch is not None:
            self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(patch[0], self.width, patch[1], stride=patch[1])})
        self.blocks = nn.Sequential(
            *[
                Block(
                    self.width,
                    c.integer("num_heads"),
                    int(self.width * c.number("mlp_ratio")),
                    eps=eps,
                    qkv_bias=c.flag("qkv_bias"),
                    layer_scale=c.flag("layer_scale"),
                )
                for _ in range(c.integer("depth"))
            ]
        )
        self.norm = nn.LayerNorm(self.width, eps=eps)
        c.done()
        self.side = side

    def positions(self, side: int) -> tuple[Tensor, Tensor]:
        """(1, 1, C) for cls and (1, side**2, C) for a grid: resampled (bicubic, antialiased) if it is another one."""
        cls, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if side != self.side:
            square = grid.reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
            wide = square if square.dtype == torch.float64 else square.float()
            square = F.interpolate(wide, size=(side, side), mode="bicubic", antialias=True)
            grid = square.to(grid.dtype).flatten(2).transpose(1, 2)
        return cls, grid

    def placed(self, tokens: Tensor, side: int) -> Tensor:
        """(B, side**2, C) -> (B, 1 + side**2, C): cls in front, positions added."""
        cls, grid = self.positions(side)
        return torch.cat([(self.cls_token + cls).expand(len(tokens), -1, -1), tokens + grid], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.blocks(x))
        return out


class _Levels(nn.Module):
    """Marks what a token is: row 0 the image, row i + 1 the branch i of the latent. `absolute` False: own positions."""

    def __init__(self, branches: int, tokens: int, width: int, *, absolute: bool) -> None:
        super().__init__()
        self.absolute = absolute
        if absolute:
            self.lvl_embed = nn.Embedding(1 + branches, width)
        else:
            self.latent_pos_embed = nn.Parameter(torch.zeros(1, tokens, width))

    def level(self, i: int) -> Tensor:
        """(C,)"""
        row: Tensor = self.lvl_embed.weight[i]
        return row


class _Encoder(_Levels):
    """(B, colours, H, W) -> (B, branches * L, C): the latent tokens after the trunk, branch after branch."""

    def __init__(
        self, c: Config, colours: int, patch: int, side: int, branches: int, grid: int, *, absolute: bool
    ) -> None:
        model = _Trunk(c, side, patch=(colours, patch))
        super().__init__(branches, branches * grid * grid, model.width, absolute=absolute)
        self.latent_tokens = nn.Parameter(torch.zeros(1, branches * grid * grid, model.width))
        self.model = model
        self._branches, self._grid = branches, grid

    def forward(self, x: Tensor) -> Tensor:
        patches = self.model.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        image = self.model.placed(patches, self.model.side)
        if self.absolute:
            _, positions = self.model.positions(self._grid)
            marked = [
                part + positions + self.level(i + 1)
                for i, part in enumerate(self.latent_tokens.chunk(self._branches, dim=1))
            ]
            image, latent = image + self.level(0), torch.cat(marked, dim=1)
        else:
            latent = self.latent_tokens + self.latent_pos_embed
        out: Tensor = self.model(torch.cat([image, latent.expand(len(x), -1, -1)], dim=1))
        return out[:, -latent.shape[1] :]


class _Decoder(_Levels):
    """(B, L, C) -> (B, colours, H, W): mask tokens at all patches attend to the latent, a linear layer paints them.

    With absolute positions the latent gets a cls token of its own, which stays (dinov2.py:326-340).
    """

    def __init__(self, c: Config, colours: int, patch: int, side: int, grid: int, *, absolute: bool) -> None:
        model = _Trunk(c, side, patch=None)
        super().__init__(1, grid * grid, model.width, absolute=absolute)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, model.width))
        self.model = model
        self.to_pixel = nn.ModuleDict({"model": nn.Linear(model.width, colours * patch * patch)})
        self._grid, self._patch = grid, patch

    def forward(self, z: Tensor) -> Tensor:
        side, patch = self.model.side, self._patch
        image = self.model.placed(self.mask_token.expand(len(z), side * side, -1), side)
        if self.absolute:
            image, z = image + self.level(0), self.model.placed(z, self._grid) + self.level(1)
        else:
            z = z + self.latent_pos_embed
        out = self.model(torch.cat([image, z], dim=1))[:, 1 : 1 + side * side]
        # Pixels of a patch are (row, column, colour).
        pixels = self.to_pixel["model"](out).reshape(len(z), side, side, patch, patch, -1)
        picture: Tensor = pixels.permute(0, 5, 1, 3, 2, 4).reshape(len(z), -1, side * patch, side * patch)
        return picture


def _branch(q: Config, grid: int) -> Quantizer:
    """The quantizer of one branch; every branch has its own."""
    kind = q.choice("type", ("vq", "multi-scale residual vq", "multi-scale lfq"))
    size, dim, l2_norm = q.integer("codebook_size"), q.integer("embed_dim"), q.flag("l2_norm")
    patches = q.integers("v_patch_nums")
    if kind == "vq":
        # Upstream takes this branch for a list of one, whose value it does not use (xqgan_model.py:126).
        if len(patches) != 1:
            raise VtbenchError(f"a vq quantizer has one scale, v_patch_nums lists {list(patches)}: give one")
        q.unused(("quant_resi", "share_quant_resi", "phi_index", "scale"), "type is 'vq', which has one scale")
        return VQ(size, dim, l2_norm=l2_norm)
    if patches[-1] != grid:
        raise VtbenchError(f"the last of v_patch_nums is {patches[-1]}, but latent_grid is {grid}: they must agree")
    scales = [(p, p) for p in patches]
    ratio, share = q.number("quant_resi"), q.integer("share_quant_resi", at_least=0)
    index = None if q.any("phi_index") is None else q.integers("phi_index")
    if kind == "multi-scale residual vq":
        # Rows are chosen by cosine whatever the flag says (quant.py:16, which nobody overrides).
        q.choice("l2_norm", (True,))
        q.unused(["scale"], "it is the step of sign bits, and type is 'multi-scale residual vq'")
        return MultiScaleVQ(size, dim, scales, znorm=True, ratio=ratio, share=share, index=index)
    if size != 2**dim:
        raise VtbenchError(f"codebook_size {size} is not 2**{dim}: sign bits have one bit a channel")
    scale = q.number("scale")
    return MultiScaleSigns(dim, scales, l2_norm=l2_norm, scale=scale, ratio=ratio, share=share, index=index)


class ImageFolder(nn.Module):
    """Images of one size. The branches' tokens stand side by side as books (bits: one branch after the other)."""

    value_range = (-1.0, 1.0)
    int_buffers = ("encoder.lvl1LC", "decoder.lvl1LC")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; scales and numbers of heads are not in them.

        Scales stay as in `like`, heads have 64 channels as all of DINOv2's do. None where `like` has another kind of
        quantizer, or scales that do not end in the checkpoint's grid.
        """
        if "encoder.latent_tokens" not in shapes or "decoder.to_pixel.model.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half in ("encoder", "decoder"):
            width = shapes[f"{half}.model.norm.weight"][0]
            arch[half].update(
                embed_dim=width,
                depth=infer.count(shapes, f"{half}.model.blocks.{{i}}."),
                num_heads=max(1, width // 64),
                mlp_ratio=shapes[f"{half}.model.blocks.0.mlp.fc1.weight"][0] / width,
                qkv_bias=f"{half}.model.blocks.0.attn.qkv.bias" in shapes,
                layer_scale=f"{half}.model.blocks.0.ls1.gamma" in shapes,
            )
        patch = shapes["encoder.model.patch_embed.proj.weight"][2]
        side = math.isqrt(shapes["encoder.model.pos_embed"][1] - 1)
        branches = max(1, infer.count(shapes, "quantizes.{i}."))
        tokens = shapes["encoder.latent_tokens"][1] // branches
        arch.update(
            img_size=side * patch,
            patch_size=patch,
            in_channels=shapes["encoder.model.patch_embed.proj.weight"][1],
            abs_pos_embed="encoder.lvl_embed.weight" in shapes,
            product_quant=branches,
            num_latent_tokens=tokens,
            latent_grid=math.isqrt(tokens),
        )
        quantizer, name = arch["quantizer"], "quantizes.0" if branches > 1 else "quantize"
        rows, refined = f"{name}.embedding.weight" in shapes, any(n.startswith(f"{name}.quant_resi.") for n in shapes)
        kind = ("multi-scale residual vq" if refined else "vq") if rows else "multi-scale lfq"
        if kind != quantizer["type"] or (kind != "vq" and quantizer["v_patch_nums"][-1] != arch["latent_grid"]):
            return None
        dim = shapes["quant_conv.weight"][0]
        size = shapes[f"{name}.embedding.weight"][0] if rows else 2**dim
        quantizer.update(codebook_size=size, embed_dim=dim)
        if kind == "vq":
            quantizer["v_patch_nums"] = [arch["latent_grid"]]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        size, patch, colours = c.integer("img_size"), c.integer("patch_size"), c.integer("in_channels")
        branches, tokens, grid = c.integer("product_quant"), c.integer("num_latent_tokens"), c.integer("latent_grid")
        absolute = c.flag("abs_pos_embed")
        if size % patch:
            raise VtbenchError(f"patches of {patch} pixels do not divide an image of {size}: change one of them")
        if tokens != grid * grid:
            raise VtbenchError(f"num_latent_tokens {tokens} is not latent_grid {grid} squared: the latent is a square")
        side = size // patch
        self.encoder = _Encoder(c.sub("encoder"), colours, patch, side, branches, grid, absolute=absolute)
        self.decoder = _Decoder(c.sub("decoder"), colours, patch, side, grid, absolute=absolute)
        parts = []
        for _ in range(branches):
            q = c.sub("quantizer")
            parts.append(_branch(q, grid))
            q.done()
        c.done()
        if branches > 1:
            self.quantizes = nn.ModuleList(parts)
        else:
            self.quantize = parts[0]
        dim = int(arch["quantizer"]["embed_dim"])
        self.quant_conv = nn.Conv2d(self.encoder.model.width, dim, 1)
        self.post_quant_conv = nn.Conv2d(branches * dim, self.decoder.model.width, 1)
        self.downsample = patch
        self.fixed_size = size
        self.alphabets = tuple(a for part in parts for a in part.alphabets)
        names = [f"quantizes.{i}" for i in range(branches)] if branches > 1 else ["quantize"]
        statistics = [f"{name}.{what}" for name in names for what in ("ema_vocab_hit_SV", "scaler")]
        training = ("semantic_model.", "detail_model.", "sem_linear.", "semantic_loss.", "detail_loss.", "head.")
        self.optional = (*training, *statistics)
        self._grid: Grid = (grid, grid)

    @property
    def branches(self) -> list[Any]:
        """The quantizers, first branch first."""
        return list(self.quantizes) if hasattr(self, "quantizes") else [self.quantize]

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The raster grids that the positions run through."""
        grids: tuple[Grid, ...] = self.branches[0].grids(self._grid)
        return grids

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, img_size, img_size) in [-1, 1]. pre_quant is (B, C, branches * L, 1), of one branch a map."""
        check_exactly(x.shape[2:], (self.fixed_size, self.fixed_size))
        rows = self.encoder(x).transpose(1, 2).unsqueeze(3)
        latent = self.quant_conv(rows)
        branches = [
            quantizer(part.reshape(len(x), -1, *self._grid))
            for quantizer, part in zip(self.branches, latent.chunk(len(self.branches), dim=2), strict=True)
        ]
        books = [t if t.ndim == 3 else t.unsqueeze(2) for t, _ in branches]
        tokens = torch.cat(books, dim=2)
        quantized = torch.cat([q for _, q in branches], dim=1)
        if len(branches) == 1:
            latent = latent.reshape(len(x), -1, *self._grid)
        return Encoded(tokens[..., 0] if tokens.shape[2] == 1 else tokens, pre_quant=latent, quantized=quantized)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions[, books]), bits of all branches for sign bits."""
        books = latent if latent.ndim == 3 else latent.unsqueeze(2)
        wanted = sum(math.prod(g) for g in self.grids(size))
        if books.shape[1:] != (wanted, len(self.alphabets)):
            raise VtbenchError(
                f"the tokens are {tuple(books.shape[1:])}, but this network has {wanted} positions "
                f"of {len(self.alphabets)}"
            )
        parts = books.chunk(len(self.branches), dim=2)
        codes = [q.lookup(part, self._grid) for q, part in zip(self.branches, parts, strict=True)]
        code = self.post_quant_conv(torch.cat(codes, dim=1).to(self.post_quant_conv.weight.dtype))
        out: Tensor = self.decoder(code.flatten(2).transpose(1, 2))
        return out
