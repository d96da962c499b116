"""GPSToken: Gaussians with features, placed by the picture's own detail, splatted and decoded (arXiv:2509.01109).

xtudbxk/GPSToken @ 372231d: models/{gpstoken, attnblock, vqvae}.py; where they start (datasets/adaptivegps.py) is
parts.regions, how they are drawn (gscuda) parts.splatting. A token is (sigma_x, sigma_y, rho, x, y, features): floats.

arch: in_channels, out_channels, decoder {ch, ch_mult, num_res_blocks, attn_resolutions, resolution, z_channels}, gps
{rois, layers, width, feature_channels, num, dmax, adaptive_weight, adaptive_min_size, render_size}.
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
from vtbench.adapters.networks.parts.clip import Attention
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Block, Conv, check_exactly, nominal_levels
from vtbench.adapters.networks.parts.regions import split
from vtbench.adapters.networks.parts.splatting import draw_bounded
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_GEOMETRY = 5
"""sigma_x, sigma_y, rho, x, y."""
_PIXELS = 128
"""Channels of the picture's features (gpstoken.py:19)."""
_HEADS = 8
_GROUPS, _EPS = 32, 1e-6


class _DeviationNormSilu(nn.GroupNorm):
    """GroupNorm that divides by (deviation + eps), then SiLU.

    Upstream's class for pictures in patches (vqvae.py:310-345), which spreads each patch's mean and deviation over the
    whole picture; of one patch that is this.
    """

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), self.num_groups, -1)
        deviation, mean = torch.std_mean(groups, dim=2, keepdim=True, unbiased=False)
        normed = ((groups - mean) / (deviation + self.eps)).reshape(x.shape)
        return F.silu(normed * self.weight[:, None, None] + self.bias[:, None, None])


class _Layer(nn.Module):
    """A weighted sum of the region's cells is added, then a pre-norm block over all Gaussians (attnblock.py)."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.roimlp = nn.Linear(cells, 1)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1 = Attention(width, _HEADS)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, cells: Tensor) -> Tensor:
        """x (B, N, width), cells (B, N, width, cells)."""
        x = x + self.roimlp(cells)[..., 0]
        h = self.ln1(x)
        x = x + self.attn1(h)
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


def _moved(start: Tensor, by: Tensor) -> Tensor:
    """sigmoid(logit(start) + by), of numbers in (0, 1)."""
    return torch.sigmoid(-torch.log(1.0 / start - 1.0) + by)


class GpsToken(nn.Module):
    """Latents are (B, num, 5 + feature_channels)."""

    value_range = (-1.0, 1.0)
    channel_axis = 2
    downsample: int | None = None
    alphabets: tuple[int, ...] = ()
    optional = ("preprocess_img.1.temb_proj.", "preprocess_img.2.temb_proj.")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; number of Gaussians and drawing are not in them, as in `like`."""
        if "attnblocks.0.roimlp.weight" not in shapes or "decoder.up.0.block.0.conv1.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        gps, decoder = arch["gps"], arch["decoder"]
        gps.update(
            rois=math.isqrt(shapes["attnblocks.0.roimlp.weight"][1]),
            layers=infer.count(shapes, "attnblocks.{i}."),
            width=shapes["roialign_layer.weight"][0],
            feature_channels=shapes["to_gps.1.weight"][0],
        )
        widths = [
            shapes[f"decoder.up.{i}.block.0.conv1.weight"][0] for i in range(infer.count(shapes, "decoder.up.{i}."))
        ]
        # The highest resolution's factor is one in every configuration that there is.
        decoder.update(ch=widths[0], ch_mult=[width // widths[0] for width in widths])
        decoder["num_res_blocks"] = infer.count(shapes, "decoder.up.0.block.{i}.") - 1
        decoder["z_channels"] = shapes["decoder.conv_in.weight"][1]
        at = [i for i in range(len(widths)) if f"decoder.up.{i}.attn.0.norm.weight" in shapes]
        decoder["attn_resolutions"] = [decoder["resolution"] // 2**i for i in at]
        arch.update(in_channels=shapes["preprocess_img.0.weight"][1], out_channels=shapes["decoder.conv_out.weight"][0])
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours = c.integer("in_channels")
        spec = _decoder(c.sub("decoder"), c.integer("out_channels"))
        g = c.sub("gps")
        self.cells, width, features = g.integer("rois"), g.integer("width"), g.integer("feature_channels")
        self.count, layers, self.reach = g.integer("num"), g.integer("layers"), g.number("dmax")
        self.weight, self.shortest = g.number("adaptive_weight"), g.integer("adaptive_min_size", at_least=2)
        height, breadth = g.integers("render_size", length=2)
        g.done()
        c.done()
        if features != spec.latent_channels:
            raise VtbenchError(
                f"a Gaussian carries {features} features, but the decoder takes {spec.latent_channels}: make "
                "gps.feature_channels and decoder.z_channels equal"
            )
        self.map, self.size = (height, breadth), (height * spec.factor, breadth * spec.factor)
        self.fixed_size: int | None = self.size[0] if height == breadth else None
        self.positions = self.count
        self.decoder = spec.decoder()
        self.preprocess_img = nn.Sequential(
            nn.Conv2d(colours, _PIXELS, 3, padding=1),
            *[Block(_PIXELS, _PIXELS, groups=_GROUPS, eps=_EPS, bias=True, on_output=False) for _ in range(2)],
        )
        self.roialign_layer = nn.Conv2d(_PIXELS, width, 1)
        self.gps_embed = nn.Embedding(1, width)
        self.attnblocks = nn.ModuleList(_Layer(width, self.cells**2) for _ in range(layers))
        self.gps_embed_layer = nn.Sequential(nn.Linear(_GEOMETRY, width), nn.GELU(), nn.Linear(width, width))
        self.to_gps = nn.ModuleList([nn.Linear(width, _GEOMETRY), nn.Linear(width, features)])

    def check(self, size: tuple[int, int]) -> None:
        """Raises VtbenchError unless `size` is the one that the decoder gives."""
        check_exactly(size, self.size)

    def start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where the Gaussians of every picture begin, (B, num, 5), and their regions, (B, num, 4) in [-1, 1]."""
        grey = (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]).float().cpu().numpy()
        pairs = [split(one, self.count, shortest=self.shortest, weight=self.weight) for one in grey]
        codes, boxes = (torch.stack([torch.from_numpy(pair[k]) for pair in pairs]).to(x) for k in (0, 1))
        return codes, boxes

    def encode(self, x: Tensor, *, init_gpscodes: Tensor | None = None, regions: Tensor | None = None) -> Encoded:
        """x: (B, colours, *size) in [-1, 1]; init_gpscodes, regions: what `start` gives, which is the default."""
        self.check((x.shape[2], x.shape[3]))
        if init_gpscodes is None or regions is None:
            init_gpscodes, regions = self.start(x)
        cells = self._cells(x, regions)
        h = self.gps_embed.weight[None] + self.gps_embed_layer(init_gpscodes)
        for block in self.attnblocks:
            h = block(h, cells)
        delta = self.to_gps[0](h)
        deviations = _moved(init_gpscodes[..., :2], delta[..., :2])
        others = 2.0 * _moved((1.0 + init_gpscodes[..., 2:]) / 2.0, delta[..., 2:]) - 1.0
        return Encoded(latent_mean=torch.cat([deviations, others, self.to_gps[1](h)], dim=2))

    def _cells(self, x: Tensor, boxes: Tensor) -> Tensor:
        """(B, num, width, cells): the picture's features in a grid of cells over every region."""
        from torchvision.ops import roi_align

        ends = boxes.new_tensor([x.shape[3] - 1, x.shape[2] - 1, x.shape[3] - 1, x.shape[2] - 1])
        pixels = list(ends * (boxes + 1) / 2.0)
        features = self.preprocess_img(x)
        # The operation is not there in half precision.
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        seen = roi_align(wide, [p.to(wide) for p in pixels], self.cells, sampling_ratio=-1, aligned=True)
        return self.roialign_layer(seen.to(features)).flatten(2).unflatten(0, (len(x), -1))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: (B, any number of Gaussians, 5 + features)."""
        self.check(size)
        if latent.ndim != 3 or latent.shape[2] != _GEOMETRY + self.to_gps[1].out_features:
            raise VtbenchError(
                f"the latent is {tuple(latent.shape)}, but must be (images, Gaussians, "
                f"{_GEOMETRY + self.to_gps[1].out_features})"
            )
        drawn = draw_bounded(latent[..., :3], latent[..., 3:5], latent[..., 5:], self.map, self.reach)
        out: Tensor = self.decoder(drawn)
        return out


def _decoder(c: Config, colours: int) -> Conv:
    """Latent-diffusion's decoder with upstream's norm; its attention keeps torch's."""
    multipliers = c.integers("ch_mult")
    at = c.integers("attn_resolutions", empty=True)
    spec = Conv(
        image_channels=colours,
        latent_channels=c.integer("z_channels"),
        width=c.integer("ch"),
        multipliers=multipliers,
        blocks=c.integer("num_res_blocks") + 1,
        attention=nominal_levels(c.integer("resolution"), len(multipliers), at, down=False),
        groups=_GROUPS,
        eps=_EPS,
        norm=_DeviationNormSilu,
    )
    c.done()
    return spec
