"""LLaMA-VID: two tokens a frame, one that the question asks for and one of the content
(dvlab-research/LLaMA-VID at b3d3ae2, llamavid/model/llamavid_arch.py:262-412)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._layers import dense
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import ReducerCard


def _tokens(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """text_query (B, Q, C), visual (B, N, C) of a square grid: [context, content …] (B, 1 + content, out)."""
    import torch
    from torch.nn.functional import avg_pool2d

    query, visual, kind = inputs["text_query"], inputs["visual"], params.get("compress_type")
    keys = dense(visual, weights, "vlm_att_key_projector")
    shares = (query @ keys.transpose(1, 2) / math.sqrt(visual.shape[-1])).softmax(dim=-1)
    context = dense((shares @ visual).mean(dim=1, keepdim=True), weights, "vlm_att_val_projector")
    if kind and kind.startswith("grid:"):
        side = int(visual.shape[1] ** 0.5)
        kernel = side // int(kind.removeprefix("grid:"))
        grid = visual.transpose(1, 2).unflatten(2, (side, side))
        visual = avg_pool2d(grid, kernel, kernel).flatten(2).transpose(1, 2)
    elif kind == "mean":
        visual = visual.mean(dim=1, keepdim=True)
    elif kind not in (None, "none"):
        raise VtbenchError(f"LLaMA-VID compresses by mean, by grid:SIDE or not at all, not by {kind!r}")
    return {"tokens": torch.cat([context, dense(visual, weights, "mm_projector")], dim=1)}


REDUCERS = (
    ReducerCard(
        "llama-vid",
        "LLaMA-VID: a context token and a content token a frame",
        ("projector",),
        "new tokens",
        training="trained",
        query_aware=True,
        needs=("visual tokens", "the question through a Q-Former or BERT"),
        positions="renumbered",
        knob="mean, grid:SIDE or all",
        licence="Apache-2.0",
        code="https://github.com/dvlab-research/LLaMA-VID",
        commit="b3d3ae2b1c11",
        note="a grid that does not divide the side gives more than its square of tokens",
        rules={"llama-vid": _tokens},
    ),
)
