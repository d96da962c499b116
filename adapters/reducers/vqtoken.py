"""VQToken: a video's tokens in a few clusters, whose means ask all tokens
(Hai-chao-Zhang/VQToken at 019f89f, VQToken/cluster.py:7-74 and vq_attn.py:9-102)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._layers import attend, dense, norm
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


def _kmeans(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """tokens (T, N, C); initial int64 (k,): the tokens that the clusters begin with. Distances are cosines, centres are
    plain means of unit rows, and an empty cluster keeps its own, while its code is 0; the last centres are those before
    the move that was less than `tol`."""
    import torch
    from torch.nn.functional import normalize, one_hot

    unit = normalize(inputs["tokens"].flatten(0, 1), dim=-1)
    centres = unit[inputs["initial"]]
    for _ in range(params["max_iteration"]):
        labels = (unit @ normalize(centres, dim=-1).T).argmax(dim=-1)
        share = one_hot(labels, len(centres)).to(unit.dtype)
        size = share.sum(dim=0)[:, None]
        codes = share.T @ unit / size.clamp(min=1)
        means = torch.where(size > 0, codes, centres)
        if float((means - centres).norm()) < params["tol"]:
            break
        centres = means
    return {"labels": labels.reshape(inputs["tokens"].shape[:2]), "centroids": centres, "codes": codes}


def _multihead(x: Tensor, y: Tensor, weights: Mapping[str, Tensor], name: str, heads: int) -> Tensor:
    from torch.nn.functional import linear

    parts = zip(
        (x, y, y), weights[f"{name}.in_proj_weight"].chunk(3), weights[f"{name}.in_proj_bias"].chunk(3), strict=True
    )
    q, k, v = (linear(value, matrix, bias) for value, matrix, bias in parts)
    return dense(attend(q, k, v, heads), weights, f"{name}.out_proj")


def _attention(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Layers of torch's TransformerDecoder: the codes (B, k, C) ask one another, then the context (B, N, C)."""
    x, context, eps = dense(inputs["query"], weights, "to_q_proj"), inputs["context"], params["eps"]
    for layer in range(params["layers"]):
        own = f"transformer_decoder.layers.{layer}"
        steps = (
            ("norm1", lambda v, own=own: _multihead(v, v, weights, f"{own}.self_attn", params["heads"])),
            ("norm2", lambda v, own=own: _multihead(v, context, weights, f"{own}.multihead_attn", params["heads"])),
            ("norm3", lambda v, own=own: dense(dense(v, weights, f"{own}.linear1").relu(), weights, f"{own}.linear2")),
        )
        for name, step in steps:
            if params["norm_first"]:
                x = x + step(norm(x, weights, f"{own}.{name}", eps))
            else:
                x = norm(x + step(x), weights, f"{own}.{name}", eps)
    return {"out": x}


REDUCERS = (
    ReducerCard(
        "vqtoken",
        "VQToken: clusters of a whole video's tokens",
        ("projector",),
        "new tokens",
        training="trained",
        needs=("projected tokens of all frames",),
        positions="a hash of every token's cluster",
        knob="clusters (12 to 32)",
        licence="BSD-3-Clause",
        code="https://github.com/Hai-chao-Zhang/VQToken",
        commit="019f89fd877f",
        deviates="a fixed number of clusters cannot run (TypeError); the adaptive one's silhouette is the same for "
        "every number; codes are means of normalised tokens",
        rules={"vqtoken-kmeans": _kmeans, "vqtoken-attn": _attention},
    ),
)
