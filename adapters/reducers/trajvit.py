"""TrajViT: a token a trajectory, pooled from the features under its masks
(RAIVNLab/trajvit at b866c5f, entry/share_models/traj_transformer.py:202-229)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.reduction import ReducerCard


def _pool(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """features (B, T, 1, H, W, C), masks (B, T, S, H, W): means (B, T, S, C), 0 under an empty mask."""
    features, masks = inputs["features"].flatten(2, 4), inputs["masks"].flatten(3).to(inputs["features"].dtype)
    return {"pooled": masks @ features / masks.sum(dim=-1, keepdim=True).clamp(min=1)}


REDUCERS = (
    ReducerCard(
        "trajvit",
        "TrajViT: a token a trajectory",
        ("input",),
        "new tokens",
        training="trained",
        needs=("segmentation tracks", "features of a small network"),
        positions="of the trajectories",
        knob="the number of trajectories, which is the video's own",
        code="https://github.com/RAIVNLab/trajvit",
        commit="b866c5fae992",
        note="the pooling alone stands here: masks come from a segmenter; the repository has no licence",
        rules={"trajvit-pool": _pool},
    ),
)
