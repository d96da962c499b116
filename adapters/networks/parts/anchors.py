"""Learned anchors refined into Gaussians by looking at a map: GaussianToken's embedding.

ChrisDong-THU/GaussianToken @ 8337223 gstk/modules/gaussianembed/: gaussian_embed, deformable_module, ffn_module,
lifter_module, position_embed, refine_module. An anchor is (x, y, rotation, scales, opacity where there is one,
feature), all but the feature as logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts.clip import Attention
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.deformable import DeformableAttention, cell_centres
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.types.errors import VtbenchError

_GROUPS = 32
_CLAMP = 9.21024
"""Logits are clamped to this before the sigmoid (misc.py: safe_sigmoid)."""
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
_XY, _ROTATION, _SCALE, _OPACITY = slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)
"""Entries of an anchor; the feature follows."""


@dataclass
class Geometry:
    """Where Gaussians stand and how they lie."""

    means: Tensor
    """(B, N, 2): x, y in the range that the arch states, usually [-1, 1]."""
    scales: Tensor
    """(B, N, 2): deviations in cells of the map along the Gaussian's own axes."""
    rotations: Tensor
    """(B, N, 1) in 0 … pi."""
    opacities: Tensor | None = None
    """(B, N, 1) in [0, 1]; None: all are 1."""


def _sigmoid(x: Tensor) -> Tensor:
    return x.clamp(-_CLAMP, _CLAMP).sigmoid()


def _stack(width: int, linears: int, first: int) -> list[nn.Module]:
    """Twice: `linears` times Linear and ReLU, then LayerNorm."""
    layers: list[nn.Module] = []
    for _ in range(2):
        for _ in range(linears):
            layers += [nn.Linear(first, width), nn.ReLU()]
            first = width
        layers.append(nn.LayerNorm(width))
    return layers


def _mlp(width: int, activation: str) -> nn.Sequential:
    """Upstream's dropouts stand at 2 and 4."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), _ACTIVATIONS[activation](), nn.Identity(), nn.Linear(4 * width, width)
    )


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _EncoderLayer(nn.Module):
    """Post-norm: deformable self-attention of the map, MLP; positions are in the query, not in the values."""

    def __init__(self, width: int, heads: int, points: int, activation: str) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(width, heads, points=points, levels=1, centre=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = _mlp(width, activation)

    def forward(self, x: Tensor, position: Tensor, grid: Grid) -> Tensor:
        x = self.norm1(x + self.self_attn(x + position, cell_centres(grid, x), x, [grid]))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class _DecoderLayer(nn.Module):
    """Post-norm: self-attention of the Gaussians, deformable attention to the map around each one's mean, MLP."""

    def __init__(self, width: int, heads: int, points: int, activation: str) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.cross_attn = DeformableAttention(width, heads, points=points, levels=1, centre=True)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.mlp = _mlp(width, activation)

    def forward(self, x: Tensor, position: Tensor, means: Tensor, memory: Tensor, grid: Grid) -> Tensor:
        seen = x + position
        x = self.norm1(x + self.self_attn.between(seen, seen, x))
        x = self.norm2(x + self.cross_attn(x + position, means, memory, [grid]))
        out: Tensor = self.norm3(x + self.mlp(x))
        return out


class _CrossAttention(nn.Module):
    """Its layers' output beside its input (twice the width), or added to it."""

    def __init__(self, layers: Sequence[nn.Module], *, joined: bool) -> None:
        super().__init__()
        self.layers, self.joined = nn.ModuleList(layers), joined

    def forward(self, x: Tensor, position: Tensor, means: Tensor, memory: Tensor, grid: Grid) -> Tensor:
        out = x
        for layer in self.layers:
            out = layer(out, position, means, memory, grid)
        return torch.cat([out, x], dim=-1) if self.joined else out + x


class _FeedForward(nn.Module):
    """MLP of four widths, plus a linear map of its own (normed) input."""

    def __init__(self, before: int, width: int, layers: int, *, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm_layer: nn.Module = nn.LayerNorm(before) if pre_norm else nn.Identity()
        widths = [before, *[4 * width] * (layers - 1)]
        hidden = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*hidden, nn.Linear(4 * width, width))
        self.identity_fc = nn.Linear(before, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_norm_layer(x)
        out: Tensor = self.identity_fc(x) + self.layers(x)
        return out


class _Refinement(nn.Module):
    """A new anchor, of which the first `kept` entries are added to the old ones; and the Gaussians that one stands for.

    Scales run from the stated least to `current_range_max`, which drifts in training and stands in the checkpoint.
    """

    def __init__(self, width: int, anchor: int, channels: int, kept: int, scales: tuple[float, float]) -> None:
        super().__init__()
        self.kept, self.least = kept, float(torch.tensor(scales[0], device="cpu"))
        self.range_scheduler = nn.Module()
        self.range_scheduler.register_buffer("current_range_max", torch.tensor(scales[1]))
        self.layers = nn.Sequential(*_stack(width, 2, width), nn.Linear(width, anchor), _Scale(anchor))
        self.to_features = nn.Sequential(*_stack(width, 2, width), nn.Linear(width, channels), _Scale(channels))

    def forward(self, x: Tensor, embedding: Tensor, anchor: Tensor) -> Tensor:
        out: Tensor = self.layers(x + embedding)
        return torch.cat([out[..., : self.kept] + anchor[..., : self.kept], out[..., self.kept :]], dim=-1)

    def scales(self, anchor: Tensor) -> Tensor:
        greatest: Tensor = self.range_scheduler.get_buffer("current_range_max")
        return self.least + (greatest - self.least) * _sigmoid(anchor[..., _SCALE])


class _AnchorEncoder(nn.Module):
    """Anchors (B, N, entries) -> (B, N, width): the sum of what each kind of entry says, mapped once more."""

    def __init__(self, width: int, *, opacity: bool) -> None:
        super().__init__()
        self.feature_start = 5 + opacity
        parts = {"xy_fc": 2, "scale_fc": 2, "rot_fc": 1, "feature_fc": width, "output_fc": width}
        for name, entries in {**parts, **({"opacity_fc": 1} if opacity else {})}.items():
            self.add_module(name, nn.Sequential(*_stack(width, 1, entries)))
        self.opacity = opacity

    def forward(self, anchor: Tensor) -> Tensor:
        total = self.xy_fc(anchor[..., _XY]) + self.scale_fc(anchor[..., _SCALE]) + self.rot_fc(anchor[..., _ROTATION])
        if self.opacity:
            total = total + self.opacity_fc(anchor[..., _OPACITY])
        out: Tensor = self.output_fc(total + self.feature_fc(anchor[..., self.feature_start :]))
        return out


def sine_positions(grid: Grid, width: int, like: Tensor) -> Tensor:
    """(1, h w, width): DETR's positions, y in the first half, x in the second; sine and cosine in turn, 0 … 2 pi."""
    half, dtype = width // 2, torch.promote_types(like.dtype, torch.float32)
    period = 10000 ** (2 * (torch.arange(half, dtype=dtype, device=like.device) // 2) / half)
    axes = []
    for length in grid:
        angle = (torch.arange(length, dtype=dtype, device=like.device) + 0.5) / (length + 1e-6) * (2 * math.pi)
        angles = angle[:, None] / period
        axes.append(torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1))
    y, x = (axes[0][:, None].expand(-1, grid[1], -1), axes[1][None].expand(grid[0], -1, -1))
    return torch.cat([y, x], dim=2).reshape(1, -1, 2 * half).to(like.dtype)


@dataclass(frozen=True)
class Sizes:
    """What the modules of the embedding are built from."""

    width: int
    channels: int
    count: int
    opacity: bool
    scales: tuple[float, float]
    xy: tuple[float, float]


class Embedding(nn.Module):
    """Map (B, channels, h, w) -> the last anchors (B, N, entries), refined step by step."""

    def __init__(self, c: Config, sizes: Sizes, channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid, width, self.xy = grid, sizes.width, sizes.xy
        self.feature_start = 5 + sizes.opacity
        if width % _GROUPS:
            raise VtbenchError(f"embed_dim is {width}, which {_GROUPS} norm groups do not divide")
        projection = nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(_GROUPS, width))
        self.fm_lifter = nn.ModuleDict({"input_proj": projection})
        self.gaussian_lifter = nn.Module()
        anchor = self.feature_start + width
        self.gaussian_lifter.register_parameter("anchor", nn.Parameter(torch.zeros(sizes.count, anchor)))
        self.gaussian_lifter.register_parameter("instance_feature", nn.Parameter(torch.zeros(sizes.count, width)))
        self.anchor_encoder = _AnchorEncoder(width, opacity=sizes.opacity)
        a = c.sub("attention")
        a.choice("levels", (1,))
        each = (width, a.integer("heads"), a.integer("points"), a.choice("activation", tuple(_ACTIVATIONS)))
        joined = a.choice("residual", ("cat", "add")) == "cat"
        layers = nn.ModuleList(_EncoderLayer(*each) for _ in range(a.integer("encoder_layers")))
        self.attn_encoder = nn.ModuleDict({"layers": layers})
        depth = a.integer("decoder_layers")
        a.done()
        f = c.sub("ffn")
        linears, pre_norm = f.integer("layers", at_least=2), f.flag("pre_norm")
        f.done()
        kept = c.integers("refine_state", empty=True)
        if kept != tuple(range(len(kept))) or len(kept) > anchor:
            raise VtbenchError(f"refine_state is {list(kept)}, but must be the first entries, 0, 1, … in order")
        before = 2 * width if joined else width
        self.order = _order(c.any("operation_order"), joined=joined)
        build = {
            "cross_attn": lambda: _CrossAttention([_DecoderLayer(*each) for _ in range(depth)], joined=joined),
            "ffn": lambda: _FeedForward(before, width, linears, pre_norm=pre_norm),
            "refine": lambda: _Refinement(width, anchor, sizes.channels, len(kept), sizes.scales),
        }
        shared = {op: make() for op, make in build.items()} if c.flag("share_layers") else {}
        self.layers = nn.ModuleList(shared[op] if shared else build[op]() for op in self.order)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.fm_lifter["input_proj"](x).flatten(2).transpose(1, 2)
        position = sine_positions(self.grid, memory.shape[2], memory)
        for layer in self.attn_encoder["layers"]:
            memory = layer(memory, position, self.grid)
        lifter = self.gaussian_lifter
        anchor, h = (lifter.get_parameter(name).expand(len(x), -1, -1) for name in ("anchor", "instance_feature"))
        embedding = self.anchor_encoder(anchor)
        for op, layer in zip(self.order, self.layers, strict=True):
            if op == "ffn":
                h = layer(h)
            elif op == "cross_attn":
                h = layer(h, embedding, _sigmoid(anchor[..., _XY]), memory, self.grid)
            else:
                anchor = layer(h, embedding, anchor)
                embedding = self.anchor_encoder(anchor)
        return anchor

    def gaussians(self, anchor: Tensor) -> tuple[Tensor, Geometry]:
        """Features (B, N, channels) before quantization, and the geometry."""
        last, (low, high) = self.layers[-1], self.xy
        return last.to_features(anchor[..., self.feature_start :]), Geometry(
            means=low + (high - low) * _sigmoid(anchor[..., _XY]),
            scales=last.scales(anchor),
            rotations=torch.pi * _sigmoid(anchor[..., _ROTATION]),
            opacities=_sigmoid(anchor[..., _OPACITY]) if self.feature_start == 6 else None,
        )


def _order(value: Any, *, joined: bool) -> tuple[str, ...]:
    """The operations, checked: "refine" ends them; if joined, attention doubles the width, which an FFN must halve."""
    known = ("cross_attn", "ffn", "refine")
    good = isinstance(value, Sequence) and not isinstance(value, str) and all(op in known for op in value)
    if not good or not value or value[-1] != "refine":
        raise VtbenchError(
            f"operation_order is {value!r}, but must be a list of {', '.join(known)} that ends with refine"
        )
    work = [op for op in value if op != "refine"]
    if joined and work != ["cross_attn", "ffn"] * (len(work) // 2):
        raise VtbenchError("operation_order must have cross_attn and ffn in turn, since attention.residual is 'cat'")
    if joined and any(a == "cross_attn" and b != "ffn" for a, b in pairwise(value)):
        raise VtbenchError("operation_order has refine behind cross_attn, whose output is twice as wide ('cat')")
    return tuple(value)
