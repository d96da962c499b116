"""VisionZip: dominant tokens by the CLS token's attention, contextual ones that stand for the rest
(dvlab-research/VisionZip at 3151f6d, visionzip/clip_encoder.py:32-85)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place, rest
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


def visionzip(attention: Tensor, hidden: Tensor, keys: Tensor, dominant: int, contextual: int) -> tuple[Tensor, Tensor]:
    """(tokens (1 + dominant + contextual, C), positions of the dominant patches (dominant,),
    by falling attention) of one image. Rows of dominant tokens stand in the raster's order.

    attention (heads, 1 + N): the CLS token's row; hidden (1 + N, C); keys (1 + N, D): k_proj's output, mean over heads.
    A contextual token is a target's hidden state plus the mean of those assigned to it (the target not among them).
    """
    import torch
    from torch.nn.functional import normalize

    chosen = best(attention.sum(dim=0)[1:], dominant)
    kept = in_place(chosen)
    others = rest(len(hidden) - 1, kept) + 1
    step = max(1, len(others) // contextual) if contextual else len(others)
    targets = torch.arange(0, len(others), step)[:contextual]
    rows = [hidden[:1], hidden[kept + 1]]
    if contextual:
        unit = normalize(keys[others], dim=-1)
        assigned = rest(len(others), targets)
        nearest = (unit[assigned] @ unit[targets].T).argmax(dim=-1)
        share = torch.nn.functional.one_hot(nearest, len(targets)).to(hidden.dtype)
        mean = share.T @ hidden[others[assigned]] / share.sum(dim=0).clamp(min=1)[:, None]
        rows.append(hidden[others[targets]] + mean)
    return torch.cat(rows), chosen


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    each = zip(inputs["attn_cls"], inputs["hidden"], inputs["keys"], strict=True)
    pairs = [visionzip(a, h, k, params["dominant"], params["contextual"]) for a, h, k in each]
    chosen = torch.stack([k for _, k in pairs])
    cls = torch.zeros(len(chosen), 1, dtype=torch.int64)
    indices = torch.cat([cls, chosen + 1], 1)
    return {"tokens": torch.stack([t for t, _ in pairs]), "kept": in_place(chosen), "all_indices": indices}


def _from_pixels(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    tower = clip_tower(params["arch"], weights)
    tokens, chosen = visionzip(
        tower.attention[-2][:, 0], tower.hidden[-2], tower.keys[-2], params["dominant"], params["contextual"]
    )
    return {"tokens": tokens[None], "kept": in_place(chosen)[None]}


REDUCERS = (
    ReducerCard(
        "visionzip",
        "VisionZip: dominant and contextual tokens",
        ("tower",),
        "select and merge",
        needs=("cls attention of layer -2", "keys of layer -2", "hidden state of layer -2"),
        positions="renumbered",
        knob="dominant and contextual counts",
        licence="Apache-2.0",
        code="https://github.com/dvlab-research/VisionZip",
        commit="3151f6df4fca",
        note="upstream's number of dominant tokens counts the CLS token, which goes on as well; a fine-tuned projector "
        "exists and is another system",
        rules={"visionzip": _rule, "tower-visionzip": _from_pixels},
    ),
)
