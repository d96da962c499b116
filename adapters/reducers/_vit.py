"""Whole vision transformers from a table of weights, for fixtures that run a reducer from the pixels on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vtbench.adapters.reducers._layers import dense, norm
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from torch import Tensor

PICTURE = re.compile(
    r"(?:(?P<factor>\d+(?:\.\d+)?) ?\* ?)?fill\.image\((?P<size>\d+)\)(?P<mirrored> flipped left-right)?"
)
"""How a fixture's words name its pixels."""


def picture(size: int, dtype: Any) -> Tensor:
    """(1, 3, size, size) in [-1, 1], smooth and colourful: the fixtures' `fill.image`, rounded to float32."""
    import numpy as np
    import torch

    # By numpy, as there: what a fixture is given is no operation of ours, whose rounding could be asked about.
    y, x = np.mgrid[0:size, 0:size] / size
    planes = [
        np.sin(2 * np.pi * ((c + 1) * x + (c + 2) * y * y + 0.3 * c)) * np.cos(2 * np.pi * ((3 - c) * y - x * x))
        for c in range(3)
    ]
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32)).to(dtype)


def pixels(words: str | None, size: int, dtype: Any) -> Tensor:
    """(B, 3, size, size): what a fixture's words name, "fill.image(S)" of the size S, or several of them:
    "cat[fill.image(S), 0.7*fill.image(S) flipped left-right]".

    Raises VtbenchError for any other words, and for a picture of another size than the tower's.
    """
    import torch

    text = (words or "fill.image(S)").replace("(S)", f"({size})")
    out = []
    for part in text.removeprefix("cat[").removesuffix("]").split(", "):
        named = PICTURE.fullmatch(part)
        if named is None or int(named["size"]) != size:
            raise VtbenchError(f"the fixture's input is {words!r}: only fill.image({size}) can be made here")
        one = picture(size, dtype)
        if named["factor"]:
            one = one * float(named["factor"])
        out.append(one.flip(-1) if named["mirrored"] else one)
    return torch.cat(out)


def activation(x: Tensor, name: str) -> Tensor:
    """By transformers' names. Raises VtbenchError for one that no tower here has."""
    from torch.nn.functional import gelu

    if name == "quick_gelu":
        return x * (1.702 * x).sigmoid()
    if name in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
        return gelu(x, approximate="none" if name == "gelu" else "tanh")
    if name == "relu":
        return x.relu()
    raise VtbenchError(f"the fixture's hidden_act is {name!r}: quick_gelu, gelu, gelu_new and relu are known here")


class Tower(NamedTuple):
    """What a CLIP tower computed for one picture."""

    attention: list[Tensor]
    """By layer, (heads, 1 + N, 1 + N), after the softmax."""
    hidden: list[Tensor]
    """(1 + N, C): before the first layer, then behind every layer."""
    keys: list[Tensor]
    """By layer, (1 + N, D): k_proj's output, mean over heads."""


def clip_tower(params: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Tower:
    """transformers' CLIPVisionModel with eager attention, as params["arch"] says, over the picture params["input"]."""
    import torch
    from torch.nn.functional import conv2d

    arch = params["arch"]
    heads, side, eps = arch["num_attention_heads"], arch["patch_size"], arch.get("layer_norm_eps", 1e-5)
    kernel = weights["embeddings.patch_embedding.weight"]
    image = pixels(params.get("input"), arch["image_size"], kernel.dtype)
    patches = conv2d(image, kernel, stride=side)[0].flatten(1).T
    x = (
        torch.cat([weights["embeddings.class_embedding"][None], patches])
        + weights["embeddings.position_embedding.weight"]
    )
    x = norm(x, weights, "pre_layrnorm", eps)
    out = Tower([], [x], [])
    for layer in range(arch["num_hidden_layers"]):
        own = f"encoder.layers.{layer}"
        unit = norm(x, weights, f"{own}.layer_norm1", eps)
        q, k, v = (
            dense(unit, weights, f"{own}.self_attn.{name}_proj").unflatten(-1, (heads, -1)).transpose(0, 1)
            for name in "qkv"
        )
        attention = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        x = x + dense((attention @ v).transpose(0, 1).flatten(1), weights, f"{own}.self_attn.out_proj")
        wide = dense(norm(x, weights, f"{own}.layer_norm2", eps), weights, f"{own}.mlp.fc1")
        x = x + dense(activation(wide, arch.get("hidden_act", "quick_gelu")), weights, f"{own}.mlp.fc2")
        out.attention.append(attention)
        out.hidden.append(x)
        out.keys.append(k.mean(dim=0))
    return out
