"""BSQ-ViT (arXiv:2406.07548) and its sibling with a codebook (Leech lattice: arXiv:2512.14697).

zhaoyue-zephyrus/bsq-vit: transcoder/models/{bsqvit, transformer}.py, transcoder/models/quantizer/{bsq, vq}.py.

arch: in_channels, encoder and decoder {image_size, patch_size (a side, or [height, width]), width, layers, heads,
mlp_ratio, ln_pre, ln_post, ls_init_value (null: no LayerScale), norm_eps; decoder: dim_ffn_output, null for none},
quantizer {type "bsq" or "vq", bits, group_size, codebook_size, embed_dim, l2_norm, post_q_l2_norm}, logit_laplace,
clamp_range.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.clip import Block
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.quantizers import VQ, Grid, Quantizer, SignBits
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

LAPLACE_RANGE = (0.1, 0.9)
"""What pixels are squeezed into where the decoder gives a logit-Laplace distribution (logit_laplace_loss.py)."""


class _Vit(nn.Module):
    """Positions on one grid, ln_pre, blocks, ln_post. Both norms can be off, but for the encoder's ln_post (148)."""

    def __init__(self, c: Config, *, always_post: bool) -> None:
        super().__init__()
        self.image, self.patch = _pair(c, "image_size"), _pair(c, "patch_size")
        if self.image[0] % self.patch[0] or self.image[1] % self.patch[1]:
            raise VtbenchError(
                f"patches of {self.patch[0]} x {self.patch[1]} do not divide an image of {self.image[0]} x "
                f"{self.image[1]}: change one of them"
            )
        self.grid: Grid = (self.image[0] // self.patch[0], self.image[1] // self.patch[1])
        self.width, eps = c.integer("width"), c.number("norm_eps")
        self.pre, post = c.flag("ln_pre", True), c.flag("ln_post", True) or always_post
        heads, hidden = c.integer("heads"), int(self.width * c.number("mlp_ratio"))
        # The number is where training starts from; a checkpoint has its own.
        scaled = c.any("ls_init_value") is not None and c.number("ls_init_value") >= 0.0
        self.positional_embedding = nn.Parameter(torch.zeros(math.prod(self.grid), self.width))
        self.ln_pre = nn.LayerNorm(self.width, eps=eps) if self.pre else nn.Identity()
        blocks = nn.ModuleList(
            Block(self.width, heads, hidden, eps=eps, layer_scale=scaled) for _ in range(c.integer("layers"))
        )
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_post = nn.LayerNorm(self.width, eps=eps) if post else nn.Identity()

    def through(self, x: Tensor) -> Tensor:
        """(B, positions, width) -> the same."""
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer["resblocks"]:  # type: ignore[union-attr]
            x = block(x)
        out: Tensor = self.ln_post(x)
        return out


class _Encoder(_Vit):
    def __init__(self, c: Config, colours: int) -> None:
        super().__init__(c, always_post=True)
        c.done()
        self.conv1 = nn.Linear(colours * math.prod(self.patch), self.width, bias=not self.pre)

    def forward(self, x: Tensor) -> Tensor:
        """(B, colours, H, W) -> (B, positions, width); rows of a patch are (colours, height, width)."""
        (h, w), (p, q) = self.grid, self.patch
        cells = x.reshape(len(x), -1, h, p, w, q).permute(0, 2, 4, 1, 3, 5)
        return self.through(self.conv1(cells.reshape(len(x), h * w, -1)))


class _Decoder(_Vit):
    def __init__(self, c: Config, colours: int) -> None:
        super().__init__(c, always_post=False)
        hidden = None if c.any("dim_ffn_output") is None else c.integer("dim_ffn_output")
        c.done()
        self.ffn = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(self.width, hidden), nn.Tanh())
        self.conv_out = nn.Linear(hidden or self.width, colours * math.prod(self.patch))

    def forward(self, x: Tensor) -> Tensor:
        """(B, positions, width) -> (B, colours, H, W)."""
        (h, w), (p, q) = self.grid, self.patch
        cells: Tensor = self.conv_out(self.ffn(self.through(x)))
        return cells.reshape(len(x), h, w, -1, p, q).permute(0, 3, 1, 4, 2, 5).reshape(len(x), -1, h * p, w * q)


class BsqVit(nn.Module):
    """Keys: encoder., decoder., quant_embed, post_quant_embed, and quantize.embedding of the codebook's sibling.

    Bits are signs of channels: tokens (B, positions, bits), bit c = channel c. Upstream numbers them from the highest
    bit, in float32, so that its own index is wrong beyond 24 bits (quantizer/bsq.py:153).
    """

    channel_axis = 2
    int_buffers = ("quantize.basis", "quantize.group_basis")
    optional: tuple[str, ...] = ()

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours, laplace = c.integer("in_channels"), c.flag("logit_laplace", False)
        # Upstream clamps its pictures to it: the range of the pixels that the network was trained on.
        low, high = self._clamp_range(c)
        self.laplace, self.value_range = laplace, LAPLACE_RANGE if laplace else (low, high)
        self.colours = colours
        self.encoder = _Encoder(c.sub("encoder"), colours)
        self.decoder = _Decoder(c.sub("decoder"), colours * (2 if laplace else 1))
        quantizer, width = self._quantizer(c.sub("quantizer"))
        c.done()
        self._bottleneck: list[Quantizer] = [quantizer]
        if isinstance(quantizer, VQ):
            self.quantize = quantizer
        self.quant_embed = nn.Linear(self.encoder.width, width)
        self.post_quant_embed = nn.Linear(width, self.decoder.width)
        self.alphabets = quantizer.alphabets
        if (self.encoder.grid, self.encoder.image) != (self.decoder.grid, self.decoder.image):
            raise VtbenchError("encoder and decoder have images or grids of different sizes: give them the same")
        height, width = self.encoder.image
        self.fixed_size = height if height == width else None
        self.downsample = self.encoder.patch[0]

    @staticmethod
    def _clamp_range(c: Config) -> tuple[float, float]:
        value = c.any("clamp_range", (0, 1))
        if not isinstance(value, list | tuple) or list(value) not in ([0, 1], [-1, 1]):
            raise VtbenchError(f"arch.clamp_range is {value!r}, but must be [0, 1] or [-1, 1]: the range of the pixels")
        return float(value[0]), float(value[1])

    @staticmethod
    def _quantizer(q: Config) -> tuple[Quantizer, int]:
        """(quantizer, its channels)."""
        kind, width = q.choice("type", ("bsq", "vq")), q.integer("embed_dim")
        l2_norm = q.flag("l2_norm", False)
        if kind == "vq":
            q.unused(("bits", "group_size", "post_q_l2_norm"), "type is 'vq', which has a codebook")
            quantizer: Quantizer = VQ(q.integer("codebook_size"), width, l2_norm=l2_norm)
        else:
            # l2_norm moves the latent to the sphere, which leaves the signs; group_size groups bits for the loss alone.
            bits, group = q.integer("bits", width), q.integer("group_size", 1)
            q.unused(["codebook_size"], "type is 'bsq', whose codes are the signs of the channels")
            if bits != width or bits % group:
                raise VtbenchError(
                    f"{bits} bits in groups of {group} do not go with embed_dim {width}: one bit a channel"
                )
            quantizer = SignBits(bits, scale=bits**-0.5 if q.flag("post_q_l2_norm", False) else 1.0)
        q.done()
        return quantizer, width

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The one raster grid; raises VtbenchError for another size than the network's."""
        check_exactly(size, self.encoder.image)
        return (self.encoder.grid,)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, H, W) in `value_range`; pre_quant and quantized are (B, positions, channels)."""
        self.grids((x.shape[2], x.shape[3]))
        rows = self.quant_embed(self.encoder(x))
        tokens, quantized = self._bottleneck[0](rows.transpose(1, 2).unsqueeze(3))
        return Encoded(tokens, pre_quant=rows, quantized=quantized.squeeze(3).transpose(1, 2))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions[, bits]); returns (B, colours, H, W) in `value_range`, unclamped."""
        (grid,) = self.grids(size)
        books = latent.unsqueeze(2) if latent.ndim == 2 else latent
        if tuple(books.shape[1:]) != (math.prod(grid), len(self.alphabets)):
            raise VtbenchError(
                f"the tokens are {tuple(books.shape[1:])}, but this network has {math.prod(grid)} positions of "
                f"{len(self.alphabets)}"
            )
        codes = self._bottleneck[0].lookup(books, grid).flatten(2).transpose(1, 2)
        out: Tensor = self.decoder(self.post_quant_embed(codes.to(self.post_quant_embed.weight.dtype)))
        # Of a logit-Laplace distribution the mean comes first, then the logarithm of its width.
        return out[:, : self.colours].sigmoid() if self.laplace else out

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes: square images, heads of 64 channels; the rest as in `like`."""
        if "post_quant_embed.weight" not in shapes or "encoder.conv1.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        patch = math.isqrt(shapes["encoder.conv1.weight"][1] // arch["in_channels"])
        for half in ("encoder", "decoder"):
            side = math.isqrt(shapes[f"{half}.positional_embedding"][0])
            width = shapes[f"{half}.positional_embedding"][1]
            first = f"{half}.transformer.resblocks.0"
            arch[half].update(
                image_size=side * patch,
                patch_size=patch,
                width=width,
                layers=infer.count(shapes, f"{half}.transformer.resblocks.{{i}}."),
                heads=max(1, width // 64),
                mlp_ratio=shapes[f"{first}.mlp.c_fc.weight"][0] / width,
                ln_pre=f"{half}.ln_pre.weight" in shapes,
                ln_post=f"{half}.ln_post.weight" in shapes,
                ls_init_value=1e-5 if f"{first}.ls_1.gamma" in shapes else None,
            )
        ffn = shapes.get("decoder.ffn.0.weight")
        arch["decoder"]["dim_ffn_output"] = None if ffn is None else ffn[0]
        width, rows = shapes["quant_embed.weight"][0], shapes.get("quantize.embedding.weight")
        q = arch["quantizer"]
        if (rows is None) != (q["type"] == "bsq"):
            return None
        q.update(embed_dim=width, **({"bits": width, "group_size": 1} if rows is None else {"codebook_size": rows[0]}))
        return arch


def _pair(c: Config, key: str) -> tuple[int, int]:
    """A side, or [height, width]."""
    if isinstance(c.any(key), list | tuple):
        height, width = c.integers(key, length=2)
    else:
        height = width = c.integer(key)
    return height, width
