"""DynamicViT: a small predictor in blocks 3, 6 and 9 says which tokens stay
(raoyongming/DynamicViT at 1322e62, models/dyvit.py:287-313)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._layers import dense, norm
from vtbench.adapters.reducers._selection import best
from vtbench.types.reduction import ReducerCard


def _predictor(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (B, N, C) of the first stage. Half of the channels become their mean over the tokens that the policy keeps.

    policy (B, N) or (B, N, 1): 1 for tokens that earlier stages kept, all of them where it is left out. The number
    kept is a share of the original count, `init_n`, else N.
    """
    import torch
    from torch.nn.functional import gelu

    x = inputs["x"]
    policy = inputs["policy"].reshape(*x.shape[:2], 1) if "policy" in inputs else torch.ones_like(x[..., :1])
    hidden = gelu(dense(norm(x, weights, "in_conv.0"), weights, "in_conv.1"))
    local, everywhere = hidden.tensor_split(2, dim=-1)
    mean = (everywhere * policy).sum(dim=1, keepdim=True) / policy.sum(dim=1, keepdim=True)
    hidden = torch.cat([local, mean.expand_as(everywhere)], dim=-1)
    for layer in ("out_conv.0", "out_conv.2"):
        hidden = gelu(dense(hidden, weights, layer))
    scores = dense(hidden, weights, "out_conv.4").log_softmax(dim=-1)
    count = int((params.get("init_n") or x.shape[1]) * params["token_ratio"])
    return {"log_probs": scores, "kept": best(scores[..., 0], count)}


REDUCERS = (
    ReducerCard(
        "dynamicvit",
        "DynamicViT: predictors in blocks 3, 6 and 9",
        ("vit",),
        "select",
        training="trained",
        needs=("hidden states of the block",),
        positions="lost: rows stand by falling score",
        knob="ratio r: r, r squared, r cubed of the original count",
        licence="MIT",
        code="https://github.com/raoyongming/DynamicViT",
        commit="1322e626d1e9",
        rules={"dynamicvit": _predictor},
    ),
)
