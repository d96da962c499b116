"""UniFlow: InternViT's features in few channels, and a flow in pixels that paints every patch alone (arXiv:2510.10575).

ZhengrongYue/UniFlow @ e6322d0: uniflow/modeling_uniflow.py.

arch: in_channels, out_channels, image_size, pixel_mean, pixel_std, patch_size, latent_dim, encoder {width, layers,
heads, mlp, norm ("layer_norm" or "rms_norm"), norm_eps, qkv_bias, qk_norm}, bottleneck {hidden, activation} (null: the
latent is what the encoder gives), global_blocks {layers, heads, mlp_ratio, norm_eps}, flow_head {width, layers,
channels, steps, norm_eps, time_dim}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.mar import Head
from vtbench.adapters.networks.parts import flow, infer, sampling, statistics
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.patches import join
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.adapters.networks.parts.transformer import RMSNorm, check_heads, heads_of, merged
from vtbench.adapters.networks.parts.vit import Block, Mlp
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_HEAD = 64
"""Channels of a head of InternViT-300M."""
_TIMES = 1000
"""The head's time runs from 0 to this."""


class _Attention(nn.Module):
    """InternViT's; with `qk_norm` queries and keys are normalised over all heads together (modeling_uniflow.py:250)."""

    def __init__(self, width: int, heads: int, *, bias: bool, qk_norm: bool, eps: float) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)
        self.q_norm: nn.Module = RMSNorm(width, eps) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = RMSNorm(width, eps) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        parts = (heads_of(part, self.heads) for part in (self.q_norm(q), self.k_norm(k), v))
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(*parts)))
        return out


class _Layer(nn.Module):
    """x + attn(norm1 x) ls1, then x + mlp(norm2 x) ls2."""

    def __init__(self, width: int, heads: int, hidden: int, norm: str, **attention: Any) -> None:
        super().__init__()
        kind, eps = RMSNorm if norm == "rms_norm" else nn.LayerNorm, attention["eps"]
        self.norm1, self.norm2 = kind(width, eps=eps), kind(width, eps=eps)
        self.attn, self.mlp = _Attention(width, heads, **attention), Mlp(width, hidden)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1
        out: Tensor = x + self.mlp(self.norm2(x)) * self.ls2
        return out


class _Embeddings(nn.Module):
    """Class token first; the table of positions is made for `side` x `side` patches, which is what comes."""

    def __init__(self, colours: int, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + side**2, width))
        self.patch_embedding = nn.Conv2d(colours, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(x), -1, -1), patches], dim=1) + self.position_embedding


class _Narrow(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return out


class UniFlow(nn.Module):
    """Latents are (B, patches, latent_dim); the decoder starts from normal noise (B, patches, patch^2 colours)."""

    value_range = (0.0, 1.0)
    channel_axis = 2
    optional: tuple[str, ...] = ()
    alphabets: tuple[int, ...] = ()
    sampler_options = ("steps", "guidance", "schedule")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads of the encoder have 64 channels, the blocks' number stays."""
        if "embeddings.class_embedding" not in shapes or "flow_head.net.input_proj.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        width, arch["in_channels"], patch, _ = shapes["embeddings.patch_embedding.weight"]
        layer, head = "encoder.layers.0", "flow_head.net"
        arch.update(
            out_channels=arch["in_channels"],
            image_size=math.isqrt(shapes["embeddings.position_embedding"][1] - 1) * patch,
            patch_size=patch,
        )
        arch["encoder"].update(
            width=width,
            layers=infer.count(shapes, "encoder.layers.{i}."),
            heads=max(1, width // _HEAD),
            mlp=shapes[f"{layer}.mlp.fc1.weight"][0],
            norm="layer_norm" if f"{layer}.norm1.bias" in shapes else "rms_norm",
            qkv_bias=f"{layer}.attn.qkv.bias" in shapes,
            qk_norm=f"{layer}.attn.q_norm.weight" in shapes,
        )
        if "chal_proj.c_fc.weight" in shapes:
            arch["latent_dim"], hidden = shapes["chal_proj.c_proj.weight"]
            arch["bottleneck"] = {"hidden": hidden, "activation": "gelu"}
        else:
            arch.update(latent_dim=width, bottleneck=None)
        arch["global_blocks"]["layers"] = infer.count(shapes, "global_blocks.{i}.")
        flow_width, channels = shapes[f"{head}.input_proj.weight"]
        arch["flow_head"].update(
            width=flow_width,
            channels=channels,
            layers=infer.count(shapes, f"{head}.res_blocks.{{i}}."),
            time_dim=shapes[f"{head}.time_embed.mlp.0.weight"][1],
        )
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.colours, side, patch = c.integer("in_channels"), c.integer("image_size"), c.integer("patch_size")
        c.choice("out_channels", (self.colours,))
        if side % patch:
            raise VtbenchError(f"arch.image_size {side} is no multiple of patch_size {patch}")
        self.fixed_size, self.downsample, self.side = side, patch, side // patch
        if (pixels := statistics.of_arch(c, self.colours)) is None:
            raise VtbenchError("arch.pixel_mean and arch.pixel_std are null, but this network cannot do without them")
        self.statistics = pixels
        width = self._encoder(c.sub("encoder"))
        self._bottleneck(c, width)
        self._decoder(c, width)
        c.done()

    def _encoder(self, e: Config) -> int:
        width, heads, hidden = e.integer("width"), e.integer("heads"), e.integer("mlp")
        norm, eps = e.choice("norm", ("layer_norm", "rms_norm")), e.number("norm_eps")
        attention = {"bias": e.flag("qkv_bias"), "qk_norm": e.flag("qk_norm"), "eps": eps}
        self.embeddings = _Embeddings(self.colours, width, self.downsample, self.side)
        layers = nn.ModuleList(_Layer(width, heads, hidden, norm, **attention) for _ in range(e.integer("layers")))
        e.done()
        self.encoder = nn.ModuleDict({"layers": layers})
        return width

    def _bottleneck(self, c: Config, width: int) -> None:
        self.latent = c.integer("latent_dim", width)
        self.chal_proj: nn.Module = nn.Identity()
        self.chal_unproj: nn.Module = nn.Identity()
        if c.any("bottleneck") is None:
            if self.latent != width:
                raise VtbenchError(
                    f"arch.latent_dim is {self.latent}, but without a bottleneck it is the width {width}"
                )
            return
        b = c.sub("bottleneck")
        b.choice("activation", ("gelu",))
        hidden = b.integer("hidden")
        b.done()
        self.chal_proj, self.chal_unproj = _Narrow(width, hidden, self.latent), _Narrow(self.latent, hidden, width)

    def _decoder(self, c: Config, width: int) -> None:
        self.global_block_pos_embed = nn.Parameter(torch.zeros(1, self.side**2, width))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, self.side**2, width))
        g = c.sub("global_blocks")
        heads, hidden, eps = g.integer("heads"), int(width * g.number("mlp_ratio")), g.number("norm_eps")
        layers = g.integer("layers", at_least=0)
        self.global_blocks = nn.ModuleList(Block(width, heads, hidden, eps=eps) for _ in range(layers))
        h = c.sub("flow_head")
        h.choice("norm_eps", (1e-6,))
        channels = h.choice("channels", (self.colours * self.downsample**2,))
        self.steps, time = h.integer("steps"), h.integer("time_dim", at_least=2)
        net = Head(channels, width, h.integer("layers"), h.integer("width"), out=channels, time=time)
        g.done()
        h.done()
        self.flow_head = nn.ModuleDict({"net": net})

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The raster grid of the patches of an image of the one size."""
        check_exactly(size, (self.fixed_size, self.fixed_size))
        return ((self.side, self.side),)

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise of one image."""
        return (self.side**2, self.colours * self.downsample**2)

    def evaluations(self, *, steps: int | None = None, **_: Any) -> int:
        """Of the flow head for an image; a batch doubled for guidance counts once."""
        return self.steps if steps is None else steps

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, side, side) in [0, 1]."""
        self.grids((x.shape[2], x.shape[3]))
        tokens = self.embeddings(self.statistics.into(x))
        for layer in self.encoder["layers"]:  # type: ignore[union-attr]
            tokens = layer(tokens)
        return Encoded(latent_mean=self.chal_proj(tokens[:, 1:]))

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        steps: int | None = None,
        guidance: float = 1.0,
        schedule: str = "linear",
    ) -> Tensor:
        """latent (B, patches, latent_dim), noise as `noise_shape`; Euler's steps from time 0 (noise) to 1.

        guidance: 1 is none; another runs against a condition of zeros.
        """
        self.grids(size)
        if tuple(latent.shape[1:]) != (self.side**2, self.latent):
            raise VtbenchError(
                f"the latent is {tuple(latent.shape[1:])} (patches, channels), wanted {(self.side**2, self.latent)}"
            )
        cells = self.chal_unproj(latent) + self.global_block_pos_embed
        for block in self.global_blocks:
            cells = block(cells)
        condition = (cells + self.decoder_pos_embed).flatten(0, 1)
        times = [1 - time for time in flow.falling(schedule, self.evaluations(steps=steps))]
        head = self.flow_head["net"]

        def velocity(x: Tensor, time: float, step: int) -> Tensor:
            at = flow.moment(_TIMES * time, x)
            v: Tensor = head(x, at, condition)
            return v if guidance == 1.0 else sampling.guide(v, head(x, at, torch.zeros_like(condition)), guidance)

        rows = flow.euler(velocity, noise.to(condition.dtype).flatten(0, 1), times)
        pixels = join(rows.unflatten(0, (len(latent), -1)), self.downsample, *size)
        return sampling.finite(self.statistics.back(pixels), "UniFlow")
