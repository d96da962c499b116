"""VQ-KD: a codebook trained to give back a teacher's features (BEiT v2, arXiv:2208.06366; arXiv:2411.04406).

magic-research/vector_quantization @ 3650302: vq/algorithms/vqkd/{autoencoder, connector}.py,
vq/algorithms/vq/{quantizers, distances}.py, vq/algorithms/vq/callbacks/normalize.py.

arch: in_channels, image_size, pixel_mean and pixel_std (null: pixels in [-1, 1] as they are), encoder {patch_size,
width, layers, heads, mlp_ratio, out_channels, norm_eps, head ("linear-tanh-linear")}, post_encode and pre_decode
("identity" or "conv"), decoder {width, layers, heads, mlp_ratio, in_channels, out_channels, out_patch, norm_eps, output
("teacher features" or "pixels")}, quantizer {type, codebook_size, embed_dim, distance ("cosine"), codes}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import archs, infer, statistics
from vtbench.adapters.networks.parts.beit import Tower
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.quantizers import Grid, most_similar, one_book, to_map, to_rows
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_HEAD = 64
"""Channels of a head in the released configurations (768 in 12)."""
_FEATURES = "teacher features"


class _Vit(Tower):
    """A tower whose patch tokens go through a norm and Linear, Tanh, Linear: (B, C, H, W) -> (B, out, h, w)."""

    def __init__(self, c: Config, channels: int, out: int, *, patch: int, native: int) -> None:
        width, eps = c.integer("width"), c.number("norm_eps")
        super().__init__(
            channels,
            width=width,
            layers=c.integer("layers"),
            heads=c.integer("heads"),
            hidden=int(width * c.number("mlp_ratio")),
            patch=patch,
            native=native,
            eps=eps,
        )
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out))
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        rows = self.task_layer(self.fc_norm(self.tokens(x)[:, 1:]))
        return rows.transpose(1, 2).unflatten(2, (x.shape[2] // self.patch, x.shape[3] // self.patch))


def _connector(kind: str, width: int, out: int, key: str) -> nn.Module:
    """What lies between a transformer and the codebook."""
    if kind == "identity":
        if width != out:
            raise VtbenchError(f"arch.{key} is 'identity', but stands between {width} and {out} channels: give 'conv'")
        return nn.Identity()
    layers = (nn.Conv2d(width, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, out, 3, padding=1))
    return nn.ModuleDict({"_sequential": nn.Sequential(*layers)})


def _connected(connector: nn.Module, x: Tensor) -> Tensor:
    if isinstance(connector, nn.ModuleDict):
        x = connector["_sequential"](x)
    return x


class VqKd(nn.Module):
    """Codes are chosen by cosine, and the normalised row is decoded; pre_quant is not normalised.

    Upstream writes normalised rows back into the book before it encodes, so that a trained file holds them.
    """

    channel_axis = 1
    optional: tuple[str, ...] = ()
    arch_defaults: ClassVar[Mapping[str, Any]] = {"pixel_mean": None, "pixel_std": None}

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads are of 64 channels, as upstream's are."""
        if "_encoder.cls_token" not in shapes or "_quantizer._embedding.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        _, arch["in_channels"], patch, _ = shapes["_encoder.patch_embed.proj.weight"]
        arch["image_size"] = math.isqrt(shapes["_encoder.pos_embed"][1] - 1) * patch
        for half in ("encoder", "decoder"):
            width = shapes[f"_{half}.cls_token"][2]
            arch[half].update(
                width=width,
                layers=infer.count(shapes, f"_{half}.blocks.{{i}}."),
                heads=max(1, width // _HEAD),
                mlp_ratio=shapes[f"_{half}.blocks.0.mlp.fc1.weight"][0] / width,
            )
        arch["encoder"].update(patch_size=patch, out_channels=shapes["_encoder.task_layer.2.weight"][0])
        infer.book(shapes, arch["quantizer"], "_quantizer._embedding.weight")
        for key in ("post_encode", "pre_decode"):
            arch[key] = "conv" if f"_{key}._sequential.0.weight" in shapes else "identity"
        out, decoder = shapes["_decoder.task_layer.2.weight"][0], arch["decoder"]
        decoder["in_channels"] = shapes["_decoder.patch_embed.proj.weight"][1]
        if out == arch["in_channels"] * patch**2:
            decoder.update(out_channels=arch["in_channels"], out_patch=patch, output="pixels")
        else:
            decoder.update(out_channels=out // decoder["out_patch"] ** 2)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours, self.fixed_size = c.integer("in_channels"), c.integer("image_size")
        self.statistics = statistics.of_arch(c, colours)
        self.value_range = (-1.0, 1.0) if self.statistics is None else (0.0, 1.0)
        e, d, q = c.sub("encoder"), c.sub("decoder"), c.sub("quantizer")
        self.downsample, encoded = e.integer("patch_size"), e.integer("out_channels")
        e.choice("head", ("linear-tanh-linear",))
        if self.fixed_size % self.downsample:
            raise VtbenchError(f"arch.image_size {self.fixed_size} is no multiple of patch_size {self.downsample}")
        native = self.fixed_size // self.downsample
        self._encoder = _Vit(e, colours, encoded, patch=self.downsample, native=native)
        q.choice("type", ("vq",))
        q.choice("distance", ("cosine",))
        q.choice("codes", ("rows normalised in place before encoding",))
        size, dim = q.integer("codebook_size"), q.integer("embed_dim")
        self._quantizer = nn.ModuleDict({"_embedding": nn.Embedding(size, dim)})
        decoded, self.out, self.patch = d.integer("in_channels"), d.integer("out_channels"), d.integer("out_patch")
        features = d.choice("output", (_FEATURES, "pixels")) == _FEATURES
        if not features and (self.out, self.patch) != (colours, self.downsample):
            raise VtbenchError(
                f"arch.decoder gives {self.out} channels in patches of {self.patch}, but pixels are {colours} channels "
                f"in patches of {self.downsample}"
            )
        self.no_pixels = archs.TO_FEATURES if features else None
        self._decoder = _Vit(d, decoded, self.out * self.patch**2, patch=1, native=native)
        kinds = ("identity", "conv")
        self._post_encode = _connector(c.choice("post_encode", kinds), encoded, dim, "post_encode")
        self._pre_decode = _connector(c.choice("pre_decode", kinds), dim, decoded, "pre_decode")
        for part in (e, d, q, c):
            part.done()
        self.alphabets = (size,)

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The raster grid of an image's codes; raises VtbenchError unless it is a square of whole patches.

        Upstream takes rows for columns where they differ (autoencoder.py:268-283).
        """
        if size[0] != size[1] or size[0] % self.downsample or not size[0]:
            raise VtbenchError(
                f"the image is {size[0]} x {size[1]}, but this network takes squares, multiples of {self.downsample}"
            )
        return ((size[0] // self.downsample, size[1] // self.downsample),)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, side, side) in `value_range`."""
        self.grids((x.shape[2], x.shape[3]))
        pixels = x if self.statistics is None else self.statistics.into(x)
        latent = _connected(self._post_encode, self._encoder(pixels))
        tokens = most_similar(F.normalize(to_rows(latent), dim=-1), self._codes()).reshape(len(x), -1)
        return Encoded(tokens, pre_quant=latent, quantized=self._rows(tokens, (latent.shape[2], latent.shape[3])))

    def _codes(self) -> Tensor:
        return F.normalize(self._quantizer["_embedding"].weight, dim=-1)

    def _rows(self, tokens: Tensor, grid: Grid) -> Tensor:
        return to_map(self._codes()[tokens.reshape(-1)], len(tokens), grid)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, h w); pixels (B, colours, *size), or the teacher's features (B, out, h, w)."""
        (grid,), tokens = self.grids(size), one_book(latent)
        if tokens.shape[1] != grid[0] * grid[1]:
            raise VtbenchError(
                f"there are {tokens.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs "
                f"{grid[0] * grid[1]}"
            )
        values = self._decoder(_connected(self._pre_decode, self._rows(tokens, grid)))
        # Values of a patch are (row, column, channel).
        cells = values.unflatten(1, (self.patch, self.patch, self.out)).permute(0, 3, 4, 1, 5, 2)
        out = cells.flatten(4, 5).flatten(2, 3)
        if self.no_pixels is None and self.statistics is not None:
            out = self.statistics.back(out)
        return out.contiguous()
