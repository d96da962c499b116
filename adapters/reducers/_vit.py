"""Whole vision transformers from a table of weights, for fixtures that run a reducer from the pixels on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vtbench.adapters.reducers._layers import dense, norm

if TYPE_CHECKING:
    from torch import Tensor


def picture(size: int, dtype: Any) -> Tensor:
    """(1, 3, size, size) in [-1, 1], smooth and colourful: the fixtures' `fill.image`, rounded to float32."""
    import torch

    steps = torch.arange(size, dtype=torch.float64) / size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    planes = [
        torch.sin(2 * math.pi * ((c + 1) * x + (c + 2) * y * y + 0.3 * c))
        * torch.cos(2 * math.pi * ((3 - c) * y - x * x))
        for c in range(3)
    ]
    return torch.stack(planes)[None].float().to(dtype)


class Tower(NamedTuple):
    """What a CLIP tower computed for one picture."""

    attention: list[Tensor]
    """By layer, (heads, 1 + N, 1 + N), after the softmax."""
    hidden: list[Tensor]
    """(1 + N, C): before the first layer, then behind every layer."""
    keys: list[Tensor]
    """By layer, (1 + N, D): k_proj's output, mean over heads."""


def clip_tower(arch: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Tower:
    """transformers' CLIPVisionModel with eager attention and the sigmoid approximation of GELU, over `picture`."""
    import torch
    from torch.nn.functional import conv2d

    heads, side = arch["num_attention_heads"], arch["patch_size"]
    kernel = weights["embeddings.patch_embedding.weight"]
    patches = conv2d(picture(arch["image_size"], kernel.dtype), kernel, stride=side)[0].flatten(1).T
    x = (
        torch.cat([weights["embeddings.class_embedding"][None], patches])
        + weights["embeddings.position_embedding.weight"]
    )
    x = norm(x, weights, "pre_layrnorm")
    out = Tower([], [x], [])
    for layer in range(arch["num_hidden_layers"]):
        own = f"encoder.layers.{layer}"
        unit = norm(x, weights, f"{own}.layer_norm1")
        q, k, v = (
            dense(unit, weights, f"{own}.self_attn.{name}_proj").unflatten(-1, (heads, -1)).transpose(0, 1)
            for name in "qkv"
        )
        attention = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        x = x + dense((attention @ v).transpose(0, 1).flatten(1), weights, f"{own}.self_attn.out_proj")
        wide = dense(norm(x, weights, f"{own}.layer_norm2"), weights, f"{own}.mlp.fc1")
        x = x + dense(wide * (1.702 * wide).sigmoid(), weights, f"{own}.mlp.fc2")
        out.attention.append(attention)
        out.hidden.append(x)
        out.keys.append(k.mean(dim=0))
    return out
