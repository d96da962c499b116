"""GlimpsePrune: a trained predictor's logits say which image tokens the language model keeps after its prefill
(HVision-NKU/GlimpsePrune at 091a3d5, transformers_gp/models/qwen2_5_vl/model_gp.py:1495-1549)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


TEXT, PADDING = 2, 1
"""Behind the longest image of the fixtures' batches, which name neither number."""


def remaining(logits: Tensor, grid: tuple[int, int], params: Mapping[str, Any]) -> Tensor:
    """bool (N,) of one image's tokens, grid (rows, columns). Too many: the top share, exactly; too few: the best
    `min_remain_num` besides; `anchor_positions` (tl, tr, bl, br): corners that stay whatever they score."""
    import torch

    count = len(logits)
    keep = logits.sigmoid() > params["threshold"]
    share, least = params.get("max_remain_ratio"), params.get("min_remain_num")
    if share is not None and int(keep.sum()) / count > share:
        keep = torch.zeros_like(keep)
        keep[best(logits, int(share * count))] = True
    if least is not None and int(keep.sum()) < least:
        keep[best(logits, least)] = True
    for anchor in params.get("anchor_positions") or ():
        corners = {"tl": 0, "tr": grid[1] - 1, "bl": count - grid[1], "br": count - 1}
        if anchor not in corners:
            raise VtbenchError(f"GlimpsePrune's anchor {anchor!r}: there are {', '.join(corners)}")
        keep[corners[anchor]] = True
    return keep


def _masks(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """One image a row of the batch, its tokens from `image_start` on; text stays, padding on the right does not."""
    import torch

    grids, start = params["grids"], params["image_start"]
    keeps = [remaining(inputs[f"logits_{i}"], tuple(grid), params) for i, grid in enumerate(grids)]
    mask = torch.zeros(len(keeps), start + max(len(k) for k in keeps) + TEXT + PADDING, dtype=torch.bool)
    for row, keep in zip(mask, keeps, strict=True):
        row[: start + len(keep) + TEXT] = True
        row[start : start + len(keep)] = keep
    return {f"kept_{i}": keep.nonzero().flatten() for i, keep in enumerate(keeps)} | {"remain_mask": mask}


REDUCERS = (
    ReducerCard(
        "glimpseprune",
        "GlimpsePrune: a learned glimpse token's attention, one cut after the prefill",
        ("llm",),
        "select",
        training="trained",
        query_aware=True,
        needs=("attention of a learned glimpse token", "visual features", "text"),
        positions="sliced",
        knob="threshold (0.5), greatest share, least number, corners",
        licence="Apache-2.0",
        code="https://github.com/HVision-NKU/GlimpsePrune",
        commit="091a3d576e51",
        note="by default it cuts behind the last layer: what it saves is in decoding, the whole prefill is paid for",
        rules={"glimpseprune-mask": _masks},
    ),
)
