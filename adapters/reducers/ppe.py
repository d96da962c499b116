"""PPE: clusters of tokens that keep several members' positions
(MouxiaoHuang/PPE at 7b6aa7d, src/models/chatunivi.py:9-19 and 100-339)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._dpc_knn import centres_of, means
from vtbench.types.reduction import ReducerCard

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


def _ppe(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (1, N, C), noise (1, N), position_ids (3, N), or (3 * k, N) behind an earlier stage of k members each: what
    comes out has ppe_k's number of rows all the same. A sample_ratio above 1 is the number of clusters itself."""
    x, noise, places = inputs["x"][0], inputs["noise"][0], inputs["position_ids"]
    ratio, wanted = params["sample_ratio"], params["ppe_k"]
    clusters = max(1, math.ceil(ratio if ratio > 1 else len(x) * ratio))
    near = params["k"] if params["k"] <= clusters else min(3, max(clusters // 2, 1))
    _, cluster = centres_of(x, noise, clusters, near)
    return {
        "assign": cluster[None],
        "tokens": means(x, cluster, clusters)[None],
        "position_ids": positions(places, cluster, clusters, TRIPLE * wanted // len(places) if wanted else 1),
    }


REDUCERS = (
    ReducerCard(
        "ppe",
        "PPE: clusters that keep several members' positions",
        ("tower", "llm"),
        "merge",
        needs=("clusters of tokens", "position ids"),
        positions="ppe_k members' own triples a cluster, in rows of M-RoPE",
        knob="share of clusters; ppe_k (8)",
        licence="Apache-2.0",
        code="https://github.com/MouxiaoHuang/PPE",
        commit="7b6aa7d211f6",
        deviates="which members' positions are kept is left to a sort that is not stable; here they ascend",
        rules={"ppe": _ppe},
    ),
)
