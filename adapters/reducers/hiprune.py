"""HiPrune: anchors and their neighbours by the attention that a middle layer receives, the rest by a deep one.

Danielement321/HiPrune at 6e83a12, LLaVA/llava/model/llava_arch.py:140-184, Qwen2_5_VL/qwen2_5_vl_HiPrune.py:1855-1893.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, on_grid
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def hiprune(middle: Tensor, deep: Tensor, budget: int, alpha: float, width: int) -> tuple[Tensor, int]:
    """(kept positions in raster order, number of anchors). middle, deep (N,): attention received, mean over queries.

    As upstream: the neighbours of an anchor are the places before, behind, above and below in the raster, rows not
    regarded; the set is pushed down by 1 in the deep scores, which keeps it out of the rest only where scores are
    below 1, so that a token may be chosen twice and fewer than `budget` remain.
    """
    import torch

    anchors = round(budget * alpha / 5)
    chosen = best(middle, anchors)
    around = torch.cat([chosen + step for step in (0, -1, 1, -width, width)]).clamp(0, len(middle) - 1)
    near = torch.unique(around)
    pushed = deep.clone()
    pushed[near] -= 1
    if len(near) > budget:
        raise VtbenchError(
            f"HiPrune: alpha {alpha} of a budget of {budget} makes {anchors} anchors, {len(near)} tokens with their "
            f"neighbours: give a smaller alpha"
        )
    further = best(pushed, budget - len(near))
    return torch.unique(torch.cat([near, further])), anchors


def _llava(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    budget, width = int(params["retention"] / params["images"]), params["grid"][1]
    pairs = zip(inputs["object_scores"], inputs["deep_scores"], strict=True)
    each = [hiprune(a[1:], b[1:], budget, params["alpha"], width) for a, b in pairs]
    return {"kept": torch.stack([kept for kept, _ in each]), "anchors": each[0][1]}


def _qwen(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """position_ids: of the fixture's sequence, five places before the picture and four behind it."""
    import torch

    count = len(inputs["object_scores"])
    budget = round(count * params["retain"])
    kept, _ = hiprune(inputs["object_scores"], inputs["deep_scores"], budget, params["alpha"], params["grid"][1])
    start, text = params.get("image_start", 5), params.get("text", 4)
    places = torch.cat([torch.arange(start), kept + start, torch.arange(start + count, start + count + text)])
    return {"kept": kept, "position_ids": places.expand(3, 1, -1).clone()}


def _from_pixels(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """LLaVA's form behind a whole tower; object_layer counts from 1."""
    tower, arch = clip_tower(params, weights), params["arch"]
    layers = params["object_layer"] - 1, params.get("select_layer", -2)
    middle, deep = (tower.attention[layer].mean(dim=(0, 1))[1:] for layer in layers)
    width = arch["image_size"] // arch["patch_size"]
    return {"kept": hiprune(middle, deep, params["retention"], params["alpha"], width)[0][None]}


class HiPrune(Reducer):
    """The object layer counts from 1, as upstream does, the deep one as Python does (-2 on LLaVA; upstream takes -1 on
    Qwen, and 16 for the object layer)."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        self.middle = int(self.options["object_layer"]) - 1
        self.deep = int(self.options["deep_layer"])
        self.needs = Needs(received=(self.middle, self.deep), grid=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        # Qwen's form sums over the queries, so that scores are about 1 and pushing by 1 does not exclude.
        scale = float(view.extra.get("queries", 1))
        middle, deep = (view.image(view.received[layer]) * scale for layer in (self.middle, self.deep))
        width = on_grid(view, self.card.name)[1]
        kept, _ = hiprune(middle, deep, budget, float(self.options["alpha"]), width)
        return Reduction(kept=kept)


REDUCERS = (
    ReducerCard(
        "hiprune",
        "HiPrune: anchors of a middle layer, the rest of a deep one",
        ("tower", "projector"),
        "select",
        needs=("attention received at the object layer and layer -2", "grid"),
        positions="renumbered (LLaVA); sliced M-RoPE (Qwen)",
        knob="count or ratio; alpha; object layer",
        licence="MIT",
        code="https://github.com/Danielement321/HiPrune",
        commit="6e83a1240874",
        deviates="neighbours wrap from row to row; on Qwen anchors can be chosen twice, so that fewer tokens remain "
        "than were asked for (24 of 27 in a fixture); a batch reads its first row",
        rules={"hiprune": _llava, "hiprune-qwen": _qwen, "tower-hiprune": _from_pixels},
        build=HiPrune,
        options={"alpha": 0.1, "object_layer": 9, "deep_layer": -2},
    ),
)
