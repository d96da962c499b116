"""Layers of a transformer from a table of weights, by the names that upstream's modules have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def dense(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A linear layer, with a bias if the table has one."""
    from torch.nn.functional import linear

    return linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x: Tensor, weights: Mapping[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    """LayerNorm over the last dimension."""
    from torch.nn.functional import layer_norm

    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def mlp(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """fc1, GELU (exact), fc2."""
    from torch.nn.functional import gelu

    return dense(gelu(dense(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """(B, Q, C) from q (B, Q, C), k and v (B, N, C): attention by heads; bias (B, heads, Q, N) joins the scores."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)
