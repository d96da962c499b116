"""FasterVLM and its successor VisPruner: attention of the CLS token at the tower's last layer but one.

Theia-4869/FasterVLM at f5d5f12, llava/model/llava_arch.py:141-157; Theia-4869/VisPruner at aefa01a, :141-186.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

ROUND = 8
"""VisPruner removes so many tokens at a time."""


def _fastervlm(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"kept": in_place(best(inputs["cls_attn_heads"].mean(dim=1), params["keep"]))}


def vispruner(attention: Tensor, x: Tensor, keep: int, ratio: float) -> Tensor:
    """int64 (keep,), in raster order, of one image: `attention` (N,) of the CLS token, features x (N, C).

    int(keep * ratio) tokens by attention; of the others, rounds drop those at even places of a list that are most like
    one at an odd place. A round leaves the even ones by descending likeness before the odd ones, and so decides
    the next.
    """
    import torch
    from torch.nn.functional import normalize

    order = best(attention, len(attention))
    important, left = int(keep * ratio), order[int(keep * ratio) :]
    target = keep - important
    left = left if target else left[:0]
    # In a batch of one, as upstream: every round builds on the last, so that one rounding decides all that follow.
    unit = normalize(x, dim=-1)[None]
    while len(left) > target:
        drop = min(ROUND, len(left) - target)
        first, second = left[::2], left[1::2]
        rows = unit[:, left]
        likeness = (rows[:, ::2] @ rows[:, 1::2].transpose(1, 2))[0].amax(dim=-1)
        left = torch.cat([first[best(likeness, len(first))[drop:]], second])
    return in_place(torch.cat([order[:important], left]))


def _vispruner(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    pairs = zip(inputs["cls_attn"], inputs["x"], strict=True)
    kept = [vispruner(a, x, params["keep"], params["important_ratio"]) for a, x in pairs]
    return {"kept": torch.stack(kept)}


class FasterVLM(Reducer):
    needs = Needs(rows=(-2,), cls=True)
    equivariant = True

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=in_place(best(view.image(view.rows[-2]).mean(dim=0), budget)))


class VisPruner(Reducer):
    needs = Needs(rows=(-2,), cls=True)
    equivariant = True

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        attention = view.image(view.rows[-2]).mean(dim=0)
        return Reduction(kept=vispruner(attention, view.features, budget, float(self.options["important"])))


REDUCERS = (
    ReducerCard(
        "fastervlm",
        "FasterVLM: the most attended tokens",
        ("tower",),
        "select",
        needs=("cls attention of layer -2",),
        positions="renumbered",
        knob="count",
        licence="Apache-2.0",
        code="https://github.com/Theia-4869/FasterVLM",
        commit="f5d5f12037e1",
        rules={"fastervlm": _fastervlm},
        build=FasterVLM,
    ),
    ReducerCard(
        "vispruner",
        "VisPruner: attended tokens, and unlike ones among the rest",
        ("tower",),
        "select",
        needs=("cls attention of layer -2", "features"),
        positions="renumbered",
        knob="count; share of important tokens (0.5)",
        licence="Apache-2.0",
        code="https://github.com/Theia-4869/VisPruner",
        commit="aefa01adc7c7",
        rules={"vispruner": _vispruner},
        build=VisPruner,
        options={"important": 0.5},
    ),
)
