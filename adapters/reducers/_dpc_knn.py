"""Clusters of tokens by density peaks among nearest neighbours (DPC-KNN), as reducers use it.

Gumpest/SparseVLMs at 26a5f48, llava/model/language_model/utils.py:159-239; the same clustering in MouxiaoHuang/PPE,
src/models/chatunivi.py:120-339.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vtbench.adapters.reducers._selection import best

if TYPE_CHECKING:
    from torch import Tensor

NOISE = 1e-6
"""Breaks ties of densities; the noise itself is uniform in [0, 1)."""


def centres_of(
    x: Tensor, noise: Tensor, clusters: int, neighbours: int, *, exact: bool = False
) -> tuple[Tensor, Tensor]:
    """(positions of the centres (clusters,) by falling score, cluster of every token (N,)) of tokens (N, C).

    A token's density is exp(-mean squared distance to its nearest `neighbours`, itself among them); its score is that
    times the distance to the nearest denser token. Distances are divided by sqrt(C). exact: they are norms of
    differences (SparseVLM); else torch.cdist's (PPE), which rounds those of more than 25 tokens more coarsely, so that
    a token does not lie at 0 from itself.
    """
    import torch

    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    distances = torch.cdist(x, x, compute_mode=mode) / math.sqrt(x.shape[-1])
    nearest = distances.sort(dim=-1).values[:, :neighbours]
    density = (-(nearest**2).mean(dim=-1)).exp() + noise * NOISE
    denser = density[None, :] > density[:, None]
    apart = torch.where(denser, distances, distances.max()).amin(dim=-1)
    centres = best(apart * density, clusters)
    cluster = distances[centres].argmin(dim=0)
    cluster[centres] = torch.arange(clusters)
    return centres, cluster


def means(x: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """(clusters, C): the mean of each cluster's tokens, 1e-6 added to their number as upstream does."""
    import torch

    share = torch.nn.functional.one_hot(cluster, clusters).to(x.dtype)
    return share.T @ x / (share.sum(dim=0) + 1e-6)[:, None]
