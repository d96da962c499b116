"""PPE: clusters of tokens that keep several members' positions
(MouxiaoHuang/PPE at 7b6aa7d, src/models/chatunivi.py:9-19 and 100-339)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._dpc_knn import centres_of, means
from vtbench.adapters.reducers._selection import pairs
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

TRIPLE = 3
"""Time, row and column of a position."""


def positions(rows: Tensor, cluster: Tensor, clusters: int, each: int) -> Tensor:
    """(R * each, clusters): of every row of `rows` (R, N) its values at `each` members, in ascending order; a cluster
    with fewer begins again. Of three rows: those of t, then of h, then of w."""
    import torch

    columns = []
    for one in range(clusters):
        members = (cluster == one).nonzero().flatten()
        columns.append(rows[:, members[torch.arange(each) % len(members)]].flatten())
    return torch.stack(columns, dim=1)


def nearest(wanted: int, clusters: int) -> int:
    """How many neighbours a density is taken over: as many as wanted, fewer where there are fewer clusters."""
    return wanted if wanted <= clusters else min(3, max(clusters // 2, 1))


def _ppe(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (1, N, C), noise (1, N), position_ids (3, N), or (3 * k, N) behind an earlier stage of k members each: what
    comes out has ppe_k's number of rows all the same. A sample_ratio above 1 is the number of clusters itself."""
    x, noise, places = inputs["x"][0], inputs["noise"][0], inputs["position_ids"]
    ratio, wanted = params["sample_ratio"], params["ppe_k"]
    clusters = max(1, math.ceil(ratio if ratio > 1 else len(x) * ratio))
    _, cluster = centres_of(x, noise, clusters, nearest(params["k"], clusters))
    return {
        "assign": cluster[None],
        "tokens": means(x, cluster, clusters)[None],
        "position_ids": positions(places, cluster, clusters, TRIPLE * wanted // len(places) if wanted else 1),
    }


class PPE(Reducer):
    """The budget is the number of clusters. Every cluster's mean stands at the place of its first member: of the ppe_k
    members' places that the method hands on, transformers' models take one."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        if self.options["neighbours"] < 1:
            raise VtbenchError(f"PPE's neighbours {self.options['neighbours']}: give 1 or more")

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        if budget == len(view):
            return Reduction(kept=torch.arange(budget), positions="original")
        noise = torch.rand(len(view), generator=torch.Generator().manual_seed(seed)).to(view.features)
        _, cluster = centres_of(view.features, noise, budget, nearest(self.options["neighbours"], budget))
        places = torch.arange(len(view))
        first = positions(places[None], cluster, budget, 1)[0]
        shares = 1.0 / torch.bincount(cluster, minlength=budget)[cluster]
        return Reduction(first, means(view.features, cluster, budget), pairs(cluster, places), shares, "original")


REDUCERS = (
    ReducerCard(
        "ppe",
        "PPE: clusters that keep several members' positions",
        ("tower", "projector"),
        "merge",
        needs=("clusters of tokens", "position ids"),
        positions="ppe_k members' own triples a cluster, in rows of M-RoPE",
        knob="share of clusters; ppe_k (8)",
        licence="Apache-2.0",
        code="https://github.com/MouxiaoHuang/PPE",
        commit="7b6aa7d211f6",
        deviates="which members' positions are kept is left to a sort that is not stable; here they ascend",
        note="as a reducer here a cluster keeps the place of its first member (ppe_k of 1)",
        rules={"ppe": _ppe},
        build=PPE,
        options={"neighbours": 5},
    ),
)
