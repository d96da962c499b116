"""Dynamic-VLM: the more frames, the smaller each frame's grid
(Hon-Wong/ByteVideoLLM at f0d5e5a, models/adapter/dynamic_spatial_pooling.py:9-54)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers.baselines import pooled
from vtbench.types.reduction import ReducerCard


def _pools(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (frames of all videos, N, C) of a square grid. As upstream evaluates, without min_out_token_num."""
    out, size = {}, params["in_token_num"]
    for i, video in enumerate(inputs["x"].split(params["frames"])):
        tokens = min(params["max_video_tokens"] // len(video), params["out_token_num"])
        side = max(1, math.isqrt(tokens))
        out[f"tokens_{i}"] = video if tokens == size else pooled(video, (side, side))
    return out


REDUCERS = (
    ReducerCard(
        "dynamic-vlm",
        "Dynamic-VLM: average pooling by the number of frames",
        ("projector",),
        "merge",
        training="trained",
        needs=("frames", "grid"),
        positions="renumbered",
        knob="tokens of a video (2048) and of a frame (144)",
        code="https://github.com/Hon-Wong/ByteVideoLLM",
        commit="f0d5e5abf9e1",
        deviates="the least number of tokens a frame is not used in evaluation",
        note="the repository has no licence",
        rules={"dynamic-vlm": _pools},
    ),
)
