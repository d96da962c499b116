"""TokenLearner: a few tokens in the middle of a ViT, each a learned weighted sum of all positions
(google-research/scenic at 4a38d47, scenic/projects/token_learner/model.py:57-254)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._layers import norm
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Flax's layout: x (B, H, W, C), kernel (height, width, in, out), padding SAME, no bias."""
    from torch.nn.functional import conv2d

    return conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding="same").permute(0, 2, 3, 1)


def _dense(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    return x @ weights[f"{name}.kernel"] + weights[f"{name}.bias"]


def _masking(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Two dense layers with flax's GELU between, the approximation by tanh."""
    from torch.nn.functional import gelu

    hidden = gelu(_dense(x, weights, "token_masking.Dense_0"), approximate="tanh")
    return _dense(hidden, weights, "token_masking.Dense_1")


def _first(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (B, H, W, C), or (B, N, C) of a square. Weights come from normalised features, the sum is of raw ones."""
    from torch.nn.functional import gelu

    x = inputs["x"]
    if x.ndim == 3:
        x = x.unflatten(1, (int(x.shape[1] ** 0.5), -1))
    chosen = norm(x, weights, "LayerNorm_0", EPS)
    for layer in range(3):
        chosen = gelu(_convolved(chosen, weights[f"Conv_{layer}.kernel"]), approximate="tanh")
    shares = _convolved(chosen, weights["Conv_3.kernel"]).sigmoid().flatten(1, 2)
    tokens = shares.transpose(1, 2) @ x.flatten(1, 2)
    return {"tokens": tokens if params["use_sum_pooling"] else tokens / shares.shape[1]}


def _second(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Version 1.1: the weights are a softmax over positions."""
    x = inputs["x"].flatten(1, -2)
    shares = _masking(norm(x, weights, "LayerNorm_0", EPS), weights).softmax(dim=1)
    return {"tokens": shares.transpose(1, 2) @ x}


def _fuser(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Back to all positions, (B, N, C) of `original` (B, N, C) or (B, H, W, C); what stood there before is added by the
    caller."""
    tokens, original = inputs["tokens"], inputs["original"].flatten(1, -2)
    if params["use_normalization"]:
        tokens = norm(tokens, weights, "fuser_mix_norm1", EPS)
    tokens = _dense(tokens.transpose(1, 2), weights, "Dense_0").transpose(1, 2)
    if params["use_normalization"]:
        tokens = norm(tokens, weights, "fuser_mix_norm2", EPS)
    shares = _masking(norm(original, weights, "LayerNorm_0", EPS), weights).sigmoid()
    return {"tokens": shares @ tokens}


REDUCERS = (
    ReducerCard(
        "tokenlearner",
        "TokenLearner: learned weighted sums of all positions",
        ("vit",),
        "new tokens",
        training="trained",
        needs=("feature map",),
        positions="none; TokenFuser gives the raster back",
        knob="tokens (8 or 16)",
        licence="Apache-2.0",
        code="https://github.com/google-research/scenic",
        commit="4a38d475ee89",
        note="version 1.1 is the one that its authors recommend",
        rules={"tokenlearner": _first, "tokenlearner-v11": _second, "tokenfuser": _fuser},
    ),
)
