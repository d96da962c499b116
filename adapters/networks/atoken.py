"""AToken: one transformer autoencoder of pictures, videos and 3-D, here of pictures and clips (arXiv:2509.14476).

apple/ml-atoken @ 3f5afdc: atoken_inference/atoken_wrapper.py, and in its folder model autoencoder_kl.py, utils.py,
transformer/blocks.py, attention/modules.py, finite_scaler_quantize.py. Patches are some frames deep: behind a picture
come frames of zero, mid grey, and of the frames that come back the first is the picture. Clips are windows of 16 frames
that do not see each other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.fsq import FSQ
from vtbench.adapters.networks.parts.positions import rotary
from vtbench.adapters.networks.parts.transformer import (
    RMSNorm,
    check_heads,
    heads_of,
    merged,
    rotate_pairs,
    tanh_gelu,
)
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

MEAN = "diagonal gaussian, mean taken"
POSITIONS = "learned 16x16 table resized (bilinear, antialias) plus 4-D rotary"
_TABLE = 16
"""Side of the table of positions."""
_WINDOW = 16
"""Frames that are encoded together (autoencoder_kl.py:167)."""
_THETA = 10000.0**0.125
"""Frequency i of an axis is 10000^(-i / head_dim), not to an eighth of it as usual (attention/modules.py:27)."""

Grid = tuple[int, int, int]
"""Patches in time, height and width."""


class _HeadNorm(nn.Module):
    """Each head scaled to length sqrt(dim), times its `gamma`."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, heads, N, dim)."""
        wide = x if x.dtype == torch.float64 else x.float()
        scaled = F.normalize(wide, dim=-1) * self.gamma[:, None] * self.gamma.shape[1] ** 0.5
        return scaled.to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.q_rms_norm: nn.Module = _HeadNorm(heads, width // heads) if normed else nn.Identity()
        self.k_rms_norm: nn.Module = _HeadNorm(heads, width // heads) if normed else nn.Identity()

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.to_qkv(x).chunk(3, dim=-1))
        q, k = rotate_pairs(self.q_rms_norm(q), *turn), rotate_pairs(self.k_rms_norm(k), *turn)
        out: Tensor = self.to_out(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class _Mlp(nn.Module):
    """Keys mlp.0 and mlp.2."""

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({"0": nn.Linear(width, hidden, bias=bias), "2": nn.Linear(hidden, width, bias=bias)})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp["2"](tanh_gelu(self.mlp["0"](x)))
        return out


class _Block(nn.Module):
    def __init__(self, norms: tuple[nn.Module, nn.Module], attention: _Attention, mlp: _Mlp) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attn, self.mlp = attention, mlp

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.norm1(x), turn)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Half(nn.Module):
    """Rows (B, t h w, inside) -> (B, t h w, width): a table of positions for height and width, rotary ones for all."""

    def __init__(self, c: Config, inside: int) -> None:
        super().__init__()
        self.width, heads, hidden = c.integer("width"), c.integer("heads"), c.integer("mlp")
        bias, self.rms, normed = c.flag("bias"), c.flag("rms_norm"), c.flag("qk_rms_norm")
        self.eps, depth = c.number("norm_eps"), c.integer("layers")
        c.choice("position", (POSITIONS,))
        c.done()
        check_heads(self.width, heads)
        self.head = self.width // heads
        if self.head % 8:
            raise VtbenchError(f"a head is {self.head} channels wide, which four axes of pairs do not divide")
        self.pos_embedder = nn.ModuleDict({"position_embedding": nn.Embedding(_TABLE**2, self.width)})
        self.input_layer = nn.Linear(inside, self.width, bias=bias)
        self.blocks = nn.ModuleList(
            _Block(
                (self.norm(), self.norm()),
                _Attention(self.width, heads, bias=bias, normed=normed),
                _Mlp(self.width, hidden, bias=bias),
            )
            for _ in range(depth)
        )

    def norm(self, *, affine: bool = True) -> nn.Module:
        if self.rms:
            return RMSNorm(self.width, self.eps)
        return nn.LayerNorm(self.width, eps=self.eps, elementwise_affine=affine)

    def positions(self, grid: Grid) -> Tensor:
        """(t h w, width)."""
        table: Tensor = self.pos_embedder["position_embedding"].weight  # type: ignore[assignment]
        square = table.to(torch.promote_types(table.dtype, torch.float32)).t().unflatten(1, (_TABLE, _TABLE))[None]
        resized = F.interpolate(square, size=grid[1:], mode="bilinear", antialias=True)
        return resized[0].flatten(1).t().to(table.dtype).repeat(grid[0], 1)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = self.input_layer(x) + self.positions(grid)
        places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (*grid, 1))).reshape(-1, 4)
        turn = rotary(places, (self.head // 4,) * 4, _THETA, x)
        for block in self.blocks:
            x = block(x, turn)
        return x


class _Encoder(_Half):
    def __init__(self, c: Config, inside: int) -> None:
        super().__init__(c, inside)
        self.post_layernorm = self.norm()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        out: Tensor = self.post_layernorm(super().forward(x, grid))
        return out


class _Decoder(_Half):
    def __init__(self, c: Config, inside: int, out: int) -> None:
        super().__init__(c, inside)
        self.out_norm, self.out_layer = self.norm(affine=False), nn.Linear(self.width, out, bias=False)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        out: Tensor = self.out_layer(self.out_norm(super().forward(x, grid)))
        return out


class AToken(nn.Module):
    """arch: patch_size (frames, rows, columns), in_channels, out_channels (numbers of a patch), latent_channels,
    encoder and decoder {width, layers, heads, mlp, bias, rms_norm, qk_rms_norm, position, norm_eps}, posterior,
    quantizer {type, books, levels, eps, feature_dim, chunk_size} or null.

    Latents are (B, t h w, channels). The head that pools them for understanding is left out.
    """

    value_range = (-1.0, 1.0)
    fixed_size: int | None = None
    optional = ("encoder.head.",)
    channel_axis = 2

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads where no norm shows them, the depth of a patch and the levels
        of a quantizer stay as in `like`."""
        table = "encoder.pos_embedder.position_embedding.weight"
        if table not in shapes or "decoder.out_layer.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        inside, latent = shapes["encoder.input_layer.weight"][1], shapes["decoder.input_layer.weight"][1]
        frames = arch["patch_size"][0]
        side = math.isqrt(inside // (3 * frames))
        arch.update(
            patch_size=[frames, side, side],
            in_channels=inside,
            out_channels=shapes["decoder.out_layer.weight"][0],
            latent_channels=latent,
        )
        for half in ("encoder", "decoder"):
            c, block = arch[half], f"{half}.blocks.0"
            width, gamma = shapes[f"{half}.input_layer.weight"][0], f"{block}.attn.q_rms_norm.gamma"
            c["heads"] = shapes[gamma][0] if gamma in shapes else max(1, width * c["heads"] // c["width"])
            c.update(
                width=width,
                layers=infer.count(shapes, f"{half}.blocks.{{i}}."),
                mlp=shapes[f"{block}.mlp.mlp.0.weight"][0],
                bias=f"{half}.input_layer.bias" in shapes,
                rms_norm=f"{block}.norm1.bias" not in shapes,
                qk_rms_norm=gamma in shapes,
            )
        first, last = arch["encoder"], arch["decoder"]
        if last["qk_rms_norm"] and not first["qk_rms_norm"] and first["width"] == last["width"]:
            first["heads"] = last["heads"]
        q = arch["quantizer"]
        if q is not None:
            q["feature_dim"] = latent
            q["books"] = latent // len(q["levels"]) or 1
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.patch = c.integers("patch_size", length=3)
        frames, rows, columns = self.patch
        if 0 in self.patch or rows != columns or _WINDOW % frames:
            raise VtbenchError(
                f"arch.patch_size is {list(self.patch)}, but must be frames that divide {_WINDOW}, and a square"
            )
        inside, out, self.channels = (c.integer(k) for k in ("in_channels", "out_channels", "latent_channels"))
        self.colours, rest = divmod(inside, math.prod(self.patch))
        # A decoder may give fewer frames than the encoder took.
        self.frames_back, more = divmod(out, max(1, self.colours) * rows * columns)
        if rest or more or not self.colours or not self.frames_back:
            raise VtbenchError(
                f"arch.in_channels {inside} and out_channels {out} are no whole patches of {rows} x {columns} pixels"
            )
        self.encoder = _Encoder(c.sub("encoder"), inside)
        self.proj = nn.Linear(self.encoder.width, 2 * self.channels, bias=False)
        self.decoder = _Decoder(c.sub("decoder"), self.channels, out)
        self.fsq, self.books = self._quantizer(c)
        c.done()
        self.downsample, self.frames = rows, frames
        self.alphabets = () if self.fsq is None else self.fsq.alphabets * self.books

    def _quantizer(self, c: Config) -> tuple[FSQ | None, int]:
        if c.any("quantizer") is None:
            c.choice("posterior", (MEAN,))
            return None, 0
        c.unused(["posterior"], "there is a quantizer")
        q = c.sub("quantizer")
        q.choice("type", ("fsq",))
        # More than one chunk would make more positions of one cell (atoken_wrapper.py:166), which nobody released.
        q.choice("chunk_size", (1,), 1)
        books, levels, eps = q.integer("books"), q.integers("levels"), q.number("eps", 1e-3)
        width = q.integer("feature_dim", self.channels)
        q.done()
        if not books * len(levels) == width == self.channels:
            raise VtbenchError(
                f"{books} books of {len(levels)} levels make {books * len(levels)} channels, feature_dim is {width}, "
                f"latent_channels {self.channels}: all three must agree"
            )
        return FSQ(levels, eps=eps), books

    def grids(self, size: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The one raster grid of a frame of (…, height, width) pixels."""
        check_size(size[-2], size[-1], self.downsample)
        return ((size[-2] // self.downsample, size[-1] // self.downsample),)

    def posterior_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise that a sample of the posterior takes, for one image."""
        return (math.prod(self.grids(size)[0]), self.channels)

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: pictures (B, C, H, W) or clips (B, C, T, H, W) in [-1, 1]; noise: for a sample of the posterior.

        Of a clip the frames behind the last whole patch are left out, as upstream does.
        """
        ((h, w),) = self.grids(x.shape)
        clip = x[:, :, None] if x.ndim == 4 else x
        missing = self.frames - clip.shape[2]
        clip = F.pad(clip, (0, 0, 0, 0, 0, missing)) if missing > 0 else clip
        clip = clip[:, :, : clip.shape[2] // self.frames * self.frames]
        mean, logvar = torch.cat([self._encoded(part, h, w) for part in clip.split(_WINDOW, dim=2)], dim=1).chunk(
            2, dim=2
        )
        if self.fsq is None:
            return Encoded(latent_mean=mean if noise is None else mean + torch.exp(0.5 * logvar) * noise)
        rows = mean.unflatten(2, (self.books, -1))
        tokens, codes = self.fsq(rows.to(torch.promote_types(rows.dtype, torch.float32)))
        tokens = tokens[..., 0] if self.books == 1 else tokens
        return Encoded(tokens, pre_quant=mean, quantized=codes.flatten(2).to(mean.dtype))

    def _encoded(self, clip: Tensor, h: int, w: int) -> Tensor:
        """One window -> (B, t h w, 2 channels)."""
        frames, rows, columns = self.patch
        cells = clip.unflatten(4, (w, columns)).unflatten(3, (h, rows)).unflatten(2, (-1, frames))
        patches = cells.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)
        out: Tensor = self.proj(self.encoder(patches, (cells.shape[2], h, w)))
        return out

    def decode(self, latent: Tensor, *, size: Sequence[int]) -> Tensor:
        """latent: tokens (B, t h w[, books]) or latents (B, t h w, channels); size: (H, W) of pictures, (T, H, W) of
        clips."""
        ((h, w),), picture = self.grids(size), len(size) == 2
        if latent.shape[1] % (h * w) or not latent.shape[1] or (picture and latent.shape[1] != h * w):
            raise VtbenchError(
                f"there are {latent.shape[1]} tokens for {'an image' if picture else 'frames'} of {size[-2]} x "
                f"{size[-1]}, which need{'s' if picture else ''} {h * w}{'' if picture else ' for every patch in time'}"
            )
        rows = self._looked_up(latent)
        windows = rows.split(_WINDOW // self.frames * h * w, dim=1)
        clip = torch.cat([self._decoded(window, h, w) for window in windows], dim=2)
        return clip[:, :, 0] if picture else clip

    def _looked_up(self, latent: Tensor) -> Tensor:
        """(B, N, channels)."""
        if latent.is_floating_point():
            if self.fsq is not None:
                raise VtbenchError("this network has a quantizer (arch.quantizer): it decodes tokens")
            if latent.ndim != 3 or latent.shape[2] != self.channels:
                raise VtbenchError(f"latents are {tuple(latent.shape)}, but this network has {self.channels} channels")
            return latent
        if self.fsq is None:
            raise VtbenchError("this autoencoder has no quantizer (arch.quantizer is null): it decodes latents")
        tokens = latent[..., None] if latent.ndim == 2 else latent
        if tokens.shape[2] != self.books:
            raise VtbenchError(f"there are tokens of {tokens.shape[2]} books, but this network has {self.books}")
        return self.fsq.lookup(tokens, self.proj.weight.dtype).flatten(2)

    def _decoded(self, rows: Tensor, h: int, w: int) -> Tensor:
        """One window (B, t h w, channels) -> (B, C, frames, H, W)."""
        grid = (rows.shape[1] // (h * w), h, w)
        patches = (
            self.decoder(rows, grid).unflatten(2, (self.frames_back, *self.patch[1:], self.colours)).unflatten(1, grid)
        )
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6).flatten(4, 5).flatten(2, 3)  # type: ignore[no-any-return]
