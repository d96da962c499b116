"""VisionZip: dominant tokens by the CLS token's attention, contextual ones that stand for the rest
(dvlab-research/VisionZip at 3151f6d, visionzip/clip_encoder.py:32-85)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place, pairs, rest
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def visionzip(attention: Tensor, hidden: Tensor, keys: Tensor, dominant: int, contextual: int) -> tuple[Tensor, Tensor]:
    """(tokens (1 + dominant + contextual, C), positions of the dominant patches (dominant,),
    by falling attention) of one image. Rows of dominant tokens stand in the raster's order.

    attention (heads, 1 + N): the CLS token's row; hidden (1 + N, C); keys (1 + N, D): k_proj's output, mean over heads.
    A contextual token is a target's hidden state plus the mean of those assigned to it (the target not among them).
    """
    import torch

    chosen = best(attention.sum(dim=0)[1:], dominant)
    kept = in_place(chosen)
    others = rest(len(hidden) - 1, kept) + 1
    rows = [hidden[:1], hidden[kept + 1]]
    if contextual:
        targets, assigned, nearest = assignment(keys[others], contextual)
        share = torch.nn.functional.one_hot(nearest, len(targets)).to(hidden.dtype)
        mean = share.T @ hidden[others[assigned]] / share.sum(dim=0).clamp(min=1)[:, None]
        rows.append(hidden[others[targets]] + mean)
    return torch.cat(rows), chosen


def assignment(keys: Tensor, contextual: int) -> tuple[Tensor, Tensor, Tensor]:
    """(targets, the others, the target of each) of the tokens that are not dominant, by the cosine of their keys."""
    import torch
    from torch.nn.functional import normalize

    step = max(1, len(keys) // contextual)
    targets = torch.arange(0, len(keys), step)[:contextual]
    unit = normalize(keys, dim=-1)
    assigned = rest(len(keys), targets)
    return targets, assigned, (unit[assigned] @ unit[targets].T).argmax(dim=-1)


class VisionZip(Reducer):
    """`share` of the tokens are contextual: 30 of 192, 20 of 128, 10 of 64, as upstream has them."""

    needs = Needs(rows=(-2,), keys=(-2,), cls=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        contextual = min(round(budget * float(self.options["share"])), budget - 1)
        dominant = budget - 1 - contextual
        attention, keys = view.rows[-2], view.keys[-2].unflatten(-1, (view.heads, -1)).mean(dim=1)
        row = torch.cat([attention[:, :1], view.image(attention)], dim=1)
        own = torch.cat([keys[:1], view.image_rows(keys)])
        assert view.lead is not None
        hidden = torch.cat([view.lead[:1], view.features])
        values, chosen = visionzip(row, hidden, own, dominant, contextual)
        kept = in_place(chosen)
        others = rest(len(view), kept)
        places, edges = [torch.tensor([-1]), kept], [pairs(torch.arange(len(kept)) + 1, kept)]
        weights = [torch.ones(len(kept))]
        if contextual:
            targets, assigned, nearest = assignment(own[1:][others], contextual)
            first = 1 + len(kept)
            count = torch.bincount(nearest, minlength=len(targets)).clamp(min=1)
            places.append(others[targets])
            edges += [
                pairs(torch.arange(len(targets)) + first, others[targets]),
                pairs(nearest + first, others[assigned]),
            ]
            weights += [torch.ones(len(targets)), 1.0 / count[nearest]]
        return Reduction(torch.cat(places), values, torch.cat(edges), torch.cat(weights))


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    each = zip(inputs["attn_cls"], inputs["hidden"], inputs["keys"], strict=True)
    pairs = [visionzip(a, h, k, params["dominant"], params["contextual"]) for a, h, k in each]
    chosen = torch.stack([k for _, k in pairs])
    cls = torch.zeros(len(chosen), 1, dtype=torch.int64)
    indices = torch.cat([cls, chosen + 1], 1)
    return {"tokens": torch.stack([t for t, _ in pairs]), "kept": in_place(chosen), "all_indices": indices}


def _from_pixels(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    tower = clip_tower(params, weights)
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
        build=VisionZip,
        options={"share": 10 / 64},
    ),
)
