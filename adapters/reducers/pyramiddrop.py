"""PyramidDrop: image tokens are cut after three layers of the language model, by the last instruction token's attention
(Cooperx521/PyramidDrop at 6444f30, llava/model/modeling_llama_pdrop.py:1291-1468)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._selection import best, in_place, last_row
from vtbench.types.reduction import ReducerCard


def ranked_by_the_last_token(
    inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The image tokens that the last instruction token attends to most, in raster order, and the shorter sequence.

    The row is recomputed from the next layer's input norm, q, k and rotary, mean over heads: no map is needed.
    """
    import torch

    features = inputs["features"][0]
    start, now = params["image_start"], params["image_tokens_now"]
    row = start + now + params["text_after"] - 1
    layer = str(params["rank_layer"]).split()[0]
    sizes = params["heads"], row, params["rotary_base"], params.get("norm_eps", 1e-5)
    attention = last_row(features, weights, layer, *sizes).mean(dim=0)
    kept = in_place(best(attention[start : start + now], params["keep"]))
    embeds = torch.cat([features[:start], features[start + kept], features[start + now :]])
    return {"kept": kept, "embeds": embeds[None]}


REDUCERS = (
    ReducerCard(
        "pyramiddrop",
        "PyramidDrop: fewer image tokens after each stage of the language model",
        ("llm",),
        "select",
        query_aware=True,
        needs=("q and k of the next layer for the last instruction token",),
        positions="renumbered",
        knob="ratios after layers 8, 16 and 24 (0.5, 0.25, 0.125)",
        licence="MIT",
        code="https://github.com/Cooperx521/PyramidDrop",
        commit="6444f304aee4",
        note="a printed number of tokens is a mean over layers",
        rules={"pyramiddrop": ranked_by_the_last_token},
    ),
)
