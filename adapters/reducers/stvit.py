"""STViT: every window's few semantic tokens, made by attention from its pooled tokens to its neighbourhood
(changsn/STViT-R at b4a27a0, models/layers.py:58-230 and models/multi_scale.py:6-15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._layers import attend, dense, mlp, norm
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor

KERNEL, STRIDE = 10, 4
"""Upstream's neighbourhood of a window, whatever the window's size: there must be as many of them as windows."""


def _attention(x: Tensor, y: Tensor, weights: Mapping[str, Tensor], heads: int) -> Tensor:
    k, v = dense(y, weights, "attn.kv").chunk(2, dim=-1)
    return dense(attend(dense(x, weights, "attn.q"), k, v, heads), weights, "attn.proj")


def _windows(x: Tensor, side: int) -> Tensor:
    """(B * windows, C, side, side) of a square raster of tokens (B, N, C)."""
    count = int(x.shape[1] ** 0.5) // side
    grid = x.reshape(len(x), count, side, count, side, -1)
    return grid.permute(0, 1, 3, 5, 2, 4).flatten(0, 2)


def _semantic(x: Tensor, y: Tensor | None, params: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Tensor:
    """x (B, N, C): the image's tokens; y: the semantic tokens so far, None at first, when they are pooled from x."""
    import torch
    from torch.nn.functional import adaptive_max_pool2d, conv2d, unfold

    batch, _, width = x.shape
    side, sample, eps = params["side"], params["sample_window"], params.get("norm_eps", 1e-5)
    count = side // params["window"]
    start = adaptive_max_pool2d(_windows(x, params["window"]), sample) if y is None else _windows(y, sample)
    if params["conv_pos"]:
        start = start + conv2d(
            start, weights["conv_pos.proj.0.weight"], weights["conv_pos.proj.0.bias"], padding=1, groups=width
        )
    start = start.flatten(2).transpose(1, 2)
    around = unfold(x.transpose(1, 2).unflatten(2, (side, side)), KERNEL, stride=STRIDE)
    if around.shape[2] != count * count:
        raise VtbenchError(
            f"a side of {side} has {count * count} windows of {params['window']} but {around.shape[2]} neighbourhoods "
            f"of {KERNEL} at a stride of {STRIDE}: take a side and a window with as many, such as 14 and 7"
        )
    around = around.unflatten(1, (width, -1)).permute(0, 3, 2, 1).flatten(0, 1)
    keys = norm(torch.cat([start, around], dim=1), weights, "norm1", eps)
    out = _attention(norm(start, weights, "norm1", eps), keys, weights, params["heads"])
    out = out * weights.get("layer_scale_1", 1.0)
    if params["shortcut"]:
        out = out + start
    raster = out.reshape(batch, count, count, sample, sample, width).transpose(2, 3).reshape(batch, -1, width)
    return raster + mlp(norm(raster, weights, "norm2", eps), weights, "mlp") * weights.get("layer_scale_2", 1.0)


def _two(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    first = _semantic(inputs["x"], None, params, weights)
    return {"tokens_first": first, "tokens_second": _semantic(inputs["x"], first, params, weights)}


def _block(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Recovery: the image's tokens ask the semantic ones (cross); the same block on one set alone (self)."""
    eps = params.get("norm_eps", 1e-5)

    def block(x: Tensor, y: Tensor) -> Tensor:
        asked = _attention(norm(x, weights, "norm1", eps), norm(y, weights, "norm1", eps), weights, params["heads"])
        x = x + asked * weights.get("layer_scale_1", 1.0)
        return x + mlp(norm(x, weights, "norm2", eps), weights, "mlp") * weights.get("layer_scale_2", 1.0)

    x = inputs["x"]
    cross = {"cross": block(x, inputs["y"])} if "y" in inputs else {}
    return cross | {"self": block(x, x)}


REDUCERS = (
    ReducerCard(
        "stvit",
        "STViT-R: semantic tokens of windows, and recovery",
        ("vit",),
        "new tokens",
        training="trained",
        needs=("feature map", "windows"),
        positions="the raster of the smaller grid",
        knob="tokens a window",
        licence="MIT",
        code="https://github.com/changsn/STViT-R",
        commit="b4a27a07fc28",
        note="the neighbourhood is 10 x 10 at a stride of 4 whatever the window: not every side has one a window",
        rules={"stvit": _two, "stvit-block": _block},
    ),
)
