"""DivPrune: the subset whose nearest pair is farthest apart (vbdi/divprune at 799e2d9,
LLaVA/llava/model/llava_arch.py:147-171, 365-385)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import cosine_distances, farthest
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def divprune(x: Tensor, count: int) -> list[int]:
    """Positions in the order of picking, of projected tokens x (N, C): first the one whose nearest other lies farthest,
    then each time the one farthest from its nearest chosen one; distance is one less the cosine."""

    distances = cosine_distances(x)
    first = int(distances.sort(dim=0).values[1].argmax())
    return farthest(distances, count, [first])


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    selected = torch.tensor(divprune(inputs["x"], round(params["ratio"] * len(inputs["x"]))))
    return {"selected": selected, "kept": selected.sort().values}


class DivPrune(Reducer):
    equivariant = True

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        return Reduction(kept=torch.tensor(divprune(view.features, budget)).sort().values)


REDUCERS = (
    ReducerCard(
        "divprune",
        "DivPrune: max-min diversity",
        ("projector",),
        "select",
        needs=("projected features",),
        positions="renumbered",
        knob="ratio",
        licence="CC-BY-NC-4.0",
        code="https://github.com/vbdi/divprune",
        commit="799e2d950aa0",
        rules={"divprune": _rule},
        build=DivPrune,
    ),
)
