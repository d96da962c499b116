"""PUT's P-VQVAE: patches through an MLP, two codebooks, a convolutional decoder (arXiv:2205.05076, arXiv:2404.00513).

liuqk3/PUT @ 30df86e: image_synthesis/modeling/codecs/image_codec/patch_vqgan.py. Made for inpainting: patches that are
not wholly known take codes of the second book, and the decoder can paste features of the known pixels (its reference
branch). From tokens alone neither happens.

Upstream's first ReLU of every residual block changes its input in place, so that the skip adds relu(x).
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
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.quantizers import Grid, nearest, one_book, to_map, to_rows
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

TWO_BOOKS = "vq, two books: unmasked then masked"
_TOP = 64
"""Channels at full resolution, doubled with every halving (patch_vqgan.py:905-925)."""


class _Residual(nn.Module):
    """relu(x) + narrow MLP of it, whose layers a subclass names."""

    def __init__(self, key: str, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.key = key
        self.add_module(key, nn.Sequential(nn.ReLU(), first, nn.ReLU(), second))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(self.key)(x) + F.relu(x)
        return out


def _linear(width: int, bottleneck: int) -> _Residual:
    return _Residual("layers", nn.Linear(width, width // bottleneck), nn.Linear(width // bottleneck, width))


def _conv(width: int, bottleneck: int) -> _Residual:
    narrow = width // bottleneck
    return _Residual("conv", nn.Conv2d(width, narrow, 3, padding=1), nn.Conv2d(narrow, width, 1))


class _Encoder(nn.Module):
    """(B, C, H, W) -> (B, out, H / stride, W / stride); no patch sees another."""

    def __init__(self, c: Config, colours: int) -> None:
        super().__init__()
        c.choice("type", ("patch mlp",))
        self.stride, width, self.out = c.integer("stride"), c.integer("width"), c.integer("out_channels")
        blocks, bottleneck = c.integer("res_blocks", at_least=0), c.integer("bottleneck")
        c.done()
        self.pre_layers = nn.Sequential(nn.Linear(colours * self.stride**2, width))
        self.res_layers = nn.Sequential(*(_linear(width, bottleneck) for _ in range(blocks)))
        self.post_layers = nn.Sequential(nn.ReLU(), nn.Linear(width, self.out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[2] // self.stride, x.shape[3] // self.stride)
        rows = F.unfold(x, self.stride, stride=self.stride).transpose(1, 2)
        rows = self.post_layers(self.res_layers(self.pre_layers(rows)))
        out: Tensor = rows.transpose(1, 2).unflatten(2, grid)
        return out


class _Up(nn.Module):
    """ReLU, then a doubling: `deconv`, or interpolation and `conv`."""

    def __init__(self, width: int, out: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "deconv":
            self.deconv = nn.ConvTranspose2d(width, out, 4, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        if self.kind == "deconv":
            return self.deconv(x)  # type: ignore[no-any-return]
        return self.conv(F.interpolate(x, scale_factor=2.0, mode=self.kind))  # type: ignore[no-any-return]


class _Down(nn.Module):
    """ReLU, then a halving `conv`."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.relu(x))
        return out


class _Reference(nn.Module):
    """The masked picture -> {height: map}, at every size that the decoder passes.

    plain: halvings are bare convolutions, with a ReLU after every layer; else they have one before and residual blocks
    between them, whose first ReLU has changed the map that was kept before they ran.
    """

    def __init__(self, colours: int, widths: list[int], blocks: int, bottleneck: int, *, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        layers: list[nn.Module] = [nn.Conv2d(colours, widths[0], 3, padding=1)]
        for width, out in pairwise(widths):
            layers += [_conv(width, bottleneck) for _ in range(blocks)]
            layers.append(nn.Conv2d(width, out, 4, stride=2, padding=1) if plain else _Down(width, out))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        kept, layers = {}, list(self.layers)
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            x = layer(x)
            if not isinstance(layer, _Residual):
                kept[x.shape[2]] = F.relu(x) if isinstance(following, _Residual) and not self.plain else x
            if self.plain:
                x = F.relu(x)
        return kept


class _Decoder(nn.Module):
    """Codes (B, in, h, w) -> (B, C, h stride, w stride)."""

    def __init__(self, c: Config, colours: int) -> None:
        super().__init__()
        c.choice("type", ("conv",))
        self.stride, width, self.inner = c.integer("stride"), c.integer("width"), c.integer("in_channels")
        blocks, bottleneck = c.integer("res_blocks", at_least=0), c.integer("bottleneck")
        after, kind = (
            c.integer("res_blocks_after_upsample", 0, at_least=0),
            c.choice("upsample", ("deconv", "nearest", "bilinear")),
        )
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise VtbenchError(
                f"arch.decoder.stride is {self.stride}, but must be a power of two, as every stage doubles"
            )
        widths = [_TOP * 2**i for i in range(self.stride.bit_length() - 1)] + [width]
        self.pre_layers = nn.Sequential(nn.Conv2d(self.inner, width, 3, padding=1))
        self.res_layers = nn.Sequential(*(_conv(width, bottleneck) for _ in range(blocks)))
        layers: list[nn.Module] = []
        for out, wide in zip(widths[-2::-1], widths[:0:-1], strict=True):
            layers += [_Up(wide, out, kind), *(_conv(out, bottleneck) for _ in range(after))]
        self.up_layers = nn.Sequential(*layers)
        self.post_layers = nn.Sequential(nn.ReLU(), nn.Conv2d(_TOP, colours, 3, padding=1))
        # Both have their defaults upstream where there is no branch.
        self.smooth = c.integer("smooth_mask_kernel", 0, at_least=0)
        plain = c.choice("reference_downsample", ("conv", "downsample"), "downsample") == "conv"
        self.encoder: _Reference | None = None
        if c.flag("reference_branch", False):
            self.encoder = _Reference(colours, widths, after, bottleneck, plain=plain)
        c.done()

    def forward(self, x: Tensor, picture: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """picture (B, C, H, W), its unknown pixels black, and mask (B, 1, H, W), 1 = known: side information."""
        x = self.res_layers(self.pre_layers(x))
        kept = None if self.encoder is None or picture is None else self.encoder(picture)
        for layer in self.up_layers:
            if isinstance(layer, _Up) and kept is not None and mask is not None:
                x = self._pasted(x, kept, self._smoothed(F.interpolate(mask, x.shape[2:], mode="nearest")))
            x = layer(x)
        if kept is not None and mask is not None:
            x = self._pasted(x, kept, mask)
        out: Tensor = self.post_layers(x)
        return out

    @staticmethod
    def _pasted(x: Tensor, kept: dict[int, Tensor], mask: Tensor) -> Tensor:
        return x * (1 - mask) + kept[x.shape[2]] * mask

    def _smoothed(self, mask: Tensor) -> Tensor:
        """Only where the mean of a window is at least 0.8, if there is a window (patch_vqgan.py:949-960)."""
        if self.smooth < 2:
            return mask
        mean = F.avg_pool2d(mask, self.smooth, stride=1)
        mean = F.interpolate(mean, size=mask.shape[2:], mode="bilinear", align_corners=True)
        return mean * (mean >= 0.8).to(mean.dtype)


class _Quantizer(nn.Module):
    """One table: rows below `unmasked` for patches that are wholly known, the others for the rest."""

    def __init__(self, q: Config) -> None:
        super().__init__()
        q.choice("type", (TWO_BOOKS,))
        q.choice("l2_norm", (False,), False)
        size, self.dim = q.integer("codebook_size"), q.integer("embed_dim")
        self.size, self.known = size, q.integer("unmasked", size)
        if self.known > size:
            raise VtbenchError(f"arch.quantizer.unmasked is {self.known}, more than the table's {size} rows")
        # A running average keeps its table as a buffer of this very name.
        if q.flag("ema"):
            self.register_buffer("embedding", torch.zeros(size, self.dim))
        else:
            self.embedding = nn.Embedding(size, self.dim)
        q.done()

    @property
    def rows(self) -> Tensor:
        table = self.embedding
        return table.weight if isinstance(table, nn.Embedding) else table

    def forward(self, z: Tensor, known: Tensor | None) -> Tensor:
        """z (B, dim, h, w), known bool (B, h w) or None for all -> ids (B, h w)."""
        flat = to_rows(z)
        tokens = nearest(flat, self.rows[: self.known])
        if known is not None and self.known < self.size:
            others = nearest(flat, self.rows[self.known :]) + self.known
            tokens = torch.where(known.flatten(), tokens, others)
        return tokens.reshape(len(z), -1)

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        return to_map(F.embedding(tokens.reshape(-1), self.rows), len(tokens), grid)


class Put(nn.Module):
    """arch: in_channels, out_channels, pixel_mean, pixel_std (null: the network speaks [-1, 1]), encoder {type, stride,
    width, res_blocks, bottleneck, out_channels}, decoder {type, stride, width, in_channels, res_blocks, bottleneck,
    res_blocks_after_upsample, upsample, reference_branch, reference_downsample, smooth_mask_kernel}, quantizer {type,
    codebook_size, unmasked, embed_dim, l2_norm, ema}.
    """

    fixed_size: int | None = None
    optional = ("quantize.cluster_size", "quantize.embedding_avg")
    channel_axis = 1

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; colours' statistics and the size of the first book stay."""
        if "encoder.res_layers.0.layers.1.weight" not in shapes or "decoder.pre_layers.0.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        e, d, q = arch["encoder"], arch["decoder"], arch["quantizer"]
        colours = shapes["decoder.post_layers.1.weight"][0]
        width, inside = shapes["encoder.pre_layers.0.weight"]
        stride = math.isqrt(inside // colours)
        arch.update(in_channels=colours, out_channels=colours)
        blocks = "encoder.res_layers.{i}."
        e.update(
            stride=stride,
            width=width,
            res_blocks=infer.count(shapes, blocks),
            bottleneck=width // shapes["encoder.res_layers.0.layers.1.weight"][0],
            out_channels=shapes["encoder.post_layers.1.weight"][0],
        )
        stages = max(1, stride.bit_length() - 1)
        deconv, reference = "decoder.up_layers.0.deconv.weight" in shapes, "decoder.encoder.layers.0.weight" in shapes
        plain = "decoder.encoder.layers.{}.weight".format(infer.count(shapes, "decoder.encoder.layers.{i}.") - 1)
        d.update(
            stride=stride,
            width=shapes["decoder.pre_layers.0.weight"][0],
            in_channels=shapes["decoder.pre_layers.0.weight"][1],
            res_blocks=infer.count(shapes, "decoder.res_layers.{i}."),
            res_blocks_after_upsample=infer.count(shapes, "decoder.up_layers.{i}.") // stages - 1,
            upsample="deconv" if deconv else d["upsample"] if d["upsample"] != "deconv" else "nearest",
            reference_branch=reference,
            reference_downsample=("conv" if plain in shapes else "downsample") if reference else None,
        )
        table = "quantize.embedding" if "quantize.embedding" in shapes else "quantize.embedding.weight"
        infer.book(shapes, q, table)
        q.update(ema=table == "quantize.embedding", unmasked=min(q["unmasked"] or q["codebook_size"], shapes[table][0]))
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.encoder = _Encoder(c.sub("encoder"), c.integer("in_channels"))
        self.decoder = _Decoder(c.sub("decoder"), c.integer("out_channels"))
        q = c.sub("quantizer")
        self.quantize = _Quantizer(q)
        mean, deviation = _statistics(c, "pixel_mean"), _statistics(c, "pixel_std")
        c.done()
        if (mean is None) != (deviation is None) or (deviation is not None and not all(v > 0 for v in deviation)):
            raise VtbenchError(
                "arch.pixel_mean and arch.pixel_std come together, three numbers each, the latter above 0"
            )
        if self.encoder.stride != self.decoder.stride:
            raise VtbenchError(
                f"the encoder's stride is {self.encoder.stride} and the decoder's {self.decoder.stride}: the picture "
                "would come back in another size, so give both the same"
            )
        self.quant_conv = nn.Conv2d(self.encoder.out, self.quantize.dim, 1)
        self.post_quant_conv = nn.Conv2d(self.quantize.dim, self.decoder.inner, 1)
        self.downsample = self.encoder.stride
        self.value_range = (-1.0, 1.0) if mean is None else (0.0, 1.0)
        for name, values in (("mean", mean or [0.0] * 3), ("deviation", deviation or [1.0] * 3)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)
        # Without a mask every patch is wholly known.
        self.alphabets = (self.quantize.known,)

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        check_size(*size, self.downsample)
        return ((size[0] // self.downsample, size[1] // self.downsample),)

    def encode(self, x: Tensor, *, mask: Tensor | None = None) -> Encoded:
        """x: (B, C, H, W) in `value_range`; mask (B, 1, H, W), 1 = known: which book a patch takes its code of."""
        ((h, w),) = self.grids((x.shape[2], x.shape[3]))
        latent = self.quant_conv(self.encoder((x - self.mean) / self.deviation))
        known = None if mask is None else F.max_pool2d((mask != 1).to(x.dtype), self.downsample).flatten(1) == 0
        tokens = self.quantize(latent, known)
        return Encoded(tokens, pre_quant=latent, quantized=self.quantize.lookup(tokens, (h, w)))

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        masked_image: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """latent: tokens (B, h w). masked_image and mask: pixels that are known without them, for the reference branch;
        no codec has them."""
        ((h, w),), tokens = self.grids(size), one_book(latent)
        if tokens.shape[1] != h * w:
            raise VtbenchError(
                f"there are {tokens.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs {h * w}"
            )
        if (masked_image is None) != (mask is None):
            raise VtbenchError("masked_image and mask come together: give both or neither")
        if mask is not None and self.decoder.encoder is None:
            raise VtbenchError(
                "this decoder has no reference branch (arch.decoder.reference_branch): leave out the mask"
            )
        picture = None if masked_image is None else (masked_image - self.mean) / self.deviation
        out = self.decoder(self.post_quant_conv(self.quantize.lookup(tokens, (h, w))), picture, mask)
        return out * self.deviation + self.mean  # type: ignore[no-any-return]


def _statistics(c: Config, key: str) -> list[float] | None:
    value = c.any(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise VtbenchError(f"arch.{key} is {value!r}, but must be three numbers or null")
    return [float(v) for v in value]
