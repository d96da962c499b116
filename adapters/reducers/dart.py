"""DART: tokens least like a few pivots (ZichenWen1/EPIC at b2ed9cd, llava/model/language_model/dart/
modeling_llama_self.py:572-643; DART's own repository is not there)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._selection import best
from vtbench.types.reduction import ReducerCard


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """hidden (1, L, C); states (1, heads, L, d), what the layer hands over by head. kept: from the picture's first
    token on."""
    import torch
    from torch.nn.functional import normalize

    start, count = params["start"], params["image_tokens"]
    norms = inputs["states"][0].transpose(0, 1).flatten(1).abs().sum(dim=-1)
    image = (best(norms[start : start + count], params["pivot_image"]) + start).tolist()
    text = (best(norms[start + count : start + count + params["text"]], params["pivot_text"]) + start + count).tolist()
    unit = normalize(inputs["hidden"][0], dim=-1)
    chosen = set(image)
    # As upstream: pivots in the order in which Python lists a set of them.
    for pivot in list(set(image + text)):
        open_ = torch.tensor([i for i in range(start, start + count) if i not in chosen])
        likeness = unit[open_] @ unit[pivot]
        chosen |= set(open_[best(-likeness, params["per_pivot"])].tolist())
    return {"kept": torch.tensor(sorted(i - start for i in chosen))[None]}


REDUCERS = (
    ReducerCard(
        "dart",
        "DART: least like the pivots",
        ("llm",),
        "select",
        needs=("states of layer K by head", "hidden states"),
        positions="original",
        knob="reduction ratio; pivots",
        licence="Apache-2.0",
        code="https://github.com/ZichenWen1/EPIC",
        commit="b2ed9cdfda54",
        query_aware=True,
        deviates="EPIC's released path uses FastV's rule under this name, and its faster variant keeps the most "
        "similar tokens; this is the readable loop",
        rules={"dart": _rule},
    ),
)
