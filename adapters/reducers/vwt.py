"""VWT: patches with little variance go (intra), or patches of one visual word become their mean (inter), before the
first block of a ViT (wearepal/visual-word-tokenizer at d2d6759, vwt/intra.py:18-48 and vwt/inter.py:24-139).

The repository is under the GPL-3.0: the rules are written from its facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


def patches(pixels: Tensor, side: int) -> Tensor:
    """(B, N, 3 * side * side) of (B, 3, H, W), the raster's order, a patch in the order channel, row, column."""
    from torch.nn.functional import unfold

    return unfold(pixels, side, stride=side).transpose(1, 2)


def _intra(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    variance = patches(inputs["pixel_values"], params["patch"]).var(dim=-1)
    kept = in_place(best(variance, params["top_k"]))
    embeddings = inputs["embeddings"]
    rows = torch.stack([one[1 + index] for one, index in zip(embeddings, kept, strict=True)])
    return {"kept": kept, "tokens": torch.cat([embeddings[:, :1], rows], dim=1), "variance": variance}


def _inter(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """vocab (words, 3 * side * side). Shorter images of a batch are filled up with zeros.

    A patch far from every word gets the label `patch dimension + how many such stand before it in the batch`: with more
    words than that dimension it can be some word's label, and the two are merged, as upstream does.
    """
    import torch
    from torch.nn.functional import normalize, one_hot
    from torch.nn.utils.rnn import pad_sequence

    vocab, embeddings = inputs["vocab"], inputs["embeddings"]
    cells = patches(inputs["pixel_values"], params["patch"])
    distance, word = (1.0 - normalize(cells, dim=-1) @ normalize(vocab, dim=-1).T).min(dim=-1)
    alone = distance > params["thresh"]
    number = vocab.shape[-1] + alone.flatten().cumsum(0).reshape(alone.shape) - 1
    labels, rows, counts = [], [], []
    for one, label in zip(embeddings, torch.where(alone, number, word), strict=True):
        words, place = label.unique(return_inverse=True)
        share = one_hot(place, len(words)).to(one.dtype)
        labels.append(place)
        counts.append(len(words))
        rows.append(torch.cat([one[:1], share.T @ one[1:] / share.sum(dim=0)[:, None]]))
    return {
        "labels": torch.stack(labels),
        "tokens": pad_sequence(rows, batch_first=True),
        "tokens_per_image": counts,
    }


REDUCERS = (
    ReducerCard(
        "vwt",
        "VWT: patches of great variance, or a token a visual word",
        ("input",),
        "select and merge",
        needs=("pixels", "a vocabulary by k-means (inter)"),
        positions="kept (intra), the mean's (inter)",
        knob="top_k (intra), a cosine distance (inter)",
        licence="GPL-3.0",
        code="https://github.com/wearepal/visual-word-tokenizer",
        commit="d2d6759a0156",
        note="inter: the number of tokens is each image's own; with more words than 3 * side * side, words and single "
        "patches can share a label",
        rules={"vwt-intra": _intra, "vwt-inter": _inter},
    ),
)
