"""LLaVA-PruMerge: outliers of the CLS token's attention, each with what is most like it
(42Shawn/LLaVA-PruMerge at 097c041, llava/model/multimodal_encoder/clip_encoder.py:34-171)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, pairs, rest
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 32
"""So many of the tokens with the most similar keys are added to a kept one."""


def outliers(attention: Tensor) -> float:
    """The share of values above the third quartile by more than one and a half times the quartiles' distance."""
    import numpy as np

    values = attention.flatten().numpy()
    low, high = np.percentile(values, 25), np.percentile(values, 75)
    return float((values > high + 1.5 * (high - low)).mean())


def chosen(attention: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(the most attended tokens (count,), of each the others with the most similar keys (count, ALIKE))."""
    import torch
    from torch.nn.functional import normalize

    kept = best(attention, count)
    unit = normalize(keys, dim=-1)
    likeness = unit[kept] @ unit.T
    likeness[torch.arange(count), kept] = -math.inf
    return kept, best(likeness, ALIKE)


def prumerge(attention: Tensor, keys: Tensor, hidden: Tensor, count: int) -> Tensor:
    """(count + 1, C) of one image without its CLS token: kept tokens by falling attention, then the dropped ones' sum.

    A kept token is its hidden state and those of the 32 others with the most similar keys, kept ones among them, times
    their attention; nothing is normalised.
    """
    import torch

    if len(hidden) <= ALIKE:
        raise VtbenchError(f"PruMerge adds the {ALIKE} most similar tokens to each: {len(hidden)} tokens are too few")
    kept, near = chosen(attention, keys, count)
    dropped = rest(len(hidden), kept)
    added = (hidden[near] * attention[near][..., None]).sum(dim=1)
    left = (hidden[dropped] * attention[dropped][:, None]).sum(dim=0, keepdim=True)
    return torch.cat([hidden[kept] + added, left])


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """q, k: of the tower's last layer, not split into heads; hidden: of the last but one."""
    import torch

    q, k = inputs["q"], inputs["k"]
    attention = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)[:, 0, 1:]
    ratio = outliers(attention) if params["adaptive"] else params["ratio"]
    count = int(attention.shape[1] * ratio)
    each = zip(attention, k[:, 1:], inputs["hidden"][:, 1:], strict=True)
    return {"cls_attn": attention, "tokens": torch.stack([prumerge(a, b, h, count) for a, b, h in each])}


class PruMerge(Reducer):
    """adaptive: the number of outliers decides, as upstream does it, of this one picture; else the budget."""

    needs = Needs(queries=(-1,), keys=(-1,), cls=True)
    equivariant = True

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        q, k = view.queries[-1], view.keys[-1]
        attention = view.image(torch.softmax(q[0] @ k.T / math.sqrt(q.shape[-1]), dim=-1))
        keys, count = view.image_rows(k), budget - 1
        if self.options["adaptive"]:
            count = int(len(view) * outliers(attention))
        values = prumerge(attention, keys, view.features, count)
        kept, near = chosen(attention, keys, count)
        dropped = rest(len(view), kept)
        rows = torch.arange(count)
        edges = [pairs(rows, kept), pairs(rows.repeat_interleave(ALIKE), near.flatten())]
        sources = torch.cat([*edges, pairs(torch.full_like(dropped, count), dropped)])
        # A kept token stands for itself before it stands in another's sum.
        weights = torch.cat([torch.full((count,), math.inf), attention[near.flatten()], attention[dropped]])
        return Reduction(torch.cat([kept, torch.tensor([-1])]), values, sources, weights)


REDUCERS = (
    ReducerCard(
        "prumerge",
        "LLaVA-PruMerge: attention's outliers, each merged with its like",
        ("tower",),
        "select and merge",
        needs=("q and k of the last layer", "hidden state of layer -2"),
        positions="renumbered",
        knob="adaptive, or a ratio",
        licence="Apache-2.0",
        code="https://github.com/42Shawn/LLaVA-PruMerge",
        commit="097c04116a58",
        deviates="attention is not split into heads; the adaptive ratio is taken over a whole batch, so that a row "
        "here is of one picture",
        rules={"prumerge": _rule},
        build=PruMerge,
        options={"adaptive": False},
    ),
)
