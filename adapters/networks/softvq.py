"""SoftVQ-VAE and MAETok: DINOv2-shaped transformers around a row of latent tokens (arXiv:2412.10958, 2502.03444).

Hhhhhhao/continuous_tokenizer @ 7cc3e96: modelling/tokenizer.py, modelling/quantizers/softvq.py,
modelling/modules/timm_vit/{timm_vit_models, vision_transformer, rope_utils, to_pixel}.py.

arch: image_size, base_image_size, in_channels, encoder and decoder {embed_dim, depth, num_heads, mlp_ratio, patch_size,
layer_scale, norm_eps}, num_latent_tokens, embed_dim, use_ape, use_rope, rope_mixed, rope_theta, decoder_class_token,
to_pixel ("linear", "conv", "siren"), quantizer (null: MAETok) {type "softvq", codebook_size, num_codebooks, tau,
l2_norm}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.transformer import rotate_pairs
from vtbench.adapters.networks.parts.vit import Block
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_COLOURS = 3
_OMEGA = 30.0
"""Frequency of the sine layers of the "siren" head (to_pixel.py:68-71)."""


class _Half(nn.Module):
    """What encoder and decoder share: timm's ViT over [cls | image | latents], and positions."""

    def __init__(self, c: Config, common: _Common, *, class_token: bool) -> None:
        super().__init__()
        self.width, heads, depth = c.integer("embed_dim"), c.integer("num_heads"), c.integer("depth")
        self.patch, eps = c.integer("patch_size"), c.number("norm_eps")
        hidden, layer_scale = int(self.width * c.number("mlp_ratio")), c.flag("layer_scale")
        c.done()
        if common.image % self.patch:
            raise VtbenchError(f"patches of {self.patch} pixels do not divide an image of {common.image}: change one")
        self.side, self.rope = common.image // self.patch, common.rope
        self.prefix, self.latents = int(class_token), common.latents
        self.latent_pos_embed = nn.Parameter(torch.zeros(1, common.latents, self.width))
        self.model = nn.Module()
        if class_token:
            self.model.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        # The table has a row for a class token whether or not there is one.
        self.model.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, self.width))
        # A decoder keeps the ViT's, and never uses it.
        self.model.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(_COLOURS, self.width, self.patch, stride=self.patch)})
        self.model.blocks = nn.ModuleList(
            Block(self.width, heads, hidden, eps=eps, layer_scale=layer_scale) for _ in range(depth)
        )
        self.model.norm = nn.LayerNorm(self.width, eps=eps)
        if self.rope:
            if self.width // heads % 4:
                raise VtbenchError(
                    f"{self.width} channels in {heads} heads: a head must be a multiple of 4 for use_rope"
                )
            self.freqs = nn.Parameter(torch.zeros(2, depth, self.width // 2))
            across, down = _places(common.base // self.patch)
            self.freqs_t_x: Tensor
            self.freqs_t_y: Tensor
            self.register_buffer("freqs_t_x", across)
            self.register_buffer("freqs_t_y", down)

    def placed(self, image: Tensor, *, table: bool) -> Tensor:
        """image (B, cells, width) behind its class token, with the learned positions if `table`."""
        if self.prefix:
            image = torch.cat([self.model.cls_token.expand(len(image), -1, -1), image], dim=1)
        return image + self.model.pos_embed if table else image

    def run(self, image: Tensor, latents: Tensor) -> Tensor:
        """The blocks and the norm over [image | latents]."""
        x = torch.cat([image, latents], dim=1)
        for layer, block in enumerate(self.model.blocks):  # type: ignore[arg-type]
            x = block(x, self._turn(layer) if self.rope else None)
        out: Tensor = self.model.norm(x)  # type: ignore[operator]
        return out

    def _turn(self, layer: int) -> Any:
        """Turns queries and keys of image cells alone (vision_transformer.py:112-136)."""
        across, down = self.freqs_t_x, self.freqs_t_y
        # The stored places belong to images of base_image_size (timm_vit_models.py:167).
        if len(across) != self.side**2:
            across, down = (t.to(self.freqs) for t in _places(self.side, self.freqs.device))
        # In float32 at least: half precision is too coarse for angles (rope_utils.py:22).
        wide = torch.promote_types(self.freqs.dtype, torch.float32)
        over, along = self.freqs[:, layer].to(wide)
        angles = across[:, None].to(wide) * over + down[:, None].to(wide) * along
        heads = self.model.blocks[layer].attn.heads  # type: ignore[index, union-attr]
        by_head = angles.unflatten(1, (heads, -1)).transpose(0, 1)
        cos, sin = by_head.cos().to(self.freqs), by_head.sin().to(self.freqs)
        return partial(_turn_cells, cos=cos, sin=sin, prefix=self.prefix)


def _places(side: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Column and row of every cell of a `side` x `side` grid, float32 (cells,)."""
    cells = torch.arange(side * side, dtype=torch.float32, device=device)
    return cells % side, torch.div(cells, side, rounding_mode="floor")


def _turn_cells(x: Tensor, *, cos: Tensor, sin: Tensor, prefix: int) -> Tensor:
    """x (B, heads, prefix + cells + latents, d) with its cells turned by the angles of cos, sin (heads, cells, d/2)."""
    end = prefix + cos.shape[1]
    return torch.cat([x[:, :, :prefix], rotate_pairs(x[:, :, prefix:end], cos, sin), x[:, :, end:]], dim=2)


class _Common:
    """What both halves read of the arch."""

    def __init__(self, c: Config) -> None:
        self.image, self.base = c.integer("image_size"), c.integer("base_image_size")
        # One linear layer paints patches whose last axis upstream fixes at three (to_pixel.py:84).
        c.choice("in_channels", (_COLOURS,))
        self.latents = c.integer("num_latent_tokens")
        self.rope = c.flag("use_rope")
        # The frequencies are stored: theta is where training started from.
        c.number("rope_theta", 100.0)
        if self.rope:
            # The axial form stops with an error upstream: it hands one position's angles to each layer (:179).
            c.choice("rope_mixed", (True,))
        else:
            c.unused(["rope_mixed"], "use_rope is false")
        # use_rope puts learned positions out of use, whatever use_ape says (:99).
        self.table = c.flag("use_ape") and not self.rope
        if not self.table and not self.rope:
            raise VtbenchError(
                "arch.use_ape and use_rope are both false, with which upstream cannot run: set one of them"
            )


class _Encoder(_Half):
    """(B, 3, H, W) -> (B, latents, width): the latent tokens after the blocks."""

    def __init__(self, c: Config, common: _Common) -> None:
        super().__init__(c, common, class_token=True)
        self.latent_tokens = nn.Parameter(torch.zeros(1, common.latents, self.width))

    def forward(self, x: Tensor) -> Tensor:
        cells = self.model.patch_embed["proj"](x).flatten(2).transpose(1, 2)  # type: ignore[index]
        latents = (self.latent_tokens + self.latent_pos_embed).expand(len(x), -1, -1)
        # The learned positions are added with use_rope too: nothing tells this half not to (vision_transformer.py:796).
        return self.run(self.placed(cells, table=True), latents)[:, -self.latents :]


class _Decoder(_Half):
    """(B, latents, width) -> (B, 3, H, W): mask tokens at all cells attend to the latents, and are painted."""

    def __init__(self, c: Config, common: _Common, *, class_token: bool, head: str) -> None:
        super().__init__(c, common, class_token=class_token)
        if common.table and not class_token:
            raise VtbenchError(
                "arch.decoder_class_token is false, but must be true without use_rope: the table of positions has a "
                "row for a class token"
            )
        self.table = common.table
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.to_pixel = _Pixels(head, self.width, self.patch, self.side)

    def forward(self, z: Tensor) -> Tensor:
        masks = self.mask_token.expand(len(z), self.side**2, -1)
        out = self.run(self.placed(masks, table=self.table), z + self.latent_pos_embed)
        picture: Tensor = self.to_pixel(out[:, self.prefix : self.prefix + self.side**2])
        return picture


class _Sine(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(_OMEGA * self.linear(x))


class _Pixels(nn.Module):
    """(B, cells, width) -> (B, 3, H, W) in one of three ways (to_pixel.py:30-122); keys under `model`."""

    def __init__(self, head: str, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.head, self.patch, self.side = head, patch, side
        if head == "linear":
            self.model: nn.Module = nn.Linear(width, _COLOURS * patch * patch)
        elif head == "siren":
            # It paints image_size * 3 values a cell, so that a picture needs as many cells as pixels a side.
            if side * side != side * patch:
                raise VtbenchError(f"to_pixel 'siren' needs as many cells as pixels a side, not {side * side} cells")
            self.model = nn.Sequential(_Sine(width, 2 * width), _Sine(2 * width, side * patch * _COLOURS))
        else:
            if patch != 16:
                raise VtbenchError(f"to_pixel 'conv' doubles four times: patch_size must be 16, not {patch}")
            layers: list[nn.Module] = [nn.Unflatten(2, (side, side)), nn.Conv2d(width, 128, 1), nn.ReLU()]
            for wide, narrow in ((128, 64), (64, 32), (32, 16), (16, _COLOURS)):
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1), nn.ReLU()]
            self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        if self.head == "conv":
            x = x.transpose(1, 2)
        out: Tensor = self.model(x)
        if self.head == "siren":
            return out.reshape(len(x), _COLOURS, self.side * self.patch, -1)
        if self.head == "linear":
            # Values of a patch are (row, column, colour).
            cells = out.reshape(len(x), self.side, self.side, self.patch, self.patch, _COLOURS)
            out = cells.permute(0, 5, 1, 3, 2, 4).reshape(len(x), _COLOURS, self.side * self.patch, -1)
        return out


class SoftVQ(nn.Module):
    """Every row becomes softmax(<row, codes> / tau) times the codes; book k serves the k-th part of the SEQUENCE.

    l2_norm: rows and codes are normalised first (quantizers/softvq.py:31-66). Key: embedding (books, size, dim).
    """

    def __init__(self, books: int, size: int, dim: int, *, tau: float, l2_norm: bool) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(books, size, dim))
        self.tau, self.l2_norm = tau, l2_norm

    def forward(self, z: Tensor) -> Tensor:
        """z, and what comes back: (B, L, dim)."""
        codes: Tensor = self.embedding
        parts = z.unflatten(1, (len(codes), -1))
        if self.l2_norm:
            codes, parts = F.normalize(codes, dim=-1), F.normalize(parts, dim=-1)
        shares = torch.softmax(torch.einsum("bkld,knd->bkln", parts, codes) / self.tau, dim=-1)
        return torch.einsum("bkln,knd->bkld", shares, codes).flatten(1, 2)


class ContinuousTokenizer(nn.Module):
    """Latents are (B, L, embed_dim): those behind the soft quantizer, or the encoder's own where there is none."""

    value_range = (-1.0, 1.0)
    downsample: int | None = None
    alphabets: tuple[int, ...] = ()
    channel_axis = 2
    optional = ("repa_model.", "projection.", "encoder.mask_token", "quantize.codebook_used")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width, and tau is not in them."""
        codes = shapes.get("quantize.embedding")
        if "decoder.latent_pos_embed" not in shapes or (codes is None) != (like["quantizer"] is None):
            return None
        arch, rope = copy.deepcopy(dict(like)), "encoder.freqs" in shapes
        for half in ("encoder", "decoder"):
            width, _, patch, _ = shapes[f"{half}.model.patch_embed.proj.weight"]
            part, block = arch[half], f"{half}.model.blocks.0"
            part["num_heads"] = max(1, width * part["num_heads"] // part["embed_dim"])
            part.update(embed_dim=width, patch_size=patch, layer_scale=f"{block}.ls1.gamma" in shapes)
            part["depth"] = infer.count(shapes, f"{half}.model.blocks.{{i}}.")
            part["mlp_ratio"] = shapes[f"{block}.mlp.fc1.weight"][0] / width
        patch = arch["encoder"]["patch_size"]
        arch["image_size"] = math.isqrt(shapes["encoder.model.pos_embed"][1] - 1) * patch
        if rope:
            arch["base_image_size"] = math.isqrt(shapes["encoder.freqs_t_x"][0]) * patch
        arch.update(use_rope=rope, rope_mixed=rope, use_ape=not rope, embed_dim=shapes["quant_conv.weight"][0])
        arch["num_latent_tokens"] = shapes["decoder.latent_pos_embed"][1]
        arch["decoder_class_token"] = "decoder.model.cls_token" in shapes
        names = {"weight": "linear", "1.weight": "conv", "0.linear.weight": "siren"}
        heads = [head for name, head in names.items() if f"decoder.to_pixel.model.{name}" in shapes]
        arch["to_pixel"] = heads[0] if heads else arch["to_pixel"]
        if codes is not None:
            arch["quantizer"].update(num_codebooks=codes[0], codebook_size=codes[1])
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        common = _Common(c)
        self.fixed_size: int | None = common.image
        self.positions, dim = common.latents, c.integer("embed_dim")
        self.encoder = _Encoder(c.sub("encoder"), common)
        head = c.choice("to_pixel", ("linear", "conv", "siren"))
        class_token = c.flag("decoder_class_token")
        self.decoder = _Decoder(c.sub("decoder"), common, class_token=class_token, head=head)
        self.quant_conv, self.post_quant_conv = nn.Linear(self.encoder.width, dim), nn.Linear(dim, self.decoder.width)
        self.quantize: SoftVQ | None = None
        if c.any("quantizer") is not None:
            q = c.sub("quantizer")
            q.choice("type", ("softvq",))
            books, tau = q.integer("num_codebooks"), q.number("tau")
            if self.positions % books or not tau > 0:
                raise VtbenchError(
                    f"{books} codebooks must divide {self.positions} latent tokens, and tau ({tau}) be above 0"
                )
            self.quantize = SoftVQ(books, q.integer("codebook_size"), dim, tau=tau, l2_norm=q.flag("l2_norm"))
            q.done()
        c.done()

    def _check(self, size: tuple[int, int]) -> None:
        check_exactly(size, (self.fixed_size, self.fixed_size))

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, 3, image_size, image_size) in [-1, 1]."""
        self._check((x.shape[2], x.shape[3]))
        latent = self.quant_conv(self.encoder(x))
        if self.quantize is None:
            return Encoded(latent_mean=latent)
        return Encoded(pre_quant=latent, quantized=self.quantize(latent))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: (B, L, embed_dim)."""
        self._check(size)
        if latent.shape[1] != self.positions:
            raise VtbenchError(f"there are {latent.shape[1]} latent tokens, but an image has {self.positions}")
        out: Tensor = self.decoder(self.post_quant_conv(latent))
        return out
