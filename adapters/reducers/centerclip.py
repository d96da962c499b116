"""CenterCLIP: a segment of frames is clustered between blocks of the frame encoder, medoids go on
(mzhaoshuai/CenterCLIP at 886fe73, modules/cluster/cluster.py:66-352, fast_kmeans.py, cluster_utils.py, spectral.py,
shift.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import pairs
from vtbench.adapters.reducers.baselines import centres
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6
ROUNDS = 100
"""Of the search for medoids, in upstream's scripts."""
FOLD = 8
"""A shift moves an eighth of the channels to the frame before, and an eighth to the frame behind."""


def _distances(x: Tensor, kind: str, p: float) -> Tensor:
    """(B, N, N), all below -1, each token the nearest to itself: upstream subtracts the greatest of the whole chunk."""
    import torch

    if kind == "cosine":
        unit = x / (x.norm(dim=-1, keepdim=True) + EPS)
        distances = 1.0 - unit @ unit.transpose(1, 2)
    elif kind == "euclidean":
        distances = torch.cdist(x, x, p=p)
    else:
        raise VtbenchError(f"CenterCLIP's distances are euclidean or cosine, not {kind!r}")
    return distances - distances.max() - 1.0 - torch.eye(x.shape[1], dtype=x.dtype)


def _chunk(x: Tensor, k: int, params: Mapping[str, Any], limit: int) -> tuple[Tensor, Tensor]:
    import torch
    from torch.nn.functional import one_hot

    distances = _distances(x, params.get("distance", "euclidean"), params.get("norm_p", 2.0))
    row = torch.arange(len(x))[:, None]
    medoids = x.norm(dim=-1).argmax(dim=-1, keepdim=True)
    for _ in range(1, k):
        nearest = distances[row, medoids].amin(dim=1)
        medoids = torch.cat([medoids, nearest.argmax(dim=-1, keepdim=True)], dim=1)
    for _ in range(limit):
        before = medoids
        member = one_hot(distances[row, medoids].argmin(dim=1), k).to(x.dtype)
        sums = (distances @ member) * member
        medoids = sums.argmin(dim=1)
        shift = (x[row, medoids] - x[row, before]).norm(dim=-1).sum(dim=-1).mean()
        if shift < params.get("threshold", EPS):
            break
    if params.get("id_sort", True):
        medoids = medoids.sort(dim=1).values
        return distances[row, medoids].argmin(dim=1), medoids
    return member.argmax(dim=-1), medoids


def kmedoids(x: Tensor, k: int, params: Mapping[str, Any], limit: int) -> tuple[Tensor, Tensor]:
    """(cluster of every token (B, N), medoids (B, k)) of x (B, N, C), `limit` rounds at most.

    Begins with the token of the greatest norm, then takes the one farthest from the chosen ones. An empty cluster's
    medoid is token 0. Of equal sums the lowest position is taken. Reckoned in float32 whatever x is, as upstream does:
    both members of a cluster of two are equally good, so that rounding decides. Raises VtbenchError for no cluster and
    for more than there are tokens.
    """
    import torch

    if not 1 <= k <= x.shape[1]:
        raise VtbenchError(f"CenterCLIP: {k} clusters of {x.shape[1]} tokens: give 1 to {x.shape[1]}")
    x = x.float()
    if params.get("pre_norm"):
        x = x / (x.norm(dim=-1, keepdim=True) + EPS)
    parts = [_chunk(part, k, params, limit) for part in x.split(params.get("split_size", 8))]
    return torch.cat([a for a, _ in parts]), torch.cat([m for _, m in parts])


def near_in_place_and_time(tokens: int, frames: int) -> Tensor:
    """bool (N, N) of a segment's tokens: no further apart than upstream's kernels, of 9 places (19 from 100 tokens a
    frame on) by 7 frames."""
    import torch

    side, reach = int(tokens**0.5), 4 if tokens < 100 else 9
    place = torch.arange(tokens * frames)
    time, row, column = place // tokens, place % tokens // side, place % tokens % side

    def close(one: Tensor, most: int) -> Tensor:
        return (one[:, None] - one).abs() <= most

    return close(time, 3) & close(row, reach) & close(column, reach)


def embedded(x: Tensor, k: int, params: Mapping[str, Any], frames: int) -> Tensor:
    """Spectral: (B, N, k) rows of the k last left vectors of the normalised Laplacian of a graph of heat kernels.

    Distances and norms do not depend on the vectors' signs, so that upstream's correction of them is left out. In
    float32, in upstream's order of operations: all rows have nearly one norm, and the greatest is where clusters begin.
    """
    import torch

    x = x.float()
    square = x.pow(2).sum(dim=-1, keepdim=True)
    squares = torch.baddbmm(square.transpose(1, 2), x, x.transpose(1, 2), alpha=-2) + square
    graph = (-1.0 * squares / (2.0 * params.get("spectral_sigma", 2.0) ** 2)).exp()
    if params.get("spectral_graph", "HeatKernel") == "KNN":
        near = params.get("spectral_knn_k", 0)
        if near < 5:
            near = 5 * frames + (0 if params["tokens_before"] < 100 else 5)
        linked = graph >= graph.sort(dim=-1, descending=True).values[..., near - 1 : near]
        graph = graph * (linked | linked.transpose(1, 2))
    if params.get("spectral_spatial_temporal_graph"):
        graph = graph * near_in_place_and_time(params["tokens_before"], frames).to(graph.dtype)
    degree = graph.sum(dim=-1)
    root = torch.diag_embed(degree**-0.5)
    laplacian = root @ (torch.diag_embed(degree) - graph) @ root
    left = torch.linalg.svd(laplacian, full_matrices=False).U[:, :, -k:]
    return left / (left.norm(dim=-1, keepdim=True) + EPS)


def _medoids(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    assign, medoids = kmedoids(inputs["x"], params["k"], params, params["iter_limit"])
    return {"assign": assign, "medoids": medoids}


def _clusters(segments: Tensor, params: Mapping[str, Any], frames: int) -> Tensor:
    """(S * B, k, C) of (S * B, N, C): segments stand before the batch, as upstream's chunks do."""
    import torch

    k = params["clusters"]
    limit = params.get("iter_limit", 80)
    if params["algorithm"] == "spectral":
        plain = {name: value for name, value in params.items() if name != "pre_norm"}
        assign, medoids = kmedoids(embedded(segments, k, params, frames), k, plain, limit)
    else:
        assign, medoids = kmedoids(segments, k, params, limit)
    if params.get("aggregation") in (None, "None"):
        return segments[torch.arange(len(segments))[:, None], medoids]
    share = torch.nn.functional.one_hot(assign, k).to(segments.dtype)
    return share.transpose(1, 2) @ segments / share.sum(dim=1)[..., None]


def _shifted(x: Tensor, *, classes: bool) -> Tensor:
    """x (B, T, tokens, C): two eighths of the channels come from the frames behind and before, of the class token or of
    all others; zeros beyond the ends."""
    import torch

    fold = x.shape[-1] // FOLD
    out = x.clone()
    part = slice(0, 1) if classes else slice(1, None)
    moved = x[:, :, part]
    out[:, :, part, :fold] = torch.cat([moved[:, 1:, :, :fold], torch.zeros_like(moved[:, :1, :, :fold])], dim=1)
    back = moved[:, :-1, :, fold : 2 * fold]
    out[:, :, part, fold : 2 * fold] = torch.cat([torch.zeros_like(moved[:, :1, :, :fold]), back], dim=1)
    return out


def _inter(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (1 + grid, B * frames, C) -> tokens (1 + k, B * segments, C); the class token is the mean of its frames', each
    times a learned factor if there is one. residual: the mean of a segment's frames, which the caller adds."""
    import torch

    before, after, kind = params["frames_before"], params["frames_after"], params["algorithm"]
    x = inputs["x"].transpose(0, 1).unflatten(0, (-1, before))
    if kind in ("temporal_shift", "token_shift"):
        return {"tokens": _shifted(x, classes=kind == "token_shift").flatten(0, 1).transpose(0, 1)}
    frames = before // after
    x = x.unflatten(1, (after, frames))
    residual = x.mean(dim=2).flatten(0, 1).transpose(0, 1)
    if kind == "pooling":
        return {"tokens": residual, "residual": residual}
    segments, classes = x[:, :, :, 1:].flatten(2, 3), x[:, :, :, 0]
    if kind == "sparse_sampling":
        chosen = segments[:, :, centres(segments.shape[2], params["clusters"])]
    elif kind in ("kmediods++", "spectral"):
        chosen = _clusters(segments.transpose(0, 1).flatten(0, 1), params, frames)
        chosen = chosen.unflatten(0, (after, len(x))).transpose(0, 1) + weights.get("cluster_embed", 0.0)
        if "cls_multiplier" in weights:
            classes = classes * weights["cls_multiplier"].reshape(after, frames, 1)
    else:
        raise VtbenchError(
            f"CenterCLIP knows no algorithm {kind!r}: take kmediods++, spectral, pooling, sparse_sampling"
        )
    tokens = torch.cat([classes.mean(dim=2, keepdim=True), chosen], dim=2)
    return {"tokens": tokens.flatten(0, 1).transpose(0, 1), "residual": residual}


class CenterCLIP(Reducer):
    """Of one picture, which is a segment of one frame: the budget is the number of clusters. aggregation: "medoid", or
    "mean" for the clusters' means, whose place is the medoid's."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        if self.options["aggregation"] not in ("medoid", "mean"):
            raise VtbenchError(f"CenterCLIP's aggregation {self.options['aggregation']!r}: give medoid or mean")

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        if budget == len(view):
            return Reduction(kept=torch.arange(budget), positions="original")
        assign, medoids = (one[0] for one in kmedoids(view.features[None], budget, {}, ROUNDS))
        if self.options["aggregation"] == "medoid":
            return Reduction(kept=medoids, positions="original")
        share = torch.nn.functional.one_hot(assign, budget).to(view.features)
        sizes = share.sum(dim=0).clamp(min=1)
        sources = pairs(assign, torch.arange(len(view)))
        # An empty cluster's mean, which upstream has no number for, is its medoid.
        means = torch.where(
            share.sum(dim=0)[:, None] > 0, share.T @ view.features / sizes[:, None], view.features[medoids]
        )
        return Reduction(medoids, means, sources, (1.0 / sizes)[assign], positions="original")


REDUCERS = (
    ReducerCard(
        "centerclip",
        "CenterCLIP: medoids of a segment of frames",
        ("vit",),
        "select and merge",
        needs=("patch tokens of a segment of frames",),
        positions="original: rows stand by the medoids' places",
        knob="clusters a segment (49), frames a segment",
        licence="CC-BY-NC-4.0",
        code="https://github.com/mzhaoshuai/CenterCLIP",
        commit="886fe7342956",
        deviates="the greatest distance is that of a chunk of the batch; equal sums are left to rounding, here the "
        "lowest position is taken",
        note="one picture is a segment of one frame",
        rules={"centerclip-kmedoids": _medoids, "centerclip-inter": _inter},
        build=CenterCLIP,
        options={"aggregation": "medoid"},
    ),
)
