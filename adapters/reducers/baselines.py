"""What every table of reducers must hold beside them: tokens chosen without looking, and plain averages.

uniform: the centres of equal segments of the raster, as CenterCLIP's token_sparse_sampling
(mzhaoshuai/CenterCLIP at 886fe73, modules/cluster/cluster_utils.py:136-174).
adaptive pooling: windows that overlap where sides do not divide, as LangDC's pooling branch
(NIneeeeeem/LangDC at b7b598e, langdc/model/arch.py:26-33).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


def centres(total: int, count: int) -> list[int]:
    """Of `count` equal segments of `total` places, the place in the middle. Upstream gives `total` itself, which is no
    place, where more are asked for than there are; so does this, and whoever selects by it refuses."""
    if total <= count:
        return [min(i, total) for i in range(count)]
    segment = total / count
    return [int(segment / 2 + segment * i) for i in range(count)]


def _uniform(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"cases": [centres(case["total"], case["target"]) for case in params["cases"]]}


def pooled(x: Tensor, side: tuple[int, int]) -> Tensor:
    """(B, h * w, C) of a square grid of tokens (B, N, C): adaptive average pooling."""
    from torch.nn.functional import adaptive_avg_pool2d

    root = round(x.shape[1] ** 0.5)
    grid = x.transpose(1, 2).unflatten(2, (root, root))
    return adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)


def _adaptive(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    height, width = params["shape"]
    return {"tokens": pooled(inputs["x"], (height, width))}


def _whole(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tower itself gives, which tells a fault of the tower from one of a reducer."""
    import torch

    tower, layers = clip_tower(params["arch"], weights), [0, 5, 8, 22]
    return {
        "cls_attention_layers": layers,
        "cls_attention": torch.stack([tower.attention[layer][:, 0, 1:].mean(dim=0) for layer in layers]),
        "received_attention_22": tower.attention[22].mean(dim=(0, 1)),
        "features": tower.hidden[-2][None, 1:17],
    }


REDUCERS = (
    ReducerCard(
        "full",
        "All tokens of the tower, whose attention and features reducers read",
        ("tower",),
        "select",
        licence="Apache-2.0",
        code="https://github.com/huggingface/transformers",
        commit="v5.24.0",
        rules={"tower-attention": _whole},
    ),
    ReducerCard(
        "uniform",
        "Centres of equal segments of the raster",
        ("tower", "vit", "llm"),
        "select",
        knob="count",
        code="https://github.com/mzhaoshuai/CenterCLIP",
        commit="886fe7342956",
        licence="CC-BY-NC-4.0",
        rules={"uniform-sampling": _uniform},
    ),
    ReducerCard(
        "adaptive-pooling",
        "Adaptive average pooling of the grid",
        ("tower", "projector"),
        "merge",
        knob="height and width",
        code="https://github.com/NIneeeeeem/LangDC",
        commit="b7b598ea8c50",
        licence="CC-BY-4.0",
        rules={"adaptive-pooling": _adaptive},
    ),
)
