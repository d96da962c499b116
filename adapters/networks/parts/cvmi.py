"""What Hita and VFMTok of the CVMI lab share: transformer layers, projections, and a frozen DINOv2 from its own file.

CVMI-Lab/Hita @ e10a95c: hita/core/transformer.py, hita/modules/{attention, mlp}.py; VFMTok @ 828c780 has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.llamagen import NAMES
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv
from vtbench.adapters.networks.parts.dinov2 import DinoV2
from vtbench.adapters.networks.parts.transformer import check_heads, heads_of, merged
from vtbench.types.errors import VtbenchError

BACKBONE = "encode_transformer.backbone.pretrained_encoder"
"""Where upstream's classes keep DINOv2; their own files leave it out."""
HEAD = 64
"""Channels of a head in the released models."""


class FreeAttention(nn.Module):
    """Self-attention without a mask: to_q, to_k, to_v without biases into heads of any width, to_out.0."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(project(x), self.heads) for project in (self.to_q, self.to_k, self.to_v))
        out: Tensor = self.to_out(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class CausalAttention(nn.Module):
    """Self-attention to itself and earlier positions: q_proj, k_proj, v_proj, out_proj, with biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        return out


class SwiGlu(nn.Module):
    """w3(silu(a) b), a and b the halves of w12 x; two thirds of the stated width, rounded up to a multiple of 8."""

    def __init__(self, width: int, stated: int) -> None:
        super().__init__()
        hidden = swiglu_width(stated)
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(a) * b)
        return out


def swiglu_width(stated: int) -> int:
    """mlp.py:82."""
    return (int(stated * 2 / 3) + 7) // 8 * 8


class Layer(nn.Module):
    """Pre-norm: x + attn1(norm1 x), then x + ffnet(norm2 x)."""

    def __init__(self, width: int, attention: nn.Module, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1, self.ffnet = attention, SwiGlu(width, mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        out: Tensor = x + self.ffnet(self.norm2(x))
        return out


class Transformer(nn.Module):
    """`layers` one after the other; causal, or free with heads of `head` channels."""

    def __init__(self, width: int, depth: int, heads: int, mlp: int, *, head: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(width, CausalAttention(width, heads) if head is None else FreeAttention(width, heads, head), mlp)
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Projection(nn.Module):
    """Linear, LayerNorm, ReLU, Linear, LayerNorm, no biases in the linear layers (mlp.py:16-38)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(before, width, bias=False),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.LayerNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out


class Half:
    """The numbers of arch.encoder or arch.decoder that both networks read."""

    def __init__(self, c: Config) -> None:
        self.width, self.depth, self.heads = c.integer("width"), c.integer("depth"), c.integer("heads")
        self.mlp, self.head = c.integer("mlp_width"), c.integer("head_dim")
        self.slots, size, patch = c.integer("n_carrier"), c.integer("image_size"), c.integer("patch_size")
        if size % patch:
            raise VtbenchError(f"patches of {patch} pixels do not divide an image of {size}: change one of them")
        self.size, self.side = size, size // patch


def convolutions(c: Config, colours: int, half: str, *, attention: bool) -> Conv:
    """LlamaGen's convolutions; attention at the last level and in the middle, or in the middle alone."""
    multipliers = c.integers(f"{half}_ch_mult")
    return Conv(
        image_channels=colours,
        latent_channels=c.integer("z_channels"),
        width=c.integer("ch"),
        multipliers=multipliers,
        blocks=c.integer(f"num_res_blocks_{half}") + (half == "decoder"),
        attention=(len(multipliers) - 1,) if attention else (),
        names=NAMES,
        groups=c.integer("norm_groups"),
        eps=c.number("norm_eps"),
    )


def dinov2(c: Config, wanted: int) -> nn.ModuleDict:
    """DINOv2 under upstream's name; raises VtbenchError if its width is not the one that the tokenizer projects."""
    encoder = DinoV2(c)
    if encoder.width != wanted:
        raise VtbenchError(f"dinov2 is {encoder.width} channels wide, but encoder.feature_width is {wanted}")
    return nn.ModuleDict({"pretrained_encoder": encoder})


def infer_half(shapes: infer.Shapes, arch: dict[str, Any], layers: str) -> None:
    """Sets the sizes of arch.encoder or arch.decoder from the causal layers called `layers`."""
    width = shapes[f"{layers}.0.norm1.weight"][0]
    arch.update(width=width, depth=infer.count(shapes, f"{layers}.{{i}}."), heads=max(1, width // HEAD))
    arch["head_dim"] = width // arch["heads"]


def mlp_width(shapes: infer.Shapes, layers: str, like: int) -> int:
    """A stated width whose two thirds are the width that is there: `like` if it does."""
    hidden = shapes[f"{layers}.0.ffnet.w3.weight"][1]
    return like if swiglu_width(like) == hidden else hidden * 3 // 2


def infer_dinov2(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any]:
    """arch.dinov2 from the names under `BACKBONE`; as in `like` where the file leaves it out."""
    inner = {n.removeprefix(f"{BACKBONE}."): s for n, s in shapes.items() if n.startswith(f"{BACKBONE}.")}
    return DinoV2.infer_arch(inner, like) if inner else dict(like)
