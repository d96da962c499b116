"""MingTok: a continuous latent, expanded to features of meaning and from there to pixels (arXiv:2510.06590).

inclusionAI/Ming-UniVision @ 3bbdd2f: mingtok/modeling_mingtok.py, mingtok/vision_transformer/vision_transformer.py and
layers/. Line numbers are vision_transformer.py's.

arch: in_channels, out_channels, image_size, latent_dim, scaling_factor and mean (of the latents that generators see),
norm_eps, head_dim, qkv_bias, encoder {patch_size, width, layers, heads, ffn, ffn_hidden}, semantic_decoder {width,
layers, heads, ffn, ffn_hidden, in_projection, causal}, pixel_decoder {patch_size, width, layers, heads, ffn,
ffn_hidden, causal}. ffn: "mlp", "swiglu" or "swiglufused" (the same), "identity".
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
from vtbench.adapters.networks.parts.beit import OFFSET
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.dinov2 import resized_table
from vtbench.adapters.networks.parts.patches import from_channels_last
from vtbench.adapters.networks.parts.transformer import heads_of, merged
from vtbench.adapters.networks.parts.vit import Mlp
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)))
        return out


class _SwiGlu(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class _Block(nn.Module):
    """x + attn(norm1 x), then x + mlp(norm2 x)."""

    def __init__(self, width: int, heads: int, mlp: nn.Module, eps: float, *, bias: bool, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn, self.mlp = _Attention(width, heads, bias=bias, causal=causal), mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Stack(nn.Module):
    """`layers` blocks, all in the one chunk in which upstream keeps them (blocks.0.{i})."""

    def __init__(self, c: Config, shared: Mapping[str, Any], *, causal: bool) -> None:
        super().__init__()
        self.width, heads, head = c.integer("width"), c.integer("heads"), shared["head"]
        if heads * head != self.width:
            raise VtbenchError(f"{heads} heads of {head} channels are not the width {self.width}: change one of them")
        eps, bias = shared["eps"], shared["bias"]
        blocks = [
            _Block(self.width, heads, _feed_forward(c, self.width), eps, bias=bias, causal=causal)
            for _ in range(c.integer("layers"))
        ]
        self.blocks = nn.ModuleList([nn.Sequential(*blocks)])

    def run(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks[0](x)
        return out


def _feed_forward(c: Config, width: int) -> nn.Module:
    kind = c.choice("ffn", ("mlp", "swiglu", "swiglufused", "identity"))
    if kind == "identity":
        c.unused(["ffn_hidden"], "ffn is 'identity'")
        return nn.Identity()
    hidden = c.integer("ffn_hidden")
    return Mlp(width, hidden) if kind == "mlp" else _SwiGlu(width, hidden)


def _shares(wide: int, narrow: int, what: str) -> int:
    """How many channels of the wider stand for one of the narrower."""
    if wide % narrow:
        raise VtbenchError(f"{what} goes from {wide} to {narrow} channels, of which one must divide the other")
    return wide // narrow


class _Encoder(_Stack):
    """(B, colours, side, side) -> (B, patches + 1, latent), the class token last."""

    def __init__(self, c: Config, shared: Mapping[str, Any], colours: int, side: int, latent: int) -> None:
        super().__init__(c, shared, causal=False)
        self.patch = c.integer("patch_size")
        c.done()
        if side % self.patch:
            raise VtbenchError(f"arch.image_size {side} is no multiple of encoder.patch_size {self.patch}")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // self.patch) ** 2 + 1, self.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(colours, self.width, self.patch, stride=self.patch)})
        self.out_norm, self.out_proj = nn.LayerNorm(self.width, eps=shared["eps"]), nn.Linear(self.width, latent)
        self.group = _shares(self.width, latent, "the encoder's shortcut")

    def forward(self, x: Tensor) -> Tensor:
        cells = self.patch_embed["proj"](x)
        table = resized_table(self.pos_embed[:, :-1], (cells.shape[2], cells.shape[3]), offset=OFFSET)
        last = (self.cls_token + self.pos_embed[:, -1:]).expand(len(x), -1, -1)
        tokens = self.run(torch.cat([cells.flatten(2).transpose(1, 2) + table, last], dim=1))
        short = tokens.unflatten(2, (-1, self.group)).mean(dim=-1)
        out: Tensor = short + self.out_proj(F.gelu(self.out_norm(tokens)))
        return out


class _SemanticDecoder(_Stack):
    """(B, patches + 1, latent) -> features of the patches (B, patches, width); the class token, last, is left out."""

    def __init__(self, c: Config, shared: Mapping[str, Any], latent: int) -> None:
        super().__init__(c, shared, causal=c.flag("causal"))
        self.in_proj: nn.Module | None = None
        if c.flag("in_projection"):
            self.in_proj, self.copies = nn.Linear(latent, self.width), _shares(self.width, latent, "in_projection")
        elif latent != self.width:
            raise VtbenchError(f"without in_projection latent_dim {latent} must be the width {self.width}")
        c.done()
        self.norm = nn.LayerNorm(self.width, eps=shared["eps"])

    def forward(self, z: Tensor) -> Tensor:
        tokens = z if self.in_proj is None else self.in_proj(z) + z.repeat_interleave(self.copies, dim=-1)
        out: Tensor = self.norm(self.run(tokens))
        return out[:, :-1]


class _PixelDecoder(_Stack):
    """Cells (B, n, width) -> their pixels (B, n, patch^2 colours)."""

    def __init__(self, c: Config, shared: Mapping[str, Any], colours: int) -> None:
        super().__init__(c, shared, causal=c.flag("causal"))
        self.patch = c.integer("patch_size")
        c.done()
        self.norm = nn.LayerNorm(self.width, eps=shared["eps"])
        self.head = nn.Linear(self.width, self.patch**2 * colours)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.run(x)))
        return out


class MingTok(nn.Module):
    """Latents are (B, patches + 1, latent_dim): those of the patches and, last, that of the class token."""

    value_range = (-1.0, 1.0)
    channel_axis = 2
    downsample: int | None = None
    alphabets: tuple[int, ...] = ()
    optional = ("target_backbone.",)
    """The teacher of training, which upstream leaves out of what it loads (modeling_mingtok.py:120)."""

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes, all but scaling_factor and mean, which move no picture."""
        if "low_level_encoder.cls_token" not in shapes or "sem_to_pix.weight" not in shapes:
            return None
        arch, head = copy.deepcopy(dict(like)), like["head_dim"]
        paths = {"encoder": "low_level_encoder", "semantic_decoder": "semantic_decoder"}
        for part, path in {**paths, "pixel_decoder": "pixel_decoder"}.items():
            block, width = f"{path}.blocks.0.0", shapes[f"{path}.blocks.0.0.norm1.weight"][0]
            arch[part].update(width=width, heads=width // head, layers=infer.count(shapes, f"{path}.blocks.0.{{i}}."))
            if f"{block}.mlp.w3.weight" in shapes:
                arch[part].update(ffn="swiglufused", ffn_hidden=shapes[f"{block}.mlp.w3.weight"][1])
            elif f"{block}.mlp.fc1.weight" in shapes:
                arch[part].update(ffn="mlp", ffn_hidden=shapes[f"{block}.mlp.fc1.weight"][0])
            else:
                arch[part].update(ffn="identity", ffn_hidden=None)
        _, colours, patch, _ = shapes["low_level_encoder.patch_embed.proj.weight"]
        arch["encoder"]["patch_size"] = patch
        arch["semantic_decoder"]["in_projection"] = "semantic_decoder.in_proj.weight" in shapes
        arch["pixel_decoder"]["patch_size"] = math.isqrt(shapes["pixel_decoder.head.weight"][0] // colours)
        arch.update(
            in_channels=colours,
            out_channels=colours,
            image_size=math.isqrt(shapes["low_level_encoder.pos_embed"][1] - 1) * patch,
            latent_dim=shapes["low_level_encoder.out_proj.weight"][0],
            qkv_bias="low_level_encoder.blocks.0.0.attn.qkv.bias" in shapes,
        )
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.colours, self.fixed_size = c.integer("in_channels"), c.integer("image_size")
        c.choice("out_channels", (self.colours,))
        self.latent = c.integer("latent_dim")
        self.scaling, self.mean = c.number("scaling_factor"), c.number("mean")
        if not (math.isfinite(self.scaling) and self.scaling and math.isfinite(self.mean)):
            raise VtbenchError(f"arch.scaling_factor is {self.scaling:g} and mean {self.mean:g}: they scale no latent")
        shared = {"eps": c.number("norm_eps"), "head": c.integer("head_dim"), "bias": c.flag("qkv_bias")}
        self.low_level_encoder = _Encoder(c.sub("encoder"), shared, self.colours, self.fixed_size, self.latent)
        self.semantic_decoder = _SemanticDecoder(c.sub("semantic_decoder"), shared, self.latent)
        self.pixel_decoder = _PixelDecoder(c.sub("pixel_decoder"), shared, self.colours)
        c.done()
        self.multiple = self.low_level_encoder.patch
        self.ratio = _shares(self.multiple, self.pixel_decoder.patch, "a patch")
        inner = self.pixel_decoder.width * self.ratio**2
        self.sem_to_pix = nn.Linear(self.semantic_decoder.width, inner)
        self.positions = (self.fixed_size // self.multiple) ** 2 + 1

    def _side(self, size: tuple[int, int]) -> int:
        """Patches along a side of an image; raises VtbenchError unless it is a square of whole patches."""
        if size[0] != size[1] or size[0] % self.multiple or not size[0]:
            raise VtbenchError(
                f"the image is {size[0]} x {size[1]}, but this network takes squares, multiples of {self.multiple}"
            )
        return size[0] // self.multiple

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, side, side) in [-1, 1]."""
        self._side((x.shape[2], x.shape[3]))
        return Encoded(latent_mean=(self.low_level_encoder(x) - self.mean) / self.scaling)

    def semantics(self, latent: Tensor) -> Tensor:
        """Features (B, patches, width) that understanding reads and pixels are painted from."""
        out: Tensor = self.semantic_decoder(latent * self.scaling + self.mean)
        return out

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent (B, patches + 1, latent_dim)."""
        side = self._side(size)
        if tuple(latent.shape[1:]) != (side**2 + 1, self.latent):
            raise VtbenchError(
                f"the latent is {tuple(latent.shape[1:])} (positions, channels), wanted {(side**2 + 1, self.latent)}"
            )
        # Channels of a feature are (row, column, channel) of the finer cells in its patch.
        inner = self.sem_to_pix(self.semantics(latent)).unflatten(2, (self.ratio, self.ratio, -1))
        fine = inner.unflatten(1, (side, side)).permute(0, 1, 3, 2, 4, 5).flatten(1, 4)
        grid = (side * self.ratio, side * self.ratio)
        return from_channels_last(self.pixel_decoder(fine), self.pixel_decoder.patch, grid)
